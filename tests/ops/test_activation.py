import math

import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import activation
from tinygrad_edu.ops.activation import erf, gelu
from tinygrad_edu.tensor import Tensor

SIZES = [1, 7, 131, 300_007]                       # the last one is cut over threads
ROWS = [(1, 1), (1, 7), (5, 3), (1031, 131)]


def one_input(N):
    return lambda d: (d.out(N), d.array(N, scale=3))


def one_gradient(N):
    return lambda d: (d.out(N), d.array(N), d.array(N, scale=3))


CASES = {
    activation.gelu_forward: [one_input(N) for N in SIZES],
    activation.gelu_backward: [one_gradient(N) for N in SIZES],
    activation.gelu_erf_forward: [one_input(N) for N in SIZES],
    activation.gelu_erf_backward: [one_gradient(N) for N in SIZES],
    activation.bias_gelu_forward: [
        lambda d, N=N, F=F: (d.out(N, F), d.array(N, F), d.array(F)) for N, F in ROWS],
    activation.bias_gelu_backward: [
        lambda d, N=N, F=F: (d.out(N, F), d.out(F), d.array(N, F), d.array(N, F), d.array(F))
        for N, F in ROWS],
}
OPS = {"gelu": gelu, "gelu_erf": lambda x: gelu(x, form="erf")}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_activation_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("name", OPS)
def test_gelu_gradients(name, body):
    check_gradient(OPS[name], (3, 5, 7), body=body)
    check_gradient(OPS[name], np.linspace(-6, 6, 31), body=body)


def test_erf_is_good_to_fifteen_digits_across_the_seam_of_its_two_formulas():
    x = np.concatenate([np.linspace(-7, 7, 4001), [0, 2.5, 1e-300, 1e300, np.inf]])
    exact = np.array([math.erf(v) for v in x])
    assert np.all(np.abs(erf(x) - exact) <= 2e-15 * np.abs(exact))


@pytest.mark.parametrize("body", bodies(CASES))
def test_gelu_of_1_is_the_normal_probability_below_1(body):
    one = Tensor(np.array([0.0, 1.0]))
    normal = 0.8413447460685429                                       # P(Z < 1)
    with settings(forced=body):
        assert np.allclose(gelu(one, form="erf").data, [0, normal], rtol=1e-12)
        assert np.allclose(gelu(one).data, [0, normal], rtol=3e-4)


def test_the_two_forms_of_gelu_differ_by_less_than_five_ten_thousandths_but_do_differ():
    x = Tensor(np.linspace(-8, 8, 2001))
    apart = np.abs(gelu(x).data - gelu(x, form="erf").data).max()
    assert 4e-4 < apart < 5e-4


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_far_out_gelu_is_0_or_the_identity_and_so_is_its_slope(name, body, real):
    far = np.array([-3e38, -1e30, -1e13, -120, 120, 1e13, 1e30, 3e38], real)
    x = Tensor(far, requires_grad=True)
    with settings(forced=body):
        y = OPS[name](x)
        y.backward(np.ones_like(far))
    assert np.all(np.abs(y.data[:4]) < 1e-30)
    assert np.array_equal(y.data[4:], far[4:])
    assert np.allclose(x.grad, [0, 0, 0, 0, 1, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("name", OPS)
def test_tiny_inputs_are_halved_and_nan_stays_nan(name, body):
    tiny = Tensor(np.array([1e-30, -1e-30, np.nan], np.float32))
    with settings(forced=body):
        y = OPS[name](tiny).data
    assert np.allclose(y[:2], [5e-31, -5e-31], rtol=1e-6, atol=0)
    assert np.isnan(y[2])


def test_views_without_row_order_give_the_same_as_copies():
    x = np.random.default_rng(0).standard_normal((6, 5))
    assert np.array_equal(gelu(Tensor(x.T)).data, gelu(Tensor(x.T.copy())).data)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'tanh' and 'erf'"):
        gelu(Tensor(np.zeros(2)), form="fast")
