"""Train a GPT, from text to a model that writes more of it.

    python scripts/train_gpt.py                               Python's standard library, 4.5 minutes
    python scripts/train_gpt.py --data notes/ --minutes 20    a folder of your own
    python scripts/train_gpt.py --out runs/pystdlib --resume  go on where a run stopped

It reads the text, trains a tokenizer, trains the model, and leaves a run folder with both, the
metrics and a picture of the losses. Every flag: --help.
"""

import shutil
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from tinygrad_edu.models.gpt import GPT, SIZES, GPTConfig
from tinygrad_edu.models.run import load_model, part, read_run, save_run
from tqdm import tqdm

from tinygrad_edu import threads
from tinygrad_edu.data.corpus import read_corpus
from tinygrad_edu.data.loader import bits_per_byte, draw_batch, evaluation_batches, token_stream
from tinygrad_edu.files.checkpoint import checkpoint_path
from tinygrad_edu.files.safetensors import save as save_safetensors
from tinygrad_edu.inference.sampling import generate
from tinygrad_edu.memory import peak_resident_bytes
from tinygrad_edu.nn.config import (
    differences,
    errors_in_one_sentence,
    from_dict,
    option,
    parse,
    to_dict,
)
from tinygrad_edu.nn.optim import AdamW
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, train_characters
from tinygrad_edu.tokenizers.tokenizer_file import load_tokenizer, save_tokenizer
from tinygrad_edu.train.estimate import estimate_peak, readable
from tinygrad_edu.train.loop import evaluate, time_steps, train
from tinygrad_edu.train.metrics import Metrics, draw_losses

STARTED = time.perf_counter()


@dataclass
class Settings:
    """The settings of a run."""

    data: str = option("pystdlib", "text: pystdlib (Python's standard library), a file, or a folder")
    out: Path | None = option(None, "run folder; by default runs/ and the name of the data")
    resume: bool = option(False, "go on with the run in --out, with its settings")
    overwrite: bool = option(False, "replace the run that is in --out")
    tokenizer: Literal["bpe", "char"] = option("bpe", "byte-level BPE, trained on the text, or single characters")
    vocab: int = option(2048, "size of the BPE vocabulary: bytes, merges and special tokens", low=257)
    size: Literal["tiny", "small", "medium", "gpt2"] = option("tiny", "sets layers, heads, width and context")
    layers: int = option(0, "blocks", low=1)
    heads: int = option(0, "attention heads", low=1)
    width: int = option(0, "size of the residual stream, a multiple of the heads", low=1)
    context: int = option(0, "tokens the model looks back", low=1)
    dropout: float = option(0.0, "share of numbers dropped during training", low=0.0, high=0.9)
    steps: int | None = option(None, "optimizer steps; instead of --minutes", low=1)
    minutes: float | None = option(None, "time for everything; fixes the steps after timing 20 (default: 4.5)", low=0.05)
    batch: int = option(16, "sequences in a pass", low=1)
    accumulate: int = option(1, "passes whose gradients make one step", low=1)
    lr: float = option(3e-3, "largest learning rate", low=0.0)
    min_lr: float = option(3e-4, "learning rate at the end of the cosine", low=0.0)
    warmup: int = option(100, "steps over which the learning rate grows", low=0)
    beta1: float = option(0.9, "AdamW's average of gradients", low=0.0, high=0.9999)
    beta2: float = option(0.95, "AdamW's average of squared gradients", low=0.0, high=0.99999)
    decay: float = option(0.1, "weight decay of the matrices", low=0.0)
    clip: float = option(1.0, "largest norm of the gradient", low=0.0)
    evaluate_every: int | None = option(None, "steps between looks at held-out text (default: a tenth of the run)", low=1)
    sample_every: int | None = option(None, "steps between printed samples (default: a quarter of the run)", low=1)
    save_every: int | None = option(None, "steps between checkpoints (default: a tenth of the run)", low=1)
    sample: str = option("\n", "the text that printed samples continue")
    seed: int = option(1, "of the first weights, the batches and dropout", low=0)
    device: Literal["cpu", "cuda"] = option("cpu", "where to compute")


