"""Lesson 1.8 · Tensor: arrays that remember where they came from

Needs memory, tape, watch. Used by gradcheck, every op, every layer.

Idea      A Tensor is an array plus, if a gradient is wanted, a node of the tape. Operations take
          tensors, compute with their arrays and record a tensor for the result; backward() walks
          the tape. An operation is an ordinary function anywhere in the library: it calls kernels,
          and leaves a closure that knows the gradient. `@method` hangs it on Tensor as well, so
          that x.relu() and relu(x) are the same.
Math      backward() of a scalar ℓ:  leaf.grad ← leaf.grad + ∂ℓ/∂leaf   for every leaf         (1)
          backward(g) of any y:      leaf.grad ← leaf.grad + gᵀ·∂y/∂leaf                       (2)
Shapes    .grad has the shape and the type of .data. A scalar is an array of shape ().
Pitfalls  Gradients are added up, by (1): zero_grad() between steps, or the second step goes along
          the sum of both. What the user sees as .grad is always a copy, owned by that tensor alone.
          Tensor(array) and detach() share memory with the array: they do not copy.
          Python floats become float32, NumPy's arrays keep their type; two floating types never
          meet in an operation: 0.5 * x is fine for any floating x, np.float64(0.5) * x is
          refused for float32.
          Backward kernels work on plain arrays, so a gradient has no tape of its own. Second
          derivatives are the scalar lesson's, and differences of gradients.
Cost      A few µs for each result, beside the operation itself.
Try       build it    retain_grad(): let an inner tensor keep its gradient as well.
          break it    let _collect keep what arrives. Which test of tests/test_tensor.py notices?
          measure it  python -m tinygrad_edu.tensor: a node more, how many µs more?
See       HIPS autograd · PyTorch, "Autograd mechanics" (leaves, versions, in-place writes)
"""

import contextlib
import threading

import numpy as np

from . import memory, watch
from .tape import Node, walk


class Tensor:
    """An n-dimensional array that can take part in a computation whose gradient is wanted.

    data: an array (kept as it is, not copied) or anything array-like: see `as_array`.
    requires_grad: collect a gradient in .grad when backward() is called on something made of it.
    """

    __slots__ = ("data", "grad", "node", "storage", "on_grad", "__weakref__")
    __array_priority__ = 1000  # array * tensor is the tensor's business

    def __init__(self, data, requires_grad=False, dtype=None):
        self.data = as_array(data, dtype)
        self.grad = None  # an array like data, owned by this tensor alone
        self.node = None
        self.storage = None  # where the gradient is to be laid, if it has a place (nn.module)
        self.on_grad = None  # called with this tensor when its gradient is complete
        if requires_grad:
            self.requires_grad = True

    @property
    def requires_grad(self):
        """Does backward() reach this tensor?"""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, wanted):
        if bool(wanted) == self.requires_grad:
            return
        if self.node is not None and self.node.leaf is None:
            raise RuntimeError("requires_grad can be set on leaves only; use detach() to cut a "
                               "result off the tape")
        if wanted and not np.issubdtype(self.dtype, np.floating):
            raise TypeError(f"only floating-point tensors have a gradient, not {self.dtype}")
        self.node = Node(self.data, leaf=self) if wanted else None

    # ---- looking at it ----

    shape = property(lambda self: self.data.shape, doc="The size along each axis.")
    dtype = property(lambda self: self.data.dtype, doc="The element type.")
    ndim = property(lambda self: self.data.ndim, doc="The number of axes.")
    size = property(lambda self: self.data.size, doc="The number of elements.")

    def __len__(self):
        return len(self.data)

    def __repr__(self):
        origin = ""
        if self.node:
            origin = ", requires_grad" if self.node.leaf else f", from {self.node}"
        values = np.array2string(self.numpy(), precision=4, threshold=20, edgeitems=3, prefix="  ")
        return f"Tensor({self.dtype} {self.shape}{origin}\n  {values})"

    def __format__(self, spec):
        return format(self.item(), spec) if spec else repr(self)

    def item(self):
        """The one element of a tensor of size 1, as a Python number. ValueError for others."""
        watch.looks("item() of a tensor")
        return self.data.item()

    def numpy(self):
        """The elements as a NumPy array, which shares memory with a tensor on the CPU."""
        return memory.on_host(self.data)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.numpy(), dtype, copy=copy)

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
        """Overwrite the elements in place, outside the tape. Pending backward passes will refuse.

        values: array-like of the same shape. ValueError for another shape, TypeError for floats
        that are to become integers.
        """
        values = as_array(values)
        if values.shape != self.shape:
            raise ValueError(f"cannot assign values of shape {values.shape} to a tensor of shape "
                             f"{self.shape}")
        np.copyto(self.data, memory.beside(values, self.data), casting="same_kind")
        memory.wrote(self.data)

    def zero_grad(self):
        """Forget the gradient."""
        self.grad = None

    def backward(self, grad=None):
        """Add ∂self/∂leaf to the .grad of every leaf that self was computed from: (1).

        grad: the gradient to start with, of this tensor's shape, (2); 1 by default, for a scalar.
        Raises RuntimeError without a tape, on a second walk, or where a kept array was overwritten.
        """
        if self.node is None:
            raise RuntimeError("backward() on a tensor that does not depend on anything with "
                               "requires_grad=True")
        if grad is None and self.size != 1:
            raise RuntimeError(f"backward() on a tensor of shape {self.shape} needs the gradient "
                               "to start with: backward(grad), or reduce it to a scalar first")
        if grad is None:
            start = memory.empty_like(self.data)
            start[...] = 1
        else:
            start = memory.beside(as_array(grad, self.dtype), self.data)
            if start.shape != self.shape:
                raise ValueError(f"the gradient has shape {start.shape}, the tensor {self.shape}")
        walk(self.node, start)

    def _collect(self, grad):
        """Add an arriving gradient to .grad, into the place laid out for it if there is one."""
        if self.grad is None:
            self.grad = self.storage if self.storage is not None else memory.empty_like(grad)
            watch.told(np.copyto, self.grad, grad)
        else:
            watch.told(np.add, self.grad, grad, self.grad)
        memory.wrote(self.grad)  # somebody may have computed with the gradient of the last step


