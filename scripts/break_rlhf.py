"""Ruin a training by rewards in five ways, and see how each looks on the gauges.

    python scripts/break_rlhf.py                     all of them, beside a healthy one
    python scripts/break_rlhf.py --only leash        one of them
    python scripts/break_rlhf.py --out pictures      and draw: a picture of each, one of all
                                                     together, and the reward that was hacked

What the model learns and what the mistakes are: lesson mistakes. Every flag: --help.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_edu.files.plots import plots
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.config import complain, errors_in_one_sentence, option, parse
from tinygrad_edu.rlhf import gauges
from tinygrad_edu.rlhf.mistakes import (
    LONGEST,
    MISTAKES,
    VOCABULARY,
    MistakeSettings,
    beginner,
    ruined,
)
from tinygrad_edu.train.program import program

TOLD = ("reward", "score", "kl", "length", "first_ratio", "gradient_norm")  # what is drawn of all


@dataclass
class Settings(MistakeSettings):
    """The settings of all runs."""

    only: str | None = option(None, "one of the mistakes", choices=(*MISTAKES,))
    out: Path | None = option(None, "folder for the pictures")


def main():
    """Make the model that begins, then ruin it in one way after another."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if settings.out:
            plots("the pictures need")
            settings.out.mkdir(parents=True, exist_ok=True)
    try:
        found = all_ruined(settings)
    except FloatingPointError as error:
        complain(f"{error}; a smaller --lr may help")
    for name, rows in found.items():
        print(f"\n---- {name} ({MISTAKES[name].what}): reward {rows[-1]['reward']:.2f}, "
              f"exact {rows[-1]['score']:.2f}, such as {rows[-1]['sample']}\n{gauges.table(rows)}")
    if settings.out:
        draw(found, settings.out)
        print(f"\nthe pictures: {settings.out}/*.png")
    print(" ".join(f"{name}={','.join(gauges.lit(rows)) or 'none'}"
                   for name, rows in found.items()))


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is looked for, and told once
def all_ruined(settings):
    """The rows of the gauges of every run that was asked for, by its name."""
    start = beginner(model_of(), settings, partial(tqdm, desc="strings at random", leave=False))
    wanted = MISTAKES if settings.only is None else ("healthy", settings.only)
    return {name: ruined(settings, start, name, model_of, partial(tqdm, desc=name, leave=False))
            for name in dict.fromkeys(wanted)}


def model_of(weights=None):
    """A small model, with these weights."""
    model = GPT(GPTConfig(VOCABULARY, LONGEST + 1, 2, 2, 32), np.random.default_rng(0))
    if weights is not None:
        model.load_state(weights)
    return model


# ---- the pictures -------------------------------------------------------------------------------


def draw(found, folder):
    """All gauges of each run, the telling ones of all, and the reward that was hacked."""
    for name, rows in found.items():
        gauges.draw_gauges(rows, folder / f"{name}.png", f"{name}: what the gauges say")
    draw_side_by_side(found, folder / "mistakes.png")
    if "leash" in found:
        titles = {"healthy": "on a leash", "leash": "distance is free: the reward is hacked"}
        gauges.draw_price({title: found[name] for name, title in titles.items()},
                          folder / "hacking.png")


def draw_side_by_side(found, path):
    """Write a PNG: a row for every mistake, a column for every gauge of TOLD, healthy in gray."""
    pyplot = plots()
    broken = [name for name in found if name != "healthy"] or ["healthy"]
    size = (2.1 * len(TOLD), 1.6 * len(broken) + 0.4)
    figure, axes = pyplot.subplots(len(broken), len(TOLD), figsize=size, layout="constrained",
                                   squeeze=False, sharex=True)
    for line, name in zip(axes, broken, strict=True):
        line[0].set_ylabel(name, fontsize=10)
        for place, gauge in zip(line, TOLD, strict=True):
            gauges.draw_one(place, found[name], gauge, beside=found["healthy"])
    figure.suptitle("five mistakes (gray: healthy; green: the band; red: a gauge that is lit)")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


if __name__ == "__main__":
    with program():
        main()
