"""Lesson 3.10 · Schedule: the learning rate over a run

Needs nothing. Used by loop, scripts/compare_optimizers.py,
scripts/draw_optimizers.py.

Idea      The first steps go by gradients of random weights and by averages over one or two batches,
          so they are kept small and grow (warm-up). At the end the noise of small batches keeps the
          weights jumping around a minimum, so the steps shrink again. How they get from the one to
          the other is a matter of what is known beforehand. If the length of the run is: along half
          a wave of the cosine. If it may change: at full rate, with a decay in the last fifth,
          which can be started from any checkpoint. If nothing is: as one over the root of the time.
Math      t < W:     η(t) = η_max·(t + 1)/W                                                      (1)
          else, with p = (t − W)/(T − W):
          cosine     η(t) = η_min + ½·(η_max − η_min)·(1 + cos π·p)                              (2)
          wsd        η(t) = η_min + (η_max − η_min)·min(1, (T − t)/D)      D = ⌈(T − W)/5⌉       (3)
          inverse    η(t) = max(η_min, η_max·√(W/(t + 1)))                 W at least 1          (4)
          constant   η(t) = η_max                                                                (5)
Shapes    t, the step from 0, W warm-up steps, T all steps: integers. η: a float.
          In the code η_max is `lr`, η_min `min_lr`, W `warmup` and T `steps`.
Pitfalls  η(0) must not be 0: the first step would do nothing and AdamW's averages would still move.
          A run that is to be resumed must know T from the start where T is in the formula: all of
          (2), the last fifth of (3). (4) and (5) do not end: their last weights are noisy.
          (4) falls fast at first: its η_max lasts for one step, and may be larger than the others'.
Cost      Nothing.
Try       build it    a square root instead of the straight line in (3). Which end loss is lower?
          break it    python scripts/train_gpt.py --warmup 0 --steps 100 --out runs/cold, then the
                      same with --warmup 20 --out runs/warm. What do the gradient norms and losses
                      of the first 20 rows of metrics.csv say, and those of the last 20?
          measure it  python scripts/draw_optimizers.py draws them all, one over another.
See       Loshchilov, Hutter 2017, eq. 5 (cosine) · Hu et al. 2024 "MiniCPM", section 4 (wsd) ·
          Hägele et al. 2024 (how long the decay: a fifth) · Vaswani et al. 2017, eq. 3 (inverse)
"""

import math


def warmup_cosine(step, steps, lr, min_lr=0.0, warmup=0):
    """The learning rate of step `step` (from 0) of `steps`: (1) during warm-up, then (2)."""
    if step < warmup:
        return lr * (step + 1) / warmup                                                        # (1)
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2                     # (2)


def warmup_stable_decay(step, steps, lr, min_lr=0.0, warmup=0):
    """(1) during warm-up, then (3): constant, and a straight line down in the last fifth."""
    if step < warmup:
        return lr * (step + 1) / warmup                                                        # (1)
    decay = max(1, math.ceil((steps - warmup) / 5))
    left = max(0.0, min(1.0, (steps - step) / decay))
    return min_lr + (lr - min_lr) * left                                                       # (3)


def inverse_square_root(step, steps, lr, min_lr=0.0, warmup=0):
    """(1) during warm-up, then (4), which does not depend on `steps`."""
    if step < warmup:
        return lr * (step + 1) / warmup                                                        # (1)
    return max(min_lr, lr * math.sqrt(max(1, warmup) / (step + 1)))                            # (4)


def warmup_constant(step, steps, lr, min_lr=0.0, warmup=0):
    """(1) during warm-up, then (5), which depends neither on `steps` nor on `min_lr`."""
    return lr * (step + 1) / warmup if step < warmup else lr                              # (1), (5)


SCHEDULES = {
    "cosine": warmup_cosine,
    "wsd": warmup_stable_decay,
    "inverse": inverse_square_root,
    "constant": warmup_constant,
}
