"""Train a GPT, from text to a model that writes more of it.

    python scripts/train_gpt.py                               Python's standard library, 4.5 minutes
    python scripts/train_gpt.py --data notes/ --minutes 20    a folder of your own
    python scripts/train_gpt.py --out runs/pystdlib --resume  go on where a run stopped

It reads the text, trains a tokenizer, trains the model, and leaves a run folder with both, the
metrics and a picture of the losses. Every flag: --help.
"""

import os
import time
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from tinygrad_edu import threads
from tinygrad_edu.data.loader import bits_per_byte, draw_batch, evaluation_batches, token_stream
from tinygrad_edu.data.sources import read_corpus
from tinygrad_edu.eval.python_blocks import PROMPT
from tinygrad_edu.files.checkpoint import checkpoint_path
from tinygrad_edu.files.safetensors import save as save_safetensors
from tinygrad_edu.inference.sampling import generate
from tinygrad_edu.memory import peak_resident_bytes
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
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, train_characters
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.estimate import estimate_peak, readable
from tinygrad_edu.train.loop import evaluate, time_steps, train
from tinygrad_edu.train.metrics import Metrics, draw_losses
from tinygrad_edu.train.program import program

STARTED = time.perf_counter()
RATES = {"tiny": 4e-3, "small": 2e-3, "medium": 1e-3, "gpt2": 6e-4}  # larger models want smaller
FORECAST = 20  # steps after which the time of the rest is known
QUICK = 8  # batches of held-out text in a look during training
RUN_FILES = ("checkpoint.safetensors", "metrics.csv", "model.safetensors", "loss.png",
             "tokenizer.json")


@dataclass
class Settings:
    """The settings of a run."""

    data: str = option("pystdlib", "text: pystdlib (Python's standard library), a file, a folder")
    out: Path | None = option(None, "run folder; by default runs/ and the name of the data")
    resume: bool = option(False, "go on with the run in --out, with its settings")
    overwrite: bool = option(False, "replace the run that is in --out")
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
    dropout: float = option(0.0, "share of numbers dropped in training", low=0.0, high=0.9)
    steps: int | None = option(None, "optimizer steps; instead of --minutes", low=1, high=2**53)
    minutes: float | None = option(
        None, "time for everything (default: 4.5); 20 steps are timed to fix how many", low=0.05,
        high=1e6)
    batch: int = option(16, "sequences in a pass", low=1, high=2**20)
    accumulate: int = option(1, "passes whose gradients make one step", low=1, high=2**20)
    lr: float = option(0.0, "largest learning rate", low=0.0)
    min_lr: float | None = option(
        None, "learning rate at the end of the cosine (default: a tenth of --lr)", low=0.0)
    warmup: int = option(100, "steps over which the learning rate grows", low=0)
    beta1: float = option(0.9, "AdamW's average of gradients", low=0.0, high=0.9999)
    beta2: float = option(0.95, "AdamW's average of squared gradients", low=0.0, high=0.99999)
    decay: float = option(0.1, "weight decay of the matrices", low=0.0)
    clip: float = option(1.0, "largest norm of the gradient", low=1e-9)
    evaluate_every: int | None = option(
        None, "steps between looks at held-out text (default: a tenth of the run)", low=1)
    sample_every: int | None = option(
        None, "steps between printed samples (default: a quarter of the run)", low=1)
    save_every: int | None = option(
        None, "steps between checkpoints (default: a tenth of the run)", low=1)
    sample: str | None = option(
        None, "the text that printed samples continue (default: a new line, of Python a def)")
    seed: int = option(1, "of the first weights, the batches and dropout", low=0, high=2**32 - 1)
    device: Literal["cpu", "cuda"] = option("cpu", "where to compute")


