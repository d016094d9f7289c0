"""Minimisers on costs whose lowest point is known."""

import numpy as np
import pytest

from tinygrad_edu.ml.inputs import ConvergenceWarning, theirs
from tinygrad_edu.ml.minimise import (
    inverse_times,
    lbfgs,
    newton,
    proximal,
    search,
    soft,
    valley,
    valley_hessian,
)

START = np.array([-1.2, 1.0])


def bowl(n=6, seed=0):
    """A quadratic cost with its matrix and its lowest point."""
    random = np.random.default_rng(seed)
    A = random.standard_normal((n, n))
    A = A @ A.T + np.eye(n)
    best = random.standard_normal(n)
    return A, best, lambda x: ((x - best) @ A @ (x - best) / 2, A @ (x - best))


def test_the_gradient_and_the_second_derivative_of_the_valley_are_those_of_differences():
    for i, step in enumerate(np.eye(2) * 1e-6):
        up, down = valley(START + step), valley(START - step)
        assert np.isclose((up[0] - down[0]) / 2e-6, valley(START)[1][i], rtol=1e-8)
        assert np.allclose((up[1] - down[1]) / 2e-6, valley_hessian(START)[i], rtol=1e-8)


def test_both_methods_find_the_end_of_the_valley():
    for x, steps in (lbfgs(valley, START, 1e-9), newton(valley, valley_hessian, START, 1e-9)):
        assert np.abs(x - 1).max() < 1e-8
        assert 10 < steps < 60


def test_newton_needs_one_step_in_a_bowl_and_leaves_a_flat_direction_alone():
    A, best, cost = bowl()
    x, steps = newton(cost, lambda _: A, np.zeros(6), 1e-9)
    assert steps == 1 and np.allclose(x, best)
    flat = np.diag([1.0, 0.0])
    x, _ = newton(lambda x: (x @ flat @ x / 2, flat @ x), lambda _: flat, np.array([3.0, 7.0]))
    assert x.tolist() == [0, 7]


def test_what_lbfgs_remembers_maps_changes_of_the_gradient_to_moves():
    A, _, _ = bowl()
    moves = np.linalg.eigh(A)[1][:, :4].T          # directions that A does not mix
    pairs = [(move, A @ move) for move in moves]
    for move, change in pairs:
        assert np.allclose(inverse_times(pairs, change), move)
    other = np.linalg.eigh(A)[1][:, 5]             # of which nothing is known: the newest scale
    move, change = pairs[-1]
    assert np.allclose(inverse_times(pairs, other), other * (move @ change) / (change @ change))


def test_a_search_ends_lower_and_flatter():
    for scale in (1e-6, 1.0, 1e4):
        value, gradient = valley(START)
        direction = -gradient * scale
        t, new, new_gradient = search(valley, START, value, gradient, direction)
        assert new <= value + 1e-4 * t * (gradient @ direction)
        assert new_gradient @ direction >= 0.9 * (gradient @ direction)


def test_uphill_there_is_no_length():
    value, gradient = valley(START)
    assert search(valley, START, value, gradient, gradient) is None


def test_lbfgs_ends_with_all_digits_where_the_value_has_no_more_to_tell():
    _, best, cost = bowl()
    def noisy(x):                                  # its last digits go up and down at random
        value, gradient = cost(x)
        return value + 1e6 + 6e-10 * np.sin(1e9 * x.sum()), gradient
    x, _ = lbfgs(noisy, np.zeros(6), 1e-11)
    assert np.abs(x - best).max() < 1e-9


def test_proximal_steps_end_where_no_direction_leads_down():
    A, best, cost = bowl()
    l1 = np.array([3.0, 3, 3, 0, 0, 3])
    x, _ = proximal(cost, np.zeros(6), np.linalg.eigvalsh(A)[-1], l1, 1e-11)
    slope = cost(x)[1]
    assert 0 < (x == 0).sum() < 4
    assert np.allclose(slope[x != 0], -(l1 * np.sign(x))[x != 0], atol=1e-9)
    assert np.all(np.abs(slope[x == 0]) <= l1[x == 0])


def test_momentum_that_leads_uphill_is_dropped():
    curvature = np.array([1.0, 1e-3])
    x, steps = proximal(lambda x: (0, curvature * x), np.ones(2), 1.0, 0.0, 1e-9, 5000)
    assert np.abs(x).max() < 1e-5
    assert steps < 700                             # 3698 with momentum that is never dropped


def test_shrinking_moves_towards_zero_and_stays_there():
    assert soft(np.array([3.0, 0.5, -2.0]), 1).tolist() == [2, 0, -1]


@pytest.mark.parametrize("method", [
    lambda: lbfgs(valley, START, 1e-9, 3),
    lambda: newton(valley, valley_hessian, START, 1e-9, 3),
    lambda: proximal(valley, START, 2000, 0.0, 1e-9, 3),
])
def test_too_few_steps_are_told(method):
    with pytest.warns(theirs(ConvergenceWarning), match="has not converged after 3 steps"):
        _, steps = method()
    assert steps == 3
