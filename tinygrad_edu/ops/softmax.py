"""Lesson 2.10 · Softmax and its logarithm

Needs foreign, kernel, launch, loops, memory, reduce, tensor. Used by cross_entropy.

Idea      Softmax turns any numbers into probabilities: positive, with sum 1, their ratios the
          exponentials of the differences. Only differences matter, so the largest number can be
          taken away first, and then no exponential overflows. The logarithm of a probability is
          not computed from the probability, which may have become 0, but from the same differences.
Math      p = softmax(x)        pᵢ = e^(xᵢ − m) / Σⱼ e^(xⱼ − m)         m = max x                (1)
          dx = p·(dy − Σⱼ dyⱼ·pⱼ)                                                              (2)
          y = log_softmax(x)    yᵢ = xᵢ − m − ln Σⱼ e^(xⱼ − m)                                 (3)
          dx = dy − e^y·Σⱼ dyⱼ                                                                 (4)
          a row of nothing but −∞ has no softmax: p = 0 and y = −∞ by definition here          (5)
Shapes    x, p, y of any shape, one axis of it normalised; the kernels see rows (N, C)
Pitfalls  Without m, x = 89 overflows float32.
          log(softmax(x)) is −∞ once a probability underflows, and its gradient NaN; (3) is exact.
          −∞ stands for "forbidden" and must give 0, not NaN: fine as long as one number of the
          row is finite, for −∞ − m = −∞. Where none is, −∞ − (−∞) would be NaN: hence (5).
          The compiler may reorder sums here: (x − m) − ln Σ on one line became x − (m + ln Σ),
          which loses every digit of ln Σ for large m. Writing x − m to memory first prevents it.
          A maximum is a chain, each step waiting for the one before: so four side by side.
          On a GPU a row belongs to a block of threads. With a thread for each row, as one would
          write it first, neighbouring threads read numbers that lie C apart, and seven bytes of
          eight that memory sends are not used: softmax_forward_naive in cuda/softmax.cu shows it.
          Sums of a block go through its shared memory, so their order, and with it the last digit,
          depends on the number of threads.
Cost      Reads a row three times (maximum, sum, division), once from memory, then from the cache;
          one exponential an element, which beyond the caches takes as long as the memory, so that
          forward stays below the speed of a copy. The backward pass keeps p alone, not x. Softmax
          forward 31 µs in C, 40 in Numba; backward 8.5 and 7.3 (half a MB on one core:
          python scripts/bench_ops.py softmax --sizes medium).
Try       build it    one pass for maximum and sum: when a larger number comes, scale the sum.
          break it    leave m away. Which tests notice? Which numbers did they need?
          measure it  TG_TRACE=1 and softmax(x), x of (2048, 1024); then with TG_BACKEND=numpy
See       Bridle 1990 (the name) · Milakov, Gimelshein 2018 (maximum and sum in one pass)
"""

import math

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, row_threads, serves
from ..kernel import Kernel
from ..loops import exp, helper
from ..memory import contiguous, empty_like
from ..tensor import method, record
from .reduce import floating


def shift(x):
    """m of (1), and 0 for a row of −∞: x − m is then −∞, never NaN."""
    top = x.max(axis=1, keepdims=True)
    return np.where(top == -np.inf, 0, top)


def _total(e):
    """The sum of a row of exponentials; 1 in place of 0, so that (5) holds."""
    total = e.sum(axis=1, keepdims=True)
    return np.where(total == 0, 1, total)


@helper
def row_shift(row):
    """m of (1) in a loop: four maxima side by side, since each waits for the one before."""
    a = b = c = d = row[0]
    whole = row.size - row.size % 4
    for i in range(0, whole, 4):
        a = max(a, row[i])
        b = max(b, row[i + 1])
        c = max(c, row[i + 2])
        d = max(d, row[i + 3])
    for i in range(whole, row.size):
        a = max(a, row[i])
    top = max(a, b, c, d)
    return row.dtype.type(0) if top == -np.inf else top


# ---- softmax ------------------------------------------------------------------------------------

@Kernel
def softmax_forward(y, x):
    e = np.exp(x - shift(x))
    y[...] = e / _total(e)                                                                     # (1)


@softmax_forward.body("numba", rows="y x")
def softmax_forward_numba(y, x):
    real = x.dtype.type
    for n in range(len(x)):
        top = row_shift(x[n])
        total = real(0)
        for c in range(x.shape[1]):
            y[n, c] = exp(x[n, c] - top)
            total += y[n, c]
        scale = real(1) if total == real(0) else real(1) / total    # (5), without a NaN
        for c in range(x.shape[1]):
            y[n, c] *= scale                                                                   # (1)


@softmax_forward.body("native", rows="y x", when=fits)
def softmax_forward_native(y, x):
    C(y).softmax_forward(out(y), ptr(x), *x.shape)