def main():
    """Read the flags and run; what a user can get wrong ends with one sentence."""
    sizes = {name: {**numbers, "lr": RATES[name]} for name, numbers in SIZES.items()}
    settings, given = parse(Settings, presets={"size": sizes}, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        check(settings)
        arrays, state = None, None
        if settings.resume:
            if settings.out.is_dir():
                claim(settings.out)
            arrays, state = read_run(settings.out)
            settings = resumed_settings(settings, given, state)
            threads.use(thread_count(state))
        corpus = read_corpus(settings.data)
        print(corpus.statistics())
        if not settings.resume:
            prepare_folder(settings)
        tokenizer = the_tokenizer(settings, corpus, state)
        check_sample(settings, tokenizer, given)
        streams = read_streams(corpus, tokenizer, settings.context)
        if state and state.get("text") not in (None, "", checksum(streams)):
            print(f"note: {settings.data} has changed since this run began; it goes on with what "
                  "is there now, and its losses are not those of one run")
        config = model_config(settings, tokenizer)
        announce(config, settings)
        model = load_model(arrays, state).train() if state else new_model(config, settings)
        if not settings.resume:
            replace_run(settings.out, tokenizer)
    batch = partial(batches_of_step, streams[0], settings)
    fix_steps(settings, config, streams, batch)
    optimizer = new_optimizer(model, settings)
    done = state["done"] if state else 0
    if state:
        optimizer.load_state(part(arrays, "optimizer"))
        arrays = None  # windows on the checkpoint, which is about to be replaced
    with errors_in_one_sentence():
        metrics = Metrics(settings.out / "metrics.csv", done)
    fit(settings, model, optimizer, tokenizer, streams, batch, metrics, done)
    finish(settings, corpus, model, streams[1], metrics)


def check(settings):
    """Refuse what cannot work before anything is read; choose the folder where none is named."""
    if settings.device == "cuda":
        raise ValueError("--device cuda needs the CUDA kernels, which this version does not have: "
                         "leave the flag away to train on the CPU")
    if settings.steps and settings.minutes:
        raise ValueError("--steps and --minutes exclude each other: give one of them")
    settings.min_lr = settings.lr / 10 if settings.min_lr is None else settings.min_lr
    if settings.sample is None:
        settings.sample = PROMPT if settings.data == "pystdlib" else "\n"
    settings.out = settings.out or Path("runs") / (Path(settings.data).stem or "text")


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


def prepare_folder(settings):
    """Make the run folder; never write into one that holds a run unless asked to."""
    out = settings.out
    there = checkpoint_path(out).exists() or (out / "metrics.csv").exists()
    if there and not settings.overwrite:
        raise FileExistsError(f"{out} holds a run already: go on with it (--resume), "
                              "replace it (--overwrite), or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    claim(out)


def replace_run(out, tokenizer):
    """Begin a run in its folder. What was there goes only now, when the new run is known to fit."""
    for name in RUN_FILES:
        (out / name).unlink(missing_ok=True)
    save_tokenizer(tokenizer, out / "tokenizer.json")


def the_tokenizer(settings, corpus, state):
    """The run's tokenizer: read on --resume, else trained on the training text."""
    if settings.resume:
        return run_tokenizer(settings.out, state)
    texts = [text for _, text in corpus.train]
    if settings.tokenizer == "char":
        # A character that only the held-out text has would have no number: its loss is wanted too.
        tokenizer = train_characters(texts + [text for _, text in corpus.held_out])
    else:
        bar = partial(tqdm, desc="tokenizer", unit="merge", leave=False)
        tokenizer = train_bpe(texts, settings.vocab, progress=bar)
    return tokenizer


def check_sample(settings, tokenizer, given):
    """Refuse a --sample that the tokenizer cannot write; where none was given, do without one."""
    try:
        tokenizer.encode(settings.sample)
    except ValueError as error:
        if "sample" in given:
            raise ValueError(f"--sample: {error}") from None
        settings.sample = ""


def read_streams(corpus, tokenizer, context):
    """Training and held-out text as token ids; refuses a text shorter than a context."""
    streams = []
    for name, documents in (("training", corpus.train), ("held-out", corpus.held_out)):
        bar = tqdm(documents, desc=f"encoding {name} text", unit="file", leave=False)
        end = tokenizer.special[END_OF_TEXT]
        streams.append(token_stream(bar, tokenizer.encode, end))
    draw_batch(streams[0], 1, context, 0, 0)  # says what is wrong with a text that is too short
    print(f"{tokenizer.vocab_size:,} tokens in the vocabulary, {len(streams[0]):,} of text to "
          f"train on, {len(streams[1]):,} held out")
    return streams


def checksum(streams):
    """Eight digits that stand for the text of both streams."""
    code = 0
    for stream in streams:
        code = zlib.crc32(stream, code)
    return f"{code:08x}"


def model_config(settings, tokenizer):
    """What the settings say of the model."""
    return GPTConfig(tokenizer.vocab_size, settings.context, settings.layers, settings.heads,
                     settings.width, settings.dropout)


def new_model(config, settings):
    """A model with fresh weights, the same ones for the same seed."""
    return GPT(config, np.random.default_rng(settings.seed))


def new_optimizer(model, settings):
    """AdamW with the run's settings."""
    named = model.named_parameters()
    return AdamW(named, settings.beta1, settings.beta2, decay=settings.decay)


def announce(config, settings):
    """Say what the run will take, before it takes it."""
    peak = estimate_peak(config, settings.batch * settings.context)
    memory = f"about {peak / 1e6:,.0f} MB of memory" if peak else "memory unknown on this system"
    print(f"{config.parameter_count():,} parameters, {memory}, {threads.count()} threads")


def batches_of_step(stream, settings, step):
    """The (x, y) pairs of a step: one large batch, cut into `accumulate` parts."""
    parts = settings.accumulate
    x, y = draw_batch(stream, settings.batch * parts, settings.context, settings.seed, step)
    return list(zip(np.split(x, parts), np.split(y, parts), strict=True))


def fix_steps(settings, config, streams, batch):
    """Turn --minutes into a number of steps, by timing 20 steps of a model that is thrown away."""
    if settings.steps is None:
        settings.steps = 1000  # of the schedule while timing
        model = new_model(config, settings)
        seconds = time_steps(model, new_optimizer(model, settings), batch, settings)
        look = time_windows(model, settings, streams[1])
        minutes = settings.minutes or 4.5
        ends = look * (len(streams[1]) / settings.context + 10 * QUICK * settings.batch)
        left = minutes * 60 - (time.perf_counter() - STARTED) - ends - 5
        settings.steps = max(1, int(0.97 * left / seconds))
        print(f"{1e3 * seconds:.0f} ms a step: {settings.steps:,} steps, about "
              f"{readable(settings.steps * seconds)}, and {readable(ends)} for held-out text")
    for name, parts in (("evaluate_every", 10), ("sample_every", 4), ("save_every", 10)):
        if getattr(settings, name) is None:
            setattr(settings, name, max(1, settings.steps // parts))


def time_windows(model, settings, stream):
    """Seconds that a window of held-out text takes; the first batch, which compiles, left out."""
    evaluate(model, held_out_batches(settings, stream, windows=settings.batch))
    began = time.perf_counter()
    evaluate(model, held_out_batches(settings, stream, windows=4 * settings.batch))
    return (time.perf_counter() - began) / (4 * settings.batch)


def held_out_batches(settings, stream, windows=None):
    """(x, y) batches over the held-out text, or over `windows` windows of it."""
    return evaluation_batches(stream, settings.batch, settings.context, windows=windows)


def fit(settings, model, optimizer, tokenizer, streams, batch, metrics, done):
    """Train, look, sample and save. An interrupted run is saved, and says how to go on."""
    def look(step, row):
        windows = held_out_batches(settings, streams[1], windows=QUICK * settings.batch)
        row["val_loss"] = evaluate(model, windows)[0]
        bar.write(f"step {step:,}: loss {row['loss']:.3f}, held out {row['val_loss']:.3f}")

    def forecast(step, row):
        if step <= begun + FORECAST:  # once, from the second half: the first steps also compile
            early = metrics.rows[step - FORECAST // 2]
            a_step = (row["seconds"] - early["seconds"]) / (row["step"] - early["step"])
            left = readable((settings.steps - step) * a_step)
            bar.write(f"{1e3 * a_step:.0f} ms a step: about {left} to go, looks and samples aside")

    def sample(step, row):
        text = continuation(model, tokenizer, settings, 120)
        bar.write(f"----- sample at step {step:,} -----\n{text}\n-----")

    def save(step):
        chosen = to_dict(settings) | {"resume": False, "overwrite": False}
        save_run(settings.out, model, optimizer, chosen, step, digits, threads.count())

    digits, begun = checksum(streams), done
    every = ((FORECAST, forecast), (settings.evaluate_every, look), (settings.sample_every, sample))
    with tqdm(total=settings.steps, initial=done, desc="training", unit="step") as bar:
        if done == 0:
            save(0)
        try:
            done = train(model, optimizer, batch, settings, metrics, done, every, bar,
                         (settings.save_every, save))
        except FloatingPointError as error:
            complain(f"{error}: the checkpoint before it is kept; a smaller --lr may help")
        save(done)
    if done < settings.steps:
        print(f"interrupted after {done:,} of {settings.steps:,} steps; nothing is lost, go on with"
              f"\n    python scripts/train_gpt.py --out {settings.out} --resume")
        raise SystemExit(130)


def continuation(model, tokenizer, settings, count):
    """Text that the model writes after --sample."""
    model.eval()
    prompt = [tokenizer.special[END_OF_TEXT], *tokenizer.encode(settings.sample)]
    random = np.random.default_rng(settings.seed)
    text = tokenizer.decode(list(generate(model, prompt, count, random, temperature=0.8)))
    model.train()
    return (settings.sample + text).strip("\n")


def finish(settings, corpus, model, held_out, metrics):
    """The loss on all held-out text, the files for others, and the line that sums the run up."""
    count = model.config.parameter_count()
    bar = tqdm(held_out_batches(settings, held_out), desc="held-out text", leave=False,
               unit="batch", total=-(-len(held_out) // (settings.batch * settings.context)))
    loss, targets = evaluate(model, bar)
    bits = bits_per_byte(loss, targets, corpus.held_out_bytes)
    save_safetensors(settings.out / "model.safetensors", model.state(), {"format": "pt"})
    picture = settings.out / "loss.png"
    try:
        draw_losses(metrics.rows, picture, f"{corpus.name}, {count:,} parameters")
        print(f"the losses as a picture: {picture}")
    except ImportError as error:
        print(error)
    peak = peak_resident_bytes()
    if peak:
        print(f"memory at its peak: {peak / 1e6:,.0f} MB")
    print(f"more text: python scripts/generate.py {settings.out} --prompt \"def \"")
    speed = metrics.last("tokens") / metrics.last("seconds") if metrics.rows else 0
    print(f"val_loss={loss:.4f} bits_per_byte={bits:.4f} tokens_per_s={speed:.0f} params={count} "
          f"steps={settings.steps} out={settings.out}")


if __name__ == "__main__":
    with program():
        main()
