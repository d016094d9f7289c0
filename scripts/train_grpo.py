"""Let a model practise what a program can judge: GRPO, and what more imitation would have brought.

    python scripts/train_grpo.py                        sums of three digits
    python scripts/train_grpo.py --task brackets        or sort, or python
    python scripts/train_grpo.py --start runs/sft       begin with a run of train_sft.py
    python scripts/train_grpo.py --out runs/grpo-addition-1 --resume

Three trainings. A small model imitates demonstrations (SFT), nine in ten of which have the slip
that is usual for the task: in sums the carry is forgotten. From there it practises on fresh
problems, of which nobody shows it the answers, only whether its own are right (GRPO). And, as a
control, it imitates on for as many floating-point operations as the practice took. All three are
examined on problems whose operands no training has seen. Every flag: --help.
"""

import math
import shutil
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm

from tinygrad_edu import threads
from tinygrad_edu.data.conversations import Conversation
from tinygrad_edu.data.tasks import TASKS, Addition
from tinygrad_edu.data.turns import Turns
from tinygrad_edu.files.checkpoint import checkpoint_path
from tinygrad_edu.files.safetensors import save as save_tensors
from tinygrad_edu.inference.cache import KVCache
from tinygrad_edu.models import run as runs
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.config import (
    complain,
    differences,
    errors_in_one_sentence,
    from_dict,
    option,
    parse,
    to_dict,
)
from tinygrad_edu.nn.optimizers import make_optimizer
from tinygrad_edu.rlhf import gauges
from tinygrad_edu.rlhf.grpo import GRPOSettings, group_advantages, improve
from tinygrad_edu.rlhf.logprobs import frozen_logprobs
from tinygrad_edu.rlhf.reward import interval
from tinygrad_edu.rlhf.rollout import rollout, scored
from tinygrad_edu.rlhf.sft import checked_rows, sft_batch
from tinygrad_edu.rlhf.world import LEVELS, SLIPS
from tinygrad_edu.tensor import no_grad
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.loop import Diverged, Interrupt, train
from tinygrad_edu.train.metrics import Metrics
from tinygrad_edu.train.program import program

SIGNS = "\n 0123456789+-*=()[]{}abcdefghijklmnopqrstuvwxyz"     # all that a task is written with
LONGEST = {"addition": 5, "sort": 12, "brackets": 5, "python": 8}  # tokens, with the end
WATCHED = tuple(name for name in gauges.GAUGES if name != "gradient_norm")
REFERENCE_EVERY = 5                                # steps, where the distance costs nothing


@dataclass
class Settings(GRPOSettings):
    """The settings of a run."""

    task: str = option("addition", "what is practised", choices=(*TASKS,))
    level: int | None = option(None, "its difficulty (default: what is hard for so small a model)",
                               low=1)
    start: Path | None = option(None, "run folder to begin with (default: one is made)")
    demonstrations: int = option(20_000, "problems whose answers are shown", low=1, high=10**7)
    slips: float = option(0.9, "share of them that make the usual slip", low=0.0, high=1.0)
    sft_steps: int = option(250, "steps of imitating them", low=1)
    sft_batch: int = option(256, "demonstrations in a step", low=1)
    sft_lr: float = option(4e-3, "learning rate of imitating", low=0.0)
    layers: int = option(2, "blocks of the model that is made", low=1, high=100)
    width: int = option(128, "size of its residual stream, a multiple of 4", low=4)
    prompts: int = option(64, "problems in a step, each answered --group times", low=1)
    max_new: int | None = option(None, "tokens of the longest answer (default: by the task)", low=1)
    steps: int = option(60, "steps of practice", low=1, high=2**53)
    lr: float = option(5e-4, "learning rate of practice", low=0.0)
    warmup: int = option(10, "steps over which it grows", low=0)
    control: bool = option(True, "imitate on for as many operations, and compare")
    group: int = option(8, "answers to every prompt, G", low=2)
    minibatch: int = option(256, "answers whose gradients make one update", low=1)
    examine: int = option(1000, "held-out problems in the examinations at the end", low=1)
    evaluate_every: int = option(10, "steps between looks at held-out problems", low=1)
    save_every: int = option(25, "steps between checkpoints", low=1)
    seed: int = option(1, "of everything that is drawn", low=0, high=2**32 - 1)
    out: Path | None = option(None, "run folder (default: runs/grpo-TASK-SEED)")
    resume: bool = option(False, "go on with the run in --out, with its settings")
    overwrite: bool = option(False, "replace the run that is in --out")
    measure_rollout: bool = option(False, "only measure how fast answers are written")


