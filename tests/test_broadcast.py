import numpy as np
import pytest

import tinygrad_edu.ops.operators  # noqa: F401  (attaches the signs)
from tinygrad_edu.broadcast import operands, unbroadcast
from tinygrad_edu.tensor import Tensor

SHAPES = [(), (1,), (5,), (4, 1), (1, 5), (4, 5), (3, 1, 1), (3, 4, 1), (1, 1, 5), (3, 4, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_unbroadcast_is_the_adjoint_of_broadcasting(shape):
    random = np.random.default_rng(0)
    a, grad = random.standard_normal(shape), random.standard_normal((3, 4, 5))
    back = unbroadcast(grad, shape)
    assert back.shape == shape
    assert np.isclose(np.sum(np.broadcast_to(a, grad.shape) * grad), np.sum(a * back))


def test_a_gradient_of_the_right_shape_is_passed_on_as_it_is():
    grad = np.ones((2, 3))
    assert unbroadcast(grad, (2, 3)) is grad


def test_a_gradient_that_nobody_wants_is_not_summed():
    assert unbroadcast(np.ones((2, 3)), None) is None


def test_an_axis_repeated_zero_times_gets_a_gradient_of_zeros():
    assert np.array_equal(unbroadcast(np.ones((0, 3)), (1, 3)), np.zeros((1, 3)))


def test_a_column_and_a_row_by_hand():
    a = Tensor(np.array([[1.0], [2.0]]), requires_grad=True)
    b = Tensor(np.array([10.0, 20.0, 30.0]), requires_grad=True)
    (a * b).backward(np.ones((2, 3)))
    assert np.array_equal(a.grad, [[60], [60]])
    assert np.array_equal(b.grad, [3, 3, 3])


def test_numbers_and_lists_take_the_type_of_the_tensor():
    for real in (np.float32, np.float64):
        x = Tensor(np.ones(3, real))
        for other in (2, 0.1, [1, 2, 3], [0.1, 0.2, 0.3]):
            assert [t.dtype for t in operands(x, other)] == [real, real]
            assert [t.dtype for t in operands(other, x)] == [real, real]


def test_booleans_count_as_zero_and_one_beside_numbers():
    mask = np.array([True, False])
    for like in (np.float32, np.float64, np.int64):
        x = Tensor(np.array([3, 4], like))
        for a, b in (operands(mask, x), operands(Tensor(mask), x), operands(x, mask)[::-1]):
            assert np.array_equal(a.data, [1, 0])
            assert a.dtype == b.dtype == like


@pytest.mark.parametrize("other", [np.float64, np.float16, np.int64, np.uint8])
def test_two_types_are_refused_from_both_sides(other):
    x, y = Tensor(np.ones(2, np.float32)), np.ones(2, other)
    for a, b in ((x, y), (y, x), (x, Tensor(y)), (Tensor(y), x)):
        with pytest.raises(TypeError, match="convert one of them"):
            operands(a, b)


def test_a_list_keeps_the_digits_of_float64():
    assert operands(Tensor(np.ones(1)), [0.1])[1].data == 0.1


@pytest.mark.parametrize("value", ["12", None, {1: 2}])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="a tensor meets"):
        operands(Tensor(np.ones(2)), value)


def test_shapes_that_do_not_fit_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(4,\)"):
        Tensor(np.ones((2, 3))) + Tensor(np.ones(4))


@pytest.mark.parametrize("other", [np.int32, np.uint8, bool])
def test_two_integer_types_are_refused_whichever_comes_first_but_not_booleans(other):
    pair = Tensor(np.ones(2, np.int64)), Tensor(np.ones(2, other))
    for a, b in (pair, pair[::-1]):
        if other is bool:
            assert (a + b).dtype == np.int64
        else:
            with pytest.raises(TypeError, match="meets"):
                a + b
