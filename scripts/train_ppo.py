r"""Follow a reward model: PPO on a leash, and what a program thinks of the result.

    python scripts/train_ppo.py                       sorting, from runs/sft-sort, judged by
                                                      runs/reward-sort
    python scripts/train_ppo.py --task addition       or another task
    python scripts/train_ppo.py RUN --reward RUN      from a run folder of train_sft.py, judged by
                                                      one of train_reward.py
    python scripts/train_ppo.py --resume              go on where a run stopped

The reward model is made where it is not there, and so is the run before it. The reward that is
shown is counted in standard deviations of the rewards that the beginning's answers get; the exact
score is that of a program, which training never sees. Where the reward rises on and the score
falls, the reward is hacked. A slack leash shows it, and --beside draws both runs:

    python scripts/train_ppo.py --kl-weight 0.05 --kl-target 6 --out runs/ppo-slack \
        --beside runs/ppo-sort

Every flag: --help.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.data.tasks import TASKS
from tinygrad_edu.models import run as runs
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.optimizers import make_optimizer
from tinygrad_edu.rlhf import gauges, practice
from tinygrad_edu.rlhf.actor_critic import ActorCritic, episodes
from tinygrad_edu.rlhf.logprobs import frozen_logprobs
from tinygrad_edu.rlhf.ppo import Leash, PPOSettings, improve
from tinygrad_edu.rlhf.practice import Exercise, answers_gauges, learnt, practise
from tinygrad_edu.rlhf.reward import ends, interval, load_reward, reward_rows
from tinygrad_edu.rlhf.rollout import refuse_other_tokenizer, scored
from tinygrad_edu.rlhf.stage import (
    StageSettings,
    checksum_of,
    complete,
    open_stage,
    run_before,
    saver,
)
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.metrics import COLUMNS, read_metrics
from tinygrad_edu.train.program import program

HERE = Path(__file__).resolve().parent
SUMS = "addition"                                  # what the scripts before this one teach
# Sorting is easier to judge than sums, so its judge learns from fewer pairs.
JUDGE = "--steps", 120, "--batch", 128, "--pairs", 20_000


@dataclass
class Settings(PPOSettings, StageSettings):
    """The settings of a run."""

    sft: Path | None = option(None, "run folder to begin with, the reference too; by default "
                              "runs/sft for sums, else runs/sft-TASK", positional=True)
    reward: Path | None = option(None, "run folder of the reward model; by default runs/reward for "
                                 "sums, else runs/reward-TASK")
    task: str = option("sort", "of which runs are made where none are named",
                       choices=("all", *TASKS))
    steps: int = option(40, "steps, each of answers and updates", low=1, high=2**53)
    batch: int = option(256, "answers in a step", low=1, high=2**20)
    epochs: int = option(2, "passes over the data of a step", low=1)
    lr: float = option(1.5e-4, "largest learning rate", low=0.0)
    schedule: str = option("constant", "how it shrinks", choices=("cosine", "linear", "constant"))
    warmup: int = option(10, "steps over which it grows", low=0)
    shared: bool = option(False, "one trunk for policy and values")
    value_clip: float = option(1.0, "deviations that a guess may move in a step; 0: any", low=0.0)
    kl_weight: float = option(0.2, "what a nat of distance costs at the start, β", low=0.0)
    kl_target: float | None = option(4.0, "nats an answer may be away; none: β stays", low=1e-6)
    examine: int = option(500, "held-out problems in the examinations", low=2)
    beside: Path | None = option(None, "another run of this script, to be drawn in one picture")
    out: Path | None = option(None, "run folder (default: runs/ppo, or runs/ppo-TASK)")


def main():
    """Make what is missing, train, examine before and after."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if settings.sft and not settings.resume:
            ask_what_was_learnt(settings, given)
        kind = "" if settings.task == SUMS else f"-{settings.task}"
        settings.out = settings.out or Path(f"runs/ppo{kind}")
        stage = open_stage(settings, given, runs)
        settings = stage.settings
        beside = run_beside(settings)
        make_what_is_missing(settings, kind)
        judge = Judge(settings)
        stage.check(f"{checksum_of(settings.sft)} {checksum_of(settings.reward)}")
        save_tokenizer(judge.exercise.turns.tokenizer, stage.path / "tokenizer.json")
    before = judge.examine(judge.reference)
    model, metrics = practised(stage, judge)
    complete(stage, model)
    finish(settings, metrics, before, judge.examine(model), beside)


def ask_what_was_learnt(settings, given):
    """The task is that of the run which was named. ValueError where another was asked for, too."""
    task, _, _ = learnt(settings.sft, runs)
    if "task" in given and settings.task != task:
        raise ValueError(f"{settings.sft} has learnt {task}, and --task {settings.task} is asked "
                         "for: give one of them")
    settings.task = task


def run_beside(settings):
    """title -> rows of the run that is drawn beside this one, if one was named."""
    if settings.beside is None:
        return {}
    path = settings.beside / "metrics.csv"
    if not path.exists():
        raise FileNotFoundError(f"--beside {settings.beside}: there is no run of this script")
    return {str(settings.beside): read_metrics(path, (*COLUMNS, *practice.COLUMNS, "beta"))}


def make_what_is_missing(settings, kind):
    """The runs that were not named: of the task, and made where they are not there."""
    task = ("--task", settings.task) if kind else ()
    if settings.sft is None:
        settings.sft = run_before(Path(f"runs/sft{kind}"), HERE / "train_sft.py", *task)
    if settings.reward is None:
        flags = (settings.sft, *task, *(JUDGE if kind else ()))
        settings.reward = run_before(Path(f"runs/reward{kind}"), HERE / "train_reward.py", *flags)


