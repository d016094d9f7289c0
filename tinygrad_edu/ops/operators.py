"""Lesson 2.1 · Operators: numbers, comparisons, choices and powers

Needs broadcast, foreign, memory, pointwise, tensor. Used by every test.

Idea      What remains of elementwise arithmetic when the table of pointwise functions is done: the
          signs + − · / of Python and what they mean beside a number, comparisons, and functions
          that take more than tensors: where (a mask), clip (two bounds), power (an exponent).
Math      y = s·x + t         dx = s·dy                 for numbers s and t                    (1)
          y = c ? a : b       da = c·dy                 db = (1 − c)·dy                        (2)
          y = min(max(x, l), h)    dx = dy where l ≤ x ≤ h, else 0                             (3)
          y = xᵖ              dx = dy·p·xᵖ⁻¹            for a number p                         (4)
          y = aᵇ = exp(b·log a)                         for tensors, a > 0                     (5)
Shapes    Shapes that broadcast -> their common shape, lesson broadcast.
Pitfalls  A comparison is a tensor of booleans without a gradient: it is constant almost everywhere.
          == compares elements, as in NumPy: `tensor in list` and `list.index(tensor)` do not ask
          what you mean; use `is`. A tensor is still hashed by identity.
          At the ends of clip the gradient passes, so a parameter on the border can come back.
          x⁰ is 1 everywhere, also at 0, and its gradient 0: without a special case (4) is 0·∞.
          A negative x to a power that is no integer is NaN.
          2 ** x needs log 2, computed once; (−2) ** x is refused. x ** 2 is the square of the
          table, not (4).
          where computes both sides before it chooses: lesson pointwise tells what NaN does then.
          x / 3 is a division, not a product with ⅓, which would differ in the last digit.
          Integers stay integers: x * 3 is one, x * 0.5 is refused, since it would have to round.
          A mask beside numbers counts as 0 and 1, so that (x > 0) * x is relu without its name.
Cost      Bandwidth, but for powers: a logarithm and an exponential, with more digits than the
          result has, take four times as long as the memory. NumPy's loop for them is faster than
          the C library's for vectors, so there is none in C (docs/speed.md).
          A number needs no array, and no sum on the way back.
Try       build it    x % number, with the gradient of x − number·⌊x/number⌋ where that exists.
          break it    drop the special case of x⁰. Which test notices?
          measure it  x * 2 and its backward pass, against a tensor of twos in place of 2.
See       Python's data model, "Emulating numeric types" · NumPy NEP 50 (numbers beside arrays)
"""

import math
import operator

import numpy as np

from ..broadcast import is_number, operands, unbroadcast, wanted_shape
from ..foreign import C, out, ptr
from ..memory import empty_like
from ..tensor import Tensor, method, record
from .pointwise import (
    absolute,
    add,
    checked,
    div,
    exp,
    flat,
    log,
    make_kernel,
    mul,
    named,
    neg,
    rows,
    square,
    sub,
)

# ---- numbers ---------------------------------------------------------------------------------

def scale_and_shift(y, x, scale, shift):
    """The reference: NumPy needs a temporary, which the loop does not."""
    y[...] = x * scale + shift                                                          # (1)


def scale_and_shift_loop(y, x, scale, shift):
    """One pass; the numbers arrive as float64 and are brought to the type of x."""
    real = x.dtype.type
    for i in range(x.size):
        y[i] = x[i] * real(scale) + real(shift)                                         # (1)


affine_forward = make_kernel("affine_forward", scale_and_shift, scale_and_shift_loop,
                             in_c=False, numbers=("scale", "shift"))


@method
def affine(x, scale, shift):
    """scale·x + shift for two numbers: (…) -> (…)."""
    (x,) = checked("affine", x)
    y = empty_like(x.data)
    affine_forward(*rows(y, x.data), float(scale), float(shift))

    def vjp(dy):
        if scale == 1:
            return dy,
        dx = empty_like(dy)
        affine_forward(*rows(dx, dy), float(scale), 0.0)
        return dx,
    return record(y, (x,), named("affine", vjp))


