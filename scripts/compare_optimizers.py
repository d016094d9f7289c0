"""All optimizers on the same small GPT: which one gets furthest in the same number of steps?

    python scripts/compare_optimizers.py                     three seeds, bytes of the library
    python scripts/compare_optimizers.py --data plays.txt --steps 1000 --out runs/plays.png

Each optimizer's learning rate is found first, with a seed of its own: from the multiple of --lr
that the table of lesson optimizers names, it is halved or doubled as long as that helps. Then the
runs that count: other seeds, the same batches for all. Warm-up over a tenth of the steps, cosine.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_edu.data.loader import draw_batch, evaluation_batches, token_stream
from tinygrad_edu.data.sources import read_corpus
from tinygrad_edu.files.plots import plots
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.optimizers import OPTIMIZERS, make_optimizer
from tinygrad_edu.nn.schedule import warmup_cosine
from tinygrad_edu.train.loop import Diverged, evaluate, take_step
from tinygrad_edu.train.metrics import smoothed
from tinygrad_edu.train.program import program

SEARCH_SEED = 0  # not among the seeds that count
FARTHEST = 6  # halvings or doublings at most
WINDOWS = 128  # of held-out text in the loss that counts


@dataclass
class Settings:
    """What is compared, and on what."""

    data: str = option("pystdlib", "text: pystdlib (Python's standard library), a file, a folder")
    steps: int = option(100, "steps of each run", low=2)
    seeds: int = option(3, "runs that count, for each optimizer", low=1)
    layers: int = option(2, "blocks", low=1)
    width: int = option(64, "size of the residual stream, a multiple of 4", low=4)
    context: int = option(64, "bytes the model looks back", low=1)
    batch: int = option(8, "sequences in a step", low=1)
    lr: float = option(4e-3, "AdamW's learning rate in the search's middle", low=1e-9)
    decay: float = option(0.1, "AdamW's weight decay", low=0.0)
    clip: float = option(1.0, "largest norm of the gradient", low=1e-9)
    out: Path = option(Path("runs/optimizers.png"), "the picture")


@dataclass
class Run:
    """One training: the loss of every step, that on held-out text, the time of a step."""

    losses: list
    held_out: float
    seconds: float


def main():
    """Search, train, print the table, draw."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        pyplot = plots_into(settings.out)
        corpus = read_corpus(settings.data)
        streams = [token_stream(part, lambda text: np.frombuffer(text, np.uint8))
                   for part in (corpus.train, corpus.held_out)]
        config = GPTConfig(256, settings.context, settings.layers, 4, settings.width)
        draw_batch(streams[0], 1, settings.context, 0, 0)  # says so where the text is too short
        settings.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"{config.parameter_count():,} parameters, {settings.steps} steps of {settings.batch} "
          f"times {settings.context} bytes; held-out loss in nats a byte")
    runs = {}
    with tqdm(desc="training", unit="step") as bar:
        for name in OPTIMIZERS:
            bar.set_description(name)
            tried = search(name, config, settings, streams, bar)
            best = min(tried, key=lambda rate: tried[rate].held_out)
            rates = ", ".join(f"{rate:.3g}: {run.held_out:.3f}"
                              for rate, run in sorted(tried.items()))
            bar.write(f"{name}: rates tried {rates}")
            runs[name] = best, tried, [
                train_once(name, best, seed, config, settings, streams, bar)
                for seed in range(1, settings.seeds + 1)]
    print_table(runs)
    draw(pyplot, runs, settings)
    winner = min(runs, key=lambda name: median_loss(runs[name][2]))
    print(f"best={winner} loss={median_loss(runs[winner][2]):.4f} seeds={settings.seeds} "
          f"steps={settings.steps} params={config.parameter_count()} out={settings.out}")


