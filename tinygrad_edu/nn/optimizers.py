"""Lesson 3.9 · Optimizers: all of them by name

Needs adagrad, adam, lion, muon, optim, rmsprop. Used by scripts/compare_optimizers.py,
scripts/draw_optimizers.py.

Idea      A program that offers a choice of optimizers needs more than their names. The same
          learning rate is not the same for all: a step of Lion is longer than one of AdamW, one of
          SGD without any division by the size of gradients far shorter. So that a user can change
          the name and nothing else, each entry of the table says which multiple of AdamW's rate and
          of AdamW's decay to start from.
Math      η = r·η_AdamW      λ = q·λ_AdamW      r·q = 1 keeps η·λ, by which the weights shrink   (1)
Shapes    OPTIMIZERS: name → Choice(make, rate, decay), the numbers being r and q
Pitfalls  A multiple is where a search begins, not where it ends: it is a power of ten or a third,
          and depends on the model, the batch and the length of the run.
          Adam's decay is an L2 penalty, and 0 here: one as large as AdamW's would outweigh the
          gradient of many parameters.
          Muon's step is scaled to be as long as AdamW's, and its paper keeps AdamW's rate for large
          models; the small ones here learn fastest at four times that and more.
          With momentum μ the decay of SGD acts 1/(1 − μ) times: hence its q.
Cost      Nothing.
Try       build it    add an optimizer of your own to the table. Which test asks for its update?
          break it    give Lion AdamW's rate. What does its loss do in the first hundred steps?
          measure it  python scripts/compare_optimizers.py: how far from r is the best rate?
See       Chen et al. 2023, section 5 (Lion's multiples) · Liu et al. 2025, section 2.2 (Muon's) ·
          Schmidt, Schneider, Hennig 2021 (how much tuning decides)
"""

import inspect
from typing import NamedTuple

from .adagrad import AdaGrad
from .adam import Adam, AdamW
from .lion import Lion
from .muon import Muon
from .optim import SGD
from .rmsprop import RMSprop


class Choice(NamedTuple):
    """An optimizer, and the multiples of AdamW's learning rate and decay that suit it: (1)."""

    make: type
    rate: float
    decay: float
    options: dict = {}  # of its constructor; only read


OPTIMIZERS = {
    "sgd": Choice(SGD, 30.0, 1 / 300, {"momentum": 0.9}),
    "adagrad": Choice(AdaGrad, 3.0, 1 / 3),
    "rmsprop": Choice(RMSprop, 1.0, 1.0),
    "adam": Choice(Adam, 1.0, 0.0),
    "adamw": Choice(AdamW, 1.0, 1.0),
    "lion": Choice(Lion, 1 / 3, 3.0),
    "muon": Choice(Muon, 4.0, 1.0),
}


def make_optimizer(name, named, decay=0.1, **options):
    """The optimizer called `name` over (name, tensor) pairs, its decay a multiple of AdamW's (1).

    The learning rate belongs to each step: pass OPTIMIZERS[name].rate times AdamW's there.
    options: beta1, beta2, momentum …, as the optimizer takes them. Raises ValueError for a name
    that is not in the table and for an option that the optimizer does not have.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"there is no optimizer {name!r}; there is {', '.join(OPTIMIZERS)}")
    choice = OPTIMIZERS[name]
    known = list(inspect.signature(choice.make).parameters)[1:]
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no {option}; it has {', '.join(known)}")
    return choice.make(named, **{**choice.options, "decay": choice.decay * decay, **options})
