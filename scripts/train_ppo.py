"""Follow a reward model: PPO on a leash, and what a program thinks of the result.

    python scripts/train_ppo.py                       from runs/sft, judged by runs/reward
    python scripts/train_ppo.py --reward RUN          a run folder of train_reward.py
    python scripts/train_ppo.py --out runs/ppo --resume

The reward model is made where it is not there, and so is the run before it. The reward that is
shown is counted in standard deviations of the rewards that the beginning's answers get; the exact
score is that of a program, which training never sees. Every flag: --help.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_edu.data.turns import Turns
from tinygrad_edu.files.plots import plots
from tinygrad_edu.models import run as runs
from tinygrad_edu.nn.config import complain, errors_in_one_sentence, option, parse
from tinygrad_edu.nn.optimizers import make_optimizer
from tinygrad_edu.rlhf import gauges
from tinygrad_edu.rlhf.actor_critic import ActorCritic, episodes
from tinygrad_edu.rlhf.logprobs import frozen_logprobs
from tinygrad_edu.rlhf.ppo import Leash, PPOSettings, improve
from tinygrad_edu.rlhf.reward import HEAD, RewardModel, interval, reward_rows
from tinygrad_edu.rlhf.rollout import refuse_other_tokenizer, rollout, scored
from tinygrad_edu.rlhf.stage import (
    StageSettings,
    checksum_of,
    complete,
    open_stage,
    run_before,
    saver,
)
from tinygrad_edu.rlhf.world import NAMES, messages_of, problems
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.loop import Diverged, Interrupt
from tinygrad_edu.train.metrics import Metrics
from tinygrad_edu.train.program import program

HERE = Path(__file__).resolve().parent
SFT, REWARD = Path("runs/sft"), Path("runs/reward")  # where none are named
WATCHED = tuple(name for name in gauges.GAUGES if name != "gradient_norm")


@dataclass
class Settings(PPOSettings, StageSettings):
    """The settings of a run."""

    sft: Path = option(SFT, "run folder to begin with, which is the reference too",
                       positional=True)
    reward: Path = option(REWARD, "run folder of the reward model")
    task: str = option("all", "small tasks to practise", choices=NAMES)
    batch: int = option(256, "answers in a step", low=1, high=2**20)
    max_new: int = option(16, "tokens of the longest answer", low=1)
    steps: int = option(100, "steps, each of answers and updates", low=1, high=2**53)
    lr: float = option(1e-4, "largest learning rate", low=0.0)
    shared: bool = option(False, "one trunk for policy and values")
    kl_weight: float = option(0.05, "what a nat of distance costs at the start, β", low=0.0)
    kl_target: float | None = option(6.0, "nats an answer may be away; none: β stays", low=1e-6)
    examine: int = option(500, "held-out problems in the examinations", low=2)
    out: Path = option(Path("runs/ppo"), "run folder")


def main():
    """Make what is missing, train, examine before and after."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        stage = open_stage(settings, given, runs)
        settings = stage.settings
        if settings.reward == REWARD:
            run_before(REWARD, HERE / "train_reward.py")
        if settings.sft == SFT:
            run_before(SFT, HERE / "train_sft.py")
        stage.check(f"{checksum_of(settings.sft)} {checksum_of(settings.reward)}")
        judge = Judge(settings)
        save_tokenizer(judge.turns.tokenizer, stage.path / "tokenizer.json")
        before = judge.examine(judge.reference)
        trained, metrics = practise(stage, judge)
    complete(stage, trained)
    finish(settings, judge, metrics, before, judge.examine(trained))


