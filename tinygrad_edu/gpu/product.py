"""Lesson 1.20 · Products of matrices on a GPU

Needs foreign, launch. Used by matmul, muon.

Idea      A GPU multiplies far faster than it reads: an H200 does some 60 · 10¹² operations a second
          in float32, and reads 10¹² numbers. So the whole art is to use each number that was read
          for many products. cuda/matmul.cu climbs there in five steps, from one thread for each
          number of y to tiles in registers; cuda/matmul_tensorcore.cu hands small matrices to
          the tensor cores, in bfloat16, half precision or tf32. Here is what launches both.
Math      y = a·b, yᵢⱼ = Σₖ aᵢₖ·bₖⱼ; with a bias, yᵢⱼ = biasⱼ + Σₖ aᵢₖ·bₖⱼ                      (1)
          a tile of s × s sums reads 2·s·K numbers for s²·K products: s/2 products a number     (2)
          bf16(x): 8 bits of mantissa, to nearest, ties to even; tf32(x): 11 of them            (3)
Shapes    a (N, K), b (K, M), y (N, M); batched (P, N, K), (P, K, M), (P, N, M)
          bfloat16 is uint16 in NumPy, which has no such type: the upper half of a float32.
Pitfalls  A transpose costs nothing if the kernel knows of it: it gets the array that lies in memory
          and a flag. A view with other gaps is refused, and left to the next body.
          Tensor cores read 16 bytes at a time: the length of the rows that lie in memory must be a
          multiple of 8 (bfloat16) or 4 (tf32).
          tf32 looks like float32 and is not: a product of 1024 numbers has three correct digits.
          On Hopper mma.sync does not reach the peak of the tensor cores: its own instructions
          (wgmma) do, and no other GPU has these.
Cost      By (2) a thread's own 4 × 4 sums make 2 products of a number from shared memory, 8 × 8
          make 4; a block's 64 or 128 rows make 32 or 64 of a number from memory.
          128 tiles of y and more keep a GPU busy; a smaller y is cut into smaller tiles.
          In the emulator the steps differ by their waits alone: python -m tinygrad_edu.gpu.product
Try       build it    `split K`: for a tall K and a small y several blocks share a tile.
          break it    leave the second barrier of matmul_forward_tiled out. Which order notices?
          measure it  python -m tinygrad_edu.gpu.product: the ladder, on a GPU if there is one
See       Boehm 2022, "How to Optimize a CUDA Matmul Kernel for cuBLAS-like Performance" · PTX ISA,
          "Matrix Fragments for mma.m16n8k16" · Volkov, Demmel 2008 (sums in registers)
"""

import math

import numpy as np

from ..foreign import REALS
from .launch import G, aligned, blocks, serves

MANY = 128  # tiles that keep a GPU busy: it has about as many multiprocessors
THREADS = 256  # of a block
SHARED = 4 * 2 * 128 * 64  # cuda/matmul_tensorcore.cu: 4 stages of 2 tiles of 128 lines of 64 bytes
BF16 = np.dtype(np.uint16)


def dense(x):
    """The array, or its transpose where that is what lies in memory without gaps."""
    return x if x.flags.c_contiguous else x.swapaxes(-1, -2)


def is_turned(x):
    """1 where an array is the transpose of what lies in memory, for a kernel; else 0."""
    return int(not x.flags.c_contiguous)


def serves_product(y, a, b, *bias):
    """Whether `launch_product` takes these arrays: one type, each dense or the transpose of it."""
    return serves(y, dense(a), dense(b), *bias)


def launch_product(name, y, a, b, *bias):
    """Launch a kernel of cuda/matmul.cu: (1), one block for each tile of y."""
    *P, N, M = y.shape
    def tiles(side):
        return math.prod(P) * blocks(N, 16 * side) * blocks(M, 16 * side)
    wide = not P and y.itemsize == 4 and tiles(8) >= MANY  # in double the sums fill the registers
    side = 8 if wide else 4
    lengths = [N, a.shape[-1], M] + ([] if bias else [is_turned(a), is_turned(b)])
    kernel = getattr(G(y, SIDE=side), name)
    kernel(tiles(side), THREADS, (y, dense(a), dense(b), *bias, *lengths))


