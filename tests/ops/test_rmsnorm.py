import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu.ops import rmsnorm as lesson
from tinygrad_edu.ops.rmsnorm import add_rmsnorm, rmsnorm
from tinygrad_edu.tensor import Tensor

SIZES = [(1, 1), (1, 7), (5, 3), (67, 33), (1030, 130)]        # the last one is cut over threads


CASES = {
    lesson.rmsnorm_forward: [
        lambda d, N=N, C=C: (d.out(N, C), d.out(N), d.array(N, C), d.array(C), 1e-5)
        for N, C in SIZES],
    lesson.rmsnorm_backward: [
        lambda d, N=N, C=C: (d.out(N, C), d.out(C), d.array(N, C), d.array(N, C), d.array(C),
                             d.positive(N))
        for N, C in SIZES],
    lesson.add_rmsnorm_forward: [
        lambda d, N=N, C=C: (d.out(N, C), d.out(N, C), d.out(N), d.array(N, C), d.array(N, C),
                             d.array(C), 1e-5) for N, C in SIZES],
    lesson.add_rmsnorm_backward: [
        lambda d, N=N, C=C: (d.out(N, C), d.out(C), d.array(N, C), d.array(N, C), d.array(N, C),
                             d.array(C), d.positive(N)) for N, C in SIZES],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_rmsnorm_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
def test_rmsnorm_gradient(body):
    check_gradient(rmsnorm, (3, 4, 5), (5,), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("used", ["both", "sum", "norm"])
def test_add_rmsnorm_gradient_whichever_result_is_used(body, used):
    def f(x, r, w):
        s, y = add_rmsnorm(x, r, w)
        return {"sum": s, "norm": y, "both": add_rmsnorm(s, y, w)[1]}[used]
    check_gradient(f, (4, 6), (4, 6), (6,), body=body)


def test_rmsnorm_of_three_and_four_divides_by_the_root_of_twelve_and_a_half():
    y = rmsnorm(Tensor(np.array([[3.0, 4.0]])), Tensor(np.ones(2)), eps=0.0)
    assert np.allclose(y.data, [[3 / 12.5 ** 0.5, 4 / 12.5 ** 0.5]])


def test_weights_of_another_length_or_type_are_refused_by_rmsnorm():
    x = Tensor(np.ones((2, 8)))
    with pytest.raises(ValueError, match=r"needs weights \(8,\), not \(4,\)"):
        rmsnorm(x, Tensor(np.ones(4)))
    with pytest.raises(TypeError, match="float32 meets float64"):
        rmsnorm(x, Tensor(np.ones(8, np.float32)))


def test_a_branch_of_another_shape_or_type_is_refused_by_add_rmsnorm():
    x, w = Tensor(np.ones((2, 8))), Tensor(np.ones(8))
    with pytest.raises(ValueError, match="one shape"):
        add_rmsnorm(x, Tensor(np.ones((1, 8))), w)
    with pytest.raises(TypeError, match="float64 meets float32|float32 meets float64"):
        add_rmsnorm(x, Tensor(np.ones((2, 8), np.float32)), w)