def search(name, config, settings, streams, bar):
    """Learning rate -> Run: twice and half the first one, and on in the direction that helps."""
    middle = settings.lr * OPTIMIZERS[name].rate
    tried = {}
    for power in (0, 1, -1):
        rate = middle * 2.0**power
        tried[rate] = train_once(name, rate, SEARCH_SEED, config, settings, streams, bar)
    for _ in range(FARTHEST - 1):
        best = min(tried, key=lambda rate: tried[rate].held_out)
        beyond = {max(tried): 2 * best, min(tried): best / 2}.get(best)
        if beyond is None:
            break
        tried[beyond] = train_once(name, beyond, SEARCH_SEED, config, settings, streams, bar)
    return tried


def train_once(name, rate, seed, config, settings, streams, bar):
    """Train a fresh model; its held-out loss is infinite where the run diverged."""
    bar.total = (bar.total or 0) + settings.steps
    model = GPT(config, np.random.default_rng(seed))
    optimizer = make_optimizer(name, model.named_parameters(), settings.decay)
    losses, times, held_out = [], [], float("inf")
    for step in range(settings.steps):
        x, y = draw_batch(streams[0], settings.batch, settings.context, seed, step)
        now = warmup_cosine(step, settings.steps, rate, warmup=settings.steps // 10)
        began = time.perf_counter()
        try:
            loss, _ = take_step(model, optimizer, [(x, y)], step, now, settings.clip, seed)
        except Diverged:
            break
        times.append(time.perf_counter() - began)
        losses.append(loss)
        bar.update()
    else:
        look = evaluation_batches(streams[1], 16, settings.context, windows=WINDOWS)
        held_out = evaluate(model, look)[0]
    return Run(losses, held_out, float(np.median(times)) if times else float("nan"))


def median_loss(runs):
    """The median held-out loss of runs that differ in their seed."""
    return float(np.median([run.held_out for run in runs]))


def print_table(runs):
    """A line an optimizer, best first."""
    print(f"{'optimizer':<10} {'rate':>8} {'median':>7} {'min':>7} {'max':>7} {'ms a step':>10}")
    for name in sorted(runs, key=lambda name: median_loss(runs[name][2])):
        rate, _, counted = runs[name]
        losses = [run.held_out for run in counted]
        ms = 1e3 * np.median([run.seconds for run in counted])
        print(f"{name:<10} {rate:>8.3g} {np.median(losses):>7.3f} {min(losses):>7.3f} "
              f"{max(losses):>7.3f} {ms:>10.1f}")


def plots_into(out):
    """Matplotlib's pyplot, drawing into files, if it can write one of this name."""
    pyplot = plots("no picture of the losses, it needs")
    known = pyplot.gcf().canvas.get_supported_filetypes()
    pyplot.close()
    if out.suffix[1:].lower() not in known:
        raise ValueError(f"--out {out} cannot be a picture: give a name that ends in .png")
    return pyplot


def draw(pyplot, runs, settings):
    """Write a PNG: the losses over the steps, and the held-out loss over the rates tried."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    ends = []
    for name in sorted(runs, key=lambda name: median_loss(runs[name][2])):
        _, tried, counted = runs[name]
        whole = [run.losses for run in counted if len(run.losses) == settings.steps]
        if whole:
            curve = smoothed(list(np.median(whole, axis=0)), alpha=0.9)
            left.plot(curve, label=f"{name} {median_loss(counted):.2f}")
            ends += [curve[-1], curve[settings.steps // 4]]
        points = sorted((rate / settings.lr, run.held_out) for rate, run in tried.items())
        right.plot(*zip(*points, strict=True), "o-", ms=4, label=name)
    left.set(xlabel="step", ylabel="training loss, nats per byte",
             title="median of the seeds, smoothed")
    if ends:  # not all runs have diverged
        left.set_ylim(min(ends) - 0.1, max(ends) + 0.3)
        left.legend(title="held-out loss")
    right.set(xscale="log", xlabel="learning rate, in multiples of --lr",
              ylabel="held-out loss, nats per byte", title="the search for the learning rate")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(settings.out, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    with program():
        main()
