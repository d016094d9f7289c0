"""Lesson 5.2 · Loop: training, one step after the other

Needs layers, schedule, tensor. Used by growth, hunt, overfit, scripts/train_gpt.py.

Idea      Look at a batch, ask the model how wrong it is, push every parameter a little the way that
          makes it less wrong; a few thousand times. Around that stand the habits that make a run
          trustworthy: every random draw is a function of (seed, step), so that step 700 is the same
          whether or not the run stopped at 600; the loss on text never trained on is looked at now
          and then; nothing is lost when the run is interrupted; and a step that would ruin the
          weights is not taken.
Math      θ ← step(θ, clip(∇ mean over micro-batches of ℓ(θ; x, y)))                             (1)
          before anything is learned, every one of V tokens is as likely:  ℓ₀ ≈ ln V           (2)
          no step if ℓ or ‖∇ℓ‖ is not finite, or ℓ > 3·max(ln V, the first loss)               (3)
Shapes    x, y (B, T) integers; y is x one token later. Loss: nats per token.
Pitfalls  A batch in several parts is the mean over all its targets, and not the mean of the parts'
          means where one part has more targets than another: each counts by how many it has.
          Evaluation runs without tape and without dropout, and the mode must be switched
          back. Ctrl-C in the middle of a step leaves a step half taken: the interrupt is noted and
          obeyed after the step.
          Clipping does not help against NaN: NaN·c is NaN, and after the step every weight is. And
          a loss that explodes may stay finite for ever: (3) also looks at its size. To guess evenly
          costs ln V; a model that is three times as wrong on a whole batch is no longer learning.
          The step that ruins the weights looks fine itself, the next one shows it: a checkpoint
          written between the two would replace the last good one. So a loss is asked for first.
Cost      Nothing beside the model's.
Try       build it    an average of the weights over the last tenth of the steps. Is its held-out
                      loss lower?
          break it    draw the batches from one generator in a row, then interrupt and resume. What
                      differs?
          measure it  python scripts/trace_step.py: which share of a step is matrix products?
See       Robbins, Monro 1951 (why it works) · Bottou, Curtis, Nocedal 2018 (when)
"""

import contextlib
import signal
import threading
import time

import numpy as np

from ..nn.layers import set_dropout_key
from ..nn.schedule import SCHEDULES
from ..tensor import no_grad

FAR = 0.15  # share of ln V by which a first loss may miss it
EXPLODED = 3  # times what is normal at the start: (3)


class Diverged(FloatingPointError):
    """A step that is not taken, since its loss or its gradient is beyond use: (3)."""

    def __init__(self, reason, step):
        super().__init__(f"step {step} is not taken, no parameter has changed: {reason}")
        self.step = step


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is looked for, and told once
def forward_and_backward(model, batches, seed, step, factor=1.0):
    """Add the gradients of a step's micro-batches to the parameters; returns their mean loss.

    factor: what the gradients are multiplied by from the loss on (lesson loss_scale).

    batches: (x, y) pairs, one per micro-batch, or (x, y, segments) as lesson packing makes them.
    The same arguments give the same draws of dropout.
    """
    total = 0.0
    for part, (batch, share) in enumerate(zip(batches, shares_of(batches), strict=True)):
        set_dropout_key(model, seed, step * len(batches) + part)
        loss, weight = loss_of(model, batch), factor * share
        loss.backward(None if weight == 1 else np.full((), weight, loss.dtype))
        total += share * loss.item()
    return total / len(batches)


def shares_of(batches):
    """What the mean of each micro-batch counts for: 1 where all have the same number of targets."""
    if len(batches) == 1:
        return [1.0]
    targets = [np.asarray(y) for _, y, *_ in batches]
    counts = np.array([(y >= 0).sum() if y.dtype.kind == "i" else y.size for y in targets])
    return (counts / max(1.0, counts.mean())).tolist()


def loss_of(model, batch, **options):
    """The loss of a model on (x, y), or on rows that hold several documents: (x, y, segments)."""
    x, y, *packed = batch
    if packed:
        options["segments"] = packed[0]
    return model.loss(x, y, **options)


def train_step(model, optimizer, batches, config, step, limit=np.inf):
    """One step of (1) as config says: see `take_step`.

    config: schedule (a name), lr, min_lr, warmup, steps, clip, seed.
    """
    rate = learning_rate(config, step)
    return take_step(model, optimizer, batches, step, rate, config.clip, config.seed, limit)


def take_step(model, optimizer, batches, step, rate, clip, seed, limit=np.inf):
    """One step of (1) at a learning rate; returns (loss, gradient norm).

    batches: (x, y) pairs of the step, one per micro-batch. Raises Diverged if the loss or the norm
    is not finite, or the loss is above `limit`; no parameter and no state of the optimizer has
    changed then, and the gradients are forgotten. With a loss scale a norm that is not finite only
    costs the step: it is left out, and the scale is halved.
    """
    scaling = optimizer.loss_scale
    factor = scaling.factor if scaling else 1.0
    loss = forward_and_backward(model, batches, seed, step, factor)
    try:
        refuse(loss, limit)
        norm = optimizer.step(rate, clip, 1 / (factor * len(batches)))
        if scaling:
            scaling.grow()
    except FloatingPointError as error:
        if scaling and np.isfinite(loss) and loss <= limit and scaling.shrink():
            model.zero_grad()
            return loss, np.inf
        model.zero_grad()
        raise Diverged(error, step) from None
    return loss, norm


