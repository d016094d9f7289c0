import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.nn import optim
from tinygrad_edu.nn.optim import SGD, AdamW
from tinygrad_edu.tensor import Tensor

SIZES = [1, 7, 1013, 300_007]                      # the last one is cut over threads

CASES = {
    optim.sum_of_squares: [lambda d, n=n: (d.out(1), d.array(n)) for n in SIZES],
    optim.sgd_update: [
        lambda d, n=n, nesterov=nesterov: (
            d.array(n), d.array(n), d.array(n), 0.1, 0.9, nesterov, 0.01, 0.5)
        for n in SIZES for nesterov in (False, True)],
    optim.adamw_update: [
        lambda d, n=n, step=step: (
            d.array(n), d.array(n), d.positive(n), d.array(n), 1e-3, 0.9, 0.95, 1e-8, 0.1, 0.5,
            step)
        for n in SIZES for step in (1, 1000)],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def parameters(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [(f"p{i}", Tensor(random.standard_normal(shape), requires_grad=True))
            for i, shape in enumerate(shapes)]


def give_gradients(named, seed):
    random = np.random.default_rng(seed)
    for _, tensor in named:
        tensor._collect(random.standard_normal(tensor.shape))


def test_the_first_adamw_step_moves_every_parameter_by_the_learning_rate():
    named = parameters((3, 4), (5,))
    before = [tensor.data.copy() for _, tensor in named]
    optimizer = AdamW(named, decay=0.0)
    give_gradients(named, 1)
    signs = [np.sign(tensor.grad) for _, tensor in named]
    optimizer.step(lr=0.01)
    for (_, tensor), old, sign in zip(named, before, signs, strict=True):
        assert np.allclose(tensor.data, old - 0.01 * sign, atol=1e-9)


def test_ten_adamw_steps_follow_the_published_algorithm():
    named = parameters((3, 4), (5,))
    w = [tensor.data.copy() for _, tensor in named]
    m = [np.zeros_like(array) for array in w]
    v = [np.zeros_like(array) for array in w]
    optimizer = AdamW(named, beta1=0.8, beta2=0.9, eps=1e-3, decay=0.1)
    for t in range(1, 11):
        give_gradients(named, t)
        grads = [tensor.grad.copy() for _, tensor in named]
        for i, g in enumerate(grads):  # Loshchilov, Hutter 2019, algorithm 2, line by line
            m[i] = 0.8 * m[i] + 0.2 * g
            v[i] = 0.9 * v[i] + 0.1 * g**2
            m_hat, v_hat = m[i] / (1 - 0.8**t), v[i] / (1 - 0.9**t)
            decay = 0.1 if w[i].ndim == 2 else 0.0
            w[i] = w[i] - 0.05 * (m_hat / (np.sqrt(v_hat) + 1e-3) + decay * w[i])
        optimizer.step(lr=0.05)
    for (_, tensor), expected in zip(named, w, strict=True):
        assert np.abs(tensor.data - expected).max() < 1e-12


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_momentum_follows_its_equation(nesterov):
    named = parameters((2, 3))
    w, v = named[0][1].data.copy(), np.zeros((2, 3))
    optimizer = SGD(named, momentum=0.9, nesterov=nesterov, decay=0.1)
    for t in range(5):
        give_gradients(named, t)
        d = named[0][1].grad + 0.1 * w
        v = 0.9 * v + d
        w = w - 0.1 * (d + 0.9 * v if nesterov else v)
        optimizer.step(lr=0.1)
    assert np.abs(named[0][1].data - w).max() < 1e-14


def test_clipping_scales_all_gradients_together_and_returns_the_norm_before():
    named = parameters((2, 2), (2,))
    before = [tensor.data.copy() for _, tensor in named]
    named[0][1]._collect(np.full((2, 2), 3.0))
    named[1][1]._collect(np.array([6.0, 8.0]))     # norm √(4·9 + 100) = √136
    assert np.isclose(SGD(named).step(lr=1.0, clip=2.0), 136**0.5)
    moved = np.concatenate([(old - tensor.data).ravel()
                            for (_, tensor), old in zip(named, before, strict=True)])
    assert np.isclose(np.linalg.norm(moved), 2.0)
    assert np.allclose(moved, np.array([3, 3, 3, 3, 6, 8]) * 2 / 136**0.5)


def test_a_gradient_that_is_not_finite_stops_the_step_before_anything_changes():
    named = parameters((2, 2))
    before = named[0][1].data.copy()
    optimizer = AdamW(named)
    named[0][1]._collect(np.array([[1, np.nan], [0, 0]]))
    with pytest.raises(FloatingPointError, match="optimizer step 1"):
        optimizer.step(lr=0.1)
    assert np.array_equal(named[0][1].data, before)
    assert optimizer.steps == 0


def test_a_parameter_without_gradient_counts_as_zero_even_after_a_step_that_had_one():
    named = parameters((2, 2), (3, 3))
    optimizer = SGD(named)
    give_gradients(named, 0)
    optimizer.step(lr=0.1)
    before = named[1][1].data.copy()
    named[0][1]._collect(np.ones((2, 2)))
    assert np.isclose(optimizer.step(lr=0.1), 2.0)
    assert np.array_equal(named[1][1].data, before)


def test_a_resumed_optimizer_takes_the_same_steps():
    def run(stop):
        named = parameters((3, 4), (5,))
        optimizer = AdamW(named)
        for t in range(6):
            if t == stop:
                state = {name: array.copy() for name, array in optimizer.state().items()}
                values = [(name, Tensor(tensor.data.copy(), requires_grad=True))
                          for name, tensor in named]
                named, optimizer = values, AdamW(values)
                optimizer.load_state(state)
            give_gradients(named, t)
            optimizer.step(lr=0.1)
        return named
    for (_, one), (_, other) in zip(run(stop=None), run(stop=3), strict=True):
        assert np.array_equal(one.data, other.data)


def test_a_state_of_another_model_is_refused():
    state = AdamW(parameters((3, 4))).state()
    with pytest.raises(ValueError, match="another model"):
        AdamW(parameters((3, 5))).load_state(state)


def test_nothing_to_optimize_is_refused():
    with pytest.raises(ValueError, match="nothing to optimize"):
        SGD([("p", Tensor(np.zeros(3)))])
