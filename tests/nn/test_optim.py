import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.nn import optim
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.optim import SGD
from tinygrad_edu.tensor import Tensor

SIZES = [1, 7, 1013, 300_007]                      # the last one is cut over threads

CASES = {
    optim.sum_of_squares: [lambda d, n=n: (d.out(1), d.array(n)) for n in SIZES],
    optim.sgd_update: [
        lambda d, n=n, nesterov=nesterov: (
            d.array(n), d.array(n), d.array(n), 0.1, 0.9, nesterov, 0.01, 0.5)
        for n in SIZES for nesterov in (False, True)],
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


def test_without_decay_nothing_tells_matrices_from_vectors_and_they_are_one_group():
    pairs = parameters((2, 3), (4,))
    assert [group.names for group in SGD(pairs).groups] == [["p0", "p1"]]
    assert [group.names for group in SGD(pairs, decay=0.1).groups] == [["p0"], ["p1"]]
