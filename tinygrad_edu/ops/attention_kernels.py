"""Lesson 2.14 · Attention kernels: two products, block by block

Needs attention_weights, foreign, kernel, memory, threads. Used by attention_cuda, attention.

Idea      Scores are a product, weights come from scores, and the result is a second product. Done
          in one go, the scores of a whole batch are the largest array of a model: they grow with
          the square of the length, although nobody wants to see them. So we answer 64 queries at a
          time. Their scores fit in the cache, and keys that none of the 64 may see are left out.
Math      s = q·kᵀ      p = weights(s)      y = p·v                                             (1)
          dv = pᵀ·dy    dp = dy·vᵀ    ds = gradient of the weights                              (2)
          dq = ds·k     dk = dsᵀ·q                                                              (3)
          over blocks of queries: y and dq are put side by side, dk and dv are added up         (4)
Shapes    y, q, dy, dq (B, H, T, D) · k, v, dk, dv (B, G, S, D), H a multiple of G: neighbouring
          heads share keys · lse (B, H, T) · seen, query_segments (B, T) · key_segments (B, S)
          mask (B, H, T, S) · any of them may be a view with gaps
Pitfalls  What lies behind the last key that anybody sees may be NaN, and 0·NaN is NaN. The blocks
          do not read it, the reference puts zeros in its place.
          Heads that share keys add up their dk and dv.
          BLAS takes a view with gaps as it is, so long as the numbers of one head lie next to each
          other; anything else is copied by np.matmul, silently and slowly.
Cost      2·B·H·T·S·D multiply-adds forward, 5·B·H·T·S·D backward; a causal call needs about half.
          p is not kept: that is one product more in backward, for (B, H, T, S) numbers less.
          Under BLAS each thread holds four arrays (heads, 64, S), as many heads as fit in half a
          MiB, and they are written and read between the products. native/attention.c puts queries
          into the lanes of vectors instead: maximum, exponential and sum of 16 rows are then three
          instructions, sums of products stay in registers, and keys are skipped 16 queries at a
          time. On one core of a Zen 4, milliseconds of the processor, forward and backward:
              B=16 H=4  T=128 D=32   C 1.6 and 3.6    BLAS and Numba  3.7 and 6.3
              B=8  H=6  T=256 D=64   C 6.2 and 14.6   BLAS and Numba 10.7 and 21.7
              B=2  H=12 T=256 D=64   C 3.1 and 7.1    BLAS and Numba  5.3 and 10.7
          by OMP_NUM_THREADS=1 python -m tinygrad_edu.ops.attention, which adds both up. A new query
          or two behind a long text would leave the lanes empty: BLAS is faster there.
Try       build it    a body "mine" for attention_forward that keeps a running maximum and sum, so
                      that keys come in blocks too and no row of scores is ever complete.
          break it    let `_blocks` hand out one key less. Which tests notice, and which do not?
          measure it  python -m tinygrad_edu.ops.attention, with BLOCK = 16, 64 and 256
See       Dao et al. 2022 (blocks, lse) · Ainslie et al. 2023 (grouped heads)
"""

import numpy as np

from .. import threads
from ..foreign import C, border, heads, lies_in_rows, out, ptr
from ..kernel import Kernel
from ..memory import contiguous, empty_like, zeros_like
from .attention_weights import attention_weights_backward, attention_weights_forward

BLOCK = 64  # queries that are answered together
CACHE = 1 << 19  # bytes of scores that a thread works on at a time
FEW = 16  # queries, of which a vector of AVX-512 holds as many
SHORT = 1 << 14  # numbers of the keys of a row: so few cost BLAS less than the way to it
SMALL = 1 << 21  # multiply-adds that are done before a second thread has started


