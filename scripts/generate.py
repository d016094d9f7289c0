"""Let a trained model write.

    python scripts/generate.py runs/pystdlib --prompt "def " --max-new 300

RUN is the folder that train_gpt.py left. The text appears as it is generated.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.gpu.device import DEVICES, move, ready
from tinygrad_edu.inference.decoding import generate
from tinygrad_edu.models.run import load_run
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.train.program import program


@dataclass
class Settings:
    """What to write, and how."""

    run: Path = option(help="run folder", positional=True)
    prompt: str = option("", "text to continue; empty: the beginning of a document")
    max_new: int = option(200, "tokens to generate at most", low=1)
    temperature: float = option(0.8, "below 1 safer, above 1 wilder", low=0.01)
    top_k: int | None = option(None, "draw from the k likeliest tokens only", low=1)
    top_p: float | None = option(None, "draw from the likeliest tokens that together reach p",
                                 low=0.0, high=1.0)
    greedy: bool = option(False, "always take the likeliest token")
    seed: int = option(1, "of the draws", low=0)
    device: str = option("cpu", "where the model computes", choices=DEVICES)


def main():
    """Load the run and stream its text."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        ready(settings.device)
        model, tokenizer = load_run(settings.run)
        move(model, settings.device)
        end = tokenizer.special[END_OF_TEXT]
        prompt = [end, *tokenizer.encode(settings.prompt)]
    choice = {name: getattr(settings, name) for name in ("greedy", "temperature", "top_k", "top_p")}
    random = np.random.default_rng(settings.seed)
    stream = tokenizer.stream()
    print(settings.prompt, end="", flush=True)
    count, began = 0, time.perf_counter()
    try:
        for token in generate(model, prompt, settings.max_new, random, stop=(end,), **choice):
            count += 1
            print(stream.push(token), end="", flush=True)
    except KeyboardInterrupt:
        pass                                       # what has been written so far is the result
    print(stream.finish())
    seconds = time.perf_counter() - began
    print(f"tokens={count} tokens_per_s={count / seconds:.1f} seed={settings.seed}")


if __name__ == "__main__":
    with program():
        main()
