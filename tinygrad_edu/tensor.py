"""Lesson 1.7 · Tensor: arrays that remember where they came from

Needs memory, watch. Used by gradcheck, every op, every layer.

Idea      A Tensor is an array plus, if a gradient is wanted, a node of the tape: who its parents are and a
          function that turns the gradient of the result into the gradients of the parents. Operations
          record nodes while they compute; backward() walks them in reverse. The scalar lesson does the
          same with single numbers; here a node stands for a whole array operation.
Math      For y = f(x₁, …, xₖ) and a loss ℓ, with dy = ∂ℓ/∂y, the vector-Jacobian product of f gives
          dxᵢ = dyᵀ · ∂y/∂xᵢ                                                                        (1)
          A tensor used several times gets the sum of what its uses send back                        (2)
Shapes    A gradient has the shape and the type of its tensor; backward() checks both at every node.
Pitfalls  The order must put every use of a tensor before the tensor. Creation numbers give it for free:
          a result is always younger than its parents. No recursion, so 10⁵ nodes in a row are no problem.
          The first gradient that arrives is borrowed (a view of it may be on its way elsewhere too); only a
          sum made here may be added to in place. What the user sees as .grad is always a copy.
          An array that a closure kept must not be overwritten before backward: record() notes storage
          versions and backward() refuses a mismatch. A raw NumPy write to t.data is only seen under TG_CHECK.
          Backward kernels work on plain arrays, so a gradient has no tape of its own; second derivatives are
          the scalar lesson's, and differences of gradients.
Cost      A few µs a node; the arrays that closures keep are the memory of training. A closure is dropped as
          soon as it has run, and with it what it kept.
Try       build it    retain_grad(): let an inner tensor keep its gradient as well.
          break it    replace the sum in _add by `total += grad`. Which test of tests/test_tensor.py notices?
          measure it  with memory.Meter() as m: run a forward and a backward pass. When is the peak?
See       Griewank, Walther 2008, ch. 3 · HIPS autograd (accumulation) · Chainer (rank as backward order)
"""

import contextlib
import itertools
import os
import threading
import zlib

import numpy as np

from . import memory, watch


class Node:
    """What the tape knows of one tensor that wants a gradient."""

    __slots__ = ("index", "shape", "dtype", "parents", "vjp", "op", "where", "kept", "leaf", "slot", "__weakref__")
    created = itertools.count()

    def __init__(self, data, parents=(), vjp=None, leaf=None, slot=None):
        self.index = next(Node.created)
        self.shape, self.dtype = (data.shape, data.dtype) if data is not None else (None, None)
        self.parents, self.vjp, self.leaf = parents, vjp, leaf
        self.slot = slot                           # which of several results of its one parent this is
        self.op = vjp.__qualname__.split(".")[0] if vjp else "leaf"
        self.where = watch.caller() if vjp else None
        self.kept = [(a, memory.version(a), _checksum(a)) for a in _arrays_of(vjp)] if vjp else None

    def pull(self, grad):
        """Turn the gradient of the result into those of the parents, (1), and forget the closure."""
        vjp, kept, self.vjp, self.kept = self.vjp, self.kept, None, None
        if vjp is None:
            raise RuntimeError(f"{self}: backward() has already been here and dropped what it needs; run the forward "
                               "pass again, or add the losses before one backward()")
        for array, version, checksum in kept:
            if memory.version(array) != version or _checksum(array) != checksum:
                raise RuntimeError(f"{self}: an array of shape {array.shape} that backward() still needs was "
                                   "overwritten in the meantime; write to a copy, or after backward()")
        grads = vjp(*grad) if self.shape is None else vjp(grad)
        for parent, g in zip(self.parents, grads, strict=True):
            if parent and g is not None and (g.shape != parent.shape or g.dtype != parent.dtype):
                raise RuntimeError(f"{self}: the gradient of a parent is {g.dtype}{g.shape}, the parent itself "
                                   f"{parent.dtype}{parent.shape}")
        return grads

    def __repr__(self):
        return f"{self.op} at {os.path.basename(self.where[0])}:{self.where[1]}" if self.where else self.op


def _arrays_of(vjp):
    """The arrays that a closure keeps, also inside tensors, tuples and lists."""
    todo = [cell.cell_contents for cell in vjp.__closure__ or ()]
    while todo:
        item = todo.pop()
        if isinstance(item, Tensor):
            yield item.data
        elif isinstance(item, (tuple, list)):
            todo.extend(item)
        elif isinstance(item, np.ndarray):
            yield item


