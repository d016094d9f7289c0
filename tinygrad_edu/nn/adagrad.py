"""Lesson 3.4 · AdaGrad: rare features take large steps

Needs kernel, launch, optim, pointwise. Used by optimizers.

Idea      One learning rate for all parameters is too large for some and too small for others. The
          embedding of a rare token gets a gradient once in a thousand steps and should use it
          well; that of a comma gets one at every step. AdaGrad adds up the squares of all gradients
          that a parameter has had, and divides its step by the root of that sum: who has moved much
          moves carefully, who has hardly moved goes far.
Math      s ← s + (c·g)²      w ← w − η·λ·w − η·c·g/(√s + ε)                                     (1)
Shapes    w, g, s (n,), flat groups as in lesson optim; c scales the gradient (clipping)
Pitfalls  s only grows: where gradients keep their size it is t times their square after t steps,
          and the steps shrink as 1/√t. They never recover: on a loss whose landscape changes, as
          that of a network does, AdaGrad comes to rest too early.
          The first step divides g by its own size: every parameter moves by η, whatever the
          gradient. The decay shrinks w by itself; added to g it would be divided by √s as well.
          Its learning rate is not that of the others: c·g/√s is about 1/√t, not about 1.
Cost      Reads w, g, s and writes w, s once: 20 bytes a float32 parameter, bandwidth-bound.
Try       build it    start s at 0.1 instead of 0, as some libraries do. What do the first ten steps
                      look like?
          break it    leave out the root. Which test notices, and what becomes of the step size?
          measure it  python scripts/draw_optimizers.py: how far does AdaGrad get on the valley?
See       Duchi, Hazan, Singer 2011, fig. 1 (diagonal matrices)
"""

import numpy as np

from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel
from ..ops.pointwise import OF_A_BLOCK, THREADS
from .optim import Optimizer


@Kernel(inout=("w", "s"))
def adagrad_update(w, s, g, lr, eps, decay, scale):
    d = scale * g
    s += d * d                                                                                 # (1)
    w -= lr * decay * w + lr * d / (np.sqrt(s) + eps)


@adagrad_update.body("numba", rows="w s g")
def adagrad_update_numba(w, s, g, lr, eps, decay, scale):
    real = w.dtype.type
    rate, shrink = real(lr), real(lr * decay)
    eps, scale = real(eps), real(scale)
    for i in range(w.size):
        d = scale * g[i]
        s[i] += d * d                                                                          # (1)
        w[i] -= shrink * w[i] + rate * d / (np.sqrt(s[i]) + eps)


@adagrad_update.body("cuda", when=serves)
def adagrad_update_cuda(w, s, g, lr, eps, decay, scale):
    arguments = w, s, g, *map(np.float64, (lr, eps, decay, scale)), w.size
    G(w).adagrad_update(blocks(w.size, OF_A_BLOCK), THREADS, arguments)


class AdaGrad(Optimizer):
    """(1). Duchi, Hazan, Singer 2011, with decay times the learning rate."""

    slots = ("s",)

    def __init__(self, named, eps=1e-10, decay=0.0):
        self.eps = eps
        super().__init__(named, decay)

    def update(self, w, g, group, lr, scale):
        """One step of (1)."""
        adagrad_update(w, group.state["s"], g, lr, self.eps, group.decay, scale)
