"""A tiny autograd tensor library in NumPy, with Numba loops and C kernels under it."""

from . import ops as ops  # every op attaches itself to Tensor
from .tensor import Tensor as Tensor
from .tensor import no_grad as no_grad
