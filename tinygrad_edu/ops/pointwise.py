"""Lesson 2.0 · Pointwise functions: a table of derivatives

Needs broadcast, foreign, kernel, launch, loops, memory, tensor. Used by every op.

Idea      A pointwise function treats every element by itself, so all that calculus has to say about
          it is one line of a table: its name, its value, its slope. Two makers turn a line into
          kernels and an op. The same slope, written once, is the reference when it gets arrays and
          the body of a compiled loop when it gets single numbers.
Math      y = f(x)        dx = dy·f′(x)                                                        (1)
          y = f(a, b)     da = dy·∂f/∂a      db = dy·∂f/∂b                                     (2)
          da and db are summed over the axes along which a or b was repeated (lesson broadcast)
Shapes    Any shapes that broadcast. The loops take rows (n,): arrays of one shape, laid flat.
Pitfalls  At a kink the slope is a choice: relu′(0) = abs′(0) = 0, and where a = b, maximum and
          minimum send the whole gradient to a.
          The slopes of √x and log x at 0 are infinite, and 0·∞ is NaN: where(x > 0, sqrt(x), 0) has
          the gradient NaN at 0 although its value is right. Put the choice inside:
          sqrt(where(x > 0, x, 1)).
          1 − tanh²(x) cancels for large |x|: its relative error grows while it goes to 0.
          A literal such as 0.5 makes a compiled expression double; `real(...)` brings it back.
          Integers: only where the result is one (sums, products, abs, relu …), else TypeError.
Cost      Bandwidth (the time that reading and writing memory takes), but for exp and its kin: sin
          and cos first bring their argument near 0, which takes a little longer than the memory.
          Forward, NumPy's own loops are vector loops already: without C, threads run them on
          pieces of rows, which gains nothing on one core. Backward, one loop reads dy and what was
          kept and writes dx, where NumPy makes passes over temporaries. Each line keeps x or y for
          its backward pass, whichever the slope needs.
Try       build it    a line for softplus, log(1 + eˣ), with the slope σ(x). Mind large x.
          break it    let maximum send the gradient of a tie to both. Which test notices?
          measure it  TG_TRACE=1 before any command, and again with TG_BACKEND=numpy: which lines of
                      the table gain most, and why those?
See       HIPS autograd, numpy_vjps.py (a table of derivatives) · Griewank, Walther 2008, table 2.3
"""

import inspect

import numpy as np

from ..broadcast import operands, unbroadcast, wanted_shape
from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel, asked_once
from ..loops import helper
from ..memory import contiguous, empty_like
from ..tensor import Tensor, method, record

INTEGERS_TOO = {"neg", "abs", "square", "relu", "add", "sub", "mul", "maximum", "minimum"}
NUMBER = (float, np.floating)                      # beside arrays, such as the bounds of clip
THREADS = 256                                      # of a block on a GPU
OF_A_BLOCK = 4 * THREADS                           # elements: EACH of cuda/each.cuh a thread


# ---- from a line of the table to kernels and an op -------------------------------------------

def rows(*arrays):
    """Each array as one row (n,) where all have one shape, else as they are, for NumPy."""
    shape = arrays[0].shape
    for array in arrays:
        if array.shape != shape:
            return arrays
    return [contiguous(array).reshape(-1) for array in arrays]


def in_rows(*args):
    """Do all arrays of a call have one shape, (n,)?"""
    shape = args[0].shape
    for array in args:
        if getattr(array, "shape", shape) != shape:
            return False
    return len(shape) == 1


flat = asked_once(fits, in_rows)  # can a loop over one index serve, on floats of one type?


def checked(name, *values):
    """The operands of an op as tensors of one type that the op is defined for, else TypeError."""
    alone = len(values) == 1 and isinstance(values[0], Tensor)
    tensors = values if alone else operands(*values)
    if tensors[0].dtype.kind != "f" and (tensors[0].dtype == bool or name not in INTEGERS_TOO):
        raise TypeError(f"{name} does not take {tensors[0].dtype}: convert with astype first")
    return tensors


def named(name, function):
    """The function under a name of its own, for kernels and messages."""
    function.__name__ = function.__qualname__ = name
    return function


