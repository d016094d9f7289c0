import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu.kernel import kernels, settings
from tinygrad_edu.ops import pointwise
from tinygrad_edu.tensor import Tensor

UNARY = ("neg", "square", "reciprocal", "sqrt", "exp", "log", "sin", "cos", "tanh", "sigmoid",
         "relu", "abs")
BINARY = ("mul", "div", "maximum", "minimum")
SIZES = (1, 7, 1009, 140_001)                      # the last one is cut over threads
SHAPES = [((3, 5), (3, 5)), ((3, 5), (5,)), ((3, 1), (4, 1, 5)), ((), (2,))]
OPS = {name: getattr(pointwise, name if name != "abs" else "absolute")
       for name in (*UNARY, *BINARY, "add", "sub")}


def calls(draw):
    return [lambda d, n=n: draw(d, n) for n in SIZES]


def unary_backward(d, n):
    return d.out(n), d.array(n), d.positive(n), d.positive(n)


CASES = {}
for _name in UNARY:
    CASES[kernels[f"{_name}_forward"]] = calls(lambda d, n: (d.out(n), d.positive(n)))
    CASES[kernels[f"{_name}_backward"]] = calls(unary_backward)
for _name in (*BINARY, "add", "sub"):
    CASES[kernels[f"{_name}_forward"]] = calls(lambda d, n: (d.out(n), d.array(n), d.positive(n)))
for _name in BINARY:
    CASES[kernels[f"{_name}_backward"]] = calls(
        lambda d, n: (d.out(n), d.out(n), *(d.positive(n) for _ in range(4))))

BODIES = bodies(CASES)


def away_from_kinks(shape, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(0.3, 2, shape) * random.choice([-1, 1], shape)


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", UNARY)
def test_gradient_of_one_argument(name, body):
    x = away_from_kinks((3, 5))
    check_gradient(OPS[name], np.abs(x) if name in ("sqrt", "log") else x, body=body)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", (*BINARY, "add", "sub"))
def test_gradient_of_two_arguments(name, shapes, body):
    a = away_from_kinks(shapes[0])
    b = away_from_kinks(shapes[1], seed=1) * 1.07  # no two are equal
    check_gradient(OPS[name], a, b, body=body)


@pytest.mark.parametrize("name", (*BINARY, "add", "sub"))
def test_gradient_of_an_operand_beside_a_constant(name):
    b = Tensor(away_from_kinks((3, 5), seed=1) * 1.07)
    check_gradient(lambda a: OPS[name](a, b), away_from_kinks((3, 5)))
    check_gradient(lambda a: OPS[name](b, a), away_from_kinks((3, 5)))
    check_gradient(lambda a: OPS[name](a, a * b), away_from_kinks((3, 5)))


@pytest.mark.parametrize("name", UNARY)
def test_a_transposed_view_and_a_transposed_gradient_are_read_in_the_right_order(name):
    x = np.abs(away_from_kinks((4, 3)))
    straight, turned = Tensor(x, requires_grad=True), Tensor(x.T, requires_grad=True)
    dy = np.arange(12.0).reshape(4, 3)
    y, z = OPS[name](straight), OPS[name](turned)
    assert np.allclose(y.data.T, z.data)
    y.backward(dy)
    z.backward(dy.T)
    assert np.allclose(straight.grad.T, turned.grad)


@pytest.mark.parametrize("body", BODIES)
def test_the_slopes_at_the_kinks_are_the_documented_ones(body):
    with settings(forced=body):
        for name in ("relu", "abs"):
            x = Tensor(np.array([-1.0, 0.0, 1.0]), requires_grad=True)
            OPS[name](x).backward(np.ones(3))
            assert np.array_equal(x.grad, [-1 if name == "abs" else 0, 0, 1])
        for name in ("maximum", "minimum"):
            a, b = (Tensor(np.array([2.0]), requires_grad=True) for _ in range(2))
            OPS[name](a, b).backward(np.ones(1))
            assert (a.grad, b.grad) == (1, 0)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_huge_and_tiny_numbers_reach_their_limits(body, real):
    x = Tensor(np.array([-1e30, -200, 0, 1e-30, 200, 1e30], real))
    with settings(forced=body), np.errstate(all="ignore"):
        assert np.array_equal(pointwise.sigmoid(x).data[[0, 2, 4, 5]], [0, 0.5, 1, 1])
        assert np.array_equal(pointwise.tanh(x).data[[0, 1, 4, 5]], [-1, -1, 1, 1])
        assert np.array_equal(pointwise.exp(x).data[[0, 2, 5]], [0, 1, np.inf])
        assert np.array_equal(pointwise.relu(x).data, np.maximum(x.data, 0))
        assert pointwise.tanh(x).data[3] == real(1e-30)


@pytest.mark.parametrize("body", BODIES)
def test_nan_stays_nan(body):
    x = Tensor(np.array([np.nan, 1.0]))
    with settings(forced=body):
        for name in UNARY:
            assert np.isnan(OPS[name](x).data[0]), name
        for name in (*BINARY, "add", "sub"):
            assert np.isnan(OPS[name](x, Tensor(np.ones(2))).data[0]), name
            assert np.isnan(OPS[name](Tensor(np.ones(2)), x).data[0]), name


def test_integers_stay_integers_where_the_result_is_one():
    a, b = Tensor(np.array([1, -2, 3])), Tensor(np.array([4, 5, 6]))
    assert np.array_equal((a * b + a - b).data, [1, -17, 15])
    assert np.array_equal(a.relu().data, [1, 0, 3])
    assert (a * b).dtype == np.int64


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "div", "reciprocal", "sigmoid"])
def test_integers_are_refused_where_the_result_is_none(name):
    x = Tensor(np.array([1, 2]))
    with pytest.raises(TypeError, match="astype"):
        OPS[name](*[x] * (2 if name == "div" else 1))


def test_true_and_false_are_not_added():
    mask = Tensor(np.array([True, True]))
    with pytest.raises(TypeError, match="astype"):
        mask + mask


def test_an_exponential_keeps_its_result_and_not_its_argument():
    x = Tensor(np.ones(3), requires_grad=True)
    y = x.exp()
    assert [array is y.data for array, *_ in y.node.kept] == [True]


def test_a_sum_keeps_nothing():
    x = Tensor(np.ones(3), requires_grad=True)
    assert not (x + x).node.kept


def test_errors_name_the_function():
    x = Tensor(np.ones(3), requires_grad=True)
    y = x.tanh()
    y.assign(np.zeros(3))
    with pytest.raises(RuntimeError, match="tanh at test_pointwise.py"):
        y.backward(np.ones(3))


def test_arrays_and_lists_become_tensors():
    assert np.allclose(pointwise.exp(np.zeros(2)).data, 1)
    assert np.allclose(pointwise.maximum([1.0, 2.0], 1.5).data, [1.5, 2])


def test_an_empty_tensor_stays_empty():
    x = Tensor(np.ones((0, 3)), requires_grad=True)
    (x.exp() * x).backward(np.ones((0, 3)))
    assert x.grad.shape == (0, 3)
