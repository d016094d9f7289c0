"""Lesson 2.25 · A row of blocks, laid out

Needs ladders, loops, packed. Used by packed_loops.

Idea      For those who have no C compiler, Numba's loops read blocks. What lies where differs from
          kind to kind; what becomes of it does not. So a row is first laid out, in two arrays that
          stay in a core's cache: its rungs as bytes side by side, and for each ladder what a rung
          is worth and where it begins. Loops that use them are then the same for all kinds, and
          are compiled once.
Math      x = step·rung + low        rung = q − middle of lesson ladders                        (1)
Shapes    w (bytes of a row,) uint8, words: the same as numbers of 16 bits · q (K,) int8: the
          rungs of (1) · step, low (K/ladder,) float32
Pitfalls  A loop of 16 that the compiler knows to be one of 16 it unrolls, and then puts numbers of
          16 blocks, which lie far apart, into a vector. If it does not know how long the loop is,
          the vector goes along the loop. So bounds come as arguments, although they never change.
          An index with a sign could count from the end, and the machine asks each one: at() does
          not let it.
          Numba counts who holds an array: a view that is made for a block, or an array that is
          given to a helper, costs two instructions for which all cores wait. So no view is made
          for a block, and a helper gets a row at least.
          What is written by 16 bytes and read by 64 right afterwards has to wait until it has
          arrived: each step goes over the whole row before the next one begins.
Cost      A row is read once from memory, and its rungs are written and read in the cache. For
          kinds with few numbers a block the halves at its head take as long as the rungs.
Try       build it    Q2_K, from its layout in ggml-common.h.
          break it    write range(16) for range(run) in `lay_halves`. How much slower is Q5_0?
          measure it  python -m tinygrad_edu.ops.packed_loops
See       Numba manual, "Performance tips" · LLVM, "Auto-Vectorization in LLVM"
"""

import functools
from typing import NamedTuple

import numpy as np

from ..loops import Compiled, helper
from .ladders import KINDS
from .packed import PART, in_rows, unpack_rows

F16 = KINDS["F16"].number
Q4_0, Q4_1, Q5_0, Q5_1 = (KINDS[name].number for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"))
Q8_0, Q5_K, Q6_K = (KINDS[name].number for name in ("Q8_0", "Q5_K", "Q6_K"))

at = np.uintp  # a place in an array, of which nobody asks whether it counts from the end
f4, i4, u4, i1, u1 = np.float32, np.int32, np.uint32, np.int8, np.uint8
compiled = functools.cache(Compiled)  # a loop is made ready when it is first called


class Layout(NamedTuple):
    """What lies where in a block of a kind, in numbers and bytes."""

    # All of them are integers: one type for all kinds, so that a loop is compiled once.
    kind: int
    size: int
    width: int
    # Numbers that share a step, and the rung that stands for 0.
    ladder: int
    middle: int
    # The byte where rungs begin; and of how many bytes first all lower halves are numbers, then
    # all upper ones.
    rungs: int
    run: int
    # A bound that the compiler does not know: see the Pitfalls.
    part: int = PART


LAYOUTS = {
    KINDS[name].number: Layout(KINDS[name].number, KINDS[name].size, KINDS[name].width, *rest)
    for name, *rest in (
        ("Q8_0", 32, 0, 2, 0), ("Q4_0", 32, 8, 2, 16), ("Q4_1", 32, 0, 4, 16),
        ("Q5_0", 32, 16, 6, 16), ("Q5_1", 32, 0, 8, 16), ("Q4_K", 32, 0, 16, 32),
        ("Q5_K", 32, 0, 48, 32), ("Q6_K", 16, 32, 0, 64), ("F16", 1, 0, 0, 0))
}


@helper
def half(word):
    """A number of 16 bits as a float."""
    # Its exponent begins 112 steps above that of a float: a product moves it. Infinity and NaN get
    # theirs by a product with 0 or 1: where nothing is asked, a loop can be a vector loop.
    word = u4(word)
    size = f4(u4(u4(word & u4(0x7FFF)) << u4(13)).view(f4) * f4(2.0**112))
    odd = u4(u4(word & u4(0x7C00)) == u4(0x7C00)) * u4(0x7F800000)
    sign = u4(u4(word & u4(0x8000)) << u4(16))
    return u4(size.view(u4) | odd | sign).view(f4)


@helper
def lay_halves(q, w, f, run):
    """Four bits of each number: of `run` bytes all lower halves, then all upper ones."""
    runs = f.size // (2 * run)
    for b in range(len(w) // f.width):
        for c in range(runs):
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
    if f.middle:
        for k in range(len(q)):
            q[at(k)] -= i1(f.middle)


@helper
def lay_eight(step, low, w, d, e, g, p):
    """(5) of lesson ladders: the ladders from g on, of 12 bytes from p on."""
    for j in range(4):
        s, m, rest = w[at(p + j)], w[at(p + 4 + j)], w[at(p + 8 + j)]
        step[at(g + j)] = d * f4(s & u1(63))
        low[at(g + j)] = -(e * f4(m & u1(63)))
        step[at(g + j + 4)] = d * f4(rest & u1(15) | s >> u1(6) << u1(4))
        low[at(g + j + 4)] = -(e * f4(rest >> u1(4) | m >> u1(6) << u1(4)))


@helper
def lay_ladders(step, low, w, words, f):
    """step and low (K/ladder,), lesson ladders, (3) to (6). words: w as numbers of 16 bits."""
    blocks, width, apart = len(w) // f.width, f.width, f.width // 2
    low[:] = f4(-0.0)  # which leaves even the sign of a zero as it is
    if f.kind == Q6_K:
        for b in range(blocks):
            d = half(words[at(b * apart + 104)])
            for j in range(16):
                step[at(16 * b + j)] = d * f4(i1(w[at(b * width + 192 + j)]))
    elif f.size > PART:
        for b in range(blocks):
            d, e = half(words[at(b * apart)]), half(words[at(b * apart + 1)])
            lay_eight(step, low, w, d, e, 8 * b, b * width + 4)
    else:
        for b in range(blocks):
            step[at(b)] = half(words[at(b * apart)])
    if f.kind == Q4_1 or f.kind == Q5_1:
        for b in range(blocks):
            low[at(b)] = half(words[at(b * apart + 1)])


def unpack_loop(y, blocks, words, f):
    """(1) of lesson ladders, for rows."""
    K, ladder = y.shape[1], f.ladder
    rung = np.empty(K, i1)
    step, low = np.empty(K // ladder, f4), np.empty(K // ladder, f4)
    for r in range(len(y)):
        if f.kind == F16:
            for k in range(K):
                y[r, at(k)] = half(words[r, at(k)])
            continue
        lay_rungs(rung, blocks[r], f, f.part)
        lay_ladders(step, low, blocks[r], words[r], f)
        for g in range(K // ladder):
            for i in range(ladder):
                k = at(g * ladder + i)
                y[r, k] = step[g] * f4(rung[k]) + low[g]                                       # (1)


@unpack_rows.body("numba", rows="y blocks", when=in_rows, jit=False)
def unpack_rows_numba(y, blocks, kind):
    if kind in LAYOUTS:
        compiled(unpack_loop)(y, blocks, blocks.view(np.uint16), LAYOUTS[kind])
    else:
        unpack_rows.__wrapped__(y, blocks, kind)
