"""Groups of four bits: the bound, one-sided weights, products without widening."""

import numpy as np
import pytest

from tinygrad_edu.quant.int4_groups import to_int4


def one_sided():
    return np.random.default_rng(0).random((6, 64)) ** 2


@pytest.mark.parametrize("zeros", [False, True])
def test_no_weight_moves_by_more_than_its_step_and_the_product_is_that_of_the_widened(zeros):
    w = np.random.default_rng(0).standard_normal((6, 64)) + 0.3
    w[0, :16], w[1, 3] = 0, 9
    found = to_int4(w, 16, zeros)
    steps = found.scale.repeat(16, axis=1)
    assert np.all(np.abs(found.widen() - w) <= (1 if zeros else 0.5) * steps + 1e-12)
    assert np.all(found.widen()[0, :16] == 0)
    x = np.random.default_rng(1).standard_normal((3, 64))
    np.testing.assert_allclose(found.product(x), x @ found.widen().T, rtol=1e-9, atol=1e-9)


def test_a_zero_halves_the_error_of_one_sided_weights():
    w = one_sided()
    plain, with_zeros = (np.linalg.norm(to_int4(w, 32, zeros).widen() - w)
                         for zeros in (False, True))
    assert with_zeros < 0.6 * plain
    assert to_int4(w, 32).bits == 4.5 and to_int4(w, 32, True).bits == 4.75


def test_groups_that_do_not_divide_a_row_are_refused():
    for group in (0, 7, 48):
        with pytest.raises(ValueError, match="cannot be cut into groups"):
            to_int4(one_sided(), group)
