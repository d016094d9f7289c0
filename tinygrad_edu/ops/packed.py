"""Lesson 2.24 · Products with weights that stay packed

Needs foreign, kernel, ladders, matmul, memory, tensor, threads. Used by blocks.

Idea      A weight of four bits is read from memory four times as fast as one of sixteen, if it is
          multiplied as it lies in the file. Widening it to a float first would give that away; so
          the other side comes to meet it: 32 numbers of x at a time become integers of eight bits
          with one scale. Then a product is one of integers, which a CPU multiplies and adds up by
          64 in one instruction, and only one sum in 32 is ever a float. For one row of x the time
          is that of reading W. For many, rows of W are laid out once for all rows of x, so that
          the sums stay in registers, and the time is that of the multiplications.
Math      z ≈ x = scale·q      scale = max|x|/127, q = x/scale to the nearest integer          (1)
          y_r = Σ over ladders of x: step·scale·Σ (w − middle)·q + low·scale·Σ q              (2)
          the sum of integers is exact in 32 bits: 32·255·127 < 2²⁰                           (3)
          error: |x − scale·q| ≤ scale/2 for each, hence |y_r − exact| ≤ ½ Σ scale·|W_rk|       (4)
          dx = dy·W                                                                            (5)
Shapes    x (…, K) float32 · W: bytes (F, bytes of a row), a Packed of shape (F, K) · y (…, F)
          inside: q (N, K) int8, scale (N, K/32), sum (N, K/32) int32: sums of 32 integers
Pitfalls  x·W is not what float32 gives, but within (4); gradients (5) are of the exact product.
          One large number in x makes the steps of its 31 neighbours coarse: (4).
          Where one of 32 numbers is infinite or NaN there is no scale: it is NaN, and so are all y
          of that row of x. Below 2⁻¹⁰⁰, all 32 count as zeros.
          AVX2 multiplies bytes without a sign by bytes with one, and adds two products in 16 bits,
          at most 32767: a w above 128 would overflow. So rungs count from 0, and the middle is
          taken off the sum, not off each number.
          F16, BF16 and F32 have no ladders: they are widened and multiplied with x as it is.
Cost      Decoding reads the bytes of W; its share of what a loop that only reads gets, and what
          many rows of x reach: python -m tinygrad_edu.ops.packed.
          C has texts for AVX2, AVX-512 with VNNI, and ARM64 with and without its dot product. The
          last two give the right numbers in an emulator, which says nothing about their speed.
          AMX, Intel's products of whole tiles, is left out: it was not there to be measured.
Try       build it    the same product for two rows of x at a time, for two people who chat.
          break it    leave out `middle` where many rows are taken. Which test notices?
          measure it  python -m tinygrad_edu.ops.packed
See       ggml, ggml-quants.c (the same idea) · Dettmers et al. 2022 (LLM.int8, outliers) · Intel,
          "Deep Learning Boost" (VPDPBUSD) · native/integers.h, native/packed_many.c
"""

import numpy as np

from .. import threads
from ..foreign import any_C, fits_any, out, ptr
from ..kernel import Kernel, asked_once
from ..memory import beside, contiguous, empty_like, zeros_like
from ..tensor import as_tensor, record
from .ladders import KINDS, LADDERS, NAMES, PLAIN
from .matmul import matmul_forward

PART = 32  # numbers of x that share a scale
LEAST = np.float32(2.0**-100)  # 32 numbers that are all smaller are zeros
SIDE = 16  # rows of w in a panel: native/packed_many.c
TILE = 512  # rows of w that are floats at the same time
MANY = 8  # rows of x for which a tile of floats pays, where there are no ladders


