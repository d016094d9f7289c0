"""Lesson 3.0 · Module: a model is its attributes

Needs memory, tensor, watch. Used by layers, optim, every model.

Idea      A model is a tree of parts, and the parts own arrays that training changes. No
          registration is needed: the attributes are the tree. A Tensor is a parameter, an array is
          a buffer (saved, not trained), a Module or a list of Modules is a child. Everything else
          that one wants to do to a model — list it, save it, freeze it, put another layer in, look
          at what flows through — is a walk over that tree.
Math      name of a parameter = attribute names on the way to it, joined by dots:
          h.0.attn.c_attn.weight
Shapes    Flat storage: parameters of sizes n₁ … nₖ as views into one array of Σ nᵢ elements,
          gradients into another of the same layout: parameter i lies at [Σ_{j<i} nⱼ, Σ_{j≤i} nⱼ).
Pitfalls  A tied parameter (the embedding that is also the output layer) is one tensor under two
          names. It must be listed once, or the optimizer steps twice. The first name wins.
          Only attributes and lists of Modules are looked into: a Tensor in a list is not found, so
          it would be neither trained nor saved.
          `replace` changes the tree; references kept elsewhere, an optimizer's among them, still
          point to the old part. Laying parameters out flat rebinds their arrays: do it before
          anything keeps views of the old ones.
Cost      A call of a module costs one Python call more than its forward.
Try       build it    summary(model): a table of names, shapes and parameter counts, sums per child.
          break it    list a tied parameter twice. Which test of tests/nn/test_module.py notices?
          measure it  one optimizer step over flat storage against one kernel call per parameter.
See       Rajbhandari et al. 2020 (ZeRO) and PyTorch's DistributedDataParallel for what flat
          gradients are good for
"""

import contextlib
import itertools
from typing import NamedTuple

import numpy as np

from ..memory import beside, empty_like, kinds
from ..tensor import Tensor
from ..watch import Listener, listening, state, tell, told


class Call(NamedTuple):
    """One recorded call: the module's dotted name, the module, its arguments, what it returned."""

    name: str
    module: object
    inputs: tuple
    output: object


