"""Lesson 5.3 · Sampling: from logits to the next token

Needs nothing. Used by decoding.

Idea      The model gives a number for every token that could come next. Taking the largest every
          time is safe and dull and soon repeats itself; drawing from the distribution as it is now
          and then picks a token from the long tail of unlikely ones, and one such token can spoil
          the rest. So the distribution is sharpened (temperature) and its tail is cut off (top-k,
          top-p, min-p) before drawing. What was said already can be made less likely (penalty).
Math      p = softmax(z/τ)                τ < 1 sharpens, τ → 0 takes the largest                (1)
          top-k: keep the k largest      top-p: the fewest largest ones whose sum reaches p      (2)
          draw: the first i with p₀ + … + pᵢ > u, u uniform on [0, 1)                            (3)
          min-p: keep what has at least p times the largest probability                          (4)
          penalty r: zᵢ/r where zᵢ > 0, else zᵢ·r, for every token i of the text so far          (5)
Shapes    logits (V,) -> probabilities (V,) -> one integer
Pitfalls  top-p keeps the token that crosses p, or a p below the largest probability would keep
          nothing. Of equally likely tokens at the border the one with the lower number stays:
          somebody has to decide, always in the same way. Of several limits the strictest decides,
          and all are taken of the whole distribution, not of what another one left over.
          (5) treats 0 as a border, though logits have no zero of their own: a constant added to all
          of them changes nothing but this.
          Sum in float64: with 50,000 float32 terms the last tokens could never be drawn.
Cost      Some passes over V numbers, and a sort of the few that are near the likeliest one.
Try       build it    a penalty that grows with how often a token was there.
          break it    temperature 2 without top-k: read ten samples.
          measure it  the share of repeated lines over temperature, from 0.2 to 1.2.
See       Holtzman et al. 2020 (top-p) · Fan et al. 2018 (top-k) · Nguyen et al. 2024 (min-p) ·
          Keskar et al. 2019, section 4.1 (penalty) · Ackley, Hinton, Sejnowski 1985 (temperature)
"""

import numpy as np

NEAR = 4096  # times less likely than the likeliest token: behind it, few limits reach


def probabilities(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    """The distribution to draw from, (V,) in float64: (1), then (2) and (4).

    temperature > 0; top_k ≥ 1, 0 < top_p ≤ 1 and 0 ≤ min_p ≤ 1, or None for no limit.
    """
    z = np.asarray(logits, np.float64) / temperature
    p = np.exp(z - z.max())
    p /= p.sum()                                                                               # (1)
    if top_k is None and top_p is None and min_p is None:
        return p
    # Few tokens hold nearly all of p, and to sort all would take longer than the model.
    near = np.flatnonzero(p >= p.max() / NEAR)
    for some in near, np.arange(len(p)):
        order = some[np.argsort(-p[some], kind="stable")]
        keep = len(p) if top_k is None else min(top_k, len(p))
        if top_p is not None:
            keep = min(keep, int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1)             # (2)
        if min_p is not None:
            keep = min(keep, np.count_nonzero(p >= min_p * p.max()))                           # (4)
        if keep <= len(order):
            break
    kept, p_kept = order[:keep], np.zeros_like(p)
    p_kept[kept] = p[kept]
    return p_kept / p_kept.sum()


def penalised(logits, seen, penalty):
    """Logits (V,) with the tokens of the text so far made less likely by a penalty ≥ 1, (5)."""
    z = np.array(logits, np.float64)
    ids = np.unique(np.asarray(seen, np.int64))
    z[ids] = np.where(z[ids] > 0, z[ids] / penalty, z[ids] * penalty)                          # (5)
    return z


def pick(p, u):
    """The index that a number u on [0, 1) falls on, (3); for an array of numbers, an array."""
    first = np.searchsorted(np.cumsum(p), u, side="right")                                     # (3)
    return np.minimum(first, np.flatnonzero(p)[-1])  # the sum may end a rounding below 1


def draw(logits, random, greedy=False, seen=(), penalty=1.0, **limits):
    """The index of the next token; limits as for `probabilities`. greedy takes the likeliest.

    seen: the tokens of the text so far, which `penalty` makes less likely.
    """
    if penalty != 1:
        logits = penalised(logits, seen, penalty)
    if greedy:
        return int(np.argmax(logits))
    return int(pick(probabilities(logits, **limits), random.random()))
