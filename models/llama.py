"""Lesson 4.44 · Llama, and the models that are Llama by other settings

Needs attention, config, cross_entropy, gpt, layers, matmul, memory, module, rope, rope_scaling,
swiglu, tensor.
Used by published, gguf_model.

Idea      Most open language models of today are GPT-2 with five parts changed, each for a reason.
          RMSNorm for LayerNorm: the mean need not be taken away, and there is one weight instead of
          two. Rotary positions for a table of them: what counts is how far apart two tokens are,
          and there is no last row of a table. SwiGLU for GELU: one projection opens and closes the
          other, which learns better for the same work. Fewer heads for keys and values than for
          queries: the cache is smaller by that factor. No offsets in linear layers: they did
          nothing. Llama, Mistral, Qwen, SmolLM and TinyLlama differ in the numbers below.
Math      x₀ = W_E[ids]                                                                         (1)
          q, k, v = W·RMS(x)        q, k ← rope(norm?(q), norm?(k)) at their positions          (2)
          a = softmax(q·kᵀ/√D)·v    x ← x + W_O·a             H query heads share G of k, v     (3)
          m = W_d·(silu(W_g·n) · W_u·n),  n = RMS(x)          x ← x + m         width C → F → C (4)
          logits = W_H·RMS(x)       W_H = W_E where the head is tied                            (5)
Shapes    ids (B, T) · x (B, T, C) · q (B, H, T, D) · k, v (B, G, S, D) · logits (B, T, V)
Pitfalls  The rotary pairs are halves of a head here, as in the safetensors files; a GGUF file has
          the rows of W_q and W_k in another order (lesson gguf_model). The wrong one still answers
          in sentences: only numbers tell.
          H·D need not be C (Qwen3), and a model may have offsets for q, k, v alone (Qwen2), norms
          on q and k (Qwen3), or a window (Mistral): query t sees keys t − w + 1 … t.
          The epsilon of the norms differs between families: 1e-5, 1e-6.
Cost      A token: 2·(parameters without the embedding) operations, and every weight read once: so
          writing text one token at a time is bound by memory, reading a prompt by arithmetic.
Try       build it    q, k and v in one linear layer: one product instead of three.
          break it    layout="neighbours" in (2). What does a real model's perplexity say?
          measure it  python scripts/perplexity.py MODEL --text FILE
See       Touvron et al. 2023 · Shazeer 2020 (GLU variants) · Ainslie et al. 2023 (grouped heads) ·
          Jiang et al. 2023 (Mistral, window) · Yang et al. 2024, 2025 (Qwen2, Qwen3)
"""

from dataclasses import dataclass, field

import numpy as np

from tinygrad_edu.memory import beside
from tinygrad_edu.models.gpt import last_positions, places_of
from tinygrad_edu.nn.config import option
from tinygrad_edu.nn.layers import Embedding, Linear, RMSNorm
from tinygrad_edu.nn.module import Module
from tinygrad_edu.ops.attention import attention
from tinygrad_edu.ops.cross_entropy import linear_cross_entropy
from tinygrad_edu.ops.matmul import linear
from tinygrad_edu.ops.rope import rope, rope_tables
from tinygrad_edu.ops.rope_scaling import stretched_frequencies
from tinygrad_edu.ops.swiglu import swiglu
from tinygrad_edu.tensor import Tensor


@dataclass
class LlamaConfig:
    """The numbers that make a Llama, or one of its relatives.

    Its hidden F is free, where lesson gpt has 4·C: three matrices of 8/3·C hold as many numbers as
    two of 4·C. stretch: the settings of lesson rope_scaling.
    """

    vocabulary: int = option(32000, "tokens in the vocabulary, V", low=1)
    context: int = option(2048, "longest sequence it can read, in tokens", low=1)
    layers: int = option(4, "blocks, L", low=1)
    heads: int = option(4, "query heads, H", low=1)
    groups: int = option(4, "heads of keys and values, G; the query heads are a multiple", low=1)
    width: int = option(256, "size of the residual stream, C", low=1)
    hidden: int = option(688, "units of the network in a block, F", low=1)
    head_width: int | None = option(None, "numbers of a head, D; width / heads by default", low=2)
    eps: float = option(1e-5, "added to the mean square in the norms", low=0.0)
    base: float = option(10000.0, "of the rotary frequencies", low=1.0)
    stretch: dict = field(default_factory=lambda: {"kind": "default"})
    tied: bool = option(True, "the head is the embedding")
    offsets: bool = option(False, "q, k and v have offsets (Qwen2)")
    head_norms: bool = option(False, "q and k are normed, head by head (Qwen3)")
    window: int | None = option(None, "keys that a query sees at most (Mistral)", low=1)

    def __post_init__(self):
        if self.head_width is None:
            self.head_width = self.width // self.heads
        if self.head_width % 2:
            raise ValueError(f"heads of {self.head_width} numbers cannot be turned in pairs")
        if self.heads % self.groups:
            raise ValueError(f"{self.heads} query heads cannot share {self.groups} of keys and "
                             "values: the one has to be a multiple of the other")

    def parameter_count(self):
        """How many parameters a model of this configuration has."""
        C, D = self.width, self.head_width
        q, kv = self.heads * D, self.groups * D
        block = 2 * C * (q + kv) + 2 * C
        block += 3 * C * self.hidden
        if self.offsets:
            block += q + 2 * kv
        if self.head_norms:
            block += 2 * D
        outside = self.vocabulary * C
        if not self.tied:
            outside *= 2
        return outside + self.layers * block + C


