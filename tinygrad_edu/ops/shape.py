"""Lesson 2.2 · Shape: the same numbers in another order

Needs broadcast, foreign, kernel, launch, memory, tensor. Used by every test.

Idea      Reshaping, transposing, slicing, joining: no number is changed, so each of these operators
          is a table that says which element goes where, and its gradient is the same table read
          backwards. What was left out gets zero; what was taken several times gets a sum. Most of
          it costs nothing, because an array is only a way of walking through memory (an address, a
          shape, strides), and another walk through the same memory is a view.
Math      y = P·x, where each row of P has one 1 and otherwise zeros (pad: also rows of zeros)  (1)
          dx = Pᵀ·dy:    dx[p] = Σ dy[i] over all i with y[i] = x[p]                           (2)
          broadcasting repeats, its adjoint sums over what was repeated                        (3)
Shapes    Views, sharing memory with x: transpose, swapaxes, T, expand_dims, squeeze, broadcast_to,
          split, x[slices and numbers], and reshape and flatten where x is contiguous.
          Copies: concatenate, stack, pad, astype, x[integer or boolean arrays], reshape otherwise.
Pitfalls  dx[index] += dy forgets repeated indices: NumPy reads, adds and writes once for each index
          position, and the last one wins. (2) needs a loop, or np.add.at.
          A transposed view is not contiguous, so that reshape after transpose copies, and so does
          every kernel that wants rows. Transpose last.
          The gradient of a small slice is a full array of zeros with a small slice in it: a loop
          over x[i] for all i costs n² in backward. Use split, which fills one array.
          split(x, [2, 3]) names sizes, as in PyTorch; NumPy's split would name the borders 2 and 3.
Cost      Views: nothing. Copies: one pass. Indexing with arrays: one pass each way, with jumps, at
          the same speed in C and in Numba: python scripts/bench_ops.py index. Beyond the caches the
          jumps decide: rows in no order, half the speed of a copy.
Try       build it    flip(x, axis): what is its gradient?
          break it    replace the loop in index_backward by dx[positions] += dy. Which test notices?
          measure it  x[i].sum() for each of 1000 rows, and split: the time of the backward pass.
See       NumPy manual, "Indexing on ndarrays" and "numpy.ufunc.at" · Griewank, Walther 2008, ch. 3
"""

import numpy as np

from ..broadcast import operands, unbroadcast
from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel
from ..memory import beside, contiguous, empty_like, kinds, zeros_like
from ..tensor import Tensor, method, record, record_all

# ---- views -----------------------------------------------------------------------------------

@method
def reshape(x, *shape):
    """The same elements in row order under another shape; one size may be −1. View or copy."""
    shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    before = x.shape

    def vjp(dy):
        return contiguous(dy).reshape(before),
    return record(contiguous(x.data).reshape(shape), (x,), vjp)


@method
def flatten(x, start=0):
    """One axis in place of all axes from `start` on. View or copy, as reshape."""
    return reshape(x, (*x.shape[:start], int(np.prod(x.shape[start:]))))


@method
def transpose(x, *axes):
    """Axes in another order; without arguments in reverse order. A view."""
    axes = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    order = tuple(axis % x.ndim for axis in axes) or tuple(reversed(range(x.ndim)))
    back = tuple(order.index(axis) for axis in range(len(order)))

    def vjp(dy):
        return dy.transpose(back),
    return record(x.data.transpose(order), (x,), vjp)


method("T")(property(transpose))


@method
def swapaxes(x, first, second):
    """Two axes exchanged. A view."""
    def vjp(dy):
        return dy.swapaxes(first, second),
    return record(x.data.swapaxes(first, second), (x,), vjp)


@method
def expand_dims(x, axis):
    """A new axis of size 1 at this place of the result. A view."""
    before = x.shape

    def vjp(dy):
        return dy.reshape(before),
    return record(np.expand_dims(x.data, axis), (x,), vjp)


@method
def squeeze(x, axis=None):
    """Without this axis of size 1, or without all of them. A view."""
    before = x.shape

    def vjp(dy):
        return dy.reshape(before),
    return record(np.squeeze(x.data, axis), (x,), vjp)


@method
def broadcast_to(x, *shape):
    """x repeated to a larger shape, by strides of 0: a view that cannot be written to."""
    shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    before = x.shape

    def vjp(dy):
        return unbroadcast(dy, before),                                                 # (3)
    return record(np.broadcast_to(x.data, shape), (x,), vjp)


# ---- indexing --------------------------------------------------------------------------------

@Kernel
def index_backward(dx, dy, positions):
    dx[...] = 0
    np.add.at(dx, positions, dy)                                                        # (2)


@index_backward.body("numba")
def index_backward_numba(dx, dy, positions):
    real = dx.dtype.type
    R, C = dx.shape
    for r in range(R):
        for c in range(C):
            dx[r, c] = real(0)
    for m in range(len(positions)):                # one after the other: rows may be repeated
        r = positions[m]
        for c in range(C):
            dx[r, c] += dy[m, c]                                                        # (2)


@index_backward.body("native", when=fits)
def index_backward_native(dx, dy, positions):
    C(dx).index_backward(out(dx), ptr(dy), ptr(positions), *dx.shape, len(positions))


