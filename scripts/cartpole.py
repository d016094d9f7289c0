"""Balance a pole on a cart by PPO: the plain check that reinforcement learning works.

    python scripts/cartpole.py                  one seed, then 100 episodes as an examination
    python scripts/cartpole.py --seeds 3        three runs, with the seeds 1 to 3

It begins with a network that knows nothing, and ends when the mean of 100 episodes is known. The
longest episode there is has 500 steps. Every flag: --help.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tinygrad_edu.files.atomic import refuse_unwritable
from tinygrad_edu.files.plots import plots
from tinygrad_edu.nn.config import complain, errors_in_one_sentence, option, parse
from tinygrad_edu.nn.optimizers import make_optimizer
from tinygrad_edu.nn.schedule import warmup_cosine
from tinygrad_edu.rlhf.cartpole import LIMIT, Balancer, CartPoles
from tinygrad_edu.rlhf.gae import advantages_and_returns
from tinygrad_edu.rlhf.ppo import PPOSettings, improve, judged
from tinygrad_edu.tensor import Tensor, no_grad
from tinygrad_edu.train.program import program

GOAL = 475


@dataclass
class Settings(PPOSettings):
    """The settings of a run."""

    seeds: int = option(1, "how many runs, with the seeds 1, 2 and so on", low=1)
    carts: int = option(32, "carts side by side", low=1)
    steps: int = option(128, "pushes of each before an update", low=1)
    rounds: int = option(80, "of pushing and learning", low=1)
    shared: bool = option(False, "one trunk for policy and value")
    lr: float = option(2e-3, "learning rate at the start", low=0.0)
    # So that returns are near 1: at a reward of 1 they are near 100, and clipped gradients of the
    # value model would need the whole run to come that far.
    reward: float = option(0.01, "for every push after which the pole stands", low=0.0)
    episodes: int = option(100, "of the examination", low=1)
    # What suits a game of many short steps.
    discount: float = option(0.99, "what a later reward is worth, γ", low=0.0, high=1.0)
    minibatch: int = option(1024, "rows whose gradients make one update", low=1)
    value_clip: float = option(0.0, "how far a guess may move in one update; 0 for any", low=0.0)
    entropy_weight: float = option(0.01, "reward for being undecided", low=0.0)
    out: Path | None = option(None, "a file for the picture of the returns, .png")


class Player:
    """A network as PPO wants a policy: it pushes, and judges pushes."""

    def __init__(self, network):
        self.network = network

    def judge(self, part):
        """Of the pushes in part["actions"]: lesson ppo."""
        logits, values = self.network(Tensor(part["states"]))
        return *judged(logits, part["actions"]), values

    def push(self, states, random, greedy=False):
        """Draw an action for every state: (actions, logprobs, values), arrays (B,)."""
        with no_grad():
            logits, values = self.network(Tensor(states.astype(np.float32)))
        z = logits.numpy().astype(np.float64)
        z -= np.logaddexp(*z.T)[:, None]                         # ln π
        drawn = z[:, 1] > z[:, 0] if greedy else random.random(len(z)) < np.exp(z[:, 1])
        actions = drawn.astype(np.int64)
        return actions, z[np.arange(len(z)), actions], values.numpy()


def main():
    """Train with every seed, examine, and say how it went."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if settings.out:
            plots("the picture of the returns needs")
            if settings.out.suffix.lower() != ".png":
                raise ValueError(f"--out {settings.out}: the name of the picture ends in .png")
            refuse_unwritable(settings.out)
    try:
        results = [run(settings, seed) for seed in range(1, settings.seeds + 1)]
    except FloatingPointError as error:
        complain(f"{error}; a smaller --lr may help")
    passed = sum(result.exam >= GOAL for result in results)
    if settings.out:
        draw(results, settings.out)
        print(f"the returns as a picture: {settings.out}")
    lowest, seconds = min(r.exam for r in results), sum(r.seconds for r in results)
    print(f"mean_return={np.mean([r.exam for r in results]):.1f} lowest_seed={lowest:.1f} "
          f"passed={passed}/{len(results)} seconds={seconds:.0f}")


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is looked for, and told once
def run(settings, seed):
    """One run: training, then the examination. Returns a Result."""
    began = time.perf_counter()
    random = np.random.default_rng(seed)
    network = Balancer(random, shared=settings.shared)
    player = Player(network)
    optimizer = make_optimizer("adam", network.named_parameters())
    carts, course, explained = CartPoles(settings.carts, random), [], []
    with tqdm(total=settings.rounds, desc=f"seed {seed}", unit="round", leave=False) as bar:
        for step in range(settings.rounds):
            batch, lengths = gather(carts, player, settings, random)
            rate = warmup_cosine(step, settings.rounds, settings.lr)
            seen = improve(player, optimizer, batch, settings, rate, random)
            stood = np.mean(lengths) if lengths else settings.steps
            course.append((step + 1, stood))
            explained.append(seen["explained_variance"])
            bar.set_postfix_str(f"{stood:.0f} steps, explained {seen['explained_variance']:.2f}",
                                refresh=False)
            bar.update()
    trained = time.perf_counter() - began
    exam = examine(player, settings.episodes, np.random.default_rng([seed, 1]))
    pushes = settings.rounds * settings.steps * settings.carts
    print(f"seed {seed}: {exam.mean():.1f} ± {exam.std():.1f} steps over {len(exam)} episodes, "
          f"after {pushes:,} pushes in {trained:.1f} s; explained variance "
          f"{np.median(explained):.2f}")
    return Result(exam.mean(), trained, course)