class Attention(Module):
    """Every position gathers from itself and the positions before it: (2) and (3)."""

    def __init__(self, config, random, dtype):
        C, D = config.width, config.head_width
        # Lesson gpt has one matrix C → 3C for all three. Here k and v may be narrower than q, and
        # only some families have offsets.
        q, kv = config.heads * D, config.groups * D
        some, std = config.offsets, 0.02
        self.q_proj = Linear(C, q, random, some, std, dtype)
        self.k_proj = Linear(C, kv, random, some, std, dtype)
        self.v_proj = Linear(C, kv, random, some, std, dtype)
        self.o_proj = Linear(q, C, random, False, std, dtype)
        self.q_norm = self.k_norm = None
        if config.head_norms:
            self.q_norm = RMSNorm(D, config.eps, dtype)
            self.k_norm = RMSNorm(D, config.eps, dtype)
        self.width = D
        self.window = config.window

    def forward(self, x, tables, start, cache=None, layer=0, documents=(None, None)):
        """x (B, T, C) at positions start (B,) and on -> (B, T, C).

        documents: (segments, places), (B, T) each, where a row holds several.
        """
        B, T, _ = x.shape
        q = self._heads(self.q_proj(x), self.q_norm)                              # (B, H, T, D)
        k = self._heads(self.k_proj(x), self.k_norm)                              # (B, G, T, D)
        v = self._heads(self.v_proj(x))
        # Lesson gpt adds positions to x₀, once; here every block turns q and k by them.
        segments, places = documents
        q = rope(q, *tables, start=start, positions=places)                                    # (2)
        k = rope(k, *tables, start=start, positions=places)
        if cache is not None:
            kept = cache.append(layer, k.data, v.data)
            k, v = map(Tensor, kept)                                              # (B, G, S, D)
            start = cache.starts                   # among these keys
        S = k.shape[2]
        mask = self._window_mask(start, T, S, x.dtype)
        y = attention(q, k, v, start=start, mask=mask, segments=segments)                      # (3)
        y = y.transpose(0, 2, 1, 3)
        return self.o_proj(y.reshape(B, T, -1))

    def _heads(self, x, norm=None):
        """(B, T, heads·D) -> (B, heads, T, D), each head normed where the model does that."""
        B, T, _ = x.shape
        x = x.reshape(B, T, -1, self.width)
        if norm is not None:
            x = norm(x)
        return x.transpose(0, 2, 1, 3)

    def _window_mask(self, start, T, S, dtype):
        """−∞ for the keys that lie before a query's window, (B, 1, T, S); None for none."""
        if self.window is None or self.window >= S:
            return None
        queries = np.add.outer(start, np.arange(T))                               # (B, T)
        oldest = queries - self.window + 1
        hidden = np.arange(S) < oldest[..., None]                                 # (B, T, S)
        mask = np.where(hidden, -np.inf, 0)
        return mask.astype(dtype)[:, None]


class MLP(Module):
    """Every position by itself: (4)."""

    def __init__(self, config, random, dtype):
        C, F = config.width, config.hidden
        rest = random, False, 0.02, dtype          # no offsets, and the size of the first weights
        self.gate_proj = Linear(C, F, *rest)
        self.up_proj = Linear(C, F, *rest)
        self.down_proj = Linear(F, C, *rest)

    def forward(self, x):
        """x (B, T, C) -> (B, T, C)."""
        # Lesson gpt has one matrix here, and GELU.
        gate, up = self.gate_proj(x), self.up_proj(x)
        return self.down_proj(swiglu(gate, up))                                                # (4)


