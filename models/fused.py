"""Lesson 4.52 · A token in one call

Needs blocks, foreign, gguf, int8, kernel, threads.
Used by packed_llama, scripts/bench_decode.py.

Idea      Written out as operations, a token of a Llama is some five hundred calls for vectors of a
          few hundred numbers: what costs time is to begin each of them. Here a token is one call.
          Each thread has its share of the rows of every matrix, and walks through all blocks; where
          it needs what the others have written, they meet. Nothing is allocated, and between two
          meetings a thread reads its weights from one end to the other, which is what memory is
          fastest at. So the time of a token comes close to that of reading all weights once.
          The keys are shared out as well: each thread looks at a share of them, for all heads, and
          the parts are put together afterwards. So no key is read twice, and no thread waits
          because nine heads cannot be shared by two.
Math      n = w·x/√(mean x² + ε)                                                                (1)
          q, k, v = W·n (+ b)     q, k normed by (1) where the family does, and turned (rope)   (2)
          of a share of the keys:  m = max q·k/√D,  t = Σ e^(q·k/√D − m),  y = Σ e^(…)·v        (3)
          M = max m:   Σ e^(m−M)·y / Σ e^(m−M)·t     over the shares; in C alone                (4)
          x ← x + W_O·y       x ← x + W_d·(silu(W_g·n)·W_u·n)                                   (5)
          logits = W_H·n of the last block's x                                                  (6)
Shapes    L blocks, H heads, G of keys, D numbers a head, S positions · x (C,) the row of the
          embedding · keys, values (L, G, S, D) floats, or int8 with their key_scales, value_scales
          (L, G, S); of floats these are NO_SCALES · turn (2, D/2) cos and sin at this position
          store: all matrices as bytes, one after the other · places (7·L + 1, 4): begin, bytes a
          row, rows and kind of each · vectors: norms and offsets, block by block
Pitfalls  A matrix in blocks of small integers is multiplied by x rounded to 8 bits, 32 numbers a
          scale (lesson packed). That is part of what this kernel means, not an error of a body.
          Threads that wait for each other in C must all be there: a pool that is taken runs its
          pieces one after the other, and the first would wait for ever. Hence threads.together.
          Ctrl-C may strike between two starts. Then nobody comes, and whoever waits gives up after
          a few seconds; a step can be begun again, since it writes nothing that it reads.
          A sum over shares of keys depends on how many threads there are, in its last digits.
          A cache of 8 bits is rounded where a row is written, the token's own key too: a step that
          looked at its own key unrounded would see something else than every later one.
Cost      All weights once, and 2·L·G·S·D numbers of the cache, of 4 bytes or of 1. Meetings: five
          in a block, each a fraction of a microsecond while all threads have a core.
Try       build it    a cache of 16 bits: half of the bytes, and nothing to scale.
          break it    leave out the meeting before (4). How often is it wrong?
          measure it  python scripts/bench_decode.py MODEL --prompt-tokens 16
See       Dao et al. 2023 (Flash-Decoding: shares of keys) · llama.cpp, ggml-cpu.c (its barrier)
"""

from typing import NamedTuple

import numpy as np

from tinygrad_edu import threads
from tinygrad_edu.files.blocks import READ, from_blocks
from tinygrad_edu.files.gguf import TYPES
from tinygrad_edu.foreign import C, fits, out, ptr
from tinygrad_edu.kernel import Kernel
from tinygrad_edu.ops.int8 import from_rows, to_rows

PART = 32  # numbers of x that share a scale
NO_SCALES = np.empty(0, np.float32)  # of keys and values that are floats
MATRICES = "q", "k", "v", "o", "gate", "up", "down"  # of a block, in the order of `places`


class Shape(NamedTuple):
    """The sizes of a model, and what its family has; a window of 0: none."""

    layers: int
    width: int
    heads: int
    groups: int
    head: int
    hidden: int
    vocabulary: int
    window: int
    offsets: bool
    head_norms: bool
    eps: float

    def vectors(self):
        """How many numbers each vector of a block has, in the order of `vectors`."""
        C, q, k = self.width, self.heads * self.head, self.groups * self.head
        sizes = {"input_norm": C, "output_norm": C}
        if self.offsets:
            sizes |= {"q": q, "k": k, "v": k}
        if self.head_norms:
            sizes |= {"q_norm": self.head, "k_norm": self.head}
        return sizes


def rounded(x):
    """x (…, n) with each 32 numbers rounded to 255 steps of their largest."""
    parts = x.reshape(*x.shape[:-1], -1, PART)
    most = np.abs(parts).max(axis=-1, keepdims=True)
    most[most < 2.0**-100] = np.inf                # nothing but zeros
    q = np.rint(parts * (np.float32(127) / most))
    most[most == np.inf] = 0
    y = q * (most / np.float32(127))
    return y.reshape(x.shape)