class Packed:
    """A matrix (rows, numbers) that stays in blocks of a kind of LADDERS or PLAIN.

    blocks: (rows, bytes of a row) uint8, kept as they are: they may lie in a mapped file.
    ValueError for an unknown kind, and for bytes that are no rows of whole blocks.
    """

    ndim = 2
    requires_grad = False

    def __init__(self, blocks, kind):
        if kind not in KINDS:
            raise ValueError(f"there are no blocks of kind {kind!r}; there are {', '.join(KINDS)}")
        if blocks.ndim != 2 or blocks.dtype != np.uint8 or not blocks.flags.c_contiguous:
            raise ValueError("packed weights are rows of bytes without gaps, (rows, bytes) uint8, "
                             f"not {blocks.shape} {blocks.dtype}")
        if blocks.shape[1] % KINDS[kind].width:
            raise ValueError(f"rows of {blocks.shape[1]} bytes do not divide into blocks of "
                             f"{KINDS[kind].width}, as {kind} has them")
        self.blocks, self.kind = blocks, kind
        self.shape = len(blocks), blocks.shape[1] // KINDS[kind].width * KINDS[kind].size

    nbytes = property(lambda self: self.blocks.nbytes, doc="What a product reads.")

    def __len__(self):
        return len(self.blocks)

    def rows(self, ids):
        """Some rows as float32; ids: integers of any shape, or a slice -> (…, numbers)."""
        blocks = self.blocks[beside(ids, self.blocks)]
        y = empty_like(blocks, (*blocks.shape[:-1], self.shape[1]), np.float32)
        flat = contiguous(blocks).reshape(-1, blocks.shape[-1])
        unpack_rows(y.reshape(-1, self.shape[1]), flat, KINDS[self.kind].number)
        return y

    def __repr__(self):
        return f"Packed({self.kind} {self.shape})"


# ---- kernels ---------------------------------------------------------------------------------


@Kernel
def unpack_rows(y, blocks, kind):
    _, size, width, read = KINDS[NAMES[kind]]
    with np.errstate(all="ignore"):                # a scale may be infinite, or no number
        y[...] = read(blocks.reshape(-1, width)).reshape(y.shape)


@Kernel(outputs=3)
def quantize_rows(q, scale, sum, x):
    parts = x.reshape(len(x), -1, PART)
    with np.errstate(all="ignore"):
        most = np.abs(parts).max(axis=2)
        some = (most >= LEAST) & (most < np.inf)   # False for NaN as well
        inverse = np.where(some, 127 / most, 0)
        exact = np.where(some[..., None], parts * inverse[..., None], 0)
    nearest = np.rint(exact)                                                                   # (1)
    q[...] = nearest.reshape(x.shape)
    sum[...] = nearest.sum(axis=2)
    scale[...] = np.where(some, most / 127, np.where(most < LEAST, 0, np.nan))


@Kernel
def packed_product(y, x, q, scale, sum, blocks, kind):
    _, size, width, read = (LADDERS | PLAIN)[NAMES[kind]]
    y[...] = 0
    with np.errstate(all="ignore"):
        found = read(blocks.reshape(-1, width))
        if NAMES[kind] in PLAIN:
            np.matmul(x, found.reshape(len(blocks), -1).T, out=y)
            return
        w, step, low = (a if a is None else a.reshape(len(blocks), -1) for a in found)
        ladder = w.shape[1] // step.shape[1]
        for k in range(step.shape[1]):
            part, b = slice(k * ladder, (k + 1) * ladder), k * ladder // PART
            t = q[:, part].astype(np.int32) @ w[:, part].T.astype(np.int32)                    # (3)
            y += scale[:, b, None] * step[:, k] * t
            if low is not None:
                y += (scale[:, b] * sum[:, b])[:, None] * low[:, k]                            # (2)


