"""Let a model write.

    python scripts/generate.py runs/pystdlib --prompt "def " --max-new 300

MODEL is the folder that train_gpt.py left, a published folder with config.json and safetensors, or
a .gguf file. The text appears as it is generated.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.gpu.device import DEVICES, move, ready
from tinygrad_edu.inference.cache import CACHES
from tinygrad_edu.inference.decoding import beam_search, generate, text_of
from tinygrad_edu.models.opened import open_model
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program


@dataclass
class Settings:
    """What to write, and how."""

    model: Path = option(help="run folder, folder of safetensors, .gguf file, or name",
                         positional=True)
    prompt: str = option("", "text to continue; empty: the beginning of a document")
    max_new: int = option(200, "tokens to generate at most", low=1)
    temperature: float = option(0.8, "below 1 safer, above 1 wilder", low=0.01)
    top_k: int | None = option(None, "draw from the k likeliest tokens only", low=1)
    top_p: float | None = option(None, "draw from the likeliest tokens that together reach p",
                                 low=0.0, high=1.0)
    min_p: float | None = option(None, "draw from tokens at least p times as likely as the "
                                 "likeliest", low=0.0, high=1.0)
    penalty: float = option(1.0, "above 1: what was there is less likely", low=1.0)
    greedy: bool = option(False, "always take the likeliest token")
    beams: int = option(1, "above 1: search for a likely text with so many beginnings", low=1)
    stop: str | None = option(None, "end before this string")
    no_cache: bool = option(False, "read the whole text again for every token")
    float32: bool = option(False, "widen the weights of a .gguf file; else x is rounded to 8 bits "
                           "where they are small integers")
    cache: str = option("float", "what keys and values are kept as", choices=tuple(CACHES))
    seed: int = option(1, "of the draws", low=0)
    device: str = option("cpu", "where the model computes", choices=DEVICES)


CHOICE = "greedy", "temperature", "top_k", "top_p", "min_p", "penalty"


def main():
    """Load the model and stream its text."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        ready(settings.device)
        opened = open_model(settings.model, settings.float32 or settings.device != "cpu")
        move(opened.model, settings.device)
        prompt = opened.ids(settings.prompt)
    print(settings.prompt, end="", flush=True)
    count, began = 0, time.perf_counter()

    def counted():
        nonlocal count
        for token in tokens(settings, opened, prompt):
            count += 1
            yield token

    try:
        stops = [settings.stop] if settings.stop else []
        with errors_in_one_sentence():             # the cache may be larger than the memory
            for piece in text_of(opened.tokenizer, counted(), stops):
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pass                                       # what has been written so far is the result
    print()
    seconds = time.perf_counter() - began
    print(f"tokens={count} tokens_per_s={count / seconds:.1f} seed={settings.seed}")


def tokens(settings, opened, prompt):
    """The tokens that continue the prompt, one after the other; of beam search all at its end."""
    cached = False if settings.no_cache else settings.cache
    if settings.beams > 1:
        found = beam_search(opened.model, prompt, settings.max_new, settings.beams, opened.ends,
                            cached=cached)
        return iter(found[0][0])
    random = np.random.default_rng(settings.seed)
    choice = {name: getattr(settings, name) for name in CHOICE}
    return generate(opened.model, prompt, settings.max_new, random, opened.ends, cached, **choice)


if __name__ == "__main__":
    with program():
        main()
