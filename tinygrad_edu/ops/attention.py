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

from ..kernel import Kernel
from ..memory import contiguous, empty_like
from ..tensor import Tensor, method, record


def _grouped(a, G):
    """(B, H, T, D) as (B, G, H/G, T, D), a view."""
    B, H, T, D = a.shape
    return a.reshape(B, G, H // G, T, D)


def _scores(q, k, seen, query_segments, key_segments, mask, scale):
    s = scale * (_grouped(q, k.shape[1]) @ k[:, :, None].swapaxes(-1, -2))      # (B, G, H/G, T, S)
    s = s.reshape(*q.shape[:3], k.shape[2])                                     # (B, H, T, S)
    if mask is not None:
        s = s + mask
    visible = np.arange(k.shape[2], like=seen) < seen[:, None, :, None]                         # (5)
    if query_segments is not None:
        visible = visible & (query_segments[:, None, :, None] == key_segments[:, None, None, :])
    return np.where(visible, s, s.dtype.type(-np.inf))


def _valid(a, seen):
    """Zeros for keys that no query sees: 0·NaN would carry what lies there into the sums."""
    used = np.arange(a.shape[2], like=seen) < seen.max(axis=1)[:, None]         # (B, S)
    return np.where(used[:, None, :, None], a, a.dtype.type(0))


@Kernel(outputs=2)
def attention_forward(y, lse, q, k, v, seen, query_segments, key_segments, mask, scale):
    s = _scores(q, k, seen, query_segments, key_segments, mask, scale)
    top = np.maximum(s.max(axis=-1, keepdims=True), np.finfo(s.dtype).min)      # −inf − −inf is NaN
    p = np.exp(s - top)
    total = p.sum(axis=-1, keepdims=True)                       # ≥ 1, or 0 where nothing is visible
    with np.errstate(divide="ignore"):
        lse[...] = (top + np.log(total))[..., 0]                                                # (2)
    p /= np.maximum(total, 1)
    _grouped(y, k.shape[1])[...] = _grouped(p, k.shape[1]) @ _valid(v, seen)[:, :, None]        # (1)


@Kernel(outputs=3)
def attention_backward(dq, dk, dv, dy, y, q, k, v, lse, seen, query_segments, key_segments, mask, scale):
    G = k.shape[1]
    k, v = _valid(k, seen), _valid(v, seen)
    s = _scores(q, k, seen, query_segments, key_segments, mask, scale)
    p = np.exp(s - np.maximum(lse, np.finfo(s.dtype).min)[..., None])                           # (2)
    dp = (_grouped(dy, G) @ v[:, :, None].swapaxes(-1, -2)).reshape(p.shape)
    ds = scale * p * (dp - (dy * y).sum(axis=-1, keepdims=True))                                # (3)
    p, ds = _grouped(p, G), _grouped(ds, G)
    dv[...] = (p.swapaxes(-1, -2) @ _grouped(dy, G)).sum(axis=2)
    dq[...] = (ds @ k[:, :, None]).reshape(q.shape)                                             # (4)
    dk[...] = (ds.swapaxes(-1, -2) @ _grouped(q, G)).sum(axis=2)


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
