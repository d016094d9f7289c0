"""Lesson 3.3 · Optim: from gradients to a step

Needs kernel, memory, module. Used by scripts/train_gpt.py.

Idea      The gradient says where the loss falls; an optimizer decides how far to go. SGD goes along
          the gradient, with momentum along an average of recent ones. AdamW divides each
          parameter's average by the size its gradients usually have, so that all parameters move at
          a similar pace, and shrinks the weights a little at every step. All gradients are first
          scaled down together if their norm is too large.
Math      clip     c = min(1, limit/‖g‖), the norm over all parameters together                  (1)
          SGD      v ← μ·v + d    w ← w − η·v    Nesterov: w ← w − η·(d + μ·v)    d = c·g + λ·w  (2)
          AdamW    m ← β₁·m + (1 − β₁)·c·g      v ← β₂·v + (1 − β₂)·(c·g)²                       (3)
                   w ← w − η·λ·w − η·m̂/(√v̂ + ε)      m̂ = m/(1 − β₁ᵗ)      v̂ = v/(1 − β₂ᵗ)    (4)
          η learning rate, λ weight decay, t the number of the step from 1
Shapes    w, g, m, v (n,): all parameters with the same decay lie in one flat array (module.Flat).
Pitfalls  Decay belongs to matrices; on offsets and norm scales it only hurts. The L2 penalty λ·w
          added to g, as SGD has it, is not AdamW's decay: inside Adam it would be divided by √v̂ as
          well. m and v start at 0, so without the hats the first steps are far too small (m) or too
          large (v). Clip the gradient of the whole batch, after all parts of it have been added up.
Cost      AdamW reads w, g, m, v and writes w, m, v once: 28 bytes a float32 parameter,
          bandwidth-bound. The reference makes eighteen passes, one per operation on arrays. The
          norm is one more pass over g; clipping itself costs none, c is an argument.
Try       build it    Lion: the sign of an average of gradients. Its state is half of Adam's.
          break it    leave out the hats. What happens to the first ten losses?
          measure it  python scripts/trace_step.py: the share of adamw_update, also with --batch 1
See       Loshchilov, Hutter 2019, alg. 2 · Kingma, Ba 2015 · Sutskever et al. 2013 · Pascanu et al.
          2013 (clipping)
"""

import numpy as np

from ..kernel import Kernel
from ..memory import zeros_like
from .module import Flat


@Kernel
def sum_of_squares(total, g):
    total[...] = np.dot(g, g)


@sum_of_squares.body("numba", rows="g", sums="total")
def sum_of_squares_numba(total, g):
    s = g.dtype.type(0)
    for i in range(g.size):
        s += g[i] * g[i]
    total[0] = s


@Kernel(inout=("w", "v"))
def sgd_update(w, v, g, lr, momentum, nesterov, decay, scale):
    d = scale * g + decay * w
    v[...] = momentum * v + d                                                                  # (2)
    w -= lr * (d + momentum * v if nesterov else v)


@sgd_update.body("numba", rows="w v g")
def sgd_update_numba(w, v, g, lr, momentum, nesterov, decay, scale):
    real = w.dtype.type
    lr, momentum, decay, scale = real(lr), real(momentum), real(decay), real(scale)
    for i in range(w.size):
        d = scale * g[i] + decay * w[i]
        v[i] = momentum * v[i] + d                                                             # (2)
        w[i] -= lr * (d + momentum * v[i] if nesterov else v[i])


@Kernel(inout=("w", "m", "v"))
def adamw_update(w, m, v, g, lr, beta1, beta2, eps, decay, scale, step):
    g = scale * g
    m[...] = beta1 * m + (1 - beta1) * g                                                       # (3)
    v[...] = beta2 * v + (1 - beta2) * g * g
    root = np.sqrt(v / (1 - beta2 ** step)) + eps
    w -= lr * decay * w + lr / (1 - beta1 ** step) * m / root                                  # (4)


@adamw_update.body("numba", rows="w m v g")
def adamw_update_numba(w, m, v, g, lr, beta1, beta2, eps, decay, scale, step):
    real = w.dtype.type
    rate = real(lr / (1 - beta1 ** step))
    undo = real(1 / (1 - beta2 ** step))
    shrink = real(lr * decay)
    b1, c1, b2, c2 = real(beta1), real(1 - beta1), real(beta2), real(1 - beta2)
    eps, scale = real(eps), real(scale)
    for i in range(w.size):
        d = scale * g[i]
        m[i] = b1 * m[i] + c1 * d                                                              # (3)
        v[i] = b2 * v[i] + c2 * d * d
        w[i] -= shrink * w[i] + rate * m[i] / (np.sqrt(v[i] * undo) + eps)                     # (4)


