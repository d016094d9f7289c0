"""Lesson 6.3 · Four bits, in groups

Needs affine, gemv. Used by nothing.

Idea      Sixteen rungs are few. They are enough if a ladder has to serve 32 neighbours of a row
          and not thousands of numbers: among so few, the largest is seldom far above the others. A
          scale for each group makes half a bit a number. If a zero is kept beside it, all sixteen
          rungs lie where the group has numbers; without one, the ladder reaches as far below 0 as
          above, and one rung is left over. Products need no numbers in full: a group's sum is
          multiplied by its scale once, and its zero asks for nothing but the sum of x.
Math      symmetric    w ≈ s_g·(q − 8)       s_g = max|w|/7 of group g                          (1)
          asymmetric   w ≈ s_g·(q − z_g)     s_g = (max − min)/15, z_g = round(−min/s_g)       (2)
          y = Σ_g s_g·( Σ_{k in g} q_k·x_k − z_g·Σ_{k in g} x_k )                               (3)
          bits a number: 4 + 16/G symmetric, 4 + 24/G asymmetric, with a scale of 16 bits       (4)
Shapes    w (F, K) · q (F, K/2) uint8, two to a byte, the even k in the lower half (lesson gemv)
          scale, zero (F, K/G) · x (N, K) · y (N, F)
Pitfalls  z is an integer from 0 to 15, and so 0 is a rung, as long as the range is widened to hold
          it. Formats that store a minimum in place of z (Q4_1, lesson blocks) need not do that.
          Rounding each weight by itself is not the best for the output: see Frantar et al.
          Errors of 4 bits are felt first in the layers at both ends; leave some of them alone.
Cost      (3) reads K/2 bytes a row and K/G scales. Here NumPy widens the integers: for speed there
          are lesson gemv on a GPU, and the kernels for packed blocks.
Try       build it    a second ladder for the scales themselves, of 8 bits: what is (4) then?
          break it    take Σ x over all k and not over the group. Which test notices?
          measure it  python -m tinygrad_edu.quant.int4_groups: errors and bits for some G
See       Dettmers, Zettlemoyer 2023 · Frantar et al. 2023 (GPTQ) · Lin et al. 2024 (AWQ)
"""

from typing import NamedTuple

import numpy as np

from ..ops.gemv import unpack_int4
from .affine import filled, range_of


class Int4(NamedTuple):
    """A matrix of (1) or (2); see Shapes."""

    q: np.ndarray
    scale: np.ndarray
    zero: np.ndarray

    def steps(self):
        """q (F, groups, G) as it is multiplied, 0 … 15."""
        q = unpack_int4(self.q) + 8                # lesson gemv takes the 8 off already
        return q.reshape(*self.scale.shape, -1)

    def widen(self):
        """The matrix as floats (F, K)."""
        w = self.scale[..., None] * (self.steps() - self.zero[..., None])
        return w.reshape(len(self.q), -1)

    def product(self, x):
        """(3): x (N, K) -> y (N, F)."""
        groups = x.reshape(len(x), self.scale.shape[1], -1)
        y = np.einsum("ngk,fgk,fg->nf", groups, self.steps().astype(x.dtype), self.scale,
                      optimize=True)
        return y - groups.sum(axis=2) @ (self.scale * self.zero).T                             # (3)

    @property
    def bits(self):
        """A number's share of all that is kept, scales counted with 16 bits and zeros with 8."""
        zeros = 0 if np.all(self.zero == 8) else 8
        return 4 + self.scale.size * (16 + zeros) / (2 * self.q.size)


def to_int4(w, group=32, zeros=False):
    """w (F, K) as an Int4 by (1), or by (2) with zeros.

    ValueError where the groups, which are even, do not divide the rows, and for NaN or infinity.
    """
    F, K = w.shape
    if group < 2 or group % 2 or K % group:
        raise ValueError(f"rows of {K} numbers cannot be cut into groups of {group}: give an even "
                         "divisor")
    groups = w.reshape(F, K // group, group)
    low, high = (end[..., 0] for end in range_of(groups, 2))
    if zeros:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        scale = filled((high - low) / 15)
        zero = np.rint(-low / scale)                                                           # (2)
    else:
        scale = filled(np.maximum(-low, high) / 7)
        zero = np.full(scale.shape, 8.0)                                                       # (1)
    zero = zero.astype(w.dtype)
    q = np.clip(np.rint(groups / scale[..., None]) + zero[..., None], 0, 15).astype(np.uint8)
    q = q.reshape(F, K)
    return Int4(q[:, ::2] | q[:, 1::2] << 4, scale, zero)


def _measure(F=256, K=1024):
    w = np.random.default_rng(0).standard_t(5, (F, K)).astype(np.float32)
    for group in (16, 32, 128, K):
        for zeros in (False, True):
            found = to_int4(w, group, zeros)
            error = np.linalg.norm(found.widen() - w) / np.linalg.norm(w)
            kind = "zeros" if zeros else "plain"
            print(f"group={group} {kind}_bits={found.bits:.2f} {kind}_error={error:.4f}")


if __name__ == "__main__":
    _measure()
