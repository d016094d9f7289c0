import operator

import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import operators
from tinygrad_edu.ops.operators import clip, power, where
from tinygrad_edu.tensor import Tensor

SIZES = (1, 7, 1009, 140_001)                      # the last one is cut over threads


def mask(d, n):
    return d.integers(0, 2, n, dtype=bool)


CASES = {
    operators.affine_forward: [
        lambda d, n=n: (d.out(n), d.array(n), -1.25, 0.3) for n in SIZES],
    operators.where_forward: [
        lambda d, n=n: (d.out(n), mask(d, n), d.array(n), d.array(n)) for n in SIZES],
    operators.where_backward: [
        lambda d, n=n: (d.out(n), d.out(n), d.array(n), mask(d, n)) for n in SIZES],
    operators.clip_forward: [
        lambda d, n=n: (d.out(n), d.array(n), -0.5, 0.75) for n in SIZES],
    operators.clip_backward: [
        lambda d, n=n: (d.out(n), d.array(n), d.array(n), -0.5, 0.75) for n in SIZES],
    operators.power_forward: [
        lambda d, n=n: (d.out(n), d.positive(n), 1.7) for n in SIZES],
    operators.power_backward: [
        lambda d, n=n: (d.out(n), d.array(n), d.positive(n), 1.7) for n in SIZES],
}
SIGNS = [operator.add, operator.sub, operator.mul, operator.truediv]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
POSITIVE = np.random.default_rng(0).uniform(0.5, 2, (3, 4))


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
def test_gradients_beside_numbers(body):
    for sign in SIGNS:
        check_gradient(lambda x, sign=sign: sign(x, 1.7), POSITIVE, body=body)
        check_gradient(lambda x, sign=sign: sign(-3, x), POSITIVE, body=body)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("exponent", [-2, -0.5, 0, 1, 2, 3, 1.7])
def test_gradient_of_a_power(exponent, body):
    check_gradient(lambda x: x ** exponent, POSITIVE, body=body)


@pytest.mark.parametrize("body", bodies(CASES))
def test_gradient_of_powers_of_tensors(body):
    check_gradient(power, POSITIVE, (4,), body=body)
    check_gradient(lambda x: 2.5 ** x, (3, 4), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
def test_gradient_of_where_with_three_shapes(body):
    condition = np.array([True, False, True, False])
    check_gradient(lambda a, b: where(condition, a, b), (3, 4), (3, 1), body=body)
    check_gradient(lambda a, b: where(condition, a, b), (4,), (4,), body=body)
    check_gradient(lambda a: where(condition, a, -1.0), (4,), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
def test_gradient_of_clip(body):
    x = np.array([[-3.0, -0.2, 0.4], [0.9, 2.0, 0.1]])
    check_gradient(lambda x: clip(x, -0.5, 0.7), x, body=body)
    check_gradient(lambda x: x.clip(low=0.3), x, body=body)


@pytest.mark.parametrize("sign", SIGNS)
def test_signs_mean_what_numpy_means_by_them(sign):
    for real in (np.float32, np.float64):
        x, y = POSITIVE.astype(real), POSITIVE[::-1].astype(real)
        for a, b in ((x, y), (x, 3), (x, 0.1), (0.1, y)):
            expected = sign(a, b)
            pairs = [(Tensor(a), b), (a, Tensor(b)), (Tensor(a), Tensor(b))]
            for p, q in (pairs if isinstance(b, np.ndarray) and isinstance(a, np.ndarray)
                         else [(Tensor(a), b)] if isinstance(a, np.ndarray) else [(a, Tensor(b))]):
                result = sign(p, q)
                assert isinstance(result, Tensor)
                assert result.dtype == real
                assert np.array_equal(result.data, expected)


@pytest.mark.parametrize("compare", COMPARISONS)
def test_comparisons_are_tensors_of_booleans_without_a_gradient(compare):
    a = Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    b = np.array([3.0, 2.0, 1.0])
    for right in (b, Tensor(b), 2.0, 2):
        result = compare(a, right)
        expected = compare(a.data, right.data if isinstance(right, Tensor) else right)
        assert np.array_equal(result.data, expected)
        assert result.dtype == bool
        assert not result.requires_grad


def test_a_tensor_is_hashed_by_identity():
    a, b = Tensor(np.ones(3)), Tensor(np.ones(3))
    assert len({a, b, a}) == 2
    assert {a: 1, b: 2}[b] == 2


def test_a_mask_times_a_tensor():
    x = Tensor(np.array([-1.0, 2.0]), requires_grad=True)
    y = (x > 0) * x
    y.backward(np.ones(2))
    assert np.array_equal(y.data, [0, 2])
    assert np.array_equal(x.grad, [0, 1])


def test_integers_beside_numbers():
    x = Tensor(np.array([1, 2]))
    assert np.array_equal((x * 3 + 1 - x).data, [3, 5])
    assert (1 - x).dtype == np.int64
    for wrong in (lambda: x * 0.5, lambda: x / 2, lambda: x ** 0.5):
        with pytest.raises(TypeError):
            wrong()


def test_a_power_of_zero_has_the_slope_zero_also_at_zero():
    x = Tensor(np.array([0.0, 2.0]), requires_grad=True)
    y = x ** 0
    y.backward(np.ones(2))
    assert np.array_equal(y.data, [1, 1])
    assert np.array_equal(x.grad, [0, 0])


@pytest.mark.parametrize("body", bodies(CASES))
def test_at_the_ends_of_clip_the_gradient_passes(body):
    x = Tensor(np.array([-1.0, 0.0, 1.0, 2.0]), requires_grad=True)
    with settings(forced=body):
        x.clip(0, 1).backward(np.ones(4))
    assert np.array_equal(x.grad, [0, 1, 1, 0])


def test_the_side_that_is_not_chosen_sends_no_nan():
    x = Tensor(np.array([0.0, 4.0]), requires_grad=True)
    where(x > 0, where(x > 0, x, 1.0).sqrt(), 0.0).backward(np.ones(2))
    assert np.array_equal(x.grad, [0, 0.25])


def test_wrong_arguments_are_refused():
    x = Tensor(np.ones(3))
    with pytest.raises(ValueError, match="lower bound"):
        x.clip(2, 1)
    with pytest.raises(TypeError, match="booleans"):
        where(np.ones(3), x, x)
    with pytest.raises(TypeError, match="meets"):
        x.data.astype(np.float32) * x


def test_a_power_of_a_number_needs_a_base_above_0_and_an_array_as_base_is_a_tensor():
    x = Tensor(np.array([2.0, 3.0]))
    for base in (0, -2):
        with pytest.raises(ValueError, match="base is above 0"):
            base ** x
    assert np.allclose((np.array([2.0, 3.0]) ** x).data, [4, 27])
