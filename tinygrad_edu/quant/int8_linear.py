"""Lesson 6.2 · Layers of eight bits: static and dynamic activations

Needs activation, affine, algebra, layers, module, tensor. Used by nothing.

Idea      The weights of a layer are known beforehand, and so are their ladders. Its inputs are not.
          Either each row of them gets a ladder when it arrives, which costs a pass to find its
          range: dynamic. Or some texts are read beforehand, the ranges that occur are noted, and
          from then on the ladder is fixed: static. It is cheaper, and worse where the inputs to
          come are unlike those that were seen, since what lies beyond the ladder is cut off.
Math      y = product(x on its ladder, W on its own) + b                 (1) of lesson algebra  (1)
          dynamic    a ladder for each row of x, from its own smallest and largest number       (2)
          static     one for all rows: from the smallest and largest of all rows that were read (3)
Shapes    x (…, K) -> y (…, F), as a Linear
Pitfalls  Static ranges need texts of the kind that will be read, of every kind.
          A language model has a few numbers in x that are a hundred times the others, in the same
          columns always: with one ladder for a whole tensor the others have few rungs left.
          Weights are rounded once and their gradients are not defined: for reading only.
Cost      A quarter of the bytes of a float32 layer; the integers pay where a CPU multiplies them
          faster than floats.
Try       build it    move the size of outlier columns from x into W before rounding (SmoothQuant).
          break it    calibrate on a text of spaces. What becomes of the perplexity?
          measure it  pytest tests/quant/test_int8_linear.py -s
See       Dettmers et al. 2022 (outliers) · Xiao et al. 2023 (SmoothQuant) · Nagel et al. 2021
"""

import numpy as np

from ..nn.layers import Linear
from ..nn.module import Module
from ..ops.activation import gelu
from ..tensor import Tensor
from .affine import asymmetric, range_of, symmetric
from .algebra import product


class Int8Linear(Module):
    """What a Linear computes, from integers of eight bits.

    per: "channel", a ladder for each row of the weights, or "tensor", one for all.
    Until `fix` has been called its activations are dynamic, (2).
    """

    def __init__(self, linear, per="channel"):
        if per not in ("channel", "tensor"):
            raise ValueError(f"a ladder is per channel or per tensor, not per {per!r}")
        weight = linear.weight.data
        self.w_ladder = symmetric(*range_of(weight, 1 if per == "channel" else None))
        self.q = self.w_ladder.round(weight)
        self.sum_w = self.q.sum(axis=1, dtype=np.int32)
        self.offset = None if linear.bias is None else linear.bias.data
        self.x_ladder = self.seen = None
        self.watches = False

    def forward(self, x, activation=None):
        """(1); activation: None or "gelu", as of a Linear."""
        rows = x.data.reshape(-1, x.shape[-1])
        if self.watches:
            ends = [f(found) for f, found in zip((np.min, np.max), range_of(rows), strict=True)]
            before = self.seen or ends
            self.seen = [min(before[0], ends[0]), max(before[1], ends[1])]
        ladder = self.x_ladder or asymmetric(*range_of(rows, 1))                               # (2)
        y = product(ladder.round(rows), ladder, self.q, self.w_ladder, self.sum_w)
        if self.offset is not None:
            y = y + self.offset
        y = Tensor(y.astype(x.dtype).reshape(*x.shape[:-1], len(self.q)))
        return gelu(y) if activation == "gelu" else y

    def fix(self):
        """One ladder from now on, (3), of all that was read while it watched. ValueError if nothing
        was."""
        if self.seen is None:
            raise ValueError("nothing was read while the ranges were watched: call watch(model), "
                             "let the model read, then fix")
        self.x_ladder, self.watches = asymmetric(*map(np.asarray, self.seen)), False


def to_int8(model, per="channel", keep=()):
    """Put an Int8Linear in the place of every Linear, in place; keep: paths to leave alone."""
    for path, module in dict(model.walk()).items():
        if isinstance(module, Linear) and path not in keep:
            model.replace(path, Int8Linear(module, per))
    return model


def watch(model):
    """Note the ranges of all inputs from now on, until `fix`."""
    for layer in layers_of(model):
        layer.watches = True


def fix(model):
    """Static activations from now on."""
    for layer in layers_of(model):
        layer.fix()


def layers_of(model):
    """All Int8Linear of a model."""
    return [module for _, module in model.walk() if isinstance(module, Int8Linear)]
