"""Lesson 4.40 · Bigram: the next letter by counting, and the same by gradient descent

Needs cross_entropy, embedding, init, memory, module. Used by scripts/names.py.

Idea      The smallest language model looks at one letter and says which comes next. It can be had
          in two ways. Count how often each letter followed each other letter in the training text,
          and divide: that is all. Or start from a table of zeros, ask how surprised it is at the
          text, and follow the gradient: the answer is the same table. So training is nothing
          mysterious: where an exact minimum can be written down, gradient descent walks to it, and
          the same walk goes on working for networks whose minimum nobody can write down.
Math      p(b | a) = c(a, b) / Σ_b′ c(a, b′)        c: how often b came after a                (1)
          logits of the letter after a = row a of a table z      p(b | a) = softmax(z[a])_b    (2)
          ℓ(z) = −1/N · Σ c(a, b)·ln p(b | a)       N: all pairs of the text                   (3)
          ∂ℓ/∂z[a]_b = c(a)/N · (softmax(z[a])_b − c(a, b)/c(a))      c(a) = Σ_b c(a, b):
          0, and ℓ smallest, exactly where (2) equals (1)
          smoothed: c + k in place of c, so that a pair never seen is not thought impossible   (4)
Shapes    ids, targets (B, T) integers · z (V, V): a row for each letter, logits (B, T, V)
Pitfalls  Without (4) one new pair in the held-out text has p = 0, and the loss is infinite.
          Gradient descent from zeros never reaches such a 0 either: stopping early also smooths.
          A row of z may be shifted by any number: compare probabilities, never the tables.
Cost      Counting reads the text once. The table has V² numbers; of letters, with a memory of n of
          them instead of one, it would have Vⁿ⁺¹: counting ends there, and networks begin.
Try       build it    a trigram: a table (V·V, V), indexed by both letters before.
          break it    let by_counting divide by counts.sum(). Which test notices, and why does
                      scripts/names.py not? (See the last pitfall.)
          measure it  python scripts/names.py: both ways beside each other, on held-out names
See       Markov 1913 (letters of a novel, counted in pairs) · Shannon 1951 · Jurafsky, Martin,
          Speech and Language Processing, ch. 3 (smoothing)
"""

from types import SimpleNamespace

import numpy as np

from tinygrad_edu.memory import zeros
from tinygrad_edu.nn import init
from tinygrad_edu.nn.module import Module
from tinygrad_edu.ops.cross_entropy import cross_entropy
from tinygrad_edu.ops.embedding import embedding


class Bigram(Module):
    """A table of logits: row a is for the letter that follows a, (2). Zeros: all equally likely."""

    def __init__(self, vocabulary, dtype=np.float32):
        self.config = SimpleNamespace(context=1)   # how far back it looks
        self.table = init.constant((vocabulary, vocabulary), 0, dtype)

    def forward(self, ids):
        """ids (B, T) -> logits (B, T, V): an embedding whose rows are the answer already."""
        return embedding(ids, self.table)                                                      # (2)

    def next_logits(self, ids):
        """ids (B, T) -> logits of the letter that follows, (B, V)."""
        return self(ids[:, -1])

    def loss(self, ids, targets, reduction="mean"):
        """Cross entropy in nats of targets (B, T), −1 where none counts: (3)."""
        return cross_entropy(self(ids), targets, reduction=reduction)


def count_pairs(ids, targets, vocabulary):
    """c(a, b), (V, V): how often target b stood at input a. Targets of −1 are not counted."""
    counted = targets >= 0
    pairs = zeros((vocabulary, vocabulary), np.float64)
    np.add.at(pairs, (ids[counted], targets[counted]), 1)
    return pairs


def by_counting(pairs, smoothing=1.0, dtype=np.float32):
    """The Bigram of these counts c(a, b), (V, V): (4), then (1). ValueError for smoothing ≤ 0."""
    if smoothing <= 0:
        raise ValueError("a pair that never came would be impossible, and its loss infinite: "
                         "smoothing must be above 0")
    counts = pairs + smoothing                                                                 # (4)
    model = Bigram(len(pairs), dtype)
    model.table.assign(np.log(counts / counts.sum(axis=1, keepdims=True)).astype(dtype))       # (1)
    return model