def main():
    """Read the flags and run; mistakes end with one sentence."""
    settings, given = parse(Settings, presets={"size": SIZES}, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        refuse_missing_device(settings.device)
        settings.out = settings.out or Path("runs") / (Path(settings.data).stem or "text")
        if settings.resume:
            arrays, state = read_run(settings.out)
            settings = resumed_settings(settings, given, state)
        else:
            arrays, state = None, None
            prepare_folder(settings)
        run(settings, arrays, state)


def refuse_missing_device(device):
    """The GPU bodies are a later part of the project; say what is missing instead of pretending."""
    if device == "cuda":
        raise ValueError("--device cuda is not to be had here: this version trains on the CPU; leave the flag away")


def resumed_settings(settings, given, state):
    """The settings of the run that is to go on; flags that contradict it are refused."""
    old = from_dict(Settings, state["settings"])
    old.out, old.resume = settings.out, True
    for flag, was, now in differences(old, settings, given - {"out", "resume", "minutes"}):
        raise ValueError(f"--resume goes on with {flag} {was}, not {now}: leave {flag} away, or start another run")
    return old


def prepare_folder(settings):
    """Make the run folder; never write into one that holds a run unless asked to."""
    out = settings.out
    if checkpoint_path(out).exists() or (out / "metrics.csv").exists():
        if not settings.overwrite:
            raise FileExistsError(f"{out} holds a run already: go on with it (--resume), replace it (--overwrite), "
                                  "or choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)


def run(settings, arrays, state):
    """The whole story of a run."""
    corpus = read_corpus(settings.data)
    print(corpus.statistics())
    tokenizer = the_tokenizer(settings, corpus)
    streams = read_streams(corpus, tokenizer, settings.context)
    if state:
        model = load_model(arrays, state).train()
    else:
        model = new_model(settings, tokenizer)
    announce(model.config, settings)
    batch = partial(batches_of_step, streams[0], settings)
    fix_steps(settings, tokenizer, streams, batch)
    optimizer = new_optimizer(model, settings)
    done = 0
    if state:
        optimizer.load_state(part(arrays, "optimizer"))
        done = state["done"]
        del arrays
    metrics = Metrics(settings.out / "metrics.csv", done)
    done = fit(settings, model, optimizer, tokenizer, streams[1], batch, metrics, done)
    finish(settings, corpus, model, streams[1], metrics, done)


def the_tokenizer(settings, corpus):
    """The run's tokenizer: read on --resume, else trained on the training text and saved."""
    path = settings.out / "tokenizer.json"
    if settings.resume:
        return load_tokenizer(path)
    texts = [text for _, text in corpus.train]
    if settings.tokenizer == "char":
        tokenizer = train_characters(texts + [text for _, text in corpus.held_out])
    else:
        bar = partial(tqdm, desc="tokenizer", unit="merge", leave=False)
        tokenizer = train_bpe(texts, settings.vocab, progress=bar)
    save_tokenizer(tokenizer, path)
    return tokenizer


def read_streams(corpus, tokenizer, context):
    """Training and held-out text as token ids; refuses a text shorter than a context."""
    streams = []
    for name, documents in (("training", corpus.train), ("held-out", corpus.held_out)):
        bar = tqdm(documents, desc=f"encoding {name} text", unit="file", leave=False)
        streams.append(token_stream(bar, tokenizer.encode, tokenizer.special[END_OF_TEXT]))
    draw_batch(streams[0], 1, context, 0, 0)       # says what is wrong with a text that is too short
    print(f"{tokenizer.vocab_size:,} tokens in the vocabulary, {len(streams[0]):,} of text to train on, "
          f"{len(streams[1]):,} held out")
    return streams


def new_model(settings, tokenizer):
    """A model with fresh weights, the same ones for the same seed."""
    config = GPTConfig(tokenizer.vocab_size, settings.context, settings.layers, settings.heads, settings.width,
                       settings.dropout)
    return GPT(config, np.random.default_rng(settings.seed))


def new_optimizer(model, settings):
    """AdamW with the run's settings."""
    return AdamW(model.named_parameters(), settings.beta1, settings.beta2, decay=settings.decay)


def announce(config, settings):
    """Say what the run will take, before it takes it."""
    peak = estimate_peak(config, settings.batch * settings.context)
    memory = f"{peak / 1e6:,.0f} MB of memory at its peak" if peak else "memory unknown on this system"
    print(f"{config.parameter_count():,} parameters; estimated {memory}; {threads.count()} threads")


def batches_of_step(stream, settings, step):
    """The (x, y) pairs of a step: one large batch, cut into `accumulate` parts."""
    x, y = draw_batch(stream, settings.batch * settings.accumulate, settings.context, settings.seed, step)
    return list(zip(np.split(x, settings.accumulate), np.split(y, settings.accumulate), strict=True))


def fix_steps(settings, tokenizer, streams, batch):
    """Turn --minutes into a number of steps, by timing 20 steps of a throw-away model."""
    if settings.steps is None:
        settings.minutes = settings.minutes or 4.5
        settings.steps = 1000                      # for the learning rate while timing
        model = new_model(settings, tokenizer)
        seconds = time_steps(model, new_optimizer(model, settings), batch, settings)
        model.eval()
        began = time.perf_counter()
        evaluate(model, evaluation_batches(streams[1], settings.batch, settings.context, windows=settings.batch))
        look = (time.perf_counter() - began) * len(streams[1]) / (settings.batch * settings.context)
        left = settings.minutes * 60 - (time.perf_counter() - STARTED) - 1.1 * look - 8
        settings.steps = max(1, int(left / (1.06 * seconds)))
        print(f"{seconds * 1e3:.0f} ms a step: {settings.steps:,} steps in {readable(left)}, "
              f"then {readable(look)} for the held-out text")
    settings.evaluate_every = settings.evaluate_every or max(1, settings.steps // 10)
    settings.sample_every = settings.sample_every or max(1, settings.steps // 4)
    settings.save_every = settings.save_every or max(1, settings.steps // 10)


def fit(settings, model, optimizer, tokenizer, held_out, batch, metrics, done):
    """Train, look, sample and save; returns the number of steps done."""
    def look(step, row):
        windows = evaluation_batches(held_out, settings.batch, settings.context, windows=8 * settings.batch)
        row["val_loss"] = evaluate(model, windows)[0]
        bar.write(f"step {step:,}: loss {row['loss']:.3f}, held out {row['val_loss']:.3f}")

    def sample(step, row):
        bar.write(f"--- sample at step {step:,}\n{continuation(model, tokenizer, settings, 100)}\n---")

    def save(step, row=None):
        save_run(settings.out, model, optimizer, to_dict(settings) | {"resume": False, "overwrite": False}, step)

    every = ((settings.evaluate_every, look), (settings.sample_every, sample), (settings.save_every, save))
    with tqdm(total=settings.steps, initial=done, desc="training", unit="step") as bar:
        if done == 0:
            save(0)
        done = train(model, optimizer, batch, settings, metrics, done, every, bar)
        save(done)
    if done < settings.steps:
        print(f"interrupted after {done:,} of {settings.steps:,} steps, nothing is lost; go on with:\n"
              f"    python scripts/train_gpt.py --out {settings.out} --resume")
        raise SystemExit(130)
    return done


def continuation(model, tokenizer, settings, count):
    """Text that the model writes after --sample."""
    model.eval()
    prompt = [tokenizer.special[END_OF_TEXT], *tokenizer.encode(settings.sample)]
    ids = list(generate(model, prompt, count, np.random.default_rng(settings.seed), temperature=0.8, top_k=50))
    model.train()
    return tokenizer.decode(ids)


def finish(settings, corpus, model, held_out, metrics, done):
    """The held-out loss on all held-out text, the files for others, and the line that sums it up."""
    bar = tqdm(evaluation_batches(held_out, settings.batch, settings.context), desc="held-out text", leave=False,
               total=-(-len(held_out) // (settings.batch * settings.context)), unit="batch")
    loss, count = evaluate(model, bar)
    bits = bits_per_byte(loss, count, corpus.held_out_bytes)
    save_safetensors(settings.out / "model.safetensors", model.state(), {"format": "pt"})
    try:
        draw_losses(metrics.rows, settings.out / "loss.png", f"{corpus.name}, {model.config.parameter_count():,} parameters")
        print(f"the losses as a picture: {settings.out / 'loss.png'}")
    except ImportError as error:
        print(error)
    peak = peak_resident_bytes()
    if peak:
        print(f"memory at its peak: {peak / 1e6:,.0f} MB")
    print(f"more text: python scripts/generate.py {settings.out} --prompt \"def \"")
    speed = metrics.last("tokens") / metrics.last("seconds")
    print(f"val_loss={loss:.4f} bits_per_byte={bits:.4f} tokens_per_s={speed:.0f} "
          f"params={model.config.parameter_count()} steps={done} out={settings.out}")


if __name__ == "__main__":
    sys.exit(main())