class Result(NamedTuple):
    """What became of a seed: mean return of the examination, seconds, (round, steps) pairs."""

    exam: float
    seconds: float
    course: list


def gather(carts, player, settings, random):
    """A batch of pushes for PPO, and the lengths of the episodes that ended meanwhile."""
    kept, lengths = [], []
    for _ in range(settings.steps):
        states = carts.states
        actions, logprobs, values = player.push(states, random)
        ages = carts.ages + 1
        fell, cut, before = carts.step(actions)
        rewards = np.full(len(states), settings.reward)
        if cut.any():              # no fall: what would have come counts as the value guessed
            rewards[cut] += settings.discount * player.push(before[cut], random)[2]
        kept.append((states, actions, logprobs, values, rewards, fell | cut))
        lengths.extend(ages[fell | cut])
    states, actions, logprobs, values, rewards, ends = (
        np.stack(arrays, axis=1) for arrays in zip(*kept, strict=True))         # (carts, steps)
    last = player.push(carts.states, random)[2]
    advantages, returns = advantages_and_returns(rewards, values, last, ends, settings.discount,
                                                 settings.gae_lambda)
    batch = {"states": states.astype(np.float32), "actions": actions, "logprobs": logprobs,
             "values": values, "advantages": advantages, "returns": returns,
             "mask": np.ones_like(values)}
    rows = settings.steps * settings.carts
    return {name: array.reshape(rows, *array.shape[2:]) for name, array in batch.items()}, lengths


def examine(player, episodes, random):
    """How long each of so many poles stands when the likelier push is always taken."""
    carts = CartPoles(episodes, random)
    stood, standing = np.zeros(episodes), np.ones(episodes, bool)
    for _ in range(LIMIT):
        actions, *_ = player.push(carts.states, random, greedy=True)
        fell, cut, _ = carts.step(actions)
        stood += standing
        standing &= ~(fell | cut)
    return stood


def draw(results, path):
    """The mean length of an episode over the rounds, a line for every seed."""
    pyplot = plots()
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for seed, result in enumerate(results, start=1):
        axes.plot(*zip(*result.course, strict=True), label=f"seed {seed}")
    axes.axhline(GOAL, color="gray", lw=0.8, ls="--", label=f"{GOAL} steps")
    axes.set(xlabel="round", ylabel="steps that a pole stands", title="Cart-pole, PPO")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    with program():
        main()
