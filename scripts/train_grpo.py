"""Let a model practise what a program can judge: GRPO, and what more imitation would have brought.

    python scripts/train_grpo.py                     sums of three digits, from runs/sft
    python scripts/train_grpo.py --task brackets     or sort, or python
    python scripts/train_grpo.py RUN --out runs/grpo-2 --seed 2
    python scripts/train_grpo.py --resume            go on where a run stopped

RUN is a run folder of train_sft.py, which is made where it is not there: a model that has imitated
a crowd. Nine in ten of its demonstrations have the slip that is usual for the task, on purpose; in
sums the carry is forgotten (lesson world). From there the model practises on fresh problems, of
which nobody shows it the answers, only whether its own are right. As a control it also imitates on,
for as many floating-point operations as the practice took. All three are examined on problems
whose operands no training has seen. Every flag: --help.
"""

import math
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tinygrad_edu.data.tasks import TASKS
from tinygrad_edu.files.checkpoint import checkpoint_path
from tinygrad_edu.inference.cache import KVCache
from tinygrad_edu.models import run as runs
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.optimizers import make_optimizer
from tinygrad_edu.rlhf import gauges
from tinygrad_edu.rlhf.grpo import VARIANTS, GRPOSettings, group_advantages, improve
from tinygrad_edu.rlhf.logprobs import frozen_logprobs
from tinygrad_edu.rlhf.practice import Exercise, answers_gauges, learnt, practise
from tinygrad_edu.rlhf.reward import interval
from tinygrad_edu.rlhf.rollout import rollout
from tinygrad_edu.rlhf.stage import (
    StageSettings,
    checksum_of,
    complete,
    open_stage,
    run_before,
    saver,
)
from tinygrad_edu.tensor import no_grad
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.program import program

TRAIN_SFT = Path(__file__).resolve().parent / "train_sft.py"
SUMS = "addition"                                  # what train_sft.py teaches by itself
REFERENCE_EVERY = 5                                # steps, where the distance costs nothing


@dataclass
class Settings(GRPOSettings, StageSettings):
    """The settings of a run."""

    sft: Path | None = option(None, "run folder to begin with; by default runs/sft for sums, else "
                              "runs/sft-TASK, made where it is not there", positional=True)
    task: str | None = option(None, "what is practised (default: what SFT has learnt)",
                              choices=(*TASKS,))
    steps: int = option(200, "steps of practice", low=1, high=2**53)
    batch: int = option(64, "problems in a step, each answered --group times", low=1, high=2**20)
    group: int = option(8, "answers to every prompt, G", low=2)
    minibatch: int = option(256, "answers whose gradients make one update", low=1)
    lr: float = option(5e-4, "learning rate of practice", low=0.0)
    warmup: int = option(10, "steps over which it grows", low=0)
    control: bool = option(True, "imitate on for as many operations, and compare")
    examine: int = option(1000, "held-out problems in the examinations at the end", low=1)
    out: Path | None = option(None, "run folder (default: runs/grpo, or runs/grpo-TASK)")
    measure_rollout: bool = option(False, "only measure how fast answers are written")


