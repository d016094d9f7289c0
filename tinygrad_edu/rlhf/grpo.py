"""Lesson 7.15 · GRPO: the other answers are what was expected

Needs config, logprobs, pointwise, ppo, reduce. Used by scripts/train_grpo.py.

Idea      PPO needs a second model only to guess what was to be expected of a prompt. If the answers
          are short and a program judges them, there is a simpler way to know: let the model answer
          the same prompt sixteen times. What is better than the mean of its group was better than
          expected. No value model, no GAE; what is left of PPO is the clipped ratio. The children
          of the idea differ in a line each: what the reward is compared with, and by what a long
          answer is divided.
Math      grpo      A = (r − mean r) / (std r + 10⁻⁴)      over the group of a prompt            (1)
          rloo      A = r − mean of the group's other rewards = G/(G − 1)·(r − mean r)           (2)
          dr_grpo   A = r − mean r                                                              (3)
          ℓ = −Σ w·min(ρ·A, clip(ρ, 1 − ε, 1 + ε_high)·A) + β·Σ w·k                             (4)
          k = π_ref/π − 1 − ln(π_ref/π), of each token: (7) of lesson ppo towards the reference (5)
          w of a token, for B answers of length |o|:  grpo 1/(B·|o|)      rloo 1/B
          dr_grpo 1/(B·longest allowed)               dapo 1/Σ|o|                               (6)
Shapes    rewards (B,), the answers of a prompt side by side, G each · ids, mask (B, T) · logprobs,
          reference (B, T − 1)
Pitfalls  A group whose answers are all right, or all wrong, teaches nothing: all its A are 0. DAPO
          leaves it out, so that Σ|o| does not count it. Prompts that are neither too easy nor too
          hard are worth the most.
          The division by std makes the rare success of a hard prompt, and the rare failure of an
          easy one, weigh most. Dr. GRPO calls that a bias, and 1/|o| another: of two wrong answers
          the longer one is punished less for each of its tokens.
          The mean over rows of a minibatch must stay one: (6) counts the minibatch, not the batch.
Cost      G answers a prompt, and a pass forward and back over them; one forward pass of the
          reference where β is not 0. No second model is trained.
Try       build it    a reward of its own for the form: a digit too many costs 0.1.
          break it    mix the rows before the groups are made. Which test notices?
          measure it  python scripts/train_grpo.py --variant rloo, then dr_grpo and dapo
See       Shao et al. 2024 (GRPO), eq. 3, 4 · Kool et al. 2019 and Ahmadian et al. 2024 (RLOO) · Liu
          et al. 2025 (Dr. GRPO) · Yu et al. 2025 (DAPO), eq. 8-12
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..nn.config import option
from ..ops.pointwise import exp, minimum
from ..ops.reduce import sum as total
from .logprobs import answer_logprobs
from .ppo import between, movement, summarised

# ---- the lines that differ ----------------------------------------------------------------------


def standardised(groups):
    """(P, G) rewards -> advantages: (1)."""
    return centred(groups) / (groups.std(axis=1, keepdims=True) + 1e-4)                        # (1)


def leave_one_out(groups):
    """(P, G) rewards -> advantages: (2)."""
    G = groups.shape[1]
    return centred(groups) * G / (G - 1)                                                       # (2)


def centred(groups):
    """(P, G) rewards -> advantages: (3)."""
    return groups - groups.mean(axis=1, keepdims=True)                                         # (3)


def per_answer(mask, longest):
    """Every answer counts the same, every token of it the same share."""
    lengths = np.maximum(1, mask.sum(axis=1, keepdims=True))
    return mask / lengths / len(mask)                                                          # (6)


def whole_answer(mask, longest):
    """The log-probability of an answer is the sum of its tokens'."""
    return mask / len(mask)                                                                    # (6)


def per_longest(mask, longest):
    """As whole_answer, by a constant instead of a length."""
    return mask / longest / len(mask)                                                          # (6)


def per_token(mask, longest):
    """Every token of the batch counts the same."""
    return mask / max(1.0, mask.sum())                                                         # (6)


class Variant(NamedTuple):
    """What a child of GRPO does in its own way."""

    advantages: object
    weights: object
    higher: float = 0.0                            # ε_high − ε
    asks: int = 1                                  # problems for each whose answers are learnt from