def tensor_core_product(y, a, b, bias=None, fp16=False):
    """y = a·b on tensor cores, plus a bias (M,) of float32 if given: (1).

    a, b: both bfloat16, as uint16 (with fp16=True the bits of half precision), or both float32,
    which are rounded to tf32; transposes are taken as they are. y: float32, or bfloat16 as uint16.
    Sums are float32. Raises ValueError where the shapes or the layouts do not fit, TypeError for
    other types.
    """
    if a.dtype != b.dtype or a.dtype not in (BF16, REALS[0]) or y.dtype not in (BF16, REALS[0]):
        raise TypeError("tensor cores multiply two arrays of uint16 (bfloat16) or two of float32, "
                        f"not {a.dtype} and {b.dtype} into {y.dtype}")
    (N, K), M = a.shape, b.shape[1]
    if b.shape[0] != K or y.shape != (N, M):
        raise ValueError(f"the product of {a.shape} and {b.shape} does not fit into {y.shape}")
    few = 16 // a.itemsize
    if not aligned(a, b):
        raise ValueError("tensor cores read 16 bytes at a time, and an operand does not begin at "
                         "a multiple of 16: use copy")
    if dense(a).shape[1] % few or dense(b).shape[1] % few:
        raise ValueError(f"tensor cores read {few} numbers of {a.dtype} at a time: the rows that "
                         f"lie in memory, of {dense(a).shape[1]} and {dense(b).shape[1]} numbers, "
                         f"must be multiples of {few}; pad them with zeros")
    library = G(y, REAL="float", OUT="bf16" if y.dtype == BF16 else "float",
                A_TURNED=is_turned(a), B_TURNED=is_turned(b), FP16=int(fp16))
    kernel = library.matmul_bf16 if a.dtype == BF16 else library.matmul_tf32
    tiles = blocks(N, 128) * blocks(M, 128)
    kernel(tiles, THREADS, (y, dense(a), dense(b), bias, N, K, M), shared_mem=SHARED)


# ---- the steps of the ladder, to be read and measured -------------------------------------------

# name -> the threads of a block along x and y, and what a block covers of y: columns, rows
LADDER = {
    "naive": ((32, 8), None),  # rows along x
    "coalesced": ((32, 8), (32, 8)),
    "tiled": ((16, 16), (16, 16)),
    "registers": ((16, 16), (64, 64)),
}


def ladder_product(step, y, a, b):
    """y = a·b by a step of the ladder; the arrays contiguous."""
    (N, M), K = y.shape, a.shape[1]
    block, tile = LADDER[step]
    grid = (blocks(M, tile[0]), blocks(N, tile[1])) if tile else (blocks(N, 32), blocks(M, 8))
    getattr(G(y), f"matmul_forward_{step}")(grid, block, (y, a, b, N, K, M))


def _measure(n=256, rounds=5):
    from time import perf_counter

    from .launch import on_device

    xp, wait = np, lambda: None
    if on_device():
        import cupy as xp

        n, wait = 4096, xp.cuda.Device().synchronize
    y, a, b = (xp.asarray(x) for x in np.random.default_rng(0).standard_normal((3, n, n), "f"))
    steps = {step: lambda step=step: ladder_product(step, y, a, b) for step in LADDER}
    steps["vectors"] = lambda: launch_product("matmul_forward", y, a, b)
    steps["tf32"] = lambda: tensor_core_product(y, a, b)
    for name, run in steps.items():
        times = []
        for _ in range(rounds + 1):  # the first one compiles
            start = perf_counter()
            run()
            wait()
            times.append(perf_counter() - start)
        print(f"{name}_ms={1e3 * min(times[1:]):.2f}", end=" ")
    print(f"n={n}")


if __name__ == "__main__":
    _measure()
