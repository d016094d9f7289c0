"""Lesson 2.10 · Attention

Needs kernel, memory, tensor. Used by models/gpt.py.

Idea      Every position asks a question (its query); every position offers a label (its key) and a content
          (its value). The better a label fits the question, the more of the content flows in.
Math      s = scale·q·kᵀ + mask      p = softmax(s) over the visible keys      y = p·v           (1)
          lse = ln Σ exp(s)          p = exp(s − lse)                                            (2)
          dv = pᵀ·dy      dp = dy·vᵀ      ds = scale·p·(dp − Σ dy·y)                             (3)
          dq = ds·k       dk = dsᵀ·q                                                             (4)
          query t sees key s  ⇔  s < seen[t] = min(start + t + 1, length), same segment          (5)
Shapes    q, y (B, H, T, D) · k, v (B, G, S, D) · lse (B, H, T) · seen (B, T)
Pitfalls  A row that sees nothing has the sum 0: it is defined as zeros.
Cost      Quadratic in the length.
Try       build it    the body "mine".
          break it    leave out the maximum.
          measure it  TG_TRACE=1
See       Vaswani et al. 2017, eq. 1
"""

import numpy as np

from .. import threads
from ..kernel import Kernel
from ..loops import exp, helper
from ..memory import contiguous, empty_like
from ..tensor import Tensor, method, record


