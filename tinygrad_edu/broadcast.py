"""Lesson 1.10 · Broadcasting: what two operands agree on

Needs memory, tensor. Used by operators, pointwise.

Idea      Before two arrays can meet element by element they must agree on a type and on a shape.
          Types have to be the same: a silent promotion doubles the memory of whatever follows.
          Shapes may differ where one can be repeated: (N, C) + (C,) uses every element of the
          shorter one N times. What is used N times gets the sum of N gradients, so the way back is
          a sum.
Math      bᵢⱼ = aⱼ for every row i          broadcasting, a linear map                         (1)
          daⱼ = Σᵢ dbᵢⱼ                     its adjoint: the sum over repeated axes            (2)
          The adjoint of a linear map b = P·a is its transpose, and takes gradients back: da = Pᵀ·db
Shapes    Aligned at the right; each axis equal, or 1, or absent: (3, 1, 5) and (4, 1) -> (3, 4, 5).
Pitfalls  (N,) − (N, 1) is (N, N): no error, and a loss that goes down anyway. Where shapes should
          be equal, say so in the code.
          Size 1 that meets size 1 is not repeated; size 1 that meets size 0 is, zero times.
          Types: Python numbers and lists take the type of the tensor beside them, booleans count as
          0 and 1. All else is refused: float32 meets float64, int64 meets float32.
Cost      Forward nothing, NumPy repeats by a stride of 0. Backward one pass over the gradient.
Try       build it    broadcasting for lists of lists, and then (2) as its adjoint.
          break it    sum over the added axes only. What does tests/test_broadcast.py say?
          measure it  a sum over axis 0 and over axis 1 of one array. Why not equally fast?
See       NumPy manual, "Broadcasting" · Griewank, Walther 2008, ch. 3 (adjoints of linear maps)
"""

import numpy as np

from .memory import empty_like
from .tensor import Tensor, as_tensor


def unbroadcast(grad, shape):
    """Sum a gradient over the axes that broadcasting has added or repeated: (2).

    shape: that of the operand -> an array of this shape. None: nobody wants the gradient -> None.
    """
    if shape is None or grad.shape == shape:
        return None if shape is None else grad
    sizes = (1,) * (grad.ndim - len(shape)) + shape
    axes = tuple(i for i, n in enumerate(sizes) if n != grad.shape[i])
    total = empty_like(grad, shape=sizes)
    np.sum(grad, axis=axes, keepdims=True, out=total)
    return total.reshape(shape)


def wanted_shape(tensor):
    """The shape for unbroadcast: None where the tensor wants no gradient."""
    return tensor.shape if tensor.requires_grad else None


def is_number(value):
    """Is it a number of Python? Such a number takes the type of the tensor beside it."""
    return type(value) in (int, float)


def operands(*values):
    """Tensors of one type, of tensors, arrays, lists, numbers. TypeError where two types meet."""
    if {type(value) for value in values} == {Tensor} and len({v.data.dtype for v in values}) == 1:
        return values  # as they mostly are
    typed = [value for value in values if hasattr(value, "dtype")] or [Tensor(values[0])]
    floats = [value for value in typed if value.dtype.kind == "f"]
    others = [value for value in typed if value.dtype != bool]
    like = (floats or others or typed)[0]
    return [_operand(value, like if isinstance(like, Tensor) else Tensor(like)) for value in values]


def _operand(value, like):
    if not is_number(value) and not hasattr(value, "dtype"):
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"a tensor meets {value!r}: use numbers, lists, arrays or tensors")
        return Tensor(np.asarray(value, like.dtype))
    tensor = as_tensor(value, like)
    if tensor.dtype == like.dtype:
        return tensor
    if tensor.dtype != bool:
        raise TypeError(f"{tensor.dtype} meets {like.dtype}: convert one of them with astype")
    return Tensor(tensor.data.astype(like.dtype))  # exact, and it has no gradient