def _grouped(a, G):
    """(…, H, T, D) as (…, G, H/G, T, D), a view: heads that share keys stand together."""
    *rest, H, T, D = a.shape
    return a.reshape(*rest, G, H // G, T, D)


def _flip(a):
    return a.swapaxes(-1, -2)


# ---- the reference: everything at once ----------------------------------------------------------


def _readable(a, seen):
    """Zeros in place of keys that no query of a row of the batch sees, (B, G, 1, S, D)."""
    used = np.arange(a.shape[2], like=seen) < seen.max(axis=1)[:, None]
    a = np.where(used[:, None, :, None], a, a.dtype.type(0))
    return a[:, :, None]


@Kernel(outputs=2)
def attention_forward(
    y, lse, q, k, v,
    seen, query_segments, key_segments, mask, scale,
):
    masks = seen, query_segments, key_segments, mask
    G = k.shape[1]
    k = _readable(k, seen)
    v = _readable(v, seen)
    S = k.shape[3]
    # Heads of a group meet the same keys: np.matmul repeats the axis of size 1.
    s = _grouped(q, G) @ _flip(k)
    s = s.reshape(*q.shape[:3], S)  # (B, H, T, S)
    p = empty_like(s)
    attention_weights_forward.__wrapped__(p, lse, s, *masks, scale)
    _grouped(y, G)[...] = _grouped(p, G) @ v                                                  # (1)


# y is for bodies that never hold a whole row of p: Σ p·dp over the keys is Σ dy·y over the head.
@Kernel(outputs=3)
def attention_backward(
    dq, dk, dv, dy, y, q, k, v, lse,
    seen, query_segments, key_segments, mask, scale,
):
    masks = seen, query_segments, key_segments, mask
    G = k.shape[1]
    k = _readable(k, seen)
    v = _readable(v, seen)
    q, dy = _grouped(q, G), _grouped(dy, G)
    s, dp = q @ _flip(k), dy @ _flip(v)                                                       # (2)
    S = k.shape[3]
    s = s.reshape(*y.shape[:3], S)  # (B, H, T, S)
    dp = dp.reshape(s.shape)
    p, ds = empty_like(s), empty_like(s)
    attention_weights_backward.__wrapped__(p, ds, s, dp, lse, *masks, scale)
    p = _grouped(p, G)
    ds = _grouped(ds, G)
    dv[...] = (_flip(p) @ dy).sum(axis=2)                                                     # (2)
    dk[...] = (_flip(ds) @ q).sum(axis=2)                                                     # (3)
    _grouped(dq, G)[...] = ds @ k                                                             # (3)


# ---- block by block -----------------------------------------------------------------------------


def _share_out(work, q, k):
    """Call work(b, groups) on the threads: a row b of the batch, and some of its groups.

    As many groups as have their scores in the cache, and no more than leave work for every thread.
    """
    B, H, T, _ = q.shape
    G, S = k.shape[1:3]
    head = min(T, BLOCK) * S * q.itemsize  # bytes of scores
    fit = CACHE // (H // G * head)
    # Rows of the batch alone keep all threads equally busy only if the threads divide them.
    even = G if B % threads.count() == 0 else -(-G // threads.count())
    count = max(1, min(fit, even))
    portions = [(b, g, min(g + count, G)) for b in range(B) for g in range(0, G, count)]

    def several(portions):
        for b, low, high in portions.tolist():
            work(b, slice(low, high))

    # The portions are a small array that stands for much work: bytes say nothing about it.
    grain = 0 if q.size * S > SMALL else 1 << 62
    threads.split_product(several, (np.array(portions),), (0,), grain=grain)


def _blocks(b, heads, T, seen, query_segments, key_segments, mask):
    """Of each block of queries: its rows, the number of keys it sees, its part of the masks."""
    asking, asked = None, None
    for first in range(0, T, BLOCK):
        t = slice(first, min(first + BLOCK, T))
        # The largest of the block counts. The weights hide from each query what it must not
        # see of that.
        n = int(seen[b, t].max())
        if query_segments is not None:
            asking, asked = query_segments[b, t], key_segments[b, :n]
        part = None if mask is None else mask[b, heads, t, :n]
        yield t, n, (seen[b, t], asking, asked, part)


def _heads(groups, q, k):
    """The query heads of these groups."""
    size = q.shape[1] // k.shape[1]
    return slice(groups.start * size, groups.stop * size)


def _scores(q, k):
    """q·kᵀ of one row of the batch, (H, T, D) and (G, S, D) -> (H, T, S)."""
    H, T, _ = q.shape
    G, S, _ = k.shape
    s = empty_like(q, (H, T, S))
    out = _grouped(s, G)
    # One call for all heads: np.matmul asks BLAS for each product by itself, in C.
    np.matmul(_grouped(q, G), _flip(k[:, None]), out=out)
    return s


@attention_forward.body("blas")
def attention_forward_blas(
    y, lse, q, k, v,
    seen, query_segments, key_segments, mask, scale,
):
    masks = seen, query_segments, key_segments, mask

    def work(b, g):
        h = _heads(g, q, k)
        for t, n, part in _blocks(b, h, q.shape[2], *masks):
            if n == 0:
                y[b, h, t] = 0
                lse[b, h, t] = -np.inf
            else:
                answer(b, g, h, t, n, part)

    def answer(b, g, h, t, n, part):
        G = g.stop - g.start
        # row is contiguous where lse[b, h, t] is not: the loop is compiled for one layout only.
        s = _scores(q[b, h, t], k[b, g, :n])
        p, row = empty_like(s), empty_like(s, s.shape[:2])
        attention_weights_forward(p, row, s, *part, scale)
        lse[b, h, t] = row
        out = _grouped(y[b, h, t], G)
        np.matmul(_grouped(p, G), v[b, g, None, :n], out=out)                                 # (1)

    _share_out(work, q, k)


@attention_backward.body("blas")
def attention_backward_blas(
    dq, dk, dv, dy, y, q, k, v, lse,
    seen, query_segments, key_segments, mask, scale,
):
    masks = seen, query_segments, key_segments, mask

    def work(b, g):
        h = _heads(g, q, k)
        # Sums are kept without gaps: adding to views with gaps takes several times as long.
        sum_k = zeros_like(k, k[b, g].shape)
        sum_v = zeros_like(v, v[b, g].shape)
        for t, n, part in _blocks(b, h, q.shape[2], *masks):
            if n == 0:
                dq[b, h, t] = 0
            else:
                pull(sum_k[:, :n], sum_v[:, :n], b, g, h, t, n, part)
        dk[b, g] = sum_k
        dv[b, g] = sum_v

    def pull(sum_k, sum_v, b, g, h, t, n, part):
        G = g.stop - g.start
        s = _scores(q[b, h, t], k[b, g, :n])
        dp = _scores(dy[b, h, t], v[b, g, :n])                                                # (2)
        p, ds = empty_like(s), empty_like(s)
        row = contiguous(lse[b, h, t])
        attention_weights_backward(p, ds, s, dp, row, *part, scale)
        p = _grouped(p, G)
        ds = _grouped(ds, G)
        out = _grouped(dq[b, h, t], G)
        np.matmul(ds, k[b, g, None, :n], out=out)                                             # (3)
        asking = _grouped(q[b, h, t], G)
        upstream = _grouped(dy[b, h, t], G)
        heads = range(p.shape[1])
        for i in heads:  # those that share these keys
            sum_v += _flip(p[:, i]) @ upstream[:, i]                                          # (4)
            sum_k += _flip(ds[:, i]) @ asking[:, i]                                           # (4)

    _share_out(work, q, k)


# ---- in C ---------------------------------------------------------------------------------------


def _in_c(*args):
    """Whether C can read the call: rows of numbers without gaps, and segment ids of 64 bits."""
    *arrays, seen, query_segments, key_segments, mask, _ = args
    q, k, lse = (*arrays[2:4], arrays[1]) if len(arrays) == 5 else (*arrays[5:7], arrays[8])
    H, T, D = q.shape[1:]
    S = k.shape[2]
    few = T < FEW and T < S and H * S * D > SHORT  # most lanes would be empty
    strided = [a for a in (*arrays, mask) if a is not None and a is not lse]
    ids = [a for a in (seen, query_segments, key_segments) if a is not None]
    return (not few and lse.flags.c_contiguous and all(map(lies_in_rows, strided))
            and all(a.flags.c_contiguous and a.dtype == np.int64 for a in ids))


def _cross(function, arrays, lse, masks, scale, q, k, count):
    """Call a C function on the threads, each for a range of the `count` equal portions of work."""
    (_, H, T, D), (G, S) = q.shape, k.shape[1:3]
    *ids, mask = masks
    ids = [border().NULL if a is None else ptr(a) for a in ids]

    def some(portions):
        function(*arrays, lse, *ids, heads(mask), scale, H, G, T, S, D, portions[0],
                 portions[-1] + 1)

    grain = 0 if q.size * S > SMALL else 1 << 62  # as in _share_out
    threads.split(some, (np.arange(count),), (0,), grain=grain)


@attention_forward.body("native", when=_in_c)
def attention_forward_native(
    y, lse, q, k, v,
    seen, query_segments, key_segments, mask, scale,
):
    masks = seen, query_segments, key_segments, mask

    def function(q, k, v, lse, *rest):
        C(y).attention_forward(heads(y), lse, q, k, v, *rest)

    arrays = [heads(a) for a in (q, k, v)]
    _cross(function, arrays, out(lse), masks, scale, q, k, q.shape[0] * q.shape[1])


@attention_backward.body("native", when=_in_c)
def attention_backward_native(
    dq, dk, dv, dy, y, q, k, v, lse,
    seen, query_segments, key_segments, mask, scale,
):
    masks = seen, query_segments, key_segments, mask
    arrays = [heads(a) for a in (dq, dk, dv, dy, y, q, k, v)]
    function = C(y).attention_backward
    _cross(function, arrays, ptr(lse), masks, scale, q, k, q.shape[0] * k.shape[1])
