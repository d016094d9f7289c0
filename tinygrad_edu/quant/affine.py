"""Lesson 6.0 · Scale and zero: floats on a ladder of integers

Needs nothing. Used by algebra, int8_linear, int4_groups.

Idea      A float of 32 bits can be nearly any number; the weights of one layer are a few million
          that lie close together. Lay a ladder over the range they fill, and say for each only
          which rung it is nearest to: eight bits for 256 rungs. Two numbers belong to the ladder,
          the distance of its rungs and the rung on which 0 lies. If negative and positive numbers
          go equally far, 0 may be in the middle, and need not be kept. If not, as behind an
          activation that has no negative side, a middle at 0 would waste half of the ladder.
          One ladder for a whole matrix has to reach its largest number. One for each row, a channel
          of the output, has to reach the largest of that row only, and costs a float a row.
Math      x ≈ s·(q − z)                       s the step or scale, z the zero, an integer       (1)
          q = clip(round(x/s) + z, low, high)                                                   (2)
          symmetric    s = max|x|/127                   z = 0, q in −127 … 127                  (3)
          asymmetric   s = (max − min)/255, the range widened to hold 0
                       z = round(−128 − min/s), q in −128 … 127                                 (4)
          in the range |x − s·(q − z)| ≤ s/2; asymmetric: ≤ s, since z is rounded               (5)
Shapes    x any shape · q int8 of that shape · s, z: shapes that can stand beside x: () for one
          ladder, (F, 1) for one of each row
Pitfalls  0 has to be a rung, or padding and ReLU's zeros are no zeros any more: so (4) widens the
          range to hold it, and rounds z.
          One number far out stretches the ladder for all others. A range that leaves out the
          outermost share of numbers may have the smaller mean error: `share` below.
          All numbers 0: there is no step. It is set to 1, and all q to z.
Cost      A pass over the numbers for the range, one to round. Four times less memory.
Try       build it    the range with the smallest mean squared error, by trying a hundred of them.
          break it    leave z unrounded. What becomes of a zero?
          measure it  python -m tinygrad_edu.quant.affine: the four errors of a matrix whose rows
                      differ in size
See       Jacob et al. 2018, section 2.1 · Krishnamoorthi 2018 (one a channel) · Nagel et al. 2021
"""

from typing import NamedTuple

import numpy as np


class Ladder(NamedTuple):
    """s and z of (1)."""

    scale: np.ndarray
    zero: np.ndarray

    def round(self, x):
        """(2): int8."""
        rungs = np.rint(x / self.scale) + self.zero
        return np.clip(rungs, -128, 127).astype(np.int8)

    def widen(self, q):
        """(1): floats."""
        return self.scale * (q.astype(self.scale.dtype) - self.zero)


def range_of(x, axis=None, share=1.0):
    """(lowest, highest) of x: of all numbers, or along an axis, whose length becomes 1.

    share: of the numbers that are to lie within, the outermost on both sides being left out.
    ValueError for NaN and infinity, of which there is no range.
    """
    x = np.asarray(x)
    if not np.isfinite(x).all():
        raise ValueError("there is a NaN or an infinity among the numbers: no ladder reaches them")
    outside = (1 - share) / 2
    options = {"axis": axis, "keepdims": axis is not None}
    if outside == 0:
        return x.min(**options), x.max(**options)
    low, high = np.quantile(x, [outside, 1 - outside], **options)
    return low.astype(x.dtype), high.astype(x.dtype)


def symmetric(low, high):
    """(3) for a range."""
    most = np.maximum(-low, high)
    scale = filled(most / 127)
    zero = np.zeros(scale.shape, np.int32)
    return Ladder(scale, zero)


def asymmetric(low, high):
    """(4) for a range."""
    low = np.minimum(low, 0)
    high = np.maximum(high, 0)
    scale = filled((high - low) / 255)
    zero = np.rint(-128 - low / scale)
    return Ladder(scale, zero.astype(np.int32))


def filled(scale):
    """1 in the place of 0: there all numbers are 0."""
    return np.where(scale == 0, 1, scale).astype(scale.dtype)


def _measure(rows=64, columns=256):
    random = np.random.default_rng(0)
    w = random.standard_normal((rows, columns)) * np.geomspace(0.01, 1, rows)[:, None]
    w = np.maximum(w, -0.2 * np.abs(w).max(axis=1, keepdims=True))  # little below 0
    for kind in (symmetric, asymmetric):
        for name, axis in (("tensor", None), ("channel", 1)):
            ladder = kind(*range_of(w, axis))
            error = ladder.widen(ladder.round(w)) - w
            relative = np.linalg.norm(error, axis=1) / np.linalg.norm(w, axis=1)
            print(f"{kind.__name__}_{name}={relative.mean():.4f}", end=" ")
    print()


if __name__ == "__main__":
    _measure()
