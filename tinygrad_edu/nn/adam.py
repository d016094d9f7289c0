"""Lesson 3.6 · Adam and AdamW: momentum, and a step size for every parameter

Needs foreign, kernel, launch, optim, pointwise. Used by muon, optimizers, scripts/trace_step.py.

Idea      Adam joins two ideas: it goes along an average of recent gradients, as momentum does
          (lesson optim), and divides each parameter's average by the size that its gradients
          usually have (lesson rmsprop), so that all parameters move at a similar pace. Both
          averages start at 0 and are too small at first; Adam knows by how much and corrects it.
          AdamW takes the weight decay out of the gradient and shrinks the weights directly: the one
          change that made it the standard.
Math      m ← β₁·m + (1 − β₁)·d      v ← β₂·v + (1 − β₂)·d²                                      (1)
          m̂ = m/(1 − β₁ᵗ)      v̂ = v/(1 − β₂ᵗ)      t the number of the step from 1            (2)
          Adam     d = c·g + λ·w      w ← w − η·m̂/(√v̂ + ε)                                     (3)
          AdamW    d = c·g            w ← w − η·λ·w − η·m̂/(√v̂ + ε)                             (4)
Shapes    w, g, m, v (n,), flat groups as in lesson optim; c scales the gradient (clipping)
Pitfalls  Adam's λ·w is divided by √v̂ like the rest of d: weights whose gradients are large hardly
          decay, and where gradients are small, a λ that is right for AdamW swamps them.
          Without the hats m makes the first step 1/(1 − β₁) times too short and v makes it
          1/√(1 − β₂) times too long. ε belongs outside the root; inside, 10⁻⁸ acts like 10⁻⁴.
          β₂ = 0.999 remembers a thousand steps: with small batches and short runs 0.95 is better.
Cost      Reads w, g, m, v and writes w, m, v once: 28 bytes a float32 parameter, bandwidth-bound.
          One kernel serves both: λ of (3) is `penalty`, that of (4) `decay`, one of them 0. In C as
          in Numba it is one pass; the reference makes one for every operation.
Try       build it    AMSGrad: divide by the largest v̂ so far.
          break it    leave out the hats. How long is the first step now, in η, for β₂ = 0.95 and
                      for 0.999? Which test says so?
          measure it  python scripts/trace_step.py: the share of adam_update, also with --batch 1
See       Kingma, Ba 2015, alg. 1 · Loshchilov, Hutter 2019, alg. 2, with decay times the learning
          rate
"""

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel
from ..ops.pointwise import OF_A_BLOCK, THREADS
from .optim import Optimizer


@Kernel(inout=("w", "m", "v"))
def adam_update(w, m, v, g, lr, beta1, beta2, eps, penalty, decay, scale, step):
    d = scale * g + penalty * w
    m *= beta1
    m += (1 - beta1) * d                                                                       # (1)
    v *= beta2
    v += (1 - beta2) * d * d
    m_hat = m / (1 - beta1 ** step)                                                            # (2)
    v_hat = v / (1 - beta2 ** step)
    w *= 1 - lr * decay
    w -= lr * m_hat / (np.sqrt(v_hat) + eps)                                              # (3), (4)


@adam_update.body("numba", rows="w m v g")
def adam_update_numba(w, m, v, g, lr, beta1, beta2, eps, penalty, decay, scale, step):
    real = w.dtype.type
    b1, c1 = real(beta1), real(1 - beta1)
    b2, c2 = real(beta2), real(1 - beta2)
    rate = real(lr / (1 - beta1 ** step))                                                      # (2)
    undo = real(1 / (1 - beta2 ** step))
    keep = real(1 - lr * decay)
    eps = real(eps)
    penalty = real(penalty)
    scale = real(scale)
    for i in range(w.size):
        d = scale * g[i] + penalty * w[i]
        m[i] = b1 * m[i] + c1 * d                                                              # (1)
        v[i] = b2 * v[i] + c2 * d * d
        root = np.sqrt(undo * v[i])
        w[i] = keep * w[i] - rate * m[i] / (root + eps)                                   # (3), (4)


@adam_update.body("native", rows="w m v g", when=fits)
def adam_update_native(w, m, v, g, lr, beta1, beta2, eps, penalty, decay, scale, step):
    C(w).adam_update(out(w), out(m), out(v), ptr(g), lr, beta1, beta2, eps, penalty, decay, scale,
                     step, w.size)


@adam_update.body("cuda", when=serves)
def adam_update_cuda(w, m, v, g, lr, beta1, beta2, eps, penalty, decay, scale, step):
    rate, undo = lr / (1 - beta1 ** step), 1 / (1 - beta2 ** step)                             # (2)
    numbers = (beta1, 1 - beta1, beta2, 1 - beta2, rate, undo, eps, penalty, 1 - lr * decay, scale)
    arguments = w, m, v, g, *map(w.dtype.type, numbers), w.size
    G(w).adam_step(blocks(w.size, OF_A_BLOCK), THREADS, arguments)


class Adam(Optimizer):
    """(1) to (3). decay is an L2 penalty: it goes through both averages."""

    slots = ("m", "v")

    def __init__(self, named, beta1=0.9, beta2=0.95, eps=1e-8, decay=0.0):
        self.numbers = beta1, beta2, eps
        super().__init__(named, decay)

    def update(self, w, g, group, lr, scale):
        """One step of (1) to (3)."""
        m, v = group.state["m"], group.state["v"]
        adam_update(w, m, v, g, lr, *self.numbers, group.decay, 0.0, scale, self.steps)


class AdamW(Optimizer):
    """(1), (2) and (4). decay shrinks the matrices by the factor 1 − lr·decay at every step."""

    slots = ("m", "v")

    def __init__(self, named, beta1=0.9, beta2=0.95, eps=1e-8, decay=0.1):
        self.numbers = beta1, beta2, eps
        super().__init__(named, decay)

    def update(self, w, g, group, lr, scale):
        """One step of (1), (2) and (4)."""
        m, v = group.state["m"], group.state["v"]
        adam_update(w, m, v, g, lr, *self.numbers, 0.0, group.decay, scale, self.steps)
