"""Lesson 2.3 · Reductions: many numbers become one

Needs foreign, kernel, launch, loops, memory, pointwise, tensor, threads. Used by extremes.

Idea      A sum, a mean, a variance along some axes. However many axes an array has, a reduction
          sees three: what lies outside, what is reduced, what lies inside. Every layout is brought
          into this form above the kernels, so that a kernel is one plain loop. Backward, one number
          becomes many again: each of the N numbers gets its share of the gradient.
Math      s = Σ xₙ                                dxₙ = dy                                     (1)
          μ = s/N       v = Σ (xₙ − μ)²/(N − δ)   dxₙ = dy·2(xₙ − μ)/(N − δ)                   (2)
          std = √v. δ is `ddof`: 0 for the variance of these numbers, 1 for an unbiased estimate of
          the variance of what they were drawn from. dv/dμ = 0, so (2) needs no term for it.
Shapes    sum: blocks (A, N, B) -> (A, B). var: rows (R, N) -> (R,), the reduced axes moved last.
          axis: a number, a tuple, or None for all; negative ones count from the end. keepdims
          leaves an axis of size 1 in the place of each reduced one, so that the result broadcasts.
Pitfalls  Σ x² − N·μ² cancels: (2) makes two passes, and its second one cannot go below 0.
          Adding a million float32 numbers one after the other loses digits: 2²⁰ times 0.1 comes out
          1% too large. So blocks are added up, and then their sums, in float64: in C always, in the
          loop where the reduced axes are last. Where they are not, as in x.sum(0), the loop, like
          NumPy, adds row after row in float32.
          An axis of size 0 has a sum, 0, but no mean and no variance: ValueError.
          Integers and booleans: sums are int64 and means float64, as in NumPy.
          Axes that do not lie side by side are moved, which is a copy: sum(axis=(0, 2)).
Cost      One pass over x, bandwidth, in C as in Numba; var two. The gradient of a sum is a view
          that repeats dy by strides of 0. Threads share the outer axis; in C, where it has size 1,
          the reduced one.
Try       build it    prod(x). What is the gradient where exactly one xₙ is 0?
          break it    let BLOCK be a million. Which test notices, and in which type?
          measure it  TG_TRACE=1, and x.sum(0), x.sum(1), x.sum() of one array: GB/s of the three
See       Higham 2002, ch. 4 (summation) · Chan, Golub, LeVeque 1983 (variance)
"""

import math

import numpy as np

from .. import threads
from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, blocks, row_threads, serves
from ..kernel import Kernel
from ..loops import helper
from ..memory import contiguous, empty_like
from ..tensor import Tensor, method, record
from .pointwise import sqrt

BLOCK = 256                                        # terms that are added up without a pause
FULL = 1024                                        # blocks that keep a GPU busy


# ---- layouts ---------------------------------------------------------------------------------

def layout(x, axis, keepdims):
    """(reduced axes in order, shape with an axis of size 1 for each, shape of the result).

    Raises AxisError, a ValueError, for an axis that x does not have or that is named twice.
    """
    everything = tuple(range(x.ndim))
    axes = everything
    if axis is not None:
        axes = tuple(sorted(np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)))
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return axes, kept, kept if keepdims else tuple(x.shape[i] for i in everything if i not in axes)


def product(sizes):
    """How many elements so many axes hold."""
    return math.prod(sizes)


def as_rows(array, axes, may_be_empty=False):
    """The array as rows (R, N), the reduced axes last, and the way back for a gradient.

    Raises ValueError where N is 0, unless that may be.
    """
    others = tuple(i for i in range(array.ndim) if i not in axes)
    moved = array.transpose(others + axes)
    shape = moved.shape
    R, N = product(shape[:len(others)]), product(shape[len(others):])
    if N == 0 and not may_be_empty:
        raise ValueError(f"nothing to reduce in {array.shape}: an axis of size 0 has only a sum")

    def back(dx):
        return dx.reshape(shape).transpose(np.argsort(others + axes))
    return contiguous(moved).reshape(R, N), back


def as_blocks(array, axes):
    """The array as blocks (A, N, B): reduced axes that lie side by side need not be moved."""
    first = axes[0] if axes else array.ndim
    last = first + len(axes)
    if axes != tuple(range(first, last)):
        rows, _ = as_rows(array, axes, may_be_empty=True)
        return rows[:, :, None]
    sizes = [product(array.shape[i:j]) for i, j in ((0, first), (first, last), (last, array.ndim))]
    return contiguous(array).reshape(sizes)