def make_kernel(name, reference, loop=None, in_c=True, numbers=()):
    """A kernel whose faster bodies take rows (n,), cut into one piece a thread.

    loop: what Numba compiles; without one, threads run the reference. in_c: native/pointwise.c
    has it. numbers: the parameters that are no arrays.
    """
    signature = inspect.signature(reference)
    count = 2 if "db" in signature.parameters else 1
    made = Kernel(named(name, reference), outputs=count)
    options = {"rows": [p for p in signature.parameters if p not in numbers], "when": flat}
    made.body("numba", jit=loop is not None, **options)(named(name, loop) if loop else reference)

    if in_c:
        made.body("native", **options)(named(name, crossing(name, len(signature.parameters))))
    return each_element(made)


def each_element(made):
    """Give a kernel that treats each element by itself the CUDA body of its name: cuda/each.cuh.

    A line of the table that has no such kernel goes on without one.
    """
    name = made.name

    def crossing(y, *others):
        real = y.dtype.type
        others = [real(value) if isinstance(value, NUMBER) else value for value in others]
        getattr(G(y), name)(blocks(y.size, OF_A_BLOCK), THREADS, (y, *others, y.size))

    def suits(*args):
        shapes = {array.shape for array in args if not isinstance(array, NUMBER)}
        return len(shapes) == 1 and serves(*args) and hasattr(G(args[0]), name)

    crossing.__signature__ = inspect.signature(made)
    made.body("cuda", when=suits)(named(name, crossing))
    return made


def crossing(name, count):
    """The body in C of a kernel with that many parameters. A small array pays for the way to C
    and not for the arithmetic, so each way is written out."""
    def forward(y, x):
        getattr(C(y), name)(out(y), ptr(x), y.size)

    def forward_of_two(y, a, b):
        getattr(C(y), name)(out(y), ptr(a), ptr(b), y.size)

    def backward(dx, dy, x, y):
        getattr(C(dx), name)(out(dx), ptr(dy), ptr(x), ptr(y), dx.size)

    def backward_of_two(da, db, dy, a, b, y):
        getattr(C(da), name)(out(da), out(db), ptr(dy), ptr(a), ptr(b), ptr(y), da.size)

    return {2: forward, 3: forward_of_two, 4: backward, 6: backward_of_two}[count]


def unary(name, value, slope, keeps, loop=True):
    """The op y = f(x) of one line of the table, and its kernels <name>_forward, <name>_backward.

    keeps: what the slope is made of, "x" or "y". loop: False where NumPy's loop is the best.
    """
    def forward(y, x):
        value(x, out=y)

    def backward(dx, dy, x, y):
        dx[...] = dy * slope(x, y)                                                      # (1)

    def backward_loop(dx, dy, x, y):
        real = x.dtype.type
        for i in range(x.size):
            dx[i] = dy[i] * real(slope(x[i], y[i]))                                     # (1)

    helper(slope)
    forward = make_kernel(f"{name}_forward", forward)
    backward = make_kernel(f"{name}_backward", backward, backward_loop if loop else None)

    def op(x):
        (x,) = checked(name, x)
        y = empty_like(x.data)
        forward(*rows(y, x.data))
        kept = x.data if keeps == "x" else y

        def vjp(dy):
            dx = empty_like(dy)
            backward(*rows(dx, dy, kept, kept))    # one of the two is not looked at
            return dx,
        return record(y, (x,), named(name, vjp))

    op.__doc__ = f"{name} of every element: (…) -> (…). TypeError for a type that has none."
    return method(named(name, op))


def two_to_one(name, value):
    """The kernel <name>_forward of a function of two arrays."""
    def forward(y, a, b):
        value(a, b, out=y)
    return make_kernel(f"{name}_forward", forward)


def broadcast(forward, a, b):
    """The values of a function of two tensors. ValueError where they have no common shape."""
    y = empty_like(a.data, shape=np.broadcast_shapes(a.shape, b.shape))
    forward(*rows(y, a.data, b.data))
    return y


