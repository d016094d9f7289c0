"""Lesson 5.5 · Overfit: can it learn one batch by heart?

Needs layers, loop, tensor. Used by scripts/train_gpt.py.

Idea      A model that has a thousand times more parameters than a batch has targets can learn the
          batch by heart. So it should: if the loss on one batch, shown again and again, does not go
          to zero, something is broken, and no larger run will mend it. This takes a minute and
          finds most mistakes of a new model: a parameter without gradient, targets in the wrong
          place, dropout left on. Where it fails, the usual suspects are not only listed but looked
          at.
Math      Rows that begin with the same tokens cannot be told apart before they differ. Let n(p, t)
          count how often target t follows the beginning p, n(p) = Σₜ n(p, t), K = Σₚ n(p):
          lowest mean loss = 1/K · Σₚ Σₜ n(p, t)·ln(n(p)/n(p, t))                              (1)
          by guessing shares: p(t | p) = n(p, t)/n(p), as in lesson bigram
Shapes    x, y (B, T) integers, y is x one token later, −1 where no target counts
Pitfalls  A low loss proves less than a high one: a mask that shows the targets reaches 0 faster
          than an honest one. `checklist` looks at that too, so ask it also after a success.
          A schedule that ends at 0 stops learning before the loss does: here the rate is constant,
          after WARMUP steps of growth (AdamW's averages are young, and without them a large rate
          takes longer).
          No model gets below (1). It is 0 if no two rows begin alike; with single characters as
          tokens several do, and it may be above GOAL: then `overfit` refuses the batch.
Cost      A few dozen steps of training.
Try       build it    the same for a model with labels instead of sequences. What becomes of (1)?
          break it    train on y = x. How fast is 0 reached, and which line of the checklist says
                      so?
          measure it  the number of steps at half and at twice the learning rate.
See       Karpathy 2019, A Recipe for Training Neural Networks (overfit one batch) · Zhang et al.
          2017 (networks learn even random labels by heart)
"""

import collections
import math
from typing import NamedTuple

import numpy as np

from ..nn.layers import Dropout
from ..tensor import no_grad
from .loop import forward_and_backward, take_step

GOAL = 0.01  # nats per token: the right token gets 99 %
WARMUP = 20  # steps over which the rate grows


def overfit(model, optimizer, batch, lr, steps=200, seed=0, clip=1.0, bar=None):
    """Train on one batch (x, y) until its loss is below GOAL; returns the losses, one a step.

    The last one says whether it worked; `checklist` says why not. bar: a progress bar to move.
    Raises ValueError where no model can reach GOAL, (1), and Diverged as every training does.
    """
    lowest = lowest_loss(*batch)
    if lowest >= GOAL:
        raise ValueError(f"no model gets below {lowest:.4f} on this batch, because rows that begin "
                         f"alike go on differently, and {GOAL} is asked for: take fewer rows, "
                         "longer ones, or another seed")
    losses = []
    while len(losses) < steps and (not losses or losses[-1] >= GOAL):
        step = len(losses)
        rate = lr * min(1, (step + 1) / WARMUP)
        losses.append(take_step(model, optimizer, [batch], step, rate, clip, seed)[0])
        if bar is not None:
            bar.set_postfix_str(f"loss {losses[-1]:.4f}", refresh=False)
            bar.update()
    return losses


def lowest_loss(x, y):
    """The mean loss, in nats, that a model which sees only what came before can reach: (1)."""
    beginnings = {}  # (number of a beginning, next token) -> number of the longer beginning
    followers = collections.defaultdict(collections.Counter)
    for row, targets in zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True):
        beginning = 0
        for token, target in zip(row, targets, strict=True):
            beginning = beginnings.setdefault((beginning, token), len(beginnings) + 1)
            if target >= 0:
                followers[beginning][target] += 1
    total, count = 0.0, 0
    for counts in followers.values():
        n = counts.total()
        count += n
        total += sum(k * math.log(n / k) for k in counts.values())                             # (1)
    return total / max(count, 1)


# ---- the checklist ------------------------------------------------------------------------------


