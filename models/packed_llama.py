"""Lesson 4.53 · A Llama whose weights stay as the file has them

Needs blocks, cross_entropy, fused, gguf, gguf_model, kernel, layers, llama, memory, module, packed,
tensor.
Used by opened, scripts/bench_decode.py, tests/models/test_fused.py.

Idea      Widened to float32, a file of 98 million bytes becomes 540, and every token reads all of
          them. Here they stay in their blocks: a matrix is a view of bytes, its product multiplies
          them as they are (lesson packed), and a row of the embedding is widened when its token
          comes. A text is read by the operations of lesson llama, which are fast for many positions
          at once; after that, each token is one call of lesson fused.
Math      none of its own: lessons llama, packed and fused
Shapes    a matrix (rows, bytes of a row) uint8 · ids (B, T) · logits (B, V)
Pitfalls  The two ways have to agree: one cache serves both, so keys are turned alike, and what one
          rounds to 8 bits the other rounds as well.
          A file that is mapped counts as memory of the process once it has been read, like a copy,
          but in pages of 4 KB, which the CPU finds more slowly. The bytes are read into one array,
          which Linux puts into pages of 2 MB: 52 GB/s instead of 40 on the machine of the lesson.
Cost      Memory: the file's size, and the cache. A token: lesson fused.
Try       build it    the same for the GPT of lesson gpt.
          break it    leave the rows of W_q in the file's order. Which test notices?
          measure it  python scripts/generate.py FILE --max-new 100, with and without --float32
See       the lessons llama, gguf_model, packed and fused
"""

import numpy as np

from tinygrad_edu.files.blocks import from_blocks, to_blocks
from tinygrad_edu.files.gguf import NUMBERS
from tinygrad_edu.kernel import backends
from tinygrad_edu.memory import empty
from tinygrad_edu.models.fused import NO_SCALES, Shape, llama_step
from tinygrad_edu.models.gguf_model import in_halves, must_have, names_there
from tinygrad_edu.models.llama import Llama
from tinygrad_edu.nn.layers import Embedding, Linear
from tinygrad_edu.nn.module import Module
from tinygrad_edu.ops.cross_entropy import cross_entropy
from tinygrad_edu.ops.packed import Packed, packed_linear
from tinygrad_edu.tensor import Tensor

AT_ONCE = 128  # positions whose logits are there together


class PackedLinear(Module):
    """y = x·Wᵀ + b, as layers.Linear, for a Packed W."""

    def __init__(self, weight, bias=None):
        self.weight, self.bias = weight, bias

    def forward(self, x):
        """x (…, in) -> (…, out)."""
        return packed_linear(x, self.weight, self.bias)


class PackedEmbedding(Module):
    """The row of a Packed for every integer, widened."""

    def __init__(self, weight):
        self.weight = weight

    def forward(self, ids):
        """ids (…, T) integers -> (…, T, width)."""
        return Tensor(self.weight.rows(ids))


