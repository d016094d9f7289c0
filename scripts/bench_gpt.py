"""How fast a GPT is trained here, and beside PyTorch: the same weights and batches, turn by turn.

    python scripts/bench_gpt.py --config M                          this library alone
    python scripts/bench_gpt.py --config M --vs torch               and PyTorch, eager
    python scripts/bench_gpt.py --config S --vs both                and torch.compile
    python scripts/bench_gpt.py --vs torch --torch-python ../torch/bin/python

PyTorch runs in a process of its own (tests/cross/step_in_torch.py), perhaps with a Python of its
own, so that each side's memory and threads are its own. The sides take turns of a few steps, so
that what else happens on the machine meets all of them; the medians of the timed steps are
compared. Operations are counted as 6·N + 12·L·C·T a token, N the parameters without the position
table. With one thread, times are those of the processor, which other programs disturb less.
"""

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from tqdm import tqdm

from tinygrad_edu import threads
from tinygrad_edu.eval.peer import Peer, Trainer, take_turns
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program

# layers, heads, width, context, batch, vocabulary
CONFIGS = {"S": (4, 4, 128, 128, 16, 256),
           "M": (6, 6, 384, 256, 8, 4096),
           "L": (12, 12, 768, 256, 2, 50304)}
PEERS = {"none": [], "torch": ["eager"], "compile": ["compile"], "both": ["eager", "compile"]}
PEER = Path(__file__).resolve().parent.parent / "tests" / "cross" / "step_in_torch.py"
LR, BETAS, DECAY, CLIP = 3e-4, (0.9, 0.95), 0.1, 1.0
BATCHES = 8  # different ones, met again and again
TURN = 5  # steps that a side takes before it is another's turn
FIRST = 5  # steps over which the losses of two sides have to agree; later, roundings have grown
APART = 1e-4


@dataclass
class Settings:
    """What is trained, how long, and beside whom."""

    config: Literal["S", "M", "L"] = option("S", "a small, a middle and a large GPT-2")
    steps: int = option(10, "timed steps of each side", low=1)
    warmup: int = option(5, "steps before, not timed", low=1)
    threads: int = option(threads.count(), "threads of each side", low=1, high=1024)
    vs: Literal["none", "torch", "compile", "both"] = option(
        "none", "PyTorch beside it: eager, torch.compile, or both")
    torch_python: Path = option(Path(sys.executable), "the Python that has PyTorch")
    seed: int = option(1, "of weights and batches", low=0, high=2**32 - 1)


def main():
    """Warm up, take turns, and compare."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    layers, heads, width, context, size, vocabulary = CONFIGS[settings.config]
    config = GPTConfig(vocabulary, context, layers, heads, width)
    random = np.random.default_rng(settings.seed)
    batches = random.integers(0, vocabulary, (BATCHES, size, context + 1))
    with threads.limit(settings.threads), tempfile.TemporaryDirectory() as folder:
        model = GPT(config, np.random.default_rng(settings.seed)).train()
        optimizer = AdamW(model.named_parameters(), *BETAS, decay=DECAY)
        clock = time.process_time if threads.count() == 1 else time.perf_counter
        ours = Trainer(model, optimizer, batches, LR, settings.seed, CLIP, clock)
        sides = [ours]
        try:
            with errors_in_one_sentence():
                leave_weights(folder, config, ours.model.state(), batches, settings)
                sides += [torch_side(settings, folder, mode) for mode in PEERS[settings.vs]]
            total = len(sides) * (settings.warmup + settings.steps)
            with tqdm(total=total, unit="step", leave=False) as bar:
                times = take_turns(sides, settings.warmup, settings.steps, TURN, bar.update)
        finally:
            for side in sides[1:]:
                side.end()
        gemm = peak_of_products(ours.clock)
        report(config, size * context, sides, times, gemm)


def torch_side(settings, folder, mode):
    """The side of PyTorch; what it has chosen for itself is printed."""
    side = Peer(settings.torch_python, PEER, folder, settings.threads, mode)
    side.name += f" {mode}"
    hello = side.greeting
    print(f"{side.name} has {hello['adamw']} AdamW, the fastest here, and uses {hello['cpu']}")
    return side


def leave_weights(folder, config, weights, batches, settings):
    """Write into the folder what the other side has to have in common with ours."""
    if PEERS[settings.vs]:
        numbers = asdict(config) | {"lr": LR, "betas": BETAS, "decay": DECAY, "clip": CLIP}
        Path(folder, "model.json").write_text(json.dumps(numbers))
        np.savez(Path(folder, "weights.npz"), **weights)
        np.savez(Path(folder, "batches.npz"), ids=batches)


def peak_of_products(clock, size=2048, rounds=10):
    """The best GFLOP/s of np.matmul, float32, on the threads that the model had."""
    a, b, y = np.ones((3, size, size), np.float32)
    best = float("inf")
    for _ in range(rounds):
        start = clock()
        threads.split_product(lambda y, a: np.matmul(a, b, out=y), (y, a), (0, 1))
        best = min(best, clock() - start)
    return 2e-9 * size**3 / best


def report(config, tokens, sides, times, gemm):
    """A table, then one line for programs. Says so where the losses are not the same."""
    counted = config.parameter_count() - config.context * config.width
    operations = 6 * counted + 12 * config.layers * config.width * config.context
    print(f"{counted / 1e6:.1f} M parameters, {tokens} tokens a step, {threads.count()} threads, "
          f"products at their best {gemm:.0f} GFLOP/s")
    medians = [median(seconds) for seconds in times]
    for side, seconds in zip(sides, medians, strict=True):
        gflops = 1e-9 * operations * tokens / seconds
        memory = f"{side.peak / 1e6:,.0f} MB" if side.peak else "memory unknown"
        print(f"{side.name:24} {1e3 * seconds:8.1f} ms a step {tokens / seconds:10,.0f} tokens/s "
              f"{gflops:6.0f} GFLOP/s {gflops / gemm:5.0%} of the best, {memory}")
    mine = medians[0]
    gflops = 1e-9 * operations * tokens / mine
    pairs = {"tokens_per_s": f"{tokens / mine:.0f}", "step_ms": f"{1e3 * mine:.1f}",
             "rss_mb": f"{(sides[0].peak or 0) / 1e6:.0f}", "gflops": f"{gflops:.0f}",
             "share_of_gemm_peak": f"{gflops / gemm:.2f}"}
    apart = 0.0
    for side, seconds in zip(sides[1:], medians[1:], strict=True):
        first = np.subtract(side.losses[:FIRST], sides[0].losses[:FIRST])
        apart = max(apart, np.abs(first).max())
        mode = side.name.rpartition(" ")[2]
        pairs |= {f"{mode}_step_ms": f"{1e3 * seconds:.1f}", f"{mode}_rss_mb":
                  f"{(side.peak or 0) / 1e6:.0f}", f"{mode}_ratio": f"{seconds / mine:.3f}"}
    if sides[1:]:
        pairs["losses_apart"] = f"{apart:.1e}"
    with errors_in_one_sentence():
        if not apart <= APART:
            raise ValueError(f"the losses of the first steps are {apart:.1e} apart: the sides do "
                             "not train the same model, and their times mean nothing")
    print(" ".join(f"{name}={value}" for name, value in pairs.items()))


if __name__ == "__main__":
    with program():
        main()
