"""Lesson 2.4 · Extremes: max, min, argmax, and the soft maximum logsumexp

Needs foreign, kernel, launch, loops, memory, reduce, tensor. Used by every test.

Idea      The largest of many numbers depends on one of them alone, and so its gradient goes to one
          place. The logarithm of a sum of exponentials is its soft sibling: a little above the
          maximum, smooth, and with a gradient for everyone, namely the softmax. It is how sums of
          probabilities are computed when all that is at hand are their logarithms.
Math      m = max xₙ              dxₙ = dy for the first n with xₙ = m, else 0                 (1)
          l = log Σ exp(xₙ)       dxₙ = dy·exp(xₙ − l)                                         (2)
            = m + log Σ exp(xₙ − m)       and therefore  m ≤ l ≤ m + log N                     (3)
Shapes    rows x (R, N) -> y, position (R,); reduced axes are moved last, as for var.
Pitfalls  (2) as it stands overflows at x = 89 in float32; shifted, (3), it never does.
          A row of −∞ has the value −∞ and the gradient 0: −∞ − (−∞) must not be computed. The
          gradient of a row with +∞ is not defined.
          Far from 0 the gradient has as many digits as l has behind the point: at l = 1000 four in
          float32. The lesson softmax subtracts m instead of l and keeps all.
          Equal maxima: the first one gets the whole gradient. Sharing it would be as good a choice,
          and different from it: finite differences can judge neither.
          NaN is the largest and the smallest number there is: it is to be seen, not to be skipped.
Cost      max reads a row once from memory, and again from the cache for the place, in blocks that
          are compared as a whole. NumPy's own search, cut over threads, stands in where C is
          missing. The gradient of max is only written, and a line of memory that is overwritten is
          fetched first: slower than a copy by as much. logsumexp reads a row twice in the same way,
          and makes an exponential of each element: beyond the caches that takes longer than the
          memory, which it only reads. 49 µs in C, whose maximum is a vector loop too, and 108 in
          Numba, which has no such loop (half a MB on one core: python scripts/bench_ops.py
          logsumexp --sizes medium).
Try       build it    a soft minimum, −logsumexp(−x·t)/t. What happens as t grows?
          break it    drop the shift by m in one body. Which tests notice, in which type first?
          measure it  TG_TRACE=1 and TG_BACKEND=numpy or numba around x.logsumexp(axis=1)
See       Blanchard, Higham, Higham 2021 (log-sum-exp) · Boyd, Vandenberghe 2004, 3.1.5
"""

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, row_threads, serves
from ..kernel import Kernel
from ..loops import exp
from ..memory import contiguous, empty_like
from ..tensor import Tensor, method, record
from .reduce import as_rows, floating, floats, layout

# ---- the largest, the smallest ---------------------------------------------------------------

@Kernel(outputs=2)
def max_forward(y, position, x):
    position[...] = x.argmax(axis=1)                                                    # (1)
    y[...] = np.take_along_axis(x, position[:, None], axis=1)[:, 0]


@Kernel(outputs=2)
def min_forward(y, position, x):
    position[...] = x.argmin(axis=1)                                                    # (1)
    y[...] = np.take_along_axis(x, position[:, None], axis=1)[:, 0]


@Kernel
def max_backward(dx, dy, position):
    dx[...] = 0
    np.put_along_axis(dx, position[:, None], dy[:, None], axis=1)                       # (1)


# NumPy searches with vector instructions; a loop that minds NaN would not. Threads run it on rows.
for _kernel in (max_forward, min_forward, max_backward):
    _kernel.body("numba", jit=False, rows=_kernel.parameters)(_kernel.__wrapped__)


@max_forward.body("native", rows="y position x", when=fits)
def max_forward_native(y, position, x):
    C(y).max_forward(out(y), out(position), ptr(x), *x.shape)


@min_forward.body("native", rows="y position x", when=fits)
def min_forward_native(y, position, x):
    C(y).min_forward(out(y), out(position), ptr(x), *x.shape)


@max_forward.body("cuda", when=serves)
def max_forward_cuda(y, position, x):
    R, N = x.shape
    G(y).max_forward(R, row_threads(N), (y, position, x, N))


@min_forward.body("cuda", when=serves)
def min_forward_cuda(y, position, x):
    R, N = x.shape
    G(y).min_forward(R, row_threads(N), (y, position, x, N))


@max_backward.body("cuda", when=serves)
def max_backward_cuda(dx, dy, position):
    R, N = dx.shape
    G(dx).max_backward(R, row_threads(N), (dx, dy, position, N))