# ---- sum and mean ----------------------------------------------------------------------------

@helper
def block_sum(block):
    """The sum of a few numbers: several partial sums side by side in a vector.

    A slice and i from 0: in row[start + i] the index might be negative, and a loop that asks is no
    vector loop.
    """
    total = block.dtype.type(0)
    for i in range(block.size):
        total += block[i]
    return total


@helper
def row_sum(row):
    """The sum of a row: blocks first, then their sums."""
    total = 0.0
    for start in range(0, row.size, BLOCK):
        total += block_sum(row[start:start + BLOCK])
    return total


def floats(*args):
    """Serves float32 and float64; what is left to NumPy are integers and half precision."""
    return args[-1].dtype.char in "fd"


# y[a, b] += x[a, n, b] walks through memory in the order in which it lies; with n innermost it
# would jump by B elements at every step.

@Kernel
def sum_forward(y, x):
    np.sum(x, axis=1, out=y)                                                            # (1)


@sum_forward.body("numba", rows="y x", when=floats)
def sum_forward_numba(y, x):
    A, N, B = x.shape
    lines = x.reshape(A, N * B)
    for a in range(A):
        if B == 1:
            y[a, 0] = row_sum(lines[a])                                                 # (1)
        else:
            y[a, :] = 0
            for n in range(N):
                for b in range(B):
                    y[a, b] += x[a, n, b]                                               # (1)


# Where nothing lies outside, as in x.sum(0) or x.sum(), threads share the reduced axis instead.

@sum_forward.body("native", when=fits)
def sum_forward_native(y, x):
    if len(x) == 1:
        one = lambda y, x: _sum_of_blocks(y[None], x[None])  # noqa: E731
        threads.split(one, (y[0], x[0]), cut=(1,), sums=(0,))
    else:
        threads.split(_sum_of_blocks, (y, x), cut=(0, 1))


def _sum_of_blocks(y, x):
    C(y).sum_forward(out(y), ptr(x), *x.shape)