@asked_once
def in_rows(*args):
    """Whether loops can serve: all arrays lie in rows without gaps, floats have 32 bits."""
    floats = [a for a in args if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    return fits_any(*args) and all(a.dtype == np.float32 for a in floats)


@unpack_rows.body("native", rows="y blocks", when=in_rows)
def unpack_rows_native(y, blocks, kind):
    any_C().unpack_rows(out(y), ptr(blocks), kind, *y.shape, blocks.shape[1])


@quantize_rows.body("native", rows="q scale sum x", when=in_rows)
def quantize_rows_native(q, scale, sum, x):
    any_C().quantize_rows(out(q), out(scale), out(sum), ptr(x), *x.shape)


@packed_product.body("native", when=in_rows)
def packed_product_native(y, x, q, scale, sum, blocks, kind):
    (N, K), F = x.shape, len(blocks)
    arrays = out(y), ptr(x), ptr(q), ptr(scale), ptr(sum), ptr(blocks)

    def some(first, last):
        any_C().packed_product(*arrays, kind, N, K, F, blocks.shape[1], first, last)
    in_panels(some, N, blocks)


def in_panels(product, N, blocks):
    """Call product(first, last) on shares of the rows of W, in whole panels, one a thread.

    N: how many rows of x they meet.
    """
    F = len(blocks)

    def some(panels):
        product(panels[0] * SIDE, min(panels[-1] * SIDE + SIDE, F))
    grain = 0 if blocks.nbytes * N >= threads.GRAIN else 1 << 62
    threads.split(some, (np.arange(-(-F // SIDE)),), (0,), grain=grain)


# ---- the operation ---------------------------------------------------------------------------


def packed_linear(x, weight, b=None):
    """x·Wᵀ + b by (2), for a Packed W; a gradient reaches x and b, not W.

    x (…, K) float32, weight (F, K), b (F,) or None -> (…, F).
    ValueError for shapes that do not fit, TypeError for an x of another type.
    """
    if x.shape[-1:] != weight.shape[1:]:
        raise ValueError(f"packed_linear needs x (…, in) and w (out, in), not {x.shape} and "
                         f"{weight.shape}")
    if x.dtype != np.float32:
        raise TypeError(f"packed weights are multiplied with float32, not {x.dtype}")
    if b is not None and as_tensor(b, like=x).shape != weight.shape[:1]:
        raise ValueError(f"packed_linear needs one bias an output, {weight.shape[:1]}, not "
                         f"{b.shape}")
    y = product_of(contiguous(x.data).reshape(-1, weight.shape[1]), weight)
    if b is not None:
        y += b.data
    shape, wanted = x.shape, x.requires_grad

    def vjp(dy):
        rows = contiguous(dy).reshape(-1, len(weight))
        dx = back_through(rows, weight).reshape(shape) if wanted else None
        return dx if b is None else (dx, rows.sum(axis=0))
    return record(y.reshape(*shape[:-1], len(weight)), (x,) if b is None else (x, b), vjp)


def product_of(x, weight):
    """Rows x (N, K) float32 times a Packed (F, K): (2), as an array (N, F)."""
    y = empty_like(x, (len(x), len(weight)))
    parts = 0 if weight.kind in PLAIN else x.shape[1] // PART
    if not parts and len(x) >= MANY:
        for rows, wide in tiles(weight):
            y[:, rows] = times(x, wide.T)
        return y
    q = empty_like(x, (len(x), parts * PART), np.int8)
    scale = empty_like(x, (len(x), parts))
    sum = empty_like(x, (len(x), parts), np.int32)
    if parts:
        quantize_rows(q, scale, sum, x)
    packed_product(y, x, q, scale, sum, weight.blocks, KINDS[weight.kind].number)
    return y


def back_through(dy, weight):
    """dx (N, K) of (5) from dy (N, F)."""
    dx = zeros_like(dy, (len(dy), weight.shape[1]))
    for rows, wide in tiles(weight):
        dx += times(dy[:, rows], wide)                                                         # (5)
    return dx


def tiles(weight):
    """(which rows, those rows as floats), a tile at a time."""
    for low in range(0, len(weight), TILE):
        rows = slice(low, low + TILE)
        yield rows, weight.rows(rows)


def times(a, b):
    """The product of two matrices, in a new array."""
    y = empty_like(a, (len(a), b.shape[1]))
    matmul_forward(y, contiguous(a), b)
    return y


def measure(F=8192, K=1536, rows=512, rounds=7):
    """Print, for each kind, the share of what reading alone gets, and Gop/s for many rows of x."""
    from time import perf_counter

    def fastest(f, *args):
        times = []
        for _ in range(rounds):
            start = perf_counter()
            f(*args)
            times.append(perf_counter() - start)
        return min(times)

    random = np.random.default_rng(0)
    x = random.standard_normal((rows, K), np.float32)
    for name, kind in KINDS.items():
        raw = random.integers(0, 60, (F * 8, K // kind.size * kind.width), np.uint8)
        one, few = Packed(raw, name), Packed(raw[:F // 8], name)
        words = raw.reshape(-1).view(np.uint64)
        read = fastest(lambda words=words: threads.split(np.bitwise_or.reduce, (words,), (0,)))
        share = read / fastest(product_of, x[:1], one)
        ops = 2 * rows * few.shape[0] * K / fastest(product_of, x, few)
        print(f"{name}_share={share:.2f} {name}_gops={ops / 1e9:.0f}")


if __name__ == "__main__":
    measure()
