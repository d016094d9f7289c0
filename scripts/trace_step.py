"""Where the time of a training step goes: every kernel call of a few steps, then a table.

    python scripts/trace_step.py                        the calls of three steps, and their shares
    python scripts/trace_step.py --vocab 8192           with another size: what grows with what?
    TG_BACKEND=numpy python scripts/trace_step.py       with the references alone

The model is that of train_gpt.py, the tokens are random: no text is read and nothing is saved, so
the table shows training alone, without tokenizer, samples and held-out text. A kernel that calls
others, as attention does, is counted with them and they by themselves too.
"""

import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import numpy as np

from tinygrad_edu.models.gpt import GPT, SIZES, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.loop import train_step
from tinygrad_edu.train.program import program
from tinygrad_edu.watch import settings as watching

UNTRACED = 2  # steps in which loops are compiled and memory is touched for the first time


@dataclass
class Settings:
    """What is trained, and how long."""

    size: Literal["tiny", "small", "medium", "gpt2"] = option("tiny", "as in train_gpt.py")
    vocab: int = option(2048, "tokens in the vocabulary", low=2)
    batch: int = option(16, "sequences in a pass", low=1)
    steps: int = option(3, "steps that are traced", low=1)


def main():
    """Take the steps, the last ones under trace; the table is printed at the end."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    random = np.random.default_rng(1)
    with errors_in_one_sentence():
        config = GPTConfig(settings.vocab, **SIZES[settings.size])
        model = GPT(config, random)
    optimizer = AdamW(model.named_parameters())
    ids = random.integers(0, settings.vocab, (settings.batch, config.context + 1))
    steps = UNTRACED + settings.steps
    plan = SimpleNamespace(schedule="constant", lr=1e-3, min_lr=1e-3, warmup=0, clip=1.0, seed=1,
                           steps=steps)
    began = 0.0
    for step in range(steps):
        if step == UNTRACED:
            began = time.perf_counter()
        with watching(trace=step >= UNTRACED):
            train_step(model, optimizer, [(ids[:, :-1], ids[:, 1:])], plan, step)
    ms = 1e3 * (time.perf_counter() - began) / settings.steps
    print(f"step_ms={ms:.1f} params={config.parameter_count()} steps={settings.steps}")


if __name__ == "__main__":
    with program():
        main()