def product(x, store, place):
    """W·x of a matrix in the store; see the Pitfalls."""
    begin, width, rows, number = map(int, place)
    raw = store[begin : begin + width * rows]
    kind = TYPES[number]
    if READ[kind][0] > 1:
        x = rounded(x)
    return from_blocks(raw.reshape(rows, width), kind) @ x


def norm(x, w, eps):
    """(1), of each row."""
    square = (x * x).mean(axis=-1, keepdims=True)
    return w * (x / np.sqrt(square + np.float32(eps)))


def turned(x, turn):
    """(2): rows (…, D) by an angle for each pair of a number and the one D/2 behind it."""
    cos, sin = turn
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def looked(q, k, v):
    """q (H, D) and k, v (G, S, D) -> (H, D): (3) with a single share."""
    G, _, D = k.shape
    q = q.reshape(G, -1, D)
    s = q @ k.swapaxes(1, 2) / np.float32(np.sqrt(D))
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    y = e @ v / e.sum(axis=-1, keepdims=True)
    return y.reshape(-1, D)


def silu(x):
    """x/(1 + e⁻ˣ), by a form that does not overflow."""
    return x * (np.float32(0.5) + np.float32(0.5) * np.tanh(x / 2))


def vectors_of(shape, vectors):
    """A dict of the vectors of each block, and the last norm."""
    sizes = shape.vectors()
    cuts = np.cumsum([*sizes.values()] * shape.layers)
    *parts, last = np.split(vectors, cuts)
    n = len(sizes)
    blocks = [parts[i : i + n] for i in range(0, len(parts), n)]
    return [dict(zip(sizes, block, strict=True)) for block in blocks], last


def kept(rows, scales, layer, position, oldest, new):
    """Write new (G, D) into a cache's rows at a position: (G, S', D) floats from the oldest on."""
    seen = layer, slice(None), slice(oldest, position + 1)
    if rows.dtype == np.int8:
        rows[layer, :, position], scales[layer, :, position] = to_rows(new)
        return from_rows(rows[seen], scales[seen])
    rows[layer, :, position] = new
    return rows[seen]


@Kernel(outputs=1, inout="keys values key_scales value_scales")
def llama_step(logits, keys, values, key_scales, value_scales, x, store, places, vectors, turn,
               position, shape):
    D, eps, n = shape.head, shape.eps, len(MATRICES)
    blocks, last = vectors_of(shape, vectors)
    oldest = max(0, position + 1 - shape.window) if shape.window else 0
    for layer, own in enumerate(blocks):
        w = dict(zip(MATRICES, places[layer * n :], strict=False))
        near = norm(x, own["input_norm"], eps)                                                 # (1)
        q, k, v = (product(near, store, w[name]) + own.get(name, 0) for name in "qkv")         # (2)
        q, k, v = q.reshape(-1, D), k.reshape(-1, D), v.reshape(-1, D)
        if shape.head_norms:
            q, k = norm(q, own["q_norm"], eps), norm(k, own["k_norm"], eps)
        k = kept(keys, key_scales, layer, position, oldest, turned(k, turn))
        v = kept(values, value_scales, layer, position, oldest, v)
        y = looked(turned(q, turn), k, v)                                                      # (3)
        x = x + product(y.ravel(), store, w["o"])                                              # (5)
        near = norm(x, own["output_norm"], eps)
        gate, up = product(near, store, w["gate"]), product(near, store, w["up"])
        x = x + product(silu(gate) * up, store, w["down"])                                     # (5)
    logits[...] = product(norm(x, last, eps), store, places[-1])                               # (6)


buffers = []  # that nobody works with now: (Shape with the room, threads, bytes)


@llama_step.body("native", when=fits)
def llama_step_native(logits, keys, values, key_scales, value_scales, x, store, places, vectors,
                      turn, position, shape):
    numbers = [*shape[:7], keys.shape[2], *shape[7:10], keys.dtype == np.int8]
    sizes = np.array(numbers, np.int64)
    library, cos, sin = C(x), ptr(turn[0]), ptr(turn[1])
    count = threads.count()
    needed = library.llama_step_bytes(ptr(sizes), count)
    shared = buffers.pop() if buffers else np.zeros(needed, np.uint8)
    if len(shared) < needed:
        shared = np.zeros(needed, np.uint8)
    arguments = (out(logits), out(keys), out(values), out(key_scales), out(value_scales),
                 out(shared), ptr(x), ptr(store), ptr(places), ptr(vectors), cos, sin, ptr(sizes),
                 shape.eps, position)
    met = []

    def share(thread, count):
        met.append(library.llama_step(*arguments, thread, count))
    threads.pool.together(share)
    if not all(met):
        shared[:] = 0
        share(0, 1)
    buffers.append(shared)