VARIANTS = {
    "grpo": Variant(standardised, per_answer),
    "rloo": Variant(leave_one_out, whole_answer),
    "dr_grpo": Variant(centred, per_longest),
    "dapo": Variant(standardised, per_token, higher=0.08, asks=2),
}


# ---- what they share ----------------------------------------------------------------------------


@dataclass
class GRPOSettings:
    """The numbers that make GRPO; scripts add theirs."""

    variant: str = option(
        "grpo", "whose line is taken where they differ", choices=(*VARIANTS,))
    group: int = option(
        16, "answers to every prompt, G", low=2)
    max_new: int = option(
        8, "tokens of the longest answer", low=1)
    ratio_clip: float = option(
        0.2, "how far a probability may move, ε", low=1e-6)
    kl_weight: float = option(
        0.0, "what a nat of distance from the start costs, β", low=0.0)
    epochs: int = option(
        1, "passes over the answers of a step", low=1)
    minibatch: int = option(
        512, "answers whose gradients make one update", low=1)
    clip: float = option(
        1.0, "largest norm of the gradient", low=1e-9)


def group_advantages(rewards, settings):
    """rewards (B,) -> advantages (B,), of answers that stand group by group: (1) to (3)."""
    groups = rewards.reshape(-1, settings.group)
    variant = VARIANTS[settings.variant]
    advantages = variant.advantages(groups)
    return advantages.reshape(-1)


def grpo_loss(logprobs, old, reference, advantages, mask, settings):
    """(4), a Tensor (); logprobs is a Tensor (B, T), the others arrays; advantages (B,).

    reference: log-probabilities of the reference, or None where kl_weight is 0.
    """
    variant, real = VARIANTS[settings.variant], logprobs.dtype
    weights = variant.weights(mask, settings.max_new).astype(real)
    wanted = advantages[:, None].astype(real)
    ratio = exp(logprobs - old.astype(real))
    high = 1 + settings.ratio_clip + variant.higher
    clipped = between(ratio, 1 - settings.ratio_clip, high)
    loss = -total(minimum(ratio * wanted, clipped * wanted) * weights)                         # (4)
    if settings.kl_weight:
        back = -logprobs + reference.astype(real)
        k = exp(back) - (back + np.ones_like(weights))                                         # (5)
        loss = loss + total(k * (settings.kl_weight * weights).astype(real))
    return loss


def improve(model, optimizer, batch, settings, rate, random):
    """All epochs of updates on one batch of answers; returns what was seen, name -> number.

    batch: arrays ids, mask (B, T), logprobs, reference (B, T − 1), advantages (B,). random: a numpy
    generator, for the order of the rows. Raises FloatingPointError where a loss is not finite.
    """
    seen = []
    batch = teaching(batch, VARIANTS[settings.variant].asks)
    for _ in range(settings.epochs):
        order = random.permutation(len(batch["ids"]))
        for low in range(0, len(order), settings.minibatch):
            rows = order[low : low + settings.minibatch]
            part = {name: array[rows] for name, array in batch.items()}
            one = update(model, optimizer, part, settings, rate)
            seen.append(one)
    return summarised(seen)


def teaching(batch, asks):
    """Of a batch that was asked for `asks` times as much as is wanted, the part to learn from.

    Those are the first groups that teach something, as many as are wanted; all where asks is 1, or
    where none of them teaches.
    """
    places = np.flatnonzero(batch["advantages"])[: len(batch["ids"]) // asks]
    if asks == 1 or not len(places):
        return batch
    return {name: array[places] for name, array in batch.items()}


def update(model, optimizer, part, settings, rate):
    """One minibatch: forward, (4), backward, step. Returns what was seen."""
    mask = part["mask"][:, 1:]
    logprobs = answer_logprobs(model, part["ids"], part["mask"])
    loss = grpo_loss(logprobs, part["logprobs"], part["reference"], part["advantages"], mask,
                     settings)
    loss.backward()
    norm = optimizer.step(rate, settings.clip)
    return {
        "policy_loss": loss.item(),
        "gradient_norm": norm,
        **movement(logprobs.numpy(), part["logprobs"], mask, settings.ratio_clip),
    }
