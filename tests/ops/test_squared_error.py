import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import squared_error as lesson
from tinygrad_edu.ops.squared_error import squared_error
from tinygrad_edu.tensor import Tensor

SIZES = [1, 7, 1000, 200_003]                       # the last one is cut over threads
CASES = {
    lesson.squared_error_forward: [
        lambda d, N=N: (d.out(1), d.array(N), d.array(N)) for N in SIZES],
    lesson.squared_error_backward: [
        lambda d, N=N: (d.out(N), d.array(N), d.array(N), 0.3) for N in SIZES],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_squared_error_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
def test_squared_error_gradients_of_both_sides(body):
    check_gradient(squared_error, (3, 4), (3, 4), body=body)
    check_gradient(lambda y, t: squared_error(y, t) * 3, (5,), (5,), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
def test_it_is_the_mean_of_the_squared_differences(body):
    y = Tensor(np.array([[1.0, 2.0], [3.0, 5.0]]), requires_grad=True)
    with settings(forced=body):
        loss = squared_error(y, np.array([[1.0, 0.0], [4.0, 2.0]]))
        loss.backward()
    assert loss.shape == ()
    assert loss.item() == (0 + 4 + 1 + 9) / 4
    assert y.grad.tolist() == [[0, 1], [-0.5, 1.5]]


def test_a_sum_of_many_small_squares_keeps_its_digits():
    y = Tensor(np.full(1 << 20, 0.1, np.float32))
    assert squared_error(y, np.zeros(1 << 20, np.float32)).item() == pytest.approx(0.01, rel=1e-6)


def test_transposed_and_sliced_arrays_are_read_in_their_order():
    y, t = np.random.default_rng(0).standard_normal((2, 6, 4))
    assert np.allclose(squared_error(Tensor(y.T), t.T).data, ((y - t) ** 2).mean())
    even, odd = y[::2], t[1::2]
    assert np.allclose(squared_error(Tensor(even), odd).data, ((even - odd) ** 2).mean())


@pytest.mark.parametrize("other", [(4, 1), (1, 4), (1,), ()])
def test_shapes_that_would_broadcast_are_refused(other):
    with pytest.raises(ValueError, match="of the same shape"):
        squared_error(Tensor(np.ones(4)), np.ones(other))


def test_nothing_to_average_and_integers_are_refused():
    with pytest.raises(ValueError, match="one target a number"):
        squared_error(Tensor(np.ones((0, 3))), np.ones((0, 3)))
    with pytest.raises(TypeError, match="does not take int64"):
        squared_error(Tensor(np.ones(3, int)), np.ones(3, int))
    with pytest.raises(TypeError, match="meets"):
        squared_error(Tensor(np.ones(3)), np.ones(3, np.float32))
