"""Ruin a training by rewards in five ways, and see how each looks on the gauges.

    python scripts/break_rlhf.py --out pictures       all of them, beside a healthy one
    python scripts/break_rlhf.py --only stale         one of them

A tiny model has learned to write strings of digits at random. PPO is to teach it strings that
climb, such as 13479; an exact score, which no training sees, is the share of strings that climb all
the way and have at least four digits. The mistakes: no price for distance and long steps (leash), a
reward that pays by the token (loophole), log-probabilities of a model five steps ago (stale), a
mask one place too late (mask), and advantages in the unit of a large reward (unwhitened).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.optimizers import make_optimizer
from tinygrad_edu.rlhf import gauges
from tinygrad_edu.rlhf.actor_critic import ActorCritic, episodes
from tinygrad_edu.rlhf.logprobs import frozen_logprobs
from tinygrad_edu.rlhf.ppo import Leash, PPOSettings, improve
from tinygrad_edu.rlhf.rollout import rollout
from tinygrad_edu.train.program import program

END, BEGIN, LONGEST = 10, 11, 12                   # ids behind the ten digits; tokens of an answer
MISTAKES = ("healthy", "leash", "loophole", "stale", "mask", "unwhitened")
LATE = 5                                           # steps that stale log-probabilities are old


@dataclass
class Settings(PPOSettings):
    """The settings of all runs."""

    only: str | None = option(None, "one of the mistakes", choices=MISTAKES)
    out: Path | None = option(None, "folder for a picture of each")
    steps: int = option(120, "steps of PPO", low=2)
    batch: int = option(128, "answers in a step", low=2)
    imitate: int = option(150, "steps of learning strings at random, first", low=1)
    lr: float = option(1e-3, "learning rate", low=0.0)
    kl_weight: float = option(0.05, "what a nat of distance costs at the start", low=0.0)
    kl_target: float = option(6.0, "nats an answer may be away", low=1e-6)
    entropy_weight: float = option(0.01, "reward for being undecided", low=0.0)
    seed: int = option(1, "of everything that is drawn", low=0, high=2**32 - 1)


def main():
    """Make the model that begins, then ruin it in one way after another."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if settings.out:
            gauges.plots("the pictures need")
            settings.out.mkdir(parents=True, exist_ok=True)
    start = beginner(settings)
    wanted = MISTAKES if settings.only is None else ("healthy", settings.only)
    found = {name: run(settings, start, name) for name in dict.fromkeys(wanted)}
    for name, rows in found.items():
        print(f"\n---- {name}: reward {rows[-1]['reward']:.2f}, exact {rows[-1]['score']:.2f}, "
              f"such as {rows[-1]['sample']}\n{gauges.table(rows)}")
        if settings.out:
            gauges.draw_gauges(rows, settings.out / f"{name}.png", f"{name}: what the gauges say")
    if settings.out:
        print(f"\na picture of each: {settings.out}/*.png")
    print(" ".join(f"{name}={','.join(gauges.lit(rows)) or 'none'}"
                   for name, rows in found.items()))


def beginner(settings):
    """A model that writes three to eight digits at random: name -> array."""
    random = np.random.default_rng(settings.seed)
    model = GPT(GPTConfig(12, LONGEST + 1, 2, 2, 32), random)
    optimizer = make_optimizer("adamw", model.named_parameters(), decay=0.0)
    for _ in tqdm(range(settings.imitate), desc="strings at random", leave=False):
        ids = np.full((settings.batch, LONGEST), END)
        ids[:, 0] = BEGIN
        places = np.arange(1, LONGEST)
        lengths = random.integers(3, 9, (settings.batch, 1))
        digits = random.integers(0, 10, (settings.batch, LONGEST - 1))
        ids[:, 1:] = np.where(places <= lengths, digits, END)
        targets = np.where(places <= lengths + 1, ids[:, 1:], -1)
        model.loss(ids[:, :-1], targets).backward()
        optimizer.step(3e-3, 1.0)
    return {name: array.copy() for name, array in model.state().items()}


def new_model(arrays):
    """A model with these weights."""
    model = GPT(GPTConfig(12, LONGEST + 1, 2, 2, 32), np.random.default_rng(0))
    model.load_state(arrays)
    return model


def judged_answers(answers, mistake):
    """(rewards, exact scores), (B,) each: the share of pairs that climb, and all of at least three.
    """
    rewards, scores = np.zeros((2, len(answers)))
    for place, answer in enumerate(answers):
        digits = [token for token in answer if token < END]
        climbs = np.diff(digits) > 0
        # Of at least four digits: shorter strings climb too easily.
        rewards[place] = climbs.sum() / max(3, len(climbs)) if len(digits) > 1 else 0.0
        scores[place] = len(digits) >= 4 and climbs.all()
        if mistake == "loophole":
            rewards[place] += 0.3 * len(answer)
    return rewards * (100 if mistake == "unwhitened" else 1), scores


def spoiled(settings, mistake):
    """The settings with a mistake in them."""
    if mistake == "leash":
        return replace(settings, kl_weight=0.0, entropy_weight=0.0, lr=6 * settings.lr)
    if mistake == "unwhitened":
        return replace(settings, whiten=False)
    return settings


def run(settings, start, mistake):
    """A training with one mistake; the rows of its gauges."""
    settings = spoiled(settings, mistake)
    model, reference = new_model(start), new_model(start)
    policy = ActorCritic(model, model.wte.weight, new_model(start))
    optimizer = make_optimizer("adamw", policy.named_parameters(), decay=0.0)
    leash = Leash(settings.kl_weight, settings.kl_target if settings.kl_weight else None)
    rows, past = [], []
    for step in tqdm(range(settings.steps), desc=mistake, leave=False):
        random = np.random.default_rng([settings.seed, step])
        written = rollout(model, [[BEGIN]] * settings.batch, LONGEST, [END], random)
        answers = written.answers()
        rewards, scores = judged_answers(answers, mistake)
        base = frozen_logprobs(reference, written.ids, written.mask).data
        away = ((written.logprobs - base) * written.mask[:, 1:]).sum(axis=1).mean()
        values = policy.guesses(written.ids, written.mask[:, 1:])
        batch = episodes(written, base, rewards, values, float(leash.beta), settings)
        past.append({name: array.copy() for name, array in model.state().items()})
        seen = improve(policy, optimizer, mistaken(batch, mistake, past), settings, settings.lr,
                       random)
        leash.follow(away, settings.batch)
        count = written.mask.sum()
        rows.append(seen | {
            "step": step, "reward": rewards.mean(), "score": scores.mean(), "kl": away,
            "entropy": written.entropies.sum() / count, "length": count / settings.batch,
            "sample": "".join(str(token) for token in answers[0] if token < END)})
    return rows


def mistaken(batch, mistake, past):
    """The batch as the mistake leaves it."""
    if mistake == "stale":
        old = new_model(past[-min(len(past), LATE + 1)])
        whole = np.pad(batch["mask"], ((0, 0), (1, 0)))
        return batch | {"logprobs": frozen_logprobs(old, batch["ids"], whole).data}
    if mistake == "mask":
        return batch | {"mask": np.pad(batch["mask"], ((0, 0), (1, 0)))[:, :-1]}
    return batch


if __name__ == "__main__":
    with program():
        main()
