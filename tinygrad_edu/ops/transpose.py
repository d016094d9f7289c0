"""Lesson 2.29 · Transposes that are to lie in rows

Needs foreign, kernel, launch, memory. Used by every test.

Idea      A transpose is a view and costs nothing, until somebody wants rows: memory.contiguous then
          copies it, and `exchanged` finds out what kind of copy it is. Axes that stay neighbours
          are one axis. What is left of most transposes, of a matrix, of a stack of them, of heads
          and positions before attention, is two groups of axes that change places: (1). On a GPU
          that copy is the standard example of two things that memory does not like. A warp reads 32
          neighbours as four sectors of 32 bytes, and 32 numbers that are a row apart as 32 sectors;
          and shared memory, which helps against that, has 32 banks, of which each serves one lane
          at a time. cuda/transpose.cu has a step for each.
Math      y[p, b, a, d] = x[p, a, b, d]                                                       (1)
          bank(word) = word mod 32: a column of a tile of 32 lies in the bank it begins in, that
          of a tile of 33 in 32 of them                                                       (2)
Shapes    x (P, A, B, D), y (P, B, A, D). A matrix: P = D = 1. Heads: P sequences, A positions, B
          heads of D numbers, and back.
Pitfalls  A permutation of three groups or more is left to NumPy or CuPy, and so are gaps, repeats
          and reversals: `exchanged` says None to them.
          What a warp takes from the tile other warps have put there: without the barrier between
          the two loops it is not there yet.
Cost      One pass: each number is read and written once. With a tile and one column more both
          happen in whole sectors and in one turn of the banks; the emulator's mode "count" shows
          the 32 sectors of the naive kernel and the 32 turns of a tile without that column
          (tests/ops/test_transpose.py).
Try       build it    a body in C that goes tile by tile: what does it gain over NumPy's copy?
          break it    -DPADDING=0, which is right and slow. Which test notices?
          measure it  python -m tinygrad_edu.ops.transpose: NumPy's copy of a matrix, of a transpose
See       Ruetsch, Micikevicius 2009, "Optimizing Matrix Transpose in CUDA" (tiles, banks)
"""

import math

import numpy as np

from ..foreign import REALS
from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel
from ..memory import empty_like, routes

TILE = 32  # rows and columns of a tile, the lanes of a warp
THREADS = 256  # of a block


@Kernel
def transpose_forward(y, x):
    y[...] = x.swapaxes(1, 2)                                                                 # (1)


@transpose_forward.body("cuda", when=lambda y, x: serves(y, x) and x.size < 2**31)
def transpose_forward_cuda(y, x):
    P, A, B, D = x.shape
    if D == 1:
        tiles = P * blocks(A, TILE) * blocks(B, TILE)
        G(y).transpose_forward_tiled(tiles, (TILE, THREADS // TILE), (y, x, A, B))
        return
    rows, lanes = P * A * B, min(32, 1 << (D - 1).bit_length())
    together = THREADS // lanes
    G(y).transpose_forward_rows(blocks(rows, together), (lanes, together), (y, x, A, B, D, rows))


def exchanged(array):
    """The memory of a transpose as (P, A, B, D), where the array itself is (P, B, A, D); or None.

    A view. None for everything that is not two groups of axes that have changed places.
    """
    axes = [axis for axis, size in enumerate(array.shape) if size > 1]
    nothing = [axis for axis, size in enumerate(array.shape) if size <= 1]
    far_first = sorted(axes, key=lambda axis: -array.strides[axis])
    memory = array.transpose(nothing + far_first)
    if not array.size or axes == far_first or not memory.flags.c_contiguous:
        return None
    start, stop = 0, len(axes)
    while axes[start] == far_first[start]:
        start += 1
    while axes[stop - 1] == far_first[stop - 1]:
        stop -= 1
    turn = far_first.index(axes[start])
    groups = [axes[:start], far_first[start:turn], far_first[turn:stop], axes[stop:]]
    if groups[2] + groups[1] != axes[start:stop]:
        return None
    return memory.reshape([math.prod(array.shape[axis] for axis in group) for group in groups])


def transposed_into(copy, array):
    """Fill `copy` from a transpose of its shape, if it is one that the kernel takes; whether."""
    x = exchanged(array) if array.dtype in REALS else None
    if x is None:
        return False
    P, A, B, D = x.shape
    transpose_forward(copy.reshape(P, B, A, D), x)
    return True


routes.append(transposed_into)


def _measure(n=1024, rounds=9):
    from timeit import repeat

    x = np.ones((n, n), np.float32)
    y = empty_like(x)
    for name, source in (("copy", x), ("transpose", x.T)):
        times = repeat(lambda source=source: np.copyto(y, source), number=1, repeat=rounds)
        print(f"{name}_ms={min(times) * 1e3:.2f}", end=" ")
    print()


if __name__ == "__main__":
    _measure()
