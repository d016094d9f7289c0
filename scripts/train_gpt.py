"""Train a GPT, from text to a model that writes more of it.

    python scripts/train_gpt.py                               Python's standard library, 4.5 minutes
    python scripts/train_gpt.py --data stories                made-up stories, 3 minutes
    python scripts/train_gpt.py --data notes/ --minutes 20    a folder of your own
    python scripts/train_gpt.py --out runs/pystdlib --resume  go on where a run stopped

It reads the text, trains a tokenizer, trains the model, and leaves a run folder with both, the
tokens, the metrics, samples, and a picture of the losses. Every flag: --help.
"""

import functools
import math
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from tinygrad_edu import threads
from tinygrad_edu.data.corpus import SAMPLE, counted
from tinygrad_edu.data.loader import bits_per_byte, draw_batch
from tinygrad_edu.data.sources import is_encoded, read_corpus, word_of
from tinygrad_edu.data.stories import opening, read_stories
from tinygrad_edu.data.token_folder import FILES as TOKEN_FILES
from tinygrad_edu.data.token_folder import (
    TokenFolder,
    is_token_folder,
    read_token_folder,
    write_token_folder,
)
from tinygrad_edu.data.windows import ENOUGH, Windows
from tinygrad_edu.debug.growth import layer_sizes
from tinygrad_edu.debug.hunt import explain
from tinygrad_edu.eval.python_blocks import PROMPT
from tinygrad_edu.eval.story_score import draw_growth, scoreboard, snapshot_steps, table
from tinygrad_edu.files.checkpoint import checkpoint_path
from tinygrad_edu.files.safetensors import save as save_safetensors
from tinygrad_edu.gpu.device import DEVICES, move, peak_bytes, ready
from tinygrad_edu.inference.decoding import generate
from tinygrad_edu.memory import on_host, peak_resident_bytes
from tinygrad_edu.models.gpt import GPT, SIZES, GPTConfig
from tinygrad_edu.models.run import (
    claim,
    load_model,
    part,
    read_run,
    run_tokenizer,
    save_run,
)
from tinygrad_edu.nn.config import (
    complain,
    differences,
    errors_in_one_sentence,
    from_dict,
    option,
    parse,
    to_dict,
)
from tinygrad_edu.nn.loss_scale import LossScale
from tinygrad_edu.nn.optimizers import OPTIMIZERS, make_optimizer
from tinygrad_edu.nn.schedule import SCHEDULES
from tinygrad_edu.ops.mixed import PRODUCTS, set_products
from tinygrad_edu.tensor import Tensor
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, train_characters
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.estimate import estimate_peak, readable
from tinygrad_edu.train.loop import Diverged, evaluate, time_steps, train
from tinygrad_edu.train.metrics import Metrics, Samples, draw_losses, read_metrics
from tinygrad_edu.train.overfit import GOAL, checklist, overfit
from tinygrad_edu.train.program import program

STARTED = time.perf_counter()
RATES = {"tiny": 4e-3, "small": 2e-3, "medium": 1e-3, "gpt2": 6e-4}  # larger models want smaller
# What suits --data stories: single words as tokens, a window for a whole story, many small steps.
STORIES = {"vocab": 3072, "layers": 2, "heads": 4, "width": 128, "context": 128, "batch": 16,
           "windows": "documents", "optimizer": "muon", "lr": 4e-3, "warmup": 60}
STORY_STEPS = 1700  # of stories, so that what is learnt does not hang on the machine's mood
FORECAST = 20  # steps after which the time of the rest is known
QUICK = 8  # batches of held-out text in a look during training
LITTLE = 0.02  # of the training text; less held-out text than that is too little
OVERFIT = 400  # steps in which one batch has to be learnt
RUN_FILES = ("checkpoint.safetensors", "metrics.csv", "model.safetensors", "loss.png",
             "samples.json", "story.png", *TOKEN_FILES)


