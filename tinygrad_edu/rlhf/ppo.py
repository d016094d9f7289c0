"""Lesson 7.11 · PPO: learn from rewards without falling off the path

Needs config, cross_entropy, gae, module, pointwise, reduce, softmax.
Used by scripts/cartpole.py, scripts/train_ppo.py, scripts/break_rlhf.py.

Idea      What went better than expected should become likelier, what went worse less likely: push
          the logarithm of an action's probability along its advantage (lesson gae). The data for
          that was made by the policy itself, and after one long step the policy is another one, in
          places where no data is. So PPO takes many short steps on the same data and stops pushing
          an action as soon as its probability has changed by a fifth. A second network, or a
          second end of the same one, learns to guess the returns meanwhile. Where the rewards come
          from a model of what people like, there is one more rope: every step away from the
          reference, the policy before all this, costs a little, and the price follows the market.
Math      ρ = π(a)/π_old(a)         of every action, as exp(ln π − ln π_old)                     (1)
          ℓ_policy = −mean min(ρ·A, clip(ρ, 1 − ε, 1 + ε)·A)                                   (2)
          ℓ_value = ½·mean max((V − R)², (V_old + clip(V − V_old, −ε_V, ε_V) − R)²)            (3)
          H = −Σₐ π(a)·ln π(a)      ℓ = ℓ_policy + c_V·ℓ_value − c_H·mean H                      (4)
          rₜ = −β·(ln πₜ − ln π_ref,ₜ), and the score on top at the last token of an answer      (5)
          β ← β·(1 + clip(KL/target − 1, −0.2, 0.2)·n/horizon), n answers a step               (6)
          KL(π_old ‖ π) ≈ mean (ρ − 1 − ln ρ), never negative; without ρ − 1: right on average (7)
Shapes    logprobs, old, advantages, returns, values, mask: all of one shape, (B,) for single
          actions, (B, T) for texts · β a number · batch: a dict of arrays with the same B
Pitfalls  (2) is a minimum, so clipping only ever takes the reason to go on; an action that has gone
          too far the wrong way is still pulled back.
          In the very first minibatch ρ is 1 to rounding, whatever the settings. If not, the data's
          log-probabilities are of another model, temperature or mask: look there first.
          A mean over padding is not a mean. All means here go over the mask.
          Without whitening the size of a step depends on the unit of the reward.
          (3) needs old guesses of the scale of the returns: with ε_V a hundredth of their
          size the value model crawls. With a shared trunk, c_V decides who owns the trunk.
          The price (6) moves by a few percent a step. Where the reward rises fast, a low first β
          lets the policy run far before the price has followed: begin high, it falls by itself.
          On a reward model, more steps are not better: python scripts/train_ppo.py went
          from 6 % right to 52 % on its leash; on a slack one (--kl-weight 0.05 --kl-target 6) it
          reached 54 % after 8 steps and 0 % after 32, while the reward never ceased to rise.
          Digits were missing in its answers: all that the judge had seen were of full length.
Cost      epochs · 3 forward passes' worth over the data, beside one to make it. The reference and
          the value model are each one more model in memory.
Try       build it    end the epochs as soon as (7) exceeds 0.02. Does it save anything?
          break it    clip without the minimum. Which actions are never corrected?
          measure it  python scripts/break_rlhf.py: five ways to ruin it, and the picture of each
See       Schulman et al. 2017, eq. 7, 9 · Ziegler et al. 2019, section 2.2, for (5), (6) · Stiennon
          et al. 2020 · Schulman 2020, "Approximating KL divergence" · Huang et al. 2022 (details)
"""

from dataclasses import dataclass

import numpy as np

from ..nn.config import option
from ..nn.module import Module
from ..ops.cross_entropy import cross_entropy
from ..ops.pointwise import exp, maximum, minimum, square
from ..ops.reduce import sum as total
from ..ops.softmax import log_softmax, softmax
from .gae import explained_variance, whitened


@dataclass
class PPOSettings:
    """The numbers that make PPO; scripts add theirs."""

    ratio_clip: float = option(
        0.2, "how far a probability may move, ε of PPO", low=1e-6)
    value_clip: float = option(
        0.2, "how far a guess may move in one update; 0 for any", low=0.0)
    value_weight: float = option(
        0.5, "weight of the value model's loss", low=0.0)
    entropy_weight: float = option(
        0.0, "reward for being undecided", low=0.0)
    whiten: bool = option(
        True, "bring the advantages to mean 0 and deviation 1")
    epochs: int = option(
        4, "passes over the data of a step", low=1)
    minibatch: int = option(
        64, "rows whose gradients make one update", low=1)
    clip: float = option(
        0.5, "largest norm of the gradient", low=1e-9)
    discount: float = option(
        1.0, "what a later reward is worth, γ", low=0.0, high=1.0)
    gae_lambda: float = option(
        0.95, "how far a surprise is carried back, λ", low=0.0, high=1.0)


# ---- the terms of the loss ----------------------------------------------------------------------


# Constants come as arrays of the tensor's type, and bounds as minimum and maximum: those have
# bodies in C, where a tensor with a Python number, or clip, would compile a loop first.

def masked_mean(x, mask, weight=1.0):
    """The mean of a Tensor over the places where the mask is 1, times a weight; of shape ()."""
    count = max(1.0, float(mask.sum()))
    weights = weight * mask / count
    return total(x * weights.astype(x.dtype))


def judged(logits, actions):
    """Log-probabilities of the actions taken, and the entropies H: both without the last axis.

    logits (…, V), a Tensor; actions (…) integers.
    """
    surprise = cross_entropy(logits, actions, reduction="none")
    p = softmax(logits)
    log_p = log_softmax(logits)
    entropies = -total(p * log_p, axis=-1)                                                     # (4)
    return -surprise, entropies


