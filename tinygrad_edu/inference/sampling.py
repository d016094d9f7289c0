"""Lesson 5.3 · Sampling: from logits to the next token

Needs tensor. Used by story_score, scripts/generate.py, scripts/train_gpt.py,
scripts/score_python.py.

Idea      The model gives a number for every token that could come next. Taking the largest every
          time is safe and dull and soon repeats itself; drawing from the distribution as it is now
          and then picks a token from the long tail of unlikely ones, and one such token can spoil
          the rest. So the distribution is sharpened (temperature) and its tail is cut off (top-k,
          top-p) before drawing.
Math      p = softmax(z/τ)                τ < 1 sharpens, τ → 0 takes the largest                (1)
          top-k: keep the k largest      top-p: the fewest largest ones whose sum reaches p      (2)
          draw: the first i with p₀ + … + pᵢ > u, u uniform on [0, 1)                            (3)
Shapes    logits (V,) -> probabilities (V,) -> one integer; several prompts: ids (B, T), T the
          longest, zeros behind the shorter rows, lengths (B,)
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
    if top_k is None and top_p is None:
        return p
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


def generate_many(model, prompts, max_new, randoms, stop=(), progress=iter, **choice):
    """Continue several prompts at once: a list of token ids for each, what `generate` would write.

    Rows of different length stand left-aligned in one array, with zeros behind them, which a causal
    model does not see from the positions before; each row's next token is read at its own last
    position. A row that has ended leaves the batch.

    model: its next_logits(ids (B, T), lengths (B,)) -> (B, V). randoms: a numpy generator for each
    prompt, so that a text does not depend on which others are drawn with it. progress wraps the
    range of steps, as tqdm does.
    """
    if not all(len(prompt) for prompt in prompts):
        raise ValueError("nothing to continue: give at least one token in each prompt")
    context = model.config.context
    texts = [[int(i) for i in prompt] for prompt in prompts]
    active = list(range(len(texts)))
    for _ in progress(range(max_new)):
        if not active:
            break
        ids, lengths = ragged([texts[row][-context:] for row in active])               # (B, T)
        with no_grad():
            logits = model.next_logits(ids, lengths).numpy()                           # (B, V)
        going_on = []
        for row, z in zip(active, logits, strict=True):
            token = draw(z, randoms[row], **choice)
            if token not in stop:
                texts[row].append(token)
                going_on.append(row)
        active = going_on
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


def ragged(rows):
    """Rows of ids as one array (B, T), zeros behind the short ones, and their lengths (B,)."""
    lengths = np.array([len(row) for row in rows])
    ids = np.zeros((len(rows), lengths.max()), np.int32)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = row
    return ids, lengths
