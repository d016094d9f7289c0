import math

import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu import memory, threads
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import cross_entropy as lesson
from tinygrad_edu.ops.cross_entropy import cross_entropy, linear_cross_entropy
from tinygrad_edu.ops.embedding import embedding
from tinygrad_edu.ops.matmul import linear
from tinygrad_edu.tensor import Tensor, no_grad

SIZES = [(1, 1), (1, 7), (5, 3), (67, 33), (1031, 131)]         # the last one is cut over threads
CALLS = [(N, V, smoothing) for N, V in SIZES for smoothing in (0.0, 0.2)]


def targets_of(d, N, V):
    return d.integers(-1, V, N)                    # −1 is ignored


CASES = {
    lesson.cross_entropy_forward: [
        lambda d, N=N, V=V, s=s: (d.out(N), d.out(N), d.array(N, V, scale=5),
                                  targets_of(d, N, V), -1, s) for N, V, s in CALLS],
    lesson.cross_entropy_backward: [
        lambda d, N=N, V=V, s=s: (d.out(N, V), d.array(N), d.array(N, V), d.array(N, offset=3),
                                  targets_of(d, N, V), -1, s) for N, V, s in CALLS],
    lesson.cross_entropy_both: [
        lambda d, N=N, V=V, s=s: (d.out(N), d.array(N, V, scale=5), targets_of(d, N, V),
                                  0.25, -1, s) for N, V, s in CALLS],
}
TARGETS = np.array([[2, 0, -1], [4, -1, 2]])
OPTIONS = [{}, {"label_smoothing": 0.1}, {"reduction": "sum"}, {"reduction": "none"},
           {"ignore": 2}, {"reduction": "none", "label_smoothing": 0.3}]


def small_chunks(monkeypatch, rows):
    monkeypatch.setattr(lesson, "CHUNK_ROWS", rows)
    monkeypatch.setattr(lesson, "CHUNK_BYTES", 1)


