"""Lesson 5.3 · Sampling: from logits to the next token

Needs tensor. Used by scripts/generate.py, scripts/train_gpt.py, scripts/score_python.py.

Idea      The model gives a number for every token that could come next. Taking the largest every
          time is safe and dull and soon repeats itself; drawing from the distribution as it is now
          and then picks a token from the long tail of unlikely ones, and one such token can spoil
          the rest. So the distribution is sharpened (temperature) and its tail is cut off (top-k,
          top-p) before drawing.
Math      p = softmax(z/τ)                τ < 1 sharpens, τ → 0 takes the largest                (1)
          top-k: keep the k largest      top-p: the fewest largest ones whose sum reaches p      (2)
          draw: the first i with p₀ + … + pᵢ > u, u uniform on [0, 1)                            (3)
Shapes    logits (V,) -> probabilities (V,) -> one integer
Pitfalls  top-p keeps the token that crosses p, or a p below the largest probability would keep
          nothing. Without a cache every token costs a pass over all the text before it; the context
          is a window, so a long text is continued from its last `context` tokens.
          Sum in float64: with 50,000 float32 terms the last tokens could never be drawn.
Cost      A sort of V numbers where a tail is cut, beside a pass through the model.
Try       build it    min-p: drop what is less likely than p times the most likely token.
          break it    temperature 2 without top-k: read ten samples.
          measure it  the share of repeated lines over temperature, from 0.2 to 1.2.
See       Holtzman et al. 2020 (top-p) · Fan et al. 2018 (top-k) · Ackley, Hinton, Sejnowski 1985
          (temperature)
"""

import numpy as np

from ..tensor import no_grad


def probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    """The distribution to draw from, (V,) in float64: (1), then (2).

    temperature > 0; top_k ≥ 1 and 0 < top_p ≤ 1, or None for no limit.
    """
    z = np.asarray(logits, np.float64) / temperature
    p = np.exp(z - z.max())
    p /= p.sum()                                                                               # (1)
    order = np.argsort(-p, kind="stable")
    keep = len(order) if top_k is None else min(top_k, len(order))
    if top_p is not None:
        keep = min(keep, int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1)                 # (2)
    p[order[keep:]] = 0
    return p / p.sum()


def draw(logits, random, greedy=False, **limits):
    """The index of the next token; limits as for `probabilities`. greedy takes the likeliest."""
    if greedy:
        return int(np.argmax(logits))
    p = probabilities(logits, **limits)
    first = np.searchsorted(np.cumsum(p), random.random(), side="right")                       # (3)
    return min(int(first), int(np.flatnonzero(p)[-1]))  # the sum may end a rounding below 1


def generate(model, ids, max_new, random, stop=(), **choice):
    """Yield up to max_new token ids that continue `ids`, one by one.

    A token in `stop` ends the text and is not yielded.

    model: anything with config.context and next_logits(ids (1, T)) -> (1, V).
    random: a numpy generator. choice: greedy, temperature, top_k, top_p.
    """
    ids = [int(i) for i in ids]
    if not ids:
        raise ValueError("nothing to continue: give at least one token")
    for _ in range(max_new):
        window = np.array([ids[-model.config.context:]])        # (1, T)
        with no_grad():
            logits = model.next_logits(window).numpy()[0]
        token = draw(logits, random, **choice)
        if token in stop:
            return
        ids.append(token)
        yield token
