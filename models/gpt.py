"""Lesson 4.43 · GPT-2: the whole model

Needs attention, cross_entropy, config, init, layers, matmul, module, tensor.
Used by run, scripts/train_gpt.py.

Idea      Every position holds a vector, the residual stream. Each block adds two things to it: what
          the position learns by looking at earlier positions (attention) and what it works out by
          itself (a small network). After the last block the vector is compared with the embedding
          of every token of the vocabulary: the better the match, the likelier the token comes next.
Math      x₀ = W_E[ids] + W_P[0 … T−1]                                                           (1)
          a = Attn(LN(x))·W_Oᵀ      x ← x + a         looking at positions 0 … t                 (2)
          m = GELU(LN(x)·W₁ᵀ)·W₂ᵀ   x ← x + m         width C → 4C → C                           (3)
          logits = LN(x)·W_Eᵀ       the embedding again: the head is tied                        (4)
Shapes    ids (B, T) integers · x (B, T, C) · qkv (B, T, 3C) · hidden (B, T, 4C) · logits (B, T, V)
Pitfalls  Each norm follows a residual sum, so a block is handed the branch that has not been added
          yet and adds it within the norm: seven operations a block on the tape instead of about
          thirty. All logits of a batch at once are V/C times the size of x: the loss takes them in
          chunks of rows. A position embedding ends at the context length: position T = context does
          not exist. The published weights of the four inner matrices are (in, out);
          `from_published` transposes them. GPT-2 also drops attention probabilities during
          training; here dropout is on x₀, a and m alone.
Cost      6·(12·L·C² + V·C) + 12·L·T·C/2 floating-point operations a token for forward and backward
          (attention to half the positions on average), nearly all of them in matrix products.
Try       build it    a block in which attention and network read the same norm (GPT-J): one sum
                      less.
          break it    leave out the scaling of the residual layers' first weights
                      (init.residual_std) at 12 layers.
          measure it  python scripts/trace_step.py: the share of matrix products, also with
                      --size small
See       Radford et al. 2019 (GPT-2) · Vaswani et al. 2017 · Press, Wolf 2017 (tied head)
"""

from dataclasses import dataclass

import numpy as np

from tinygrad_edu.nn import init
from tinygrad_edu.nn.config import option
from tinygrad_edu.nn.layers import Dropout, Embedding, LayerNorm, Linear
from tinygrad_edu.nn.module import Module
from tinygrad_edu.ops.attention import attention, attention_qkv, split_heads
from tinygrad_edu.ops.cross_entropy import linear_cross_entropy
from tinygrad_edu.ops.matmul import linear, matmul_forward
from tinygrad_edu.tensor import Tensor

SIZES = {
    "tiny": {"layers": 4, "heads": 4, "width": 192, "context": 128},
    "small": {"layers": 6, "heads": 6, "width": 384, "context": 256},
    "medium": {"layers": 8, "heads": 8, "width": 512, "context": 512},
    "gpt2": {"layers": 12, "heads": 12, "width": 768, "context": 1024},
}


@dataclass
class GPTConfig:
    """The numbers that make a GPT."""

    vocabulary: int = option(50257, "tokens in the vocabulary, V", low=1)
    context: int = option(128, "longest sequence it can read, in tokens", low=1)
    layers: int = option(4, "blocks, L", low=1)
    heads: int = option(4, "attention heads, H", low=1)
    width: int = option(192, "size of the residual stream, C; a multiple of the heads", low=1)
    dropout: float = option(0.0, "share of numbers dropped during training", low=0.0, high=0.9)

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}; "
                             "choose another --width or --heads")

    def parameter_count(self):
        """How many parameters a model of this configuration has."""
        C = self.width
        block = 12 * C * C + 13 * C                 # four matrices with offsets, two norms
        return (self.vocabulary + self.context) * C + self.layers * block + 2 * C

    def operations_per_token(self):
        """Floating-point operations of forward and backward, as in the Cost slot."""
        C, L = self.width, self.layers
        matrices = 12 * L * C * C + self.vocabulary * C
        return 6 * matrices + 6 * L * self.context * C


