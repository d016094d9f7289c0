"""Lesson 3.3 · Optim: from gradients to a step

Needs foreign, kernel, launch, memory, module, pointwise, reduce, watch.
Used by adagrad, rmsprop, adam, lion, muon.

Idea      The gradient says where the loss falls; an optimizer decides how far to go. The learning
          rate is the number by which every step of an optimizer is multiplied. All of them share
          what stands here: parameters laid out in flat groups, gradients that are scaled down
          together if their norm is too large, a state that a checkpoint can hold. What differs is
          the update, one kernel call a group. The simplest is here too: SGD goes along the
          gradient, or along the momentum. Momentum is a fading sum of the gradients so far, in
          which noise cancels and what they agree on adds up. The lessons that follow are one idea
          further each.
Math      clip     c = min(1, limit/‖g‖), the norm over all parameters together                  (1)
          SGD      v ← μ·v + d    w ← w − η·v    Nesterov: w ← w − η·(d + μ·v)    d = c·g + λ·w  (2)
          η learning rate, λ weight decay, μ momentum
Shapes    w, g, v (n,): all parameters of a group lie in one flat array (module.Flat).
Pitfalls  Decay belongs to matrices; on offsets and norm scales it only hurts, so they are a group
          of their own without it. Clip the gradient of the whole batch, after all parts of it have
          been added up. A norm that is not finite must stop the step before anything has changed:
          once a NaN is in an average, no later step gets it out.
Cost      SGD reads w, g, v and writes w, v once: 20 bytes a float32 parameter, bandwidth-bound.
          The reference makes a pass for every operation on arrays. The norm is one more pass over
          g; clipping itself costs none, c is an argument.
Try       build it    SGD without momentum that keeps no v. How much memory does a run save?
          break it    clip each group by itself. Which test notices?
          measure it  python scripts/compare_optimizers.py: the losses of all of them on one GPT
See       Robbins, Monro 1951 · Polyak 1964 (momentum) · Sutskever et al. 2013, eq. 1-4 · Pascanu et
          al. 2013 (clipping)
"""

import math
from typing import NamedTuple

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel
from ..memory import beside, empty_like, zeros_like
from ..ops.pointwise import OF_A_BLOCK, THREADS
from ..ops.reduce import sum_of_slices
from ..watch import looks, state, tell, told
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


@sum_of_squares.body("native", rows="g", sums="total", when=fits)
def sum_of_squares_native(total, g):
    C(total).sum_of_squares(out(total), ptr(g), g.size)


@sum_of_squares.body("cuda", when=serves)
def sum_of_squares_cuda(total, g):
    sum_of_slices(G(g).squares_of_slices, total, g)


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


@sgd_update.body("native", rows="w v g", when=fits)
def sgd_update_native(w, v, g, lr, momentum, nesterov, decay, scale):
    C(w).sgd_update(out(w), out(v), ptr(g), lr, momentum, nesterov, decay, scale, w.size)


@sgd_update.body("cuda", when=serves)
def sgd_update_cuda(w, v, g, lr, momentum, nesterov, decay, scale):
    lr, momentum, decay, scale = map(np.float64, (lr, momentum, decay, scale))
    arguments = w, v, g, lr, momentum, bool(nesterov), decay, scale, w.size
    G(w).sgd_update(blocks(w.size, OF_A_BLOCK), THREADS, arguments)


class Group(NamedTuple):
    """Parameters that are updated in the same way, flat, and what the optimizer knows of them."""

    names: list
    flat: Flat
    state: dict  # slot -> array (n,): one number a parameter in each
    decay: float
    update: object  # function(w, g, group, lr, scale)