def refuse(loss, limit):
    """Raise FloatingPointError for a loss that no step should follow: (3)."""
    if not np.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    if loss > limit:
        raise FloatingPointError(f"the loss is {loss:.4g}, above {limit:.4g}: it explodes")


def refuse_to_save(model, batches, step, limit):
    """Raise Diverged if the weights are spoiled already: the last step went through, and ruined it.

    batches: those of the next step. Looked at without dropout and without tape.
    """
    try:
        refuse(evaluate(model, batches)[0], limit)
    except FloatingPointError as error:
        raise Diverged(error, step) from None


def expected_first_loss(loss, uniform):
    """A sentence of what may be wrong where a fresh model's loss is far from (2), else None.

    uniform: the loss of guessing evenly, ln V. Far is more than 15 % of it.
    """
    if abs(loss - uniform) <= FAR * uniform:
        return None
    seen = f"the first loss is {loss:.3g}; an untrained model should be near ln V = {uniform:.3g}"
    if loss > uniform:
        return (f"note: {seen}. It is sure of what it cannot know: first weights that are too "
                "large, or a loss that is a sum and not a mean?")
    return (f"note: {seen}. It knows what it cannot know: targets that are not shifted by one, a "
            "mask that shows them, a vocabulary other than the tokenizer's, or trained weights?")


def learning_rate(config, step):
    """The learning rate of this step of the run that config describes."""
    schedule = SCHEDULES[config.schedule]
    return schedule(step, config.steps, config.lr, config.min_lr, config.warmup)


def evaluate(model, batches):
    """Mean loss in nats per counted target over batches, and how many targets there were.

    batches: (x, y) or (x, y, segments). Targets of −1 are not counted.
    """
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    try:
        with no_grad():
            for batch in batches:
                total += loss_of(model, batch, reduction="sum").item()
                count += int((np.asarray(batch[1]) >= 0).sum())
    finally:
        model.train(was_training)
    return total / count, count


class Interrupt:
    """Notes Ctrl-C (and SIGTERM) inside a `with` block; a second one is obeyed at once."""

    def __init__(self):
        self.seen = False

    def __enter__(self):
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number, frame):
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)


def train(model, optimizer, batch, config, metrics, start=0, every=(), bar=None,
          save=None, uniform=None):
    """Steps start … config.steps − 1. Returns how many steps the run has now.

    batch(step): the (x, y) pairs of a step. metrics.add(**row) takes each step's record. every:
    pairs (interval, action); action(done, row) is called after every interval-th step and may add
    to the row. bar: a progress bar (tqdm) to move. save: a pair (interval, action), action(done)
    comes when the row is written: a process killed between the two leaves a row too many, which a
    resumed run drops, never one too few. Weights that are spoiled are not saved. Ctrl-C ends the
    run after the step in progress; the caller saves. uniform: the loss of guessing evenly, ln V;
    with it a first loss far from that is said aloud through the bar, and a loss that explodes is
    noticed: (3). Raises Diverged.
    """
    seconds, limit = metrics.last("seconds") or 0.0, np.inf
    with Interrupt() as interrupt:
        for step in range(start, config.steps):
            began = time.perf_counter()
            batches = batch(step)
            loss, norm = train_step(model, optimizer, batches, config, step, limit)
            seconds += time.perf_counter() - began
            tokens = sum(x.size for x, *_ in batches)
            row = {"step": step, "tokens": (step + 1) * tokens, "seconds": seconds, "loss": loss,
                   "learning_rate": learning_rate(config, step), "gradient_norm": norm}
            if bar is not None:
                speed = row["tokens"] / seconds
                bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s", refresh=False)
                bar.update()
            if uniform and step == start:
                limit = EXPLODED * max(uniform, loss)                                          # (3)
                doubt = expected_first_loss(loss, uniform) if step == 0 else None              # (2)
                if doubt and bar is not None:
                    bar.write(doubt)
            for interval, action in every:
                if interval and (step + 1) % interval == 0:
                    action(step + 1, row)
            metrics.add(**row)
            ends = interrupt.seen or step + 1 == config.steps
            if save and (ends or (step + 1) % save[0] == 0):
                refuse_to_save(model, batch(step + 1), step + 1, limit)
            if save and (step + 1) % save[0] == 0:
                save[1](step + 1)
            if ends:
                return step + 1
    return start


def time_steps(model, optimizer, batch, config, steps=20):
    """Seconds a step takes: the median, without the first three. Changes the model."""
    times = []
    for step in range(steps):
        began = time.perf_counter()
        with contextlib.suppress(Diverged):
            train_step(model, optimizer, batch(step), config, step)
        times.append(time.perf_counter() - began)
    return sorted(times[3:])[len(times[3:]) // 2]
