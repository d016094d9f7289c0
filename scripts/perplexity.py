"""How well does a model expect a text?

    python scripts/perplexity.py MODEL --text FILE

MODEL is a run folder, a folder of safetensors or a .gguf file. The text is read in windows of the
model's context, each token expected from those before it in its window. mean_nll is in nats; the
first token of the text is expected only where the model has a mark for the begin of a text.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_edu.models.opened import open_model
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.tensor import no_grad
from tinygrad_edu.train.program import program


@dataclass
class Settings:
    """What is to be expected by whom."""

    model: Path = option(help="run folder, folder of safetensors, .gguf file, or name",
                         positional=True)
    text: Path = option(help="a file of UTF-8 text")
    window: int | None = option(None, "tokens that are read together; the context, at most 1024, "
                                "by default", low=2)
    float32: bool = option(False, "widen the weights of a .gguf file; else x is rounded to 8 bits "
                           "where they are small integers")


def main():
    """Read the text and print the model's surprise."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        opened = open_model(settings.model, settings.float32)
        try:
            text = settings.text.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{settings.text} is not UTF-8 text") from None
        ids = np.array([*opened.begins, *opened.tokenizer.encode(text)])
        if len(ids) < 2:
            raise ValueError(f"{settings.text} has fewer than two tokens: nothing to expect")
        context = opened.model.config.context
        window = settings.window or min(context, 1024)
        if window > context:
            raise ValueError(f"--window {window} is more than this model's context, {context}")
    total = surprise(opened.model, ids, window)
    expected = len(ids) - 1
    mean = total / expected
    bytes_ = len(opened.tokenizer.decode_bytes(ids[1:]))
    print(f"mean_nll={mean:.4f} tokens={len(ids)} ppl={math.exp(min(mean, 700)):.3f} "
          f"bits_per_byte={total / math.log(2) / max(1, bytes_):.4f}")


def surprise(model, ids, window):
    """Σ −ln p over all tokens but the first; each window begins with the last one's last token."""
    total = 0.0
    starts = range(0, len(ids) - 1, window)
    with no_grad():
        for start in tqdm(starts, unit="window", leave=False, disable=len(starts) < 3):
            part = ids[None, start : start + window + 1]
            total += model.loss(part[:, :-1], part[:, 1:], reduction="sum").item()
    return total


if __name__ == "__main__":
    with program():
        main()
