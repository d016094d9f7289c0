"""How fast an adapter is trained here, and beside transformers with peft, turn by turn.

    python scripts/bench_lora.py                                    the shape of SmolLM2-135M
    python scripts/bench_lora.py MODEL --vs peft --torch-python ../torch/bin/python

The other side is a process of its own (tests/cross/lora_in_peft.py) with the same weights, the same
adapter, the same batches and the same steps of AdamW. They take turns of two steps; the medians
of the timed ones are compared. MODEL is a folder of safetensors or a .gguf file.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from tqdm import tqdm

from tinygrad_edu import threads
from tinygrad_edu.eval.peer import Peer, Trainer, take_turns
from tinygrad_edu.models.export import save_published
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.opened import open_model
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.rlhf.adapter import save_adapter
from tinygrad_edu.rlhf.lora import add_lora
from tinygrad_edu.train.program import program

PEER = Path(__file__).resolve().parent.parent / "tests" / "cross" / "lora_in_peft.py"
SMOLLM2 = LlamaConfig(vocabulary=49152, context=8192, layers=30, heads=9, groups=3, width=576,
                      hidden=1536, base=100000.0)
NUMBERS = {"lr": 5e-4, "betas": (0.9, 0.95)}
BATCHES, TURN, FIRST, APART = 4, 2, 3, 1e-3


@dataclass
class Settings:
    """What is trained, how long, and beside whom."""

    model: Path | None = option(None, "a model; none: random weights of the shape of SmolLM2-135M",
                                positional=True)
    rank: int = option(8, "rank of the adapter", low=1)
    batch: int = option(2, "rows of a step", low=1)
    context: int = option(256, "tokens of a row", low=2)
    steps: int = option(6, "timed steps of each side", low=1)
    warmup: int = option(1, "steps before, not timed", low=1)
    threads: int = option(threads.count(), "threads of each side", low=1, high=1024)
    vs: Literal["none", "peft"] = option("none", "transformers and peft beside it")
    torch_python: Path = option(Path(sys.executable), "the Python that has them")
    seed: int = option(1, "of weights, adapter and batches", low=0, high=2**32 - 1)


def main():
    """Make both sides, let them take turns, compare."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if settings.model is None:
            model = Llama(SMOLLM2, np.random.default_rng(settings.seed))
        else:
            model = open_model(settings.model, widen=True).model
    random = np.random.default_rng(settings.seed)
    shape = BATCHES, settings.batch, settings.context + 1
    batches = random.integers(0, model.config.vocabulary, shape)
    with threads.limit(settings.threads), tempfile.TemporaryDirectory() as folder:
        if settings.vs == "peft":
            save_published(Path(folder, "base"), model)
        with errors_in_one_sentence():
            add_lora(model, settings.rank, 2.0 * settings.rank, seed=settings.seed)
        optimizer = AdamW(model.train().named_parameters(), *NUMBERS["betas"], decay=0.0)
        ours = Trainer(model, optimizer, batches, NUMBERS["lr"], settings.seed)
        sides = [ours]
        try:
            if settings.vs == "peft":
                save_adapter(Path(folder, "adapter"), model)
                np.save(Path(folder, "batches.npy"), batches)
                Path(folder, "numbers.json").write_text(json.dumps(NUMBERS))
                with errors_in_one_sentence():
                    sides.append(Peer(settings.torch_python, PEER, folder, settings.threads))
            total = len(sides) * (settings.warmup + settings.steps)
            with tqdm(total=total, unit="step", leave=False) as bar:
                times = take_turns(sides, settings.warmup, settings.steps, TURN, bar.update)
        finally:
            for side in sides[1:]:
                side.end()
    report(sides, times, settings.batch * settings.context)


def report(sides, times, tokens):
    """A table, then one line for programs. Says so where the losses are not the same."""
    medians = [median(seconds) for seconds in times]
    for side, seconds in zip(sides, medians, strict=True):
        memory = f"{side.peak / 1e6:,.0f} MB" if side.peak else "memory unknown"
        print(f"{side.name:24} {1e3 * seconds:8.0f} ms a step {tokens / seconds:8,.0f} tokens/s, "
              f"{memory}")
    words = {"tokens_per_s": f"{tokens / medians[0]:.0f}",
             "memory_mb": f"{(sides[0].peak or 0) / 1e6:.0f}"}
    if sides[1:]:
        apart = np.abs(np.subtract(sides[1].losses[:FIRST], sides[0].losses[:FIRST])).max()
        with errors_in_one_sentence():
            if not apart <= APART:
                raise ValueError(f"the losses of the first steps are {apart:.1e} apart: the sides "
                                 "do not train the same model, and their times mean nothing")
        words |= {"peft_tokens_per_s": f"{tokens / medians[1]:.0f}",
                  "peft_memory_mb": f"{(sides[1].peak or 0) / 1e6:.0f}",
                  "ratio": f"{medians[1] / medians[0]:.3f}", "losses_apart": f"{apart:.1e}"}
    print(" ".join(f"{name}={value}" for name, value in words.items()))


if __name__ == "__main__":
    with program():
        main()
