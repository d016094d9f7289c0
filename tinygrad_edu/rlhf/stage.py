"""Lesson 7.7 · Stage: one step on the way to an assistant, as a run that may be killed

Needs atomic, checkpoint, config, loop, memory, metrics, plots, safetensors, threads.
Used by scripts/train_sft.py, scripts/train_reward.py, scripts/train_dpo.py, scripts/finetune.py.

Idea      Base, fine-tuned model, reward model, preferred model: each is trained from the one
          before, and each is a run folder like that of lesson run. What the scripts of all stages
          share is here: settings, a folder that is never overwritten unasked, a training that goes
          on exactly where a kill stopped it, a table and a picture of what happened. And the chain:
          a stage that lacks the one before runs its script first.
Math      none
Shapes    a run folder: tokenizer.json, checkpoint.safetensors, model.safetensors, metrics.csv
          (columns of lesson metrics and those of the stage), curves.png
Pitfalls  To resume is to compute what would have been computed: the batch of a step is a function
          of (seed, step), and what the run was made from must be the same. So a checkpoint holds
          the checksum of the run before and of the data, and another one is refused.
          Ctrl-C reaches a script and the one it started: who starts one waits until it has saved.
          A folder belongs to one process at a time, and files in it are replaced, never rewritten:
          whatever moment a kill chooses, the checkpoint is a whole one.
          The file model.safetensors is written last: a folder that has it is complete, and one that
          has only a checkpoint is gone on with.
          A picture is for people: that the package which draws it is missing ends no run, it is
          said and the run goes on.
Cost      That of the training. A checkpoint is 12 bytes a parameter, every tenth of a run.
Try       build it    a stage of your own: continue an SFT run on other data, with half the lr.
          break it    draw batches from one generator in a row. Which test notices?
          measure it  python scripts/train_sft.py, Ctrl-C, and again with --resume
See       the lessons run, loop and checkpoint
"""

import subprocess
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from .. import threads
from ..files.atomic import remove_leftovers
from ..files.checkpoint import checkpoint_path, load_checkpoint
from ..files.plots import plots
from ..files.safetensors import save as save_tensors
from ..memory import on_host
from ..nn.config import complain, differences, errors_in_one_sentence, from_dict, option, to_dict
from ..train.loop import Diverged, Interrupt, train
from ..train.metrics import Metrics, smoothed

FILES = ("checkpoint.safetensors", "model.safetensors", "metrics.csv", "tokenizer.json",
         "curves.png")


