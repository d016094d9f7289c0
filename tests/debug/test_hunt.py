from dataclasses import dataclass

import numpy as np
import pytest

from tinygrad_edu.debug.growth import layer_sizes
from tinygrad_edu.debug.hunt import Hunter, describe, explain, hunt
from tinygrad_edu.kernel import kernels
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.module import Module
from tinygrad_edu.tensor import Tensor, record
from tinygrad_edu.train.loop import Diverged, train, train_step
from tinygrad_edu.watch import listening, settings


@dataclass
class Config:
    steps: int = 30
    schedule: str = "cosine"
    lr: float = 1e-2
    min_lr: float = 1e-3
    warmup: int = 3
    clip: float = 1.0
    seed: int = 5


class Rows(list):
    def add(self, **row):
        self.append(row)

    def last(self, name):
        return self[-1][name] if self else None


def gpt(dropout=0.2):
    return GPT(GPTConfig(20, 12, 2, 2, 32, dropout), np.random.default_rng(0))


def batch(step=0, parts=1):
    ids = np.random.default_rng(step).integers(0, 20, (parts, 2, 13))
    return [(part[:, :-1], part[:, 1:]) for part in ids]


@pytest.fixture
def spoil():
    """spoil(kernel, n): the n-th call of a kernel, from 1, writes a NaN into its first output."""
    spoiled = []

    def plant(name, which):
        kernel = kernels[name]
        calls = []

        # A body must have the kernel's own parameters, whichever these are.
        line = ", ".join(kernel.parameters)
        space = {"run": kernel.__wrapped__, "calls": calls, "nan": np.nan}
        exec(f"def body({line}):\n    run({line})\n    calls.append(1)\n"
             f"    if len(calls) == {which}:\n        {kernel.parameters[0]}.flat[3] = nan\n",
             space)
        kernel.body("mine")(space["body"])
        spoiled.append(kernel)
        return calls
    yield plant
    for kernel in spoiled:
        del kernel.bodies["mine"]
        kernel._plans.clear()


# ---- who is named -------------------------------------------------------------------------------


def test_a_healthy_step_has_no_findings_forward_and_backward():
    model = gpt()
    for parts in (1, 2):
        assert hunt(model, batch(parts=parts), 5, 0) == []


def test_a_weight_that_is_nan_before_the_step_is_named_with_the_number_of_bad_elements():
    model = gpt()
    model.h[1].ln_2.weight.data[4:6] = np.nan
    finding, = hunt(model, batch(), 5, 0)
    assert str(finding) == "NaN before the step, in layer h.1.ln_2: h.1.ln_2.weight"
    assert finding.inputs == ("h.1.ln_2.weight float32 (32,), largest 1, 2 NaN",)


@pytest.mark.parametrize(("kernel", "which", "direction", "layer"), [
    ("bias_gelu_forward", 2, "forward", "h.1.mlp.c_fc"),
    ("linear_forward", 4, "forward", "h.1.attn.c_attn"),
    ("attention_forward", 1, "forward", "h.0.attn"),
    ("add_layernorm_forward", 4, "forward", "ln_f"),
    ("cross_entropy_both", 1, "forward", ""),
    ("bias_gelu_backward", 1, "backward", "h.1.mlp.c_fc"),
    ("bias_gelu_backward", 2, "backward", "h.0.mlp.c_fc"),
    ("attention_backward", 2, "backward", "h.0.attn"),
    ("layernorm_backward", 2, "backward", "h.0.ln_1"),
    ("embedding_backward", 1, "backward", "wte")])
def test_the_kernel_the_layer_and_the_direction_of_the_first_nan_are_named(
        spoil, kernel, which, direction, layer):
    calls = spoil(kernel, which)
    model = gpt(dropout=0.0)
    with settings(forced="mine"):
        finding, = hunt(model, batch(), 5, 0)
    assert len(calls) >= which
    assert (finding.value, finding.when, finding.layer) == ("NaN", direction, layer)
    assert finding.culprit == f"kernel {kernel} (body mine)"
    assert finding.where.startswith("gpt.py:")
    in_place = kernel == "cross_entropy_both"       # what went in is overwritten
    assert finding.inputs or in_place
    assert not any("NaN" in line for line in finding.inputs)