@dataclass
class Settings:
    """The settings of a run."""

    data: str = option(
        "pystdlib", "text: pystdlib (Python's standard library), stories, stories:SEED, "
        "tinyshakespeare, tinystories, wikitext-2, a file, a folder", word=word_of)
    data_dir: Path | None = option(None, "folder with downloads that were brought by hand")
    out: Path | None = option(None, "run folder; by default runs/ and the name of the data")
    resume: bool = option(False, "go on with the run in --out, with its settings")
    overwrite: bool = option(False, "replace the run that is in --out")
    overfit_one_batch: bool = option(
        False, "only see whether the model learns one batch by heart; leaves no run")
    tokenizer: Literal["bpe", "char"] = option(
        "bpe", "byte-level BPE, trained on the text, or single characters")
    vocab: int = option(2048, "size of the BPE vocabulary: bytes, merges, special tokens", low=257)
    size: Literal["tiny", "small", "medium", "gpt2"] = option(
        "tiny", "sets layers, heads, width, context and the learning rate")
    layers: int = option(0, "blocks", low=1, high=1000)
    heads: int = option(0, "attention heads", low=1)
    width: int = option(0, "size of the residual stream, a multiple of the heads", low=1,
                       high=2**20)
    context: int = option(0, "tokens the model looks back", low=1)
    windows: Literal["anywhere", "documents"] = option(
        "anywhere", "where a window of text may begin; documents suits short ones")
    dropout: float = option(0.0, "share of numbers dropped in training", low=0.0, high=0.9)
    steps: int | None = option(None, "optimizer steps; instead of --minutes", low=1, high=2**53)
    minutes: float | None = option(
        None, "time for everything (default: 4.5; stories 3); 20 steps are timed to fix how many",
        low=0.05, high=1e6)
    batch: int = option(16, "sequences in a pass", low=1, high=2**20)
    accumulate: int = option(1, "passes whose gradients make one step", low=1, high=2**20)
    optimizer: str = option("adamw", "how a gradient becomes a step", choices=tuple(OPTIMIZERS))
    lr: float = option(
        0.0, "largest learning rate (default: what suits --size and --optimizer)", low=0.0)
    min_lr: float | None = option(
        None, "learning rate at the end of the schedule (default: a tenth of --lr)", low=0.0)
    warmup: int = option(100, "steps over which the learning rate grows", low=0)
    schedule: str = option("cosine", "how it shrinks after that", choices=tuple(SCHEDULES))
    beta1: float | None = option(
        None, "average of gradients (default: the optimizer's own)", low=0.0, high=0.9999)
    beta2: float | None = option(
        None, "average of their squares (default: the optimizer's own)", low=0.0, high=0.99999)
    decay: float = option(
        0.1, "weight decay of the matrices, of AdamW; others get a multiple of it", low=0.0)
    clip: float = option(1.0, "largest norm of the gradient", low=1e-9)
    evaluate_every: int | None = option(
        None, "steps between looks at held-out text (default: a tenth of the run)", low=1)
    last_look: int | None = option(
        None, "tokens of held-out text in the loss at the end (default: 1,000,000, or what a "
        "quarter of --minutes allows)", low=1)
    sample_every: int | None = option(
        None, "steps between printed samples (default: a quarter of the run; of stories ever more)",
        low=1)
    save_every: int | None = option(
        None, "steps between checkpoints (default: a tenth of the run)", low=1)
    sample: str | None = option(
        None, "the text that printed samples continue (default: a new line, of Python a def)")
    seed: int = option(1, "of the first weights, the batches and dropout", low=0, high=2**32 - 1)
    device: str = option(
        "cpu", "where to compute; the emulator runs the CUDA kernels on the CPU, slowly",
        choices=DEVICES)
    dtype: str = option(
        "fp32", "the numbers that matrix products multiply; all else stays fp32",
        choices=tuple(PRODUCTS))

    @property
    def of_stories(self):
        """Does this run learn stories?"""
        return word_of(self.data) == "stories"


