"""Lesson 3.16 · Blocks: numbers that share a scale

Needs memory, safetensors, threads. Used by gguf.

Idea      A weight needs four bits if its neighbours lend it their size. 32 numbers in a row are
          mostly about equally large: store the size once, as a scale, and each number as a small
          integer, its place on a ladder of 16 or 256 rungs. That is a block. If all numbers of a
          block are above 0, half of a ladder around 0 is wasted: a second number says where the
          ladder begins. Larger blocks of 256 store scales of scales: each 32 (or 16) numbers have
          a scale of six (or eight) bits, and one number of 16 bits says how large those are.
Math      Q8_0            x = d·q                        q in −128 … 127                       (1)
          Q4_0, Q5_0      x = d·(q − 8), d·(q − 16)      q of 4 and 5 bits                     (2)
          Q4_1, Q5_1      x = d·q + m                                                          (3)
          Q4_K, Q5_K      x = (d·sⱼ)·q − (e·mⱼ)          sⱼ, mⱼ of 6 bits for 32 numbers       (4)
          Q6_K            x = (d·sⱼ)·(q − 32)            sⱼ of 8 bits for 16 numbers           (5)
          writing: Q8_0   d = max|x|/127                 q = x/d, halves away from 0           (6)
                   Q4_0   d = −(x of the greatest |x|)/8 q = ⌊x/d + 8.5⌋, at most 15           (7)
                   Q4_1   m = min x, d = (max x − m)/15  q = ⌊(x − m)/d + ½⌋                   (8)
Shapes    bytes (N, bytes a block) uint8 <-> floats (N, numbers a block) float32; N blocks
          bytes a block: Q8_0 34 · Q4_0 18 · Q4_1 20 · Q5_0 22 · Q5_1 24 · Q4_K 144 · Q5_K 176 ·
          Q6_K 210; numbers: 32, with K 256
Pitfalls  Of a block of 32 with 4 bits, byte k holds number k in its lower half and number k + 16 in
          its upper one: not k and k + 1.
          The scale is stored with 16 bits, but q is computed with the exact one, (6) to (8); who
          rounds d first gets other bytes than everybody else.
          The sign of d in (7) puts the extreme number on the rung −8, which has no opposite +8.
          d = 0 where all numbers are 0: 1/d must not be computed.
Cost      Reading 100 million numbers this way takes seconds and four bytes for each: for decoding
          with every weight read once a token, kernels multiply blocks as they are.
Try       build it    Q2_K, from its layout in ggml-common.h.
          break it    exchange lower and upper halves of the bytes. Which test notices?
          measure it  the error of each kind on normal numbers, times its bits
See       ggml, src/ggml-common.h (layouts of the blocks) · Dettmers, Zettlemoyer 2023
"""

import numpy as np

from .. import threads
from ..memory import empty
from .safetensors import bf16_to_float32

FEW, MANY = 32, 256  # numbers of a block, and of one with K


def cut(raw, *places):
    """Bytes (N, n) as pieces that end at these places, and the rest."""
    return np.split(raw, places, axis=1)


def half(raw):
    """Two bytes a block as one float32 each, (N, 1)."""
    raw = np.ascontiguousarray(raw)
    words = raw.view("<f2")
    return words.astype(np.float32)


def nibbles(raw):
    """(…, n) bytes -> (…, 2n) numbers of four bits, all lower halves first."""
    halves = raw & 15, raw >> 4
    return np.concatenate(halves, axis=-1)


def fifth_bits(raw):
    """(N, 4) bytes -> (N, 32) numbers 0 or 16: bit k belongs to number k."""
    bits = np.unpackbits(raw, axis=1, bitorder="little")
    return bits << 4


def signed(q, middle=0):
    """Rungs as float32, counted from the middle of the ladder."""
    small = q.view(np.int8)
    small = small - np.int8(middle)
    return small.astype(np.float32)


def q8_0(raw):
    """(1)"""
    d, q = cut(raw, 2)
    return half(d) * signed(q)


def q4_0(raw):
    """(2)"""
    d, q = cut(raw, 2)
    steps = signed(nibbles(q), 8)
    return half(d) * steps


def q4_1(raw):
    """(3)"""
    d, m, q = cut(raw, 2, 4)
    x = half(d) * signed(nibbles(q))
    return x + half(m)


def q5_0(raw):
    """(2)"""
    d, high, low = cut(raw, 2, 6)
    q = nibbles(low) | fifth_bits(high)
    return half(d) * signed(q, 16)


def q5_1(raw):
    """(3)"""
    d, m, high, low = cut(raw, 2, 4, 8)
    q = nibbles(low) | fifth_bits(high)
    x = half(d) * signed(q)
    return x + half(m)


def six_bits(raw):
    """(N, 12) bytes -> the scales s and m of (4), (N, 8) each.

    The first four of each lie in the lower six bits of bytes 0 … 3 and 4 … 7; of the others the
    lower four bits are in bytes 8 … 11, and the upper two are what was left in the first eight.
    """
    first, second, rest = cut(raw, 4, 8)
    more_s = rest & 15 | first >> 6 << 4
    more_m = rest >> 4 | second >> 6 << 4
    s = first & 63, more_s
    m = second & 63, more_m
    both = np.concatenate(s + m, axis=1)
    return cut(both.astype(np.float32), 8)


def in_groups(head, q):
    """(4) for q (N, 8, 32) behind the first 16 bytes of a block."""
    d, e, scales = cut(head, 2, 4)
    s, m = six_bits(scales)
    step, below = half(d) * s, half(e) * m
    x = step[..., None] * signed(q)
    x -= below[..., None]                                                                      # (4)
    return x.reshape(-1, MANY)


