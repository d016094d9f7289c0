"""Lesson 2.9 · Embedding: a row of a table for every integer

Needs foreign, kernel, launch, memory, reduce, tensor, watch. Used by layers.

Idea      A network computes with vectors, a text is a list of integers. The embedding is a table
          with one learned vector a token: looking up is copying rows. On the way back every place
          sends its gradient to the row it was copied from, and a token that occurs often gets the
          sum of many. GPT-2 adds a second table, indexed by the position; both look-ups and the sum
          are one pass here.
Math      yₙ = W[idₙ]                    = one-hot(idₙ)·W, without the product                 (1)
          yₙ = W[idₙ] + P[t]             t = n mod T, the position within its row of T          (2)
          dW[v] = Σ dyₙ over n with idₙ = v          dP[t] = Σ dyₙ over n with n mod T = t      (3)
Shapes    ids (…, T) integers in [0, V) · W (V, C) · P (T, C) · y (…, T, C)
          backward: `order` (N,) lists the positions sorted by id; those of id v are
          order[first[v]:last[v]]; first, last (V,)
Pitfalls  Python and NumPy take −1 for the last row: an id out of range is refused instead.
          dW[ids] += dy forgets repeated ids: NumPy reads all rows first, then writes each once.
          Two threads that add to one row of dW lose additions. Here the threads share out the rows
          of dW, not the positions, so the result does not depend on their number.
          An unstable sort would add equal ids in another order, and round differently.
Cost      Forward: reads and writes N·C numbers. Backward: reads N·C, writes V·C, zeros too: the
          gradient of the table is dense. With a head that shares the table it is so anyway.
          Beyond the caches rows in no order of memory are read at about half the speed of a copy,
          or less: most of them lie in a page whose place has to be looked up first, and nothing
          fetches them ahead of their use (asking for the next row early changed nothing).
          C and Numba take about the same time, that of the memory: backward 15 µs both, sum_batch
          10 and 11 (half a MB on one core: python scripts/bench_ops.py embedding --sizes medium).
Try       build it    the backward pass cut by columns instead of by ids: no sort needed. Faster?
          break it    use dw[ids] += dy in the reference. Which tests notice?
          measure it  python scripts/trace_step.py with --vocab 512, then 8192: what does
                      embedding_backward grow with?
See       Bengio et al. 2003 (a learned vector a word) · Vaswani et al. 2017 (sum with positions)
"""

import math

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel
from ..memory import beside, contiguous, empty_like
from ..tensor import Tensor, record
from ..watch import told
from .reduce import sum_forward_cuda

WARPS = 32, 8                                      # a block on a GPU: eight warps, a row each


@Kernel
def embedding_forward(y, ids, w):
    y[...] = w[ids]                                                                            # (1)


@embedding_forward.body("numba", rows="y ids")
def embedding_forward_numba(y, ids, w):
    N, C = y.shape
    for n in range(N):
        v = ids[n]
        for c in range(C):
            y[n, c] = w[v, c]                                                                  # (1)


@embedding_forward.body("native", rows="y ids", when=fits)
def embedding_forward_native(y, ids, w):
    C(y).embedding_forward(out(y), ptr(ids), ptr(w), *y.shape)


@embedding_forward.body("cuda", when=serves)
def embedding_forward_cuda(y, ids, w):
    N, C = y.shape
    G(y).embedding_forward(blocks(N, WARPS[1]), WARPS, (y, ids, w, N, C))


@Kernel
def embedding_add_forward(y, ids, w, p):
    y[...] = w[ids] + p                                                                        # (2)


@embedding_add_forward.body("numba", rows="y ids")
def embedding_add_forward_numba(y, ids, w, p):
    B, T, C = y.shape
    for b in range(B):
        for t in range(T):
            v = ids[b, t]
            for c in range(C):
                y[b, t, c] = w[v, c] + p[t, c]                                                 # (2)


@embedding_add_forward.body("native", rows="y ids", when=fits)
def embedding_add_forward_native(y, ids, w, p):
    C(y).embedding_add_forward(out(y), ptr(ids), ptr(w), ptr(p), *y.shape)


@embedding_add_forward.body("cuda", when=serves)
def embedding_add_forward_cuda(y, ids, w, p):
    B, T, C = y.shape
    G(y).embedding_add_forward(blocks(B * T, WARPS[1]), WARPS, (y, ids, w, p, B * T, T, C))


@Kernel
def embedding_backward(dw, dy, order, first, last):
    ids = np.repeat(np.arange(len(dw)), last - first)
    dw[...] = 0                                    # rows of ids that do not occur
    np.add.at(dw, ids, dy[order])                                                              # (3)


