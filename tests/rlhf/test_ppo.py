from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.rlhf import ppo
from tinygrad_edu.tensor import Tensor

RANDOM = np.random.default_rng(0)
OLD = RANDOM.standard_normal((3, 4)) - 2
NEW = OLD + 0.5 * RANDOM.standard_normal((3, 4))
ADVANTAGES = RANDOM.standard_normal((3, 4))
MASK = np.array([[0, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1.0]])


def test_gradients_of_the_policy_loss():
    def loss(logprobs):
        return ppo.policy_loss(logprobs, OLD, ADVANTAGES, MASK, 0.2)
    assert (np.abs(np.exp(NEW - OLD) - 1) > 0.2).any()  # both branches of the clip are there
    gradcheck(loss, NEW)


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_gradients_of_the_value_loss(epsilon):
    def loss(values):
        return ppo.value_loss(values, OLD, ADVANTAGES, MASK, epsilon)
    gradcheck(loss, NEW)


def test_gradients_of_log_probabilities_and_entropies():
    actions = RANDOM.integers(0, 5, (3, 4))
    logits = RANDOM.standard_normal((3, 4, 5))
    gradcheck(lambda z: ppo.judged(z, actions)[0], logits)
    gradcheck(lambda z: ppo.judged(z, actions)[1], logits)


def test_the_policy_loss_is_that_of_the_paper():
    ratio = np.exp(NEW - OLD)
    each = np.minimum(ratio * ADVANTAGES, np.clip(ratio, 0.8, 1.2) * ADVANTAGES)
    expected = -(each * MASK).sum() / MASK.sum()
    found = ppo.policy_loss(Tensor(NEW), OLD, ADVANTAGES, MASK, 0.2).item()
    assert abs(found - expected) < 1e-12


def test_an_action_that_went_too_far_the_wrong_way_is_still_pulled_back():
    far = Tensor(np.array([1.0, 1.0]), requires_grad=True)  # likelier by a factor e
    ppo.policy_loss(far, np.zeros(2), np.array([1.0, -1.0]), np.ones(2), 0.2).backward()
    assert far.grad[0] == 0
    assert far.grad[1] > 0


def test_the_entropy_of_even_odds_is_the_logarithm_of_their_number():
    _, entropies = ppo.judged(Tensor(np.zeros((2, 7))), np.array([0, 6]))
    assert np.allclose(entropies.data, np.log(7))


def test_the_distance_is_never_negative_and_right_on_average():
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.3, 0.2])
    each = ppo.kl_estimate(np.log(q), np.log(p))
    assert (each >= 0).all()
    assert np.isclose((p * each).sum(), (p * np.log(p / q)).sum())


def test_the_score_comes_at_the_last_token_and_every_token_pays_for_its_distance():
    rewards = ppo.leashed_rewards(np.array([5.0, 6.0, 7.0]), NEW, OLD, MASK, 0.1)
    paid = -0.1 * (NEW - OLD) * MASK
    assert np.allclose((rewards - paid).sum(axis=1), [5, 6, 7])
    assert np.isclose((rewards - paid)[1, 1], 6)


def test_the_price_follows_the_distance():
    leash = ppo.Leash(0.1, target=6.0, horizon=1000)
    leash.follow(60.0, 500)
    assert np.isclose(leash.beta, 0.1 * 1.1)  # an error of 9 counts as 0.2
    leash.follow(5.4, 500)
    assert np.isclose(leash.beta, 0.11 * 0.95)


class Table:
    """A policy that is a table: logits of three actions, one value, whatever the place."""

    def __init__(self):
        self.logits = Tensor(np.zeros(3), requires_grad=True)
        self.value = Tensor(np.zeros(1), requires_grad=True)

    def judge(self, part):
        n = len(part["actions"])
        logprobs, entropies = ppo.judged(self.logits.broadcast_to(n, 3), part["actions"])
        return logprobs, entropies, self.value.broadcast_to(n)


class Steps:
    def __init__(self, *tensors):
        self.tensors = tensors

    def step(self, rate, clip):
        norm = np.sqrt(sum((t.grad**2).sum() for t in self.tensors))
        for tensor in self.tensors:
            tensor.assign(tensor.data - rate * tensor.grad)
            tensor.zero_grad()
        return float(norm)


def batch_of(rewards, actions):
    n = len(actions)
    return {"actions": actions, "logprobs": np.full(n, -np.log(3)), "values": np.zeros(n),
            "advantages": rewards, "returns": rewards, "mask": np.ones(n)}


def test_what_is_rewarded_becomes_likelier_and_the_first_ratio_is_1():
    table, actions = Table(), np.arange(30) % 3
    settings = SimpleNamespace(ratio_clip=0.2, value_clip=0.0, value_weight=0.5, entropy_weight=0.0,
                               whiten=True, epochs=3, minibatch=10, clip=1.0)
    batch = batch_of((actions == 2).astype(float), actions)
    seen = ppo.improve(table, Steps(table.logits, table.value), batch, settings, 0.3,
                       np.random.default_rng(0))
    assert table.logits.data.argmax() == 2
    assert 0 < table.value.data[0] < 0.5
    assert abs(seen["first_ratio"] - 1) < 1e-9
    assert seen["ratio"] > 1.05
    assert seen["explained_variance"] == 0


def test_stale_log_probabilities_show_in_the_first_ratio():
    table, actions = Table(), np.arange(30) % 3
    settings = SimpleNamespace(**vars(ppo.PPOSettings()))
    batch = batch_of((actions == 2).astype(float), actions)
    batch["logprobs"] = batch["logprobs"] - 0.5
    seen = ppo.improve(table, Steps(table.logits, table.value), batch, settings, 0.3,
                       np.random.default_rng(0))
    assert seen["first_ratio"] > 1.6