def binary(name, value, slope_a, slope_b, keeps):
    """The op y = f(a, b) of one line, with its kernels. keeps: of what the slopes are made."""
    def backward(da, db, dy, a, b, y):
        da[...] = dy * slope_a(a, b, y)                                                 # (2)
        db[...] = dy * slope_b(a, b, y)

    def backward_loop(da, db, dy, a, b, y):
        real = a.dtype.type
        for i in range(a.size):
            to_a = real(slope_a(a[i], b[i], y[i]))
            to_b = real(slope_b(a[i], b[i], y[i]))
            da[i] = dy[i] * to_a                                                        # (2)
            db[i] = dy[i] * to_b

    helper(slope_a)
    helper(slope_b)
    forward = two_to_one(name, value)
    backward = make_kernel(f"{name}_backward", backward, backward_loop)

    def op(a, b):
        a, b = checked(name, a, b)
        y = broadcast(forward, a, b)
        kept = [array if name in keeps else None
                for name, array in (("a", a.data), ("b", b.data), ("y", y))]
        shapes = wanted_shape(a), wanted_shape(b)

        def vjp(dy):
            grads = empty_like(dy), empty_like(dy)
            # What was not kept is not looked at: dy, of the right shape, stands in for it.
            backward(*rows(*grads, dy, *(dy if array is None else array for array in kept)))
            return list(map(unbroadcast, grads, shapes))
        return record(y, (a, b), named(name, vjp))

    op.__doc__ = f"{name} of every pair: shapes that broadcast -> their common shape. One type."
    return method(named(name, op))


# ---- the table -------------------------------------------------------------------------------

def logistic(x, out):
    """1/(1 + e⁻ˣ)."""
    with np.errstate(over="ignore"):               # e⁻ˣ may be ∞: the value is 0, as it should be
        out[...] = 1 / (1 + np.exp(-x))


def positive_part(x, out):
    """max(x, 0)."""
    np.maximum(x, 0, out=out)


#                  name          y              dy/dx                       kept
neg        = unary("neg",        np.negative,   lambda x, y: -1,            "y")
square     = unary("square",     np.square,     lambda x, y: x + x,         "x")
reciprocal = unary("reciprocal", np.reciprocal, lambda x, y: -y * y,        "y")
sqrt       = unary("sqrt",       np.sqrt,       lambda x, y: 0.5 / y,       "y")
exp        = unary("exp",        np.exp,        lambda x, y: y,             "y")
log        = unary("log",        np.log,        lambda x, y: 1 / x,         "x")
sin        = unary("sin",        np.sin,        lambda x, y: np.cos(x),     "x", loop=False)
cos        = unary("cos",        np.cos,        lambda x, y: -np.sin(x),    "x", loop=False)
tanh       = unary("tanh",       np.tanh,       lambda x, y: 1 - y * y,     "y")
sigmoid    = unary("sigmoid",    logistic,      lambda x, y: y * (1 - y),   "y")
relu       = unary("relu",       positive_part, lambda x, y: y > 0,         "y")
absolute   = unary("abs",        np.absolute,   lambda x, y: np.sign(x),    "x")

#                  name       y             dy/da                  dy/db                   kept
mul     = binary("mul",     np.multiply, lambda a, b, y: b,      lambda a, b, y: a,      "ab")
div     = binary("div",     np.divide,   lambda a, b, y: 1 / b,  lambda a, b, y: -y / b, "by")
maximum = binary("maximum", np.maximum,  lambda a, b, y: a >= b, lambda a, b, y: a < b,  "ab")
minimum = binary("minimum", np.minimum,  lambda a, b, y: a <= b, lambda a, b, y: a > b,  "ab")

add_forward = two_to_one("add", np.add)            # the slopes are 1: backward needs no kernel
sub_forward = two_to_one("sub", np.subtract)


@method
def add(a, b):
    """add of every pair: shapes that broadcast -> their common shape. One type."""
    a, b = checked("add", a, b)
    shapes = wanted_shape(a), wanted_shape(b)

    def vjp(dy):
        return unbroadcast(dy, shapes[0]), unbroadcast(dy, shapes[1])
    return record(broadcast(add_forward, a, b), (a, b), named("add", vjp))


@method
def sub(a, b):
    """sub of every pair: shapes that broadcast -> their common shape. One type."""
    a, b = checked("sub", a, b)
    shapes = wanted_shape(a), wanted_shape(b)

    def vjp(dy):
        db = unbroadcast(dy, shapes[1])
        return unbroadcast(dy, shapes[0]), None if db is None else neg(Tensor(db)).data
    return record(broadcast(sub_forward, a, b), (a, b), named("sub", vjp))
