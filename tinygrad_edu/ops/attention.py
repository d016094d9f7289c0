"""Lesson 2.12 · Attention

Needs attention_weights, kernel, memory, tensor, threads. Used by models/gpt.py.

Idea      Every position of a text asks a question (its query). Every position also shows a label
          (its key) and has something to say (its value). The better a label answers the question,
          the larger is the share of that value in what the asking position receives. Several heads
          do this side by side, each with questions and labels of its own. A language model is
          causal: nobody may look at what comes later, or it would read the answer off.
Math      s = q·kᵀ      p = weights(s)      y = p·v                                             (1)
          dv = pᵀ·dy    dp = dy·vᵀ    ds = gradient of the weights                              (2)
          dq = ds·k     dk = dsᵀ·q                                                              (3)
          The lesson on attention weights has p, ds, and the one rule for who sees whom.
Shapes    q, y (B, H, T, D) · k, v (B, G, S, D), H a multiple of G: neighbouring heads share keys
          s, p, ds, dp (B, H, T, S) · saved: lse (B, H, T), and y for bodies that need it
          packed: qkv (B, T, (H + 2G)·D) holds q, k and v of all heads side by side, y (B, T, H·D)
Pitfalls  What lies in a cache behind `length` may be NaN, and 0·NaN is NaN: it is never read.
          A chunk of queries with a cache must give what the whole text at once gives: test that.
          Heads that share keys add up their dk and dv.
          q, k and v inside one packed array are views with gaps. BLAS takes them as they are, as
          long as the elements of one head follow each other; no copy is needed.
Cost      2·B·H·T·S·D multiply-adds forward, 5·B·H·T·S·D backward; a causal call needs about half.
          The fast body goes by blocks of 64 queries and leaves out the keys that nobody in a block
          sees. It keeps no weights, which costs one product more in backward, and needs four arrays
          (heads, 64, S) a thread where the reference holds as many (B, H, T, S).
Try       build it    rope's rotation inside `attention_qkv`: q and k are rotated where they lie.
          break it    let `_blocks` hand out one key less. Which tests notice, and which do not?
          measure it  python -m tinygrad_edu.ops.attention, with BLOCK = 16, 64 and 256
See       Vaswani et al. 2017 · Ainslie et al. 2023 (grouped heads) · Dao et al. 2022 (blocks, lse)
"""

import numpy as np

from .. import threads
from ..kernel import Kernel
from ..memory import contiguous, empty_like, zeros_like
from ..tensor import Tensor, method, record
from .attention_weights import attention_weights_backward, attention_weights_forward, seen_keys

BLOCK = 64  # queries that are answered together
CACHE = 1 << 19  # bytes of scores that a thread works on at a time
SMALL = 1 << 21  # multiply-adds that are done before a second thread has started