def test_the_micro_batch_is_named_where_there_are_several(spoil):
    spoil("bias_gelu_forward", 3)
    with settings(forced="mine"):
        finding, = hunt(gpt(), batch(parts=2), 5, 0)
    assert (finding.when, finding.layer) == ("forward of part 2 of 2", "h.0.mlp.c_fc")


def test_the_forward_pass_of_the_second_micro_batch_is_not_the_backward_pass_of_the_first(spoil):
    spoil("cross_entropy_both", 2)                  # outside of all layers
    with settings(forced="mine"):
        finding, = hunt(gpt(), batch(parts=2), 5, 0)
    assert (finding.when, finding.layer) == ("forward of part 2 of 2", "")


def test_an_overflow_is_named_before_the_nan_that_came_of_it():
    model = gpt()
    model.h[1].ln_2.weight.data[...] = 3e38
    infinity, nan = hunt(model, batch(), 5, 0)
    assert (infinity.value, nan.value) == ("infinity", "NaN")
    assert infinity.layer == "h.1.ln_2"
    assert infinity.culprit.startswith("kernel add_layernorm_forward (body ")
    assert any("largest 3e+38" in line for line in infinity.inputs)
    assert nan.layer == "h.1.mlp.c_fc"
    assert any("infinite" in line for line in nan.inputs)


def test_an_infinity_that_did_no_harm_is_not_accused():
    hunter = Hunter(gpt())
    hunter.look(np.array([-np.inf]), "a mask")
    hunter.look(np.array([np.nan]), "kernel wrong", [("x", np.ones(2))])
    assert [finding.culprit for finding in hunter.suspects()] == ["kernel wrong"]
    hunter = Hunter(gpt())
    hunter.look(np.array([-np.inf]), "a mask")
    hunter.look(np.array([np.nan]), "softmax", [("x", np.array([-np.inf]))])
    assert [finding.culprit for finding in hunter.suspects()] == ["a mask", "softmax"]


# ---- what no kernel has made --------------------------------------------------------------------


class Layer(Module):
    """y = w·x twice over; its arithmetic, forward or backward, can be made to fail."""

    def __init__(self, forward=1.0, backward=1.0):
        self.w = Tensor(np.ones(2, np.float32), requires_grad=True)
        self.counter = np.zeros(1)                 # a buffer
        self.factors = np.float32(forward), np.float32(backward)

    def forward(self, x):
        self.counter += 1
        forward, backward = self.factors

        def vjp(dy):
            return dy * backward,
        return record(self.w.data * x * forward, (self.w,), vjp)


class Model(Module):
    def __init__(self, **options):
        self.layers = [Layer(), Layer(**options)]

    def loss(self, x, y):
        return self.layers[1](x).sum() + self.layers[0](x).sum() + self.layers[1](x).sum()


SMALL = (np.full(2, 1e-3, np.float32), None)
PAIR = (np.ones(2, np.float32), None)


def test_arithmetic_beside_the_kernels_is_seen_when_its_layer_returns():
    finding, = hunt(Model(forward=np.nan), [PAIR], 5, 0)
    assert (finding.when, finding.layer) == ("forward", "layers.1")
    assert finding.culprit == "arithmetic beside the kernels"


def test_arithmetic_of_a_backward_pass_and_the_sums_of_gradients_are_seen_too():
    finding, = hunt(Model(backward=np.nan), [PAIR], 5, 0)
    assert (finding.when, finding.layer) == ("backward", "layers.1")
    assert finding.culprit == "arithmetic beside the kernels in the gradient of forward"
    finding, = hunt(Model(backward=3e38), [PAIR], 5, 0)
    assert (finding.value, finding.culprit) == ("infinity",
                                                "the sum of the gradients of layers.1.w")
    assert (finding.when, finding.layer, finding.where) == ("backward", "layers.1", "")


def test_a_sum_of_two_gradients_that_overflows_belongs_to_the_layer_whose_result_it_is():
    class Twice(Module):
        def __init__(self):
            self.layer = Layer()

        def loss(self, x, y):
            h = self.layer(x)                      # dℓ/dh = 3·10³⁸ + 3·10³⁸, but h is small
            return (h * 3e38).sum() + (h * 3e38).sum()
    finding, = hunt(Twice(), [SMALL], 5, 0)
    assert (finding.value, finding.when, finding.layer) == ("infinity", "backward", "layer")
    assert finding.culprit == "the sum of the gradients of the result of forward"


