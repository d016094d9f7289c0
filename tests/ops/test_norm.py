import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import norm
from tinygrad_edu.ops.norm import add_layernorm, layernorm
from tinygrad_edu.tensor import Tensor

SIZES = [(1, 1), (1, 7), (5, 3), (67, 33), (1030, 130)]        # the last one is cut over threads


CASES = {
    norm.layernorm_forward: [
        lambda d, N=N, C=C: (d.out(N, C), d.out(N), d.out(N), d.array(N, C), d.array(C),
                             d.array(C), 1e-5)
        for N, C in SIZES],
    norm.layernorm_backward: [
        lambda d, N=N, C=C: (d.out(N, C), d.out(C), d.out(C), d.array(N, C), d.array(N, C),
                             d.array(C), d.array(N), d.positive(N)) for N, C in SIZES],
    norm.add_layernorm_forward: [
        lambda d, N=N, C=C: (d.out(N, C), d.out(N, C), d.out(N), d.out(N), d.array(N, C),
                             d.array(N, C), d.array(C), d.array(C), 1e-5) for N, C in SIZES],
    norm.add_layernorm_backward: [
        lambda d, N=N, C=C: (d.out(N, C), d.out(C), d.out(C), d.array(N, C), d.array(N, C),
                             d.array(N, C), d.array(C), d.array(N), d.positive(N))
        for N, C in SIZES],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
def test_layernorm_gradient(body):
    check_gradient(layernorm, (3, 4, 5), (5,), (5,), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("used", ["both", "sum", "norm"])
def test_add_layernorm_gradient_whichever_result_is_used(body, used):
    def f(x, r, w, b):
        s, y = add_layernorm(x, r, w, b)
        return {"sum": s, "norm": y, "both": add_layernorm(s, y, w, b)[1]}[used]
    check_gradient(f, (4, 6), (4, 6), (6,), (6,), body=body)


def test_a_row_of_two_numbers_becomes_minus_one_and_one():
    y = layernorm(Tensor(np.array([[3.0, 7.0]])), Tensor(np.ones(2)), Tensor(np.zeros(2)), eps=0.0)
    assert np.allclose(y.data, [[-1, 1]])


@pytest.mark.parametrize("body", bodies(CASES))
def test_a_large_offset_keeps_its_digits(body):
    x = (np.random.default_rng(0).standard_normal((4, 64)) + 1e4).astype(np.float32)
    mean, std = (f(1, np.float64, keepdims=True) for f in (x.mean, x.std))
    exact = (x.astype(np.float64) - mean) / std
    with settings(forced=body):
        y = layernorm(Tensor(x), Tensor(np.ones(64, np.float32)), Tensor(np.zeros(64, np.float32)))
    assert np.abs(y.data - exact).max() < 2e-2


def test_weights_of_another_length_or_type_are_refused():
    x, short = Tensor(np.ones((2, 8))), Tensor(np.ones(4))
    for refused in (lambda: layernorm(x, short, short), lambda: add_layernorm(x, x, short, short)):
        with pytest.raises(ValueError, match=r"needs weights \(8,\), not \(4,\)"):
            refused()
    with pytest.raises(ValueError, match="one shape"):
        add_layernorm(x, Tensor(np.ones((1, 8))), Tensor(np.ones(8)), Tensor(np.ones(8)))
    with pytest.raises(TypeError, match="float32 meets float64"):
        layernorm(x, Tensor(np.ones(8, np.float32)), Tensor(np.ones(8)))
