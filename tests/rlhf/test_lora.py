import json
import math

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.files.blocks import from_blocks, to_blocks
from tinygrad_edu.files.safetensors import load
from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.rlhf.adapter import load_adapter, save_adapter
from tinygrad_edu.rlhf.lora import (
    PIECE,
    adapted_linear,
    add_lora,
    add_product,
    linear_names,
    lora_layers,
    merge_lora,
    trained_share,
)
from tinygrad_edu.tensor import Tensor

IDS = np.array([[1, 5, 3, 9, 2], [4, 7, 7, 2, 6]])
CASES = {add_product: [lambda d, N=N, r=r: (d.array(N, 7), d.array(N, r), d.array(r, 7))
                       for N, r in ((1, 1), (5, 2), (PIECE + 3, 8))]}


def small_gpt(dtype=np.float32, width=32):
    config = GPTConfig(vocabulary=11, context=8, layers=2, heads=2, width=width)
    return GPT(config, np.random.default_rng(0), dtype=dtype)


def small_llama(dtype=np.float32, width=32):
    config = LlamaConfig(vocabulary=11, context=8, layers=2, heads=2, groups=1, width=width,
                         hidden=64)
    return Llama(config, np.random.default_rng(0), dtype=dtype)


def trained(model, steps=5):
    """The model after some steps, so that its adapter is not nothing."""
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    for _ in range(steps):
        model.loss(IDS[:, :-1], IDS[:, 1:]).backward()
        optimizer.step(1e-2)
    return model


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_what_thin_products_add_is_that_of_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("bias", [None, np.arange(4.0)])
def test_an_adapted_layer_is_the_sum_of_two_products_and_its_gradients_are_right(bias):
    random = np.random.default_rng(0)
    w, x = random.standard_normal((4, 6)), random.standard_normal((2, 3, 6))
    a, b = random.standard_normal((2, 6)), random.standard_normal((4, 2))

    def layer(x, a, b):
        return adapted_linear(x, lambda: w, bias, a, b, 0.7)

    y = layer(*map(Tensor, (x, a, b))).numpy()
    expected = x @ w.T + 0.7 * (x @ a.T) @ b.T + (0 if bias is None else bias)
    assert np.abs(y - expected).max() < 1e-12
    assert gradcheck(layer, x, a, b) <= 1e-6


@pytest.mark.parametrize("make", [small_gpt, small_llama])
def test_at_the_start_nothing_has_changed_and_only_the_adapter_is_trained(make):
    model = make()
    before = model(IDS).numpy()
    names = linear_names(model)
    add_lora(model, rank=2)
    assert np.abs(model(IDS).numpy() - before).max() < 1e-6
    model.loss(IDS[:, :-1], IDS[:, 1:]).backward()
    got = {name for name, tensor in model.named_parameters() if tensor.grad is not None}
    assert got == {f"{name}.lora_{which}" for name in names for which in "AB"}
    assert 0 < trained_share(model) < 0.2


@pytest.mark.parametrize("make", [small_gpt, small_llama])
@pytest.mark.parametrize("four_bit", [False, True])
def test_merged_it_computes_what_it_did_unmerged(make, four_bit):
    model = add_lora(make(), rank=2, alpha=8.0, four_bit=four_bit)
    first = model.loss(IDS[:, :-1], IDS[:, 1:]).item()
    unmerged = trained(model)(IDS).numpy()
    assert model.loss(IDS[:, :-1], IDS[:, 1:]).item() < first - 0.05
    names = set(make().state())
    merge_lora(model)
    assert set(model.state()) == names and not lora_layers(model)
    assert np.abs(model(IDS).numpy() - unmerged).max() <= 1e-5


def test_a_base_of_four_bits_is_the_one_that_its_blocks_say():
    plain, packed = small_gpt(), add_lora(small_gpt(), rank=2, four_bit=True)
    for name in linear_names(small_gpt()):
        weight = plain.find(name).weight
        weight.assign(from_blocks(to_blocks(weight.data, "Q4_0"), "Q4_0"))
    assert np.abs(packed(IDS).numpy() - plain(IDS).numpy()).max() < 1e-5
    there, here = plain.find("h.0.mlp.c_fc").weight, packed.find("h.0.mlp.c_fc").base
    assert here.raw.nbytes * 7 < there.size * 4


@pytest.mark.parametrize("make", [small_gpt, small_llama])
def test_an_adapter_comes_back_from_its_folder(make, tmp_path):
    model = trained(add_lora(make(), rank=2, alpha=3.0, seed=1))
    save_adapter(tmp_path, model, "the/base")
    again = load_adapter(tmp_path, make())
    assert np.array_equal(again(IDS).numpy(), model(IDS).numpy())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["r"] == 2 and config["lora_alpha"] == 3.0
    names = list(load(tmp_path / "adapter_model.safetensors"))
    assert names and all(name.startswith("base_model.model.") for name in names)


@pytest.mark.parametrize("other, match", [
    (lambda: small_llama(width=16), "is for another model: .* has A"),
    (small_gpt, "is for another model: this one has no")])
def test_an_adapter_for_another_model_is_refused(other, match, tmp_path):
    save_adapter(tmp_path, add_lora(small_llama(), rank=2))
    with pytest.raises(ValueError, match=match):
        load_adapter(tmp_path, other())


def test_an_adapter_that_is_no_plain_lora_is_refused(tmp_path):
    save_adapter(tmp_path, add_lora(small_llama(), rank=2))
    path = tmp_path / "adapter_config.json"
    whole = json.loads(path.read_text())
    for change, match in (({"peft_type": "IA3"}, "of the kind LORA"), ({"r": 0}, "r is 0"),
                          ({"use_dora": True}, "use_dora is set")):
        path.write_text(json.dumps(whole | change))
        with pytest.raises(ValueError, match=match):
            load_adapter(tmp_path, small_llama())


def test_targets_that_are_not_there_and_ranks_that_save_nothing_are_refused():
    with pytest.raises(ValueError, match="no linear layer c_attn; it has down_proj, gate_proj"):
        add_lora(small_llama(), targets=("c_attn",))
    with pytest.raises(ValueError, match="a rank of 17 is no saving"):
        add_lora(small_llama(width=32), rank=17)


def test_the_first_thin_matrix_is_as_wide_as_published():
    layer = add_lora(small_llama(), rank=8).find("layers.0.mlp.gate_proj")
    bound = 1 / math.sqrt(32)
    assert not layer.lora_B.data.any()
    assert 0.9 * bound < np.abs(layer.lora_A.data).max() <= bound
