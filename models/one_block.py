"""Lesson 4.42 · One block: attention in plain tensor operations

Needs config, cross_entropy, layers, module, shape, softmax. Used by scripts/names.py.

Idea      Lesson mlp looks at the last three letters, each with weights of its own for its place.
          Attention looks at all letters so far and decides from what they are how much each one
          counts. Every letter makes three small vectors: a query (what am I looking for?), a key
          (what am I?) and a value (what have I to say?). A query is compared with the keys up to
          its own place, softmax turns the scores into shares, and the letter receives the values
          mixed in these shares. Then the network of lesson mlp works on what was gathered.
          Here it is written with the operations of Tensor alone, six lines, so that each step can
          be printed. Lesson attention does the same in one pass over memory, with the gradient by
          hand; lesson gpt stacks such blocks. A norm brings every vector to the same size before it
          is read (lesson norm); otherwise the largest would decide alone.
Math      x = E[ids] + P[0 … T−1]           who I am, and where                                (1)
          q, k, v = n·W_qᵀ, n·W_kᵀ, n·W_vᵀ  n = LN(x), cut into H heads of D numbers           (2)
          a = softmax(q·kᵀ/√D + mask)       mask: 0 for keys up to the query's place, else −∞  (3)
          x ← x + (a·v)·W_oᵀ                what was gathered is added, heads side by side     (4)
          x ← x + tanh(LN(x)·W₁ᵀ + b₁)·W₂ᵀ + b₂      each place by itself                      (5)
          logits = LN(x)·Uᵀ + u             U: a row for every letter                          (6)
Shapes    ids, targets (B, T) · x (B, T, C) · q, k, v (B, H, T, D), C = H·D · a (B, H, T, T) ·
          logits (B, T, V)
Pitfalls  Without the mask every place sees the letter it is to guess.
          Without P in (1) attention knows which letters came before, but not in which order.
          A sum of D products is about √D large. Without 1/√D the scores of wide heads are so large
          that softmax picks one key, and the gradient dies.
          a holds T² numbers a head, which the tape keeps: fine for names, not for books.
Cost      As a block of lesson gpt with a hidden layer of F: 6·(4·C² + 2·C·F) + 12·T·C operations a
          letter. But every operation of (3) and (4) writes an array that the next one reads again.
Try       build it    return a beside y, and print for one name which letter looked at which.
          break it    leave the mask out. Which test notices, and what loss does training reach?
          measure it  TG_TRACE=1 python scripts/names.py --steps 20: which kernels does (3) call?
See       Bahdanau, Cho, Bengio 2015 (attention) · Vaswani et al. 2017, section 3.2
"""

from dataclasses import dataclass

import numpy as np

from tinygrad_edu.nn.config import option
from tinygrad_edu.nn.layers import Embedding, LayerNorm, Linear
from tinygrad_edu.nn.module import Module
from tinygrad_edu.ops.cross_entropy import cross_entropy
from tinygrad_edu.ops.shape import transpose
from tinygrad_edu.ops.softmax import softmax


@dataclass
class OneBlockConfig:
    """The numbers that make the block."""

    vocabulary: int = option(help="letters, V", low=1)
    context: int = option(32, "longest text that it can read, in letters", low=1)
    heads: int = option(4, "attention heads, H", low=1)
    width: int = option(64, "size of the vector at each place, C; a multiple of heads", low=1)
    hidden: int = option(128, "tanh units, F", low=1)

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}; "
                             "choose another width or number of heads")


class OneBlock(Module):
    """Embedding, attention, network, logits: (1) to (6).

    random: the numpy generator that draws the first weights. dtype: float32, or float64 to check
    gradients.
    """

    def __init__(self, config, random, dtype=np.float32):
        self.config = config
        C, F = config.width, config.hidden
        self.letters = Embedding(config.vocabulary, C, random, dtype=dtype)
        self.places = Embedding(config.context, C, random, dtype=dtype)
        self.query, self.key, self.value, self.out = (
            Linear(C, C, random, bias=False, dtype=dtype) for _ in range(4))
        self.hidden = Linear(C, F, random, dtype=dtype)
        self.back = Linear(F, C, random, dtype=dtype)
        self.norms = [LayerNorm(C, dtype=dtype) for _ in range(3)]
        self.head = Linear(C, config.vocabulary, random, dtype=dtype)

    def attend(self, x):
        """What each place gathers from itself and the places before it: x (B, T, C) -> the same."""
        B, T, C = x.shape
        q, k, v = (self.heads_of(part(x)) for part in (self.query, self.key, self.value))      # (2)
        mask = np.triu(np.full((T, T), -np.inf, x.dtype), k=1)  # (T, T)
        scores = (q @ k.swapaxes(-1, -2)) * q.shape[-1] ** -0.5  # (B, H, T, T)
        y = softmax(scores + mask) @ v                          # (B, H, T, D)                   (3)
        return self.out(transpose(y, 0, 2, 1, 3).reshape(B, T, C))                             # (4)

    def heads_of(self, x):
        """(B, T, C) -> (B, H, T, D): the numbers of each head by themselves."""
        B, T, C = x.shape
        return transpose(x.reshape(B, T, self.config.heads, -1), 0, 2, 1, 3)

    def forward(self, ids):
        """ids (B, T) -> logits (B, T, V). ValueError where T is more than the context."""
        T = ids.shape[1]
        if self.config.context < T:
            raise ValueError(f"{T} letters do not fit this model's context of "
                             f"{self.config.context}")
        x = self.letters(ids, positions=self.places.weight[:T])  # (B, T, C)                     (1)
        x = x + self.attend(self.norms[0](x))                                                  # (4)
        x = x + self.back(self.hidden(self.norms[1](x)).tanh())                                # (5)
        return self.head(self.norms[2](x))                                                     # (6)

    def next_logits(self, ids):
        """ids (B, T) -> logits of the letter that follows, (B, V)."""
        return self(ids)[:, -1]

    def loss(self, ids, targets, reduction="mean"):
        """Cross entropy in nats of targets (B, T), −1 where none counts."""
        return cross_entropy(self(ids), targets, reduction=reduction)