class Block(Module):
    """Attention and network, each adding its branch to the residual stream."""

    def __init__(self, config, random, dtype):
        # RMSNorm where lesson gpt has LayerNorm. Stream and branches are the same, so is the order.
        norm = config.width, config.eps, dtype
        self.input_layernorm = RMSNorm(*norm)
        self.self_attn = Attention(config, random, dtype)
        self.post_attention_layernorm = RMSNorm(*norm)
        self.mlp = MLP(config, random, dtype)

    def forward(self, x, branch, *where):
        """The stream x and the branch still to be added, as in lesson gpt -> one block on."""
        norm = self.input_layernorm
        if branch is None:
            y = norm(x)
        else:
            x, y = norm(x, added=branch)
        norm = self.post_attention_layernorm
        a = self.self_attn(y, *where)
        x, y = norm(x, added=a)
        return x, self.mlp(y)


class Llama(Module):
    """Llama. Names of the parameters are those of the published weights, without `model.`."""

    def __init__(self, config, random, dtype=np.float32):
        self.config = config
        C, V = config.width, config.vocabulary
        # Lesson gpt has a second table here, of positions, and dropout behind the two.
        self.embed_tokens = Embedding(V, C, random, dtype=dtype)
        rest = config, random, dtype
        self.layers = [Block(*rest) for _ in range(config.layers)]
        self.norm = RMSNorm(C, config.eps, dtype)
        # Small models compare with the embedding, as lesson gpt does; large ones can afford a
        # matrix of their own.
        self.lm_head = None
        if not config.tied:
            self.lm_head = Linear(C, V, random, False, 0.02, dtype)
        self.tables = {}                           # by type and device; not saved
        self._tables(1, np.empty(0, dtype))        # settings that make no sense are refused now

    def head(self):
        """The matrix of (5), (V, C)."""
        if self.lm_head is None:
            return self.embed_tokens.weight
        return self.lm_head.weight

    def hidden(self, ids, cache=None, segments=None):
        """ids (B, T) -> the normed stream after the last block, (B, T, C).

        cache: a KVCache; then ids stand behind what it holds, and it holds them afterwards.
        segments: documents that are read as if each stood alone, as in lesson gpt.
        """
        B, T = ids.shape
        start = np.zeros(B, np.int64)
        if cache is not None:
            start = cache.lengths
            cache.make_room(T)
        longest = int(start.max()) + T
        self.must_fit(longest)
        # Lesson gpt adds a row of a table of positions here.
        x = self.embed_tokens(ids)                                                             # (1)
        branch = None
        tables = self._tables(longest, x.data)
        places = None if segments is None else places_of(segments, cache)
        documents = segments, places
        for layer, block in enumerate(self.layers):
            x, branch = block(x, branch, tables, start, cache, layer, documents)
        if cache is not None:
            cache.advance(T)
        return self.norm(x, added=branch)[1]

    def must_fit(self, length):
        """ValueError for a sequence that is longer than the context."""
        if length > self.config.context:
            raise ValueError(f"a sequence of {length} tokens does not fit this model's context "
                             f"of {self.config.context}")

    def _tables(self, length, like):
        """cos and sin for this many positions, made once and for twice as many when they grow.

        like: an array of their type, on the device where they are wanted.
        """
        dtype, place = like.dtype, (like.dtype, type(like))
        made = self.tables.get(place)
        if made is not None and len(made[0]) >= length:
            return made
        config, room = self.config, max(64, 2 * length)
        D, base = config.head_width, config.base
        frequencies, scale = stretched_frequencies(D, base, **config.stretch)
        room = min(config.context, room)
        tables = rope_tables(room, frequencies, dtype)
        scale = dtype.type(scale)
        self.tables[place] = [beside(table * scale, like) for table in tables]
        return self.tables[place]

    def forward(self, ids, cache=None):
        """ids (B, T) -> logits (B, T, V): (5). For the loss alone `loss` needs far less memory."""
        return self.logits(self.hidden(ids, cache))

    def logits(self, x):
        """The normed stream x (…, C) -> (…, V)."""
        return linear(x, self.head())

    def next_logits(self, ids, lengths=None, cache=None):
        """ids (B, T) -> logits of the token that follows, (B, V); lengths (B,) as in lesson gpt."""
        last = last_positions(self.hidden(ids, cache), lengths, cache)
        return self.logits(last)

    def cache(self, batch, room):
        """What a KVCache of this model is made of, in the order of its parameters."""
        L, G = self.config.layers, self.config.groups
        return L, batch, G, room, self.config.head_width, self.config.window

    def loss(self, ids, targets, reduction="mean", segments=None):
        """Cross entropy in nats of targets (B, T), −1 where none counts: "mean" or "sum"."""
        x = self.hidden(ids, segments=segments)
        return linear_cross_entropy(x, self.head(), targets, reduction=reduction)
