import numpy as np
import pytest

import tinygrad_edu.ops.shape  # noqa: F401  (transpose)
from harness import bodies, body_cases, check_body, check_gradient, need
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import extremes, reduce
from tinygrad_edu.tensor import Tensor

BLOCKS = [(1, 1, 1), (1, 7, 1), (3, 1009, 1), (5, 1, 3), (1, 300, 257), (6, 40, 1031),
          (520, 513, 1), (1, 700, 300), (1, 200_003, 1)]        # these three are cut over threads
ROWS = [(1, 1), (1, 7), (5, 3), (67, 257), (1030, 131)]        # the last one is cut over threads


def places(d, R, N):
    return d.integers(0, N, R)


CASES = {
    reduce.sum_forward: [
        lambda d, A=A, N=N, B=B: (d.out(A, B), d.array(A, N, B)) for A, N, B in BLOCKS],
    reduce.var_forward: [
        lambda d, R=R, N=N: (d.out(R), d.out(R), d.array(R, N), 0) for R, N in ROWS],
    reduce.var_backward: [
        lambda d, R=R, N=N: (d.out(R, N), d.array(R), d.array(R, N), d.array(R), 0)
        for R, N in ROWS],
    extremes.max_forward: [
        lambda d, R=R, N=N: (d.out(R), d.out(R, dtype=np.int64), d.array(R, N)) for R, N in ROWS],
    extremes.min_forward: [
        lambda d, R=R, N=N: (d.out(R), d.out(R, dtype=np.int64), d.array(R, N)) for R, N in ROWS],
    extremes.max_backward: [
        lambda d, R=R, N=N: (d.out(R, N), d.array(R), places(d, R, N)) for R, N in ROWS],
    extremes.logsumexp_forward: [
        lambda d, R=R, N=N: (d.out(R), d.array(R, N, scale=20)) for R, N in ROWS],
    extremes.logsumexp_backward: [
        lambda d, R=R, N=N: (d.out(R, N), d.array(R), d.array(R, N), 3 + d.positive(R))
        for R, N in ROWS],
}
BODIES = bodies(CASES)
AXES = [None, 0, 1, -1, (0, 1), (0, 2), (2, 0), (-1, 1), (0, 1, 2), ()]
NAMES = ("sum", "mean", "var", "std", "max", "min", "logsumexp")
# No two elements are equal or near: finite differences see no tie.
DISTINCT = np.random.default_rng(0).permutation(24).reshape(2, 3, 4) / 7


def apply(name, x, *args, **options):
    return getattr(x, name)(*args, **options)


def numpy_twin(name, x, axis, keepdims):
    if name == "logsumexp":
        return np.log(np.exp(x).sum(axis, keepdims=keepdims))
    return getattr(np, name)(x, axis=axis, keepdims=keepdims)


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_shapes_are_those_of_numpy(name, axis, keepdims):
    for x in (DISTINCT, DISTINCT.transpose(2, 0, 1)):
        got = apply(name, Tensor(x), axis=axis, keepdims=keepdims).data
        expected = numpy_twin(name, x, axis, keepdims)
        assert got.shape == np.shape(expected)
        assert np.allclose(got, expected)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_gradient(name, axis, body):
    for keepdims in (False, True):
        check_gradient(lambda x, k=keepdims: apply(name, x, axis, keepdims=k), DISTINCT, body=body)
    check_gradient(lambda x: apply(name, x.transpose(2, 0, 1), axis), DISTINCT, body=body)


@pytest.mark.parametrize("body", BODIES)
def test_gradient_of_the_unbiased_variance(body):
    check_gradient(lambda x: x.var(axis=1, ddof=1), (3, 5), body=body)
    assert np.allclose(Tensor(DISTINCT).var(0, ddof=1).data, DISTINCT.var(0, ddof=1))


@pytest.mark.parametrize("axis", [None, 0, -1], ids=str)
def test_positions_of_extremes(axis):
    for name in ("argmax", "argmin"):
        got = getattr(Tensor(DISTINCT, requires_grad=True), name)(axis)
        assert np.array_equal(got.data, getattr(np, name)(DISTINCT, axis=axis))
        assert got.dtype == np.int64
        assert not got.requires_grad