def _grouped(a, G):
    """(…, H, T, D) as (…, G, H/G, T, D), a view: heads that share keys stand together."""
    *rest, H, T, D = a.shape
    return a.reshape(*rest, G, H // G, T, D)


def _flip(a):
    return a.swapaxes(-1, -2)


# ---- the kernels --------------------------------------------------------------------------------


def _readable(a, seen):
    """Zeros in place of keys that no query of the row of the batch sees."""
    used = np.arange(a.shape[2], like=seen) < seen.max(axis=1)[:, None]  # (B, S)
    return np.where(used[:, None, :, None], a, a.dtype.type(0))


@Kernel(outputs=2)
def attention_forward(y, lse, q, k, v, seen, query_segments, key_segments, mask, scale):
    G = k.shape[1]
    k, v = _readable(k, seen)[:, :, None], _readable(v, seen)[:, :, None]  # (B, G, 1, S, D)
    s = (_grouped(q, G) @ _flip(k)).reshape(*q.shape[:3], k.shape[3])  # (B, H, T, S)
    p = empty_like(s)
    rest = seen, query_segments, key_segments, mask, scale
    attention_weights_forward.__wrapped__(p, lse, s, *rest)
    _grouped(y, G)[...] = _grouped(p, G) @ v                                                  # (1)


@Kernel(outputs=3)
def attention_backward(
    dq, dk, dv, dy, y, q, k, v, lse, seen, query_segments, key_segments, mask, scale
):
    G = k.shape[1]
    k, v = _readable(k, seen)[:, :, None], _readable(v, seen)[:, :, None]  # (B, G, 1, S, D)
    s = (_grouped(q, G) @ _flip(k)).reshape(*q.shape[:3], k.shape[3])  # (B, H, T, S)
    dp = (_grouped(dy, G) @ _flip(v)).reshape(s.shape)
    p, ds = empty_like(s), empty_like(s)
    rest = seen, query_segments, key_segments, mask, scale
    attention_weights_backward.__wrapped__(p, ds, s, dp, lse, *rest)
    dv[...] = (_flip(_grouped(p, G)) @ _grouped(dy, G)).sum(axis=2)                           # (2)
    dk[...] = (_flip(_grouped(ds, G)) @ _grouped(q, G)).sum(axis=2)                           # (3)
    _grouped(dq, G)[...] = _grouped(ds, G) @ k                                                # (3)


def _share_out(work, q, k):
    """Call work(portions) on the threads; a portion is a row of the batch, some of its groups."""
    (B, H, T, _), (_, G, S, _) = q.shape, k.shape
    fit = CACHE // (H // G * min(T, BLOCK) * S * q.itemsize)
    even = G if B % threads.count() == 0 else -(-G // threads.count())
    count = max(1, min(fit, even))
    portions = [(b, g, min(g + count, G)) for b in range(B) for g in range(0, G, count)]
    grain = 0 if q.size * S > SMALL else 1 << 62
    threads.split_product(work, (np.array(portions),), (0,), grain=grain)


def _blocks(b, heads, T, seen, query_segments, key_segments, mask):
    """Of each block of queries: its rows, the number of keys it sees, its part of the masks."""
    for first in range(0, T, BLOCK):
        t = slice(first, min(first + BLOCK, T))
        n = int(seen[b, t].max())
        asking = None if query_segments is None else query_segments[b, t]
        asked = None if query_segments is None else key_segments[b, :n]
        yield t, n, (seen[b, t], asking, asked, None if mask is None else mask[b, heads, t, :n])


@attention_forward.body("blas")
def attention_forward_blas(y, lse, q, k, v, seen, query_segments, key_segments, mask, scale):
    masks = seen, query_segments, key_segments, mask

    def work(portions):
        for b, low, high in portions.tolist():
            _answer(y, lse, q, k, v, b, slice(low, high), masks, scale)

    _share_out(work, q, k)


def _answer(y, lse, q, k, v, b, g, masks, scale):
    """(1) for the groups g of row b, block by block."""
    G, group = g.stop - g.start, q.shape[1] // k.shape[1]
    h = slice(g.start * group, g.stop * group)
    for t, n, block in _blocks(b, h, q.shape[2], *masks):
        if n == 0:
            y[b, h, t] = 0
            lse[b, h, t] = -np.inf
            continue
        s = _scores(q[b, h, t], k[b, g, :n])
        p, row_lse = empty_like(s), empty_like(s, s.shape[:2])
        attention_weights_forward(p, row_lse, s, *block, scale)
        lse[b, h, t] = row_lse
        np.matmul(_grouped(p, G), v[b, g, None, :n], out=_grouped(y[b, h, t], G))             # (1)


def _scores(q, k):
    """q·kᵀ, (H, T, D) and (G, S, D) -> (H, T, S)."""
    s = empty_like(q, (*q.shape[:2], k.shape[1]))
    np.matmul(_grouped(q, len(k)), _flip(k[:, None]), out=_grouped(s, len(k)))
    return s


@attention_backward.body("blas")
def attention_backward_blas(
    dq, dk, dv, dy, y, q, k, v, lse, seen, query_segments, key_segments, mask, scale
):
    masks = seen, query_segments, key_segments, mask

    def work(portions):
        for b, low, high in portions.tolist():
            _pull(dq, dk, dv, dy, q, k, v, lse, b, slice(low, high), masks, scale)

    _share_out(work, q, k)


def _pull(dq, dk, dv, dy, q, k, v, lse, b, g, masks, scale):
    """(2) and (3) for the groups g of row b, block by block."""
    G, group = g.stop - g.start, q.shape[1] // k.shape[1]
    h = slice(g.start * group, g.stop * group)
    sum_k, sum_v = zeros_like(k, k[b, g].shape), zeros_like(v, v[b, g].shape)
    for t, n, block in _blocks(b, h, q.shape[2], *masks):
        if n == 0:
            dq[b, h, t] = 0
            continue
        s, dp = _scores(q[b, h, t], k[b, g, :n]), _scores(dy[b, h, t], v[b, g, :n])
        p, ds, row_lse = empty_like(s), empty_like(s), contiguous(lse[b, h, t])
        attention_weights_backward(p, ds, s, dp, row_lse, *block, scale)                      # (2)
        p, ds, qs, dys = (_grouped(a, G) for a in (p, ds, q[b, h, t], dy[b, h, t]))
        np.matmul(ds, k[b, g, None, :n], out=_grouped(dq[b, h, t], G))                        # (3)
        for i in range(group):  # the heads that share these keys
            sum_v[:, :n] += _flip(p[:, i]) @ dys[:, i]
            sum_k[:, :n] += _flip(ds[:, i]) @ qs[:, i]
    dk[b, g] = sum_k
    dv[b, g] = sum_v


# ---- the operations -----------------------------------------------------------------------------


def _array(a):
    return a.data if isinstance(a, Tensor) else a


def _prepare(q, k, causal, start, length, segments, mask, scale):
    """The last five arguments of both kernels."""
    (B, H, T, D), S = q.shape, k.shape[2]
    query, key = segments if isinstance(segments, (tuple, list)) else (segments, segments)
    query, key = _array(query), _array(key)
    if segments is not None and (query.shape != (B, T) or key.shape != (B, S)):
        raise ValueError(
            f"segment ids have shapes {query.shape} and {key.shape}; {(B, T)} queries and {(B, S)} "
            "keys need segments=(ids of queries, ids of keys), or one array where T = S"
        )
    if isinstance(mask, Tensor) and mask.requires_grad:
        raise ValueError("attention has no gradient for its mask; pass mask.detach()")
    mask = _array(mask)
    if mask is not None and mask.dtype != q.dtype:
        raise TypeError(
            f"the mask is added to the scores: it must be {q.dtype} (0 where a key is visible, "
            f"-inf where it is not), not {mask.dtype}"
        )
    mask = None if mask is None else np.broadcast_to(mask, (B, H, T, S))
    scale = D**-0.5 if scale is None else float(scale)
    return seen_keys(q, S, causal, start, length), query, key, mask, scale


def _refuse(q, k, v):
    (B, H, _, D), (_, G, _, _) = q.shape, k.shape
    if k.shape != v.shape or k.shape[0] != B or k.shape[3] != D or H % G:
        raise ValueError(
            "attention takes q (B, H, T, D) and k, v (B, G, S, D) with H a multiple of G, "
            f"not {q.shape}, {k.shape}, {v.shape}"
        )
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"q, k and v must have one type, not {q.dtype}, {k.dtype}, {v.dtype}")


@method
def attention(
    q, k, v, causal=True, start=None, length=None, segments=None, mask=None, scale=None
):
    """Weighted means of values, (1). Vaswani et al. 2017, eq. 1.

    q (B, H, T, D), k and v (B, G, S, D) -> (B, H, T, D). causal, start (B,), length (B,): see
    `seen_keys`. segments: integers (B, S), or a pair (B, T), (B, S); only equal ids see each other.
    mask: added to the scaled scores, broadcast to (B, H, T, S); it gets no gradient. scale: 1/√D by
    default. A query that sees nothing receives zeros. Raises ValueError and TypeError where shapes
    or types do not fit.
    """
    _refuse(q, k, v)
    rest = _prepare(q.data, k.data, causal, start, length, segments, mask, scale)
    Q, K, V = (contiguous(t.data) for t in (q, k, v))
    y, lse = empty_like(Q), empty_like(Q, Q.shape[:3])
    attention_forward(y, lse, Q, K, V, *rest)

    def vjp(dy):
        dq, dk, dv = empty_like(Q), empty_like(K), empty_like(V)
        attention_backward(dq, dk, dv, contiguous(dy), y, Q, K, V, lse, *rest)
        return dq, dk, dv

    return record(y, (q, k, v), vjp)


def split_heads(a, *counts):
    """Views (B, count, T, D) of (B, T, …·D), one for each of the counts of heads side by side."""
    B, T, W = a.shape
    a = a.reshape(B, T, sum(counts), W // sum(counts)).swapaxes(1, 2)
    ends = np.cumsum(counts).tolist()
    return [a[:, end - count : end] for end, count in zip(ends, counts, strict=True)]


@method
def attention_qkv(qkv, heads, causal=True, groups=None, **options):
    """Self-attention on queries, keys and values that one linear layer has put side by side.

    qkv (B, T, 3C), C = heads·D -> (B, T, C). groups: the number of key/value heads, where they are
    fewer; then qkv is (B, T, (heads + 2·groups)·D). options: length, segments, mask, scale as in
    `attention`. One node on the tape, and no array is transposed.
    """
    H, G = heads, heads if groups is None else groups
    if qkv.ndim != 3 or qkv.shape[2] % (H + 2 * G) or H % G:
        raise ValueError(
            f"attention_qkv takes (B, T, ({H} + 2·{G})·D), {H} a multiple of {G}, not {qkv.shape}"
        )
    packed = contiguous(qkv.data)
    q, k, v = split_heads(packed, H, G, G)
    names = ("start", "length", "segments", "mask", "scale")
    rest = _prepare(q, k, causal, *(options.pop(name, None) for name in names))
    if options:
        raise TypeError(f"attention_qkv has no option {', '.join(options)}")
    y, lse = empty_like(packed, (*packed.shape[:2], H * q.shape[3])), empty_like(q, q.shape[:3])
    attention_forward(*split_heads(y, H), lse, q, k, v, *rest)

    def vjp(dy):
        dqkv = empty_like(packed)
        parts = *split_heads(dqkv, H, G, G), *split_heads(contiguous(dy), H), *split_heads(y, H)
        attention_backward(*parts, q, k, v, lse, *rest)
        return (dqkv,)

    return record(y, (qkv,), vjp)


def _measure(rounds=20):
    from statistics import median
    from time import perf_counter

    for B, H, T, D in ((16, 6, 128, 32), (8, 6, 256, 64)):
        random = np.random.default_rng(0)
        qkv = Tensor(random.standard_normal((B, T, 3 * H * D), np.float32), requires_grad=True)
        dy = np.ones((B, T, H * D), np.float32)
        times = {"causal": [], "full": []}
        for name in [*times] * (rounds + 1):
            start = perf_counter()
            attention_qkv(qkv, H, causal=name == "causal").backward(dy)
            times[name].append(perf_counter() - start)
        ms = " ".join(f"{name}_ms={median(took[1:]) * 1e3:.2f}" for name, took in times.items())
        print(f"B={B} H={H} T={T} D={D} threads={threads.count()} {ms}")


if __name__ == "__main__":
    _measure()
