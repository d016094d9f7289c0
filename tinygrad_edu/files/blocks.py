"""Lesson 3.16 · Blocks: numbers that share a scale

Needs ladders, memory, packed, threads. Used by gguf.

Idea      A weight needs four bits if its neighbours lend it their size. 32 numbers in a row are
          mostly about equally large: store the size once, as a scale, and each number as a small
          integer, its place on a ladder of 16 or 256 rungs. That is a block. If all numbers of a
          block are above 0, half of a ladder around 0 is wasted: a second number says where the
          ladder begins. Larger blocks of 256 store scales of scales: each 32 (or 16) numbers have
          a scale of six (or eight) bits, and one number of 16 bits says how large those are.
Math      reading: lesson ladders
          writing: Q8_0   d = max|x|/127                 q = x/d, halves away from 0           (1)
                   Q4_0   d = −(x of the greatest |x|)/8 q = ⌊x/d + 8.5⌋, at most 15           (2)
                   Q4_1   m = min x, d = (max x − m)/15  q = ⌊(x − m)/d + ½⌋                   (3)
Shapes    bytes (N, bytes a block) uint8 <-> floats (N, numbers a block) float32; N blocks
          bytes a block: Q8_0 34 · Q4_0 18 · Q4_1 20 · Q5_0 22 · Q5_1 24 · Q4_K 144 · Q5_K 176 ·
          Q6_K 210; numbers: 32, with K 256
Pitfalls  Of a block of 32 with 4 bits, byte k holds number k in its lower half and number k + 16 in
          its upper one: not k and k + 1.
          The scale is stored with 16 bits, but q is computed with the exact one, (1) to (3); who
          rounds d first gets other bytes than everybody else.
          The sign of d in (2) puts the extreme number on the rung −8, which has no opposite +8.
          d = 0 where all numbers are 0: 1/d must not be computed.
Cost      Reading writes four bytes for a number that had half of one or one: for decoding,
          which reads every weight once a token, kernels multiply blocks as they are.
Try       build it    Q2_K, from its layout in ggml-common.h.
          break it    exchange lower and upper halves of the bytes. Which test notices?
          measure it  the error of each kind on normal numbers, times its bits
See       ggml, src/ggml-common.h (layouts of the blocks) · Dettmers, Zettlemoyer 2023
"""

import numpy as np

from .. import threads
from ..memory import empty
from ..ops.ladders import KINDS, cut
from ..ops.packed import unpack_rows

READ = {name: kind[1:] for name, kind in KINDS.items()}  # numbers of a block, bytes, the way back
AT_ONCE = 1 << 16  # numbers, so that all that is made on the way stays in a core's cache


def from_blocks(raw, kind, out=None):
    """The numbers in raw bytes (…, n) uint8, rows of whole blocks: (…, numbers) float32.

    out: where they are to go, an array whose elements lie in row order.
    """
    number, size, width, _ = KINDS[kind]
    *outer, n = raw.shape
    count = n // width
    y = empty((*outer, count * size), np.float32) if out is None else out
    raw = np.ascontiguousarray(raw)
    blocks, flat = raw.reshape(-1, width), y.reshape(-1, size)
    step = AT_ONCE // size

    def fill(flat, blocks):
        for low in range(0, len(blocks), step):
            part = slice(low, low + step)
            unpack_rows(flat[part], blocks[part], number)
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
    """(1)"""
    size = np.abs(x).max(axis=1)
    d = size[:, None] / np.float32(127)
    exact = x * inverse(d)
    up = np.copysign(np.float32(0.5), exact)
    q = np.trunc(exact + up)
    return joined(stored(d), q.astype(np.int8))


def to_q4_0(x):
    """(2)"""
    place = np.abs(x).argmax(axis=1)
    rows = np.arange(len(x))
    extreme = x[rows, place]
    d = extreme[:, None] / np.float32(-8)
    exact = np.float64(x) * inverse(d)
    q = np.trunc(exact + 8.5)
    return joined(stored(d), packed(q))


def to_q4_1(x):
    """(3)"""
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
