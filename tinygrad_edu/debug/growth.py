"""Lesson 8.2 · Growth: which layer has changed its size

Needs loop, tensor, watch. Used by hunt, scripts/train_gpt.py.

Idea      A network that is well set up keeps its numbers in proportion: what goes into a layer and
          what comes out, the weights and their gradients, differ by factors that stay much the same
          over a run. When a run explodes, the loss says that something has gone out of proportion,
          not what. So measure every layer once, early, when all is well, and again when it is not:
          the layer that has grown most is where to look first.
Math      rms(y) = √(mean y²)      ‖g‖ = √(Σ g²)                                                 (1)
          growth of a layer: rms(y) / rms(y) early, and ‖g‖ / ‖g‖ early                          (2)
          y: what the layer puts out, g: the gradients of its own parameters, averaged over the
          micro-batches (the parts of a batch)
Shapes    y of any shape, a float per layer; the result is layer -> (rms(y), ‖g‖)
Pitfalls  The size alone says little: a norm behind an embedding makes its input forty times larger
          and is healthy. Only the comparison with the same layer earlier counts.
          Squares of float32 overflow from 1.8·10¹⁹ on, and underflow: sum them in float64.
          A layer that grows makes those behind it grow too, up to the next norm, which hides it;
          and its own gradient shrinks. The largest growth is a hint, not a proof.
          A measurement must not be a training step: it leaves weights, buffers and the optimizer
          as they were, and no gradient behind.
Cost      A forward and a backward pass, and one look at each output.
Try       build it    a picture: rms(y) of every layer over the steps of a run.
          break it    multiply one weight by 1000. Which layers have grown, and why does it stop?
          measure it  a GPT at step 0 with and without init.residual_std: how do the outputs of its
                      blocks grow from the first to the last?
See       Glorot, Bengio 2010, section 4 (activations and gradients, layer by layer)
"""

import contextlib

import numpy as np

from ..tensor import Tensor
from ..train.loop import forward_and_backward
from ..watch import Listener, listening


class Sizes(Listener):
    """Layer -> (1) of its output, the largest where the layer is called several times."""

    def __init__(self, model):
        self.names = {id(module): name for name, module in model.walk()
                      if any(isinstance(value, Tensor) for value in vars(module).values())}
        self.output = {}

    def module_returned(self, module, inputs, output):
        """Measure what a layer with parameters of its own has made; of a pair, the last."""
        name = self.names.get(id(module))
        if name is not None:
            y = output[-1] if isinstance(output, tuple) else output
            size = norm(y.data) / max(1, y.size) ** 0.5
            self.output[name] = float(np.maximum(self.output.get(name, 0.0), size))  # NaN stays


def norm(array):
    """The root of the sum of squares: (1), in float64."""
    with np.errstate(over="ignore"):
        return float(np.square(array, dtype=np.float64).sum()) ** 0.5


@contextlib.contextmanager
def untouched(model):
    """A block that may run a step: afterwards buffers are as before, and gradients forgotten."""
    buffers = model.state()
    for name, _ in model.named_parameters():
        del buffers[name]
    before = {name: array.copy() for name, array in buffers.items()}
    model.zero_grad()
    try:
        yield
    finally:
        model.zero_grad()
        for name, array in before.items():
            buffers[name][...] = array


def layer_sizes(model, batches, seed, step):
    """Layer -> (rms of its output, norm of its gradient) in a step on (x, y) batches: (1)."""
    sizes, squares = Sizes(model), {}
    with untouched(model):
        with listening(sizes):
            forward_and_backward(model, batches, seed, step)
        for name, tensor in model.named_parameters():
            if tensor.grad is not None:
                layer = name.rpartition(".")[0]
                g = norm(tensor.grad) / len(batches)
                squares[layer] = squares.get(layer, 0.0) + g * g
    return {layer: (sizes.output.get(layer, 0.0), squares.get(layer, 0.0) ** 0.5)
            for layer in {**sizes.output, **squares}}


def growth(now, usual):
    """Layer -> [factor of the output, factor of the gradient], by (2); nan where there is none.

    now, usual: what `layer_sizes` has returned, and what it did early in the run.
    """
    return {layer: [size / early if early else np.nan
                    for size, early in zip(sizes, usual[layer], strict=True)]                  # (2)
            for layer, sizes in now.items()}


def grown_most(now, usual):
    """A sentence that names the output and the gradient that have grown most."""
    factors = growth(now, usual)
    places = []
    for i in range(2):
        finite = {layer: pair[i] for layer, pair in factors.items() if np.isfinite(pair[i])}
        layer = max(finite, key=finite.get, default="")
        places.append(f"{layer or 'the model itself'} ({finite.get(layer, np.nan):.3g} times)")
    return (f"compared with an early step, the output of {places[0]} and the gradient of "
            f"{places[1]} have grown most")


def growth_table(now, usual, rows=5):
    """The layers that have grown most in one or the other, as lines of text with a head."""
    factors = growth(now, usual)
    largest = {layer: max([f for f in pair if np.isfinite(f)], default=0.0)
               for layer, pair in factors.items()}
    words = ("output", "early", "times", "gradient", "early", "times")
    lines = [f"{'layer':<20} " + " ".join(f"{word:>9}" for word in words)]
    for layer in sorted(largest, key=largest.get, reverse=True)[:rows]:
        numbers = zip(now[layer], usual[layer], factors[layer], strict=True)
        columns = " ".join(f"{number:>9.3g}" for triple in numbers for number in triple)
        lines.append(f"{layer or 'the model itself':<20} {columns}")
    return lines
