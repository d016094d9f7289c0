"""Lesson 3.7 · Lion: only the sign

Needs foreign, kernel, launch, optim, pointwise. Used by optimizers.

Idea      Adam divides an average of gradients by its usual size, which leaves little more than its
          sign. Lion takes the sign and nothing else, so it needs no average of squares: half the
          state of Adam. It was not derived but found, by a search among programs. It has two
          averages in one: the present gradient counts more in the sign than in what is remembered.
Math      u = sign(β₁·m + (1 − β₁)·c·g)                                                          (1)
          w ← w − η·λ·w − η·u                                                                    (2)
          m ← β₂·m + (1 − β₂)·c·g      after the step, with another β                            (3)
Shapes    w, g, m (n,), flat groups as in lesson optim; c scales the gradient (clipping)
Pitfalls  Every parameter moves by exactly η at every step, while Adam's moves by less wherever its
          gradients disagree: Lion wants a learning rate three to ten times smaller, and a decay
          larger by the same factor, since η·λ is what shrinks the weights.
          sign(0) is 0: a row of an embedding that has had no gradient yet stays. Once it has had
          one, the sign of its fading average keeps pushing it with full force.
          A small batch's noise decides the signs: the paper recommends large batches.
          Clipping changes c from step to step and so the weights in (1), not the length of u.
Cost      Reads w, g, m and writes w, m once: 20 bytes a float32 parameter, bandwidth-bound.
Try       build it    signSGD with momentum: β₁ = β₂. Is the second β worth anything?
          break it    update m before the step. Which test notices, and is the loss worse?
          measure it  python scripts/compare_optimizers.py: which multiple of AdamW's rate is best?
See       Chen et al. 2023 (Lion), alg. 2 and section 5 (learning rate and decay) · Bernstein et al.
          2018 (signSGD)
"""

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel
from ..ops.pointwise import OF_A_BLOCK, THREADS
from .optim import Optimizer


@Kernel(inout=("w", "m"))
def lion_update(w, m, g, lr, beta1, beta2, decay, scale):
    d = scale * g
    u = np.sign(beta1 * m + (1 - beta1) * d)                                                   # (1)
    w -= lr * decay * w + lr * u                                                               # (2)
    m[...] = beta2 * m + (1 - beta2) * d                                                       # (3)


@lion_update.body("numba", rows="w m g")
def lion_update_numba(w, m, g, lr, beta1, beta2, decay, scale):
    real = w.dtype.type
    rate, shrink, scale = real(lr), real(lr * decay), real(scale)
    b1, c1, b2, c2 = real(beta1), real(1 - beta1), real(beta2), real(1 - beta2)
    for i in range(w.size):
        d = scale * g[i]
        u = np.sign(b1 * m[i] + c1 * d)                                                        # (1)
        w[i] -= shrink * w[i] + rate * u                                                       # (2)
        m[i] = b2 * m[i] + c2 * d                                                              # (3)


@lion_update.body("native", rows="w m g", when=fits)
def lion_update_native(w, m, g, lr, beta1, beta2, decay, scale):
    C(w).lion_update(out(w), out(m), ptr(g), lr, beta1, beta2, decay, scale, w.size)


@lion_update.body("cuda", when=serves)
def lion_update_cuda(w, m, g, lr, beta1, beta2, decay, scale):
    arguments = w, m, g, *map(np.float64, (lr, beta1, beta2, decay, scale)), w.size
    G(w).lion_update(blocks(w.size, OF_A_BLOCK), THREADS, arguments)


class Lion(Optimizer):
    """(1) to (3). Chen et al. 2023, algorithm 2."""

    slots = ("m",)

    def __init__(self, named, beta1=0.9, beta2=0.99, decay=0.3):
        self.beta1, self.beta2 = beta1, beta2
        super().__init__(named, decay)

    def update(self, w, g, group, lr, scale):
        """One step of (1) to (3)."""
        lion_update(w, group.state["m"], g, lr, self.beta1, self.beta2, group.decay, scale)