class Check(NamedTuple):
    """One thing that was looked at; as text, a line of the list."""

    fine: bool
    text: str

    def __str__(self):
        return f"{'ok  ' if self.fine else 'LOOK'}  {self.text}"


def checklist(model, batch, losses, seed=0):
    """What `overfit` depends on, each point looked at on this model and batch: a list of Checks.

    model: as overfit left it; model(x) must give the logits (B, T, V). losses: what it returned.
    """
    x, y = (np.asarray(part) for part in batch)
    return [_progress(losses), *_parameters(model, (x, y), seed), _dropout(model), _targets(x, y),
            *_sight(model, x)]


def _progress(losses):
    last = losses[-1]
    if last < GOAL:
        return Check(True, f"the loss is {last:.4f} after {len(losses)} steps")
    course = f"the loss went from {losses[0]:.4g} to {last:.4g} in {len(losses)} steps"
    if last >= losses[0]:
        return Check(False, f"{course}: a learning rate that is too large?")
    if last < 0.9 * losses[len(losses) // 2]:
        return Check(False, f"{course} and still falls: give it more steps")
    return Check(False, f"{course} and is stuck there: try another learning rate after the rest "
                        "of this list")


def _parameters(model, batch, seed):
    """Parameters that nothing trains: frozen, without optimizer, without gradient."""
    named = list(model.named_parameters())
    frozen = [name for name, tensor in named if not tensor.requires_grad]
    # An optimizer forgets the gradients of what it has stepped. These it does not know:
    alone = [name for name, tensor in named if tensor.grad is not None]
    model.zero_grad()
    forward_and_backward(model, [batch], seed, 0)
    without = [name for name, tensor in named
               if tensor.requires_grad and (tensor.grad is None or not tensor.grad.any())]
    model.zero_grad()
    yield _names(frozen, "every parameter wants a gradient", "frozen, without requires_grad")
    yield _names(alone, "the optimizer steps every parameter", "not stepped by this optimizer")
    yield _names(without, "a gradient reaches every parameter", "reached by no gradient")


def _names(names, good, bad):
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return Check(not names, f"{bad}: {', '.join(names[:3])}{more}" if names else good)


def _dropout(model):
    active = [(name, module.p) for name, module in model.walk()
              if isinstance(module, Dropout) and module.training and module.p > 0]
    if not active:
        return Check(True, "no dropout")
    name, p = max(active, key=lambda pair: pair[1])
    return Check(False, f"dropout is on ({name or 'the model'} drops {p:.0%}): what is dropped at "
                        "random cannot be learned by heart, train with --dropout 0")


def _targets(x, y):
    counted = y[:, :-1] >= 0
    shifted = (y[:, :-1] == x[:, 1:])[counted]
    if not (y >= 0).any():
        return Check(False, "no target counts: all are -1")
    if np.array_equal(x, y) and not shifted.all():
        return Check(False, "the targets are the inputs: shift them by one, or nothing is learned "
                            "but to copy")
    if not shifted.all():
        return Check(False, f"only {shifted.mean():.0%} of the targets are the input one place "
                            "later")
    return Check(True, "every target is the input one place later")


def _sight(model, x):
    """Does a position see those before it, and none after it? Tried by changing one token."""
    was_training = model.training
    model.eval()
    with no_grad():
        row, first, last = (x[:1].copy() for _ in range(3))
        other = x[x != row[0, 0]]
        first[0, 0] = other[0] if other.size else (row[0, 0] == 0)
        last[0, -1] = 0 if row[0, -1] else 1
        seen, with_first, with_last = (model(ids).numpy()[0] for ids in (row, first, last))
    model.train(was_training)
    leaks = not np.allclose(seen[:-1], with_last[:-1], rtol=1e-4, atol=1e-5)
    blind = np.array_equal(seen[-1], with_first[-1])
    yield Check(not leaks, "a position sees the token after it: the mask is missing or wrong"
                if leaks else "no position sees a later one")
    yield Check(not blind, "the last position does not see the first: the context is not used"
                if blind else "the last position sees the first")
