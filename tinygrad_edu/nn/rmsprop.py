"""Lesson 3.5 · RMSprop: the size that gradients have lately

Needs kernel, launch, optim, pointwise. Used by optimizers.

Idea      AdaGrad never forgets: a few large gradients at the start slow a parameter down for ever.
          RMSprop replaces the sum of squares by a running average. Each gradient is divided by the
          root of the mean square of the recent ones, so a step is about as long as the learning
          rate says, today as at the beginning.
Math      s ← β·s + (1 − β)·(c·g)²      w ← w − η·λ·w − η·c·g/(√s + ε)                           (1)
          the mean of 1/(1 − β) gradients or so: β = 0.95 remembers about twenty steps
Shapes    w, g, s (n,), flat groups as in lesson optim; c scales the gradient (clipping)
Pitfalls  s starts at 0 and is too small at first: the very first step has length η/√(1 − β), more
          than four times η for β = 0.95. A warm-up hides it; Adam corrects it.
          The steps do not shrink near a minimum, where gradients are small and s is small too: the
          learning rate has to fall by itself (lesson schedule).
          The decay shrinks w by itself; added to g it would be divided by √s as well.
Cost      Reads w, g, s and writes w, s once: 20 bytes a float32 parameter, bandwidth-bound.
Try       build it    momentum: an average of c·g/(√s + ε), and a step along that.
          break it    use s before it is updated. What does the first step do?
          measure it  python scripts/draw_optimizers.py: where does it go to and fro, and why?
See       Tieleman, Hinton 2012, lecture 6e (its mean square has β = 0.9) · Graves 2013, eq. 38-45
          (with momentum)
"""

import numpy as np

from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel
from ..ops.pointwise import OF_A_BLOCK, THREADS
from .optim import Optimizer


@Kernel(inout=("w", "s"))
def rmsprop_update(w, s, g, lr, beta, eps, decay, scale):
    d = scale * g
    s[...] = beta * s + (1 - beta) * d * d                                                     # (1)
    w -= lr * decay * w + lr * d / (np.sqrt(s) + eps)


@rmsprop_update.body("numba", rows="w s g")
def rmsprop_update_numba(w, s, g, lr, beta, eps, decay, scale):
    real = w.dtype.type
    rate, shrink = real(lr), real(lr * decay)
    old, new = real(beta), real(1 - beta)
    eps, scale = real(eps), real(scale)
    for i in range(w.size):
        d = scale * g[i]
        s[i] = old * s[i] + new * d * d                                                        # (1)
        w[i] -= shrink * w[i] + rate * d / (np.sqrt(s[i]) + eps)


@rmsprop_update.body("cuda", when=serves)
def rmsprop_update_cuda(w, s, g, lr, beta, eps, decay, scale):
    arguments = w, s, g, *map(np.float64, (lr, beta, eps, decay, scale)), w.size
    G(w).rmsprop_update(blocks(w.size, OF_A_BLOCK), THREADS, arguments)


class RMSprop(Optimizer):
    """(1). Tieleman, Hinton 2012, with decay times the learning rate.

    beta2 is β of (1), the same average of squares as in Adam, and has its name.
    """

    slots = ("s",)

    def __init__(self, named, beta2=0.95, eps=1e-8, decay=0.0):
        self.beta2, self.eps = beta2, eps
        super().__init__(named, decay)

    def update(self, w, g, group, lr, scale):
        """One step of (1)."""
        rmsprop_update(w, group.state["s"], g, lr, self.beta2, self.eps, group.decay, scale)