def main():
    """Make the model that begins, practise, imitate on, examine all three."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        completed(settings)
        if settings.measure_rollout:
            measure(settings)
            return
        settings = opened(settings, given)
        school = School(settings)
    before = school.start()
    metrics, operations = practise(settings, school)
    models = {"SFT": before}
    if settings.control:
        models["SFT, as much again"] = school.imitate_on(operations)
    models["GRPO"] = runs.load_run(settings.out)[0]
    finish(settings, school, metrics, models)


def completed(settings):
    """Fill in what hangs on the task."""
    settings.level = settings.level or LEVELS[settings.task]
    settings.max_new = settings.max_new or LONGEST[settings.task] + max(
        0, 2 * (settings.level - LEVELS[settings.task]))
    settings.out = settings.out or Path("runs") / f"grpo-{settings.task}-{settings.seed}"
    if settings.width % 4:
        raise ValueError(f"--width {settings.width} is not a multiple of 4, the heads")
    if settings.resume and settings.overwrite:
        raise ValueError("--resume and --overwrite exclude each other: give one of them")


def opened(settings, given):
    """Claim the folder; the settings of the run that goes on there, or these for a new one."""
    out, note = settings.out, settings.out / "begun"
    if settings.resume:
        _, state = runs.read_run(note)
        old = from_dict(Settings, state["settings"])
        for flag, was, now in differences(old, settings, given - {"out", "resume"}):
            raise ValueError(f"--resume goes on with {flag} {was}, not {now}: leave {flag} away, "
                             "or start another run")
        threads.use(state.get("threads") or threads.count())
        settings = replace(old, out=out, resume=True)
    elif checkpoint_path(note).exists() and not settings.overwrite:
        raise FileExistsError(f"{out} holds a run already: go on with it (--resume), replace it "
                              "(--overwrite), or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    settings.lock = runs.claim(out)                # held as long as the settings live
    if not settings.resume and note.exists():
        for name in ("begun", "sft", "control"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (*runs.WRITTEN, "metrics.csv", "gauges.png"):
            (out / name).unlink(missing_ok=True)
    return settings


# ---- imitation ----------------------------------------------------------------------------------


class School:
    """The task, its demonstrations, and the model that has imitated them."""

    def __init__(self, settings):
        self.settings = settings
        self.task, self.exams = TASKS[settings.task], {}
        if settings.task == "addition":            # units first: the order in which one adds
            self.task = Addition(backwards=True)
        if settings.start is None:
            self.tokenizer = train_characters([SIGNS])
        else:
            _, self.tokenizer = runs.load_run(settings.start)
        self.turns = Turns(self.tokenizer)
        random = np.random.default_rng([settings.seed, 4])
        talks = []
        for problem in self.problems(settings.demonstrations, 0):
            slips = random.random() < settings.slips
            answer = SLIPS[settings.task](problem) if slips else problem.answer
            talks.append(Conversation((("user", problem.prompt), ("assistant", answer))))
        rows = [self.turns.tokens_and_mask(talk) for talk in talks]
        self.context = max(len(ids) for ids, _ in rows) + 2 * settings.max_new
        self.rows = checked_rows(rows, self.context, "demonstration")

    def problems(self, count, *key, held_out=False):
        """So many problems, drawn by the seed and these numbers."""
        random = np.random.default_rng([self.settings.seed, *key])
        return [self.task.draw(random, self.settings.level, held_out) for _ in range(count)]

    def prompts(self, problems):
        """Their questions as lists of ids."""
        return [self.turns.prompt((("user", problem.prompt),)).tolist() for problem in problems]

    def score(self, problems, answers):
        """1.0 for every right answer, 0.0 for others; answers are lists of ids with their ends."""
        scores = []
        for problem, ids in zip(problems, answers, strict=True):
            whole = ids[-1] in self.turns.stop     # an answer that did not end is none
            text = self.tokenizer.decode(ids[:-1])
            scores.append(self.task.score(problem, text) if whole else 0.0)
        return scored(scores, len(problems))

    def examine(self, model, count, greedy=True):
        """The share of held-out problems that a model answers rightly."""
        if count not in self.exams:                # most draws stand between the two sides
            self.exams[count] = self.problems(count, 1, held_out=True)
        problems = self.exams[count]
        answers = rollout(model, self.prompts(problems), self.settings.max_new, self.turns.stop,
                          np.random.default_rng(self.settings.seed), greedy=greedy).answers()
        return float(self.score(problems, answers).mean())

    def start(self):
        """The model that practice begins with."""
        settings = self.settings
        self.keep_settings()
        if settings.start is not None:
            return runs.load_run(settings.start)[0]
        config = GPTConfig(self.tokenizer.vocab_size, self.context, settings.layers, 4,
                           settings.width)
        model = GPT(config, np.random.default_rng(settings.seed))
        return self.imitate("sft", model, settings.sft_steps, 0)

    def keep_settings(self):
        """Write down what was asked for, so that --resume knows it at every moment."""
        place = self.settings.out / "begun"
        if not checkpoint_path(place).exists():
            tiny = GPT(GPTConfig(1, 1, 1, 1, 1), np.random.default_rng(0))
            optimizer = make_optimizer("sgd", tiny.named_parameters())
            chosen = to_dict(self.settings) | {"resume": False, "overwrite": False}
            runs.save_run(place, tiny, optimizer, chosen, 0, threads=threads.count())

    def imitate_on(self, operations):
        """The control: the beginning's model, after as many more operations of imitation."""
        settings = self.settings
        model = runs.load_run(settings.start or settings.out / "sft")[0]
        a_step = 3 * settings.sft_batch * (max(len(ids) for ids, _ in self.rows) - 1)
        return self.imitate("control", model, math.ceil(operations / a_step), settings.sft_steps)

    def imitate(self, name, model, steps, begun):
        """Train a model on the demonstrations, in a run folder of its own that may be resumed."""
        settings, folder = self.settings, self.settings.out / name
        if (folder / "model.safetensors").exists():
            return runs.load_run(folder)[0]
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(self.tokenizer, folder / "tokenizer.json")
        optimizer = make_optimizer("muon", model.train().named_parameters())
        done = restored(folder, model, optimizer)
        recipe = SimpleNamespace(steps=steps, schedule="constant", lr=settings.sft_lr, min_lr=0.0,
                                 warmup=20, clip=settings.clip, seed=settings.seed)

        def batch(step):
            return [sft_batch(self.rows, settings.sft_batch, settings.seed, begun + step)]

        def save(done):
            runs.save_run(folder, model, optimizer, to_dict(settings), done,
                          threads=threads.count())

        with tqdm(total=steps, initial=done, desc=f"imitation ({name})", unit="step") as bar:
            metrics = Metrics(folder / "metrics.csv", done)
            done = train(model, optimizer, batch, recipe, metrics, done, (), bar,
                         (settings.save_every * 4, save))
        save(done)
        if done < steps:
            interrupted(settings)
        write_weights(folder, model)
        return model.eval()


