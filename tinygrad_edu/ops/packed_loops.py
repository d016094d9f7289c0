"""Lesson 2.25 · Packed weights in loops

Needs kernel, ladders, loops, memory, packed, threads. Used by every test.

Idea      The kernels of lesson packed for those who have no C compiler. A row of W is laid out: its
          rungs as bytes side by side, and for each ladder what a rung is worth and where it begins.
          Kinds differ in nothing else, so one loop multiplies all of them. For many rows of x there
          is something faster than any loop: BLAS. Rungs and the integers of x are exact as floats,
          so rows of W are widened, as many as stay in a core's cache, and multiplied as floats.
Math      (1) and (2) of lesson packed, with q − middle as rungs
          y = (scale·q)·Wᵀ        in floats, for many rows of x                                 (1)
Shapes    those of lesson packed; laid out: rung (K,) int8, step and low (K/ladder,) float32
Pitfalls  A loop of 16 that the compiler knows to be one of 16 it unrolls, and then it puts numbers
          of 16 blocks into a vector, which lie far apart. Where it does not know how long the loop
          is, the vector goes along the loop: hence bounds that come as arguments.
          An index with a sign could count from the end, and each is asked: np.uintp cannot.
          A view made inside a loop, or an array given to a helper, is counted by Numba, by an
          instruction that waits for all cores. So helpers get a row at least, and no view is made
          for a block.
Cost      As in C the bytes of W are read once; laying them out costs more than multiplying. What
          that comes to: python -m tinygrad_edu.ops.packed_loops
Try       build it    the product straight from the halves of bytes, without laying them out.
          break it    write range(16) for range(run). How much slower is Q4_0?
          measure it  python -m tinygrad_edu.ops.packed_loops
See       Numba manual, "Performance tips" · LLVM, "Auto-Vectorization" (trip counts)
"""

import functools
from typing import NamedTuple

import numpy as np

from ..loops import Compiled, helper
from .ladders import KINDS, NAMES, PLAIN
from .packed import (
    PART,
    Packed,
    in_panels,
    in_rows,
    packed_product,
    quantize_rows,
    tiles,
    times,
    unpack_rows,
)

FEW = 4  # rows of x for which nothing is widened
F16 = KINDS["F16"].number
Q4_1, Q5_0, Q5_1, Q8_0 = (KINDS[name].number for name in ("Q4_1", "Q5_0", "Q5_1", "Q8_0"))
Q5_K, Q6_K = (KINDS[name].number for name in ("Q5_K", "Q6_K"))

at = np.uintp  # a place in an array, of which nobody asks whether it counts from the end
f4, i4, u4, i1, u1 = np.float32, np.int32, np.uint32, np.int8, np.uint8
compiled = functools.cache(Compiled)  # a loop is made ready when it is first called


class Layout(NamedTuple):
    """What lies where in a block of a kind, in numbers and bytes."""

    kind: int
    size: int                                      # numbers of a block
    width: int                                     # its bytes
    ladder: int                                    # numbers that share a step
    middle: int                                    # the rung that counts as 0
    rungs: int                                     # the byte where their lower bits begin
    run: int                                       # bytes: the lower halves of all, then the upper
    part: int = PART                               # a bound that the compiler does not know


LAYOUTS = {
    KINDS[name].number: Layout(KINDS[name].number, KINDS[name].size, KINDS[name].width, *rest)
    for name, *rest in (
        ("Q8_0", 32, 0, 2, 0), ("Q4_0", 32, 8, 2, 16), ("Q4_1", 32, 0, 4, 16),
        ("Q5_0", 32, 16, 6, 16), ("Q5_1", 32, 0, 8, 16), ("Q4_K", 32, 0, 16, 32),
        ("Q5_K", 32, 0, 48, 32), ("Q6_K", 16, 32, 0, 64), ("F16", 1, 0, 0, 0))
}


# ---- a row of blocks, laid out -------------------------------------------------------------------


@helper
def half(low, high):
    """Two bytes as a float: lesson packed's C explains it. Nothing is asked, so that a loop over
    them can be a vector loop: infinity and NaN get their exponent by a product with 0 or 1."""
    word = u4(low) | u4(u4(high) << u4(8))
    size = f4(u4(u4(word & u4(0x7FFF)) << u4(13)).view(f4) * f4(2.0**112))
    odd = u4(u4(word & u4(0x7C00)) == u4(0x7C00)) * u4(0x7F800000)
    sign = u4(u4(word & u4(0x8000)) << u4(16))
    return u4(size.view(u4) | odd | sign).view(f4)