def targets_for(options):
    return np.where(TARGETS < 0, 1, TARGETS) if "ignore" in options else TARGETS


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_cross_entropy_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cross_entropy_gradient(options, body):
    targets = targets_for(options)
    check_gradient(lambda z: cross_entropy(z, targets, **options), (2, 3, 5), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_linear_cross_entropy_gradient_in_chunks_of_4_and_2_rows(options, body, monkeypatch):
    small_chunks(monkeypatch, 4)
    check_gradient(lambda x, w: linear_cross_entropy(x, w, targets_for(options), **options),
                   (2, 3, 4), (5, 4), body=body)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("rows", [1, 4, 6, 100])
def test_fused_with_the_head_it_is_linear_and_then_cross_entropy(options, rows, monkeypatch):
    small_chunks(monkeypatch, rows)
    random = np.random.default_rng(0)
    x, w = random.standard_normal((2, 3, 4)), random.standard_normal((5, 4))
    results = []
    for f in (linear_cross_entropy, lambda x, w, *a, **k: cross_entropy(linear(x, w), *a, **k)):
        tensors = Tensor(x, True), Tensor(w, True)
        loss = f(*tensors, targets_for(options), **options)
        loss.backward(loss.data + 2)               # not 1: the gradient must be scaled by it
        with no_grad():
            assert np.allclose(f(*tensors, targets_for(options), **options).data, loss.data)
        results.append((loss.data, *(t.grad for t in tensors)))
    for fused, apart in zip(*results, strict=True):
        assert fused.shape == apart.shape
        assert np.allclose(fused, apart, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("body", bodies(CASES))
def test_equal_logits_cost_the_logarithm_of_the_vocabulary(body):
    with settings(forced=body):
        loss = cross_entropy(Tensor(np.full((3, 50), 7.0)), [1, 49, -1], label_smoothing=0.1)
    assert math.isclose(loss.item(), math.log(50), rel_tol=1e-12)


def test_a_half_and_a_quarter_cost_one_and_two_bits_and_the_gradient_is_p_minus_one_hot():
    p = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    z = Tensor(np.log(p), requires_grad=True)
    loss = cross_entropy(z, [0, 1], reduction="sum")
    loss.backward()
    assert math.isclose(loss.item(), 3 * math.log(2), rel_tol=1e-12)
    assert np.allclose(z.grad, p - [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_ignored_targets_change_neither_the_mean_nor_a_gradient():
    z = np.random.default_rng(0).standard_normal((4, 5))
    part, whole = Tensor(z[:2], True), Tensor(z, True)
    a, b = cross_entropy(part, [3, 1]), cross_entropy(whole, [3, 1, -1, -1])
    a.backward()
    b.backward()
    assert math.isclose(a.item(), b.item(), rel_tol=1e-14)
    assert np.allclose(whole.grad, np.vstack([part.grad, np.zeros((2, 5))]), atol=1e-15)


def test_a_batch_whose_targets_are_all_ignored_has_loss_0_and_gradient_0():
    x, w = Tensor(np.ones((2, 3)), True), Tensor(np.ones((5, 3)), True)
    for loss in (cross_entropy(linear(x, w), [-1, -1]), linear_cross_entropy(x, w, [-1, -1])):
        loss.backward()
        assert loss.item() == 0
    assert not x.grad.any()
    assert not w.grad.any()


def test_no_rows_at_all_have_loss_0_and_gradient_0():
    x, w = Tensor(np.ones((0, 3)), True), Tensor(np.ones((5, 3)), True)
    loss = linear_cross_entropy(x, w, np.zeros(0, int))
    loss.backward()
    assert loss.item() == 0
    assert not w.grad.any()


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("offset", [-1e6, 1e6])
def test_large_logits_keep_the_digits_of_the_loss(body, offset):
    z = (np.arange(7, dtype=np.float32) + np.float32(offset))[None]
    exact = math.log(sum(math.exp(v - 6) for v in range(7))) + 2
    with settings(forced=body):
        assert math.isclose(cross_entropy(Tensor(z), [4]).item(), exact, rel_tol=1e-6)


@pytest.mark.parametrize("body", bodies(CASES))
def test_a_forbidden_token_costs_nothing_unless_it_came(body):
    z = Tensor(np.array([[0.0, 0.0, -np.inf]]), requires_grad=True)
    with settings(forced=body):
        loss = cross_entropy(z, [0])
        loss.backward()
        assert cross_entropy(z.detach(), [2]).item() == math.inf
    assert math.isclose(loss.item(), math.log(2), rel_tol=1e-12)
    assert np.allclose(z.grad, [[-0.5, 0.5, 0]])


@pytest.mark.parametrize("body", bodies(CASES))
def test_a_row_of_nothing_but_minus_infinity_is_nan_and_not_silently_0(body):
    with settings(forced=body), np.errstate(all="ignore"):
        loss = cross_entropy(Tensor(np.full((1, 3), -np.inf)), [0])
    assert math.isnan(loss.item())


def test_a_tied_table_gets_the_gradients_of_the_embedding_and_of_the_head():
    ids, targets = np.array([[1, 3, 1]]), np.array([[3, 1, 0]])
    check_gradient(lambda w: linear_cross_entropy(embedding(ids, w), w, targets), (5, 4))


def test_two_backward_passes_add_up_and_accumulation_scales_each():
    random = np.random.default_rng(0)
    x, w = random.standard_normal((4, 3)), random.standard_normal((5, 3))
    whole, halves = Tensor(w, True), Tensor(w, True)
    linear_cross_entropy(Tensor(x), whole, [0, 1, 2, 3]).backward()
    for part in (slice(0, 2), slice(2, 4)):
        linear_cross_entropy(Tensor(x[part]), halves, [0, 1, 2, 3][part]).backward(np.array(0.5))
    assert np.allclose(whole.grad, halves.grad, rtol=1e-12)


def test_the_head_never_holds_all_logits(monkeypatch):
    small_chunks(monkeypatch, 64)
    x, w = (Tensor(np.ones((n, 4), np.float32), True) for n in (1024, 1000))
    with memory.Meter() as meter:
        linear_cross_entropy(x, w, np.zeros(1024, int)).backward()
    assert meter.peak < 1024 * 1000 * 4 / 4


def test_the_gradient_of_the_head_is_held_once_however_it_is_scaled(monkeypatch):
    small_chunks(monkeypatch, 4)
    x, w = (Tensor(np.ones((n, 64), np.float32), True) for n in (12, 20000))
    with memory.Meter() as meter:
        linear_cross_entropy(x, w, np.zeros(12, int)).backward(np.array(2.0, np.float32))
    assert meter.peak < 2.3 * w.data.nbytes        # w.grad is a copy: tensors own theirs


@pytest.mark.parametrize("rows", [1, 3, 5, 100])
def test_dw_is_added_to_in_parts_of_any_size(rows, monkeypatch):
    small_chunks(monkeypatch, 2)
    monkeypatch.setattr(lesson, "PART_ROWS", rows)
    random = np.random.default_rng(0)
    x, w = random.standard_normal((6, 4)), random.standard_normal((5, 4))
    fused, apart = Tensor(w, True), Tensor(w, True)
    linear_cross_entropy(Tensor(x), fused, [0, 1, 2, 3, 4, 4]).backward()
    cross_entropy(linear(Tensor(x), apart), [0, 1, 2, 3, 4, 4]).backward()
    assert np.allclose(fused.grad, apart.grad, rtol=1e-12)


def test_without_a_gradient_only_losses_are_computed():
    x, w = (Tensor(np.ones((n, 400), np.float32), True) for n in (1024, 9))
    with no_grad(), memory.Meter() as meter:
        loss = linear_cross_entropy(x, w, np.zeros(1024, int), reduction="none")
    assert not loss.requires_grad
    assert meter.peak < x.data.nbytes / 4


def test_the_loss_is_the_same_for_any_number_of_threads():
    z = np.random.default_rng(0).standard_normal((1031, 257)).astype(np.float32)
    losses = []
    for count in (1, 2, 3):
        with threads.limit(count):
            losses.append(cross_entropy(Tensor(z), np.arange(1031) % 257).item())
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize("wrong", [-2, 5])
def test_a_target_outside_the_vocabulary_is_refused_and_named(wrong):
    with pytest.raises(IndexError, match=f"target {wrong} is outside the vocabulary of 5"):
        cross_entropy(Tensor(np.zeros((2, 5))), [0, wrong])
    with pytest.raises(IndexError, match=f"target {wrong} is outside the vocabulary of 5"):
        linear_cross_entropy(Tensor(np.zeros((2, 3))), Tensor(np.zeros((5, 3))), [0, wrong])


def test_wrong_shapes_types_and_options_are_refused():
    z = Tensor(np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"targets \(2,\), not \(3,\)"):
        cross_entropy(z, [0, 1, 2])
    with pytest.raises(TypeError, match="targets are integers, not float64"):
        cross_entropy(z, np.zeros(2))
    with pytest.raises(ValueError, match="'average'"):
        cross_entropy(z, [0, 1], reduction="average")
    with pytest.raises(ValueError, match="label smoothing"):
        cross_entropy(z, [0, 1], label_smoothing=1.0)
    with pytest.raises(ValueError, match="the head needs"):
        linear_cross_entropy(z, Tensor(np.zeros((7, 4))), [0, 1])
