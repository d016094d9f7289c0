"""Lesson 2.20 · A vector times a matrix of small integers

Needs kernel, launch. Used by every test.

Idea      To write one token, a language model multiplies one vector by every matrix it has. Each
          weight is read once and used once, so the time is that of reading, and half the bytes are
          half the time. Weights are stored as small integers with a scale: one for each row, or
          for each group of neighbours in a row. The vector and the sums keep their digits; that is
          what "weight only" means. The kernels here never store the weights in full again.
Math      INT8   y_f = s_f · Σₖ q_fk·x_k                          q in -127 … 127                (1)
          INT4   y_f = Σₖ s_f,⌊k/G⌋ · (q_fk - 8)·x_k              q in 0 … 15                    (2)
Shapes    x (K,), y (F,); INT8: q (F, K) int8, scale (F,); INT4: q (F, K/2) uint8, scale (F, K/G)
          A byte holds two numbers: that of the even k in its lower half, the next in the upper.
Pitfalls  (2) has one number more below zero than above it: -8 … 7. Scale by the largest over 7.
          G divides K; the CUDA body wants a multiple of 8, so that no word has two scales.
          The sum over a group comes first, its scale once after it: fewer products, and as exact.
Cost      F·K bytes for INT8, F·K/2 + F·K/G numbers for INT4, against 4·F·K in float32.
          The NumPy bodies write the weights in full first, and so read far more: a reference.
Try       build it    a zero for each group beside its scale: q - z, for one-sided weights.
          break it    swap the two halves of a byte. Which test notices?
          measure it  python -m tinygrad_edu.ops.gemv: bytes for each of the three, and their errors
See       Dettmers, Zettlemoyer 2023 (4 bits pay best) · Frantar et al. 2023 (GPTQ, groups)
"""

import numpy as np

from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel

WARPS = 4  # of a block: each takes a row of the matrix
THREADS = 32 * WARPS


@Kernel
def gemv_int8_forward(y, x, q, scale):
    weights = q.astype(x.dtype)
    np.matmul(weights, x, out=y)
    y *= scale                                                                                 # (1)


@gemv_int8_forward.body("cuda", when=serves)
def gemv_int8_forward_cuda(y, x, q, scale):
    F, K = q.shape
    grid = blocks(F, WARPS)
    G(y).gemv_int8_forward(grid, THREADS, (y, x, q, scale, F, K))


@Kernel
def gemv_int4_forward(y, x, q, scale):
    products = unpack_int4(q) * x
    groups = products.reshape(*scale.shape, -1)
    sums = groups.sum(axis=-1)
    sums *= scale
    sums.sum(axis=1, out=y)                                                                    # (2)


def _in_words(y, x, q, scale):
    group = len(x) // scale.shape[1]
    return serves(y, x, q, scale) and group % 8 == 0


@gemv_int4_forward.body("cuda", when=_in_words)
def gemv_int4_forward_cuda(y, x, q, scale):
    F, K = len(q), len(x)
    group = K // scale.shape[1]
    grid = blocks(F, WARPS)
    G(y).gemv_int4_forward(grid, THREADS, (y, x, q, scale, F, K, group))


# ---- from numbers to integers -------------------------------------------------------------------

def to_int8(w):
    """(F, K) -> q (F, K) int8 and scale (F,), with q·scale as near to w as 255 steps allow."""
    largest = np.abs(w).max(axis=1)
    scale = largest / 127
    q = _rounded(w, scale[:, None], 127)
    return q.astype(np.int8), scale.astype(w.dtype)


def to_int4(w, group=32):
    """(F, K) -> q (F, K/2) uint8 and scale (F, K/group).

    Raises ValueError where the group does not divide K, or is odd.
    """
    F, K = w.shape
    if group < 1 or group % 2 or K % group:
        raise ValueError(f"rows of {K} numbers cannot be cut into groups of {group}: give an even "
                         "divisor")
    groups = w.reshape(F, K // group, group)
    largest = np.abs(groups).max(axis=2)
    scale = largest / 7
    q = _rounded(groups, scale[..., None], 7) + 8
    q = q.astype(np.uint8).reshape(F, K)
    low, high = q[:, ::2], q[:, 1::2]
    return low | high << 4, scale.astype(w.dtype)


def unpack_int4(q):
    """(F, K/2) uint8 -> (F, K) int8, the numbers from -8 to 7."""
    low, high = q & 15, q >> 4
    pairs = np.stack([low, high], axis=-1)
    numbers = pairs.astype(np.int8)
    numbers -= 8
    return numbers.reshape(len(q), -1)


def _rounded(w, scale, most):
    """w / scale to the nearest integer within ±most; 0 where a scale is 0: all of its w are."""
    step = np.where(scale == 0, 1, scale)
    nearest = np.rint(w / step)
    return np.clip(nearest, -most, most)


def _measure(F=512, K=512):
    x, w = np.random.default_rng(0).standard_normal((2, F, K)).astype(np.float32)
    exact = w @ x[0]
    y = np.empty_like(exact)
    print(f"float32_bytes={w.nbytes}", end="")
    for name, kernel, make in (("int8", gemv_int8_forward, to_int8),
                               ("int4", gemv_int4_forward, to_int4)):
        q, scale = make(w)
        kernel(y, x[0], q, scale)
        error = np.linalg.norm(y - exact)
        error /= np.linalg.norm(exact)
        print(f" {name}_bytes={q.nbytes + scale.nbytes} {name}_error={error:.4f}", end="")
    print()


if __name__ == "__main__":
    _measure()
