"""Lesson 1.7 · Tape: what was computed from what, and the walk back

Needs memory, watch. Used by tensor.

Idea      While operations compute, each leaves a node: who its parents are, and a function that
          turns the gradient of its result into the gradients of the parents. All nodes together
          are the tape. Walking them from the youngest to the oldest gives every gradient. The
          scalar lesson does the same with single numbers; here a node stands for a whole array
          operation, and two things are new: memory is given back on the way, and a mistake that
          would give wrong numbers (a kept array was overwritten) is found. A vjp (vector-Jacobian
          product) is the function of a node: it multiplies the gradient of an operation's result by
          the operation's derivative, and so makes the gradients of what went into the operation.
Math      For y = f(x₁, …, xₖ) and a loss ℓ, with dy = ∂ℓ/∂y: the vector-Jacobian product
          dxᵢ = dyᵀ · ∂y/∂xᵢ                                                                   (1)
          where the Jacobian ∂y/∂x has a row for each element of y and a column for each of x. An
          operation knows this product by a formula of its own: the matrix is never made.
          A tensor used several times gets the sum of what its uses send back                  (2)
          A result is younger than its parents: index(y) > index(xᵢ)                           (3)
Shapes    A gradient has the shape and the type of its tensor; every node checks what it hands on.
Pitfalls  The order must put every use of a tensor before the tensor. Creation numbers give it for
          free, by (3). No recursion, so 10⁵ nodes in a row are no problem.
          The first gradient that arrives is borrowed: a view of it, or the same array, may be on
          its way elsewhere too. Only a sum made here may be added to in place.
          An array that a vjp keeps must not be overwritten before the walk. Nodes note the versions
          of its storage and refuse a mismatch. A write that goes past the library, such as
          t.data[0] = 1, is seen under TG_CHECK only, by comparing checksums.
          A tensor and its node must not hold each other: such a circle is freed only when Python's
          garbage collector comes by, and it does not count megabytes. So a leaf is held weakly.
Cost      A few µs a node. The arrays that closures keep are the memory of training: a closure is
          dropped as soon as it has run, and with it what it kept.
Try       build it    a report that prints the nodes under a loss, youngest first, with shapes.
          break it    in _add, add to the first gradient in place. Which tests of
                      tests/test_tensor.py notice?
          measure it  with memory.Meter() as m: run a forward and a backward pass. When is the peak?
See       Griewank, Walther 2008, ch. 3 · HIPS autograd (accumulation) · Chainer (rank as order)
"""

import itertools
import operator
import os
import types
import weakref
import zlib

import numpy as np

from . import memory, watch


class Node:
    """What the tape knows of one tensor that wants a gradient.

    data      its array: the shape and the type that its gradient must have
    parents   the nodes of what it was computed from, None for those that want no gradient
    vjp       the closure of (1): gradient -> one gradient a parent. Absent in leaves and slots.
    leaf      the tensor itself, where nothing computed it and its gradient is to be kept
    slot      (i, n): the i-th of n results of its one parent, which has the vjp
    """

    __slots__ = ("index", "shape", "dtype", "parents", "vjp", "name", "where", "kept", "leaf",
                 "slot", "__weakref__")
    created = itertools.count()

    def __init__(self, data, parents=(), vjp=None, leaf=None, slot=None):
        self.index = next(Node.created)                                                       # (3)
        self.shape, self.dtype = (data.shape, data.dtype) if data is not None else (None, None)
        self.parents, self.vjp, self.slot = parents, vjp, slot
        self.leaf = weakref.ref(leaf) if leaf is not None else None
        self.name = self.where = self.kept = None
        if vjp:
            self.name, self.where, self.kept = vjp.__qualname__, watch.caller(), _kept_by(vjp)
            if watch.state.listeners:
                watch.tell("node_recorded", self)

    @property
    def op(self):
        """The name of the function that made the closure: gelu.<locals>.vjp is of gelu."""
        return self.name.split(".<locals>.")[-2:][0].rpartition(".")[2] if self.name else "leaf"

    def pull(self, grad):
        """Turn the gradient of the result into those of the parents, (1); forget the closure."""
        vjp, kept, self.vjp, self.kept = self.vjp, self.kept, None, None
        if vjp is None:
            raise RuntimeError(f"{self}: backward() has already been here and dropped what it "
                               "needs; run the forward pass again, or add the losses before one "
                               "backward()")
        for array in kept:
            if _has_changed(*array):
                raise RuntimeError(f"{self}: an array of shape {array[0].shape} that backward() "
                                   "still needs was overwritten in the meantime; write to a copy, "
                                   "or after backward()")
        if watch.state.listeners:
            watch.tell("gradient_arrived", self, grad)
        grads = vjp(*grad) if self.shape is None else vjp(grad)
        if not isinstance(grads, (tuple, list)) or len(grads) != len(self.parents):
            raise RuntimeError(f"{self}: its vjp must return a tuple of {len(self.parents)}, one "
                               "gradient a parent")
        for parent, g in zip(self.parents, grads, strict=True):
            if parent is None or g is None:
                continue
            if g.shape != parent.shape or g.dtype != parent.dtype:
                raise RuntimeError(f"{self}: the gradient of a parent is {g.dtype}{g.shape}, the "
                                   f"parent itself {parent.dtype}{parent.shape}")
        if watch.state.listeners:
            watch.tell("gradient_sent", self, grads)
        return grads

    def __repr__(self):
        if self.slot is not None:
            return repr(self.parents[0])
        if not self.where:
            return self.op
        return f"{self.op} at {os.path.basename(self.where[0])}:{self.where[1]}"


