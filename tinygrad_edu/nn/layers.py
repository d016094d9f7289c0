"""Lesson 3.2 · Layers: an op together with its weights

Needs dropout, embedding, init, matmul, module, norm, rmsnorm. Used by loop, models/gpt.py.

Idea      A layer holds parameters and calls an op with them. It also owns its fusions: a model says
          what it wants (`self.c_fc(x, activation="gelu")`, `self.ln_2(x, added=branch)`), the layer
          does it in one pass, and whatever replaces the layer (one with 8-bit weights, say) keeps
          the same call.
Math      Linear     y = x·Wᵀ + b, then an activation if one is named
          Embedding  y = W[ids]
          LayerNorm  y = w·(x − μ)/√(σ² + ε) + b, of x + branch if a branch is added
Shapes    Linear: x (…, in), weight (out, in), bias (out,), y (…, out) · Embedding: ids (…), weight
          (V, C), y (…, C) · LayerNorm, RMSNorm: x, y (…, C), weight and bias (C,)
Pitfalls  GPT-2's published weights are (in, out): its loader transposes, nothing else does.
          Dropout needs a key that changes from step to step, else the same units are dropped for
          ever: set_dropout_key(model, seed, step) before each step of training.
Cost      The op's.
Try       build it    a layer with a weight that is the product of two thin ones (LoRA without the
                      frozen part).
          break it    give two Dropout layers the same site. What is now the same that should not
                      be?
          measure it  Linear with activation="gelu" against linear, then gelu: time and, with
                      memory.Meter, bytes.
See       Vaswani et al. 2017 · Radford et al. 2019 · Srivastava et al. 2014 (dropout)
"""

import numpy as np

from ..ops.dropout import dropout
from ..ops.embedding import embedding
from ..ops.matmul import linear, matmul_forward
from ..ops.norm import add_layernorm, layernorm
from ..ops.rmsnorm import add_rmsnorm, rmsnorm
from . import init
from .module import Module


class Linear(Module):
    """y = x·Wᵀ + b. The weight is (out, in), its rows contiguous.

    std: standard deviation of the first weights; None for Xavier's.
    """

    def __init__(self, inputs, outputs, random, bias=True, std=None, dtype=np.float32):
        shape = (outputs, inputs)
        if std is None:
            self.weight = init.xavier(random, shape, dtype)
        else:
            self.weight = init.normal(random, shape, std, dtype)
        self.bias = init.constant((outputs,), 0, dtype) if bias else None
        self.product = matmul_forward              # the kernel that multiplies: lesson mixed

    def forward(self, x, activation=None):
        """x (…, in) -> (…, out); activation: None, or "gelu" in the pass that adds the bias."""
        return linear(x, self.weight, self.bias, activation=activation, product=self.product)


class Embedding(Module):
    """A row of the table for every integer."""

    def __init__(self, rows, width, random, std=0.02, dtype=np.float32):
        self.weight = init.normal(random, (rows, width), std, dtype)

    def forward(self, ids, positions=None):
        """ids (…, T) integers -> (…, T, width); positions (T, width): rows to add by place."""
        return embedding(ids, self.weight, positions)


class LayerNorm(Module):
    """Rows of mean 0 and variance 1, scaled and shifted."""

    def __init__(self, width, eps=1e-5, dtype=np.float32):
        self.weight = init.constant((width,), 1, dtype)
        self.bias = init.constant((width,), 0, dtype)
        self.eps = eps

    def forward(self, x, added=None):
        """The norm of x; with `added`, the pair (x + added, its norm) in one pass."""
        if added is None:
            return layernorm(x, self.weight, self.bias, self.eps)
        return add_layernorm(x, added, self.weight, self.bias, self.eps)


class RMSNorm(Module):
    """Rows of root mean square 1, scaled."""

    def __init__(self, width, eps=1e-5, dtype=np.float32):
        self.weight = init.constant((width,), 1, dtype)
        self.eps = eps

    def forward(self, x, added=None):
        """The norm of x; with `added`, the pair (x + added, its norm)."""
        if added is None:
            return rmsnorm(x, self.weight, self.eps)
        return add_rmsnorm(x, added, self.weight, self.eps)


class Dropout(Module):
    """Zero each number with probability p during training, scale the others by 1/(1 − p)."""

    def __init__(self, p):
        self.p = p
        self.key = (0, 0)                          # (seed, step): set_dropout_key changes it
        self.site = 0

    def forward(self, x):
        """x of any shape -> the same shape; x itself in evaluation mode."""
        if not self.training or self.p == 0:
            return x
        return dropout(x, self.p, (*self.key, self.site))


def set_dropout_key(model, seed, step):
    """Give every Dropout of the model its key for this step: (seed, step, number of the layer)."""
    layers = [module for _, module in model.walk() if isinstance(module, Dropout)]
    for site, layer in enumerate(layers):
        layer.key, layer.site = (seed, step), site


class Sequential(Module):
    """Modules and functions, one after the other: Sequential(Linear(…), relu, Linear(…))."""

    def __init__(self, *parts):
        self.parts = list(parts)

    def forward(self, x):
        """Apply every part in order."""
        for part in self.parts:
            x = part(x)
        return x