@helper
def lay_halves(q, w, f, run):
    """Four bits of each number: of `run` bytes all lower halves, then all upper ones."""
    for b in range(len(w) // f.width):
        for c in range(f.size // (2 * run)):
            to, begin = b * f.size + 2 * run * c, b * f.width + f.rungs + run * c
            for i in range(run):
                q[at(to + i)] = w[at(begin + i)] & u1(15)
            for i in range(run):
                q[at(to + run + i)] = w[at(begin + i)] >> u1(4)


@helper
def add_fifth(q, w, f, part):
    """Bit i of the 32 in front of the halves belongs to number i."""
    for b in range(len(w) // f.width):
        word = u4(0)
        for i in range(4):
            word |= u4(w[at(b * f.width + f.rungs - 4 + i)]) << u4(8 * i)
        for i in range(part):
            q[at(b * part + i)] |= u4(u4(word >> u4(i)) & u4(1)) << u4(4)


@helper
def add_upper(q, w, f, begin, bits, part):
    """A byte of 32 has `bits` bits for each of 8/bits numbers, 32 apart."""
    mask, groups = u1((1 << bits) - 1), 8 // bits
    for b in range(len(w) // f.width):
        for j in range(f.size // part):
            to, source = b * f.size + j * part, b * f.width + begin + j // groups * part
            shift = u1(j % groups * bits)
            for i in range(part):
                q[at(to + i)] |= (w[at(source + i)] >> shift & mask) << u1(4)


@helper
def lay_rungs(q, w, f, part):
    """q (K,) from the bytes w of a row."""
    if f.kind == Q8_0:
        for b in range(len(w) // f.width):
            for i in range(part):
                q[at(b * part + i)] = w[at(b * f.width + f.rungs + i)]
        return
    lay_halves(q, w, f, f.run)
    if f.kind == Q5_0 or f.kind == Q5_1:
        add_fifth(q, w, f, part)
    if f.kind == Q5_K:
        add_upper(q, w, f, 16, 1, part)
    if f.kind == Q6_K:
        add_upper(q, w, f, 128, 2, part)
    for k in range(len(q)):
        q[at(k)] -= i1(f.middle)


@helper
def lay_ladders(step, low, w, f):
    """step and low (K/ladder,), lesson ladders, (3) to (6)."""
    low[:] = f4(0)
    for b in range(len(w) // f.width):
        p = b * f.width
        if f.kind == Q6_K:
            d = half(w[p + 208], w[p + 209])
            for j in range(16):
                step[16 * b + j] = d * f4(i1(w[p + 192 + j]))
            continue
        d, e = half(w[p], w[p + 1]), half(w[p + 2], w[p + 3])
        if f.size == PART:
            step[b] = d
            low[b] = e if f.kind == Q4_1 or f.kind == Q5_1 else f4(0)
            continue
        for j in range(4):
            s, m, rest = w[p + 4 + j], w[p + 8 + j], w[p + 12 + j]
            step[8 * b + j] = d * f4(s & u1(63))
            low[8 * b + j] = -(e * f4(m & u1(63)))
            step[8 * b + j + 4] = d * f4(rest & u1(15) | s >> u1(6) << u1(4))
            low[8 * b + j + 4] = -(e * f4(rest >> u1(4) | m >> u1(6) << u1(4)))


# ---- the bodies ----------------------------------------------------------------------------------


def product_loop(y, q, scale, sum, blocks, f, first, last):
    """y[:, first:last] of (2) of lesson packed."""
    (N, K), ladder = q.shape, f.ladder
    rung = np.empty(K, i1)
    step, low = np.empty(K // ladder, f4), np.empty(K // ladder, f4)
    for r in range(first, last):
        lay_rungs(rung, blocks[r], f, f.part)
        lay_ladders(step, low, blocks[r], f)
        for n in range(N):
            total = f4(0)
            for g in range(K // ladder):
                k, b, t = g * ladder, g * ladder // PART, i4(0)
                for i in range(ladder):
                    t = i4(t + i4(rung[at(k + i)]) * i4(q[n, at(k + i)]))
                total += scale[n, b] * (step[g] * f4(t) + low[g] * f4(sum[n, b]))
            y[n, r] = total


def unpack_loop(y, blocks, f):
    """(1) of lesson ladders, for rows."""
    K, ladder = y.shape[1], f.ladder
    rung = np.empty(K, i1)
    step, low = np.empty(K // ladder, f4), np.empty(K // ladder, f4)
    for r in range(len(y)):
        if f.kind == F16:
            for k in range(K):
                y[r, at(k)] = half(blocks[r, at(2 * k)], blocks[r, at(2 * k + 1)])
            continue
        lay_rungs(rung, blocks[r], f, f.part)
        lay_ladders(step, low, blocks[r], f)
        for g in range(K // ladder):
            for i in range(ladder):
                k = at(g * ladder + i)
                y[r, k] = step[g] * f4(rung[k]) + low[g]


@unpack_rows.body("numba", rows="y blocks", when=in_rows, jit=False)
def unpack_rows_numba(y, blocks, kind):
    if kind in LAYOUTS:
        compiled(unpack_loop)(y, blocks, LAYOUTS[kind])
    else:
        unpack_rows.__wrapped__(y, blocks, kind)


@quantize_rows.body("numba", rows="q scale sum x", when=in_rows)
def quantize_rows_numba(q, scale, sum, x):
    for n in range(x.shape[0]):
        for b in range(scale.shape[1]):
            most, odd = f4(0), f4(0)
            for i in range(PART):
                most = max(most, abs(x[n, b * PART + i]))
                odd += x[n, b * PART + i] * f4(0)  # no 0 where x is infinite or no number
            some = odd == 0 and most >= f4(2.0**-100)
            inverse, total = f4(127) / most if some else f4(0), i4(0)
            for i in range(PART):
                nearest = i4(np.rint(x[n, b * PART + i] * inverse)) if some else i4(0)         # (1)
                q[n, b * PART + i] = nearest
                total += nearest
            sum[n, b] = total
            scale[n, b] = most / f4(127) if some else f4(0) if odd == 0 else f4(np.nan)


@packed_product.body("numba", when=in_rows, jit=False)
def packed_product_numba(y, x, q, scale, sum, blocks, kind):
    few = len(x) < FEW and NAMES[kind] not in PLAIN
    if few:
        def some(first, last):
            compiled(product_loop)(y, q, scale, sum, blocks, LAYOUTS[kind], first, last)
        in_panels(some, len(x), blocks)
        return
    if NAMES[kind] not in PLAIN:
        parts = q.reshape(len(x), -1, PART)
        x = (parts * scale[..., None]).reshape(x.shape)
    with np.errstate(all="ignore"):
        for rows, wide in tiles(Packed(blocks, NAMES[kind])):
            y[:, rows] = times(x, wide.T)                                                      # (1)
