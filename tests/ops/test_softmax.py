import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import softmax as lesson
from tinygrad_edu.ops.softmax import log_softmax, softmax
from tinygrad_edu.tensor import Tensor

SIZES = [(1, 1), (1, 7), (5, 3), (67, 33), (1031, 131)]         # the last one is cut over threads


def forbidden(d, N, C):
    """Numbers with some −∞ among them, and a first row of nothing else."""
    x = d.array(N, C, scale=5)
    x[d.generator.random((N, C)) < 0.3] = -np.inf
    x[0] = -np.inf
    return x


FORWARD = [lambda d, N=N, C=C: (d.out(N, C), d.array(N, C, scale=5)) for N, C in SIZES]
FORWARD += [lambda d: (d.out(67, 33), forbidden(d, 67, 33))]
CASES = {
    lesson.softmax_forward: FORWARD,
    lesson.log_softmax_forward: FORWARD,
    lesson.softmax_backward: [
        lambda d, N=N, C=C: (d.out(N, C), d.array(N, C), d.positive(N, C)) for N, C in SIZES],
    lesson.log_softmax_backward: [
        lambda d, N=N, C=C: (d.out(N, C), d.array(N, C), d.array(N, C)) for N, C in SIZES],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_softmax_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("op", [softmax, log_softmax])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_gradients_along_every_axis(op, axis, body):
    check_gradient(lambda x: op(x, axis=axis), (3, 4, 5), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
def test_a_difference_of_ln_3_is_a_quarter_and_three_quarters(body):
    x = Tensor(np.array([[7.0, 7.0 + np.log(3)]]))
    with settings(forced=body):
        assert np.allclose(softmax(x).data, [[0.25, 0.75]], rtol=1e-12)
        assert np.allclose(log_softmax(x).data, np.log([[0.25, 0.75]]), rtol=1e-12)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("offset", [-1e30, -1000, 0, 1000, 1e30])
def test_only_differences_matter_however_large_the_numbers(body, offset):
    x = Tensor(np.array([[offset, offset, offset - 1e38]], np.float32))
    with settings(forced=body):
        assert np.allclose(softmax(x).data, [[0.5, 0.5, 0]])
        assert np.allclose(log_softmax(x).data, [[np.log(0.5), np.log(0.5), -1e38]])


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_a_row_of_nothing_but_minus_infinity_is_zeros_and_sends_no_gradient_back(body, real):
    x = Tensor(np.full((2, 5), -np.inf, real), requires_grad=True)
    with settings(forced=body):
        p = softmax(x)
        p.backward(np.ones((2, 5), real))
        assert np.all(log_softmax(x).data == -np.inf)
    assert not p.data.any()
    assert not x.grad.any()


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_nan_spoils_its_own_row_and_no_other(body, place):
    x = np.zeros((2, 7), np.float32)
    x[0, place] = np.nan
    with settings(forced=body):
        for op in (softmax, log_softmax):
            y = op(Tensor(x)).data
            assert np.isnan(y[0]).all()
            assert np.isfinite(y[1]).all()


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("C", range(1, 10))
def test_the_largest_number_is_found_at_every_place_of_a_row(body, C):
    x = Tensor((1000 * np.eye(C)).astype(np.float32))
    with settings(forced=body):
        assert np.array_equal(softmax(x).data, np.eye(C))
        assert np.array_equal(log_softmax(x).data, 1000 * np.eye(C) - 1000)


def test_the_logarithm_keeps_what_the_probability_loses():
    x = Tensor(np.array([[0.0, -2000.0]]))
    assert softmax(x).data[0, 1] == 0
    assert log_softmax(x).data[0, 1] == -2000


def test_an_axis_that_is_not_there_or_empty_is_refused():
    for shape, axis in (((2, 3), 2), ((), -1), ((2, 0), 1)):
        with pytest.raises(ValueError, match="no numbers along axis"):
            softmax(Tensor(np.zeros(shape)), axis=axis)
