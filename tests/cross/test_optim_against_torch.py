"""The optimizers against those of PyTorch: twenty steps in float64 from the same weights.

Decay is compared where both mean the same: PyTorch adds AdaGrad's and RMSprop's to the gradient,
ours shrinks the weights (lesson adagrad), so those two go without.
"""

import numpy as np
import pytest

from tinygrad_edu.nn.adagrad import AdaGrad
from tinygrad_edu.nn.adam import Adam, AdamW
from tinygrad_edu.nn.muon import Muon
from tinygrad_edu.nn.optim import SGD
from tinygrad_edu.nn.rmsprop import RMSprop
from tinygrad_edu.tensor import Tensor

torch = pytest.importorskip("torch")

SHAPE, LR, STEPS = (6, 11), 0.03, 20

PAIRS = {
    "sgd": (SGD, "SGD", {"momentum": 0.9, "decay": 0.1},
            {"momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (SGD, "SGD", {"momentum": 0.9, "nesterov": True},
                 {"momentum": 0.9, "nesterov": True}),
    "adagrad": (AdaGrad, "Adagrad", {}, {}),
    "rmsprop": (RMSprop, "RMSprop", {"beta2": 0.9}, {"alpha": 0.9}),
    "adam": (Adam, "Adam", {"beta2": 0.99, "decay": 0.1},
             {"betas": (0.9, 0.99), "weight_decay": 0.1}),
    "adamw": (AdamW, "AdamW", {"beta2": 0.99, "decay": 0.1},
              {"betas": (0.9, 0.99), "weight_decay": 0.1}),
}


def difference(ours, theirs, our_options, their_options, steps=STEPS):
    """The largest difference of a weight, and the largest way that a weight has gone."""
    random = np.random.default_rng(0)
    first = random.standard_normal(SHAPE)
    w = Tensor(first.copy(), requires_grad=True)
    v = torch.tensor(first.copy(), requires_grad=True)
    mine = ours([("h.0.w", w)], **our_options)
    other = theirs([v], lr=LR, **their_options)
    for _ in range(steps):
        g = random.standard_normal(SHAPE)
        w._collect(g.copy())
        v.grad = torch.tensor(g)
        mine.step(LR)
        other.step()
    return np.abs(w.data - v.detach().numpy()).max(), np.abs(w.data - first).max()


@pytest.mark.parametrize("name", PAIRS)
def test_twenty_steps_are_those_of_pytorch(name):
    ours, theirs, our_options, their_options = PAIRS[name]
    error, way = difference(ours, getattr(torch.optim, theirs), our_options, their_options)
    assert error <= 1e-12 < way


def test_a_step_of_muon_is_that_of_pytorch_in_bfloat16():
    """PyTorch multiplies in bfloat16, which has three digits, five rounds long."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    their_options = {"weight_decay": 0.1, "momentum": 0.95, "adjust_lr_fn": "match_rms_adamw"}
    error, way = difference(Muon, torch.optim.Muon, {"decay": 0.1}, their_options, steps=3)
    assert error < 0.05 * way
