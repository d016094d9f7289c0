"""Lesson 8.3 · Hunt: where the first NaN came from

Needs growth, loop, watch. Used by scripts/train_gpt.py.

Idea      A run that was fine for hours prints `loss nan`. NaN (not a number) is what floating-point
          arithmetic answers where no number is right. It spreads: whatever is computed with it is
          NaN too, so that one bad element of one layer reaches the loss, from there every
          gradient, and with the next step every weight. When it is seen it is everywhere. The one
          interesting place is the first. Since the batches and dropout of a step are functions of
          (seed, step), the step can be run again, this time with somebody who looks at the result
          of every kernel, forward and backward, and knows in which layer it ran.
Math      0/0, ∞ − ∞, 0·∞, ∞/∞, √−1, ln −1                               are NaN                 (1)
          1/0, ln 0, and every result above 3.4·10³⁸ (float32), as e⁸⁹   are ±∞                  (2)
          NaN ∘ x = NaN for + − · /; of all comparisons with NaN only ≠ holds, even NaN ≠ NaN    (3)
          Mostly (2) comes first, and an innocent kernel further on makes NaN of it by (1): softmax
          subtracts the maximum, ∞ − ∞.
Shapes    Arrays are looked at whole; what is told of them is their largest finite magnitude, and
          how many elements are NaN or infinite.
Pitfalls  Not every infinity is a mistake: a mask may be −∞ before softmax. So the hunt ends with
          NaN; an infinity is accused only if a kernel that got one made NaN of it, or if no NaN
          came.
          fmax(0, NaN) is 0 in C, np.maximum makes NaN of it: a NaN may also disappear on the way.
          A small epsilon is no cure: √(v + 10⁻⁵⁰) is √v in float32.
          A loss may explode and stay finite. Then nothing is "first"; lesson growth says which
          layer has grown most.
Cost      A step, and a look at every output of every kernel. Without a hunt: a flag.
Try       build it    a listener that finds the first number above 10⁴: what float16 will not hold.
          break it    let the reference of layernorm_forward forget eps, fill a GPT's embeddings
                      with zeros and call hunt under TG_BACKEND=numpy. Is this kernel named?
          measure it  time a step, then the same step within listening(Hunter(model)).
See       IEEE 754, sections 6 and 7 · Goldberg 1991, What every computer scientist should know
          about floating-point arithmetic · PyTorch's anomaly detection, which looks at the backward
          pass alone
"""

import os
from typing import NamedTuple

import numpy as np

from ..train.loop import forward_and_backward
from ..watch import Listener, caller, listening
from .growth import grown_most, growth_table, layer_sizes, untouched


class Finding(NamedTuple):
    """Where a value that is no finite number was first seen."""

    value: str                                     # "NaN" or "infinity"
    when: str                                      # "forward", "backward", "before the step"
    layer: str                                     # dotted name, "" outside of all layers
    culprit: str                                   # "kernel gelu_forward (body numba)"
    where: str                                     # file:line of the model's code, or ""
    inputs: tuple                                  # a line for each array that went in

    def __str__(self):
        layer = f"in layer {self.layer}" if self.layer else "outside of all layers"
        place = f", called at {self.where}" if self.where else ""
        return f"{self.value} {self.when}, {layer}: {self.culprit}{place}"