class PackedLlama(Llama):
    """A Llama of a GGUF file, for reading and writing. Training needs lesson llama's own."""

    kernel = llama_step                            # of a token; who measures puts a clock around it

    def fill(self, file):
        """Take every weight of a GGUF file: matrices as they are, vectors as float32."""
        store, first = read_all(file)
        matrices = {}
        # The file's order of the rows of W_q and W_k is another one: lesson gguf_model. A row has
        # whole blocks, so rows can be moved as they are.
        for name, heads, tensor in names_there(self):
            entry = must_have(file, name, tensor.shape)
            raw = store[entry.begin - first : entry.end - first].reshape(tensor.shape[0], -1)
            if heads:
                raw[...] = in_halves(raw, heads)
            if tensor.ndim == 1:
                tensor.assign(from_blocks(raw.ravel(), entry.kind))
            else:
                matrices[id(tensor)] = Packed(raw, entry.kind)
        self.take(matrices, store)

    def take(self, matrices, store):
        """Put matrices, by the id of the weight, in the places of linear layers and embedding."""
        modules = dict(self.walk())
        for path, module in modules.items():
            parent, _, name = path.rpartition(".")
            if isinstance(module, Linear):
                linear = PackedLinear(matrices[id(module.weight)], module.bias)
                setattr(modules[parent], name, linear)
            elif isinstance(module, Embedding):
                setattr(modules[parent], name, PackedEmbedding(matrices[id(module.weight)]))
        self.prepare(store)

    def prepare(self, store):
        """What lesson fused wants to know, made once."""
        c, matrices, vectors = self.config, [], []
        for block in self.layers:
            a, m = block.self_attn, block.mlp
            linears = (a.q_proj, a.k_proj, a.v_proj, a.o_proj, m.gate_proj, m.up_proj, m.down_proj)
            matrices += [linear.weight for linear in linears]
            norms = block.input_layernorm, block.post_attention_layernorm
            vectors += [norm.weight for norm in norms]
            vectors += [linear.bias for linear in linears[:3] if c.offsets]
            vectors += [norm.weight for norm in (a.q_norm, a.k_norm) if c.head_norms]
        vectors.append(self.norm.weight)
        places = [place(matrix, store) for matrix in [*matrices, self.head()]]
        self.store, self.places = store, np.array(places, np.int64)
        self.vectors = np.concatenate([tensor.data for tensor in vectors])
        self.shape = Shape(c.layers, c.width, c.heads, c.groups, c.head_width, c.hidden,
                           c.vocabulary, c.window or 0, c.offsets, c.head_norms, c.eps)

    def parameter_count(self):
        """How many numbers the weights stand for."""
        return self.config.parameter_count()

    def logits(self, x):
        """(5) of lesson llama, for x (…, C)."""
        return packed_linear(x, self.head())

    def next_logits(self, ids, lengths=None, cache=None):
        """As in lesson llama; a single token behind a cache takes the short way."""
        one = ids.shape == (1, 1) and (lengths is None or lengths[0] == 1)
        short = one and backends["native"].available()  # its reference widens all, for one token
        if cache is None or not short or cache.keys.dtype not in (np.float32, np.int8):
            return super().next_logits(ids, lengths, cache)
        # What lesson llama's `hidden` does before its blocks, for one position.
        cache.must_fit(1)
        cache.make_room(1)
        position = int(cache.lengths[0])
        self.must_fit(position + 1)
        x = self.embed_tokens(ids[0]).data[0]
        cos, sin = self._tables(position + 1, x)
        turn = np.stack([cos[position], sin[position]])
        logits = empty((1, self.config.vocabulary), np.float32)
        keys, values, *scales = (getattr(cache, name)[:, 0] for name in cache.ARRAYS)
        self.kernel(logits[0], keys, values, *(scales or (NO_SCALES, NO_SCALES)), x, self.store,
                    self.places, self.vectors, turn, int(cache.starts[0]), self.shape)
        cache.advance(1)
        return Tensor(logits)

    def loss(self, ids, targets, reduction="mean"):
        """Cross entropy in nats, as in lesson llama; no gradient comes back."""
        # Logits of all positions would be larger than the model: some at a time.
        x, targets = self.hidden(ids), np.reshape(targets, -1)
        x, total = x.reshape(-1, x.shape[-1]), 0.0
        for low in range(0, len(targets), AT_ONCE):
            part = slice(low, low + AT_ONCE)
            total += cross_entropy(self.logits(x[part]), targets[part], reduction="sum").item()
        if reduction == "mean":
            total /= max(1, np.count_nonzero(targets >= 0))
        return Tensor(np.float32(total))


def read_all(file):
    """(the bytes of all tensors in one array, the place of the first of them in the file)."""
    first = min(entry.begin for entry in file.entries.values())
    last = max(entry.end for entry in file.entries.values())
    store = empty(last - first, np.uint8)
    with open(file.path, "rb") as content:
        content.seek(first)
        if content.readinto(store.data) < len(store):
            raise ValueError("it has become shorter while it was read")
    return store, first


def place(weight, store):
    """A row of the `places` of lesson fused: where in the store the blocks of a Packed lie."""
    rows, width = weight.blocks.shape
    begin = weight.blocks.ctypes.data - store.ctypes.data  # a view knows no place in its base
    return begin, width, rows, NUMBERS[weight.kind]


def packed(model, kind="Q8_0"):
    """A Llama with its matrices in blocks of that kind; vectors stay as they are."""
    result, raws, matrices, begin = PackedLlama(model.config, None), {}, {}, 0
    for mine, tensor in zip(result.parameters(), model.parameters(), strict=True):
        if tensor.ndim == 1:
            mine.assign(tensor.numpy())
        else:
            raws[id(mine)] = to_blocks(tensor.numpy(), kind)
    store = empty(sum(raw.nbytes for raw in raws.values()), np.uint8)
    for weight, raw in raws.items():
        part = store[begin : begin + raw.nbytes].reshape(raw.shape)
        part[...] = raw
        matrices[weight] = Packed(part, kind)
        begin += raw.nbytes
    result.take(matrices, store)
    return result.eval()
