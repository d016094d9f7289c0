"""Lesson 3.1 · Init: the size of the first numbers

Needs tensor. Used by layers, models/gpt.py.

Idea      Before the first step every weight is random, and how large it is decides whether signals
          grow, vanish or keep their size from layer to layer. The rules here choose the spread so
          that the variance of what leaves a layer is that of what enters it.
Math      y = W·x with n inputs, independent wᵢⱼ of variance s²:  var(y) = n·s²·mean(x²)         (1)
          Xavier   s² = 2/(n_in + n_out)      a middle: x wants 1/n_in, its gradient 1/n_out     (2)
          He       s² = 2/n_in                relu loses half of mean(x²), the 2 gives it back   (3)
          GPT-2    s = 0.02, and s/√(2L) for the 2L layers whose outputs are added, one after
                   the other, to one vector: the residual stream (lesson gpt)                    (4)
Shapes    Weights are (out, in), as everywhere here.
Pitfalls  A sum of 2L independent branches has 2L times the variance of one: without (4) the
          residual stream of a deep model grows with its depth.
          A uniform draw on [−a, a] has variance a²/3, not a².
          Draws come from the generator that is passed in and are made in float64: the same seed
          gives the same weights in float32 and float64.
Cost      Once per run.
Try       build it    orthogonal initialisation (QR of a normal matrix): what does it keep exactly?
          break it    leave out (4) with 24 layers and plot the standard deviation of the residual
                      stream over depth.
          measure it  var(y)/var(x) through ten layers of width 512 with relu, for (2) and (3).
See       Glorot, Bengio 2010, eq. 16 · He et al. 2015, eq. 10 · Radford et al. 2019, section 2.3
"""

import numpy as np

from ..tensor import Tensor


def parameter(values, dtype=np.float32):
    """A tensor that training changes, from an array of numbers."""
    return Tensor(np.ascontiguousarray(values, dtype), requires_grad=True)


def normal(random, shape, std, dtype=np.float32):
    """Normal numbers of mean 0 and this standard deviation.

    random: a numpy generator; None leaves the numbers undefined, for weights that come from a file.
    """
    if random is None:
        return Tensor(np.empty(shape, dtype), requires_grad=True)
    return parameter(random.standard_normal(shape) * std, dtype)


def uniform(random, shape, bound, dtype=np.float32):
    """Uniform numbers on [−bound, bound); random as for `normal`."""
    if random is None:
        return Tensor(np.empty(shape, dtype), requires_grad=True)
    return parameter(random.uniform(-bound, bound, shape), dtype)


def xavier(random, shape, dtype=np.float32):
    """Uniform numbers with the variance of (2), for a weight (out, in)."""
    return uniform(random, shape, np.sqrt(3 * 2 / sum(shape)), dtype)


def he(random, shape, dtype=np.float32):
    """Normal numbers with the variance of (3), for a weight (out, in) that feeds a relu."""
    return normal(random, shape, np.sqrt(2 / shape[1]), dtype)


def residual_std(std, layers):
    """The standard deviation (4) of layers that write into the residual stream."""
    return std / np.sqrt(2 * layers)


def constant(shape, value, dtype=np.float32):
    """One number everywhere: 1 for scales, 0 for offsets."""
    return parameter(np.full(shape, value), dtype)
