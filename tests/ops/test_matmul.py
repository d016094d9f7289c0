import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient, need
from tinygrad_edu import threads
from tinygrad_edu.foreign import C, out, ptr
from tinygrad_edu.kernel import Body, settings
from tinygrad_edu.memory import Meter
from tinygrad_edu.ops import matmul as lesson
from tinygrad_edu.ops.activation import gelu
from tinygrad_edu.ops.matmul import linear, matmul
from tinygrad_edu.tensor import Tensor

SIZES = [(1, 1, 1), (1, 7, 5), (5, 1, 3), (67, 33, 31), (1031, 130, 61)]       # (N, C, F)
ROWS = [(1, 1), (1, 7), (5, 3), (1031, 131)]
LARGE = [(131, 127, 130), (13, 401, 523), (67, 800, 64)]


def turned(d, rows, columns, transposed):
    """An array (rows, columns), the transpose of another if asked for."""
    return d.array(columns, rows).T if transposed else d.array(rows, columns)


CASES = {
    lesson.matmul_forward: [
        lambda d, N=N, C=C, F=F: (d.out(N, F), d.array(N, C), d.array(C, F)) for N, C, F in SIZES
    ] + [
        lambda d: (d.out(7, 5), d.array(11, 7).T, d.array(11, 5)),             # dyᵀ·x
        lambda d: (d.out(7, 5), d.array(7, 11), d.array(5, 11).T),             # x·wᵀ
    ] + [                                          # large enough for C, no multiple of its blocks
        lambda d, N=N, C=C, F=F, a=a, b=b: (d.out(N, F), turned(d, N, C, a), turned(d, C, F, b))
        for N, C, F in LARGE for a, b in ((0, 0), (0, 1), (1, 0), (1, 1))
    ],
    lesson.batched_matmul_forward: [
        lambda d, P=P: (d.out(P, 5, 7), d.array(P, 5, 3), d.array(P, 3, 7)) for P in (1, 2, 13)
    ] + [
        lambda d: (d.out(29, 60, 67), d.array(29, 60, 31), d.array(29, 67, 31).swapaxes(1, 2)),
    ],
    lesson.linear_forward: [
        lambda d, N=N, C=C, F=F: (d.out(N, F), d.array(N, C), d.array(F, C), d.array(F))
        for N, C, F in SIZES + LARGE],
    lesson.sum_rows: [lambda d, N=N, F=F: (d.out(F), d.array(N, F)) for N, F in ROWS],
}
SHAPES = [
    ((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (4,)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (7, 4, 5)), ((3, 4), (2, 4, 5)),
    ((4,), (2, 4, 5)), ((2, 7, 3, 4), (2, 1, 4, 5)), ((1, 3, 4), (2, 4, 5)), ((1, 1), (1, 1)),
]


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_product_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("left, right", SHAPES)
def test_matmul_is_numpys_for_every_pair_of_shapes_and_its_gradient_holds(left, right, body):
    random = np.random.default_rng(0)
    a, b = random.standard_normal(left), random.standard_normal(right)
    with settings(forced=body):
        y = (Tensor(a) @ Tensor(b)).data
    assert y.shape == (a @ b).shape
    assert np.allclose(y, a @ b, rtol=1e-13)
    check_gradient(matmul, a, b, body=body)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_linear_gradient_with_and_without_bias(activation, body):
    def f(x, w, *b):
        return linear(x, w, *b, activation=activation)
    check_gradient(f, (2, 3, 5), (7, 5), (7,), body=body)
    check_gradient(f, (2, 3, 5), (7, 5), body=body)
    check_gradient(f, (5,), (7, 5), (7,), body=body)


@pytest.mark.parametrize("name", ["matmul_naive", "matmul_tiled"])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_the_steps_towards_the_fast_product_compute_products_too(name, real):
    need("native")
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(real) for shape in ((7, 67), (67, 301)))
    y = np.full((7, 301), np.nan, real)
    getattr(C(y), name)(out(y), ptr(a), ptr(b), 7, 67, 301)
    assert np.allclose(y, a @ b, atol=67 * np.finfo(real).eps)


def test_large_products_have_the_gradients_of_finite_differences_in_c():
    need("native")
    check_gradient(linear, (131, 129), (130, 129), (130,), body="native")


def test_products_that_c_does_not_take_are_left_to_blas():
    need("native")
    small = lesson.matmul_forward.choose((np.empty((9, 9)), np.empty((9, 8)), np.empty((8, 9))))
    assert small.backend == "blas"
    gaps = np.empty((400, 800))[:, ::2]
    body = lesson.matmul_forward.choose((np.empty((400, 400)), gaps, np.empty((400, 400))))
    assert body.backend == "blas"
    large = lesson.matmul_forward.choose([np.empty((400, 400))] * 3)
    assert large.backend == ("native" if C(gaps).vector_bytes() == 64 else "blas")


def test_a_product_of_two_by_two_matrices_by_hand():
    a, b = Tensor(np.array([[1.0, 2], [3, 4]])), Tensor(np.array([[5.0, 6], [7, 8]]))
    assert (a @ b).data.tolist() == [[19, 22], [43, 50]]
    assert linear(a, b, Tensor(np.array([100.0, 200.0]))).data.tolist() == [[117, 223], [139, 253]]