class Optimizer:
    """What all optimizers share: parameters in flat groups, and a step over them.

    named: (name, tensor) pairs, as model.named_parameters() gives them; those that want no gradient
    are left out. Their arrays are laid out flat here (module.Flat), so make the optimizer after the
    model is complete. decay: that of the matrices; vectors have none.

    A subclass names its `slots` and defines `update`. One that treats some parameters in another
    way adds its own groups in `arrange`.
    """

    slots = ()
    loss_scale = None  # lesson loss_scale: with it, gradients arrive multiplied by its factor

    def __init__(self, named, decay):
        wanted = [(name, tensor) for name, tensor in named if tensor.requires_grad]
        if not wanted:
            raise ValueError("there is nothing to optimize: no parameter has requires_grad=True")
        self.groups = []
        self.steps = 0
        self.arrange(wanted, decay)

    def arrange(self, pairs, decay):
        """Make the groups: here matrices with decay and vectors without it."""
        if not decay:  # then nothing tells them apart, and one group is one kernel call
            self.add_group(pairs, decay)
            return
        self.add_group([pair for pair in pairs if pair[1].ndim >= 2], decay)
        self.add_group([pair for pair in pairs if pair[1].ndim < 2], 0.0)

    def add_group(self, pairs, decay, slots=None, update=None):
        """Lay (name, tensor) pairs out as a group; slots and update are the optimizer's own
        where no others are given. No pairs, no group."""
        if pairs:
            flat = Flat(tensor for _, tensor in pairs)
            slots = self.slots if slots is None else slots
            state = {slot: zeros_like(flat.data) for slot in slots}
            names = [name for name, _ in pairs]
            self.groups.append(Group(names, flat, state, decay, update or self.update))

    def step(self, lr, clip=None, scale=1.0):
        """Take one step with the gradients collected, then forget them.

        lr: learning rate. clip: largest allowed norm of all gradients together, None for no limit.
        scale: a factor for all gradients first, 1/parts where a batch came in parts.
        Returns the norm of the scaled gradients before clipping. Raises FloatingPointError if it is
        not finite, before anything has changed.
        """
        norm = told(self._norm, scale, *self._squares(), writes=None)
        if clip is not None:
            looks("clip of an optimizer")
        if clip is not None and norm > clip:
            scale *= clip / norm                                                               # (1)
        self.steps += 1
        if state.listeners:
            tell("number_grew", self, "steps")
        for group in self.groups:
            group.update(group.flat.data, group.flat.grad, group, lr, scale)
            for tensor in group.flat.tensors:
                tensor.zero_grad()
        return norm

    def _squares(self):
        """The sum of the squared gradients of each group, an array (1,)."""
        totals = []
        for group in self.groups:
            total = empty_like(group.flat.data, shape=1)
            sum_of_squares(total, group.flat.gather())
            totals.append(total)
        return totals

    def _norm(self, scale, *squares):
        norm = scale * sum([float(total[0]) for total in squares]) ** 0.5
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm} at optimizer step "
                                     f"{self.steps + 1}")
        return norm

    def update(self, w, g, group, lr, scale):
        """Change w (n,) by the gradients scale·g (n,): one kernel call over a flat group."""
        raise NotImplementedError

    def state(self):
        """Name -> array: `m.h.0.attn.c_attn.weight` and so on, views; and `steps`."""
        arrays = {"steps": np.array(self.steps)}
        if self.loss_scale:
            arrays["loss_scale"] = self.loss_scale.state()
        for group in self.groups:
            for slot, array in group.state.items():
                pairs = zip(group.names, group.flat.views(array), strict=True)
                arrays |= {f"{slot}.{name}": view for name, view in pairs}
        return arrays

    def load_state(self, arrays):
        """Take the state of an earlier run; ValueError for that of another model or optimizer."""
        mine = self.state()
        shapes, theirs = ({name: a.shape for name, a in s.items()} for s in (mine, arrays))
        if shapes != theirs:
            raise ValueError("this optimizer state belongs to another model or another optimizer")
        self.steps = int(arrays["steps"])
        if self.loss_scale:
            self.loss_scale.load_state(arrays["loss_scale"])
        for name, array in mine.items():
            if name not in ("steps", "loss_scale"):
                array[...] = beside(arrays[name], array)


class SGD(Optimizer):
    """(2). decay is an L2 penalty on the matrices."""

    slots = ("v",)

    def __init__(self, named, momentum=0.0, nesterov=False, decay=0.0):
        self.momentum, self.nesterov = momentum, nesterov
        super().__init__(named, decay)

    def update(self, w, g, group, lr, scale):
        """One step of (2)."""
        v = group.state["v"]
        sgd_update(w, v, g, lr, self.momentum, self.nesterov, group.decay, scale)
