"""Ladders: half a step, a zero that is a rung, channels, outliers, and what has no range."""

import numpy as np
import pytest

from tinygrad_edu.quant.affine import asymmetric, range_of, symmetric


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("kind, steps", [(symmetric, 0.5), (asymmetric, 1.0)])
def test_nothing_in_range_moves_by_more_than_the_bound_and_zero_stays_zero(kind, steps, axis):
    x = np.random.default_rng(0).standard_normal((5, 40)) + 1.5
    x[2], x[:, 0] = 0, 0
    ladder = kind(*range_of(x, axis))
    back = ladder.widen(ladder.round(x))
    assert np.all(np.abs(back - x) <= steps * ladder.scale * (1 + 1e-12))
    assert np.all(back[x == 0] == 0)


def test_a_ladder_of_each_row_is_finer_where_rows_differ_in_size():
    x = np.array([[1.0, -2.0], [100.0, 50.0]])
    one, each = symmetric(*range_of(x)), symmetric(*range_of(x, 1))
    assert one.scale == pytest.approx(100 / 127) and each.scale.ravel() * 127 == pytest.approx(
        [2, 100])


def test_numbers_of_one_sign_get_all_rungs_with_a_zero_and_half_of_them_without():
    x = np.linspace(0, 1, 50)
    with_zero, without = (kind(*range_of(x)).round(x) for kind in (asymmetric, symmetric))
    assert (with_zero.min(), with_zero.max()) == (-128, 127)
    assert (without.min(), without.max()) == (0, 127)


def test_a_range_may_leave_out_the_outermost_and_what_lies_beyond_is_cut_off():
    x = np.append(np.linspace(-1, 1, 999), 1000.0)
    ladder = symmetric(*range_of(x, share=0.99))
    assert ladder.scale < 0.01 and ladder.round(x)[-1] == 127


def test_no_ladder_reaches_infinity():
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="no ladder reaches"):
            range_of(np.array([1.0, bad]))