def suits_affine(x, value):
    """Is the other operand a number, and x of floating type? Integers stay integers elsewhere."""
    return is_number(value) and x.dtype.kind == "f"


# x + 1 has no second array, so it has no broadcasting either and no second gradient. The signs
# below send numbers to affine and everything else to the table.

@method("__add__", "__radd__")
def _add(a, b):
    return affine(a, 1, b) if suits_affine(a, b) else add(a, b)


@method("__sub__")
def _sub(a, b):
    return affine(a, 1, -b) if suits_affine(a, b) else sub(a, b)


@method("__rsub__")
def _rsub(a, b):
    return affine(a, -1, b) if suits_affine(a, b) else sub(b, a)


@method("__mul__", "__rmul__")
def _mul(a, b):
    return affine(a, b, 0) if suits_affine(a, b) else mul(a, b)


@method("__rtruediv__")
def _rdiv(a, b):
    return div(b, a)


method("__truediv__")(div)
method("__neg__")(neg)
method("__abs__")(absolute)


# ---- comparisons -----------------------------------------------------------------------------

def comparison(sign, compare):
    """Attach a comparison: a tensor of booleans, off the tape."""
    def op(a, b):
        a, b = operands(a, b)
        return Tensor(compare(a.data, b.data))
    method(f"__{sign}__")(op)


# Set after the class was made, __eq__ leaves __hash__ alone: tensors stay keys of a dictionary.
for _sign in ("lt", "le", "gt", "ge", "eq", "ne"):
    comparison(_sign, getattr(operator, _sign))


# ---- choices ---------------------------------------------------------------------------------

def choose(y, condition, a, b):
    """Element by element one of two."""
    y[...] = np.where(condition, a, b)                                                  # (2)


def send_back(da, db, dy, condition):
    """To each side the gradient of what was chosen from it, zeros elsewhere."""
    da[...] = np.where(condition, dy, 0)                                                # (2)
    db[...] = np.where(condition, 0, dy)


def choose_loop(y, condition, a, b):
    """Both sides are read: without a branch it is a vector loop."""
    for i in range(y.size):
        yes, no = a[i], b[i]
        y[i] = yes if condition[i] else no                                              # (2)


def send_back_loop(da, db, dy, condition):
    """The same in one pass."""
    zero = dy.dtype.type(0)
    for i in range(dy.size):
        da[i] = dy[i] if condition[i] else zero                                         # (2)
        db[i] = zero if condition[i] else dy[i]


where_forward = make_kernel("where_forward", choose, choose_loop, in_c=False)
where_backward = make_kernel("where_backward", send_back, send_back_loop, in_c=False)


@where_forward.body("native", rows="y condition a b", when=flat)
def where_forward_native(y, condition, a, b):
    C(y).where_forward(out(y), ptr(condition), ptr(a), ptr(b), y.size)


@where_backward.body("native", rows="da db dy condition", when=flat)
def where_backward_native(da, db, dy, condition):
    C(da).where_backward(out(da), out(db), ptr(dy), ptr(condition), da.size)


def where(condition, a, b):
    """a where the condition holds, else b. condition: booleans, an array or a tensor.

    Three shapes that broadcast -> their common shape. The condition has no gradient.
    """
    condition = Tensor(condition).data
    if condition.dtype != bool:
        raise TypeError(f"where needs a condition of booleans, not {condition.dtype}")
    a, b = operands(a, b)
    y = empty_like(a.data, shape=np.broadcast_shapes(condition.shape, a.shape, b.shape))
    where_forward(*rows(y, condition, a.data, b.data))
    shapes = wanted_shape(a), wanted_shape(b)

    def vjp(dy):
        grads = empty_like(dy), empty_like(dy)
        where_backward(*rows(*grads, dy, condition))
        return list(map(unbroadcast, grads, shapes))
    return record(y, (a, b), vjp)


