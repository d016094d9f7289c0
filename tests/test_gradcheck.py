import numpy as np
import pytest

from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.tensor import Tensor, record


def cubed(x, change=lambda dx: dx, wants=True):
    """x³, whose gradient a test may spoil."""
    kept = x.data

    def vjp(dy):
        return (change(3 * kept ** 2 * dy) if wants else None,)
    return record(kept ** 3, (x,), vjp)


X = np.random.default_rng(0).uniform(0.5, 1.5, (3, 4))


def test_a_right_gradient_passes_and_the_largest_error_is_returned():
    assert 0 <= gradcheck(cubed, X) < 1e-9


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3, 2), (40, 50), (0,), (0, 3)])
def test_any_shape_can_be_checked(shape):
    gradcheck(cubed, np.random.default_rng(1).uniform(0.5, 1.5, shape))


def test_a_factor_of_two_is_caught():
    with pytest.raises(AssertionError, match="input 0, a random direction"):
        gradcheck(lambda x: cubed(x, lambda dx: 2 * dx), X)


def test_a_small_error_is_caught_and_a_smaller_one_allowed():
    with pytest.raises(AssertionError):
        gradcheck(lambda x: cubed(x, lambda dx: dx * (1 + 1e-5)), X)
    gradcheck(lambda x: cubed(x, lambda dx: dx * (1 + 1e-8)), X)
    gradcheck(lambda x: cubed(x, lambda dx: dx * (1 + 1e-5)), X, tolerance=1e-4)


def with_one_wrong(index):
    def change(dx):
        dx = dx.copy()
        dx[index] += 0.1
        return dx
    return change


def test_one_wrong_element_of_many_is_caught_by_the_random_direction():
    large = np.random.default_rng(0).uniform(0.5, 1.5, (50, 60))
    with pytest.raises(AssertionError, match="a random direction"):
        gradcheck(lambda x: cubed(x, with_one_wrong((17, 3))), large)


def test_single_elements_of_small_inputs_are_named():
    def change(dx):
        dx = dx.copy()                             # two errors that the direction below cannot see
        dx[0, 0] += direction[0, 1]
        dx[0, 1] -= direction[0, 0]
        return dx

    random = np.random.default_rng(0)
    random.standard_normal(X.shape)                # the weighting of the outputs comes first
    direction = random.standard_normal(X.shape)
    with pytest.raises(AssertionError, match=r"input 0, element \(0, 0\): the gradient says"):
        gradcheck(lambda x: cubed(x, change), X)


def test_the_input_with_the_wrong_gradient_is_named():
    def product(x, y):
        a, b = x.data, y.data
        return record(a * b, (x, y), lambda dz: (dz * b, dz * a * 1.001))

    with pytest.raises(AssertionError, match="input 1, "):
        gradcheck(product, X, X + 1)


def test_a_gradient_that_is_missing_counts_as_zero():
    with pytest.raises(AssertionError, match="the gradient says 0, finite differences"):
        gradcheck(lambda x: cubed(x, wants=False), X)
    gradcheck(lambda x: record(np.ones(2), (x,), lambda dy: (None,)), X)


def test_a_transposed_gradient_is_caught():
    square = np.random.default_rng(0).uniform(0.5, 1.5, (3, 3))
    with pytest.raises(AssertionError):
        gradcheck(lambda x: cubed(x, lambda dx: dx.T), square)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_do_not_pass(bad):
    with pytest.raises(AssertionError), np.errstate(invalid="ignore"):
        gradcheck(lambda x: cubed(x, lambda dx: dx * bad), X)


def magnitude(x):
    kept = x.data
    return record(np.abs(kept), (x,), lambda dy: (dy * np.sign(kept),))


def test_at_a_kink_the_quotient_is_not_the_derivative():
    gradcheck(magnitude, np.array([-0.5, 0.5, 0.01]))
    with pytest.raises(AssertionError):
        gradcheck(magnitude, np.array([-0.5, 1e-4, 0.5]))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_strongly_curved_function_passes_where_the_step_suits_it(scale):
    def wave(x):
        kept = x.data
        return record(np.sin(kept / scale), (x,), lambda dy: (dy * np.cos(kept / scale) / scale,))
    gradcheck(wave, X * scale, step=1e-3 * scale)


def test_a_large_constant_beside_a_small_slope_is_not_an_error():
    def lifted(x):
        return record(x.data * 1e-3 + 1e6, (x,), lambda dy: (dy * 1e-3,))
    gradcheck(lifted, X)


def test_inputs_stay_as_they_are_and_need_not_be_doubles():
    x = X.astype(np.float32)
    before = x.copy()
    gradcheck(cubed, x)
    assert np.array_equal(x, before)


def test_outputs_that_cancel_in_a_plain_sum_are_still_checked():
    def both_signs(x):
        kept = x.data
        y = np.stack([kept, -kept])
        return record(y, (x,), lambda dy: (np.zeros_like(kept),))  # right for the sum of y, 0
    with pytest.raises(AssertionError):
        gradcheck(both_signs, X)


def test_the_function_gets_tensors_that_want_gradients_once_and_constants_otherwise():
    seen = []

    def spy(x):
        seen.append(x.requires_grad)
        assert isinstance(x, Tensor)
        assert x.dtype == np.float64
        return cubed(x)
    gradcheck(spy, np.ones(1))
    assert seen.count(True) == 1