class Attention(Module):
    """Every position gathers from itself and the positions before it: (2) without the norm."""

    def __init__(self, config, random, dtype):
        C = config.width
        self.heads = config.heads
        std = init.residual_std(0.02, config.layers)
        self.c_attn = Linear(C, 3 * C, random, std=0.02, dtype=dtype)
        self.c_proj = Linear(C, C, random, std=std, dtype=dtype)

    def forward(self, x, cache=None, layer=0, segments=None):
        """x (B, T, C) -> (B, T, C); with a cache, x stands behind the positions it holds."""
        qkv = self.c_attn(x)                                    # (B, T, 3C)
        if cache is None:
            y = attention_qkv(qkv, self.heads, segments=segments)
        else:
            y = self._behind(qkv.data, cache, layer)
        return self.c_proj(y)

    def _behind(self, qkv, cache, layer):
        """Attention of new positions, qkv (B, T, 3C), to those in the cache and to themselves."""
        H, start = self.heads, cache.lengths
        q, k, v = split_heads(qkv, H, H, H)                     # (B, H, T, D)
        k, v = cache.append(layer, k, v)                        # (B, H, S, D)
        y = attention(*map(Tensor, (q, k, v)), start=start)
        y = y.transpose(0, 2, 1, 3)
        return y.reshape(*y.shape[:2], -1)


class MLP(Module):
    """Every position by itself: (3) without the norm."""

    def __init__(self, config, random, dtype):
        C = config.width
        std = init.residual_std(0.02, config.layers)
        self.c_fc = Linear(C, 4 * C, random, std=0.02, dtype=dtype)
        self.c_proj = Linear(4 * C, C, random, std=std, dtype=dtype)

    def forward(self, x):
        """x (B, T, C) -> (B, T, C)."""
        return self.c_proj(self.c_fc(x, activation="gelu"))     # (B, T, 4C) in between


class Block(Module):
    """Attention and network, each adding its branch to the residual stream."""

    def __init__(self, config, random, dtype):
        self.ln_1 = LayerNorm(config.width, dtype=dtype)
        self.attn = Attention(config, random, dtype)
        self.ln_2 = LayerNorm(config.width, dtype=dtype)
        self.mlp = MLP(config, random, dtype)
        self.drop = [Dropout(config.dropout), Dropout(config.dropout)]

    def forward(self, x, branch, cache=None, layer=0, segments=None):
        """The stream x and the branch still to be added to it, (B, T, C) each -> one block on.

        branch None: nothing to add (the first block). cache: a KVCache; layer: which block this is.
        segments: as in `GPT.hidden`.
        """
        if branch is None:
            y = self.ln_1(x)
        else:
            x, y = self.ln_1(x, added=branch)
        a = self.attn(y, cache, layer, segments)
        a = self.drop[0](a)
        x, y = self.ln_2(x, added=a)                                                           # (2)
        m = self.mlp(y)                                                                        # (3)
        m = self.drop[1](m)
        return x, m