def clamp(y, x, low, high):
    """The lower bound first: where bounds cross, the upper one would win."""
    np.minimum(np.maximum(x, low), high, out=y)                                         # (3)


def clamp_loop(y, x, low, high):
    """A NaN is neither below nor above, and stays."""
    real = x.dtype.type
    for i in range(x.size):
        above = real(low) if x[i] < real(low) else x[i]
        y[i] = real(high) if above > real(high) else above                              # (3)


def pass_inside(dx, dy, x, low, high):
    """The gradient passes where x was left as it is, the ends included."""
    dx[...] = np.where((x >= low) & (x <= high), dy, 0)                                 # (3)


def pass_inside_loop(dx, dy, x, low, high):
    """The same in one pass. A NaN compares as outside."""
    real = x.dtype.type
    for i in range(x.size):
        inside = x[i] >= real(low) and x[i] <= real(high)
        dx[i] = dy[i] if inside else real(0)                                            # (3)


bounds = {"in_c": False, "numbers": ("low", "high")}
clip_forward = make_kernel("clip_forward", clamp, clamp_loop, **bounds)
clip_backward = make_kernel("clip_backward", pass_inside, pass_inside_loop, **bounds)


@clip_forward.body("native", rows="y x", when=flat)
def clip_forward_native(y, x, low, high):
    C(y).clip_forward(out(y), ptr(x), low, high, y.size)


@clip_backward.body("native", rows="dx dy x", when=flat)
def clip_backward_native(dx, dy, x, low, high):
    C(dx).clip_backward(out(dx), ptr(dy), ptr(x), low, high, dx.size)


@method
def clip(x, low=-math.inf, high=math.inf):
    """x, but at least low and at most high, two numbers: (…) -> (…)."""
    if low > high:
        raise ValueError(f"clip between {low} and {high}: the lower bound comes first")
    (x,) = checked("clip", x)
    y = empty_like(x.data)
    limits = float(low), float(high)
    clip_forward(*rows(y, x.data), *limits)

    def vjp(dy):
        dx = empty_like(dy)
        clip_backward(*rows(dx, dy, x.data), *limits)
        return dx,
    return record(y, (x,), vjp)


# ---- powers ----------------------------------------------------------------------------------

def raise_to(y, x, exponent):
    """NumPy's power; the exponent takes the type of x."""
    np.power(x, exponent, out=y)                                                        # (4)


def lower_by_one(dx, dy, x, exponent):
    """The slope of a power; that of x⁰ is 0, where (4) would say 0·∞ at 0."""
    dx[...] = dy * (exponent * np.power(x, exponent - 1)) if exponent else 0            # (4)


power_forward = make_kernel("power_forward", raise_to, in_c=False, numbers=("exponent",))
power_backward = make_kernel("power_backward", lower_by_one, in_c=False, numbers=("exponent",))


@method("power", "__pow__")
def power(x, exponent):
    """x to the power of a number, (4), or of a tensor, (5). Shapes that broadcast."""
    if not is_number(exponent):
        return exp(mul(exponent, log(x)))                                               # (5)
    if exponent == 2:
        return square(x)
    (x,) = checked("power", x)
    y = empty_like(x.data)
    power_forward(*rows(y, x.data), float(exponent))

    def vjp(dy):
        dx = empty_like(dy)
        power_backward(*rows(dx, dy, x.data), float(exponent))
        return dx,
    return record(y, (x,), vjp)


@method("__rpow__")
def _rpow(exponent, base):
    if not is_number(base):
        return power(*operands(base, exponent))
    if base <= 0:
        raise ValueError(f"{base} ** tensor needs the logarithm of {base}: the base is above 0")
    return exp(affine(exponent, math.log(base), 0))                                     # (5)
