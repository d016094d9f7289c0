"""Lesson 2.18 · Squared error: how far numbers are from what they should be

Needs kernel, launch, memory, pointwise, reduce, tensor, watch. Used by scripts/bench_mlp.py.

Idea      A network that predicts a number (a price, a height) is wrong by a difference, and the
          mean of the squared differences is the usual loss. It could be written with three ops:
          (y − t).square().mean(). Fused it is one pass over memory forward and one backward, with
          one node of the tape in place of three: for a small network that is a good part of the
          whole step.
Math      ℓ = 1/N · Σ (yᵢ − tᵢ)²                                                               (1)
          dyᵢ = dℓ · 2/N · (yᵢ − tᵢ)       dt = −dy                                            (2)
          The best constant y is the mean of t; the best function of x is the mean of t given x.
Shapes    y and t of one shape, flat (N,) in the kernels; ℓ of shape ().
Pitfalls  y (N, 1) and t (N,) would broadcast to N·N differences, of which N are meant: the loss
          goes down to the variance of t and no further, without a word. So shapes must be equal.
          One example that is far off weighs as much as a hundred that are a tenth as far off:
          errors count by their squares.
          A sum of many float32 numbers loses digits: it is taken in float64, rounded once a piece.
Cost      Reads y and t forward; reads both and writes dy backward. Bound by memory where arrays are
          large, by Python where they are small: python scripts/bench_mlp.py
Try       build it    the mean of the absolute differences. What is its best constant?
          break it    forget the 2 of (2). Which tests notice? Could training notice?
          measure it  python scripts/bench_mlp.py, then with (y - target).square().mean() in it
See       Legendre 1805 (least squares) · Bishop 2006, 1.5.5 (why the mean is the best answer)
"""

import numpy as np

from ..gpu.launch import G, serves
from ..kernel import Kernel
from ..memory import contiguous, empty_like
from ..tensor import as_tensor, method, record
from ..watch import told
from .pointwise import each_element
from .reduce import floating, sum_of_slices


@Kernel
def squared_error_forward(total, y, t):
    total[0] = np.square(y - t).sum(dtype=np.float64)                                          # (1)


@squared_error_forward.body("numba", rows="y t", sums="total")
def squared_error_forward_numba(total, y, t):
    s = 0.0
    for i in range(y.size):
        d = y[i] - t[i]
        s += d * d
    total[0] = s                                                                               # (1)


@squared_error_forward.body("cuda", when=serves)
def squared_error_forward_cuda(total, y, t):
    sum_of_slices(G(y).errors_of_slices, total, y, t)


@Kernel
def squared_error_backward(dy, y, t, scale):
    dy[...] = scale * (y - t)                                                                  # (2)


@squared_error_backward.body("numba", rows="dy y t")
def squared_error_backward_numba(dy, y, t, scale):
    scale = y.dtype.type(scale)
    for i in range(y.size):
        dy[i] = scale * (y[i] - t[i])                                                          # (2)


each_element(squared_error_backward)               # the body in CUDA: cuda/squared_error.cu


@method
def squared_error(y, target):
    """The mean of (y − target)², of shape (). target: a tensor or an array, of the shape of y.

    ValueError where the shapes differ or there is nothing to average, TypeError for integers.
    """
    target = as_tensor(target, like=y)
    if y.shape != target.shape or not y.size:
        raise ValueError("the squared error needs one target a number, of the same shape: not "
                         f"{y.shape} and {target.shape}")
    flat, goal = (contiguous(floating(x, "squared_error")).reshape(-1) for x in (y, target))
    shape, wanted = y.shape, (y.requires_grad, target.requires_grad)
    total = empty_like(flat, shape=1)
    squared_error_forward(total, flat, goal)
    told(np.divide, total, len(flat), total)

    def vjp(dl):
        dy = empty_like(flat)
        squared_error_backward(dy, flat, goal, 2 * float(dl) / len(flat))
        dy = dy.reshape(shape)
        return dy if wanted[0] else None, -dy if wanted[1] else None
    return record(total.reshape(()), (y, target), vjp)