def between(x, low, high):
    """A Tensor with its elements in [low, high]; no gradient flows where that changes one."""
    floor = np.full(x.shape, low, x.dtype)
    ceiling = np.full(x.shape, high, x.dtype)
    return minimum(maximum(x, floor), ceiling)


def policy_loss(logprobs, old, advantages, mask, epsilon):
    """(2), a Tensor (); logprobs is a Tensor, all else are arrays of its type and shape."""
    ratio = exp(logprobs - old)                                                                # (1)
    clipped = between(ratio, 1 - epsilon, 1 + epsilon)
    free = ratio * advantages
    held = clipped * advantages
    return -masked_mean(minimum(free, held), mask)                                             # (2)


def value_loss(values, old, returns, mask, epsilon):
    """(3), a Tensor (); values is a Tensor, all else are arrays. epsilon 0: no clipping."""
    worst = square(values - returns)
    if epsilon:
        near = between(values - old, -epsilon, epsilon) + old
        clipped = square(near - returns)
        worst = maximum(worst, clipped)                                                        # (3)
    return masked_mean(worst, mask, weight=0.5)


def kl_estimate(logprobs, old):
    """What (7) averages, for arrays: how far π has gone from π_old, seen at π_old's actions."""
    change = np.asarray(logprobs, np.float64) - old
    return np.expm1(change) - change                                                           # (7)


# ---- the leash ----------------------------------------------------------------------------------


def leashed_rewards(scores, logprobs, reference, mask, beta):
    """Rewards of every token, (B, T): (5). scores (B,), the rest arrays (B, T)."""
    away = logprobs - reference
    rewards = -beta * away * mask
    backwards = mask[:, ::-1] > 0
    last = mask.shape[1] - 1 - np.argmax(backwards, axis=1)
    rows = np.arange(len(rewards))
    rewards[rows, last] += scores                                                              # (5)
    return rewards


class Leash(Module):
    """The price β of a nat of distance, which follows the distance that is wanted: (6).

    target: nats an answer may be away from the reference, on average; None: β stays. β is a
    buffer: it is saved and comes back with a checkpoint.
    """

    def __init__(self, beta, target=None, horizon=1000):
        self.beta = np.array(float(beta))
        self.target = target
        self.horizon = horizon

    def follow(self, kl, count):
        """Adjust β after a step of `count` answers that were `kl` nats away on average."""
        if self.target is None:
            return
        error = np.clip(kl / self.target - 1, -0.2, 0.2)
        self.beta *= 1 + error * count / self.horizon                                          # (6)


# ---- the update ---------------------------------------------------------------------------------


def improve(policy, optimizer, batch, settings, rate, random):
    """All epochs of updates on one batch; returns what was seen, name -> number.

    policy: anything with judge(part) -> Tensors (logprobs, entropies, values) of the mask's shape.
    batch: arrays with B rows each, among them logprobs, values, advantages, returns and mask;
    judge gets the others too, by the same names. rate: the learning rate. random: a numpy
    generator, for the order of the rows. Raises FloatingPointError where a loss is not finite.
    """
    mask = batch["mask"]
    seen = []
    if settings.whiten:
        white = whitened(batch["advantages"], mask)
        batch = batch | {"advantages": white}
    for _ in range(settings.epochs):
        order = random.permutation(len(mask))
        for low in range(0, len(order), settings.minibatch):
            rows = order[low : low + settings.minibatch]
            part = {name: array[rows] for name, array in batch.items()}
            one = update(policy, optimizer, part, settings, rate)
            seen.append(one)
    summary = summarised(seen)
    summary["explained_variance"] = explained_variance(batch["values"], batch["returns"], mask)
    return summary


def summarised(seen):
    """What the updates of a step saw, as one: means, but the first and the largest ratio."""
    summary = {}
    for name in seen[0]:
        values = [one[name] for one in seen]
        summary[name] = float(np.mean(values))
    ratios = [one["ratio"] for one in seen]
    summary["first_ratio"] = ratios[0]
    summary["ratio"] = max(ratios)
    return summary


def update(policy, optimizer, part, settings, rate):
    """One minibatch: forward, (2) to (4), backward, step. Returns what was seen."""
    logprobs, entropies, values = policy.judge(part)
    mask = part["mask"]
    old, advantages, guesses, returns = (
        part[name].astype(logprobs.dtype)
        for name in ("logprobs", "advantages", "values", "returns"))
    of_policy = policy_loss(logprobs, old, advantages, mask, settings.ratio_clip)
    of_values = value_loss(values, guesses, returns, mask, settings.value_clip)
    entropy = masked_mean(entropies, mask)
    weights = np.array([settings.value_weight, settings.entropy_weight], logprobs.dtype)
    loss = of_policy + of_values * weights[0] - entropy * weights[1]                           # (4)
    loss.backward()
    norm = optimizer.step(rate, settings.clip)
    return {
        "policy_loss": of_policy.item(),
        "value_loss": of_values.item(),
        "entropy": entropy.item(),
        "gradient_norm": norm,
        **movement(logprobs.numpy(), old, mask, settings.ratio_clip),
    }


def movement(logprobs, old, mask, epsilon):
    """How far an update's policy is from the one that made the data, name -> number."""
    counted = mask > 0
    new = logprobs[counted]
    old = old[counted]
    change = new - old
    beyond = np.abs(np.exp(change) - 1) > epsilon
    farthest = np.abs(change).max()
    return {
        "clip_fraction": float(beyond.mean()),
        "ratio": float(np.exp(farthest)),
        "update_kl": float(kl_estimate(new, old).mean()),
    }