def test_numbers_of_the_batch_are_looked_at_first():
    finding, = hunt(Model(), [(np.array([1, np.inf], np.float32), None)], 5, 0)
    assert (finding.when, finding.culprit) == ("before the step", "x")


# ---- nothing is changed -------------------------------------------------------------------------


def test_a_hunt_leaves_weights_buffers_and_the_optimizer_alone_and_no_gradient_behind():
    model = gpt()
    optimizer = AdamW(model.named_parameters())
    train_step(model, optimizer, batch(), Config(), 0)
    model.h[1].mlp.c_fc.weight.data *= 1e20
    model.h[1].mlp.c_proj.weight.data *= 1e25
    before = {name: a.copy() for name, a in {**model.state(), **optimizer.state()}.items()}
    assert hunt(model, batch(1), 5, 1)
    for name, array in {**model.state(), **optimizer.state()}.items():
        assert np.array_equal(array, before[name], equal_nan=True), name
    assert all(tensor.grad is None for tensor in model.parameters())
    other = Model(forward=np.nan)
    assert hunt(other, [PAIR], 5, 0)
    assert other.layers[1].counter == 0


def test_a_hunt_sees_the_numbers_of_the_step_with_its_dropout():
    class Ear(Hunter):
        def __init__(self, model):
            super().__init__(model)
            self.seen = []

        def kernel_ran(self, body, args):
            if body.kernel.name == "dropout_forward":
                self.seen.append(args[0].copy())
    model = gpt(dropout=0.5)
    with listening(first := Ear(model)), pytest.raises(Diverged):
        train_step(model, AdamW(model.named_parameters()), batch(7, 2), Config(), 7, limit=0.1)
    with listening(again := Ear(model)):
        hunt(model, batch(7, 2), Config.seed, 7)
    assert len(first.seen) > 8
    assert all(map(np.array_equal, first.seen, again.seen))


# ---- the message --------------------------------------------------------------------------------


def run(model, config, spoiled_step=None, weight=None, factor=1.0):
    """Train until it diverges; returns what `explain` says."""
    usual = layer_sizes(model, batch(0), config.seed, 0)
    optimizer = AdamW(model.named_parameters())

    def spoiling(step):
        if step == spoiled_step:
            weight.data *= np.float32(factor)
        return batch(step)
    with pytest.raises(Diverged) as caught:
        train(model, optimizer, spoiling, config, Rows(), uniform=np.log(20))
    return explain(caught.value, model, batch(caught.value.step), config.seed, usual)


def test_the_message_names_the_step_the_layer_and_the_kernel():
    model = gpt()
    model.h[1].mlp.c_fc.weight.data *= 1e10
    sentence, details = run(model, Config(), 6, model.h[1].mlp.c_proj.weight, 1e35)
    assert sentence.startswith("step 6 is not taken, no parameter has changed: the loss is nan. "
                               "First NaN forward, in layer h.1.mlp.c_proj: kernel linear_forward ")
    assert details[0].startswith("first NaN forward")
    assert details[1].startswith("    x float32 (24, 128), largest ")
    assert details[4].split() == ["layer", "output", "early", "times", "gradient", "early", "times"]
    assert details[5].split()[0].startswith("h.")


def test_a_loss_that_explodes_and_stays_finite_is_traced_to_the_layer_that_has_grown():
    model = gpt()
    sentence, details = run(model, Config(), 6, model.ln_f.weight, 1e4)
    assert "the loss is " in sentence
    assert "it explodes. Every result of every layer is finite; " in sentence
    assert "the output of ln_f (9.97e+03 times) and the gradient of wte (" in sentence
    assert details[1].split()[0] == "wte"


def test_a_learning_rate_that_is_far_too_large_is_caught_and_explained():
    sentence, details = run(gpt(), Config(lr=1e4, min_lr=1e4, warmup=0))
    assert "is not taken, no parameter has changed: the loss is " in sentence
    assert "grown most" in sentence or "First " in sentence
    assert len(details) >= 6


def test_a_kernel_is_described_by_what_it_got():
    array = np.array([[1.0, -3e5], [np.nan, np.inf]], np.float32)
    assert describe("x", array) == "x float32 (2, 2), largest 3e+05, 1 NaN, 1 infinite"
    assert describe("x", np.zeros((0, 3))) == "x float64 (0, 3), largest 0"


