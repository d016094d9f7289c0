"""Lesson 2.28 · Packed weights on a GPU

Needs emulate, ladders, launch, packed. Used by every test.

Idea      The kernels of lesson packed, for a GPU. It has __dp4a: four products of bytes and their
          sum in one instruction, so that x as integers of 8 bits pays here, too. Blocks were made
          to be small, not to be read by 32 lanes at once: they begin at even addresses, and their
          bits lie in three places. cuda/packed.cu has a small reader for each kind, all with one
          question: which eight of 32 numbers does lane i of four get? Around the reader stands one
          text for all kinds. For one row of x a warp walks along a row of W, and the time is that
          of reading W. For many, 64 rows of W meet 64 of x in shared memory.
Math      (1) and (2) of lesson packed
          a tile of s × s sums unpacks 32·s rungs for 32·s² products: each is used s times      (1)
Shapes    those of lesson packed: x (N, K), q (N, K), scale and sum (N, K/32), blocks (F, bytes)
Pitfalls  Only kinds whose blocks are multiples of four bytes can be read by four bytes: F rows of
          210 bytes begin at even addresses.
          A rung of four bits has no sign, __dp4a takes bytes with one: the middle is taken off
          four rungs at once, and no byte may borrow from the next.
          Without a ladder (F32, F16, BF16) there is no integer product: x goes in as it is.
Cost      One row of x: the bytes of W, as they are, and nothing else. N rows: W is read and
          unpacked ⌈N/64⌉ times, and two barriers separate 32 numbers from the next 32.
Try       build it    two parts of 32 numbers for each pair of barriers: how many registers more?
          break it    leave out the lower line of `of_five`'s bits. Which kinds notice?
          measure it  python -m tinygrad_edu.ops.packed_cuda: sectors a request, of each kind
See       ggml, ggml-cuda (mmvq and mmq: the same two kernels) · PTX ISA, "dp4a"
"""

import numpy as np

from ..gpu import emulate
from ..gpu.launch import G, aligned
from ..gpu.launch import blocks as enough
from .ladders import KINDS, LADDERS, NAMES, PLAIN
from .packed import PART, packed_product, quantize_rows, unpack_rows

WARPS = 8  # of a block
THREADS = 32 * WARPS
SIDE = 64  # rows of w and of x that meet in a tile
FEW = 8  # rows of x from which on tiles take them; below, each gets a warp of its own


def _serves(*args):
    """Whether the kernels can read a call: rows without gaps, floats of 32 bits, whole words."""
    arrays = [a for a in args if hasattr(a, "strides")]
    floats = all(a.dtype == np.float32 for a in arrays if a.dtype.kind == "f")
    rows = all(a.flags.c_contiguous for a in arrays)
    return bool(floats and rows and args[0].size and aligned(*arrays, to=4))


@quantize_rows.body("cuda", when=_serves)
def quantize_rows_cuda(q, scale, sum, x):
    parts = scale.size
    kernels = G(x, REAL="float")
    kernels.quantize_rows(enough(parts, WARPS), THREADS, (q, scale, sum, x, parts))


@packed_product.body("cuda", when=_serves)
def packed_product_cuda(y, x, q, scale, sum, blocks, kind):
    (N, K), (F, width) = x.shape, blocks.shape
    kernels, warps = G(y, REAL="float"), (enough(F, WARPS), N)
    if NAMES[kind] in PLAIN:
        kernels.plain_product(warps, THREADS, (y, x, blocks, F, K, width, kind))
        return
    inputs, sizes = (q, scale, sum, blocks), (F, K // PART, width, kind)
    if N < FEW:
        kernels.packed_product_rows(warps, THREADS, (y, *inputs, *sizes))
    else:
        tiles = enough(F, SIDE), enough(N, SIDE)
        kernels.packed_product_tiles(tiles, THREADS, (y, *inputs, N, *sizes))


@unpack_rows.body("cuda", when=_serves)
def unpack_rows_cuda(y, blocks, kind):
    kernels, (rows, width) = G(y, REAL="float"), blocks.shape
    if NAMES[kind] in PLAIN:
        kernels.unpack_plain(enough(y.size, THREADS), THREADS, (y, blocks, y.size, kind))
        return
    lanes, parts = y.size // 8, y.shape[1] // PART
    kernels.unpack_rows(enough(lanes, THREADS), THREADS, (y, blocks, rows, parts, width, kind))


def _measure(F=8, K=1024):
    """Print, for each kind, the sectors that the blocks of a row take, over those at best."""
    random = np.random.default_rng(0)
    x = random.standard_normal((1, K), np.float32)
    y = np.empty((1, F), np.float32)
    q, scale, sum = np.empty((1, K), np.int8), x[:, ::PART].copy(), np.empty((1, K // PART), "i4")
    with emulate.emulating(mode="count"):
        quantize_rows_cuda(q, scale, sum, x)
        for name in LADDERS:
            number, size, width, _ = KINDS[name]
            blocks = random.integers(0, 60, (F, K // size * width), np.uint8)
            packed_product_cuda(y, x, q, scale, sum, blocks, number)
            kernel = G(y, REAL="float").packed_product_rows
            counts = emulate.emulated_file(kernel.source, kernel.defines, "count").counted()
            took, best = (np.sum([getattr(c, what) for c in counts])
                          for what in ("sectors", "ideal"))
            print(f"{name}_sectors={took / best:.2f}", end=" ")
    print()


if __name__ == "__main__" and emulate.available():
    _measure()
