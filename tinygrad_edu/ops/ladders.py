"""Lesson 2.23 · Ladders: integers that share a scale

Needs nothing. Used by blocks, packed.

Idea      A weight of four bits is a place on a ladder of sixteen rungs. Neighbours in a row share
          the ladder: how far apart its rungs are, and, in some kinds, where it begins. What a file
          holds is rungs, as integers, and a few ladders, as numbers of 16 bits. Whoever wants the
          weights computes (1). Whoever wants a product with them need not: a sum of products with
          integers, taken once times the distance of the rungs, is the same, (2), and a CPU
          multiplies integers of 8 bits faster than floats.
Math      x = step·(q − middle) + low                                                          (1)
          Σ x·z = step·Σ (q − middle)·z + low·Σ z       over the numbers of a ladder           (2)
          Q8_0   step = d, q in −128 … 127            Q4_0, Q5_0   step = d, middle = 8, 16    (3)
          Q4_1, Q5_1   step = d, low = m                                                       (4)
          Q4_K, Q5_K   step = d·s, low = −e·m         s and m of 6 bits, a pair for 32 numbers (5)
          Q6_K         step = d·s, middle = 32        s of 8 bits, one for 16 numbers          (6)
Shapes    raw (N, bytes of a block) uint8 -> q (N, numbers) int8, step and low (N, ladders) float32,
          low None where it is 0; d, e and m of (4) have 16 bits
          block: 32 numbers with one ladder; with K 256, and 8 ladders or 16
Pitfalls  Of a block of 32 with 4 bits, byte k holds number k in its lower half and number k + 16 in
          its upper one: not k and k + 1.
          A block of Q4_K has 12 bytes for 16 numbers of 6 bits; the second half of them lies in
          pieces: `six_bits`.
Cost      These readings are the reference, and read a file once. What runs for every token reads
          blocks in C: lesson packed.
Try       build it    Q2_K, from its layout in ggml-common.h.
          break it    exchange lower and upper halves of the bytes. Which tests notice?
          measure it  python scripts/inspect_model.py FILE: which kinds does a file mix, and why?
See       ggml, src/ggml-common.h (layouts of the blocks) · Dettmers, Zettlemoyer 2023
"""

from typing import NamedTuple

import numpy as np

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


def from_middle(q, middle):
    """Rungs, counted from the one that stands for 0."""
    return q.view(np.int8) - np.int8(middle)


def q8_0(raw):
    """(3)"""
    d, q = cut(raw, 2)
    return from_middle(q, 0), half(d), None


def q4_0(raw):
    """(3)"""
    d, q = cut(raw, 2)
    return from_middle(nibbles(q), 8), half(d), None


def q4_1(raw):
    """(4)"""
    d, m, q = cut(raw, 2, 4)
    return from_middle(nibbles(q), 0), half(d), half(m)


def q5_0(raw):
    """(3)"""
    d, high, low = cut(raw, 2, 6)
    q = nibbles(low) | fifth_bits(high)
    return from_middle(q, 16), half(d), None


def q5_1(raw):
    """(4)"""
    d, m, high, low = cut(raw, 2, 4, 8)
    q = nibbles(low) | fifth_bits(high)
    return from_middle(q, 0), half(d), half(m)


def six_bits(raw):
    """(N, 12) bytes -> s and m of (5), (N, 8) each.

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
    """(5) for q (N, 8, 32) behind the first 16 bytes of a block."""
    d, e, scales = cut(head, 2, 4)
    s, m = six_bits(scales)
    return from_middle(q.reshape(-1, MANY), 0), half(d) * s, -(half(e) * m)                    # (5)


def q4_k(raw):
    """(5): 32 bytes hold two groups of 32 numbers."""
    head, q = cut(raw, 16)
    q = nibbles(q.reshape(-1, 4, 32))
    return in_groups(head, q)


def q5_k(raw):
    """(5): bit j of the k-th byte of 32 is the fifth of number k in group j."""
    head, high, low = cut(raw, 16, 48)
    low = nibbles(low.reshape(-1, 4, 32))
    bit = np.arange(8, dtype=np.uint8)
    high = high[:, None] >> bit[:, None] & 1
    return in_groups(head, low.reshape(-1, 8, 32) | high << 4)


def q6_k(raw):
    """(6): in each half of a block, a byte of upper bits serves four numbers 32 apart."""
    low, high, s, d = cut(raw, 128, 192, 208)
    low = nibbles(low.reshape(-1, 2, 64))
    shift = np.arange(0, 8, 2, dtype=np.uint8)
    high = high.reshape(-1, 2, 1, 32) >> shift[:, None] & 3
    q = low.reshape(-1, 2, 4, 32) | high << 4
    s = s.view(np.int8)
    return from_middle(q.reshape(-1, MANY), 32), half(d) * s.astype(np.float32), None          # (6)


class Kind(NamedTuple):
    """A kind of blocks: its number in GGUF files, numbers and bytes of a block, and its reading.

    read: raw -> (q, step, low); of kinds without a ladder, raw -> floats.
    """

    number: int
    size: int
    width: int
    read: object


def ladder_floats(read):
    """(1): from blocks to floats, for a kind with ladders."""
    def floats(raw):
        q, step, low = read(raw)
        x = q.reshape(*step.shape, -1) * step[..., None]
        if low is not None:
            x += low[..., None]
        return x.reshape(q.shape)                                                              # (1)
    return floats


def single(raw):
    """Numbers of 32 bits, as they are."""
    return raw.view("<f4").astype(np.float32)


def bfloat(raw):
    """Numbers of 16 bits that are the upper halves of floats."""
    words = raw.view("<u2").astype(np.uint32) << 16
    return words.view(np.float32)


LADDERS = {
    "Q8_0": Kind(8, FEW, 34, q8_0),
    "Q4_0": Kind(2, FEW, 18, q4_0),
    "Q4_1": Kind(3, FEW, 20, q4_1),
    "Q5_0": Kind(6, FEW, 22, q5_0),
    "Q5_1": Kind(7, FEW, 24, q5_1),
    "Q4_K": Kind(12, MANY, 144, q4_k),
    "Q5_K": Kind(13, MANY, 176, q5_k),
    "Q6_K": Kind(14, MANY, 210, q6_k),
}
PLAIN = {
    "F32": Kind(0, 1, 4, single),
    "F16": Kind(1, 1, 2, half),
    "BF16": Kind(30, 1, 2, bfloat),
}
KINDS = PLAIN | {name: kind._replace(read=ladder_floats(kind.read))
                 for name, kind in LADDERS.items()}  # all of them, read as floats
NAMES = {kind.number: name for name, kind in KINDS.items()}
