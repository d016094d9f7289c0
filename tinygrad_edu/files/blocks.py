"""Lesson 3.16 · Blocks: numbers that share a scale

Needs memory, safetensors. Used by gguf.

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

from ..memory import empty
from .safetensors import bf16_to_float32

FEW, MANY = 32, 256  # numbers of a block, and of one with K


def half(raw):
    """Two bytes a block as one float32 each, (N, 1)."""
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def nibbles(raw):
    """(N, n) bytes -> (N, 2n) numbers of four bits, all lower halves first."""
    return np.concatenate([raw & 15, raw >> 4], axis=-1)


def fifth_bits(raw):
    """(N, 4) bytes -> (N, 32) numbers 0 or 16: bit k belongs to number k."""
    return np.unpackbits(raw, axis=1, bitorder="little") << 4


def q8_0(raw):
    """(1)"""
    return half(raw[:, :2]) * raw[:, 2:].view(np.int8).astype(np.float32)


def q4_0(raw):
    """(2)"""
    return half(raw[:, :2]) * (nibbles(raw[:, 2:]).astype(np.int8) - 8).astype(np.float32)


def q4_1(raw):
    """(3)"""
    return half(raw[:, :2]) * nibbles(raw[:, 4:]).astype(np.float32) + half(raw[:, 2:4])


def q5_0(raw):
    """(2)"""
    q = nibbles(raw[:, 6:]) | fifth_bits(raw[:, 2:6])
    return half(raw[:, :2]) * (q.astype(np.int8) - 16).astype(np.float32)


def q5_1(raw):
    """(3)"""
    q = nibbles(raw[:, 8:]) | fifth_bits(raw[:, 4:8])
    return half(raw[:, :2]) * q.astype(np.float32) + half(raw[:, 2:4])


def six_bits(raw):
    """(N, 12) bytes -> the scales s and m of (4), (N, 8) each.

    The first four of each lie in the lower six bits of bytes 0 … 3 and 4 … 7; of the others the
    lower four bits are in bytes 8 … 11, and the upper two are what was left in the first eight.
    """
    first, second, rest = raw[:, :4], raw[:, 4:8], raw[:, 8:]
    s = np.concatenate([first & 63, rest & 15 | first >> 6 << 4], axis=1)
    m = np.concatenate([second & 63, rest >> 4 | second >> 6 << 4], axis=1)
    return s.astype(np.float32), m.astype(np.float32)


def scaled(raw, q):
    """(4) for q (N, 8, 32)."""
    s, m = six_bits(raw[:, 4:16])
    step, below = half(raw[:, :2]) * s, half(raw[:, 2:4]) * m
    return (step[..., None] * q.astype(np.float32) - below[..., None]).reshape(-1, MANY)


def q4_k(raw):
    """(4): 32 bytes hold two groups of 32 numbers."""
    q = nibbles(raw[:, 16:].reshape(-1, 4, 32))
    return scaled(raw, q.reshape(-1, 8, 32))


def q5_k(raw):
    """(4): bit j of the k-th byte of 32 is the fifth of number k in group j."""
    q = nibbles(raw[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    high = raw[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return scaled(raw, q | high << 4)


def q6_k(raw):
    """(5): in each half of a block, a byte of upper bits serves four numbers 32 apart."""
    q = nibbles(raw[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    high = raw[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3
    q = (q | high << 4).astype(np.int8) - 32
    step = half(raw[:, 208:]) * raw[:, 192:208].view(np.int8).astype(np.float32)
    return (step[..., None] * q.reshape(-1, 16, 16).astype(np.float32)).reshape(-1, MANY)


#       name: (numbers of a block, bytes, from bytes to numbers)
READ = {"Q8_0": (FEW, 34, q8_0), "Q4_0": (FEW, 18, q4_0), "Q4_1": (FEW, 20, q4_1),
        "Q5_0": (FEW, 22, q5_0), "Q5_1": (FEW, 24, q5_1), "Q4_K": (MANY, 144, q4_k),
        "Q5_K": (MANY, 176, q5_k), "Q6_K": (MANY, 210, q6_k),
        "F32": (1, 4, lambda raw: raw.view("<f4").astype(np.float32)), "F16": (1, 2, half),
        "BF16": (1, 2, lambda raw: bf16_to_float32(raw.view("<u2")))}


def from_blocks(raw, kind):
    """The numbers in raw bytes (…, n) uint8, rows of whole blocks: (…, numbers) float32."""
    size, width, read = READ[kind]
    flat = np.ascontiguousarray(raw).reshape(-1, width)
    y = empty((*raw.shape[:-1], raw.shape[-1] // width * size), np.float32)
    y.reshape(-1, size)[...] = read(flat)
    return y


# ---- the way back ----------------------------------------------------------------------------


def inverse(d):
    """1/d, and 0 for 0."""
    with np.errstate(divide="ignore"):
        return np.where(d == 0, d, 1 / d)


def stored(d):
    """A scale as two bytes, (N, 2)."""
    with np.errstate(over="ignore"):               # above 65504 it is infinity, as everywhere
        return d.astype("<f2").view(np.uint8).reshape(-1, 2)


def packed(q):
    """(N, 32) numbers of four bits as (N, 16) bytes."""
    return q[:, :16] | q[:, 16:] << 4


def to_q8_0(x):
    """(6)"""
    d = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    scaled = x * inverse(d)
    q = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)
    return np.concatenate([stored(d), q.view(np.uint8)], axis=1)


def to_q4_0(x):
    """(7)"""
    extreme = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    d = extreme / np.float32(-8)
    q = np.trunc(np.float64(x) * np.float64(inverse(d)) + 8.5).astype(np.uint8).clip(0, 15)
    return np.concatenate([stored(d), packed(q)], axis=1)


def to_q4_1(x):
    """(8)"""
    low = x.min(axis=1, keepdims=True)
    d = (x.max(axis=1, keepdims=True) - low) / np.float32(15)
    q = np.trunc((x - low) * inverse(d) + np.float32(0.5)).astype(np.uint8).clip(0, 15)
    return np.concatenate([stored(d), stored(low), packed(q)], axis=1)


WRITE = {"Q8_0": to_q8_0, "Q4_0": to_q4_0, "Q4_1": to_q4_1,
         "F32": lambda x: x.astype("<f4").view(np.uint8), "F16": lambda x: stored(x)}


def to_blocks(x, kind):
    """Floats (…, n) as bytes (…, bytes) uint8. ValueError where n is not a multiple of a block."""
    size, width, _ = READ[kind]
    if x.shape[-1] % size:
        raise ValueError(f"rows of {x.shape[-1]} numbers do not divide into blocks of {size}, as "
                         f"{kind} needs")
    flat = np.ascontiguousarray(x, np.float32).reshape(-1, size)
    return WRITE[kind](flat).reshape(*x.shape[:-1], x.shape[-1] // size * width)