class Hunter(Listener):
    """Looks at everything that is computed; keeps the first infinity and the first NaN."""

    def __init__(self, model):
        # A module under two names goes by the first.
        self.names = {id(module): name for name, module in reversed(list(model.walk()))}
        self.running = []                          # names of the modules that are being called
        self.recorded_in = {}                      # index of a node -> name of its layer
        self.node = None                           # whose vjp is running
        self.part = ""                             # of the batch, where it has several
        self.found = {}                            # "NaN" or "infinity" -> Finding

    # ---- what is heard ----

    def module_called(self, module, inputs):
        """Forward: go into a layer."""
        self.running.append(self.names.get(id(module), type(module).__name__))

    def module_returned(self, module, inputs, output):
        """Forward: look at what no kernel has made, and leave the layer."""
        for result in output if isinstance(output, tuple) else (output,):
            self.look(getattr(result, "data", result), "arithmetic beside the kernels")
        self.running.pop()

    def node_recorded(self, node):
        """Backward, the node will belong to the layer that runs now."""
        self.recorded_in[node.index] = self.running[-1] if self.running else ""

    def gradient_arrived(self, node, grad):
        """Backward: go into an operation; what arrives is a sum over the uses of its result."""
        self.node = node
        for g in grad if isinstance(grad, list) else (grad,):
            self.look(g, f"the sum of the gradients of the result of {node.op}")

    def gradient_sent(self, node, grads):
        """Backward: leave an operation."""
        for g in grads:
            self.look(g, f"arithmetic beside the kernels in the gradient of {node.op}")
        self.node = None

    def kernel_ran(self, body, args):
        """Look at the outputs of a kernel."""
        kernel = body.kernel
        inputs = [pair for i, pair in enumerate(zip(kernel.parameters, args, strict=True))
                  if i not in kernel.outputs]
        for i in kernel.outputs:
            self.look(args[i], f"kernel {kernel.name} (body {body.backend})", inputs)

    # ---- what is made of it ----

    def place(self):
        """What runs now: forward or backward, the layer, file:line of the code that called it."""
        if self.node and not self.running:
            direction, layer = "backward", self.recorded_in.get(self.node.index, "")
        else:
            direction, layer = "forward", self.running[-1] if self.running else ""
        file, line = self.node.where if self.node else caller()
        return direction, layer, f"{os.path.basename(file)}:{line}"

    def look(self, array, culprit, inputs=(), place=None):
        """Note who made an array, if it has the first NaN or the first infinity."""
        value = None if "NaN" in self.found else what_is_wrong(array)
        if value and value not in self.found:
            direction, layer, where = place or self.place()
            lines = tuple(describe(*pair) for pair in inputs if is_floating(pair[1]))
            self.found[value] = Finding(value, direction + self.part, layer, culprit, where, lines)

    def suspects(self):
        """The findings that matter, in the order in which they came: see the Pitfalls."""
        infinity, nan = (self.found.get(value) for value in ("infinity", "NaN"))
        inputs = nan.inputs if nan else ()
        if inputs and not any("infinite" in line for line in inputs):
            return [nan]
        return [finding for finding in (infinity, nan) if finding]


# ---- arrays -------------------------------------------------------------------------------------


def is_floating(array):
    """Is it an array, and one that can hold NaN?"""
    return getattr(getattr(array, "dtype", None), "kind", "") == "f"


def what_is_wrong(array):
    """"NaN" or "infinity" if the array has one of them, None if all is well or it is no array."""
    if not is_floating(array) or np.isfinite(array).all():
        return None
    return "NaN" if np.isnan(array).any() else "infinity"


def describe(name, array):
    """A line on an array: x float32 (16, 192), largest 3.1e+05, 4 NaN, 2 infinite."""
    finite = np.abs(array[np.isfinite(array)])
    line = f"{name} {array.dtype} {array.shape}, largest {float(finite.max(initial=0.0)):.3g}"
    counts = ((np.isnan(array).sum(), "NaN"), (np.isinf(array).sum(), "infinite"))
    return line + "".join(f", {int(count)} {word}" for count, word in counts if count)


# ---- the hunt -----------------------------------------------------------------------------------


def hunt(model, batches, seed, step):
    """Run a step again, without its last act, the change of the weights: a list of Findings.

    batches: the (x, y) pairs of the step. The list is empty where everything is finite. It has two
    Findings where an infinity came first, and NaN was made of it.
    """
    given = [pair for batch in batches for pair in zip(("x", "y"), batch, strict=True)]
    for name, array in [*model.state().items(), *given]:
        value = what_is_wrong(array)
        if value:
            layer = name.rpartition(".")[0]
            return [Finding(value, "before the step", layer, name, "", (describe(name, array),))]
    hunter = Hunter(model)
    with untouched(model), listening(hunter):
        for part, pair in enumerate(batches):
            hunter.part = f" of part {part + 1} of {len(batches)}" if len(batches) > 1 else ""
            loss = forward_and_backward(model, [pair], seed, step * len(batches) + part)
            hunter.look(np.array(loss), "the loss", place=("forward", "", ""))
            for name, tensor in model.named_parameters():
                place = "backward", name.rpartition(".")[0], ""
                hunter.look(tensor.grad, f"the sum of the gradients of {name}", place=place)
    return hunter.suspects()


def explain(error, model, batches, seed, usual):
    """What is behind a Diverged, found by running its step again: (one sentence, lines of detail).

    batches: those of error.step. usual: the `layer_sizes` of an early step. Changes nothing.
    """
    findings = hunt(model, batches, seed, error.step)
    now = layer_sizes(model, batches, seed, error.step)
    table = growth_table(now, usual)
    if findings:
        details = []
        for word, finding in zip(("first", "then"), findings, strict=False):
            details += [f"{word} {finding}", *(f"    {line}" for line in finding.inputs)]
        return f"{error}. First {findings[0]}", [*details, *table]
    return f"{error}. Every result of every layer is finite; {grown_most(now, usual)}", table
