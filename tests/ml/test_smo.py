"""SMO: two bodies step by step, two rows by hand, and the conditions that only the answer meets."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml.smo import (
    FORMS,
    LINEAR,
    POLY,
    PRECOMPUTED,
    RBF,
    SIGMOID,
    gram,
    smo,
    solve,
)

LIKE = [(LINEAR, 1.0, 0.0, 3), (POLY, 0.5, 1.0, 2), (RBF, 0.3, 0.0, 3), (SIGMOID, 0.1, 0.2, 3)]


def smo_case(draw, like, twice=False, steps=4, slots=5):
    """The first steps; float64 always, in which all of the library fits."""
    x = draw.generator.standard_normal((20, 3))
    if like[0] == PRECOMPUTED:
        x = gram(x, x, LIKE[2])
    t = np.sign(draw.generator.standard_normal(20))
    low, high = np.minimum(t, 0), np.maximum(t, 0)
    if twice:
        t = np.concatenate([t - 0.1, t + 0.1])
        low, high = np.repeat([0.0, -1.0], 20), np.repeat([1.0, 0.0], 20)
    return (np.empty(1, np.int64), np.zeros_like(t), t.copy(), x, low, high, like, 1e-3, steps,
            slots)


CASES = {smo: [lambda draw, like=like: smo_case(draw, like)
               for like in (*LIKE, (PRECOMPUTED, 1.0, 0.0, 3))]
         + [lambda draw: smo_case(draw, LIKE[2], twice=True),
            lambda draw: smo_case(draw, LIKE[2], steps=0),
            lambda draw: smo_case(draw, LIKE[0], slots=2)]}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_steps_of_loops_are_those_of_numpy(kernel, case, body, real):
    check_body(kernel, case, body, real, digits=9)


def problem(n=120, C=2.0, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, 2))
    t = np.sign(x[:, 0] * x[:, 1] + 0.3 * random.standard_normal(n))
    return x, t, np.minimum(C * t, 0), np.maximum(C * t, 0)


def test_two_rows_have_the_plane_half_way_between_them():
    x, t = np.array([[1.0], [3.0]]), np.array([-1.0, 1.0])
    beta, b, steps = solve(x, t, np.minimum(9 * t, 0), np.maximum(9 * t, 0), 1e-9, 99, 1, LIKE[0])
    assert steps == 1
    assert np.allclose([*beta, b], [-0.5, 0.5, -2])  # f(x) = x − 2


@pytest.mark.parametrize("like", LIKE, ids=list(FORMS)[:4])
def test_at_the_end_no_pair_has_anything_to_gain(like):
    x, t, low, high = problem()
    beta, b, _ = solve(x, t, low, high, 1e-6, 10**6, 1, like)
    g = t - gram(x, x, like) @ beta
    assert abs(beta.sum()) < 1e-9
    assert np.all((low <= beta) & (beta <= high))
    assert not np.any((np.abs(beta - high) < 1e-12) & (beta != high))  # none a hair inside
    assert g[beta < high].max() - g[beta > low].min() < 2e-6
    free = (low < beta) & (beta < high)
    assert np.abs(g[free] - b).max(initial=0) < 2e-6


def test_a_cache_of_two_rows_changes_the_time_and_nothing_else():
    x, t, low, high = problem()
    large, small = (solve(x, t, low, high, 1e-4, 10**6, megabytes, LIKE[2])
                    for megabytes in (10, 1e-9))
    assert np.array_equal(large[0], small[0])
    assert large[1:] == small[1:]


def test_the_second_order_needs_fewer_steps_than_the_rows():
    x, t, low, high = problem(400)
    assert solve(x, t, low, high, 1e-3, 10**6, 10, LIKE[2])[2] < 700  # by the first order: 1500


def test_without_a_free_weight_the_border_is_half_way():
    x, t, low, high = problem(40, C=1e-6)
    beta, b, _ = solve(x, t, low, high, 1e-3, 10**6, 1, LIKE[2])
    g = t - gram(x, x, LIKE[2]) @ beta
    free = (low < beta) & (beta < high)
    if not free.any():
        assert b == pytest.approx((g[beta < high].max() + g[beta > low].min()) / 2)


def test_the_steps_end_at_the_limit():
    x, t, low, high = problem()
    assert solve(x, t, low, high, 1e-9, 7, 1, LIKE[2])[2] == 7
