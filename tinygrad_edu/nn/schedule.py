"""Lesson 3.4 · Schedule: the learning rate over a run

Needs nothing. Used by loop.

Idea      The first steps go by gradients of random weights and by averages over one or two batches,
          so they are kept small and grow (warm-up). At the end the noise of small batches keeps the
          weights jumping around a minimum, so the steps shrink again, along a half wave of the
          cosine.
Math      t < W:   η(t) = η_max·(t + 1)/W                                                        (1)
          else:    η(t) = η_min + ½·(η_max − η_min)·(1 + cos π·p)      p = (t − W)/(T − W)       (2)
Shapes    t, the step from 0, W warm-up steps, T all steps: integers. η: a float.
          In the code η_max is `lr`, η_min `min_lr`, W `warmup` and T `steps`.
Pitfalls  η(0) must not be 0: the first step would do nothing and AdamW's averages would still move.
          A run that is to be resumed must know T from the start: (2) has T in it.
Cost      Nothing.
Try       build it    warm-up, constant, then a straight line to zero in the last fifth. Which end
                      loss is lower?
          break it    python scripts/train_gpt.py --warmup 0 --steps 100 --out runs/cold. In which
                      rows does its metrics.csv differ from that of --warmup 20 --out runs/warm?
          measure it  the best of three values of η_max on tiny runs of the same length.
See       Loshchilov, Hutter 2017, eq. 5 · Vaswani et al. 2017, section 5.3 (warm-up)
"""

import math


def warmup_cosine(step, steps, lr, min_lr=0.0, warmup=0):
    """The learning rate of step `step` (from 0) of `steps`: (1) during warm-up, then (2)."""
    if step < warmup:
        return lr * (step + 1) / warmup                                                        # (1)
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2                     # (2)
