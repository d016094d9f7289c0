import numpy as np
import pytest

from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.rlhf.grpo import (
    VARIANTS,
    GRPOSettings,
    group_advantages,
    grpo_loss,
    improve,
    teaching,
)
from tinygrad_edu.rlhf.rollout import rollout
from tinygrad_edu.tensor import Tensor

RANDOM = np.random.default_rng(0)
OLD = RANDOM.standard_normal((4, 5)) - 2
NEW = OLD + 0.4 * RANDOM.standard_normal((4, 5))
REFERENCE = OLD + 0.4 * RANDOM.standard_normal((4, 5))
MASK = (np.arange(5) < np.array([[5], [2], [3], [1]])).astype(float)
REWARDS = np.array([1.0, 0.0, 0.0, 3.0])


def settings_of(variant="grpo", **more):
    return GRPOSettings(variant=variant, group=2, max_new=5, **more)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_of_the_loss(variant):
    settings = settings_of(variant, kl_weight=0.3)
    advantages = group_advantages(REWARDS, settings)
    ratio = np.exp(NEW - OLD)
    assert (np.abs(ratio - 1) > 0.3).any()  # some are clipped
    gradcheck(lambda x: grpo_loss(x, OLD, REFERENCE, advantages, MASK, settings), NEW)


def published(variant, beta):
    """The losses as their papers write them, answer by answer and token by token."""
    groups, losses, tokens = REWARDS.reshape(2, 2), [], MASK.sum()
    for i in range(4):
        group, r = groups[i // 2], REWARDS[i]
        advantage = {"grpo": (r - group.mean()) / (group.std() + 1e-4),
                     "dapo": (r - group.mean()) / (group.std() + 1e-4),
                     "dr_grpo": r - group.mean(),
                     "rloo": r - (group.sum() - r)}[variant]
        each = []
        for t in range(int(MASK[i].sum())):
            ratio = np.exp(NEW[i, t] - OLD[i, t])
            high = 1.28 if variant == "dapo" else 1.2
            near = min(max(ratio, 0.8), high)
            back = np.exp(REFERENCE[i, t] - NEW[i, t])
            each.append(-min(ratio * advantage, near * advantage)
                        + beta * (back - np.log(back) - 1))
        losses.append({"grpo": np.mean(each) / 4, "rloo": np.sum(each) / 4,
                       "dr_grpo": np.sum(each) / 5 / 4, "dapo": np.sum(each) / tokens}[variant])
    return sum(losses)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_is_that_of_the_paper(variant):
    settings = settings_of(variant, kl_weight=0.3)
    advantages = group_advantages(REWARDS, settings)
    found = grpo_loss(Tensor(NEW), OLD, REFERENCE, advantages, MASK, settings).item()
    assert abs(found - published(variant, 0.3)) < 1e-12


def test_a_group_of_equal_rewards_teaches_nothing():
    for variant in VARIANTS:
        advantages = group_advantages(np.array([1.0, 1, 0, 1]), settings_of(variant))
        assert not advantages[:2].any()
        assert advantages[2] < 0 < advantages[3]


def test_of_twice_as_many_groups_the_first_that_teach_are_learnt_from():
    rewards = np.array([1.0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0])      # groups of two
    batch = {"ids": np.arange(12), "advantages": group_advantages(rewards, settings_of("dapo"))}
    assert teaching(batch, 2)["ids"].tolist() == [2, 3, 6, 7, 8, 9]
    assert teaching(batch, 1) is batch
    dull = {"ids": np.arange(4), "advantages": np.zeros(4)}
    assert teaching(dull, 2) is dull


def test_without_a_price_the_reference_is_not_asked():
    settings = settings_of()
    advantages = group_advantages(REWARDS, settings)
    far = np.full_like(REFERENCE, np.nan)
    assert np.isfinite(grpo_loss(Tensor(NEW), OLD, far, advantages, MASK, settings).item())


def test_a_model_learns_to_write_what_is_rewarded():
    model = GPT(GPTConfig(6, 8, 1, 2, 16), np.random.default_rng(0))
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    settings = GRPOSettings(group=8, max_new=3, minibatch=32)
    shares = []
    for step in range(25):
        random = np.random.default_rng(step)
        written = rollout(model, [[1], [2, 3]] * 4, 3, [0], random, settings.group)
        rewards = np.array([answer.count(5) / 3 for answer in written.answers()])
        shares.append(rewards.mean())
        advantages = group_advantages(rewards, settings)
        batch = {"ids": written.ids, "mask": written.mask, "logprobs": written.logprobs,
                 "reference": written.logprobs, "advantages": advantages}
        seen = improve(model, optimizer, batch, settings, 1e-2, random)
        assert abs(seen["first_ratio"] - 1) < 1e-4
    assert shares[0] < 0.3
    assert shares[-1] > 0.9
