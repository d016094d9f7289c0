import numpy as np
import pytest

from tinygrad_edu.nn import init


@pytest.mark.parametrize("draw, variance", [
    (lambda random: init.normal(random, (400, 300), 0.02), 0.02**2),
    (lambda random: init.uniform(random, (400, 300), 0.3), 0.3**2 / 3),
    (lambda random: init.xavier(random, (400, 300)), 2 / 700),
    (lambda random: init.he(random, (400, 300)), 2 / 300),
])
def test_the_variance_is_the_one_of_the_equation(draw, variance):
    weights = draw(np.random.default_rng(0)).data
    assert abs(weights.var() / variance - 1) < 0.02
    assert abs(weights.mean()) < 4 * (variance / weights.size) ** 0.5


def test_the_same_seed_gives_the_same_weights_in_both_types():
    single, double = (init.xavier(np.random.default_rng(3), (5, 4), real)
                      for real in (np.float32, np.float64))
    assert single.dtype == np.float32
    assert double.dtype == np.float64
    assert np.array_equal(single.data, double.data.astype(np.float32))


def test_residual_branches_of_a_deep_model_add_up_to_the_variance_of_one():
    assert np.isclose(2 * 12 * init.residual_std(0.02, 12) ** 2, 0.02**2)


def test_parameters_want_gradients():
    assert init.constant((3,), 1).requires_grad