def restored(folder, model, optimizer):
    """Copy what a checkpoint in the folder holds into these; how many steps it has, or 0."""
    if not checkpoint_path(folder).exists():
        return 0
    arrays, state = runs.read_run(folder)
    model.load_state(runs.part(arrays, "model"))
    optimizer.load_state(runs.part(arrays, "optimizer"))
    return state["done"]


def write_weights(folder, model):
    """The file that says that a training has come to its end."""
    save_tensors(folder / "model.safetensors", model.state(), {"format": "pt"})


def interrupted(settings):
    """Say how to go on, and leave as one who was interrupted."""
    print(f"interrupted; nothing is lost, go on with\n    python scripts/train_grpo.py "
          f"--out {settings.out} --resume")
    raise SystemExit(130)


# ---- practice -----------------------------------------------------------------------------------


def practise(settings, school):
    """All steps of GRPO: (metrics, operations in units of a token's forward pass)."""
    start = settings.start or settings.out / "sft"
    model, reference = (runs.load_run(start)[0] for _ in range(2))
    optimizer = make_optimizer("adamw", model.train().named_parameters(), decay=0.0)
    done = restored(settings.out, model, optimizer)
    save_tokenizer(school.tokenizer, settings.out / "tokenizer.json")
    metrics = Metrics(settings.out / "metrics.csv", done, WATCHED)

    def save(done):
        runs.save_run(settings.out, model, optimizer, to_dict(settings), done,
                      threads=threads.count())

    with tqdm(total=settings.steps, initial=done, desc="practice", unit="step") as bar, \
            Interrupt() as interrupt:
        for step in range(done, settings.steps):
            began = time.perf_counter()
            row = practise_once(settings, school, model, reference, optimizer, step)
            if (step + 1) % settings.evaluate_every == 0:
                row["score"] = school.examine(model, min(200, settings.examine))
                bar.write(f"step {step + 1:,}: reward {row['reward']:.3f}, held out "
                          f"{row['score']:.3f}")
            row["seconds"] = (metrics.last("seconds") or 0) + time.perf_counter() - began
            row["tokens"] += metrics.last("tokens") or 0
            metrics.add(**row)
            bar.set_postfix_str(f"reward {row['reward']:.3f}", refresh=False)
            bar.update()
            done = step + 1
            if done % settings.save_every == 0 or interrupt.seen or done == settings.steps:
                save(done)
            if interrupt.seen:
                break
    if done < settings.steps:
        interrupted(settings)
    write_weights(settings.out, model)
    return metrics, metrics.last("tokens")