@index_backward.body("cuda", when=serves)
def index_backward_cuda(dx, dy, positions):
    order = positions.argsort(kind="stable")       # equal rows side by side: one thread adds them
    dx[...] = 0
    M, C = dy.shape
    G(dx).index_backward_sorted(blocks(M * C, 1024), 256, (dx, dy, positions[order], order, M, C))


@method("__getitem__")
def index(x, where):
    """x[where], with all that NumPy takes as an index, and tensors of integers or booleans.

    Slices and numbers give a view, index arrays a copy. Raises IndexError outside of x.
    """
    where = where if isinstance(where, tuple) else (where,)
    parts = tuple(_as_index(part, x.data) for part in where)
    if not any(part is ... for part in parts):
        parts = (*parts, ...)                      # so that a single element is an array, too
    shape = x.shape

    def vjp_of_view(dy):
        dx = zeros_like(dy, shape=shape)
        dx[parts] = dy                             # no element was taken twice
        return dx,

    def vjp_of_copy(dy):
        positions, rows_and_columns = _positions(parts, shape, dy)
        dx = empty_like(dy, shape=rows_and_columns)
        dy = contiguous(dy).reshape(len(positions), dx.shape[1])
        index_backward(dx, dy, positions)
        return dx.reshape(shape),

    is_copy = any(isinstance(part, kinds()) for part in parts)
    return record(x.data[parts], (x,), vjp_of_copy if is_copy else vjp_of_view)


def _as_index(part, x):
    if isinstance(part, Tensor):
        part = part.data
    part = np.asarray(part) if isinstance(part, (list, bool, np.bool_)) else part
    return beside(part, x) if isinstance(part, np.ndarray) else part


def _positions(parts, shape, like):
    """What was taken, as positions in x, and the shape (rows, columns) of x that they count in.

    One array of integers takes whole rows. Anything else takes single elements, one a row: where
    each of them lies is found by indexing an array that holds its own positions.
    """
    count = int(np.prod(shape))
    rows = shape[0] if shape else 1
    if len(parts) == 2 and parts[1] is ... and parts[0].dtype != bool:
        taken = contiguous(parts[0].reshape(-1) % rows).astype(np.int64)
        return taken, (rows, count // max(rows, 1))
    every = np.arange(count) if isinstance(like, np.ndarray) else np.arange(count, like=like)
    return contiguous(every.reshape(shape)[parts]).reshape(-1), (count, 1)


# ---- joining and parting ---------------------------------------------------------------------

def concatenate(tensors, axis=0):
    """Tensors one after the other along an axis; their other sizes are equal. A copy."""
    tensors = operands(*tensors)
    ends = np.cumsum([x.shape[axis] for x in tensors])
    shape = list(tensors[0].shape)
    shape[axis] = int(ends[-1])
    y = empty_like(tensors[0].data, shape=shape)
    np.concatenate([x.data for x in tensors], axis, out=y)

    def vjp(dy):
        return np.split(dy, ends[:-1], axis)       # views of dy
    return record(y, tensors, vjp)


def stack(tensors, axis=0):
    """Tensors of one shape along a new axis. A copy."""
    return concatenate([expand_dims(x, axis) for x in operands(*tensors)], axis)


@method
def split(x, sizes, axis=0):
    """Pieces of x along an axis, one per size; a number: so many equal pieces. Views."""
    whole = x.shape[axis]
    if isinstance(sizes, int):
        sizes = [whole // sizes] * sizes
    if sum(sizes) != whole:
        raise ValueError(f"an axis of size {whole} cannot be split into pieces of {sizes}")
    pieces = np.split(x.data, np.cumsum(sizes)[:-1], axis)
    shape = x.shape

    def vjp(*grads):
        dx = zeros_like(next(grad for grad in grads if grad is not None), shape=shape)
        for part, grad in zip(np.split(dx, np.cumsum(sizes)[:-1], axis), grads, strict=True):
            if grad is not None:                   # a piece that the loss does not depend on
                part[...] = grad
        return dx,
    return record_all(pieces, (x,), vjp)


@method
def pad(x, widths, value=0):
    """x with numbers around it. widths: a pair (before, after) for each axis. A copy."""
    if len(widths) != x.ndim:
        raise ValueError(f"pad needs {x.ndim} pairs (before, after), one an axis, not {widths}")
    inner = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    shape = [before + n + after for (before, after), n in zip(widths, x.shape, strict=True)]
    y = empty_like(x.data, shape=shape)
    y[...] = value
    y[inner] = x.data

    def vjp(dy):
        return dy[inner],
    return record(y, (x,), vjp)


# ---- types -----------------------------------------------------------------------------------

@method
def astype(x, dtype):
    """x in another type, a copy; x itself where it has the type. Only floats have a gradient."""
    dtype, before = np.dtype(dtype), x.dtype
    if dtype == before:
        return x
    y = empty_like(x.data, dtype=dtype)
    y[...] = x.data

    def vjp(dy):
        dx = empty_like(dy, dtype=before)
        dx[...] = dy
        return dx,
    return record(y, (x,), vjp) if dtype.kind == "f" else Tensor(y)