def main():
    """Make the model that begins, practise, imitate on, examine all three."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        kind = "" if settings.task in (None, SUMS) else f"-{settings.task}"
        settings.out = settings.out or Path(f"runs/grpo{kind}")
        if settings.measure_rollout:
            measure(settings, beginning(settings, kind))
            return
        stage = open_stage(settings, given, runs)
        settings = stage.settings
        control = settings.out / "control"
        if not settings.resume:
            if control.exists() and not settings.overwrite:
                raise FileExistsError(f"{control} is there already: choose another --out")
            settings.sft = beginning(settings, kind)
        task, level, slips = learnt(settings.sft, runs)
        settings.task = settings.task or task
        before, tokenizer = runs.load_run(settings.sft)
        exercise = Exercise(tokenizer, settings.task, level, settings.seed)
        exercise.answers(before, 1, "room")        # refuses what does not fit the model
        stage.check(checksum_of(settings.sft))
        if checkpoint_path(control).exists() and not settings.resume:
            shutil.rmtree(control)
        save_tokenizer(tokenizer, stage.path / "tokenizer.json")
    model, metrics = practised(stage, exercise, before)
    complete(stage, model)
    models = {"SFT": before}
    if settings.control:
        folder = imitated_on(settings, exercise, metrics, level, slips)
        models["SFT, as much again"] = runs.load_run(folder)[0]
    finish(settings, exercise, metrics, models | {"GRPO": model})


def beginning(settings, kind):
    """The folder of the model that practice begins with, made where it is not there."""
    if settings.sft is not None:
        return settings.sft
    flags = ("--task", settings.task) if kind else ()
    return run_before(Path(f"runs/sft{kind}"), TRAIN_SFT, *flags)


def practised(stage, exercise, reference):
    """All steps of GRPO: (the trained model, the metrics)."""
    settings = stage.settings
    model = runs.load_run(settings.sft)[0].train()
    optimizer = make_optimizer("adamw", model.named_parameters(), decay=settings.decay)
    with errors_in_one_sentence():
        stage.restore(model, optimizer)

    def once(step, rate):
        return practise_once(settings, exercise, model, reference, optimizer, step, rate)

    def look():
        return {"score": exercise.examine(model, min(200, settings.examine))}

    metrics = practise(stage, once, look, saver(stage, model, optimizer), "train_grpo.py")
    return model.eval(), metrics


def practise_once(settings, exercise, model, reference, optimizer, step, rate):
    """A step: problems, answers, rewards, one improvement. Returns its row for the metrics."""
    asked = settings.batch * VARIANTS[settings.variant].asks
    written, found = exercise.answers(model, asked, f"step {step}", settings.group)
    rewards = exercise.exact(written, found)
    looks = settings.kl_weight or step % REFERENCE_EVERY == 0
    base = frozen_logprobs(reference, written.ids, written.mask).data if looks else None
    batch = {"ids": written.ids, "mask": written.mask, "logprobs": written.logprobs,
             "reference": written.logprobs if base is None else base,
             "advantages": group_advantages(rewards, settings)}
    random = np.random.default_rng([settings.seed, step])
    seen = improve(model, optimizer, batch, settings, rate, random)
    # A token's forward pass is the unit: read once while it is written, then forward and backward.
    learnt_from = written.ids.size / VARIANTS[settings.variant].asks
    read = (written.ids.size / settings.group + 3 * settings.epochs * learnt_from
            + written.mask.sum())
    return seen | answers_gauges(written, base) | {
        "reward": rewards.mean(), "tokens": read, "generated": written.mask.sum()}


def imitated_on(settings, exercise, metrics, level, slips):
    """The control: fresh demonstrations for as many operations as the practice took; its folder."""
    batch = 256
    longest = max(map(len, exercise.prompts(exercise.problems(400, "length")))) + exercise.room
    steps = math.ceil(metrics.last("tokens") / (3 * batch * (longest - 1)))
    flags = ["--task", settings.task, "--slips", slips, "--steps", steps, "--batch", batch,
             "--seed", (settings.seed + 1000) % 2**32]
    flags += ["--level", level] if level else []
    return run_before(settings.out / "control", TRAIN_SFT, settings.sft, *flags)


# ---- the end ------------------------------------------------------------------------------------


def finish(settings, exercise, metrics, models):
    """Gauges, examinations, picture, and the line that sums the run up."""
    print(gauges.table(metrics.rows))
    print(f"\n{'':22} {'exact':>7}  {'19 in 20':>15}  {'drawn':>7}   of {settings.examine:,} "
          "problems that no training saw")
    exact = {}
    for name, model in models.items():
        exact[name] = exercise.examine(model, settings.examine)
        low, high = interval(exact[name], settings.examine)
        drawn = exercise.examine(model, settings.examine, greedy=False)
        print(f"{name:22} {exact[name]:7.3f}  {low:7.3f}-{high:.3f}  {drawn:7.3f}")
    picture = settings.out / "gauges.png"
    try:
        gauges.draw_gauges(metrics.rows, picture, f"GRPO, {settings.task}, seed {settings.seed}")
        print(f"the gauges as a picture: {picture}")
    except ImportError as error:
        print(error)
    control = exact.get("SFT, as much again")
    print(f"sft={exact['SFT']:.3f} "
          + (f"control={control:.3f} " if control is not None else "")
          + f"grpo={exact['GRPO']:.3f} generated={metrics.last('generated'):.0f} "
          f"minutes={metrics.last('seconds') / 60:.1f} out={settings.out}")


def measure(settings, folder):
    """Tokens a second of rollouts, and of the same model that only decodes, without notes."""
    model, tokenizer = runs.load_run(folder)
    exercise = Exercise(tokenizer, settings.task or learnt(folder, runs)[0])
    random = np.random.default_rng(settings.seed)
    prompts = exercise.prompts(exercise.problems(settings.batch, "speed"))
    # Plain decoding knows no shorter rows: all prompts are as long as the shortest.
    ids = np.array([prompt[:min(map(len, prompts))] for prompt in prompts])

    def plain():
        rows = np.repeat(ids, settings.group, axis=0)
        cache = KVCache(*model.cache(len(rows), rows.shape[1] + exercise.room))
        with no_grad():
            for _ in range(exercise.room):
                logits = model.next_logits(rows, cache=cache).numpy()
                rows = logits.argmax(axis=1)[:, None]

    ways = {"plain": plain, "rollout": partial(rollout, model, ids.tolist(), exercise.room, (),
                                               random, settings.group)}
    times = {name: [] for name in ways}
    for _ in range(15):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    tokens = settings.batch * settings.group * exercise.room
    speed = {name: tokens / sorted(each)[len(each) // 2] for name, each in times.items()}
    print(f"rollout_tokens_per_s={speed['rollout']:.0f} plain_tokens_per_s={speed['plain']:.0f} "
          f"ratio={speed['rollout'] / speed['plain']:.2f}")


if __name__ == "__main__":
    with program():
        main()