class GPT(Module):
    """GPT-2. Names of the parameters are those of the published weights.

    random: the numpy generator that draws the first weights. dtype: float32, or float64 to check
    gradients.
    """

    def __init__(self, config, random, dtype=np.float32):
        self.config = config
        self.wte = Embedding(config.vocabulary, config.width, random, dtype=dtype)
        self.wpe = Embedding(config.context, config.width, random, dtype=dtype)
        self.drop = Dropout(config.dropout)
        self.h = [Block(config, random, dtype) for _ in range(config.layers)]
        self.ln_f = LayerNorm(config.width, dtype=dtype)
        self.head_product = matmul_forward         # the kernel of the head's products: lesson mixed

    def hidden(self, ids, cache=None, segments=None):
        """ids (B, T) -> the normed stream after the last block, (B, T, C).

        cache: a KVCache; then ids stand behind what it holds, and it holds them afterwards.
        segments: (B, T) integers, the same for neighbours that are of one document: each document
        is read as if it stood alone. Not together with a cache.
        """
        T, branch = ids.shape[1], None
        starts = [0] if cache is None else cache.lengths.tolist()
        first, longest = starts[0], max(starts) + T
        if self.config.context < longest:
            raise ValueError(f"a sequence of {longest} tokens does not fit this model's context "
                             f"of {self.config.context}")
        if segments is not None:
            places = places_of(segments, cache)                                       # (B, T)
            x = self.wte(ids) + self.wpe(places)                                               # (1)
        elif min(starts) == max(starts):
            places = self.wpe.weight[first:longest]                                   # (T, C)
            x = self.wte(ids, positions=places)                                                # (1)
        else:
            places = np.add.outer(starts, np.arange(T))                               # (B, T)
            x = self.wte(ids) + self.wpe(places)                                               # (1)
        x = self.drop(x)
        for layer, block in enumerate(self.h):
            x, branch = block(x, branch, cache, layer, segments)
        if cache is not None:
            cache.advance(T)
        return self.ln_f(x, added=branch)[1]

    def forward(self, ids, cache=None):
        """ids (B, T) -> logits (B, T, V): (4). For the loss alone `loss` needs far less memory."""
        return linear(self.hidden(ids, cache), self.wte.weight)

    def next_logits(self, ids, lengths=None, cache=None):
        """ids (B, T) -> logits of the token that follows, (B, V).

        lengths (B,): a row ends after so many tokens, and what stands behind them does not count.
        """
        last = last_positions(self.hidden(ids, cache), lengths, cache)
        return linear(last, self.wte.weight)

    def cache(self, batch, room):
        """What a KVCache of this model is made of: (layers, batch, groups, room, head width)."""
        L, H, C = self.config.layers, self.config.heads, self.config.width
        return L, batch, H, room, C // H

    def loss(self, ids, targets, reduction="mean", segments=None):
        """Cross entropy in nats of targets (B, T), −1 where none counts: "mean" or "sum"."""
        x = self.hidden(ids, segments=segments)
        return linear_cross_entropy(x, self.wte.weight, targets, reduction=reduction,
                                    product=self.head_product)


def last_positions(x, lengths, cache):
    """x (B, T, C) -> its last position, or the last one of each row's length (B,): (B, C).

    What stands behind a row's length is padding, and the cache is told that it does not count.
    """
    if lengths is None:
        return x[:, -1]
    B, T, _ = x.shape
    lengths = np.asarray(lengths)
    if cache is not None:
        cache.advance(lengths - T)
    return x[np.arange(B), lengths - 1]


def places_of(segments, cache=None):
    """(B, T): where every token stands in its document, from 0, as `segments` (B, T) tell them."""
    if cache is not None:
        raise ValueError("segments part documents that are read at once, without a cache")
    segments = np.asarray(segments)
    _, T = segments.shape
    places = np.arange(T)
    begins = np.ones(segments.shape, bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    first = np.where(begins, places, 0)
    return places - np.maximum.accumulate(first, axis=1)


INNER = "c_attn.weight", "c_proj.weight", "c_fc.weight"  # (in, out) where they are published
DROPPED = ".attn.bias", ".attn.masked_bias", "lm_head.weight"


def from_published(arrays):
    """Weights of a published GPT-2, name -> array, with the names and the layout of this file.

    Drops the prefix `transformer.`, the stored causal masks and the tied head, and transposes the
    inner matrices.
    """
    state = {}
    for published, array in arrays.items():
        name = published.removeprefix("transformer.")
        if name.endswith(INNER):
            state[name] = np.ascontiguousarray(array.T)
        elif not name.endswith(DROPPED):
            state[name] = array
    return state