@dataclass
class StageSettings:
    """What every stage can be told; a script adds its own and other defaults."""

    out: Path = option(Path("runs/stage"), "run folder")
    resume: bool = option(False, "go on with the run in --out, with its settings")
    overwrite: bool = option(False, "replace the run that is in --out")
    steps: int = option(1000, "optimizer steps", low=1, high=2**53)
    batch: int = option(32, "examples in a step", low=1, high=2**20)
    lr: float = option(1e-3, "largest learning rate", low=0.0)
    min_lr: float | None = option(
        None, "learning rate at the end (default: a tenth of --lr)", low=0.0)
    warmup: int = option(20, "steps over which the learning rate grows", low=0)
    schedule: Literal["cosine", "linear", "constant"] = option(
        "cosine", "how it shrinks after that")
    decay: float = option(0.0, "weight decay of the matrices", low=0.0)
    clip: float = option(1.0, "largest norm of the gradient", low=1e-9)
    evaluate_every: int | None = option(
        None, "steps between looks at held-out examples (default: a tenth of the run)", low=1)
    save_every: int | None = option(
        None, "steps between checkpoints (default: a tenth of the run)", low=1)
    seed: int = option(1, "of the batches, dropout and draws", low=0, high=2**32 - 1)

    def __post_init__(self):
        tenth = max(1, self.steps // 10)
        self.min_lr = self.lr / 10 if self.min_lr is None else self.min_lr
        self.evaluate_every = self.evaluate_every or tenth
        self.save_every = self.save_every or tenth


# ---- where it begins ----------------------------------------------------------------------------


@dataclass
class Stage:
    """A run folder that is ours: its settings, and what a checkpoint in it holds."""

    settings: StageSettings
    runs: object                                   # lesson run, which floor 7 does not import
    lock: object = None                            # held as long as this lives
    arrays: object = None                          # of the checkpoint; None where there is none
    done: int = 0
    made_from: str = ""
    replaced: list = field(default_factory=list)   # files of a run that --overwrite gives up

    @property
    def path(self):
        """The folder."""
        return self.settings.out

    def check(self, made_from):
        """Note what the run is made from; ValueError where a resumed one was made from others.
        Now that all has been read that was asked for, what is replaced is deleted.
        """
        if self.arrays is not None and made_from != self.made_from:
            raise ValueError(f"the run in {self.path} was made from another model or other data: "
                             "bring those back, or start another run")
        self.made_from = made_from
        for path in self.replaced:
            path.unlink(missing_ok=True)

    def restore(self, model, optimizer):
        """Copy a checkpoint's weights and the optimizer's state into these, if there is one."""
        if self.arrays is not None:
            model.load_state(self.runs.part(self.arrays, "model"))
            optimizer.load_state(self.runs.part(self.arrays, "optimizer"))
            self.arrays = None                     # windows on a file that is going to be replaced


def open_stage(settings, given, runs):
    """The Stage in settings.out: a new one, or with --resume the one that is there.

    given: which settings the user wrote down. ValueError or OSError in one sentence.
    """
    out = settings.out
    if settings.resume and settings.overwrite:
        raise ValueError("--resume and --overwrite exclude each other: give one of them")
    if settings.resume:
        arrays, state = runs.read_run(out)
        try:
            old = from_dict(type(settings), state["settings"])
        except ValueError:
            raise ValueError(f"{out} holds a run of another script than this one: name the right "
                             "--out") from None
        for flag, was, now in differences(old, settings, given - {"out", "resume"}):
            raise ValueError(f"--resume goes on with {flag} {was}, not {now}: leave {flag} away, "
                             "or start another run")
        old.out, old.resume = out, True
        threads.use(state.get("threads") or threads.count())
        return Stage(old, runs, runs.claim(out), arrays, state["done"], state.get("text", ""))
    begins = [getattr(settings, name, None) for name in ("base", "sft", "reward", "model")]
    if any(path and Path(path).resolve() == out.resolve() for path in begins):
        raise ValueError(f"--out {out} is a run that this one begins with: choose another --out")
    there = [out / name for name in FILES if (out / name).exists()]
    if there and not settings.overwrite:
        raise FileExistsError(f"{out} holds a run already: go on with it (--resume), replace it "
                              "(--overwrite), or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    lock = runs.claim(out)
    return Stage(settings, runs, lock, replaced=there)


def refuse_idle(given, names, why):
    """ValueError where one of these settings was given: it would do nothing."""
    for name in (name.replace("_", "-") for name in names if name in given):
        raise ValueError(f"--{name} does nothing {why}: leave it out")


def run_before(folder, script, *flags):
    """The folder of an earlier stage, made or finished by its script where it is not complete.

    script: its path. Ends the program where that one fails or is interrupted.
    """
    folder = Path(folder)
    if (folder / "model.safetensors").exists():    # the last file that a stage writes
        return folder
    begun = checkpoint_path(folder).exists()
    words = [sys.executable, str(script), "--out", str(folder), *map(str, flags)]
    words = words[:4] + ["--resume"] if begun else words
    print(f"first the run that this one begins with: python {' '.join(words[1:])}", flush=True)
    with Interrupt() as interrupt:
        code = subprocess.Popen(words).wait()
    if code or interrupt.seen:
        raise SystemExit(code or 130)
    return folder


def checksum(arrays):
    """A number for some arrays: other ones have another, all but surely."""
    found = 0
    for array in arrays:
        found = zlib.crc32(np.ascontiguousarray(array), found)
    return found


def checksum_of(folder):
    """The checksum of the checkpoint in a folder: what a run made from it remembers."""
    return load_checkpoint(folder)[0].metadata["checksum"]


# ---- the training -------------------------------------------------------------------------------


def fit(stage, objective, optimizer, batch, save, more=(), look=None, script=""):
    """Train, look and save; returns the Metrics.

    An interrupted run is saved, says how to go on, and ends the program.

    objective: anything with loss(x, y), as lesson loop takes a model; the numbers that it leaves in
    `last` (a dict) go into the columns `more`. batch(step): the (x, y) pairs of a step.
    save(done): writes the checkpoint. look(done): a dict for some of the columns, now and then.
    """
    from tqdm import tqdm

    settings = stage.settings
    with errors_in_one_sentence():
        metrics = Metrics(stage.path / "metrics.csv", stage.done, more)

    def note(step, row):
        row.update(getattr(objective, "last", {}))

    def look_now(step, row):
        found = look(step)
        row.update(found)
        told = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        bar.write(f"step {step:,}: loss {row['loss']:.3f}, {told}")

    actions = [(1, note)]
    if look:
        actions.append((settings.evaluate_every, look_now))
    if stage.done == 0:
        save(0)
    with tqdm(total=settings.steps, initial=stage.done, desc="training", unit="step") as bar:
        try:
            done = train(objective, optimizer, batch, settings, metrics, stage.done, actions, bar,
                         (settings.save_every, save))
        except Diverged as error:
            bar.close()
            complain(f"{error}; the checkpoint before it is kept, a smaller --lr may help")
    save(done)
    if done < settings.steps:
        interrupted(stage, done, script)
    return metrics


def interrupted(stage, done, script):
    """Say how a run that was saved after `done` steps goes on, and end the program."""
    print(f"interrupted after {done:,} of {stage.settings.steps:,} steps; nothing is lost, go on "
          f"with\n    python scripts/{script} --out {stage.path} --resume")
    raise SystemExit(130)


def saver(stage, model, optimizer, more=None):
    """A function done -> None that writes the checkpoint. more: () -> arrays beside the model's."""
    def save(done):
        chosen = to_dict(stage.settings) | {"resume": False, "overwrite": False}
        stage.runs.save_run(stage.path, model, optimizer, chosen, done, stage.made_from,
                            threads.count(), more() if more else None)
    remove_leftovers(checkpoint_path(stage.path))
    return save


def complete(stage, model):
    """Write the file that says that a run has come to its end: the weights alone."""
    weights = {name: on_host(array) for name, array in model.state().items()}
    save_tensors(stage.path / "model.safetensors", weights, {"format": "pt"})


# ---- the picture --------------------------------------------------------------------------------


def show_curves(metrics, out, stage, panels):
    """Draw `panels` of a run into its folder and say where, or what is missing to draw them."""
    picture = out / "curves.png"
    try:
        draw_curves(metrics.rows, picture, f"{stage}: {out}", panels)
        print(f"the run as a picture: {picture}")
    except ImportError as error:
        print(error)


def draw_curves(rows, path, title, panels):
    """Write a PNG with one panel for each of `panels`: (label, names of columns).

    A column that has a number at every step is a thin line with its running average over it; one
    that has them now and then is a line of dots. ImportError without matplotlib.
    """
    pyplot = plots("no picture of the run, it needs")
    size = (4.2 * len(panels), 3.6)
    figure, axes = pyplot.subplots(1, len(panels), figsize=size, layout="constrained",
                                   squeeze=False)
    for place, (label, names) in zip(axes[0], panels, strict=True):
        for name in names:
            known = [row for row in rows if row[name] is not None]
            steps = [row["step"] + 1 for row in known]
            values = [row[name] for row in known]
            few = len(values) < len(rows)
            line, = place.plot(steps, values, "o-" if few else "-", alpha=1 if few else 0.25,
                               lw=0.8, label=name if few else None)
            if not few:
                place.plot(steps, smoothed(values), color=line.get_color(), label=name)
        place.set(xlabel="steps", ylabel=label)
        place.grid(alpha=0.3)
        place.legend()
    figure.suptitle(title, parse_math=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
