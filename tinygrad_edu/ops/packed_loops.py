"""Lesson 2.26 · Packed products in loops

Needs kernel, ladders, laid_rows, packed. Used by every test.

Idea      The product of lesson packed, for those who have no C compiler. One loop multiplies rows
          of all kinds, once they are laid out (lesson laid_rows). Q4_0 and Q4_1 are simple enough
          to be multiplied as they lie, which saves writing the rungs and reading them again. For
          many rows of x there is something faster than any loop of ours: BLAS. Rungs and the
          integers of x are exact as floats, so some rows of W at a time are widened, and
          multiplied as floats.
Math      y_r = Σ over ladders of W: scale·(step·Σ rung·q + low·Σ q)                            (1)
          y = (scale·q)·Wᵀ        the same, in floats, for many rows of x                       (2)
Shapes    those of lesson packed
Pitfalls  A product of two integers has 64 bits in Numba, twice as many as a sum here needs. i4()
          takes 32 of them; then LLVM finds the instruction that adds up products of bytes.
          A sum that is asked at each step whether to go on is no vector loop: hence the sum of
          x·0, which is NaN where one of x is infinite or NaN.
          Σ q is kept for 32 numbers at a time. The ladders of Q6_K have 16, and Σ q counts twice;
          but they have no low, and twice nothing is nothing.
          F32, F16 and BF16 have no rungs, and take the way of many rows always.
          (2) adds up in another order than (1), so the last digits of a long text and of one token
          differ.
Cost      The bytes of W are read once. Laying them out takes longer than multiplying: what both
          come to, beside a loop that only reads, says python -m tinygrad_edu.ops.packed_loops
Try       build it    Q5_0 straight from its bytes, as `halves_loop` does it for Q4_0.
          break it    leave out middle in `halves_loop`. Which kind is wrong, and which is not?
          measure it  python -m tinygrad_edu.ops.packed_loops
See       lessons packed and laid_rows · LLVM, "Auto-Vectorization in LLVM"
"""

import numpy as np

from ..kernel import Backend, backends
from .ladders import NAMES, PLAIN
from .laid_rows import LAYOUTS, Q4_0, Q4_1, at, compiled, f4, i1, i4, lay_ladders, lay_rungs, u1
from .packed import (
    LEAST,
    PART,
    Packed,
    in_panels,
    in_rows,
    measure,
    packed_product,
    quantize_rows,
    tiles,
    times,
)

FEW = 4  # rows of x for which nothing is widened


def halves_loop(y, q, scale, sum, blocks, words, f, first, last):
    """y[:, first:last] of (1) for Q4_0 and Q4_1, straight from the halves of bytes.

    words: blocks as numbers of 16 bits, for the heads of blocks.
    """
    (N, K), run = q.shape, f.run
    step, low = np.empty(K // PART, f4), np.empty(K // PART, f4)
    for r in range(first, last):
        lay_ladders(step, low, blocks[r], words[r], f)
        for n in range(N):
            total = f4(0)
            for b in range(K // PART):
                p, k, t = b * f.width + f.rungs, b * PART, i4(-f.middle * sum[n, b])
                for i in range(run):
                    two = blocks[r, at(p + i)]
                    t = i4(t + i4(two & u1(15)) * i4(q[n, at(k + i)])
                           + i4(two >> u1(4)) * i4(q[n, at(k + run + i)]))
                total += scale[n, b] * (step[b] * f4(t) + low[b] * f4(sum[n, b]))              # (1)
            y[n, r] = total


def product_loop(y, q, scale, sum, blocks, words, f, first, last):
    """y[:, first:last] of (1), for any kind with ladders."""
    (N, K), ladder = q.shape, f.ladder
    rung = np.empty(K, i1)
    step, low = np.empty(K // ladder, f4), np.empty(K // ladder, f4)
    for r in range(first, last):
        lay_rungs(rung, blocks[r], f, f.part)
        lay_ladders(step, low, blocks[r], words[r], f)
        for n in range(N):
            total = f4(0)
            for g in range(K // ladder):
                k, b, t = g * ladder, g * ladder // PART, i4(0)
                for i in range(ladder):
                    t = i4(t + i4(rung[at(k + i)]) * i4(q[n, at(k + i)]))
                total += scale[n, b] * (step[g] * f4(t) + low[g] * f4(sum[n, b]))              # (1)
            y[n, r] = total


@quantize_rows.body("numba", rows="q scale sum x", when=in_rows)
def quantize_rows_numba(q, scale, sum, x):
    for n in range(x.shape[0]):
        for b in range(scale.shape[1]):
            most, odd = f4(0), f4(0)
            for i in range(PART):
                most = max(most, abs(x[n, b * PART + i]))
                odd += x[n, b * PART + i] * f4(0)  # NaN where x is infinite or NaN
            some = odd == 0 and most >= LEAST
            inverse, total = f4(127) / most if some else f4(0), i4(0)
            for i in range(PART):
                nearest = i4(np.rint(x[n, b * PART + i] * inverse)) if some else i4(0)
                q[n, b * PART + i] = nearest
                total += nearest
            sum[n, b] = total
            scale[n, b] = most / f4(127) if some else f4(0) if odd == 0 else f4(np.nan)


@packed_product.body("numba", when=in_rows, jit=False)
def packed_product_numba(y, x, q, scale, sum, blocks, kind):
    if len(x) < FEW and NAMES[kind] not in PLAIN:
        f, words = LAYOUTS[kind], blocks.view(np.uint16)
        loop = compiled(halves_loop if f.kind in (Q4_0, Q4_1) else product_loop)

        def some(first, last):
            loop(y, q, scale, sum, blocks, words, f, first, last)
        in_panels(some, len(x), blocks)
        return
    # The integers of x and their scale make floats again: rounded as in (1), and as exact as it.
    if NAMES[kind] not in PLAIN:
        parts = q.reshape(len(x), -1, PART)
        x = (parts * scale[..., None]).reshape(x.shape)
    with np.errstate(all="ignore"):
        for rows, wide in tiles(Packed(blocks, NAMES[kind])):
            y[:, rows] = times(x, wide.T)                                                      # (2)


if __name__ == "__main__":
    backends["native"] = Backend("native", lambda: False)  # as where there is no C
    measure()
