"""Lesson 4.45 · BERT: an encoder, which reads in both directions

Needs activation, attention, config, cross_entropy, layers, module, tensor.
Used by embedder.

Idea      A model that writes may not look ahead. One that only has to understand a text may: every
          position asks all others, before and behind it. It learns by filling gaps: some tokens are
          hidden, and it says what stood there. What comes out is a vector for every position that
          knows its surroundings. Their mean, brought to length 1, is an embedding of the sentence:
          sentences of like meaning have vectors that point the same way, if a model was trained for
          that. So one can search by meaning.
Math      x₀ = LN(W_E[ids] + W_P[0 … T−1] + W_S[kind])                                           (1)
          x ← LN(x + Attn(x)·W_O)       all positions, those of the row's length               (2)
          x ← LN(x + GELU(x·W₁)·W₂)     with the exact GELU, by erf                            (3)
          e = Σₜ xₜ / T,  e ← e/|e|     of a row's own T positions                             (4)
Shapes    ids (B, T) · lengths (B,) · kinds (B, T): 0 for a first text, 1 for a second · x (B, T, C)
          · embeddings (B, C)
Pitfalls  The norm stands behind each sum, where lesson gpt has it before each branch: nothing goes
          past a norm, and deep ones of this kind need a slow start of the learning rate.
          What pads a short row must neither be seen (2) nor be counted in the mean (4).
          GELU by erf, not by tanh, and 1e-12 in the norms: all three differ from lesson gpt.
          The text is one of [CLS] … [SEP]: the tokenizer puts these around it.
Cost      One pass for a text, whatever its length: no token waits for another one.
Try       build it    the first position, [CLS], in place of the mean.
          break it    leave `length` out of (2). Which test notices?
          measure it  python scripts/embed.py MODEL --text "a question" --notes FOLDER
See       Devlin et al. 2019 · Reimers, Gurevych 2019 (sentences) · Wang et al. 2020 (MiniLM)
"""

from dataclasses import dataclass

import numpy as np

from tinygrad_edu.nn.config import option
from tinygrad_edu.nn.layers import Embedding, LayerNorm, Linear
from tinygrad_edu.nn.module import Module
from tinygrad_edu.ops.activation import gelu
from tinygrad_edu.ops.attention import attention
from tinygrad_edu.ops.cross_entropy import linear_cross_entropy
from tinygrad_edu.tensor import no_grad


@dataclass
class BertConfig:
    """The numbers that make a BERT."""

    vocabulary: int = option(30522, "tokens in the vocabulary, V", low=1)
    context: int = option(512, "longest sequence it can read, in tokens", low=1)
    layers: int = option(6, "blocks, L", low=1)
    heads: int = option(12, "attention heads, H", low=1)
    width: int = option(384, "size of the stream, C; a multiple of the heads", low=1)
    hidden: int = option(1536, "units of the network in a block, F", low=1)
    kinds: int = option(2, "kinds of text in a row", low=1)
    eps: float = option(1e-12, "added to the variance in the norms", low=0.0)

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")

    def parameter_count(self):
        """How many parameters a model of this configuration has."""
        C, F = self.width, self.hidden
        norm = 2 * C
        rows = self.vocabulary + self.context + self.kinds
        block = 4 * (C + 1) * C + norm
        block += (C + 1) * F
        block += (F + 1) * C + norm
        return rows * C + norm + self.layers * block


class Block(Module):
    """Attention and network, each followed by a norm of the sum."""

    def __init__(self, config, random, dtype):
        C, F = config.width, config.hidden
        rest = random, True, 0.02, dtype           # with offsets; the size of the first weights
        norm = C, config.eps, dtype
        self.query = Linear(C, C, *rest)
        self.key = Linear(C, C, *rest)
        self.value = Linear(C, C, *rest)
        self.output = Linear(C, C, *rest)
        self.norm_1 = LayerNorm(*norm)
        self.wide = Linear(C, F, *rest)
        self.narrow = Linear(F, C, *rest)
        self.norm_2 = LayerNorm(*norm)
        self.heads = config.heads

    def forward(self, x, lengths):
        """x (B, T, C) -> (B, T, C)."""
        q = self._heads(self.query(x))                                    # (B, H, T, D)
        k = self._heads(self.key(x))
        v = self._heads(self.value(x))
        y = attention(q, k, v, causal=False, length=lengths)
        y = y.transpose(0, 2, 1, 3)
        a = self.output(y.reshape(*x.shape))
        x = self.norm_1(x, added=a)[1]                                                         # (2)
        h = self.wide(x)
        m = self.narrow(gelu(h, "erf"))
        return self.norm_2(x, added=m)[1]                                                      # (3)

    def _heads(self, x):
        """(B, T, C) -> (B, H, T, D)."""
        B, T, _ = x.shape
        x = x.reshape(B, T, self.heads, -1)
        return x.transpose(0, 2, 1, 3)


class Bert(Module):
    """The encoder. `from_published` of lesson embedder knows the names of published weights."""

    def __init__(self, config, random, dtype=np.float32):
        self.config = config
        C, rest = config.width, (random, 0.02, dtype)
        self.words = Embedding(config.vocabulary, C, *rest)
        self.places = Embedding(config.context, C, *rest)
        self.kinds = Embedding(config.kinds, C, *rest)
        self.norm = LayerNorm(C, config.eps, dtype)
        block = config, random, dtype
        self.blocks = [Block(*block) for _ in range(config.layers)]

    def forward(self, ids, lengths=None, kinds=None):
        """ids (B, T) -> x (B, T, C); what stands behind a row's length is undefined."""
        B, T = ids.shape
        if self.config.context < T:
            raise ValueError(f"a sequence of {T} tokens does not fit this model's context of "
                             f"{self.config.context}")
        if kinds is None:
            kinds = np.zeros_like(ids)
        if lengths is None:
            lengths = np.full(B, T)
        lengths = np.asarray(lengths)
        places = self.places.weight[:T]
        x = self.words(ids, positions=places)
        x = x + self.kinds(kinds)
        x = self.norm(x)                                                                       # (1)
        for block in self.blocks:
            x = block(x, lengths)
        return x

    def embed(self, ids, lengths=None):
        """ids (B, T) -> one vector of length 1 for each row, (B, C): (4). A NumPy array."""
        B, T = ids.shape
        if lengths is None:
            lengths = np.full(B, T)
        with no_grad():
            x = self.forward(ids, lengths)
        x = x.numpy()
        found = np.empty_like(x[:, 0])
        for row, T in enumerate(lengths):
            mean = x[row, :T].mean(axis=0)
            found[row] = mean / np.linalg.norm(mean)                                           # (4)
        return found

    def loss(self, ids, targets, lengths=None, reduction="mean"):
        """Cross entropy in nats of what stood in the gaps: targets (B, T), −1 where no gap is.

        The head is the embedding of words; published models have one more layer before it.
        """
        x = self.forward(ids, lengths)
        return linear_cross_entropy(x, self.words.weight, targets, reduction=reduction)