class Judge:
    """The reward model, the program that knows better, and the reference to stay near."""

    def __init__(self, settings):
        self.settings = settings
        self.reference, tokenizer = runs.load_run(settings.sft)
        trunk, other = runs.load_run(settings.reward)
        refuse_other_tokenizer(tokenizer, other, f"the reward model in {settings.reward}")
        arrays, _ = runs.read_run(settings.reward)
        if HEAD not in arrays:
            raise ValueError(f"{settings.reward} holds no reward model: make one with "
                             "scripts/train_reward.py")
        self.rewards = RewardModel(trunk)
        self.rewards.head.weight.assign(arrays[HEAD])
        self.turns = Turns(tokenizer)
        self.mean, self.scale = 0.0, 1.0
        written, _ = self.answers(self.reference, 512, [settings.seed, 0])
        raw = self.of(written)
        self.mean, self.scale = raw.mean(), raw.std() + 1e-8

    def answers(self, model, count, key, held_out=False, greedy=False):
        """(a Rollout of so many answers, the (task, problem) pairs that were asked)."""
        settings = self.settings
        found = problems(settings.task, count, str(key), held_out)
        prompts = [self.turns.prompt(messages_of(problem)).tolist() for _, problem in found]
        random = np.random.default_rng(key)
        return rollout(model, prompts, settings.max_new, self.turns.stop, random,
                       greedy=greedy), found

    def of(self, written):
        """Rewards of answers, in deviations from what the reference's answers get, (B,)."""
        ends = written.mask.shape[1] - np.argmax(written.mask[:, ::-1] > 0, axis=1)
        rows = [(ids[:end], mask[:end]) for ids, mask, end in
                zip(written.ids, written.mask, ends, strict=True)]
        return (scored(reward_rows(self.rewards, rows), len(rows)) - self.mean) / self.scale

    def exact(self, written, found):
        """What a program thinks of the answers: 1.0 or 0.0 each."""
        texts = [self.turns.tokenizer.decode(ids[:-1]) for ids in written.answers()]
        ended = [ids[-1] in self.turns.stop for ids in written.answers()]
        return np.array([task.score(problem, text) if end else 0.0
                         for (task, problem), text, end in zip(found, texts, ended, strict=True)])

    def distance(self, written):
        """(the reference's log-probabilities, nats that an answer is away on average)."""
        base = frozen_logprobs(self.reference, written.ids, written.mask).data
        away = ((written.logprobs - base) * written.mask[:, 1:]).sum(axis=1)
        return base, float(away.mean())

    def examine(self, model):
        """On held-out problems: dict with reward, kl and score, of answers drawn as in training."""
        written, found = self.answers(model, self.settings.examine, [self.settings.seed, 1], True)
        return {"reward": float(self.of(written).mean()), "kl": self.distance(written)[1],
                "score": float(self.exact(written, found).mean())}


def practise(stage, judge):
    """All steps of PPO: (the trained language model, the metrics)."""
    settings = stage.settings
    model, _ = runs.load_run(settings.sft)
    trunk = None if settings.shared else runs.load_run(settings.reward)[0]
    policy = ActorCritic(model, model.wte.weight, trunk)
    leash = Leash(settings.kl_weight, settings.kl_target)
    optimizer = make_optimizer("adamw", policy.named_parameters(), decay=0.0)
    save = resumed(stage, policy, leash, optimizer)
    metrics = Metrics(stage.path / "metrics.csv", stage.done, (*WATCHED, "beta"))
    done = stage.done
    if not done:
        save(0)
    with tqdm(total=settings.steps, initial=done, desc="practice", unit="step") as bar, \
            Interrupt() as interrupt:
        for step in range(done, settings.steps):
            began = time.perf_counter()
            row = practise_once(settings, judge, policy, optimizer, leash, step)
            if (step + 1) % settings.evaluate_every == 0:
                row["score"] = judge.examine(model)["score"]
                bar.write(f"step {step + 1:,}: reward {row['reward']:.2f} deviations, "
                          f"{row['kl']:.2f} nats away, exact {row['score']:.3f}")
            row["seconds"] = (metrics.last("seconds") or 0) + time.perf_counter() - began
            metrics.add(**row)
            bar.update()
            done = step + 1
            if done % settings.save_every == 0 or interrupt.seen or done == settings.steps:
                save(done)
            if interrupt.seen and done < settings.steps:
                print(f"interrupted after {done:,} of {settings.steps:,} steps; nothing is lost, "
                      f"go on with\n    python scripts/train_ppo.py --out {stage.path} --resume")
                raise SystemExit(130)
    return model, metrics