def _extreme(forward, x, axis, keepdims):
    axes, _, shape = layout(x, axis, keepdims)
    rows, back = as_rows(x.data, axes)
    count = len(rows)
    y = empty_like(rows, shape=count)
    position = empty_like(rows, shape=count, dtype=np.int64)
    forward(y, position, rows)
    shape_of_rows = rows.shape

    def vjp(dy):
        dx = empty_like(dy, shape=shape_of_rows)
        max_backward(dx, contiguous(dy).reshape(-1), position)
        return back(dx),
    vjp.__qualname__ = forward.name.removesuffix("_forward")    # what messages call the operation
    result = record(y.reshape(shape), (x,), vjp)
    return result, Tensor(position.reshape(shape))


@method("max")
def amax(x, axis=None, keepdims=False):
    """The largest element along one axis, several, or all: (1). A NaN is the largest."""
    return _extreme(max_forward, x, axis, keepdims)[0]


@method("min")
def amin(x, axis=None, keepdims=False):
    """The smallest element along one axis, several, or all: (1). A NaN is the smallest."""
    return _extreme(min_forward, x, axis, keepdims)[0]


@method
def argmax(x, axis=None, keepdims=False):
    """Where the first largest element is, counted along the reduced axes: int64, no gradient."""
    return _extreme(max_forward, x, axis, keepdims)[1]


@method
def argmin(x, axis=None, keepdims=False):
    """Where the first smallest element is, as argmax."""
    return _extreme(min_forward, x, axis, keepdims)[1]


# ---- log Σ exp -------------------------------------------------------------------------------

@Kernel
def logsumexp_forward(y, x):
    top = x.max(axis=1)
    shift = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore", over="ignore"):                                   # log 0 = −∞
        y[...] = np.log(np.exp(x - shift[:, None]).sum(axis=1)) + shift                 # (3)


@logsumexp_forward.body("numba", rows="y x", when=floats)
def logsumexp_forward_numba(y, x):
    real = x.dtype.type
    R, N = x.shape
    for r in range(R):
        top = x[r, 0]
        for n in range(N):
            top = max(top, x[r, n])
        shift = top if np.isfinite(top) else real(0)
        total = real(0)
        for n in range(N):
            total += exp(x[r, n] - shift)
        soft = np.log(total) + shift
        y[r] = top if top == np.inf else soft                                           # (3)


@logsumexp_forward.body("native", rows="y x", when=fits)
def logsumexp_forward_native(y, x):
    R, N = x.shape
    C(y).logsumexp_forward(out(y), ptr(x), R, N)


@logsumexp_forward.body("cuda", when=serves)
def logsumexp_forward_cuda(y, x):
    R, N = x.shape
    G(y).logsumexp_forward(R, row_threads(N), (y, x, N))


@Kernel
def logsumexp_backward(dx, dy, x, y):
    level = np.where(y == -np.inf, 0, y)[:, None]
    dx[...] = dy[:, None] * np.exp(x - level)                                           # (2)


@logsumexp_backward.body("numba", rows="dx dy x y", when=lambda dx, *_: floats(dx))
def logsumexp_backward_numba(dx, dy, x, y):
    real = x.dtype.type
    R, N = x.shape
    for r in range(R):
        level = real(0) if y[r] == -np.inf else y[r]
        for n in range(N):
            dx[r, n] = dy[r] * exp(x[r, n] - level)                                     # (2)


@logsumexp_backward.body("native", rows="dx dy x y", when=fits)
def logsumexp_backward_native(dx, dy, x, y):
    R, N = x.shape
    C(dx).logsumexp_backward(out(dx), ptr(dy), ptr(x), ptr(y), R, N)


@logsumexp_backward.body("cuda", when=serves)
def logsumexp_backward_cuda(dx, dy, x, y):
    R, N = x.shape
    G(dx).logsumexp_backward(R, row_threads(N), (dx, dy, x, y, N))


@method
def logsumexp(x, axis=None, keepdims=False):
    """log Σ exp(x) along one axis, several, or all, floats only: (2)."""
    axes, _, shape = layout(x, axis, keepdims)
    rows, back = as_rows(floating(x, "logsumexp"), axes)
    y = empty_like(rows, shape=rows.shape[:1])
    logsumexp_forward(y, rows)

    def vjp(dy):
        dx = empty_like(rows)
        logsumexp_backward(dx, contiguous(dy).reshape(-1), rows, y)
        return back(dx),
    return record(y.reshape(shape), (x,), vjp)