class Module:
    """The base of layers and models: subclasses set attributes in __init__, define forward."""

    training = True                                # False: dropout is off (eval mode)

    def __call__(self, *args, **options):
        if not state.listeners:
            return self.forward(*args, **options)
        tell("module_called", self, args)
        output = self.forward(*args, **options)
        tell("module_returned", self, args, output)
        return output

    def forward(self, *args, **options):
        """What the module computes."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    # ---- the tree ----

    def children(self):
        """(name, module) of the direct children; members of a list are called list.0, list.1, …"""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                for i, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{name}.{i}", item

    def walk(self, prefix=""):
        """(dotted name, module) of this module, "" at the root, and all below, parents first."""
        yield prefix, self
        for name, child in self.children():
            yield from child.walk(f"{prefix}.{name}" if prefix else name)

    def _attributes(self, kind):
        seen = set()
        for path, module in self.walk():
            for name, value in vars(module).items():
                if isinstance(value, kind) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self):
        """(dotted name, tensor) of every parameter; a tied one once, under its first name."""
        return self._attributes(Tensor)

    def parameters(self):
        """The parameters without their names."""
        return [tensor for _, tensor in self.named_parameters()]

    def parameter_count(self):
        """How many numbers training may change."""
        return sum(tensor.size for tensor in self.parameters() if tensor.requires_grad)

    def find(self, name):
        """The module with this dotted name. Raises KeyError that lists similar names."""
        modules = dict(self.walk())
        if name not in modules:
            near = [known for known in modules if known.endswith(name.split(".")[-1])][:3]
            hint = f"; there is {', '.join(near)}" if near else ""
            raise KeyError(f"no module is called {name!r}{hint}")
        return modules[name]

    def replace(self, name, module):
        """Put another module in the place of the one called `name`; returns the old one."""
        old = self.find(name)
        path, _, last = name.rpartition(".")
        if last.isdigit():  # a member of a list: the list's name comes before the number
            path, _, listed = path.rpartition(".")
            getattr(self.find(path), listed)[int(last)] = module
        else:
            setattr(self.find(path), last, module)
        return old

    # ---- modes, state ----

    def train(self, on=True):
        """Switch the tree to training mode, with on=False to evaluation mode; returns it."""
        for _, module in self.walk():
            module.training = on
        return self

    def eval(self):
        """Switch the tree to evaluation mode; returns the module."""
        return self.train(False)

    def state(self):
        """Name -> array of all parameters and buffers, not copied: what a checkpoint holds."""
        arrays = {name: tensor.data for name, tensor in self.named_parameters()}
        return arrays | dict(self._attributes(kinds()))

    def load_state(self, arrays):
        """Copy arrays, name -> array, into the parameters and buffers.

        Raises ValueError in one sentence for missing or unknown names and for shapes that differ.
        """
        mine = self.state()
        missing, unknown = sorted(mine.keys() - arrays.keys()), sorted(arrays.keys() - mine.keys())
        if missing or unknown:
            raise ValueError("these weights are of another model: " + "; ".join(
                f"{word} {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
                for word, names in (("missing", missing), ("unknown", unknown)) if names))
        for name, array in mine.items():
            if arrays[name].shape != array.shape:
                raise ValueError(f"these weights are of another model: {name} has shape "
                                 f"{arrays[name].shape}, here it is {array.shape}")
        tensors = dict(self.named_parameters())
        for name, array in mine.items():
            if name in tensors:
                tensors[name].assign(arrays[name])
            else:
                array[...] = beside(arrays[name], array)

    def zero_grad(self):
        """Forget all gradients."""
        for tensor in self.parameters():
            tensor.zero_grad()

    def __repr__(self):
        own = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        inside = ", ".join(f"{name}={value.shape}" for name, value in own.items())
        return f"{type(self).__name__}({inside or f'{self.parameter_count():,} parameters'})"


class _Recorder(Listener):
    """Keeps a Call for every call of a module that has a name."""

    def __init__(self, names, only):
        self.names, self.only, self.calls = names, only, []

    def module_returned(self, module, inputs, output):
        """Keep the call, if it is one of those that are wanted."""
        name = self.names.get(id(module))
        if name is not None and (self.only is None or self.only(name, module)):
            self.calls.append(Call(name, module, inputs, output))


@contextlib.contextmanager
def recording(model, only=None):
    """Collect a Call for every module call inside the `with` block, innermost first.

    only: a predicate (name, module) -> bool. Drawing activations begins with this list.
    """
    recorder = _Recorder({id(module): name for name, module in model.walk()}, only)
    with listening(recorder):
        yield recorder.calls


class Flat:
    """Parameters and their gradients laid out as views of one flat array each.

    tensors: leaves of one type on one device. Their arrays are moved; `.data` (Σ nᵢ,) and `.grad`
    (Σ nᵢ,) hold them all, and backward() writes each gradient straight into its place.
    """

    def __init__(self, tensors):
        self.tensors = list(tensors)
        types = {tensor.dtype for tensor in self.tensors}
        if len(types) != 1:
            found = ", ".join(sorted(map(str, types))) or "none"
            raise TypeError(f"flat storage holds parameters of one type, not {found}")
        sizes = [tensor.size for tensor in self.tensors]
        self.bounds = [0, *itertools.accumulate(sizes)]
        self.data = empty_like(self.tensors[0].data, shape=(sum(sizes),))
        self.grad = empty_like(self.data)
        places = zip(self.tensors, self.views(self.data), self.views(self.grad), strict=True)
        for tensor, data, grad in places:
            data[...] = tensor.data
            tensor.data, tensor.storage = data, grad
            if tensor.grad is not None:
                grad[...] = tensor.grad
                tensor.grad = grad

    def views(self, flat):
        """One view, in its tensor's shape, of each tensor's part of a flat array of this layout."""
        bounds = zip(self.tensors, self.bounds, self.bounds[1:], strict=False)
        return [flat[low:high].reshape(tensor.shape) for tensor, low, high in bounds]

    def gather(self):
        """The flat gradient; parameters that got none count as zero."""
        for tensor in self.tensors:
            if tensor.grad is None:
                told(np.copyto, tensor.storage, 0)
        return self.grad