def test_linear_with_gelu_is_linear_and_then_gelu_in_one_node():
    random = np.random.default_rng(0)
    shapes = (5, 3), (4, 3), (4,)
    x, w, b = (Tensor(random.standard_normal(s), requires_grad=True) for s in shapes)
    fused, apart = linear(x, w, b, activation="gelu"), gelu(linear(x, w, b))
    assert np.allclose(fused.data, apart.data, rtol=1e-13)
    assert fused.node.parents == (x.node, w.node, b.node)


def test_a_gradient_that_nobody_wants_is_not_computed():
    x, w = Tensor(np.ones((400, 3), np.float32)), Tensor(np.ones((4, 3), np.float32), True)
    y = linear(x, w)
    with Meter() as meter:
        y.backward(np.ones(y.shape, np.float32))
    assert x.grad is None
    assert np.array_equal(w.grad, np.full((4, 3), 400))
    assert meter.peak < x.data.nbytes


def test_a_product_on_two_threads_is_the_one_on_a_single_thread():
    random = np.random.default_rng(0)
    x = random.standard_normal((1031, 257)).astype(np.float32)
    w = random.standard_normal((129, 257)).astype(np.float32)
    results = []
    for count in (1, 2, 3):
        tensors = Tensor(x, True), Tensor(w, True)
        with threads.limit(count):
            y = linear(*tensors)
            y.backward(y.data)
        results.append((y.data, *(t.grad for t in tensors)))
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            assert np.allclose(got, expected, rtol=1e-4, atol=1e-3)


def test_transposed_and_sliced_operands_are_taken_as_they_are():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((6, 5)), random.standard_normal((12, 9))
    assert np.allclose((Tensor(a.T) @ Tensor(b[::2, ::3])).data, a.T @ b[::2, ::3])
    assert np.allclose(linear(Tensor(a.T), Tensor(b[::2].T)).data, a.T @ b[::2])


def test_an_array_on_the_left_is_multiplied_too():
    a, b = np.ones((2, 3)), Tensor(np.ones((3, 2)), requires_grad=True)
    (a @ b).backward(np.ones((2, 2)))
    assert b.grad.tolist() == [[2, 2]] * 3


def test_huge_and_tiny_magnitudes_pass_through_a_product():
    a = np.array([[1e18, 1e-18]], np.float32)
    for body in bodies(CASES):
        with settings(forced=body):
            y = linear(Tensor(a), Tensor(np.diag([1e18, 1e-18]).astype(np.float32)))
        assert np.allclose(y.data, [[1e36, 1e-36]], rtol=1e-6, atol=0)


def test_no_rows_give_no_rows_and_a_gradient_of_zeros():
    x, w = Tensor(np.zeros((0, 3))), Tensor(np.ones((4, 3)), requires_grad=True)
    y = linear(x, w)
    y.backward(y.data)
    assert y.shape == (0, 4)
    assert not w.grad.any()


@pytest.mark.parametrize("left, right", [((3, 4), (5, 4)), ((2, 3, 4), (3, 4, 5)), ((), (3,))])
def test_shapes_that_do_not_fit_are_refused(left, right):
    with pytest.raises(ValueError, match="matmul"):
        Tensor(np.zeros(left)) @ Tensor(np.zeros(right))


def test_linear_refuses_wrong_shapes_types_and_activations():
    x, w = Tensor(np.zeros((2, 3))), Tensor(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"w \(out, in\)"):
        linear(x, Tensor(np.zeros((3, 4))))
    with pytest.raises(ValueError, match="one bias an output"):
        linear(x, w, Tensor(np.zeros(3)))
    with pytest.raises(ValueError, match="not with 'relu'"):
        linear(x, w, activation="relu")
    with pytest.raises(TypeError, match="convert"):
        linear(x, Tensor(np.zeros((4, 3), np.float32)))


def test_products_of_matrices_without_rows_or_columns_are_empty_or_zero():
    def product(*shapes):
        a, b = (Tensor(np.ones(shape), requires_grad=True) for shape in shapes)
        y = a @ b
        y.backward(np.ones(y.shape))
        assert (a.grad.shape, b.grad.shape) == shapes
        return y.data

    assert product((0, 3, 2), (0, 2, 5)).shape == (0, 3, 5)
    assert product((4, 2, 0), (0, 3)).tolist() == np.zeros((4, 2, 3)).tolist()
    assert product((4, 2, 0), (4, 0, 3)).shape == (4, 2, 3)
    y = linear(Tensor(np.ones((2, 0))), Tensor(np.ones((3, 0))), Tensor(np.ones(3)))
    assert y.data.tolist() == np.ones((2, 3)).tolist()


@pytest.mark.parametrize(("size", "asked"), [(32, []), (200, [(0, 1)])])
def test_blas_is_told_of_its_thread_where_the_product_is_not_small_anyway(size, asked, monkeypatch):
    seen = []
    monkeypatch.setattr(threads, "split_product", lambda run, args, cut, **_: seen.append(cut))
    fresh = Body(lesson.matmul_forward, "blas", lesson.matmul_forward_blas, rows="y a")
    y, a, b = np.ones((3, size, size), np.float32)
    fresh.run(y, a, b)
    assert seen == asked
    assert y[0, 0] == (1 if asked else size)
