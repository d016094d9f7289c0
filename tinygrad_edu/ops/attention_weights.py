"""Lesson 2.13 · Attention weights: which key counts how much

Needs kernel, launch, loops, tensor, memory. Used by attention_kernels, attention.

Idea      In attention every position of a text has three vectors: a query, what it looks for; a
          key, by which it is found; a value, what it gives. Scores, the dot products of queries and
          keys, become weights, and the result is the mean of the values with these weights. This
          lesson is what happens between the two matrix products: which keys a query may see at all,
          and how scores become weights that sum to 1. Three things are one question here, from
          which position on is a key hidden: causality (nobody sees what comes later), a cache (keys
          of earlier calls stand in front) and rows of unequal length. Documents packed into one row
          are a second question: only keys of the same segment are visible.
Math      z = scale·s + mask, −∞ for keys that are not visible     p = exp(z)/Σ exp(z)          (1)
          lse = ln Σ exp(z)     so that later  p = exp(z − lse)                                 (2)
          ds = scale·p·(dp − Σ p·dp)                                                            (3)
          seen[t] = min(start + t + 1, length), between 0 and S                                 (4)
          query t sees key s  ⇔  s < seen[t]  and both have the same segment id                 (5)
Shapes    s, p, ds, dp (H, T, S): scores, weights and their gradients, H heads, T queries, S keys
          lse (H, T) · seen (T,) · segment ids (T,) and (S,), or None · mask (H, T, S), or None
          The reference also takes a batch: one axis B in front of each.
Pitfalls  exp overflows for scores above 88 in float32: the largest is taken away first, p stays.
          A row that sees nothing has the sum 0, and 0/0 is NaN. We define p = 0, lse = −∞, ds = 0.
          A causal mask made for T = S is wrong with a cache, where T new queries stand behind S − T
          older keys, or anywhere if rows differ in length. (4) takes the position as an argument.
Cost      One exp an element, in the cache, between two products. The loop runs over all S though
          some keys are hidden: whole vectors are cheaper than a remainder done one by one.
          Backward computes p again from lse: T·S numbers a head need not be kept.
Try       build it    a window: query t sees the last w keys only. Which of (4) and (5) changes?
          break it    start the default in seen_keys at 0 instead of S − T. Which tests notice?
          measure it  python scripts/trace_step.py:
                      the share of attention_weights_forward and _backward
See       Vaswani et al. 2017, eq. 1 · Dao et al. 2022, section 3.1 (lse is enough for backward)
"""

import numpy as np

from ..gpu.launch import G, row_threads, serves
from ..kernel import Kernel
from ..loops import exp, helper
from ..memory import beside, empty_like
from ..tensor import Tensor

# ---- who sees whom ------------------------------------------------------------------------------


def seen_keys(q, S, causal=True, start=None, length=None):
    """How many of the first S keys each query may see, (B, T) integers: (4).

    q: an array (B, H, T, D). start: the position of each row's first query among the keys, (B,) or
    one number; S − T by default, so that the last query stands at the last key. Not used unless
    causal. length: how many keys of each row are valid, (B,) or one number; S by default.
    Raises ValueError for another shape, TypeError for numbers that are not whole.
    """
    T = q.shape[2]
    seen = empty_like(q, (q.shape[0], T), np.int64)
    seen[...] = S
    if causal:
        seen[...] = _per_row(q, "start", S - T if start is None else start)
        seen += np.arange(1, T + 1, like=q)
    if length is not None:
        np.minimum(seen, _per_row(q, "length", length), out=seen)
    return np.clip(seen, 0, S, out=seen)                                                      # (4)


def _per_row(q, name, value):
    """(B, 1) integers from one number or one a row."""
    value = value.data if isinstance(value, Tensor) else value
    value = value if hasattr(value, "dtype") else np.asarray(value)
    if value.dtype.kind not in "iu":
        raise TypeError(f"{name} takes integers, not {value.dtype}")
    if value.shape not in ((), q.shape[:1]):
        raise ValueError(f"{name} takes one number or one a row, ({len(q)},), not {value.shape}")
    return beside(value, q)[..., None]


# ---- from scores to weights ---------------------------------------------------------------------


def _masked(s, seen, query_segments, key_segments, mask, scale):
    """The z of (1)."""
    z = s * scale if mask is None else s * scale + mask
    visible = np.arange(s.shape[-1], like=seen) < seen[..., None, :, None]                    # (5)
    if query_segments is not None:
        same = query_segments[..., None, :, None] == key_segments[..., None, None, :]
        visible = visible & same
    return np.where(visible, z, z.dtype.type(-np.inf))


