"""Lesson 6.5 · What fewer bits cost

Needs blocks, int4_groups, int8_linear, layers, tensor. Used by scripts/quantize.py.

Idea      The lessons before this one round matrices in many ways: one ladder or many, with a zero
          or without, weights alone or what comes into a layer as well. On a matrix of random
          numbers each looks fine. What counts is what a model says afterwards. So every linear
          layer of a model is replaced, by one way after another, a text is read each time, and the
          layers are put back: a table of bits and perplexity that shows what each bit buys.
Math      bits = Σ bits of a way's numbers and ladders / Σ numbers, over the linear layers      (1)
Shapes    a model -> rows of (name of the way, bits, what `evaluate` says)
Pitfalls  Linear layers alone: an embedding, and a head that is tied to it, stay as they are. In a
          small model they are a good part of all weights.
          The text that calibrates static ladders must not be the one that judges.
          One ladder for all that comes into a layer has to reach its few huge numbers: SmolLM2's
          perplexity rises by 0.5 % with int8 a channel, by 94 % once the ladders are static
          (python scripts/quantize.py smollm2 --study --tokens 2732).
          Differences of a few tenths of a percent are noise, if the text has a few thousand tokens.
          A model that came from a file of few bits lies on a ladder already, and the same ladder
          once more costs nothing: start from floats.
Cost      A reading of the text for every way; the static one also reads the text that calibrates.
Try       build it    a way of your own: one more line in `WAYS`.
          break it    calibrate on nothing but spaces. Which line of the table changes?
          measure it  python scripts/quantize.py MODEL --study
See       Dettmers, Zettlemoyer 2023 (bits against perplexity) · Xiao et al. 2023, table 1
"""

import copy

from ..files.blocks import READ, from_blocks, to_blocks
from ..nn.layers import Linear
from ..tensor import Tensor
from .int4_groups import to_int4
from .int8_linear import Int8Linear, fix, watch

SCALE = 32  # bits of a step of the integer layers, which keep it as float32


def with_weight(linear, weight):
    """The same layer with another weight."""
    layer = copy.copy(linear)
    layer.weight = Tensor(weight)
    return layer


def int8(per):
    """A way: integers of eight bits, with ladders for each row that comes in."""
    def round(linear):
        layer = Int8Linear(linear, per)
        return layer, 8 + SCALE * layer.w_ladder.scale.size / layer.q.size
    return round


def int4(group, zeros):
    """A way: weights of four bits in groups; what comes in stays as it is."""
    def round(linear):
        found = to_int4(linear.weight.data, group, zeros)
        return with_weight(linear, found.widen().astype(linear.weight.dtype)), found.bits
    return round


def blocks(kind):
    """A way: weights in the blocks of a GGUF file."""
    size, width, _ = READ[kind]

    def round(linear):
        raw = to_blocks(linear.weight.data, kind)
        return with_weight(linear, from_blocks(raw, kind)), 8 * width / size
    return round


# name -> (layer -> (layer, bits a number), whether ladders of what comes in are static)
WAYS = {
    "int8, a tensor": (int8("tensor"), False),
    "int8, a channel": (int8("channel"), False),
    "int8, a channel, static": (int8("channel"), True),
    "Q8_0": (blocks("Q8_0"), False),
    "int4, groups of 32": (int4(32, False), False),
    "int4, groups of 32, zeros": (int4(32, True), False),
    "int4, groups of 64": (int4(64, False), False),
    "int4, groups of 64, zeros": (int4(64, True), False),
    "Q4_0": (blocks("Q4_0"), False),
    "Q4_1": (blocks("Q4_1"), False),
}


def study(model, evaluate, calibrate, ways=WAYS):
    """Yield (name, bits, evaluate()) for each way; the model is as it was afterwards.

    evaluate: reads the text that judges, and says how surprising it was.
    calibrate: reads another text, from which static ladders follow.
    """
    layers = {path: module for path, module in model.walk() if isinstance(module, Linear)}
    count = sum(layer.weight.data.size for layer in layers.values())
    for name, (way, static) in ways.items():
        total = 0.0
        try:
            for path, layer in layers.items():
                rounded, bits = way(layer)
                model.replace(path, rounded)
                total += bits * layer.weight.data.size
            if static:
                watch(model)
                calibrate()
                fix(model)
            yield name, total / count, evaluate()                                              # (1)
        finally:
            for path, layer in layers.items():
                model.replace(path, layer)
