"""ORPO and SimPO beside the package trl. It has the other losses inside its trainers' steps, where
nothing but a training can call them."""

from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_edu.rlhf.dpo import Pairs, log_odds, orpo, simpo
from tinygrad_edu.rlhf.reward import log_sigmoid
from tinygrad_edu.tensor import Tensor

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
orpo_trainer = pytest.importorskip("trl.experimental.orpo.orpo_trainer")
cpo_trainer = pytest.importorskip("trl.experimental.cpo.cpo_trainer")

CHOSEN, REJECTED = np.array([-3.0, -9.5, -1.25]), np.array([-4.0, -7.0, -6.5])
LENGTHS, OTHERS = np.array([3.0, 7.0, 2.0]), np.array([4.0, 5.0, 6.0])
HERE = SimpleNamespace(device="cpu")


def pairs():
    return Pairs(*map(Tensor, (CHOSEN, REJECTED, CHOSEN, REJECTED, LENGTHS, OTHERS)))


def per_token():
    return torch.tensor(CHOSEN / LENGTHS), torch.tensor(REJECTED / OTHERS)


def test_orpo_is_that_of_trl():
    side = SimpleNamespace(beta=0.7, accelerator=HERE)
    theirs = orpo_trainer.ORPOTrainer.odds_ratio_loss(side, *per_token())[0].numpy()
    ours = orpo(pairs(), 0.7).numpy() + CHOSEN / LENGTHS     # without −ℓ, which trl adds elsewhere
    assert np.abs(ours + theirs).max() <= 1e-6
    chosen, rejected = pairs().per_token()
    assert np.allclose(log_sigmoid(log_odds(chosen) - log_odds(rejected)).numpy(), theirs / 0.7,
                       atol=1e-6)


def test_simpo_is_that_of_trl():
    side = SimpleNamespace(beta=2.0, simpo_gamma=0.5, alpha=0.0, label_smoothing=0.0,
                           loss_type="simpo", accelerator=HERE)
    theirs = cpo_trainer.CPOTrainer.cpo_loss(side, *per_token())[0].numpy()
    assert np.abs(simpo(pairs(), 2.0, 0.5).numpy() - theirs).max() <= 1e-6
