"""Gradients derived on paper against the engine's and against differences."""

import numpy as np
import pytest

from tinygrad_edu.ml.backprop_by_hand import (
    backward,
    forward,
    loss_of,
    make_network,
    spirals,
    train,
)
from tinygrad_edu.ops.cross_entropy import cross_entropy
from tinygrad_edu.tensor import Tensor


def example(N=7, C=3, F=5, K=4, seed=0):
    random = np.random.default_rng(seed)
    net = make_network(C, F, K, random)
    net["b1"], net["b2"] = random.standard_normal(F), random.standard_normal(K)
    return net, random.standard_normal((N, C)), random.integers(0, K, N)


@pytest.mark.parametrize("seed", range(5))
def test_the_gradients_are_those_of_the_engine(seed):
    net, X, y = example(seed=seed)
    loss = loss_of(forward(net, X)[1], y)
    gradient = backward(net, X, y, *forward(net, X))
    tensors = {name: Tensor(array, requires_grad=True) for name, array in net.items()}
    hidden = (Tensor(X) @ tensors["W1"] + tensors["b1"]).tanh()
    engine = cross_entropy(hidden @ tensors["W2"] + tensors["b2"], y)
    engine.backward()
    assert abs(float(engine) - loss) < 1e-12
    for name, tensor in tensors.items():
        assert np.abs(tensor.grad - gradient[name]).max() < 1e-12, name


def test_the_gradients_are_those_of_differences():
    net, X, y = example()
    gradient = backward(net, X, y, *forward(net, X))
    for name, array in net.items():
        for place in np.ndindex(array.shape):
            losses = []
            for step in (1e-5, -1e-5):
                moved = array.copy()
                moved[place] += step
                losses.append(loss_of(forward({**net, name: moved}, X)[1], y))
            slope = (losses[0] - losses[1]) / 2e-5
            assert np.isclose(slope, gradient[name][place], rtol=1e-6, atol=1e-10), name


def test_a_network_without_weights_blames_every_unit_the_same():
    net, X, y = example()
    net = {name: np.zeros_like(array) for name, array in net.items()}
    gradient = backward(net, X, y, *forward(net, X))
    assert not gradient["W1"].any() and not gradient["W2"].any() and gradient["b2"].any()


def test_spirals_are_learned_by_many_units_and_not_by_one():
    X, y = spirals()
    scores = {}
    for F in (1, 32):
        net, losses = train(X, y, F, steps=600)
        scores[F] = np.mean(forward(net, X)[1].argmax(1) == y)
        assert losses[-1] < losses[0]
    assert scores[32] == 1 and scores[1] < 0.8