class Judge:
    """The reward model, the program that knows better, and the reference to stay near."""

    def __init__(self, settings):
        self.settings = settings
        self.reference, tokenizer = runs.load_run(settings.sft)
        self.rewards, other = load_reward(settings.reward, runs)
        refuse_other_tokenizer(tokenizer, other, f"the reward model in {settings.reward}")
        task, level, _ = learnt(settings.sft, runs)
        judged = runs.read_run(settings.reward)[1]["settings"]
        if not judged.get("data") and judged["task"] != task:
            raise ValueError(f"the reward model in {settings.reward} judges {judged['task']}, and "
                             f"{settings.sft} has learnt {task}: name another --reward")
        self.exercise = Exercise(tokenizer, task, level, settings.seed)
        self.mean, self.scale = 0.0, 1.0
        raw = self.of(self.exercise.answers(self.reference, 512, "scale")[0])
        self.mean, self.scale = raw.mean(), raw.std() + 1e-8

    def of(self, written):
        """Rewards of answers, in deviations from what the reference's answers get, (B,)."""
        rows = [(ids[:end], mask[:end]) for ids, mask, end in
                zip(written.ids, written.mask, ends(written.mask), strict=True)]
        return (scored(reward_rows(self.rewards, rows), len(rows)) - self.mean) / self.scale

    def base(self, written):
        """The reference's log-probabilities of answers."""
        return frozen_logprobs(self.reference, written.ids, written.mask).data

    def examine(self, model):
        """On held-out problems: dict with reward, kl and score, of answers drawn as in training."""
        written, found = self.exercise.answers(model, self.settings.examine, "exam", held_out=True)
        return {"reward": float(self.of(written).mean()),
                "kl": float(answers_gauges(written, self.base(written))["kl"]),
                "score": float(self.exercise.exact(written, found).mean())}


def practised(stage, judge):
    """All steps of PPO: (the trained language model, the metrics)."""
    settings = stage.settings
    model, _ = runs.load_run(settings.sft)
    # A critic best begins as who knows what is good.
    trunk = None if settings.shared else load_reward(settings.reward, runs)[0].trunk
    policy = ActorCritic(model, model.wte.weight, trunk)
    leash = Leash(settings.kl_weight, settings.kl_target if settings.kl_weight else None)
    optimizer = make_optimizer("adamw", policy.named_parameters(), decay=settings.decay)
    save = resumed(stage, policy, leash, optimizer)

    def once(step, rate):
        return practise_once(settings, judge, policy, optimizer, leash, step, rate)

    def look():
        return {"score": judge.examine(model)["score"]}

    return model, practise(stage, once, look, save, "train_ppo.py", ("beta",))


def resumed(stage, policy, leash, optimizer):
    """Copy what a checkpoint holds into all of these; returns what writes the next one."""
    def extra():
        arrays = policy.critic_state() | {"leash": leash.beta}
        return {f"critic.{name}": array for name, array in arrays.items()}

    if stage.arrays is not None:
        for name, array in extra().items():
            array[...] = stage.arrays[name]
    with errors_in_one_sentence():
        stage.restore(policy.model, optimizer)
    return saver(stage, policy.model, optimizer, extra)


def practise_once(settings, judge, policy, optimizer, leash, step, rate):
    """A step: answers, rewards, guesses, one improvement. Returns its row for the metrics."""
    written, _ = judge.exercise.answers(policy.model, settings.batch, f"step {step}")
    scores = judge.of(written)
    base = judge.base(written)
    values = policy.guesses(written.ids, written.mask[:, 1:])
    batch = episodes(written, base, scores, values, float(leash.beta), settings)
    random = np.random.default_rng([settings.seed, step])
    seen = improve(policy, optimizer, batch, settings, rate, random)
    watched = answers_gauges(written, base)
    leash.follow(watched["kl"], settings.batch)
    return seen | watched | {
        "reward": scores.mean(), "tokens": written.ids.size * (1 + 3 * settings.epochs),
        "generated": written.mask.sum(), "beta": float(leash.beta)}


def finish(settings, metrics, before, after, beside):
    """Gauges, the two examinations, pictures, and the line that sums the run up."""
    print(gauges.table(metrics.rows))
    for word, seen in (("before", before), ("after", after)):
        low, high = interval(seen["score"], settings.examine)
        print(f"{word:7} reward {seen['reward']:6.2f} deviations, {seen['kl']:5.2f} nats away, "
              f"exact {seen['score']:.3f} ({low:.3f} to {high:.3f})")
    try:
        title = f"PPO on the reward model {settings.reward}"
        gauges.draw_gauges(metrics.rows, settings.out / "gauges.png", title)
        found = beside | {str(settings.out): metrics.rows}
        gauges.draw_price(found, settings.out / "price.png", title)
        print(f"pictures: {settings.out}/gauges.png, {settings.out}/price.png")
    except ImportError as error:
        print(error)
    explained = gauges.reading(metrics.rows, "explained_variance")
    print(f"reward_up={after['reward'] - before['reward']:.2f} kl={after['kl']:.2f} "
          f"exact_before={before['score']:.3f} exact={after['score']:.3f} "
          f"explained_variance={explained:.2f} generated={metrics.last('generated'):.0f} "
          f"minutes={metrics.last('seconds') / 60:.1f} out={settings.out}")


if __name__ == "__main__":
    with program():
        main()