def resumed(stage, policy, leash, optimizer):
    """Copy what a checkpoint holds into all of these; returns what writes the next one."""
    def extra():
        arrays = policy.critic_state() | {"leash": leash.beta}
        return {f"critic.{name}": array for name, array in arrays.items()}

    if stage.arrays is not None:
        for name, array in extra().items():
            array[...] = stage.arrays[name]
    stage.restore(policy.model, optimizer)
    return saver(stage, policy.model, optimizer, extra)


def practise_once(settings, judge, policy, optimizer, leash, step):
    """A step: answers, rewards, guesses, one improvement. Returns its row for the metrics."""
    random = np.random.default_rng([settings.seed, 3, step])
    written, _ = judge.answers(policy.model, settings.batch, [settings.seed, 2, step])
    scores = judge.of(written)
    base, away = judge.distance(written)
    values = policy.guesses(written.ids, written.mask[:, 1:])
    batch = episodes(written, base, scores, values, float(leash.beta), settings)
    rate = settings.lr * min(1.0, (step + 1) / max(1, settings.warmup))
    try:
        seen = improve(policy, optimizer, batch, settings, rate, random)
    except FloatingPointError as error:
        complain(f"{Diverged(error, step)}; the checkpoint before it is kept, a smaller --lr may "
                 "help")
    leash.follow(away, settings.batch)
    tokens = written.mask.sum()
    return seen | {"step": step, "tokens": (step + 1) * settings.batch * settings.max_new,
                   "loss": seen["policy_loss"], "learning_rate": rate, "reward": scores.mean(),
                   "kl": away, "length": tokens / settings.batch, "beta": float(leash.beta),
                   "entropy": written.entropies.sum() / tokens}


def finish(settings, judge, metrics, before, after):
    """Gauges, the two examinations, pictures, and the line that sums the run up."""
    print(gauges.table(metrics.rows))
    for word, seen in (("before", before), ("after", after)):
        low, high = interval(seen["score"], settings.examine)
        print(f"{word:7} reward {seen['reward']:6.2f} deviations, {seen['kl']:5.2f} nats away, "
              f"exact {seen['score']:.3f} ({low:.3f} to {high:.3f})")
    try:
        title = f"PPO on the reward model {settings.reward}"
        gauges.draw_gauges(metrics.rows, settings.out / "gauges.png", title)
        draw_proxy(metrics.rows, settings.out / "proxy.png", title)
        print(f"pictures: {settings.out}/gauges.png, {settings.out}/proxy.png")
    except ImportError as error:
        print(error)
    explained = gauges.reading(metrics.rows, "explained_variance")
    print(f"reward_up={after['reward'] - before['reward']:.2f} kl={after['kl']:.2f} "
          f"exact_before={before['score']:.3f} exact={after['score']:.3f} "
          f"explained_variance={explained:.2f} minutes={metrics.last('seconds') / 60:.1f} "
          f"out={settings.out}")


def draw_proxy(rows, path, title):
    """Write a PNG: the reward that is followed, and the score that counts, over the distance."""
    pyplot = plots("the picture of reward and score needs")
    figure, axes = pyplot.subplots(figsize=(6.5, 4), layout="constrained")
    looked = [row for row in rows if row["score"] is not None]
    axes.plot([row["kl"] for row in rows], [row["reward"] for row in rows], ".", alpha=0.4,
              label="reward, deviations")
    other = axes.twinx()
    other.plot([row["kl"] for row in looked], [row["score"] for row in looked], "o-",
               color="tab:orange", label="exact score")
    axes.set(xlabel="nats from the reference", ylabel="reward, deviations", title=title)
    other.set_ylabel("exact score")
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    with program():
        main()