@dataclass
class Run:
    """What is trained: on what, and how far it has come."""

    settings: Settings
    text: TokenFolder
    model: GPT
    optimizer: object
    done: int = 0

    @functools.cached_property
    def windows(self):
        """The batches of every step, and those of the held-out text."""
        of, text = self.settings, self.text
        end = text.tokenizer.special[END_OF_TEXT] if of.windows == "documents" else None
        return Windows(text.train, text.held_out, of.batch, of.context, of.accumulate, of.seed, end)


def main():
    """Read the flags and run; what a user can get wrong ends with one sentence."""
    sizes = {name: {**numbers, "lr": RATES[name]} for name, numbers in SIZES.items()}
    presets = {"size": sizes, "data": {"stories": STORIES}}
    settings, given = parse(Settings, presets=presets, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        check(settings, given)
        run = go_on(settings, given) if settings.resume else begin(settings, given)
        fix_steps(run)
        metrics = Metrics(settings.out / "metrics.csv", run.done)
        samples = Samples(settings.out / "samples.json", run.done)
    fit(run, metrics, samples)
    finish(run, metrics, samples)


def check(settings, given):
    """Refuse what cannot work before anything is read; choose the folder where none is named."""
    if settings.steps and settings.minutes:
        raise ValueError("--steps and --minutes exclude each other: give one of them")
    if settings.resume and settings.overfit_one_batch:
        raise ValueError("--resume and --overfit-one-batch exclude each other: a model that has "
                         "learnt proves nothing about one that has not")
    if "lr" not in given:
        settings.lr *= OPTIMIZERS[settings.optimizer].rate
    settings.min_lr = settings.lr / 10 if settings.min_lr is None else settings.min_lr
    if settings.min_lr > settings.lr:
        raise ValueError(f"--min-lr {settings.min_lr:g} is larger than --lr {settings.lr:g}, "
                         "from which the schedule comes down to it")
    if settings.resume and settings.overwrite:
        raise ValueError("--resume and --overwrite exclude each other: give one of them")
    name = Path(settings.data).stem.replace(":", "-") or "text"  # Windows has no : in names
    settings.out = settings.out or Path("runs") / name


def refuse_early(settings):
    """Raise ValueError for a model or an optimizer that cannot be, before minutes of encoding."""
    new_config(settings, 2)
    new_optimizer([("h.0.weight", Tensor(np.zeros((2, 2)), requires_grad=True))], settings)


def default_sample(settings):
    """What samples go on with: of stories, the first paragraph of one that is never trained on."""
    if settings.of_stories:
        _, story = read_stories(settings.data).held_out[0]
        return opening(story.decode("utf-8")) + "\n\n"
    return PROMPT if settings.data == "pystdlib" else "\n"


# ---- a new run ----------------------------------------------------------------------------------


def begin(settings, given):
    """A new run, in a folder of its own; --overfit-one-batch tries one batch and leaves."""
    refuse_early(settings)
    ready(settings.device)
    settings.sample = default_sample(settings) if settings.sample is None else settings.sample
    goes = files_to_go(settings)
    with new_files(settings, goes) as folder:
        text = encoded_text(settings, given, folder)
        check_sample(settings, text.tokenizer, given)
        config = new_config(settings, text.tokenizer.vocab_size)
        announce(config, settings)
        model = new_model(config, settings)
        run = Run(settings, text, model, new_optimizer(model.named_parameters(), settings))
        if settings.overfit_one_batch:
            overfit_one_batch(run)
        mapped = text.folder == folder
        text = run.text = None  # windows on files that are about to be moved
        replace_run(settings.out, folder, goes)
    run.text = read_token_folder(settings.out if mapped else settings.data, check=False)
    return run


def files_to_go(settings):
    """The files in --out that a new run replaces: not the tokens there, if it trains on them."""
    out = settings.out
    own = is_encoded(settings.data) and out.is_dir() and out.samefile(settings.data)
    names = [name for name in RUN_FILES if not (own and name in TOKEN_FILES)]
    return [name for name in names if (out / name).exists()]


def is_mere_start(out):
    """Does a folder hold encoded text and no more, as after a kill before the first step?"""
    files = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    return (is_token_folder(out) and files <= {*TOKEN_FILES, "metrics.csv"}
            and not read_metrics(out / "metrics.csv"))


@contextmanager
def new_files(settings, goes):
    """A folder for the files of a new run until it is known to fit: beside those of an old one.

    Never touches a run that is there unless asked to, and leaves nothing behind after a mistake.
    """
    out = settings.out
    if goes and not (settings.overwrite or settings.overfit_one_batch or is_mere_start(out)):
        if checkpoint_path(out).exists():
            raise FileExistsError(f"{out} holds a run already: go on with it (--resume), "
                                  "replace it (--overwrite), or choose another --out")
        raise FileExistsError(f"{out} holds {goes[0]}, which a run would replace, and no run to go "
                              "on with: allow that (--overwrite), or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    claim(out)
    for left in out.glob(".new-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".new-", dir=out) as folder:
            yield Path(folder)
    finally:
        with suppress(OSError):
            out.rmdir()  # where it is empty


def encoded_text(settings, given, folder):
    """The text as tokens in `folder`, or those of --data where that is a folder of tokens."""
    if is_encoded(settings.data):
        for name in sorted(given & {"tokenizer", "vocab"}):
            raise ValueError(f"{settings.data} holds encoded text and the tokenizer that it was "
                             f"encoded with: leave --{name} away, or give --data the text")
        text = read_token_folder(settings.data)
        save_tokenizer(text.tokenizer, folder / "tokenizer.json")
    else:
        corpus = read_corpus(settings.data, settings.data_dir)
        print(corpus.statistics())
        text = write_token_folder(folder, corpus, new_tokenizer(settings, given, corpus))
    draw_batch(text.train, 1, settings.context, 0, 0)  # refuses a text that is too short
    print(f"{text.tokenizer.vocab_size:,} tokens in the vocabulary, {len(text.train):,} of text to "
          f"train on, {len(text.held_out):,} held out")
    if len(text.held_out) < LITTLE * len(text.train):
        print(f"note: that is {len(text.held_out) / len(text.train):.1%}, as the files fell, and a "
              "loss on so little text says little: add files, or join them into one, whose last "
              "tenth is held out")
    return text


def new_tokenizer(settings, given, corpus):
    """A tokenizer trained on the text; a short text gets fewer tokens than the default."""
    if settings.tokenizer == "char":
        # A character that only the held-out text has would have no number: its loss is wanted too.
        parts = (corpus.train, corpus.held_out)
        return train_characters(text for part in parts for _, text in part)
    if corpus.train_bytes > SAMPLE:
        print(f"the tokenizer is trained on {SAMPLE / 1e6:.0f} MB of it, spread evenly")
    bar = partial(tqdm, desc="tokenizer", unit="merge", leave=False)
    return train_bpe(corpus.sample(), settings.vocab, progress=bar, shrink="vocab" not in given)


def replace_run(out, folder, goes):
    """Put the new files in their place. What was there goes only now, as the new run fits."""
    for name in goes:
        (out / name).unlink(missing_ok=True)
    for name in TOKEN_FILES:  # the note comes last: with it the text is complete
        if (folder / name).exists():
            os.replace(folder / name, out / name)


def check_sample(settings, tokenizer, given):
    """Refuse a --sample that the tokenizer cannot write; where none was given, do without one."""
    try:
        tokenizer.encode(settings.sample)
    except ValueError as error:
        if "sample" in given:
            raise ValueError(f"--sample: {error}") from None
        settings.sample = ""


def new_config(settings, vocabulary):
    """What the settings say of the model."""
    return GPTConfig(vocabulary, settings.context, settings.layers, settings.heads, settings.width,
                     settings.dropout)


def new_model(config, settings):
    """A model with its first weights, on the device and with the products of the settings."""
    return placed(GPT(config, np.random.default_rng(settings.seed)), settings)


def placed(model, settings):
    """The model where, and with the products, that the settings say."""
    return set_products(move(model, settings.device), settings.dtype)


def new_optimizer(named, settings):
    """The optimizer that the settings name, over (name, tensor) pairs, with the betas given."""
    betas = {name: getattr(settings, name) for name in ("beta1", "beta2")}
    chosen = {name: value for name, value in betas.items() if value is not None}
    optimizer = make_optimizer(settings.optimizer, named, decay=settings.decay, **chosen)
    optimizer.loss_scale = LossScale() if settings.dtype == "fp16" else None
    return optimizer


def announce(config, settings):
    """Say what the run will take, before it takes it."""
    slots = len(OPTIMIZERS[settings.optimizer].make.slots)
    peak = estimate_peak(config, settings.batch * settings.context, slots)
    memory = f"about {peak / 1e6:,.0f} MB of memory" if peak else "memory unknown on this system"
    print(f"{config.parameter_count():,} parameters, {memory}, "
          f"{counted(threads.count(), 'thread')}")


def overfit_one_batch(run):
    """Learn one batch by heart, or say what may be wrong; ends the program."""
    (batch, *_) = run.windows.of_step(0)
    try:
        with tqdm(total=OVERFIT, desc="one batch", unit="step", leave=False) as bar:
            losses = overfit(run.model, run.optimizer, batch, run.settings.lr, OVERFIT,
                             run.settings.seed, run.settings.clip, bar)
    except Diverged as error:
        complain(f"{error}; a smaller --lr may help")
    checks = checklist(run.model, batch, losses, run.settings.seed)
    print(*checks, sep="\n")
    print(f"loss={losses[-1]:.4f} steps={len(losses)} goal={GOAL}")
    raise SystemExit(0 if all(check.fine for check in checks) else 1)


# ---- a run that goes on -------------------------------------------------------------------------


def go_on(settings, given):
    """The run in --out, as its checkpoint left it."""
    out = settings.out
    if out.is_dir():
        claim(out)
    arrays, state = read_run(out)
    settings = resumed_settings(settings, given, state)
    ready(settings.device)
    threads.use(thread_count(state))
    run_tokenizer(out, state)  # refuses that of another run
    text = read_token_folder(out if is_token_folder(out) else settings.data)
    if text.checksum != state.get("text"):
        raise ValueError(f"the tokens in {text.folder} are not those that the run in {out} began "
                         "with: bring those back, or start another run")
    model = placed(load_model(arrays, state).train(), settings)
    announce(model.config, settings)
    optimizer = new_optimizer(model.named_parameters(), settings)
    optimizer.load_state(part(arrays, "optimizer"))
    return Run(settings, text, model, optimizer, state["done"])


def resumed_settings(settings, given, state):
    """The settings of the run that is to go on; flags that contradict it are refused."""
    old = from_dict(Settings, state["settings"])
    old.out, old.resume = settings.out, True
    for flag, was, now in differences(old, settings, given - {"out", "resume"}):
        raise ValueError(f"--resume goes on with {flag} {was}, not {now}: leave {flag} away, "
                         "or start another run")
    return old


def thread_count(state):
    """How many threads a resumed run uses: as many as before, unless OMP_NUM_THREADS asks."""
    now = threads.count()
    before = state.get("threads") or now
    if type(before) is not int or not 0 < before < 10_000:
        raise ValueError(f"the checkpoint is damaged: it names {before!r} threads")
    if before != now and "OMP_NUM_THREADS" in os.environ:
        print(f"note: this run began with {before} threads and goes on with {now}; sums are added "
              "up in another order, so its losses are no longer those of one run to the last digit")
        return now
    if before != now:
        print(f"{before} threads, as this run began (OMP_NUM_THREADS={now} would change that)")
    return before


# ---- training -----------------------------------------------------------------------------------


def fix_steps(run):
    """Turn --minutes into a number of steps, by timing 20 steps of a model that is thrown away."""
    settings = run.settings
    if settings.of_stories and settings.minutes is None:
        settings.steps = settings.steps or STORY_STEPS
    if settings.steps is None:
        settings.steps = 1000  # of the schedule while timing
        model = new_model(run.model.config, settings)
        optimizer = new_optimizer(model.named_parameters(), settings)
        seconds = time_steps(model, optimizer, run.windows.of_step, settings)
        minutes = settings.minutes or 4.5
        a_window = time_window(run, model)
        if settings.last_look is None:
            settings.last_look = tokens_to_look_at(run, minutes * 60 / 4 / a_window)
        windows = run.windows.last_look(settings.last_look) + 10 * QUICK * settings.batch
        ends = windows * a_window
        left = minutes * 60 - (time.perf_counter() - STARTED) - ends - 5
        settings.steps = max(1, int(0.97 * left / seconds))
        print(f"{1e3 * seconds:.0f} ms a step: {settings.steps:,} steps, about "
              f"{readable(settings.steps * seconds)}, and {readable(ends)} for held-out text")
    settings.last_look = settings.last_look or ENOUGH
    tenth = max(1, settings.steps // 10)
    settings.evaluate_every = settings.evaluate_every or tenth
    settings.save_every = settings.save_every or tenth


def tokens_to_look_at(run, windows):
    """How much held-out text the last look may read: that of so many windows, and not too much."""
    share = windows / run.windows.last_look(len(run.text.held_out))
    return max(1, min(ENOUGH, int(share * len(run.text.held_out))))


def time_window(run, model):
    """Seconds that a window of held-out text takes; the first batch, which compiles, left out."""
    batch = run.settings.batch
    evaluate(model, run.windows.of_held_out(batch))
    began = time.perf_counter()
    evaluate(model, run.windows.of_held_out(4 * batch))
    return (time.perf_counter() - began) / (4 * batch)


def fit(run, metrics, samples):
    """Train, look, sample and save. An interrupted run is saved, and says how to go on."""
    settings, model, begun = run.settings, run.model, run.done
    batches = run.windows.of_step
    usual = layer_sizes(model, batches(begun), settings.seed, begun)

    def save(step):
        chosen = to_dict(settings) | {"resume": False, "overwrite": False}
        save_run(settings.out, model, run.optimizer, chosen, step, run.text.checksum,
                 threads.count())

    if begun == 0:
        save(0)  # before samples: what is left of a run without a checkpoint cannot go on
    with tqdm(total=settings.steps, initial=begun, desc="training", unit="step") as bar:
        actions = looks(run, metrics, samples, bar)
        try:
            run.done = train(model, run.optimizer, batches, settings, metrics, begun,
                             actions, bar, (settings.save_every, save),
                             math.log(model.config.vocabulary))
        except Diverged as error:
            bar.close()
            why, details = explain(error, model, batches(error.step), settings.seed, usual)
            print(*details, sep="\n")
            complain(f"{why}; the checkpoint before it is kept, a smaller --lr may help")
        save(run.done)
    if run.done < settings.steps:
        print(f"interrupted after {run.done:,} of {settings.steps:,} steps; nothing is lost, go on "
              f"with\n    python scripts/train_gpt.py --out {settings.out} --resume")
        raise SystemExit(130)


def looks(run, metrics, samples, bar):
    """What is done every so many steps, beside training: (interval, action) pairs."""
    settings, begun = run.settings, run.done
    when = sample_steps(settings)

    def look(step, row):
        row["val_loss"] = evaluate(run.model, run.windows.of_held_out(QUICK * settings.batch))[0]
        bar.write(f"step {step:,}: loss {row['loss']:.3f}, held out {row['val_loss']:.3f}")

    def forecast(step, row):
        # Once, from steps of this process: the first ones also compile.
        if FORECAST // 2 <= step - begun < FORECAST // 2 + FORECAST:
            early = metrics.rows[1 - FORECAST // 2]
            a_step = (row["seconds"] - early["seconds"]) / (row["step"] - early["step"])
            left = readable((settings.steps - step) * a_step)
            bar.write(f"{1e3 * a_step:.0f} ms a step: about {left} to go, looks and samples aside")

    def sample(step, row=None):
        if step in when:
            samples.add(step, continuation(run))
            bar.write(f"----- sample at step {step:,} -----\n{samples.texts[-1][1]}\n-----")

    if begun == 0:
        sample(0)
    return (FORECAST, forecast), (settings.evaluate_every, look), (1, sample)


def sample_steps(settings):
    """After which steps the model writes a sample: evenly, for stories at equal ratios."""
    if settings.of_stories and settings.sample_every is None:
        return snapshot_steps(settings.steps)
    every = settings.sample_every or max(1, settings.steps // 4)
    return range(every, settings.steps + 1, every)


def continuation(run):
    """--sample and 120 tokens that the model writes after it; of a story, all to its end."""
    settings, tokenizer = run.settings, run.text.tokenizer
    run.model.eval()
    prompt = [tokenizer.special[END_OF_TEXT], *tokenizer.encode(settings.sample)]
    random = np.random.default_rng(settings.seed)
    count, stop = (200, prompt[:1]) if settings.of_stories else (120, ())
    tokens = generate(run.model, prompt, count, random, stop=stop, temperature=0.8)
    text = tokenizer.decode(list(tokens))
    run.model.train()
    return (settings.sample + text).strip("\n")


# ---- the end ------------------------------------------------------------------------------------


def finish(run, metrics, samples):
    """The loss on held-out text, the files for others, and the line that sums the run up."""
    settings, model, text = run.settings, run.model, run.text
    count = model.config.parameter_count()
    loss, bits = held_out_loss(run)
    weights = {name: on_host(array) for name, array in model.state().items()}
    save_safetensors(settings.out / "model.safetensors", weights, {"format": "pt"})
    picture = settings.out / "loss.png"
    try:
        draw_losses(metrics.rows, picture, f"{text.name}, {count:,} parameters")
        print(f"the losses as a picture: {picture}")
    except ImportError as error:
        print(error)
    if settings.of_stories:
        score_stories(run, metrics, samples)
    peak = peak_resident_bytes()
    if peak:
        print(f"memory at its peak: {peak / 1e6:,.0f} MB")
    on_gpu = peak_bytes(settings.device)
    if on_gpu:
        print(f"memory of the GPU: {on_gpu / 1e6:,.0f} MB")
    prompt = ' --prompt "def "' if settings.data == "pystdlib" else ""
    print(f"more text: python scripts/generate.py {settings.out}{prompt}")
    speed = (metrics.last("tokens") or 0) / (metrics.last("seconds") or math.inf)
    print(f"val_loss={loss:.4f} bits_per_byte={bits:.4f} tokens_per_s={speed:.0f} params={count} "
          f"steps={settings.steps} out={settings.out}")


def score_stories(run, metrics, samples):
    """Who has the thing now? The scoreboard, and how one story grew out of noise."""
    settings, tokenizer = run.settings, run.text.tokenizer
    bar = partial(tqdm, desc="telling stories", unit="step", leave=False)
    end = tokenizer.special[END_OF_TEXT]
    rows = scoreboard(run.model.eval(), tokenizer, read_stories(settings.data), end, progress=bar)
    print(table(rows))
    picture = settings.out / "story.png"
    losses = [(row["step"] + 1, row["loss"]) for row in metrics.rows if row["loss"] is not None]
    try:
        draw_growth(samples.texts, losses, rows, picture)
        print(f"from noise to story: {picture}")
    except ImportError:
        pass  # draw_losses has said what is missing
    except ValueError as error:
        print(error)


def held_out_loss(run):
    """Nats a token and bits a byte, on all held-out text or on windows from all over it."""
    settings, text = run.settings, run.text
    windows = run.windows.last_look(settings.last_look)
    bar = tqdm(run.windows.of_held_out(windows), desc="held-out text",
               leave=False, unit="batch", total=-(-windows // settings.batch))
    loss, targets = evaluate(run.model, bar)
    if targets < len(text.held_out) - 1:
        print(f"the loss is that of {targets:,} of {len(text.held_out):,} held-out tokens")
    # A target stands for as many bytes as one does on average, whether all are counted or some.
    return loss, bits_per_byte(loss, len(text.held_out) - 1, text.held_out_bytes)


if __name__ == "__main__":
    with program():
        main()
