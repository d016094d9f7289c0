import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import shape
from tinygrad_edu.ops.shape import concatenate, pad, split, stack
from tinygrad_edu.tensor import Tensor, record

CASES = {
    shape.index_backward: [
        lambda d, R=R, M=M, C=C: (d.out(R, C), d.array(M, C), d.integers(0, R, M))
        for R, M, C in [(1, 1, 1), (1, 5, 3), (7, 1, 5), (31, 101, 1), (257, 1009, 33)]],
}
VIEWS = {
    "reshape": lambda x: x.reshape(6, 4),
    "reshape_one_unknown": lambda x: x.reshape((-1, 8)),
    "flatten": lambda x: x.flatten(),
    "flatten_from_one": lambda x: x.flatten(1),
    "transpose": lambda x: x.transpose(1, 2, 0),
    "transpose_negative": lambda x: x.transpose((0, -1, -2)),
    "T": lambda x: x.T,
    "swapaxes": lambda x: x.swapaxes(0, -1),
    "expand_dims": lambda x: x.expand_dims(1),
    "squeeze": lambda x: x.expand_dims(0).squeeze(0),
    "broadcast_to": lambda x: x.broadcast_to(5, 2, 3, 4),
}
VIEW_INDICES = [0, -1, slice(None, None, -1), (slice(1), 2), (..., 3), (0, None, 1), (1, 2, 3),
                None, (slice(0, 0), 1)]
COPY_INDICES = [
    np.array([1, 0, 1, 1, -2]),
    [0, -1, 0],
    (np.array([0, 1, 1]), np.array([2, 0, 0])),
    (slice(None), np.array([[0, 2], [2, 2]])),
    (np.array([1, 1]), slice(1, 3), np.array([3, 3])),
    (..., np.array([0, 0])),
    np.arange(24).reshape(2, 3, 4) % 3 == 0,
    (1, np.array([True, False, True])),
    np.array([], int),
    np.array(1),
    True,
]


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("name", VIEWS)
def test_gradient_of_a_view(name):
    check_gradient(VIEWS[name], (2, 3, 4))


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_shares_memory(name):
    x = Tensor(np.zeros((2, 3, 4)))
    assert np.shares_memory(VIEWS[name](x).data, x.data)


@pytest.mark.parametrize("index", VIEW_INDICES, ids=str)
def test_slices_and_numbers_give_views_with_gradients(index):
    x = Tensor(np.arange(24.0).reshape(2, 3, 4))
    assert np.array_equal(x[index].data, x.data[index])
    assert x[index].size == 0 or np.shares_memory(x[index].data, x.data)
    check_gradient(lambda x: x[index], (2, 3, 4))


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("index", COPY_INDICES, ids=str)
def test_index_arrays_give_copies_with_gradients(index, body):
    x = Tensor(np.arange(24.0).reshape(2, 3, 4))
    assert np.array_equal(x[index].data, x.data[index])
    assert not np.shares_memory(x[index].data, x.data)
    check_gradient(lambda x: x[index], (2, 3, 4), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
def test_a_row_taken_three_times_gets_three_gradients(body):
    x = Tensor(np.zeros((3, 2)), requires_grad=True)
    with settings(forced=body):
        x[np.array([2, 0, 2, -1])].backward(np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]]))
    assert np.array_equal(x.grad, [[3, 4], [0, 0], [13, 16]])


def test_a_tensor_of_integers_is_an_index():
    x = Tensor(np.arange(6.0).reshape(3, 2))
    rows, columns = Tensor(np.array([2, 0])), Tensor(np.array([1, 1]))
    assert np.array_equal(x[rows].data, [[4, 5], [0, 1]])
    assert np.array_equal(x[rows, columns].data, [5, 1])


def test_an_index_outside_is_refused():
    with pytest.raises(IndexError):
        Tensor(np.zeros(3))[3]
    with pytest.raises(IndexError):
        Tensor(np.zeros(3))[np.array([0, 3])]


def test_iterating_over_a_tensor_ends():
    assert [float(x) for x in Tensor(np.array([1.0, 2.0]))] == [1, 2]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradient_of_joining(axis):
    shapes = [[2, 3, 4] for _ in range(3)]
    for i, size in enumerate((1, 5, 2)):
        shapes[i][axis] = size
    check_gradient(lambda *xs: concatenate(xs, axis), *map(tuple, shapes))
    check_gradient(lambda a, b: stack([a, b, a], axis), (2, 3), (2, 3))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradient_of_parting_whichever_piece_is_used(axis):
    for used in (slice(None), slice(1), slice(1, None)):
        check_gradient(lambda x, used=used: concatenate(split(x, [1, 3], axis)[used], axis), (4, 4))
    check_gradient(lambda x: split(x, 2, axis)[1], (4, 4))


def test_joining_what_was_parted_gives_it_back():
    x = np.arange(30.0).reshape(5, 6)
    for axis in (0, 1):
        pieces = split(Tensor(x), [2, 1, x.shape[axis] - 3], axis)
        assert all(np.shares_memory(piece.data, x) for piece in pieces)
        assert np.array_equal(concatenate(pieces, axis).data, x)


def test_sizes_that_do_not_fit_are_refused():
    x = Tensor(np.zeros((4, 5)))
    with pytest.raises(ValueError, match="size 5 cannot be split"):
        split(x, 2, axis=1)
    with pytest.raises(ValueError, match="size 4 cannot be split"):
        split(x, [1, 2])
    with pytest.raises(ValueError, match="pair"):
        pad(x, [(1, 1)])
    with pytest.raises(ValueError):
        x.reshape(3, 7)
    with pytest.raises(ValueError):
        concatenate([x, x.T])
    with pytest.raises(TypeError, match="meets"):
        concatenate([x.astype(np.float32), x])


def test_pad_puts_numbers_around():
    check_gradient(lambda x: pad(x, [(1, 0), (0, 2)], value=3), (2, 3))
    y = pad(Tensor(np.array([[1.0, 2.0]])), [(0, 1), (1, 0)], value=9)
    assert np.array_equal(y.data, [[9, 1, 2], [9, 9, 9]])


def test_a_change_of_type_is_on_the_tape_and_changes_the_gradient_back():
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    y = x.astype(np.float64)
    y.backward(np.full(3, 0.1))
    assert y.dtype == np.float64
    assert x.grad.dtype == np.float32
    assert np.array_equal(x.grad, np.full(3, 0.1, np.float32))
    assert x.astype("float32") is x
    assert not x.astype(np.int64).requires_grad


def test_reshaping_a_transposed_view_copies_in_row_order():
    x = Tensor(np.arange(6.0).reshape(2, 3))
    y = x.T.reshape(6)
    assert np.array_equal(y.data, [0, 3, 1, 4, 2, 5])
    assert not np.shares_memory(y.data, x.data)


def test_empty_arrays_pass():
    x = Tensor(np.zeros((0, 3)), requires_grad=True)
    y = concatenate([x.flatten(1), x.transpose().T]).reshape(0, 3)[np.array([], int)]
    y.backward(np.zeros((0, 3)))
    assert x.grad.shape == (0, 3)


def test_a_result_whose_every_use_wants_no_gradient_sends_none_back():
    def ignored(y):
        def vjp(dy):
            return None,
        return record(y.data.copy(), (y,), vjp)

    x = Tensor(np.ones(4), requires_grad=True)
    first, _ = x.split(2)
    ignored(first).backward(np.ones(2))
    assert x.grad is None