def _checksum(array):
    return zlib.crc32(np.ascontiguousarray(array)) if watch.checking() else None


class Tensor:
    """An n-dimensional array that can take part in a computation whose gradient is wanted.

    data: an array (kept as it is, not copied), or nested lists of numbers (floats become float32).
    requires_grad: collect a gradient for it in .grad when backward() is called on something made of it.
    """

    __slots__ = ("data", "grad", "node", "storage", "on_grad", "__weakref__")
    __array_priority__ = 1000                      # array * tensor is the tensor's business

    def __init__(self, data, requires_grad=False, dtype=None):
        self.data = as_array(data, dtype)
        self.grad = None                           # array of the same shape and type, owned by this tensor alone
        self.node = None
        self.storage = None                        # where the gradient is to be laid, if it has a place (nn.module)
        self.on_grad = None                        # called with this tensor when its gradient is complete
        if requires_grad:
            self.requires_grad = True

    @property
    def requires_grad(self):
        """Does backward() reach this tensor?"""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, wanted):
        if self.node is not None and self.node.leaf is None:
            raise RuntimeError("requires_grad can be set on leaves only; use detach() to cut a result off the tape")
        if wanted and not np.issubdtype(self.data.dtype, np.floating):
            raise TypeError(f"only floating-point tensors can have a gradient, not {self.data.dtype}")
        self.node = Node(self.data, leaf=self) if wanted else None

    # ---- looking at it ----

    shape = property(lambda self: self.data.shape, doc="The size along each axis.")
    dtype = property(lambda self: self.data.dtype, doc="The element type.")
    ndim = property(lambda self: self.data.ndim, doc="The number of axes.")
    size = property(lambda self: self.data.size, doc="The number of elements.")

    def __len__(self):
        return len(self.data)

    def __repr__(self):
        origin = f", from {self.node}" if self.node and self.node.vjp else ", requires_grad" if self.node else ""
        values = np.array2string(_to_host(self.data), precision=4, threshold=20, edgeitems=3, prefix="  ")
        return f"Tensor({self.dtype} {self.shape}{origin}\n  {values})"

    def item(self):
        """The one element of a tensor of size 1, as a Python number."""
        return self.data.item()

    def numpy(self):
        """The elements as a NumPy array; shares memory with the tensor where that lies on the CPU."""
        return _to_host(self.data)

    def __array__(self, dtype=None, copy=None):
        host = self.numpy()
        return np.array(host, dtype, copy=True) if copy else np.asarray(host, dtype)

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __bool__(self):
        return bool(self.item())

    # ---- the tape ----

    def detach(self):
        """The same elements, off the tape. Shares memory."""
        return Tensor(self.data)

    def assign(self, values):
        """Overwrite the elements in place, outside the tape. Pending backward passes will refuse."""
        values = values.data if isinstance(values, Tensor) else np.asarray(values)
        if values.shape != self.shape:
            raise ValueError(f"cannot assign values of shape {values.shape} to a tensor of shape {self.shape}")
        self.data[...] = values
        memory.wrote(self.data)

    def zero_grad(self):
        """Forget the gradient."""
        self.grad = None

    def backward(self, grad=None):
        """Add ∂self/∂leaf to the .grad of every leaf that self was computed from.

        grad: the gradient to start with, an array of this tensor's shape; 1 by default, for a scalar only.
        Raises RuntimeError without a tape, on a second walk, or where a kept array was overwritten.
        """
        if self.node is None:
            raise RuntimeError("backward() on a tensor that does not depend on anything with requires_grad=True")
        if grad is None and self.size != 1:
            raise RuntimeError(f"backward() on a tensor of shape {self.shape} needs the gradient to start with: "
                               "backward(grad), or reduce it to a scalar loss first")
        if grad is None:
            start = memory.empty_like(self.data)
            start[...] = 1
        else:
            start = as_array(grad, self.dtype)
            if start.shape != self.shape:
                raise ValueError(f"the gradient has shape {start.shape}, the tensor {self.shape}")
        _walk(self.node, start)

    def _collect(self, grad):
        """Add an arriving gradient to .grad, into the place laid out for it if there is one."""
        if self.grad is not None:
            self.grad += grad
            return
        self.grad = self.storage if self.storage is not None else memory.empty_like(grad)
        self.grad[...] = grad