@Kernel(outputs=2)
def attention_weights_forward(p, lse, s, seen, query_segments, key_segments, mask, scale):
    z = _masked(s, seen, query_segments, key_segments, mask, scale)
    top = np.maximum(z.max(axis=-1, keepdims=True), np.finfo(z.dtype).min)  # −∞ − −∞ is NaN
    p[...] = np.exp(z - top)
    total = p.sum(axis=-1, keepdims=True)  # at least 1, or 0 where nothing is visible
    p /= np.where(total == 0, 1, total)                                                       # (1)
    with np.errstate(divide="ignore"):
        lse[...] = (top + np.log(total))[..., 0]                                              # (2)


@helper
def mask_row(z, s, h, t, seen, query_segments, key_segments, mask, scale):
    """The z of (1) for query t of head h."""
    factor = s.dtype.type(scale)
    hidden = s.dtype.type(-np.inf)
    for j in range(z.size):
        z[j] = s[h, t, j] * factor
    if mask is not None:
        for j in range(z.size):
            z[j] += mask[h, t, j]
    if query_segments is not None:
        for j in range(z.size):
            z[j] = z[j] if query_segments[t] == key_segments[j] else hidden
    for j in range(seen[t], z.size):
        z[j] = hidden                                                                         # (5)


@attention_weights_forward.body("numba")
def attention_weights_forward_numba(
    p, lse, s, seen, query_segments, key_segments, mask, scale
):
    real = s.dtype.type
    H, T, S = s.shape
    for h in range(H):
        for t in range(T):
            row = p[h, t]
            mask_row(row, s, h, t, seen, query_segments, key_segments, mask, scale)
            top = real(-np.inf)
            for j in range(S):
                top = max(top, row[j])
            if top == real(-np.inf):
                top = real(0)
            total = real(0)
            for j in range(S):  # hidden ones too: a whole vector costs no more than a part of it
                e = exp(row[j] - top)
                row[j] = e
                total += e
            lse[h, t] = top + np.log(total)                                                   # (2)
            share = real(1) / (real(1) if total == real(0) else total)
            for j in range(S):
                row[j] *= share                                                               # (1)


def _on_gpu(*args):
    """Whether the CUDA kernels can read a call: no batch, and ids of 64 bits."""
    *arrays, seen, query_segments, key_segments, _, _ = args
    ids = [a for a in (seen, query_segments, key_segments) if a is not None]
    return serves(*args) and arrays[0].ndim == 3 and all(a.dtype == np.int64 for a in ids)


@attention_weights_forward.body("cuda", when=_on_gpu)
def attention_weights_forward_cuda(
    p, lse, s, seen, query_segments, key_segments, mask, scale
):
    H, T, S = s.shape
    masks = seen, query_segments, key_segments, mask
    G(p).attention_weights_forward(
        H * T, row_threads(S), (p, lse, s, *masks, s.dtype.type(scale), T, S))


@Kernel(outputs=2)
def attention_weights_backward(
    p, ds, s, dp, lse, seen, query_segments, key_segments, mask, scale
):
    z = _masked(s, seen, query_segments, key_segments, mask, scale)
    p[...] = np.exp(z - np.maximum(lse, np.finfo(z.dtype).min)[..., None])                    # (2)
    ds[...] = scale * p * (dp - (p * dp).sum(axis=-1, keepdims=True))                         # (3)


@attention_weights_backward.body("numba")
def attention_weights_backward_numba(
    p, ds, s, dp, lse, seen, query_segments, key_segments, mask, scale
):
    real = s.dtype.type
    factor = real(scale)
    H, T, S = s.shape
    for h in range(H):
        for t in range(T):
            row = p[h, t]
            mask_row(row, s, h, t, seen, query_segments, key_segments, mask, scale)
            shift = real(0) if lse[h, t] == real(-np.inf) else lse[h, t]
            total = real(0)
            for j in range(S):
                e = exp(row[j] - shift)                                                       # (2)
                row[j] = e
                total += e * dp[h, t, j]
            for j in range(S):
                ds[h, t, j] = factor * row[j] * (dp[h, t, j] - total)                         # (3)


@attention_weights_backward.body("cuda", when=_on_gpu)
def attention_weights_backward_cuda(
    p, ds, s, dp, lse, seen, query_segments, key_segments, mask, scale
):
    H, T, S = s.shape
    masks = seen, query_segments, key_segments, mask
    G(p).attention_weights_backward(
        H * T, row_threads(S), (p, ds, s, dp, lse, *masks, s.dtype.type(scale), T, S))