def as_array(data, dtype=None):
    """An array of anything array-like, of the type `dtype` if one is given.

    An array stays as it is and is not copied. What has a type keeps it; plain Python numbers, and
    lists of them, become float32, int64 or bool. Raises TypeError for what are not real numbers,
    ValueError for lists whose rows differ in length.
    """
    if isinstance(data, Tensor):
        data = data.data
    if type(data) is not np.ndarray and not hasattr(data, "__cuda_array_interface__"):
        data = _from_anything(data)
    if data.dtype.kind not in "biuf":
        raise TypeError(f"a tensor needs real numbers, not {data.dtype}")
    if dtype is None and not data.dtype.isnative:  # bytes in another machine's order, from a file
        dtype = data.dtype.newbyteorder("=")
    return data if dtype is None or data.dtype == dtype else data.astype(dtype)


def _from_anything(data):
    first = data
    while isinstance(first, (list, tuple)) and len(first) > 0:
        first = first[0]
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"a tensor needs rows of equal length ({error})") from None
    is_plain = isinstance(first, (float, list, tuple)) and not isinstance(first, np.generic)
    return array.astype(np.float32) if is_plain and array.dtype == np.float64 else array


# ---- recording ----------------------------------------------------------------------------------


class _Recording(threading.local):
    on = True


_recording = _Recording()


@contextlib.contextmanager
def no_grad():
    """Record nothing inside the `with` block, or with @no_grad() in the function, of this thread.

    A generator function must not be decorated (it runs after the decorator is done), and must not
    yield inside the block (what its caller does would not be recorded either).
    """
    before, _recording.on = _recording.on, False
    try:
        yield
    finally:
        _recording.on = before


def record(data, parents, vjp):
    """The tensor of a result, with its node on the tape if any parent wants a gradient.

    vjp: a closure dy -> gradients of the parents, one each, None where none is wanted or defined.
    It may return dy itself or views of it; it must not change dy.
    """
    result = Tensor(data)
    if _recording.on and any(nodes := tuple([parent.node for parent in parents])):
        result.node = Node(result.data, nodes, vjp)
    return result


def record_all(data, parents, vjp):
    """`record` for several results: a closure (dy₁, dy₂, …) -> gradients of the parents.

    A result that the loss does not depend on has the gradient None.
    """
    results = tuple(Tensor(array) for array in data)
    if _recording.on and any(parent.node for parent in parents):
        joint = Node(None, tuple(parent.node for parent in parents), vjp)
        for slot, result in enumerate(results):
            result.node = Node(result.data, (joint,), slot=(slot, len(results)))
    return results


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
    """A tensor as it is; anything else as a constant. Python numbers take the type of `like`.

    Raises TypeError where two floating types would meet: nothing is promoted silently.
    """
    if not isinstance(value, Tensor):
        value = Tensor(value if hasattr(value, "dtype") else _constant(value, like.data))
    if value.data.dtype != like.data.dtype and np.issubdtype(value.dtype, np.floating):
        raise TypeError(f"{value.dtype} meets {like.dtype}: convert one of them first")
    return value


def _constant(value, like):
    """Python numbers, or lists of them, as an array of the type and on the device of `like`."""
    host = np.asarray(value, np.float64 if like.dtype.kind == "f" else None)
    array = host.astype(like.dtype)
    if array.dtype.kind != "f" and (array != host).any():
        raise TypeError(f"{value} is no {array.dtype}: convert the tensor to a floating type first")
    return memory.beside(array, like)


def _measure(length=1000, rounds=30):
    from statistics import median
    from time import perf_counter

    def same(x):
        def vjp(dy):
            return (dy,)
        return record(x.data, (x,), vjp)

    times = []
    for _ in range(rounds):
        start = perf_counter()
        y = Tensor(1.0, requires_grad=True)
        for _ in range(length):
            y = same(y)
        y.backward()
        times.append(perf_counter() - start)
    return median(times) / length * 1e6


if __name__ == "__main__":
    print(f"node_us={_measure():.2f}")
