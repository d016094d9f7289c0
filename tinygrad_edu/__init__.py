"""A tiny autograd tensor library in NumPy, with Numba loops and C kernels under it."""

import warnings

from . import ops as ops  # every op attaches itself to Tensor
from .tensor import Tensor as Tensor
from .tensor import no_grad as no_grad

# python -m tinygrad_edu.ops.softmax runs the measurement of a lesson. That the import above has run
# the same file before is meant so, and no reason to warn.
warnings.filterwarnings("ignore", "'tinygrad_edu.* found in sys.modules", RuntimeWarning, "runpy")
