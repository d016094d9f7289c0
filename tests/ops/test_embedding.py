import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu import threads
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import embedding as lesson
from tinygrad_edu.ops.embedding import embedding, sort_by_id
from tinygrad_edu.tensor import Tensor

SIZES = [(1, 1, 1), (7, 3, 5), (31, 11, 13), (4099, 211, 67)]   # (N, V, C); the last on threads


def backward(N, V, C):
    return lambda d: (d.out(V, C), d.array(N, C), *sort_by_id(d.integers(0, V, N), V))


CASES = {
    lesson.embedding_forward: [
        lambda d, N=N, V=V, C=C: (d.out(N, C), d.integers(0, V, N), d.array(V, C))
        for N, V, C in SIZES],
    lesson.embedding_add_forward: [
        lambda d, B=B, T=T, V=V, C=C: (d.out(B, T, C), d.integers(0, V, B, T), d.array(V, C),
                                       d.array(T, C))
        for B, T, V, C in [(1, 1, 1, 1), (3, 2, 5, 7), (131, 17, 11, 61)]],
    lesson.embedding_backward: [backward(*sizes) for sizes in SIZES] + [backward(5, 5000, 31)],
    lesson.sum_batch: [
        lambda d, B=B: (d.out(17, 61), d.array(B, 17, 61)) for B in (1, 3, 131)],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_embedding_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 3, 4)])
def test_embedding_gradient_with_repeated_ids(shape, body):
    ids = np.random.default_rng(0).integers(0, 4, shape)
    check_gradient(lambda w: embedding(ids, w), (6, 3), body=body)
    T = shape[-1] if shape else 1
    check_gradient(lambda w, p: embedding(ids, w, p), (6, 3), (T, 3), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
def test_a_token_that_occurs_three_times_gets_three_gradients(body):
    w = Tensor(np.array([[1.0, 2], [3, 4], [5, 6]]), requires_grad=True)
    with settings(forced=body):
        y = embedding([2, 0, 2, 2], w)
        y.backward(np.array([[1.0, 0], [10, 0], [100, 0], [1000, 7]]))
    assert y.data.tolist() == [[5, 6], [1, 2], [5, 6], [5, 6]]
    assert w.grad.tolist() == [[10, 0], [0, 0], [1101, 7]]


def test_positions_are_added_and_get_the_sum_over_the_batch():
    w, p = Tensor(np.eye(3), True), Tensor(np.array([[10.0, 0, 0], [20, 0, 0]]), True)
    y = embedding(np.array([[0, 1], [2, 0]]), w, p)
    assert y.data.tolist() == [[[11, 0, 0], [20, 1, 0]], [[10, 0, 1], [21, 0, 0]]]
    y.backward(np.ones((2, 2, 3)))
    assert p.grad.tolist() == [[2, 2, 2]] * 2
    assert w.grad.tolist() == [[2, 2, 2], [1, 1, 1], [1, 1, 1]]


def test_the_gradient_of_the_table_does_not_depend_on_the_number_of_threads():
    random = np.random.default_rng(0)
    ids, dy = random.integers(0, 50, 4099), random.standard_normal((4099, 67)).astype(np.float32)
    grads = []
    for count in (1, 2, 5):
        w = Tensor(np.zeros((3000, 67), np.float32), requires_grad=True)
        with threads.limit(count):
            embedding(ids, w).backward(dy)
        grads.append(w.grad)
    assert np.array_equal(grads[0], grads[1])
    assert np.array_equal(grads[0], grads[2])


def test_positions_of_equal_ids_are_added_in_the_order_of_the_text():
    ids = np.random.default_rng(0).integers(0, 5, 1000)
    order, first, last = sort_by_id(ids, 7)
    for v in range(7):
        assert np.array_equal(order[first[v]:last[v]], np.flatnonzero(ids == v))


def test_one_table_can_serve_two_lookups():
    w = Tensor(np.ones((2, 2)), requires_grad=True)
    embedding([0, 1], w).backward(np.ones((2, 2)))
    embedding([1], w).backward(np.ones((1, 2)))
    assert w.grad.tolist() == [[1, 1], [2, 2]]


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint16, np.uint64])
def test_ids_of_any_integer_type_and_layout_are_taken(kind):
    ids, w = np.arange(6, dtype=kind).reshape(2, 3).T, np.arange(12.0).reshape(6, 2)
    tensor = Tensor(w, requires_grad=True)
    y = embedding(Tensor(ids), tensor)
    y.backward(y.data)
    assert np.array_equal(y.data, w[ids])
    assert np.array_equal(tensor.grad, w)


def test_no_ids_give_no_rows_and_a_gradient_of_zeros():
    w = Tensor(np.ones((3, 2)), requires_grad=True)
    y = embedding(np.zeros((2, 0), int), w)
    y.backward(y.data)
    assert y.shape == (2, 0, 2)
    assert not w.grad.any()


@pytest.mark.parametrize("wrong", [-1, 6])
def test_an_id_outside_the_table_is_refused_and_named(wrong):
    with pytest.raises(IndexError, match=f"token {wrong} is outside the vocabulary of 6"):
        embedding([0, wrong, 5], Tensor(np.zeros((6, 2))))


def test_ids_that_are_no_integers_and_tables_that_do_not_fit_are_refused():
    w = Tensor(np.zeros((6, 2)))
    with pytest.raises(TypeError, match="indexed by integers, not by float64"):
        embedding(np.zeros(3), w)
    with pytest.raises(ValueError, match=r"positions of shape \(3, 2\)"):
        embedding([0, 1, 2], w, Tensor(np.zeros((4, 2))))
    with pytest.raises(ValueError, match="rows, width"):
        embedding([0], Tensor(np.zeros(3)))


def test_texts_of_no_tokens_have_no_rows_and_send_zeros_back():
    w, p = Tensor(np.ones((4, 3)), requires_grad=True), Tensor(np.ones((0, 3)), requires_grad=True)
    y = embedding(np.zeros((2, 0), int), w, p)
    assert y.shape == (2, 0, 3)
    y.backward(np.zeros((2, 0, 3)))
    assert w.grad.tolist() == np.zeros((4, 3)).tolist()
    assert p.grad.shape == (0, 3)
