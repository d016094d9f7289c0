"""Lesson 7.18 · Five mistakes: how a training by rewards is ruined, and what one sees

Needs actor_critic, config, logprobs, optimizers, ppo, rollout. Used by scripts/break_rlhf.py.

Idea      To know a broken run one has to have seen it, beside one that is healthy. Here is a world
          small enough for both within seconds: a model that writes strings of digits at random is
          to write strings that climb, such as 13479. Five times one thing is wrong.
          leash: distance from the beginning is free. The judge only asks of a digit whether it is
          smaller than the one before; the beginner never writes a digit twice in a row, so on its
          strings the judge is always right. Far from them it is not: the model finds 777777, the
          reward rises to its end, and the strings that really climb become fewer. That is reward
          hacking, and what the leash is for.
          loophole: a little for every token, and nobody meant to pay for length. The strings grow.
          stale: the log-probabilities are those of a model five steps ago. The first step is all
          right, then ratios are wrong before anything has moved.
          mask: one place too late. The first digit is not learnt from, and padding behind the end
          is: the ratio is wrong from the first step on. The score suffers so little that nobody
          would look for the mistake, had the ratio not said so.
          unwhitened: the unit of the reward is a hundredth, and the advantages are taken as they
          are. Every gradient is a hundred times too long, the clip turns it into direction alone,
          and the value model never catches up with such numbers. The price of distance, beside
          such rewards, is a hundredth of what it was: so kl rises as without a leash.
Math      r = share of the pairs of neighbours that do not fall      exact: that rise            (1)
          both divided by 5 at least, so that short strings do not climb too easily
          loophole: r + 0.3·tokens          unwhitened: 100·r, advantages as they are            (2)
Shapes    ids 0 … 9 are digits, 10 the end, 11 the beginning · rows of at most 25 tokens
Pitfalls  One mistake lights several gauges, and some gauges follow from others. The one named in
          MISTAKES is the cause; look there first.
          The reward looks well in all of these runs but the stale one. It tells least.
          None of these runs ends with an error, and no loss becomes infinite.
Cost      A model of 27 thousand numbers, its copy and its critic: a tenth of a second a step.
Try       build it    a sixth: the reference is updated with the policy. What does kl say, forever?
          break it    two at once, stale and unwhitened. Can you still tell them apart?
          measure it  python scripts/break_rlhf.py --out pictures; docs/mistakes.png is one of them
See       Amodei et al. 2016, section 4 (hacking) · Gao et al. 2022 (reward against distance) ·
          Singhal et al. 2023 (length) · Huang et al. 2022 (details of PPO)
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..nn.config import option
from ..nn.optimizers import make_optimizer
from .actor_critic import ActorCritic, episodes
from .logprobs import frozen_logprobs
from .ppo import Leash, PPOSettings, improve
from .rollout import rollout

END, BEGIN, VOCABULARY, LONGEST = 10, 11, 12, 24   # LONGEST: tokens of an answer
SHORTEST = 5                                       # digits of the beginner's shortest string
PAIRS = 5                                          # that a string is judged by at least
LATE = 5                                           # steps that stale log-probabilities are old


class Mistake(NamedTuple):
    """What is wrong, and the gauge that says so."""

    what: str
    gauge: str | None


MISTAKES = {
    "healthy": Mistake("nothing is wrong", None),
    "leash": Mistake("distance from the beginning is free", "kl"),
    "loophole": Mistake("every token is paid for", "length"),
    "stale": Mistake("log-probabilities of five steps ago", "first_ratio"),
    "mask": Mistake("the mask is one place too late", "first_ratio"),
    "unwhitened": Mistake("advantages in the unit of a large reward", "gradient_norm"),
}


@dataclass
class MistakeSettings(PPOSettings):
    """The settings of all runs."""

    steps: int = option(
        120, "steps of PPO", low=2)
    batch: int = option(
        128, "answers in a step", low=2)
    imitate: int = option(
        500, "steps of learning strings at random, first", low=1)
    lr: float = option(
        1e-3, "learning rate", low=0.0)
    kl_weight: float = option(
        0.05, "what a nat of distance costs at the start", low=0.0)
    kl_target: float = option(
        4.0, "nats an answer may be away", low=1e-6)
    entropy_weight: float = option(
        0.01, "reward for being undecided", low=0.0)
    seed: int = option(
        1, "of everything that is drawn", low=0, high=2**32 - 1)


# ---- the world ----------------------------------------------------------------------------------


def strings_at_random(count, random):
    """(ids, targets), (count, LONGEST) each: strings of digits, no digit twice in a row.

    They have SHORTEST digits or more: after each further one the next three in ten end.
    """
    lengths = SHORTEST - 1 + random.geometric(0.3, (count, 1))
    steps = random.integers(1, 10, (count, LONGEST))
    digits = steps.cumsum(axis=1) % 10             # each differs from the one before
    places = np.arange(LONGEST)
    targets = np.where(places < lengths, digits, END)
    ids = np.concatenate([np.full((count, 1), BEGIN), targets[:, :-1]], axis=1)
    return ids, np.where(places <= lengths, targets, -1)


def beginner(model, settings, progress=iter):
    """Teach a model to write strings at random; returns its weights, name -> array."""
    random = np.random.default_rng(settings.seed)
    optimizer = make_optimizer("adamw", model.named_parameters(), decay=0.0)
    for step in progress(range(settings.imitate)):
        model.loss(*strings_at_random(settings.batch, random)).backward()
        optimizer.step(3e-3 * (1 - step / settings.imitate), 1.0)
    return copied(model)


def copied(model):
    """The weights of a model as they are now, name -> array."""
    return {name: array.copy() for name, array in model.state().items()}


def judged_answers(answers, mistake):
    """(rewards, exact scores), (B,) each: (1) and (2)."""
    rewards, scores = np.zeros((2, len(answers)))
    for place, answer in enumerate(answers):
        digits = [token for token in answer if token < END]
        steps = np.diff(digits)
        pairs = max(PAIRS, len(steps))
        kept, rising = steps >= 0, steps > 0
        rewards[place] = kept.sum() / pairs                                                    # (1)
        scores[place] = rising.sum() / pairs
    if mistake == "loophole":
        rewards += [0.3 * len(answer) for answer in answers]                                   # (2)
    return rewards * (100 if mistake == "unwhitened" else 1), scores


# ---- the mistakes -------------------------------------------------------------------------------


def spoiled(settings, mistake):
    """The settings with a mistake in them."""
    if mistake == "leash":
        return replace(settings, kl_weight=0.0)
    if mistake == "unwhitened":
        return replace(settings, whiten=False)
    return settings


def mistaken(batch, mistake, past, model_of):
    """The batch as the mistake leaves it. past: the weights of all steps so far."""
    if mistake == "stale":
        old = model_of(past[-min(len(past), LATE + 1)])
        whole = np.pad(batch["mask"], ((0, 0), (1, 0)))
        return batch | {"logprobs": frozen_logprobs(old, batch["ids"], whole).data}
    if mistake == "mask":
        late = np.pad(batch["mask"], ((0, 0), (1, 0)))[:, :-1]
        return batch | {"mask": late}
    return batch


def ruined(settings, start, mistake, model_of, progress=iter):
    """A training with one mistake: the rows of its gauges, each with an answer as a sample.

    start: the beginner's weights. model_of(weights): a new model with them, which has wte.weight
    as the matrix of its logits, as lesson gpt has it.
    """
    settings = spoiled(settings, mistake)
    model, reference = model_of(start), model_of(start)
    policy = ActorCritic(model, model.wte.weight, model_of(start))
    optimizer = make_optimizer("adamw", policy.named_parameters(), decay=0.0)
    leash = Leash(settings.kl_weight, settings.kl_target if settings.kl_weight else None)
    rows, past = [], []
    for step in progress(range(settings.steps)):
        random = np.random.default_rng([settings.seed, step])
        written = rollout(model, [[BEGIN]] * settings.batch, LONGEST, [END], random)
        answers = written.answers()
        rewards, scores = judged_answers(answers, mistake)
        base = frozen_logprobs(reference, written.ids, written.mask).data
        away = ((written.logprobs - base) * written.mask[:, 1:]).sum(axis=1).mean()
        values = policy.guesses(written.ids, written.mask[:, 1:])
        batch = episodes(written, base, rewards, values, float(leash.beta), settings)
        past = [*past[-LATE:], copied(model)]
        batch = mistaken(batch, mistake, past, model_of)
        seen = improve(policy, optimizer, batch, settings, settings.lr, random)
        leash.follow(away, settings.batch)
        count = written.mask.sum()
        rows.append(seen | {
            "step": step, "reward": rewards.mean(), "score": scores.mean(), "kl": away,
            "entropy": written.entropies.sum() / count, "length": count / settings.batch,
            "sample": "".join(str(token) for token in answers[0] if token < END)})
    return rows
