"""Lesson 6.1 · Integer algebra: a product of two ladders is four sums

Needs affine, int8. Used by int8_linear.

Idea      Both sides of a product lie on ladders with zeros of their own. Multiplying out what that
          means leaves one sum of products of small integers, which a CPU does fast, and three
          corrections that need only sums of rows: of the weights, once and for all, and of the
          inputs, one pass. So nothing is ever widened, and the zeros cost next to nothing.
Math      y = Σ_k s_x(q_x − z_x)·s_w(q_w − z_w)
            = s_x·s_w·[ Σ q_x·q_w  −  z_w·Σ q_x  −  z_x·Σ q_w  +  K·z_x·z_w ]                    (1)
          the first sum is a product of integers, exact in 32 bits (lesson int8). With
          symmetric weights, z_w = 0: the second and fourth vanish. Both symmetric: one is left  (2)
          s_x, z_x may differ from row to row of x, s_w, z_w from row to row of W: all of (1)
          stays true, since a sum over k sees one row of each                                   (3)
          |q − z| ≤ 255, so all of [ ] is below K·255², in 32 bits while K < 33,000             (4)
Shapes    q_x (N, K), q_w (F, K) int8 · s_x, z_x () or (N, 1) · s_w, z_w () or (F, 1) · y (N, F)
Pitfalls  A ladder for each column k of x would not do: s_x could not leave the sum over k. That is
          why an outlier that sits in one column of all inputs is hard to deal with.
          Each of the four sums is larger than their total: subtract as integers, scale afterwards.
Cost      N·F·K integer multiplications; N·K and F·K additions, the latter once for all inputs.
Try       build it    the product for q of 4 bits in one operand.
          break it    leave out K·z_x·z_w. For which inputs does no test of yours notice?
          measure it  python -m tinygrad_edu.quant.algebra: the four sums of one product
See       Jacob et al. 2018, equations 4 to 8 · gemmlowp, doc/low-precision.md
"""

import numpy as np

from ..ops.int8 import multiply
from .affine import asymmetric, range_of


def four_sums(qx, zx, qw, zw, sum_w=None):
    """The bracket of (1), (N, F) int32, as a tuple of its four terms with their signs.

    sum_w: Σ q_w (F,), where it is known already. ValueError where (4) does not hold.
    """
    K = qx.shape[1]
    if K * 255**2 >= 2**31:
        raise ValueError(f"sums over {K} products may not fit into 32 bits: cut the rows")
    sum_x = qx.sum(axis=1, dtype=np.int32)[:, None]
    if sum_w is None:
        sum_w = qw.sum(axis=1, dtype=np.int32)
    zw = np.reshape(zw, -1)
    return multiply(qx, qw), -zw * sum_x, -zx * sum_w, K * zx * zw                             # (1)


def product(qx, x_ladder, qw, w_ladder, sum_w=None):
    """(1): y (N, F) as floats; ladders: of lesson affine, one for all or one for each row."""
    total = sum(four_sums(qx, x_ladder.zero, qw, w_ladder.zero, sum_w))
    return x_ladder.scale * total * np.reshape(w_ladder.scale, -1)                             # (3)


def _measure(N=2, F=3, K=256):
    random = np.random.default_rng(0)
    x, w = random.random((N, K)), random.standard_normal((F, K))
    x_ladder, w_ladder = asymmetric(*range_of(x)), asymmetric(*range_of(w, 1))
    qx, qw = x_ladder.round(x), w_ladder.round(w)
    for name, term in zip(("Σ q_x·q_w", "−z_w·Σ q_x", "−z_x·Σ q_w", "K·z_x·z_w"),
                          four_sums(qx, x_ladder.zero, qw, w_ladder.zero), strict=True):
        print(f"{name:<12}{np.broadcast_to(term, (N, F))[0]}")
    y = product(qx, x_ladder, qw, w_ladder)
    print(f"y            {y[0].round(2)}\nexact        {(x @ w.T)[0].round(2)}")


if __name__ == "__main__":
    _measure()