@sum_forward.body("cuda", when=serves)
def sum_forward_cuda(y, x):
    A, N, B = x.shape
    groups = A * blocks(B, 32)
    slices = max(1, min(blocks(N, 512), FULL // groups))
    size, part = blocks(N, slices), empty_like(y, shape=(A, slices, B)) if slices > 1 else y
    if B == 1:
        G(y).sum_of_rows((A, slices), row_threads(size), (part, x, N, size))
    else:
        G(y).sum_of_columns((groups, slices), (32, 8), (part, x, N, B, size))
    if slices > 1:
        sum_forward_cuda(y, part)


def sum_of_slices(launch, total, *arrays):
    """A total (1,) over flat arrays: launch(part, …) makes the sums of slices, added up here."""
    n = arrays[0].size
    size = blocks(n, max(1, min(blocks(n, 4096), FULL)))
    part = empty_like(arrays[0], shape=(1, blocks(n, size), 1))
    launch(part.shape[1], row_threads(size), (part, *arrays, n, size))
    sum_forward_cuda(total[None], part)


@method
def sum(x, axis=None, keepdims=False):
    """Sum along one axis, several, or all: (1)."""
    before, kept = x.shape, layout(x, axis, True)[2]

    def vjp(dy):
        return np.broadcast_to(dy.reshape(kept), before),
    return record(total(x.data, axis, keepdims), (x,), vjp)


def total(x, axis, keepdims):
    """`sum` of an array."""
    axes, _, shape = layout(x, axis, keepdims)
    blocks = as_blocks(x, axes)
    dtype = x.dtype if x.dtype.kind == "f" else np.int64
    y = empty_like(blocks, shape=(blocks.shape[0], blocks.shape[2]), dtype=dtype)
    sum_forward(y, blocks)
    return y.reshape(shape)


@method
def mean(x, axis=None, keepdims=False):
    """Mean along one axis, several, or all. Raises ValueError where there is nothing to average."""
    axes, kept, _ = layout(x, axis, keepdims)
    before, count = x.shape, product([x.shape[i] for i in axes])
    if count == 0:
        raise ValueError(f"the mean of an axis of size 0 in {before} is not defined")
    x = x if x.dtype.kind == "f" else Tensor(x.data.astype(np.float64))
    y = total(x.data, axis, keepdims)
    y /= count

    def vjp(dy):
        return np.broadcast_to((dy / count).reshape(kept), before),
    return record(y, (x,), vjp)


# ---- variance --------------------------------------------------------------------------------

@Kernel(outputs=2)
def var_forward(y, mean, x, ddof):                 # the gradient needs the mean again: an output
    mean[...] = x.mean(axis=1)
    y[...] = ((x - mean[:, None]) ** 2).sum(axis=1) / (x.shape[1] - ddof)               # (2)


@helper
def block_squares(block, mu):
    """Σ (x − μ)² of a few numbers."""
    total = block.dtype.type(0)
    for i in range(block.size):
        total += (block[i] - mu) * (block[i] - mu)
    return total


@helper
def row_squares(row, mu):
    """Σ (x − μ)² of a row, in blocks as row_sum."""
    total = 0.0
    for start in range(0, row.size, BLOCK):
        total += block_squares(row[start:start + BLOCK], mu)
    return total


@var_forward.body("numba", rows="y mean x", when=lambda y, mean, x, ddof: floats(x))
def var_forward_numba(y, mean, x, ddof):
    R, N = x.shape
    for r in range(R):
        mean[r] = row_sum(x[r]) / N
        y[r] = row_squares(x[r], mean[r]) / (N - ddof)                                  # (2)


@var_forward.body("native", rows="y mean x", when=fits)
def var_forward_native(y, mean, x, ddof):
    C(y).var_forward(out(y), out(mean), ptr(x), ddof, *x.shape)


@var_forward.body("cuda", when=serves)
def var_forward_cuda(y, mean, x, ddof):
    N = x.shape[1]
    G(y).var_forward(len(x), row_threads(N), (y, mean, x, np.float64(ddof), N))


@Kernel
def var_backward(dx, dy, x, mean, ddof):
    dx[...] = dy[:, None] * 2 * (x - mean[:, None]) / (x.shape[1] - ddof)               # (2)


@var_backward.body("numba", rows="dx dy x mean", when=lambda dx, *_: floats(dx))
def var_backward_numba(dx, dy, x, mean, ddof):
    real = x.dtype.type
    R, N = x.shape
    for r in range(R):
        share = dy[r] * real(2) / real(N - ddof)
        for n in range(N):
            dx[r, n] = share * (x[r, n] - mean[r])                                      # (2)


@var_backward.body("native", rows="dx dy x mean", when=fits)
def var_backward_native(dx, dy, x, mean, ddof):
    C(dx).var_backward(out(dx), ptr(dy), ptr(x), ptr(mean), ddof, *x.shape)


@var_backward.body("cuda", when=serves)
def var_backward_cuda(dx, dy, x, mean, ddof):
    N = x.shape[1]
    G(dx).var_backward(len(x), row_threads(N), (dx, dy, x, mean, np.float64(ddof), N))


@method
def var(x, axis=None, ddof=0, keepdims=False):
    """Variance along one axis, several, or all, floats only: (2). ddof = 1: unbiased.

    Raises ValueError where N − ddof is not positive, TypeError for integers.
    """
    axes, _, shape = layout(x, axis, keepdims)
    rows, back = as_rows(floating(x, "var"), axes)
    if ddof >= rows.shape[1]:
        raise ValueError(f"{rows.shape[1]} numbers have no variance with ddof={ddof}")
    y, mean = (empty_like(rows, shape=rows.shape[:1]) for _ in range(2))
    var_forward(y, mean, rows, ddof)

    def vjp(dy):
        dx = empty_like(rows)
        var_backward(dx, contiguous(dy).reshape(-1), rows, mean, ddof)
        return back(dx),
    return record(y.reshape(shape), (x,), vjp)


@method
def std(x, axis=None, ddof=0, keepdims=False):
    """Standard deviation, √v, arguments as for var. Equal numbers have the gradient NaN: 1/0."""
    return sqrt(var(x, axis, ddof, keepdims))


def floating(x, name):
    """The array of a tensor of floats. TypeError for other types."""
    if x.dtype.kind != "f":
        raise TypeError(f"{name} does not take {x.dtype}: convert with astype first")
    return x.data