def _grouped(a, G):
    """(…, H, T, D) as (…, G, H/G, T, D), a view: the heads that share keys stand together."""
    *rest, H, T, D = a.shape
    return a.reshape(*rest, G, H // G, T, D)


def _flip(a):
    return a.swapaxes(-1, -2)


# ---- the middle: from scores to weights ---------------------------------------------------------

def _visible(shape, seen, query_segments, key_segments):
    seen = seen[..., None, :, None]
    visible = np.arange(shape[-1], like=seen) < seen                                            # (5)
    if query_segments is not None:
        visible = visible & (query_segments[..., None, :, None] == key_segments[..., None, None, :])
    return visible


def _masked(s, seen, query_segments, key_segments, mask, scale):
    """Scaled scores, −∞ where a query does not see a key."""
    z = s * scale if mask is None else s * scale + mask
    visible = _visible(s.shape, seen, query_segments, key_segments)
    return np.where(visible, z, s.dtype.type(-np.inf))


@Kernel(outputs=2)
def attention_weights_forward(p, lse, s, seen, query_segments, key_segments, mask, scale):
    z = _masked(s, seen, query_segments, key_segments, mask, scale)
    top = np.maximum(z.max(axis=-1, keepdims=True), np.finfo(z.dtype).min)      # −∞ − −∞ is NaN
    p[...] = np.exp(z - top)
    total = p.sum(axis=-1, keepdims=True)                       # ≥ 1, or 0 where nothing is visible
    p /= np.maximum(total, 1)                                                                   # (1)
    with np.errstate(divide="ignore"):
        lse[...] = (top + np.log(total))[..., 0]                                                # (2)


@attention_weights_forward.body("numba")
def attention_weights_forward_numba(p, lse, s, seen, query_segments, key_segments, mask, scale):
    real = s.dtype.type
    H, T, S = s.shape
    factor = real(scale)
    for h in range(H):
        for t in range(T):
            row = p[h, t]
            for j in range(S):
                row[j] = s[h, t, j] * factor
            if mask is not None:
                for j in range(S):
                    row[j] += mask[h, t, j]
            if query_segments is not None:
                for j in range(S):
                    if query_segments[t] != key_segments[j]:
                        row[j] = real(-np.inf)
            for j in range(seen[t], S):
                row[j] = real(-np.inf)                                                          # (5)
            top = real(-1e30)
            for j in range(S):
                top = max(top, row[j])
            total = real(0)
            for j in range(S):
                e = exp(row[j] - top)
                row[j] = e
                total += e
            over = real(1) / max(total, real(1))
            for j in range(S):
                row[j] *= over                                                                  # (1)
            lse[h, t] = top + np.log(total)                                                     # (2)


@Kernel(outputs=2)
def attention_weights_backward(p, ds, s, dp, lse, seen, query_segments, key_segments, mask, scale):
    z = _masked(s, seen, query_segments, key_segments, mask, scale)
    p[...] = np.exp(z - np.maximum(lse, np.finfo(z.dtype).min)[..., None])                      # (2)
    ds[...] = scale * p * (dp - (p * dp).sum(axis=-1, keepdims=True))                           # (3)


@attention_weights_backward.body("numba")
def attention_weights_backward_numba(p, ds, s, dp, lse, seen, query_segments, key_segments, mask, scale):
    real = s.dtype.type
    H, T, S = s.shape
    factor = real(scale)
    for h in range(H):
        for t in range(T):
            row = p[h, t]
            for j in range(S):
                row[j] = s[h, t, j] * factor
            if mask is not None:
                for j in range(S):
                    row[j] += mask[h, t, j]
            if query_segments is not None:
                for j in range(S):
                    if query_segments[t] != key_segments[j]:
                        row[j] = real(-np.inf)
            for j in range(seen[t], S):
                row[j] = real(-np.inf)                                                          # (5)
            shift = max(lse[h, t], real(-1e30))
            total = real(0)
            for j in range(S):
                e = exp(row[j] - shift)
                row[j] = e
                total += e * dp[h, t, j]
            for j in range(S):
                ds[h, t, j] = factor * row[j] * (dp[h, t, j] - total)


def _valid(a, seen):
    """Zeros for keys that no query sees: 0·NaN would carry what lies there into the sums."""
    used = np.arange(a.shape[2], like=seen) < seen.max(axis=1)[:, None]         # (B, S)
    return np.where(used[:, None, :, None], a, a.dtype.type(0))


@Kernel(outputs=2)
def attention_forward(y, lse, q, k, v, seen, query_segments, key_segments, mask, scale):
    (B, H, T, D), (_, G, S, _) = q.shape, k.shape
    p = empty_like(q, (B, H, T, S))
    s = (_grouped(q, G) @ _flip(k)[:, :, None]).reshape(p.shape)
    attention_weights_forward.__wrapped__(p, lse, s, seen, query_segments, key_segments, mask, scale)
    _grouped(y, G)[...] = _grouped(p, G) @ _valid(v, seen)[:, :, None]        # (1)


@attention_forward.body("blas")
def attention_forward_blas(y, lse, q, k, v, seen, query_segments, key_segments, mask, scale):
    rest = (y, lse, q, k, v, seen, query_segments, key_segments, mask, scale)
    threads.split_product(_forward_heads, (_portions(q, k), *rest), (0,), grain=0)


BLOCK = 64
CACHE = 1 << 19


def _portions(q, k):
    """Rows (b, g, g'): heads whose scores of a block fit the cache."""
    (B, H, T, D), (_, G, S, _) = q.shape, k.shape
    fit = CACHE // (H // G * min(T, BLOCK) * S * q.itemsize)
    count = max(1, min(G, fit, B * G // threads.count()))
    return np.array([(b, g, min(g + count, G)) for b in range(B) for g in range(0, G, count)])


def _blocks(portions, q, k, seen, query_segments, key_segments, mask):
    """For every portion and block of queries: b, heads, groups, rows, keys"""
    group = q.shape[1] // k.shape[1]
    T = q.shape[2]
    for b, low, high in portions.tolist():
        heads = slice(low * group, high * group)
        for start in reversed(range(0, T, BLOCK)):
            rows = slice(start, min(start + BLOCK, T))
            n = int(seen[b, rows].max())
            yield b, slice(low, high), heads, rows, n, (
                seen[b, rows], query_segments[b, rows] if query_segments is not None else None,
                key_segments[b, :n] if query_segments is not None else None,
                mask[b, heads, rows, :n] if mask is not None else None)


def _forward_heads(portions, y, lse, q, k, v, seen, query_segments, key_segments, mask, scale):
    for b, groups, heads, rows, n, masks in _blocks(portions, q, k, seen, query_segments, key_segments, mask):
        if n == 0:
            y[b, heads, rows] = 0
            lse[b, heads, rows] = -np.inf
            continue
        G = groups.stop - groups.start
        s = _grouped(q[b, heads, rows], G) @ _flip(k[b, groups, None, :n])      # (G, H/G, T, S)
        s = s.reshape(-1, *s.shape[2:])
        p, l = empty_like(s), empty_like(s, s.shape[:2])
        attention_weights_forward(p, l, s, *masks, scale)
        lse[b, heads, rows] = l
        np.matmul(_grouped(p, G), v[b, groups, None, :n], out=_grouped(y[b, heads, rows], G))


@Kernel(outputs=3)
def attention_backward(dq, dk, dv, dy, y, q, k, v, lse, seen, query_segments, key_segments, mask, scale):
    (B, H, T, D), (_, G, S, _) = q.shape, k.shape
    k, v = _valid(k, seen), _valid(v, seen)
    p, ds = empty_like(q, (B, H, T, S)), empty_like(q, (B, H, T, S))
    s = (_grouped(q, G) @ _flip(k)[:, :, None]).reshape(p.shape)
    dp = (_grouped(dy, G) @ _flip(v)[:, :, None]).reshape(p.shape)
    attention_weights_backward.__wrapped__(p, ds, s, dp, lse, seen, query_segments, key_segments, mask, scale)
    p, ds = _grouped(p, G), _grouped(ds, G)
    dv[...] = (_flip(p) @ _grouped(dy, G)).sum(axis=2)
    dq[...] = (ds @ k[:, :, None]).reshape(q.shape)                                             # (4)
    dk[...] = (_flip(ds) @ _grouped(q, G)).sum(axis=2)


@attention_backward.body("blas")
def attention_backward_blas(dq, dk, dv, dy, y, q, k, v, lse, seen, query_segments, key_segments, mask, scale):
    rest = (dq, dk, dv, dy, y, q, k, v, lse, seen, query_segments, key_segments, mask, scale)
    threads.split_product(_backward_heads, (_portions(q, k), *rest), (0,), grain=0)


def _backward_heads(portions, dq, dk, dv, dy, y, q, k, v, lse, seen, query_segments, key_segments, mask, scale):
    for b, low, high in portions.tolist():
        dk[b, low:high] = 0
        dv[b, low:high] = 0
    for b, groups, heads, rows, n, masks in _blocks(portions, q, k, seen, query_segments, key_segments, mask):
        if n == 0:
            dq[b, heads, rows] = 0
            continue
        G = groups.stop - groups.start
        qs, dys = _grouped(q[b, heads, rows], G), _grouped(dy[b, heads, rows], G)
        ks, vs = k[b, groups, None, :n], v[b, groups, None, :n]
        s = qs @ _flip(ks)
        dp = dys @ _flip(vs)
        shape = (s.shape[0]*s.shape[1], s.shape[2], n)
        s, dp = s.reshape(shape), dp.reshape(shape)
        p, ds, l = empty_like(s), empty_like(s), empty_like(s, s.shape[:2])
        l[...] = lse[b, heads, rows]
        attention_weights_backward(p, ds, s, dp, l, *masks, scale)
        ds, p = _grouped(ds, G), _grouped(p, G)
        np.matmul(ds, ks, out=_grouped(dq[b, heads, rows], G))
        for r in range(ds.shape[1]):
            dk[b, groups, :n] += _flip(ds[:, r]) @ qs[:, r]
            dv[b, groups, :n] += _flip(p[:, r]) @ dys[:, r]


def _seen(q, S, causal, start, length):
    """How many of the first keys each query may see, (B, T): (5)."""
    B, _, T, _ = q.shape
    seen = empty_like(q, (B, T), np.int64)
    seen[...] = S
    if causal:
        first = np.asarray(S - T) if start is None else start
        seen[...] = first[..., None] + np.arange(1, T + 1, like=seen)
    if length is not None:
        np.minimum(seen, length[:, None], out=seen)
    return np.clip(seen, 0, S, out=seen)


def _array(a):
    return a.data if isinstance(a, Tensor) else a


def _prepare(q, k, causal, start, length, segments, mask, scale):
    """The arguments of both kernels after the arrays: (5) as numbers, and the scale."""
    (B, H, T, D), (_, G, S, _) = q.shape, k.shape
    start, length, mask = _array(start), _array(length), _array(mask)
    query_segments, key_segments = segments if isinstance(segments, tuple) else (segments, segments)
    if mask is not None:
        mask = np.broadcast_to(mask, (B, H, T, S))
    seen = _seen(q, S, causal, start, length)
    return seen, query_segments, key_segments, mask, scale or D ** -0.5


@method
def attention(q, k, v, causal=True, start=None, length=None, segments=None, mask=None, scale=None):
    """softmax(scale·q·kᵀ + mask)·v over the keys that a query may see: (1)."""
    rest = _prepare(q.data, k.data, causal, start, length, segments, mask, scale)
    Q, K, V = (contiguous(t.data) for t in (q, k, v))
    y, lse = empty_like(Q), empty_like(Q, Q.shape[:3])
    attention_forward(y, lse, Q, K, V, *rest)

    def vjp(dy):
        dq, dk, dv = empty_like(Q), empty_like(K), empty_like(V)
        attention_backward(dq, dk, dv, contiguous(dy), y, Q, K, V, lse, *rest)
        return dq, dk, dv
    return record(y, (q, k, v), vjp)


def _heads(a, *counts):
    """Views (B, heads, T, D) of the parts of a (B, T, (H + 2G)·D)."""
    B, T, W = a.shape
    D = W // sum(counts)
    a = a.reshape(B, T, sum(counts), D).swapaxes(1, 2)
    ends = np.cumsum(counts)
    return [a[:, end - count:end] for end, count in zip(ends, counts, strict=True)]


@method
def attention_qkv(qkv, heads, causal=True, groups=None, start=None, length=None, segments=None,
                  mask=None, scale=None):
    """Self-attention on one packed array. qkv (B, T, (H + 2G)·D), by default 3C -> (B, T, H·D)."""
    H, G = heads, groups or heads
    packed = contiguous(qkv.data)
    (B, T, W), D = packed.shape, packed.shape[2] // (H + 2 * G)
    q, k, v = _heads(packed, H, G, G)
    rest = _prepare(q, k, causal, start, length, segments, mask, scale)
    y, lse = empty_like(packed, (B, T, H * D)), empty_like(packed, (B, H, T))
    attention_forward(*_heads(y, H), lse, q, k, v, *rest)

    def vjp(dy):
        dqkv = empty_like(packed)
        attention_backward(*_heads(dqkv, H, G, G), *_heads(contiguous(dy), H), *_heads(y, H), q, k, v, lse, *rest)
        return dqkv,
    return record(y, (qkv,), vjp)
