"""The first hour: four models, each a step above the one before, invent names.

    python scripts/names.py                        names from Python's standard library
    python scripts/names.py --data FILE            your own, one a line

Bigram, MLP, one block of attention, GPT: all see the same names, and learn by the same loop. Each
prints its loss on names that it has not seen, beside that of the step before, and what it invents.
"""

import platform
import time
from dataclasses import dataclass
from functools import partial
from math import log
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_edu.data.names import (
    draw_rows,
    identifiers,
    name_rows,
    read_names,
    split_names,
    without_padding,
)
from tinygrad_edu.inference.decoding import generate
from tinygrad_edu.models.bigram import Bigram, by_counting, count_pairs
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.mlp import LetterMLP, MLPConfig
from tinygrad_edu.models.one_block import OneBlock, OneBlockConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, train_characters
from tinygrad_edu.train.loop import evaluate, train_step
from tinygrad_edu.train.program import program

ROWS = 256  # names in a batch of the evaluation


@dataclass
class Settings:
    """What to learn from, and for how long."""

    data: Path | None = option(None, "text file with one name a line; none: names of functions, "
                                     "classes and parameters in Python's standard library")
    steps: int = option(1000, "training steps of each model", low=1)
    batch: int = option(64, "names in a step", low=1)
    letters: int = option(3, "letters that the MLP looks at", low=1, high=20)
    invent: int = option(100, "names that each model invents", low=1)
    show: int = option(10, "of them to print", low=0)
    seed: int = option(1, "of the first weights, the batches and the inventions", low=0,
                       high=2**32 - 1)


@dataclass
class Recipe:
    """What the training loop wants to know of a rung."""

    steps: int
    seed: int
    lr: float
    decay: float = 0.1
    clip: float = 1.0
    schedule: str = "cosine"

    @property
    def min_lr(self):
        return self.lr / 10

    @property
    def warmup(self):
        return self.steps // 20


def names_of(settings):
    """(train, held out): lists of names, with a line about what was read."""
    if settings.data is None:
        names, where = identifiers(), f"Python {platform.python_version()}'s standard library"
    else:
        names, empty, copies = read_names(settings.data)
        where = f"{settings.data} ({empty} empty lines and {copies} copies passed over)"
    train, held_out = split_names(names)
    print(f"{len(train):,} names to learn from, {len(held_out):,} held out, of {where}")
    return train, held_out


def batches_of(x, y):
    """(x, y) of all names, in batches."""
    for first in range(0, len(x), ROWS):
        yield without_padding(x[first:first + ROWS], y[first:first + ROWS])


def fit(model, rows, recipe, batch, title):
    """Train a model on rows (x, y) by the recipe; the model."""
    optimizer = AdamW(model.named_parameters(), decay=recipe.decay)
    for step in tqdm(range(recipe.steps), desc=title, unit="step", leave=False):
        drawn = draw_rows(*rows, batch, recipe.seed, step)
        train_step(model, optimizer, [drawn], recipe, step)
    return model


def invent(model, tokenizer, count, seed, longest):
    """Names drawn from a model, each until it ends or has `longest` letters."""
    end = tokenizer.special[END_OF_TEXT]
    random = np.random.default_rng(seed)
    drawn = (generate(model, [end], longest, random, stop=(end,)) for _ in range(count))
    return [tokenizer.decode(list(name)) for name in drawn]


def ladder(settings, rows, V):
    """(title, key, function that trains and returns the model) of the four rungs."""
    T = rows[0].shape[1]
    random = partial(np.random.default_rng, settings.seed)
    train = partial(fit, rows=rows, batch=settings.batch)
    recipe = partial(Recipe, settings.steps, settings.seed)
    gpt = GPTConfig(V, context=T, layers=2, heads=4, width=64)
    return [
        ("bigram: the letter before, counted", "bigram",
         lambda: by_counting(count_pairs(*rows, V))),
        (f"MLP: the last {settings.letters} letters", "mlp",
         lambda: train(LetterMLP(MLPConfig(V, settings.letters), random()), recipe=recipe(5e-3),
                       title="MLP")),
        ("one block: attention to all letters before", "attention",
         lambda: train(OneBlock(OneBlockConfig(V, T), random()), recipe=recipe(5e-3),
                       title="one block")),
        ("GPT: two blocks, wider, with all that a GPT has", "gpt",
         lambda: train(GPT(gpt, random()), recipe=recipe(3e-3), title="GPT")),
    ]


def compare_with_counting(settings, rows, V, counted):
    """Print the loss of the bigram by both ways on the names that both learned from."""
    model = fit(Bigram(V), rows, Recipe(settings.steps, settings.seed, 0.1, decay=0.0),
                settings.batch, "bigram")
    found = [evaluate(each, batches_of(*rows))[0] for each in (counted, model)]
    print("   on the names it learned from: {:.3f} by counting, {:.3f} by gradient descent"
          .format(*found))


def columns(names, width=96):
    """Names as a table, as many a line as there is room for; where they end is always seen."""
    wide = max(map(len, names), default=0) + 2
    across = max(width // wide, 1)
    lines = ["".join(f"{name:<{wide}}" for name in names[first:first + across])
             for first in range(0, len(names), across)]
    return "\n   ".join(line.rstrip() for line in lines)


def main():
    """Climb the ladder."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        train, held_out = names_of(settings)
        tokenizer = train_characters([*train, *held_out])
    V, T = tokenizer.vocab_size, max(map(len, train + held_out)) + 1
    rows, unseen = name_rows(train, tokenizer, T), name_rows(held_out, tokenizer, T)
    print(f"guessing among {V} letters (one of them the end): {log(V):.3f} nats a letter\n")
    losses, known, before = {}, set(train), log(V)
    for title, key, make in ladder(settings, rows, V):
        began = time.perf_counter()
        model = make()
        seconds = time.perf_counter() - began
        loss, _ = evaluate(model, batches_of(*unseen))
        losses[key] = loss
        print(f"{len(losses)}  {title}\n   {model.parameter_count():,} parameters, {seconds:.1f} s")
        print(f"   {loss:.3f} nats a letter on names held out, {loss - before:+.3f}")
        before = loss
        if key == "bigram":
            compare_with_counting(settings, rows, V, model)
        invented = invent(model, tokenizer, settings.invent, settings.seed, T - 1)
        new = [name for name in invented if name and name not in known]
        print(f"   invents, {len(new)} of {len(invented)} not among those it learned from:")
        print(f"   {columns(new[:settings.show])}\n")
    print(" ".join(f"{key}={loss:.4f}" for key, loss in losses.items()),
          f"names={len(train)} held_out={len(held_out)} steps={settings.steps} "
          f"seed={settings.seed} python={platform.python_version()}")


if __name__ == "__main__":
    with program():
        main()
