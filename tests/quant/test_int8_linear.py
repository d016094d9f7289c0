"""Layers of eight bits: near their floats, dynamic and static, in whole models."""

import numpy as np
import pytest

from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.nn.layers import Linear
from tinygrad_edu.quant.int8_linear import Int8Linear, fix, layers_of, to_int8, watch
from tinygrad_edu.tensor import Tensor, no_grad


def relative(y, exact):
    return np.linalg.norm(y - exact) / np.linalg.norm(exact)


def uneven():
    random = np.random.default_rng(0)
    linear = Linear(64, 32, random)
    linear.weight.data[:] *= np.geomspace(0.01, 1, 32, dtype=np.float32)[:, None]
    return linear, random.standard_normal((2, 5, 64)).astype(np.float32)


def test_a_ladder_of_each_channel_is_nearer_than_one_for_all():
    linear, x = uneven()
    exact = linear(Tensor(x)).data
    errors = {per: np.abs(Int8Linear(linear, per)(Tensor(x)).data - exact)[..., :8].mean()
              for per in ("channel", "tensor")}
    assert errors["channel"] < errors["tensor"] / 5
    assert relative(Int8Linear(linear)(Tensor(x)).data, exact) < 0.01
    with pytest.raises(ValueError, match="per channel or per tensor"):
        Int8Linear(linear, "row")


def test_static_ladders_are_those_of_what_was_read_and_cut_off_what_is_larger():
    linear, x = uneven()
    layer = Int8Linear(linear)
    with pytest.raises(ValueError, match="nothing was read"):
        layer.fix()
    watch(layer)
    layer(Tensor(x))
    layer(Tensor(2 * x))
    fix(layer)
    assert relative(layer(Tensor(x)).data, linear(Tensor(x)).data) < 0.03
    assert relative(layer(Tensor(20 * x)).data, linear(Tensor(20 * x)).data) > 0.5
    assert layer.x_ladder.scale == pytest.approx(2 * (x.max() - x.min()) / 255)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("make", [
    lambda: GPT(GPTConfig(50, 16, 2, 2, 32), np.random.default_rng(0)),
    lambda: Llama(LlamaConfig(50, 16, 2, 2, 1, 32, 64), np.random.default_rng(0))],
    ids=["gpt", "llama"])
def test_a_model_of_eight_bits_is_hardly_surprised_more(make, static):
    model = make().eval()
    ids = np.random.default_rng(1).integers(0, 50, (2, 17))
    with no_grad():
        exact = model.loss(ids[:, :-1], ids[:, 1:]).item()
        kept = next(path for path, module in model.walk() if isinstance(module, Linear))
        to_int8(model, keep=(kept,))
        assert isinstance(model.find(kept), Linear) and len(layers_of(model)) > 6
        if static:
            watch(model)
            model.loss(ids[:, :-1], ids[:, 1:])
            fix(model)
        assert model.loss(ids[:, :-1], ids[:, 1:]).item() == pytest.approx(exact, rel=0.005)
