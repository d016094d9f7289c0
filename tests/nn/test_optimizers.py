"""Every optimizer of the table, step by step against its published update, written anew here."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.nn import adagrad, adam, lion, rmsprop
from tinygrad_edu.nn.adagrad import AdaGrad
from tinygrad_edu.nn.adam import Adam, AdamW
from tinygrad_edu.nn.lion import Lion
from tinygrad_edu.nn.muon import Muon
from tinygrad_edu.nn.optim import SGD
from tinygrad_edu.nn.optimizers import OPTIMIZERS, make_optimizer
from tinygrad_edu.nn.rmsprop import RMSprop
from tinygrad_edu.tensor import Tensor

SIZES = [1, 7, 1013, 300_007]                      # the last one is cut over threads

CASES = {
    adagrad.adagrad_update: [
        lambda d, n=n: (d.array(n), d.positive(n), d.array(n), 1e-2, 1e-10, 0.1, 0.5)
        for n in SIZES],
    rmsprop.rmsprop_update: [
        lambda d, n=n: (d.array(n), d.positive(n), d.array(n), 1e-2, 0.9, 1e-8, 0.1, 0.5)
        for n in SIZES],
    lion.lion_update: [
        lambda d, n=n: (d.array(n), d.array(n), d.array(n), 1e-2, 0.9, 0.99, 0.1, 0.5)
        for n in SIZES],
    adam.adam_update: [
        lambda d, n=n, step=step: (
            d.array(n), d.array(n), d.positive(n), d.array(n), 1e-3, 0.9, 0.95, 1e-8, 0.1, 0.2,
            0.5, step)
        for n in SIZES for step in (1, 1000)],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


# ---- the published updates: w, gradient, a dict that lasts, number of the step -> the next w ----

LR, DECAY, CLIP, STEPS = 0.05, 0.1, 1.5, 8


def sgd(w, g, decay, kept, t, nesterov=False):
    d = g + decay * w                              # Sutskever et al. 2013, in the form of PyTorch
    kept["v"] = 0.9 * kept.get("v", 0) + d
    return w - LR * (d + 0.9 * kept["v"] if nesterov else kept["v"])


def nesterov_sgd(w, g, decay, kept, t):
    return sgd(w, g, decay, kept, t, nesterov=True)


def duchi(w, g, decay, kept, t):
    kept["history"] = [*kept.get("history", []), g]
    diagonal = sum(past**2 for past in kept["history"])
    return w - LR * decay * w - LR * g / (1e-10 + np.sqrt(diagonal))


def hinton(w, g, decay, kept, t):
    kept["mean"] = 0.9 * kept.get("mean", 0) + 0.1 * g**2
    return w - LR * decay * w - LR * g / (np.sqrt(kept["mean"]) + 1e-3)


def kingma(w, g, decay, kept, t):                  # algorithm 1
    g = g + decay * w
    kept["m"] = 0.8 * kept.get("m", 0) + 0.2 * g
    kept["v"] = 0.9 * kept.get("v", 0) + 0.1 * g**2
    m_hat, v_hat = kept["m"] / (1 - 0.8**t), kept["v"] / (1 - 0.9**t)
    return w - LR * m_hat / (np.sqrt(v_hat) + 1e-3)


def loshchilov(w, g, decay, kept, t):              # algorithm 2, line by line
    kept["m"] = 0.8 * kept.get("m", 0) + 0.2 * g
    kept["v"] = 0.9 * kept.get("v", 0) + 0.1 * g**2
    m_hat, v_hat = kept["m"] / (1 - 0.8**t), kept["v"] / (1 - 0.9**t)
    return w - LR * (m_hat / (np.sqrt(v_hat) + 1e-3) + decay * w)


def chen(w, g, decay, kept, t):                    # algorithm 2
    m = kept.get("m", 0 * g)
    kept["m"] = 0.95 * m + 0.05 * g
    return w - LR * (np.sign(0.8 * m + 0.2 * g) + decay * w)


def jordan(w, g, decay, kept, t):                  # the quintic, and the factor of Liu et al. 2025
    if w.shape != (3, 4) and w.shape != (5, 2):    # what is no block's matrix is AdamW's
        return loshchilov(w, g, decay, kept, t)
    kept["momentum"] = 0.95 * kept.get("momentum", 0) + g
    x = g + 0.95 * kept["momentum"]
    x = x / (np.sqrt((x**2).sum()) + 1e-7)
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * (x @ x.T @ x) + 2.0315 * (x @ x.T @ x @ x.T @ x)
    return w - LR * (0.2 * np.sqrt(max(w.shape)) * x + decay * w)


BETAS = {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3}
PUBLISHED = {
    "sgd": (SGD, {"momentum": 0.9}, sgd),
    "nesterov": (SGD, {"momentum": 0.9, "nesterov": True}, nesterov_sgd),
    "adagrad": (AdaGrad, {}, duchi),
    "rmsprop": (RMSprop, {"beta2": 0.9, "eps": 1e-3}, hinton),
    "adam": (Adam, BETAS, kingma),
    "adamw": (AdamW, BETAS, loshchilov),
    "lion": (Lion, {"beta1": 0.8, "beta2": 0.95}, chen),
    "muon": (Muon, BETAS, jordan),
}
SHAPES = {"wte.weight": (6, 3), "h.0.fc.weight": (3, 4), "h.0.fc.bias": (3,),
          "h.1.fc.weight": (5, 2)}


def parameters(seed=0, real=np.float64):
    random = np.random.default_rng(seed)
    return [(name, Tensor(random.standard_normal(shape).astype(real), requires_grad=True))
            for name, shape in SHAPES.items()]


def give_gradients(named, seed):
    random = np.random.default_rng(seed)
    size = 10.0 ** -(seed % 2)                     # only every other gradient is clipped
    for _, tensor in named:
        tensor._collect((size * random.standard_normal(tensor.shape)).astype(tensor.dtype))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_steps_are_those_of_the_published_update(name):
    make, options, published = PUBLISHED[name]
    named = parameters()
    w = {key: tensor.data.copy() for key, tensor in named}
    kept = {key: {} for key in w}
    optimizer = make(named, **options, decay=DECAY)
    for t in range(1, STEPS + 1):
        give_gradients(named, t)
        grads = {key: 0.5 * tensor.grad for key, tensor in named}
        norm = sum((g**2).sum() for g in grads.values()) ** 0.5
        for key, g in grads.items():
            decay = DECAY if w[key].ndim == 2 else 0.0
            w[key] = published(w[key], g * min(1, CLIP / norm), decay, kept[key], t)
        assert np.isclose(optimizer.step(LR, CLIP, scale=0.5), norm)
        for key, tensor in named:
            assert np.abs(tensor.data - w[key]).max() <= 1e-12, f"{key}, step {t}"


def test_no_optimizer_of_the_table_goes_without_its_published_update():
    assert {choice.make for choice in OPTIMIZERS.values()} == {p[0] for p in PUBLISHED.values()}
    assert OPTIMIZERS.keys() <= PUBLISHED.keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_optimizer_takes_the_same_steps(name):
    def run(stop):
        named = parameters(real=np.float32)
        optimizer = make_optimizer(name, named)
        for t in range(6):
            if t == stop:
                state = {key: array.copy() for key, array in optimizer.state().items()}
                named = [(key, Tensor(tensor.data.copy(), requires_grad=True))
                         for key, tensor in named]
                optimizer = make_optimizer(name, named)
                optimizer.load_state(state)
            give_gradients(named, t)
            optimizer.step(lr=0.1)
        return named
    for (_, one), (_, other) in zip(run(stop=None), run(stop=3), strict=True):
        assert np.array_equal(one.data, other.data)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_that_gets_no_gradient_and_no_decay_stays(name):
    named = parameters()
    optimizer = make_optimizer(name, named, decay=0.0)
    before = named[1][1].data.copy()
    named[0][1]._collect(np.ones((6, 3)))
    optimizer.step(lr=0.1)
    assert np.array_equal(named[1][1].data, before)
    assert not np.array_equal(named[0][1].data, parameters()[0][1].data)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_the_table_walks_down_a_bowl(name):
    named = parameters()
    optimizer = make_optimizer(name, named, decay=0.0)
    norms = []
    for rate in OPTIMIZERS[name].rate * np.geomspace(1e-1, 1e-4, 600):
        for _, tensor in named:
            tensor._collect(tensor.data.copy())    # the gradient of ½‖w‖²
        norms.append(optimizer.step(rate))
    assert norms[-1] < norms[0] / 20


def test_the_first_adamw_step_moves_every_parameter_by_the_learning_rate():
    named = parameters()
    before = [tensor.data.copy() for _, tensor in named]
    optimizer = AdamW(named, decay=0.0)
    give_gradients(named, 1)
    signs = [np.sign(tensor.grad) for _, tensor in named]
    optimizer.step(lr=0.01)
    for (_, tensor), old, sign in zip(named, before, signs, strict=True):
        assert np.allclose(tensor.data, old - 0.01 * sign, atol=1e-8)


def test_the_table_multiplies_the_decay_and_a_given_option_wins():
    assert make_optimizer("lion", parameters(), decay=0.1).groups[0].decay == pytest.approx(0.3)
    assert make_optimizer("adam", parameters(), decay=0.1).groups[0].decay == 0.0
    assert make_optimizer("sgd", parameters()).momentum == 0.9
    assert make_optimizer("sgd", parameters(), momentum=0.5).momentum == 0.5
    assert make_optimizer("muon", parameters(), beta2=0.99).numbers[1] == 0.99


@pytest.mark.parametrize("name, options, sentence", [
    ("adamm", {}, "there is no optimizer 'adamm'; there is sgd, adagrad"),
    ("rmsprop", {"beta1": 0.9}, "rmsprop has no beta1; it has beta2, eps, decay"),
])
def test_a_name_or_an_option_that_does_not_exist_is_refused(name, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_optimizer(name, parameters(), **options)
