"""Lesson 2.27 · Products of integers of eight bits

Needs foreign, kernel, memory. Used by algebra, cache.

Idea      A product of two integers of eight bits has sixteen, and a sum of many of them fits into
          32: so a CPU can multiply and add without ever rounding, on four times as many numbers at
          a time as with floats. What is lost is lost before, when floats become integers: each row
          gets a scale, its largest size over 127, and every number becomes the nearest multiple
          of it. These are the three loops that lesson algebra and the cache of keys and values
          (lesson cache) are made of: to integers, multiply, and back.
Math      y_nf = Σₖ a_nk·b_fk                      exact, while K·128² < 2³¹                    (1)
          scale_n = maxₖ |x_nk| / 127      q_nk = x_nk / scale_n to the nearest integer         (2)
          x_nk ≈ scale_n·q_nk              |x_nk − scale_n·q_nk| ≤ scale_n/2                    (3)
Shapes    a, q (N, K) int8 · b (F, K) int8 · y (N, F) int32 · x (N, K) floats · scale (N,) floats
Pitfalls  127 and not 128: with −128 among the numbers a ladder would have more below 0 than above,
          and −x would not be the negative of x.
          NumPy multiplies int8 by int8 as int8, and 100·100 is 16: widen first.
          A row with NaN or infinity in it has no scale. It becomes NaN as a whole, so that nobody
          takes the rest of it for numbers.
          One large number in a row makes all others coarse. That is why rows are short where they
          can be: a head at a position, in the cache.
Cost      (1) N·F·K multiplications, 16 to 64 of them in one instruction. (2) and (3) read and write
          each number once.
Try       build it    rows of 4 bits, two to a byte.
          break it    divide by 128 in (2). Which test notices?
          measure it  python -m tinygrad_edu.ops.int8
See       Jacob et al. 2018, section 2 (integers alone) · Dettmers et al. 2022 (LLM.int8)
"""

import numpy as np

from ..foreign import C, any_C, fits, fits_any, out, ptr
from ..kernel import Kernel
from ..memory import contiguous, empty_like

MOST = 127
LONGEST = (2**31 - 1) // (MOST + 1) ** 2  # numbers of a row whose products add up in 32 bits


@Kernel
def int8_product(y, a, b):
    wide = b.astype(np.int32)
    np.matmul(a.astype(np.int32), wide.T, out=y)                                               # (1)


@int8_product.body("native", rows="y a", when=fits_any)
def int8_product_native(y, a, b):
    any_C().int8_product(out(y), ptr(a), ptr(b), *y.shape, a.shape[1])


@Kernel(outputs=2)
def int8_rows(scale, q, x):
    with np.errstate(all="ignore"):
        most = np.abs(x).max(axis=1)
        scale[...] = np.where(np.isfinite(most), most / MOST, np.nan)
        some = scale > 0                           # False for NaN
        step = np.where(some, scale, 1)
        nearest = np.rint(x / step[:, None])                                                   # (2)
        q[...] = np.where(some[:, None], nearest, 0)


@int8_rows.body("native", rows="scale q x", when=fits)
def int8_rows_native(scale, q, x):
    C(x).int8_rows(out(scale), out(q), ptr(x), *x.shape)


@Kernel
def int8_widen(y, q, scale):
    np.multiply(q, scale[:, None], out=y)                                                      # (3)


@int8_widen.body("native", rows="y q scale", when=fits)
def int8_widen_native(y, q, scale):
    C(y).int8_widen(out(y), ptr(q), ptr(scale), *y.shape)


# ---- for arrays of any shape ---------------------------------------------------------------------


def multiply(a, b):
    """(1) for a (N, K) and b (F, K), both int8: (N, F) int32.

    ValueError for shapes that do not fit, and for rows whose sums would not fit into 32 bits.
    """
    if a.ndim != 2 or a.shape[1:] != b.shape[1:]:
        raise ValueError(f"a product of integers needs (rows, K) and (columns, K), not {a.shape} "
                         f"and {b.shape}")
    if a.shape[1] > LONGEST:
        raise ValueError(f"sums of {a.shape[1]} products of int8 may not fit into 32 bits: cut the "
                         f"rows into parts of {LONGEST} at most")
    y = empty_like(a, (len(a), len(b)), np.int32)
    int8_product(y, contiguous(a), contiguous(b))
    return y


def to_rows(x):
    """(2) for floats (…, K): q (…, K) int8 and scale (…)."""
    x = contiguous(x)
    q, scale = empty_like(x, dtype=np.int8), empty_like(x, x.shape[:-1])
    int8_rows(scale.reshape(-1), q.reshape(-1, x.shape[-1]), x.reshape(-1, x.shape[-1]))
    return q, scale


def from_rows(q, scale):
    """(3) for q (…, K) int8 and scale (…): floats (…, K)."""
    q, scale = contiguous(q), contiguous(scale)
    y = empty_like(scale, q.shape)
    int8_widen(y.reshape(-1, q.shape[-1]), q.reshape(-1, q.shape[-1]), scale.reshape(-1))
    return y


def _measure(rows=512, K=1024, rounds=9):
    from statistics import median
    from time import perf_counter

    x = np.random.default_rng(0).standard_normal((rows, K)).astype(np.float32)
    q, scale = to_rows(x)
    calls = {"product": (multiply, q, q), "to_rows": (to_rows, x),
             "from_rows": (from_rows, q, scale)}
    for name, (function, *args) in calls.items():
        times = []
        for _ in range(rounds):
            start = perf_counter()
            function(*args)
            times.append(perf_counter() - start)
        print(f"{name}_us={median(times) * 1e6:.0f}", end=" ")
    print(f"error_over_bound={np.max(np.abs(x - from_rows(q, scale)) / scale[:, None]) * 2:.3f}")


if __name__ == "__main__":
    _measure()
