"""Lesson 8.0 · n-gram models: how far counting gets

Needs sources. Used by scripts/score_python.py.

Idea      Before a neural network may boast, something simpler has to lose against it. An n-gram
          model looks at the last n − 1 tokens and asks what followed them in the training text.
          The art is in what to do with things never seen: take a little from every count (the
          discount) and hand it to the model that looks one token less far back. Kneser and Ney's
          insight: that shorter model should not count how often a token occurs but after how many
          different tokens. "Francisco" is frequent, yet it follows little else than "San". With
          a discount each for counts of 1, 2 and more, it is the best of the counting models that
          Chen and Goodman compared.
Math      p₀(w) = 1/V        c(h·) = Σ_w c(hw)        h′ = h without its first token
          pₖ(w|h) = (c(hw) − D(c(hw))) / c(h·) + γ(h)·pₖ₋₁(w|h′),   |h| = k − 1                (1)
          γ(h) = Σ_w D(c(hw)) / c(h·), and γ(h) = 1 where h was never followed: Σ_w pₖ = 1     (2)
          k = n: c counts occurrences.   k < n: c(g) = |{v : vg occurs}|, g's different pasts  (3)
          Y = n₁/(n₁ + 2n₂)   Dᵢ = i − (i + 1)·Y·nᵢ₊₁/nᵢ for i = 1, 2, 3;  D(c) = D_min(c, 3)  (4)
          nᵢ: how many k-grams have the count i; each order k has its own discounts; D₀ = 0.
Shapes    tokens (N,) · level k: keys (Mₖ,) sorted, a different k-gram each: key = id(h)·V + w,
          where id(h) is the place of h among the keys of level k − 1; so a key needs no more than
          64 bits for any n. share (Mₖ,) is the first term of (1), rest (Mₖ₋₁,) is γ.
Pitfalls  A small text has no k-grams with some count, or (4) leaves [0, i]: then D = ½, 1, 1½.
          Comparing it with a model that saw other tokens: give both the same tokenizer, the same
          text and the same held-out part, and let both look across document borders or neither.
          k-grams that occur only at the very beginning of the text have no past: c = 0 in (3).
Cost      One sort of N numbers per order. A key, a share and a rest stay per different k-gram: a
          long k-gram is often new, so memory grows with the text. A drawn token costs 2n searches.
Try       build it    write simple linear interpolation with fixed weights. What loss does it lose?
          break it    use occurrences in (3) at every order. Which test of tests/eval/test_ngram.py
                      notices?
          measure it  python -m tinygrad_edu.eval.ngram: bits per byte for n = 1 … 6 on the bytes of
                      the standard library. Where does a longer context stop paying?
See       Kneser, Ney 1995 · Chen, Goodman 1999 (modified Kneser-Ney) · Heafield et al. 2013 (the
          discounts ½, 1, 1½ are the default of their program's --discount_fallback)
"""

import math
from dataclasses import dataclass

import numpy as np

from tinygrad_edu.data.sources import read_corpus

FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])  # discounts where (4) has no answer


@dataclass(frozen=True)
class Level:
    """All k-grams of one order k; see Shapes."""

    keys: np.ndarray
    share: np.ndarray
    rest: np.ndarray