@softmax_forward.body("cuda", when=serves)
def softmax_forward_cuda(y, x):
    N, C = x.shape
    G(y).softmax_forward(N, row_threads(C), (y, x, C))


@Kernel
def softmax_backward(dx, dy, y):
    dx[...] = y * (dy - (dy * y).sum(axis=1, keepdims=True))                                   # (2)


@softmax_backward.body("numba", rows="dx dy y")
def softmax_backward_numba(dx, dy, y):
    N, C = y.shape
    for n in range(N):
        dot = y.dtype.type(0)
        for c in range(C):
            dot += dy[n, c] * y[n, c]
        for c in range(C):
            dx[n, c] = y[n, c] * (dy[n, c] - dot)                                              # (2)


@softmax_backward.body("native", rows="dx dy y", when=fits)
def softmax_backward_native(dx, dy, y):
    C(dx).softmax_backward(out(dx), ptr(dy), ptr(y), *y.shape)


@softmax_backward.body("cuda", when=serves)
def softmax_backward_cuda(dx, dy, y):
    N, C = y.shape
    G(dx).softmax_backward(N, row_threads(C), (dx, dy, y, C))


@method
def softmax(x, axis=-1):
    """Probabilities along one axis of x, of any shape; a slice of nothing but −∞ gives zeros.

    ValueError where the axis does not exist or is empty.
    """
    return _along(softmax_forward, softmax_backward, x, axis)


# ---- log-softmax --------------------------------------------------------------------------------

@Kernel
def log_softmax_forward(y, x):
    shifted = x - shift(x)
    y[...] = shifted - np.log(_total(np.exp(shifted)))                                         # (3)


@log_softmax_forward.body("numba", rows="y x")
def log_softmax_forward_numba(y, x):
    real = x.dtype.type
    for n in range(len(x)):
        top = row_shift(x[n])
        total = real(0)
        for c in range(x.shape[1]):
            y[n, c] = x[n, c] - top
            total += exp(y[n, c])
        log = real(0) if total == real(0) else real(math.log(total))
        for c in range(x.shape[1]):
            y[n, c] -= log                                                                     # (3)


@log_softmax_forward.body("native", rows="y x", when=fits)
def log_softmax_forward_native(y, x):
    C(y).log_softmax_forward(out(y), ptr(x), *x.shape)


@log_softmax_forward.body("cuda", when=serves)
def log_softmax_forward_cuda(y, x):
    N, C = x.shape
    G(y).log_softmax_forward(N, row_threads(C), (y, x, C))


@Kernel
def log_softmax_backward(dx, dy, y):
    dx[...] = dy - np.exp(y) * dy.sum(axis=1, keepdims=True)                                   # (4)


@log_softmax_backward.body("numba", rows="dx dy y")
def log_softmax_backward_numba(dx, dy, y):
    N, C = y.shape
    for n in range(N):
        total = y.dtype.type(0)
        for c in range(C):
            total += dy[n, c]
        for c in range(C):
            dx[n, c] = dy[n, c] - exp(y[n, c]) * total                                         # (4)


@log_softmax_backward.body("native", rows="dx dy y", when=fits)
def log_softmax_backward_native(dx, dy, y):
    C(dx).log_softmax_backward(out(dx), ptr(dy), ptr(y), *y.shape)


@log_softmax_backward.body("cuda", when=serves)
def log_softmax_backward_cuda(dx, dy, y):
    N, C = y.shape
    G(dx).log_softmax_backward(N, row_threads(C), (dx, dy, y, C))


@method
def log_softmax(x, axis=-1):
    """The logarithm of softmax along one axis of x; a slice of nothing but −∞ stays −∞.

    ValueError where the axis does not exist or is empty.
    """
    return _along(log_softmax_forward, log_softmax_backward, x, axis)


def _along(forward, backward, x, axis):
    """Both ops: the axis is moved to the end, the rest are rows. The closure keeps the result."""
    if not -x.ndim <= axis < x.ndim or not x.shape[axis]:
        raise ValueError(f"there are no numbers along axis {axis} of the shape {x.shape}")
    moved = contiguous(np.moveaxis(floating(x, forward.name[:-8]), axis, -1))  # without _forward
    rows = moved.reshape(-1, moved.shape[-1])                   # (N, C)
    y = empty_like(rows)
    forward(y, rows)

    def vjp(dy):
        dx = empty_like(y)
        dy = contiguous(np.moveaxis(dy, axis, -1))
        backward(dx, dy.reshape(y.shape), y)
        return np.moveaxis(dx.reshape(dy.shape), -1, axis),
    vjp.__qualname__ = forward.name.removesuffix("_forward")    # what messages call the operation
    return record(np.moveaxis(y.reshape(moved.shape), -1, axis), (x,), vjp)