def as_array(data, dtype=None):
    """An array of anything array-like: arrays as they are, Python floats as float32, integers as int64."""
    if isinstance(data, Tensor):
        data = data.data
    if not hasattr(data, "dtype"):
        data = np.asarray(data)
        data = data.astype(np.float32) if data.dtype == np.float64 else data
    elif not isinstance(data, np.ndarray) and np.ndim(data) == 0:
        data = np.asarray(data)                    # a NumPy scalar
    if data.dtype == object:
        raise TypeError("a tensor needs numbers in a regular shape; this is a ragged or foreign object")
    return data if dtype is None or data.dtype == dtype else data.astype(dtype)


def _to_host(array):
    return array if isinstance(array, np.ndarray) else array.get()


# ---- recording ----------------------------------------------------------------------------------------

class _Tape(threading.local):
    on = True


_tape = _Tape()


@contextlib.contextmanager
def no_grad():
    """Record nothing inside the `with` block or the decorated function (of this thread)."""
    before, _tape.on = _tape.on, False
    try:
        yield
    finally:
        _tape.on = before


def record(data, parents, vjp):
    """The tensor of a result, with its node on the tape if any parent wants a gradient.

    vjp: a closure dy -> gradients of the parents, one each, None where none is wanted or defined. It may
    return dy itself or views of it; it must not change dy.
    """
    result = Tensor(data)
    if _tape.on and any(parent.node for parent in parents):
        result.node = Node(data, tuple(parent.node for parent in parents), vjp)
    return result


def record_all(data, parents, vjp):
    """`record` for an operation with several results: a closure (dy₁, dy₂, …) -> gradients of the parents.

    A result that the loss does not depend on has the gradient None.
    """
    results = tuple(Tensor(array) for array in data)
    if _tape.on and any(parent.node for parent in parents):
        joint = Node(None, tuple(parent.node for parent in parents), vjp)
        for slot, result in enumerate(results):
            result.node = Node(result.data, (joint,), slot=(slot, len(results)))
    return results


def _walk(root, start):
    uses = {}                                      # leaf -> gradients still to come
    order = _reachable(root, uses)
    grads = {root: (start, False)}                 # node -> (sum so far, may it be added to in place?)
    for node in order:
        grad, _ = grads.pop(node, (None, None))
        if node.leaf is not None:
            if node is root:
                _arrive(node, grad, uses)
            continue
        if node.slot is not None:
            slot, count = node.slot
            grads.setdefault(node.parents[0], ([None] * count, True))[0][slot] = grad
            continue
        arriving = node.pull(grad) if grad is not None else (None,) * len(node.parents)
        for parent, g in zip(node.parents, arriving, strict=True):
            if parent is None:
                continue
            if parent.leaf is not None:
                _arrive(parent, g, uses)
            elif g is not None:
                grads[parent] = _add(grads.get(parent), g)


def _reachable(root, uses):
    """All nodes under root, youngest first: every use of a tensor comes before the tensor."""
    seen = {root}
    todo = [root]
    uses[root] = 1
    while todo:
        for parent in todo.pop().parents:
            if parent is None:
                continue
            uses[parent] = uses.get(parent, 0) + 1
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return sorted(seen, key=lambda node: -node.index)


def _add(total, grad):
    """(2): the first gradient is borrowed, the second makes a new sum, later ones are added in place."""
    if total is None:
        return grad, False
    total, owned = total
    if not owned:
        return total + grad, True
    total += grad
    return total, True


def _arrive(node, grad, uses):
    tensor = node.leaf
    if grad is not None:
        tensor._collect(grad)
    uses[node] -= 1
    if uses[node] == 0 and tensor.on_grad:
        tensor.on_grad(tensor)


def method(*names):
    """Attach a function to Tensor: @method, or @method("__add__") under other names."""
    def attach(function, names=names):
        for name in names:
            setattr(Tensor, name, function)
        return function
    if len(names) == 1 and callable(names[0]):
        return attach(names[0], (names[0].__name__,))
    return attach


def as_tensor(value, like):
    """A tensor as it is; anything else as a constant tensor: Python numbers take the type of `like`.

    Raises TypeError where two floating types would meet: nothing is promoted silently.
    """
    if not isinstance(value, Tensor):
        is_number = isinstance(value, (int, float)) and not hasattr(value, "dtype")
        value = Tensor(_scalar(value, like.data) if is_number else value)
    if value.dtype != like.dtype and np.issubdtype(value.dtype, np.floating):
        raise TypeError(f"{value.dtype} meets {like.dtype}: convert one of them first")
    return value


def _scalar(number, like):
    array = memory.empty_like(like, shape=())
    array[...] = number
    if array.dtype.kind in "iu" and array != number:
        raise TypeError(f"{number} is no {array.dtype}: convert the tensor to a floating type first")
    return array