class Optimizer:
    """What SGD and AdamW share: parameters in two flat groups, with decay and without.

    named: (name, tensor) pairs, as model.named_parameters() gives them; those that want no gradient
    are left out. Their arrays are laid out flat here (module.Flat), so make the optimizer after the
    model is complete.
    """

    slots = ()  # names of the state arrays: one number a parameter in each

    def __init__(self, named, decay):
        wanted = [(name, tensor) for name, tensor in named if tensor.requires_grad]
        if not wanted:
            raise ValueError("there is nothing to optimize: no parameter has requires_grad=True")
        matrices = [(name, tensor) for name, tensor in wanted if tensor.ndim >= 2]
        vectors = [(name, tensor) for name, tensor in wanted if tensor.ndim < 2]
        self.groups = []
        for pairs, group_decay in ((matrices, decay), (vectors, 0.0)):
            if pairs:
                flat = Flat(tensor for _, tensor in pairs)
                state = {slot: zeros_like(flat.data) for slot in self.slots}
                names = [name for name, _ in pairs]
                self.groups.append((names, flat, state, group_decay))
        self.steps = 0

    def step(self, lr, clip=None, scale=1.0):
        """Take one step with the gradients collected, then forget them.

        lr: learning rate. clip: largest allowed norm of all gradients together, None for no limit.
        scale: a factor for all gradients first, 1/parts where a batch came in parts.
        Returns the norm of the scaled gradients before clipping. Raises FloatingPointError if it is
        not finite, before anything has changed.
        """
        norm = scale * self._norm()
        if not np.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm} at optimizer step "
                                     f"{self.steps + 1}")
        if clip is not None and norm > clip:
            scale *= clip / norm                                                               # (1)
        self.steps += 1
        for _, flat, state, decay in self.groups:
            self.update(flat.data, flat.grad, state, lr, decay, scale)
            for tensor in flat.tensors:
                tensor.zero_grad()
        return norm

    def _norm(self):
        squares = 0.0
        for _, flat, _, _ in self.groups:
            total = zeros_like(flat.data, shape=(1,))
            sum_of_squares(total, flat.gather())
            squares += float(total[0])
        return squares ** 0.5

    def update(self, w, g, state, lr, decay, scale):
        """One kernel call over a flat group; each optimizer has its own."""
        raise NotImplementedError

    def state(self):
        """Name -> array: `m.h.0.attn.c_attn.weight` and so on, views; and `steps`."""
        arrays = {"steps": np.array(self.steps)}
        for names, flat, state, _ in self.groups:
            for slot, array in state.items():
                views = flat.views(array)
                arrays |= {f"{slot}.{name}": view for name, view in zip(names, views, strict=True)}
        return arrays

    def load_state(self, arrays):
        """Take the state of an earlier run; ValueError for that of another model or optimizer."""
        mine = self.state()
        shapes, theirs = ({name: a.shape for name, a in s.items()} for s in (mine, arrays))
        if shapes != theirs:
            raise ValueError("this optimizer state belongs to another model or another optimizer")
        self.steps = int(arrays["steps"])
        for name, array in mine.items():
            if name != "steps":
                array[...] = arrays[name]


class SGD(Optimizer):
    """(2). decay is an L2 penalty on the matrices."""

    slots = ("v",)

    def __init__(self, named, momentum=0.0, nesterov=False, decay=0.0):
        self.momentum, self.nesterov = momentum, nesterov
        super().__init__(named, decay)

    def update(self, w, g, state, lr, decay, scale):
        """One step of (2)."""
        sgd_update(w, state["v"], g, lr, self.momentum, self.nesterov, decay, scale)


class AdamW(Optimizer):
    """(3) and (4). Loshchilov, Hutter 2019, algorithm 2, with decay times the learning rate."""

    slots = ("m", "v")

    def __init__(self, named, beta1=0.9, beta2=0.95, eps=1e-8, decay=0.1):
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        super().__init__(named, decay)

    def update(self, w, g, state, lr, decay, scale):
        """One step of (3) and (4)."""
        adamw_update(w, state["m"], state["v"], g, lr, self.beta1, self.beta2, self.eps, decay,
                     scale, self.steps)