@pytest.mark.parametrize("body", BODIES)
def test_of_two_equal_maxima_the_first_gets_the_gradient(body):
    x = Tensor(np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 2.0]]), requires_grad=True)
    with settings(forced=body):
        x.max(axis=1).backward(np.array([5.0, 7.0]))
    assert np.array_equal(x.grad, [[0, 5, 0], [7, 0, 0]])


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_logsumexp_at_its_limits(body, real):
    infinity = np.inf
    x = Tensor(np.array([[1000, 1000], [-infinity, -infinity], [-infinity, 5], [infinity, 1],
                         [-1000, -1000], [np.nan, 1], [1, np.nan]], real), requires_grad=True)
    with settings(forced=body):
        y = x.logsumexp(axis=1)
        expected = [1000 + np.log(2), -infinity, 5, infinity, np.log(2) - 1000, np.nan, np.nan]
        assert np.allclose(y.data, expected, equal_nan=True)
        with np.errstate(all="ignore"):
            y.backward(np.ones(7, real))
    expected = [[0.5, 0.5], [0, 0], [0, 1], [0.5, 0.5]]
    assert np.allclose(x.grad[[0, 1, 2, 4]], expected, rtol=1e-4)  # l ≈ 1000 has few digits left


@pytest.mark.parametrize("body", BODIES)
def test_a_large_offset_does_not_spoil_the_variance(body):
    noise = np.random.default_rng(0).standard_normal((3, 1000))
    x = Tensor((noise + 1e4).astype(np.float32))
    with settings(forced=body):
        assert np.allclose(x.var(axis=1).data, noise.var(axis=1), rtol=2e-3)


@pytest.mark.parametrize("body", BODIES)
def test_a_million_terms_keep_their_digits(body):
    x = Tensor(np.full(1 << 20, 0.1, np.float32))
    with settings(forced=body):
        assert abs(x.sum().item() / (float(np.float32(0.1)) * (1 << 20)) - 1) < 1e-5


def test_a_million_rows_keep_their_digits_in_c():
    need("native")
    x = Tensor(np.full((1 << 20, 3), 0.1, np.float32))
    with settings(forced="native"):
        wrong = x.sum(0).data / (float(np.float32(0.1)) * (1 << 20)) - 1
    assert np.abs(wrong).max() < 1e-6


@pytest.mark.parametrize("body", BODIES)
def test_nan_is_passed_on(body):
    x = Tensor(np.array([[1.0, np.nan, 3.0], [2.0, 0.0, 2.0]]))
    with settings(forced=body):
        for name in NAMES:
            assert np.array_equal(np.isnan(apply(name, x, 1).data), [True, False]), name


def test_integers_and_booleans_are_counted():
    mask = Tensor(np.array([True, False, True, True]))
    assert mask.sum().item() == 3
    assert mask.sum().dtype == np.int64
    assert mask.mean().item() == 0.75
    assert Tensor(np.array([3, 9, 2])).max().item() == 9
    for name in ("var", "logsumexp"):
        with pytest.raises(TypeError, match="astype"):
            apply(name, Tensor(np.array([1, 2])))


def test_an_empty_axis_has_a_sum_and_nothing_else():
    x = Tensor(np.zeros((2, 0)), requires_grad=True)
    y = x.sum(axis=1)
    assert np.array_equal(y.data, [0, 0])
    y.backward(np.ones(2))
    assert x.grad.shape == (2, 0)
    for name in NAMES[1:]:
        with pytest.raises(ValueError, match="size 0"):
            apply(name, x, 1)


def test_wrong_arguments_are_refused():
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        x.sum(axis=2)
    with pytest.raises(ValueError, match="repeated axis"):
        x.mean(axis=(0, -2))
    with pytest.raises(ValueError, match="ddof=3"):
        x.var(axis=1, ddof=3)


def test_an_empty_axis_that_does_not_lie_beside_the_other_reduced_one_has_a_sum_too():
    x = Tensor(np.ones((0, 3, 2)), requires_grad=True)
    y = x.sum(axis=(0, 2))
    assert y.data.tolist() == [0, 0, 0]
    y.backward(np.ones(3))
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("body", bodies(CASES))
def test_logsumexp_of_single_numbers_are_the_numbers_whatever_stands_in_the_next_row(body):
    x = np.array([[-1000.0], [1000.0], [3.0]])
    with settings(forced=body):
        assert np.array_equal(Tensor(x).logsumexp(axis=1).data, x[:, 0])
