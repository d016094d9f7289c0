import math

import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import swiglu as lesson
from tinygrad_edu.ops.swiglu import silu, swiglu
from tinygrad_edu.tensor import Tensor

SIZES = [1, 7, 131, 300_007]                       # the last one is cut over threads
CASES = {
    lesson.silu_forward: [lambda d, N=N: (d.out(N), d.array(N, scale=3)) for N in SIZES],
    lesson.silu_backward: [
        lambda d, N=N: (d.out(N), d.array(N), d.array(N, scale=3)) for N in SIZES],
    lesson.swiglu_forward: [
        lambda d, N=N: (d.out(N), d.array(N, scale=3), d.array(N)) for N in SIZES],
    lesson.swiglu_backward: [
        lambda d, N=N: (d.out(N), d.out(N), d.array(N), d.array(N, scale=3), d.array(N))
        for N in SIZES],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_silu_and_swiglu_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
def test_silu_and_swiglu_gradients(body):
    check_gradient(silu, (3, 5, 7), body=body)
    check_gradient(silu, np.linspace(-6, 6, 31), body=body)
    check_gradient(swiglu, (3, 5, 7), (3, 5, 7), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
def test_silu_of_1_is_the_logistic_probability_below_1(body):
    x, logistic = Tensor(np.array([0.0, 1.0])), 1 / (1 + math.exp(-1))
    with settings(forced=body):
        assert np.allclose(silu(x).data, [0, logistic], rtol=1e-12)
        assert np.allclose(swiglu(x, Tensor(np.array([5.0, 2.0]))).data, [0, 2 * logistic])


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_far_out_silu_is_0_or_the_identity_and_so_is_its_slope(body, real):
    far = np.array([-3e38, -1e30, -1e13, -120, 120, 1e13, 1e30, 3e38], real)
    x = Tensor(far, requires_grad=True)
    with settings(forced=body):
        y = silu(x)
        y.backward(np.ones_like(far))
    assert np.all(np.abs(y.data[:4]) < 1e-30)
    assert np.array_equal(y.data[4:], far[4:])
    assert np.allclose(x.grad, [0, 0, 0, 0, 1, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize("body", bodies(CASES))
def test_silu_halves_tiny_numbers_and_nan_stays_nan(body):
    with settings(forced=body):
        y = silu(Tensor(np.array([1e-30, -1e-30, np.nan], np.float32))).data
    assert np.allclose(y[:2], [5e-31, -5e-31], rtol=1e-6, atol=0)
    assert np.isnan(y[2])


def test_swiglu_takes_views_without_row_order():
    g, u = np.random.default_rng(0).standard_normal((2, 6, 5))
    expected = swiglu(Tensor(g.T.copy()), Tensor(u.T.copy())).data
    assert np.array_equal(swiglu(Tensor(g.T), Tensor(u.T)).data, expected)


def test_swiglu_refuses_a_gate_and_an_up_of_two_shapes():
    with pytest.raises(ValueError, match="one shape"):
        swiglu(Tensor(np.zeros((2, 3))), Tensor(np.zeros((3,))))