def practise_once(settings, school, model, reference, optimizer, step):
    """A step: problems, answers, rewards, one improvement. Returns its row for the metrics."""
    random = np.random.default_rng([settings.seed, 2, step])
    problems = school.problems(settings.prompts, 3, step)
    written = rollout(model, school.prompts(problems), settings.max_new, school.turns.stop, random,
                      settings.group)
    each = [problem for problem in problems for _ in range(settings.group)]
    rewards = school.score(each, written.answers())
    advantages = group_advantages(rewards, settings)
    looks = settings.kl_weight or step % REFERENCE_EVERY == 0
    base = frozen_logprobs(reference, written.ids, written.mask).data if looks else written.logprobs
    batch = {"ids": written.ids, "mask": written.mask, "logprobs": written.logprobs,
             "reference": base, "advantages": advantages}
    rate = settings.lr * min(1.0, (step + 1) / max(1, settings.warmup))
    try:
        seen = improve(model, optimizer, batch, settings, rate, random)
    except FloatingPointError as error:
        complain(f"{Diverged(error, step)}; the checkpoint before it is kept, a smaller --lr may "
                 "help")
    tokens = written.mask.sum()
    distance = ((written.logprobs - base) * written.mask[:, 1:]).sum() / len(rewards)
    # A token's forward pass is the unit: written once, then forward and twice backward.
    units = written.ids.size * (1 / settings.group + 3 * settings.epochs) + tokens
    return seen | {"step": step, "tokens": units, "loss": seen["policy_loss"],
                   "learning_rate": rate, "reward": rewards.mean(),
                   "kl": distance if looks else None, "length": tokens / len(rewards),
                   "entropy": written.entropies.sum() / tokens}


# ---- the end ------------------------------------------------------------------------------------


def finish(settings, school, metrics, models):
    """Gauges, examinations, picture, and the line that sums the run up."""
    print(gauges.table(metrics.rows))
    print(f"\n{'':22} {'exact':>7}  {'19 in 20':>15}  {'drawn':>7}   of {settings.examine:,} "
          "problems that no training saw")
    exact = {}
    for name, model in models.items():
        exact[name] = school.examine(model, settings.examine)
        low, high = interval(exact[name], settings.examine)
        drawn = school.examine(model, settings.examine, greedy=False)
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
          + f"grpo={exact['GRPO']:.3f} steps={settings.steps} "
          f"minutes={metrics.last('seconds') / 60:.1f} out={settings.out}")


def measure(settings):
    """Tokens a second of rollouts, and of the same model that only decodes, without notes."""
    school = School(settings)
    random = np.random.default_rng(settings.seed)
    config = GPTConfig(school.tokenizer.vocab_size, school.context, settings.layers, 4,
                       settings.width)
    model = GPT(config, random).eval()
    ids = np.array(school.prompts(school.problems(settings.prompts, 3)))

    def plain():
        rows = np.repeat(ids, settings.group, axis=0)
        cache = KVCache(*model.cache(len(rows), rows.shape[1] + settings.max_new))
        with no_grad():
            for _ in range(settings.max_new):
                logits = model.next_logits(rows, cache=cache).numpy()
                rows = logits.argmax(axis=1)[:, None]

    ways = {"plain": plain, "rollout": partial(rollout, model, ids.tolist(), settings.max_new, (),
                                               random, settings.group)}
    times = {name: [] for name in ways}
    for _ in range(15):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    tokens = settings.prompts * settings.group * settings.max_new
    speed = {name: tokens / sorted(each)[len(each) // 2] for name, each in times.items()}
    print(f"rollout_tokens_per_s={speed['rollout']:.0f} plain_tokens_per_s={speed['plain']:.0f} "
          f"ratio={speed['rollout'] / speed['plain']:.2f}")


if __name__ == "__main__":
    with program():
        main()
