"""Lesson 4.41 · MLP: a first network, which looks at the last few letters

Needs config, cross_entropy, layers, module. Used by scripts/names.py.

Idea      A table for the last three letters would have a row for each of V³ triples, most of them
          never seen. An MLP (multi-layer perceptron) needs fewer: every letter gets a few numbers
          of its own, learned like all the others. Those of the last three letters go side by side
          into a layer of units, each a weighted sum bent by tanh, and a last layer turns the units
          into a logit for every letter. Letters that behave alike get similar numbers, so what was
          learned about one triple serves others that never occurred.
          Lesson scalar had such a network already, of tanh units and 17 weights, and the same loop:
          loss, gradients, a small step. New are the letters, by way of a table, and arrays in place
          of floats, which do many of those sums in one call.
Math      e = [E[id₁] … E[idₙ]]        the last n letters, side by side                        (1)
          h = tanh(e·W₁ᵀ + b₁)         logits = h·W₂ᵀ + b₂                                     (2)
          loss = cross entropy of the logits and the letter that came                          (3)
Shapes    ids, targets (B, T) · windows (B, T, n) · e (B, T, n·E) · h (B, T, F) · logits (B, T, V)
Pitfalls  A window must end at the letter before the target: one place later and the network reads
          the answer off; its loss goes to 0 and it has learned nothing.
          At the beginning there are fewer than n letters: the gap is filled with the first id of
          the row, which is the sign that a name begins.
          Large first weights push tanh to ±1, where its slope is 0 and nothing is learned: hence
          Xavier's size in lesson init, which the layers use.
          A weight for each place: the network cannot use at place 2 what it learned at place 1, and
          n = 4 is a new network. Lesson one_block lifts both.
Cost      6·(n·E·F + F·V) floating-point operations a letter, forward and backward.
Try       build it    a second hidden layer. Does the held-out loss go down, or only that of
                      training?
          break it    build windows one letter too late: np.clip(places + 1, 0, T − 1). What loss
                      does scripts/names.py print, and what does such a model invent?
          measure it  python scripts/names.py --letters 1, 2, 3, 5: where does more context stop
                      helping? With 1 it sees what the bigram sees.
See       Bengio, Ducharme, Vincent, Jauvin 2003, "A neural probabilistic language model", eq. 1
"""

from dataclasses import dataclass

import numpy as np

from tinygrad_edu.nn.config import option
from tinygrad_edu.nn.layers import Embedding, Linear
from tinygrad_edu.nn.module import Module
from tinygrad_edu.ops.cross_entropy import cross_entropy


@dataclass
class MLPConfig:
    """The numbers that make the network."""

    vocabulary: int = option(help="letters, V", low=1)
    context: int = option(3, "letters that it looks at, n", low=1)
    width: int = option(16, "numbers that a letter gets, E", low=1)
    hidden: int = option(128, "tanh units, F", low=1)


class LetterMLP(Module):
    """Embedding, hidden layer, logits: (1) to (3).

    random: the numpy generator that draws the first weights. dtype: float32, or float64 to check
    gradients.
    """

    def __init__(self, config, random, dtype=np.float32):
        self.config = config
        inputs = config.context * config.width
        self.letters = Embedding(config.vocabulary, config.width, random, std=1.0, dtype=dtype)
        self.hidden = Linear(inputs, config.hidden, random, dtype=dtype)
        self.head = Linear(config.hidden, config.vocabulary, random, dtype=dtype)

    def forward(self, ids):
        """ids (B, T) -> logits (B, T, V)."""
        B, T = ids.shape
        e = self.letters(windows(ids, self.config.context))     # (B, T, n, E)
        e = e.reshape(B, T, -1)                                 # (B, T, n·E)                    (1)
        return self.head(self.hidden(e).tanh())                 # (B, T, V)                      (2)

    def next_logits(self, ids):
        """ids (B, T) -> logits of the letter that follows, (B, V)."""
        return self(ids)[:, -1]

    def loss(self, ids, targets, reduction="mean"):
        """Cross entropy in nats of targets (B, T), −1 where none counts: (3)."""
        return cross_entropy(self(ids), targets, reduction=reduction)


def windows(ids, n):
    """The last n ids at every place, (B, T) -> (B, T, n); before the beginning stands ids[:, 0]."""
    T = ids.shape[1]
    places = np.arange(T)[:, None] + np.arange(1 - n, 1)        # (T, n): t − n + 1 … t
    return ids[:, np.maximum(places, 0)]
