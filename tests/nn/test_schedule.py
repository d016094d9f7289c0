import math

import numpy as np
import pytest

from tinygrad_edu.nn.schedule import (
    SCHEDULES,
    inverse_square_root,
    warmup_constant,
    warmup_cosine,
    warmup_stable_decay,
)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_warm_up_climbs_in_equal_steps_and_starts_above_zero(name):
    rates = [SCHEDULES[name](step, 100, lr=1.0, warmup=10) for step in range(11)]
    assert np.allclose(rates[:10], np.arange(1, 11) / 10)
    assert 0.9 < rates[10] <= 1.0


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_that_is_all_warm_up_does_not_divide_by_zero(name):
    assert 0 < SCHEDULES[name](10, 10, lr=1.0, min_lr=0.1, warmup=10) <= 1
    assert 0 < SCHEDULES[name](0, 1, lr=1.0, min_lr=0.1) <= 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_rate_never_climbs_after_the_warm_up_nor_leaves_its_bounds(name):
    rates = [SCHEDULES[name](step, 100, 1.0, 0.2, 10) for step in range(9, 130)]
    assert rates[0] == 1.0
    assert all(a >= b >= 0.2 for a, b in zip(rates, rates[1:], strict=False))


def test_the_cosine_passes_its_middle_halfway_and_ends_at_the_minimum():
    assert warmup_cosine(10, 110, lr=1.0, min_lr=0.2, warmup=10) == 1.0
    assert np.isclose(warmup_cosine(60, 110, lr=1.0, min_lr=0.2, warmup=10), 0.6)
    assert np.isclose(warmup_cosine(110, 110, lr=1.0, min_lr=0.2, warmup=10), 0.2)
    assert np.isclose(warmup_cosine(500, 110, lr=1.0, min_lr=0.2, warmup=10), 0.2)


def test_warm_up_stable_decay_keeps_its_rate_for_four_fifths_and_falls_in_a_straight_line():
    rates = [warmup_stable_decay(step, 110, lr=1.0, min_lr=0.2, warmup=10) for step in range(111)]
    assert rates[10:91] == [1.0] * 81
    assert np.allclose(np.diff(rates[90:]), -0.8 / 20)
    assert np.isclose(rates[110], 0.2)


def test_the_inverse_square_root_is_that_of_the_transformer():
    width, warmup = 512, 4000
    peak = width**-0.5 * warmup**-0.5
    for number in (1, 2000, 4000, 4001, 16_000, 100_000):    # Vaswani et al. 2017, equation 3
        published = width**-0.5 * min(number**-0.5, number * warmup**-1.5)
        assert math.isclose(inverse_square_root(number - 1, 10**6, peak, warmup=warmup), published)
    assert inverse_square_root(399, 1000, lr=1.0) == 1 / 20  # without warm-up: 1/√t
    assert inverse_square_root(399, 1000, lr=1.0, min_lr=0.1) == 0.1


def test_the_constant_is_constant():
    assert [warmup_constant(step, 100, 0.3, warmup=2) for step in (1, 2, 50, 200)] == [0.3] * 4