class NGram:
    """Interpolated modified Kneser-Ney model of order `n` over ids 0 … vocabulary − 1.

    tokens: the training text, (N,) integers. Raises ValueError where the text is shorter than n or
    an id lies outside the vocabulary.
    """

    def __init__(self, tokens, n, vocabulary):
        self.n = n
        self.vocabulary = vocabulary
        tokens = self.checked(tokens)
        if not 1 <= n <= len(tokens):
            raise ValueError(f"a {n}-gram model needs n ≥ 1 and a text of n tokens or more")
        self.levels = []
        ids = np.zeros(len(tokens), np.int64)  # the empty 0-gram, everywhere the same
        earlier = None
        for k in range(1, n + 1):
            contexts = self.contexts(ids, k)[k - 1 :]
            packed = contexts * vocabulary + tokens[k - 1 :]
            keys, first, inverse, counts = np.unique(
                packed, return_index=True, return_inverse=True, return_counts=True
            )
            if earlier:
                pasts = np.bincount(ids[first + k - 1], minlength=len(earlier[0]))  # (3)
                self.add_level(earlier[0], pasts)
            earlier = keys, counts
            ids = np.concatenate([np.full(k - 1, -1), inverse])
        self.add_level(*earlier)

    def checked(self, tokens):
        """The tokens as int64, refused where an id lies outside the vocabulary."""
        tokens = np.asarray(tokens, np.int64)
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < self.vocabulary:
            raise ValueError(f"a token lies outside 0 … {self.vocabulary - 1}: wrong tokenizer")
        return tokens

    def contexts(self, ids, k):
        """For each position the id of the k − 1 tokens before it, from the ids of level k − 1."""
        before = 0 if k == 1 else -1  # before the text there is only the empty context
        return np.concatenate([[before], ids[:-1]])

    def add_level(self, keys, counts):
        """Discount the counts of one order: (1), (2) and (4)."""
        contexts = keys // self.vocabulary
        size = len(self.levels[-1].keys) if self.levels else 1
        taken = discounts(counts)[np.minimum(counts, 3)]
        total = np.bincount(contexts, counts, size)
        rest = np.ones(size)
        np.divide(np.bincount(contexts, taken, size), total, rest, where=total > 0)
        share = (counts - taken) / np.maximum(total, 1)[contexts]
        self.levels.append(Level(keys, share, rest))

    def find(self, level, contexts, tokens):
        """The ids of the k-grams (context, token) at a level, −1 for those never seen."""
        packed = contexts * self.vocabulary + tokens  # negative, so not a key, where context = −1
        place = np.searchsorted(level.keys, packed)
        place = np.minimum(place, len(level.keys) - 1)
        return np.where(level.keys[place] == packed, place, -1)

    def log_probabilities(self, tokens):
        """ln p(tokens[i] | the tokens before it) for i = 1 … N − 1, in nats: (N − 1,) float64."""
        tokens = self.checked(tokens)
        ids = np.zeros(len(tokens), np.int64)
        p = np.full(len(tokens), 1 / self.vocabulary)
        for k, level in enumerate(self.levels, start=1):
            contexts = self.contexts(ids, k)
            ids = self.find(level, contexts, tokens)
            p *= np.where(contexts >= 0, level.rest[contexts], 1)
            p += np.where(ids >= 0, level.share[ids], 0)  # (1)
        return np.log(p[1:])

    def loss(self, tokens):
        """Mean loss in nats per token over the same N − 1 targets that a GPT's evaluation counts.

        Raises ValueError where there is no target (fewer than two tokens).
        """
        if len(tokens) < 2:
            raise ValueError("a loss needs two tokens or more: give a longer text")
        return float(-self.log_probabilities(tokens).mean())

    def distribution(self, context):
        """p(w | context) for every token w: (V,) float64; only the last n − 1 tokens matter."""
        context = self.checked(context[max(len(context) - self.n + 1, 0) :])
        ids = np.zeros(len(context), np.int64)
        p = np.full(self.vocabulary, 1 / self.vocabulary)
        h = 0
        for k, level in enumerate(self.levels, start=1):
            bounds = np.array([h, h + 1]) * self.vocabulary
            start, stop = np.searchsorted(level.keys, bounds)
            p *= level.rest[h]
            p[level.keys[start:stop] - bounds[0]] += level.share[start:stop]  # (1)
            if k > len(context):
                break
            ids = self.find(level, self.contexts(ids, k), context)
            h = ids[-1]
            if h < 0:
                break  # an unseen context is unseen in every longer one
        return p

    def sample(self, prompt, count, generator, temperature=1.0):
        """Yield `count` tokens that continue `prompt`, drawn from p^(1/temperature); 0 is greedy.

        `generator` is a numpy Generator. A caller may stop early.
        """
        tokens = [int(token) for token in prompt]
        for _ in range(count):
            p = self.distribution(tokens)
            if temperature == 0:
                token = int(p.argmax())
            else:
                sums = np.cumsum((p / p.max()) ** (1 / temperature))
                token = int(np.searchsorted(sums, generator.random() * sums[-1], side="right"))
            tokens.append(token)
            yield token


def discounts(counts):
    """D(0) … D(3) of equation (4) for the counts of one order: (4,) float64."""
    n = [np.count_nonzero(counts == i) for i in range(5)]
    if min(n[1:4]) == 0:
        return FALLBACK
    y = n[1] / (n[1] + 2 * n[2])
    d = np.array([0.0] + [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)])
    return d if np.all((d >= 0) & (d <= [0, 1, 2, 3])) else FALLBACK


if __name__ == "__main__":
    corpus = read_corpus()
    print(corpus.statistics())
    train, held_out = (
        np.frombuffer(b"".join(text for _, text in part), np.uint8)
        for part in (corpus.train, corpus.held_out)
    )
    for n in range(1, 7):
        model = NGram(train, n, 256)
        bits = model.loss(held_out) / math.log(2)
        print(f"n={n} bits_per_byte={bits:.3f} different={len(model.levels[-1].keys)}")