def q4_k(raw):
    """(4): 32 bytes hold two groups of 32 numbers."""
    head, q = cut(raw, 16)
    q = nibbles(q.reshape(-1, 4, 32))
    return in_groups(head, q.reshape(-1, 8, 32))


def q5_k(raw):
    """(4): bit j of the k-th byte of 32 is the fifth of number k in group j."""
    head, high, low = cut(raw, 16, 48)
    low = nibbles(low.reshape(-1, 4, 32))
    bit = np.arange(8, dtype=np.uint8)
    high = high[:, None] >> bit[:, None] & 1
    q = low.reshape(-1, 8, 32)
    return in_groups(head, q | high << 4)


def q6_k(raw):
    """(5): in each half of a block, a byte of upper bits serves four numbers 32 apart."""
    low, high, s, d = cut(raw, 128, 192, 208)
    low = nibbles(low.reshape(-1, 2, 64))
    shift = np.arange(0, 8, 2, dtype=np.uint8)
    high = high.reshape(-1, 2, 1, 32) >> shift[:, None] & 3
    q = low.reshape(-1, 2, 4, 32) | high << 4
    step = half(d) * signed(s)
    steps = signed(q, 32).reshape(-1, 16, 16)
    x = step[..., None] * steps                                                                # (5)
    return x.reshape(-1, MANY)


def single(raw):
    """Numbers of 32 bits, as they are."""
    x = raw.view("<f4")
    return x.astype(np.float32)


def bfloat(raw):
    """Numbers of the upper 16 bits: lesson safetensors."""
    return bf16_to_float32(raw.view("<u2"))


READ = {  # name: (numbers of a block, bytes, from bytes to numbers)
    "F32": (1, 4, single),
    "F16": (1, 2, half),
    "BF16": (1, 2, bfloat),
    "Q8_0": (FEW, 34, q8_0),
    "Q4_0": (FEW, 18, q4_0),
    "Q4_1": (FEW, 20, q4_1),
    "Q5_0": (FEW, 22, q5_0),
    "Q5_1": (FEW, 24, q5_1),
    "Q4_K": (MANY, 144, q4_k),
    "Q5_K": (MANY, 176, q5_k),
    "Q6_K": (MANY, 210, q6_k),
}


AT_ONCE = 1 << 16  # numbers, so that all that is made on the way stays in a core's cache


def from_blocks(raw, kind, out=None):
    """The numbers in raw bytes (…, n) uint8, rows of whole blocks: (…, numbers) float32.

    out: where they are to go, an array whose elements lie in row order.
    """
    size, width, read = READ[kind]
    *outer, n = raw.shape
    count = n // width
    y = empty((*outer, count * size), np.float32) if out is None else out
    raw = np.ascontiguousarray(raw)
    blocks, flat = raw.reshape(-1, width), y.reshape(-1, size)
    step = AT_ONCE // size

    def fill(flat, blocks):
        with np.errstate(invalid="ignore", over="ignore"):  # a scale may be infinite, or no number
            for low in range(0, len(blocks), step):
                part = slice(low, low + step)
                flat[part] = read(blocks[part])
    threads.split(fill, (flat, blocks), cut=(0, 1))
    return y


# ---- the way back ----------------------------------------------------------------------------


def inverse(d):
    """1/d, and 0 for 0."""
    with np.errstate(divide="ignore"):
        return np.where(d == 0, d, 1 / d)


def stored(d):
    """A scale as two bytes, (N, 2)."""
    with np.errstate(over="ignore"):               # above 65504 it is infinity, as everywhere
        words = d.astype("<f2")
    return words.view(np.uint8)


def packed(q):
    """(N, 32) rungs as (N, 16) bytes; what is above the ladder is brought to its end."""
    q = q.astype(np.uint8)
    low, high = cut(q.clip(0, 15), 16)
    return low | high << 4


def to_q8_0(x):
    """(6)"""
    size = np.abs(x).max(axis=1)
    d = size[:, None] / np.float32(127)
    exact = x * inverse(d)
    up = np.copysign(np.float32(0.5), exact)
    q = np.trunc(exact + up)
    return joined(stored(d), q.astype(np.int8))


def to_q4_0(x):
    """(7)"""
    place = np.abs(x).argmax(axis=1)
    rows = np.arange(len(x))
    extreme = x[rows, place]
    d = extreme[:, None] / np.float32(-8)
    exact = np.float64(x) * inverse(d)
    q = np.trunc(exact + 8.5)
    return joined(stored(d), packed(q))


def to_q4_1(x):
    """(8)"""
    m = x.min(axis=1)[:, None]
    high = x.max(axis=1)[:, None]
    d = (high - m) / np.float32(15)
    exact = (x - m) * inverse(d)
    q = np.trunc(exact + np.float32(0.5))
    return joined(stored(d), stored(m), packed(q))


def joined(*parts):
    """The parts of each block, side by side."""
    parts = [part.view(np.uint8) for part in parts]
    return np.concatenate(parts, axis=1)


def to_single(x):
    """Numbers of 32 bits."""
    words = x.astype("<f4")
    return words.view(np.uint8)


WRITE = {"Q8_0": to_q8_0, "Q4_0": to_q4_0, "Q4_1": to_q4_1, "F32": to_single, "F16": stored}


def to_blocks(x, kind):
    """Floats (…, n) as bytes (…, bytes) uint8. ValueError where n is not a multiple of a block."""
    size, width, _ = READ[kind]
    *outer, n = x.shape
    if n % size:
        raise ValueError(f"rows of {n} numbers do not divide into blocks of {size}, as {kind} "
                         "needs")
    write = WRITE[kind]
    x = np.ascontiguousarray(x, np.float32)
    raw = write(x.reshape(-1, size))
    return raw.reshape(*outer, n // size * width)
