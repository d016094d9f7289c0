"""Lesson 2.16 · Dropout: random numbers without a state

Needs foreign, kernel, launch, loops, memory, tensor. Used by layers.

Idea      Dropout sets a random share p of the numbers to zero during training, so that no unit can
          rely on another one being there. The backward pass needs the same mask again. Instead of
          keeping it we compute it twice: every element asks a hash of its own position and of a key
          (seed, step, site) whether it survives. Nothing is saved but the key, a resumed run draws
          what it would have drawn, and every body on any number of threads draws the same.
Math      y = x·m/(1 − p)      m = 1 where u ≥ p·2³², else 0      E[y] = x                     (1)
          dx = dy·m/(1 − p)    the same linear map, so the same kernel                         (2)
          u: Philox-2x32-10, ten rounds of (a, b) <- (high(M·a) ⊕ k ⊕ b, low(M·a)), k <- k + W (3)
          with high and low 32 bits of a 64-bit product, M = D256D193, W = 9E3779B9 (hexadecimal)
          One hash makes two words. With half = ⌈C/2⌉, block r·half + c makes the words of the
          elements c and half + c of row r                                                     (4)
Shapes    x, y rows (R, C), whatever the shape was before · start (R,): r·half
Pitfalls  A generator with a state gives another mask when threads or bodies change: then a speed-up
          changes the run. With a key the mask is a function of the position.
          The same key twice is the same mask twice: each place in a model needs its own `site`,
          each step its own `step`.
          Where a number is dropped the result is 0, also for NaN and ∞: a choice, not 0·x.
          p·2³² is rounded to a whole number: the share that is dropped is p up to 2⁻³³.
Cost      Ten multiplications of 32 by 32 bits for two elements, and no mask in memory. The loop
          makes them for a vector of positions at a time, NumPy as passes over arrays of uint64.
          So it is bound by arithmetic, and slower than a copy (docs/speed.md).
          43 µs in C, 40 in Numba (half a MB on one core, with AVX-512, where GCC multiplies whole
          64-bit words: python scripts/bench_ops.py dropout --sizes medium).
Try       build it    dropout of whole rows: the hash of r alone decides.
          break it    let the backward pass use another `stream`. Which test notices?
          measure it  TG_TRACE=1 around dropout(x, 0.1, (0, 0, 0)), with and without
                      TG_BACKEND=numpy
See       Srivastava et al. 2014 · Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"
"""

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, blocks, row_threads, serves
from ..kernel import Kernel
from ..loops import helper
from ..memory import beside, contiguous, empty_like
from ..tensor import method, record

MULTIPLIER = np.uint64(0xD256D193)                 # M and W of (3), as the paper has them
WEYL = np.uint64(0x9E3779B9)
LOW = np.uint64(0xFFFFFFFF)                        # the low 32 bits
HALF_WORD = np.uint64(32)


@helper
def philox(a, b, key):
    """Two words of 32 random bits for a counter of two words and a key of one: (3).

    Arrays or single numbers of uint64, below 2³²; the same text serves NumPy and the loop.
    """
    for _ in range(10):                            # fewer would be faster and less sure
        product = MULTIPLIER * a
        a = (product >> HALF_WORD) ^ key ^ b                                            # (3)
        b = product & LOW
        key = (key + WEYL) & LOW
    return a, b


@Kernel
def dropout_forward(y, x, start, stream, key, threshold, scale):
    C = x.shape[1]
    blocks = start[:, None] + np.arange((C + 1) // 2, dtype=np.uint64)                  # (4)
    words = np.concatenate(philox(blocks, stream, key), axis=1)[:, :C]
    y[...] = np.where(words >= threshold, x * scale, 0)                                 # (1)


@helper
def drop_row(left, right, x_left, x_right, start, stream, key, threshold, scale):
    """Both halves of a row; of an odd row the left one is longer.

    The halves are slices, and so every index counts from 0: in y[half + c] the compiler would have
    to ask whether the index is negative, and could not make vectors of the hashes.
    """
    zero = x_left.dtype.type(0)
    for c in range(x_right.size):
        first, second = philox(start + np.uint64(c), stream, key)                       # (4)
        left[c] = x_left[c] * scale if first >= threshold else zero                     # (1)
        right[c] = x_right[c] * scale if second >= threshold else zero
    if x_left.size > x_right.size:
        last = x_right.size
        first, _ = philox(start + np.uint64(last), stream, key)
        left[last] = x_left[last] * scale if first >= threshold else zero


@dropout_forward.body("numba", rows="y x start")
def dropout_forward_numba(y, x, start, stream, key, threshold, scale):
    factor = x.dtype.type(scale)
    R, C = x.shape
    half = (C + 1) // 2
    for r in range(R):
        left, right = y[r, :half], y[r, half:]
        drop_row(left, right, x[r, :half], x[r, half:], start[r], stream, key, threshold, factor)


@dropout_forward.body("native", rows="y x start", when=fits)
def dropout_forward_native(y, x, start, stream, key, threshold, scale):
    C(y).dropout_forward(out(y), ptr(x), ptr(start), stream, key, threshold, scale, *x.shape)


@dropout_forward.body("cuda", when=serves)
def dropout_forward_cuda(y, x, start, stream, key, threshold, scale):
    R, C = x.shape
    threads = row_threads((C + 1) // 2)
    pieces = blocks((C + 1) // 2, 4 * threads)     # of a half row: EACH of cuda/each.cuh
    arguments = y, x, start, stream, key, threshold, x.dtype.type(scale), C, pieces
    G(y).dropout_forward(R * pieces, threads, arguments)


@method
def dropout(x, p, key):
    """Zeros with probability p, all else times 1/(1 − p): (…) -> (…). Srivastava et al. 2014.

    key: (seed, step, site), three integers from 0 below 2³². The same key gives the same mask.
    p = 0 returns x itself. ValueError where p is no probability or the key is out of range.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout with probability {p}: it lies between 0 and 1")
    seed, step, site = key
    if not all(0 <= word < 1 << 32 for word in key):
        raise ValueError(f"the key {key} of dropout: three integers from 0 below 2**32")
    if p == 0:
        return x
    # The generator makes its own keys: another (seed, step) at one site is always another stream.
    stream, word = philox(np.uint64(seed), np.uint64(step), np.uint64(site))
    settings = stream, word, np.uint64(round(p * 2 ** 32)), 1 / (1 - p) if p < 1 else 0.0

    def drop(array):
        C = array.shape[-1] if array.ndim else 1
        rows = contiguous(array).reshape(array.size // max(C, 1), C)                    # (R, C)
        half = np.uint64((rows.shape[1] + 1) // 2)
        y = empty_like(rows)
        starts = beside(np.arange(len(rows), dtype=np.uint64) * half, rows)
        dropout_forward(y, rows, starts, *settings)
        return y.reshape(array.shape)

    def vjp(dy):
        return drop(dy),                                                                # (2)
    return record(drop(x.data), (x,), vjp)