@embedding_backward.body("numba", rows="dw first last")
def embedding_backward_numba(dw, dy, order, first, last):
    V, C = dw.shape
    for v in range(V):
        for c in range(C):
            dw[v, c] = dw.dtype.type(0)
        for i in range(first[v], last[v]):
            n = order[i]                           # in rising order: always the same sum
            for c in range(C):
                dw[v, c] += dy[n, c]                                                           # (3)


@embedding_backward.body("native", rows="dw first last", when=fits)
def embedding_backward_native(dw, dy, order, first, last):
    C(dw).embedding_backward(out(dw), ptr(dy), ptr(order), ptr(first), ptr(last), *dw.shape)


@embedding_backward.body("cuda", when=serves)
def embedding_backward_cuda(dw, dy, order, first, last):
    V, C = dw.shape
    G(dw).embedding_backward(blocks(V, WARPS[1]), WARPS, (dw, dy, order, first, last, V, C))


@Kernel
def sum_batch(dp, dy):
    dp[...] = dy.sum(axis=0)                                                                   # (3)


@sum_batch.body("numba", rows="dy", sums="dp")
def sum_batch_numba(dp, dy):
    B, T, C = dy.shape
    dp[:, :] = dp.dtype.type(0)
    for b in range(B):
        for t in range(T):
            for c in range(C):
                dp[t, c] += dy[b, t, c]


@sum_batch.body("native", rows="dy", sums="dp", when=fits)
def sum_batch_native(dp, dy):
    C(dp).sum_batch(out(dp), ptr(dy), *dy.shape)


@sum_batch.body("cuda", when=serves)
def sum_batch_cuda(dp, dy):
    sum_forward_cuda(dp.reshape(1, -1), dy.reshape(1, len(dy), -1))


def embedding(ids, w, positions=None):
    """The rows of w that ids name, plus a row of positions for each place if that table is given.

    ids (…, T): integers, an array or Tensor. w (V, C). positions (T, C) -> (…, T, C). For a text
    that does not begin at position 0, slice the table of positions first.
    IndexError for an id outside the table, TypeError for ids that are no integers, ValueError for
    tables that do not fit.
    """
    ids = _checked(ids, w, positions)
    flat = contiguous(ids).reshape(-1)                          # (N,)
    table = contiguous(w.data)
    B, T = math.prod(ids.shape[:-1]), ids.shape[-1] if ids.ndim else 1
    C = w.shape[1]
    y = empty_like(table, shape=(flat.size, C))
    there = beside(flat, table)  # where they come from they are checked, and sorted later
    if positions is None:
        embedding_forward(y, there, table)
    else:
        embedding_add_forward(y.reshape(B, T, C), there.reshape(B, T), table,
                              contiguous(positions.data))
    parents = (w,) if positions is None else (w, positions)
    wanted, shape = [parent.requires_grad for parent in parents], w.shape

    def vjp(dy):
        dw = dp = None
        rows = contiguous(dy).reshape(flat.size, C)             # (N, C)
        if wanted[0]:
            dw = empty_like(rows, shape=shape)
            places = (beside(array, dw) for array in sort_by_id(flat, shape[0]))
            embedding_backward(dw, rows, *places)
        if positions is not None and wanted[1]:
            dp = empty_like(rows, shape=(T, C))
            sum_batch(dp, rows.reshape(B, T, C))
        return (dw, dp)[:len(wanted)]
    return record(y.reshape(ids.shape + (C,)), parents, vjp)


def sort_by_id(ids, V):
    """(order, first, last): order[first[v]:last[v]] are the positions of id v, in rising order."""
    counts = np.bincount(ids, minlength=V)
    last = np.cumsum(counts)
    return np.argsort(ids, kind="stable"), last - counts, last


def _checked(ids, w, positions):
    """ids as an array of 64-bit integers, each of them a row of w."""
    ids = ids.data if isinstance(ids, Tensor) else np.asarray(ids) if isinstance(ids, list) else ids
    if getattr(ids, "dtype", np.dtype(float)).kind not in "iu":
        raise TypeError(f"an embedding is indexed by integers, not by {getattr(ids, 'dtype', ids)}")
    if w.ndim != 2:
        raise ValueError(f"an embedding needs a table (rows, width), not the shape {w.shape}")
    told(must_be_inside, len(w), ids, writes=None)
    expected = (*(ids.shape[-1:] or (1,)), w.shape[1])
    if positions is not None and positions.shape != expected:
        raise ValueError(f"ids {ids.shape} and a table {w.shape} need positions of shape "
                         f"{expected}, not {positions.shape}")
    return ids if ids.dtype == np.int64 else ids.astype(np.int64)


def must_be_inside(count, ids, ignore=0, what="token"):
    """IndexError for an id outside a vocabulary of that size, unless it is the ignored one."""
    wrong = ((ids < 0) | (ids >= count)) & (ids != ignore)
    if wrong.any():
        raise IndexError(f"{what} {int(ids[wrong][0])} is outside the vocabulary of {count}")
