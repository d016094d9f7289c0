"""Four sums of integers are the product of two ladders."""

import numpy as np
import pytest

from tinygrad_edu.quant.affine import asymmetric, range_of, symmetric
from tinygrad_edu.quant.algebra import four_sums, product


@pytest.mark.parametrize("x_axis", [None, 1])
@pytest.mark.parametrize("w_axis", [None, 1])
@pytest.mark.parametrize("w_kind", [symmetric, asymmetric])
def test_the_integer_product_is_that_of_the_widened_numbers(x_axis, w_axis, w_kind):
    random = np.random.default_rng(0)
    x, w = random.random((4, 50)) + 0.5, random.standard_normal((3, 50)) - 0.7
    xs, ws = asymmetric(*range_of(x, x_axis)), w_kind(*range_of(w, w_axis))
    qx, qw = xs.round(x), ws.round(w)
    np.testing.assert_allclose(product(qx, xs, qw, ws), xs.widen(qx) @ ws.widen(qw).T, rtol=1e-12)
    terms = four_sums(qx, xs.zero, qw, ws.zero)
    exact = (qx.astype(int) - xs.zero) @ (qw.astype(int) - ws.zero).T
    assert np.array_equal(sum(terms), exact)
    if w_kind is symmetric:
        assert not np.any(terms[1]) and not np.any(terms[3])


def test_rows_too_long_for_32_bits_are_refused():
    q = np.zeros((1, 33_100), np.int8)
    with pytest.raises(ValueError, match="may not fit into 32 bits"):
        four_sums(q, 0, q, 0)