# ---- what a closure keeps, and whether it has been overwritten ----------------------------------


def _has_changed(array, holder, version, checksum):
    """Has it been written into, or has the tensor that held it got another array?"""
    if holder is not array and holder.data is not array:
        return True
    if memory.version(array) != version:
        return True
    return checksum is not None and _checksum(array) != checksum


def _kept_by(vjp):
    """The arrays that a closure keeps, also inside tensors, lists and functions, as they are now:
    (array, the tensor through which the closure reaches it or the array itself, version, checksum
    or None where TG_CHECK is off). Plain tuples: there are several a node."""
    found, functions, todo = [], [], [vjp]
    while todo:
        item = todo.pop()
        kind = _kinds[item.__class__]
        if kind is None:
            continue
        if kind == "several":
            todo.extend(item)
        elif kind == "function":
            if item not in functions:  # a function may be in its own closure
                functions.append(item)
                todo.extend(_inside(item))
        else:
            array = item.data if kind == "tensor" else item
            checksum = _checksum(array) if watch.state.check else None
            found.append((array, item, memory.version(array), checksum))
    return found


class _Kinds(dict):
    """class -> what _kept_by does with its things, None where they keep no array."""

    def __missing__(self, cls):
        bases = {"array": memory.kinds(), "several": (tuple, list), "function": types.FunctionType}
        found = [kind for kind, base in bases.items() if issubclass(cls, base)]
        self[cls] = (*found, "tensor" if hasattr(cls, "node") else None)[0]
        return self[cls]


_kinds = _Kinds()


def _inside(function):
    """What a function keeps: the variables it uses from outside, and its default arguments."""
    kept = list(function.__defaults__ or ())
    for cell in function.__closure__ or ():
        try:
            kept.append(cell.cell_contents)
        except ValueError:  # a variable that nobody has set yet
            continue
    return kept


def _checksum(array):
    return zlib.crc32(np.ascontiguousarray(memory.on_host(array)))


# ---- the walk -----------------------------------------------------------------------------------


def walk(root, start):
    """Send the gradient `start` of the node `root` back to every leaf it was computed from."""
    uses = {}  # leaf -> gradients still to come
    order = _reachable(root, uses)
    grads = {root: (start, False)}  # node -> (sum so far, may it be added to in place?)
    for node in order:
        grad, _ = grads.pop(node, (None, None))
        if node.leaf is not None:
            if node is root:
                _arrive(node, grad, uses)
        elif node.slot is not None:
            slot, count = node.slot
            if grad is not None:
                joint = grads.setdefault(node.parents[0], ([None] * count, True))
                joint[0][slot] = grad
        else:
            _send(node, grad, grads, uses)


def _send(node, grad, grads, uses):
    """Hand on what one node makes of its gradient. Nothing is kept here when this returns."""
    arriving = node.pull(grad) if grad is not None else (None,) * len(node.parents)
    for parent, g in zip(node.parents, arriving, strict=True):
        if parent is None:
            continue
        if parent.leaf is not None:
            _arrive(parent, g, uses)
        elif g is not None:
            grads[parent] = _add(grads.get(parent), g)


def _reachable(root, uses):
    """All nodes under root that hand gradients on, youngest first, (3): every use of a tensor comes
    before the tensor. Counts the uses of every node."""
    seen = {root}
    todo = [root]
    uses[root] = 1
    while todo:
        for parent in todo.pop().parents:
            if parent is None:
                continue
            uses[parent] = uses.get(parent, 0) + 1
            if parent.leaf is None and parent not in seen:  # leaves hand nothing on
                seen.add(parent)
                todo.append(parent)
    return sorted(seen, key=operator.attrgetter("index"), reverse=True)


def _add(total, grad):
    """(2): the first gradient is borrowed, the second makes a new sum, later ones are added."""
    if total is None:
        return grad, False
    total, owned = total
    place = total if owned else memory.empty_like(total)
    watch.told(np.add, total, grad, place, writes=2)
    return place, True


def _arrive(node, grad, uses):
    """A leaf collects its gradient, and says so when the last one has come."""
    uses[node] -= 1
    tensor = node.leaf()
    if tensor is None:  # nobody holds it any more, so nobody can look at its gradient
        return
    if grad is not None:
        tensor._collect(grad)
    if uses[node] == 0 and tensor.on_grad:
        tensor.on_grad(tensor)
