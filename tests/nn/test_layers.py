import numpy as np
import pytest

from harness import check_gradient
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.layers import (
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    RMSNorm,
    Sequential,
    set_dropout_key,
)
from tinygrad_edu.nn.module import Module, recording
from tinygrad_edu.tensor import Tensor


def generator(seed=0):
    return np.random.default_rng(seed)


def numbers(*shape, seed=1):
    return Tensor(generator(seed).standard_normal(shape))


def scattered(module):
    """The layer with every parameter drawn anew, so that no scale is 1 and no offset 0."""
    for i, tensor in enumerate(module.parameters()):
        tensor.assign(generator(i).standard_normal(tensor.shape))
    return module


# ---- Linear -------------------------------------------------------------------------------------

def test_a_linear_layer_is_the_product_with_the_transposed_weight_plus_the_bias():
    layer = scattered(Linear(4, 3, generator(), dtype=np.float64))
    x = numbers(2, 5, 4)
    assert layer.weight.shape == (3, 4)
    assert layer.weight.data.flags.c_contiguous
    assert np.allclose(layer(x).data, x.data @ layer.weight.data.T + layer.bias.data)


def test_a_linear_layer_without_bias_has_one_parameter_and_maps_zero_to_zero():
    layer = Linear(4, 3, generator(), bias=False, dtype=np.float64)
    assert layer.bias is None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert np.array_equal(layer(Tensor(np.zeros((2, 4)))).data, np.zeros((2, 3)))


def test_the_first_weights_have_the_spread_asked_for_or_xaviers_and_the_bias_is_zero():
    asked, xavier = (Linear(300, 200, generator(), std=std) for std in (0.05, None))
    assert abs(asked.weight.data.std() / 0.05 - 1) < 0.02
    assert abs(xavier.weight.data.var() / (2 / 500) - 1) < 0.02
    assert not asked.bias.data.any()


def test_a_layer_with_its_activation_is_the_layer_and_then_the_activation():
    layer = scattered(Linear(4, 3, generator(), dtype=np.float64))
    x = numbers(6, 4)
    assert np.allclose(layer(x, activation="gelu").data, layer(x).gelu().data, rtol=1e-12)


# ---- Embedding ----------------------------------------------------------------------------------

def test_an_embedding_gives_rows_of_its_table_and_adds_those_of_the_positions():
    layer = Embedding(7, 3, generator(), dtype=np.float64)
    places = numbers(4, 3)
    ids = np.array([[6, 0, 0, 2], [1, 1, 5, 3]])
    assert np.array_equal(layer(ids).data, layer.weight.data[ids])
    assert np.allclose(layer(ids, positions=places).data, layer.weight.data[ids] + places.data)


def test_the_table_of_an_embedding_has_gpt2s_spread_unless_told():
    assert abs(Embedding(500, 100, generator()).weight.data.std() / 0.02 - 1) < 0.02
    assert abs(Embedding(500, 100, generator(), std=1.0).weight.data.std() - 1) < 0.02


# ---- norms --------------------------------------------------------------------------------------

def test_fresh_norms_give_rows_of_variance_one_and_of_root_mean_square_one():
    x = Tensor(3 * numbers(5, 64).data + 2)
    y, z = LayerNorm(64, dtype=np.float64)(x).data, RMSNorm(64, dtype=np.float64)(x).data
    assert np.allclose(y.mean(axis=1), 0, atol=1e-12)
    assert np.allclose(y.var(axis=1), 1, rtol=1e-4)
    assert np.allclose((z ** 2).mean(axis=1), 1, rtol=1e-4)


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_a_norm_with_a_branch_gives_the_sum_and_the_norm_of_the_sum(kind):
    layer = scattered(kind(8, dtype=np.float64))
    x, branch = numbers(2, 3, 8), numbers(2, 3, 8, seed=2)
    total, normed = layer(x, added=branch)
    assert np.array_equal(total.data, x.data + branch.data)
    assert np.allclose(normed.data, layer(Tensor(x.data + branch.data)).data, rtol=1e-12)


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_the_gradient_of_a_norm_with_a_branch_flows_through_both_results(kind):
    layer = scattered(kind(6, dtype=np.float64))

    def f(x, branch):
        total, normed = layer(x, added=branch)
        return total * normed
    check_gradient(f, (4, 6), (4, 6))


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_the_epsilon_of_a_norm_is_used_with_a_branch_and_without(kind):
    layer = kind(2, eps=3.0, dtype=np.float64)
    x = Tensor(np.array([[1.0, -1.0]]))             # mean 0, mean square 1: divided by √(1 + 3)
    assert np.allclose(layer(x).data, x.data / 2)
    assert np.allclose(layer(x, added=Tensor(np.zeros((1, 2))))[1].data, x.data / 2)


# ---- Dropout ------------------------------------------------------------------------------------

def masks(model, seed, step, x):
    """What each Dropout of a Sequential lets through of ones, under the key (seed, step)."""
    set_dropout_key(model, seed, step)
    return [part(x).data != 0 for part in model.parts]


def test_dropout_is_the_identity_in_evaluation_and_at_probability_zero():
    x = numbers(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5)(x) is not x


def test_layers_of_a_model_draw_different_masks_and_one_key_the_same_again():
    model, ones = Sequential(Dropout(0.5), Dropout(0.5)), Tensor(np.ones((40, 50)))
    first, second = masks(model, 3, 8, ones)
    assert 0.4 < (first == second).mean() < 0.6
    again = masks(model, 3, 8, ones)
    assert np.array_equal(again[0], first)
    assert np.array_equal(again[1], second)


@pytest.mark.parametrize("seed, step", [(3, 9), (4, 8), (8, 3)])
def test_another_seed_or_step_is_another_mask_for_every_layer(seed, step):
    model, ones = Sequential(Dropout(0.5), Dropout(0.5)), Tensor(np.ones((40, 50)))
    before, after = masks(model, 3, 8, ones), masks(model, seed, step, ones)
    assert all(0.4 < (a == b).mean() < 0.6 for a, b in zip(before, after, strict=True))


def test_the_key_reaches_every_dropout_of_a_model_each_at_a_site_of_its_own():
    model = GPT(GPTConfig(11, 6, 2, 2, 8, dropout=0.3), generator())
    set_dropout_key(model, 5, 6)
    layers = [module for _, module in model.walk() if isinstance(module, Dropout)]
    assert [(layer.key, layer.site) for layer in layers] == [((5, 6), site) for site in range(5)]


# ---- Sequential, replacement --------------------------------------------------------------------

def test_a_sequence_applies_modules_and_functions_in_order_and_names_them_by_number():
    first, last = (scattered(Linear(n, m, generator(), dtype=np.float64)) for n, m in ((4, 3),
                                                                                        (3, 2)))
    model = Sequential(first, Tensor.tanh, last)
    x = numbers(5, 4)
    assert np.array_equal(model(x).data, last(first(x).tanh()).data)
    names = [name for name, _ in model.named_parameters()]
    assert names == ["parts.0.weight", "parts.0.bias", "parts.2.weight", "parts.2.bias"]


class Adapted(Module):
    """A layer around another one, as LoRA is; it takes whatever its place is called with."""

    def __init__(self, old):
        self.old = old

    def forward(self, x, **options):
        self.options = options
        return self.old(x, **options)


@pytest.mark.parametrize("name, options", [
    ("h.1.mlp.c_fc", {"activation"}), ("h.1.ln_2", {"added"}), ("wte", {"positions"})])
def test_a_layer_that_is_replaced_hands_its_fusion_on_to_the_one_in_its_place(name, options):
    model = GPT(GPTConfig(11, 6, 2, 2, 8), generator(), np.float64)
    ids = generator().integers(0, 11, (3, 6))
    expected = model.hidden(ids).data
    adapted = Adapted(model.find(name))
    model.replace(name, adapted)
    with recording(model, only=lambda name, module: module is adapted) as calls:
        assert np.array_equal(model.hidden(ids).data, expected)
    assert len(calls) == 1
    assert adapted.options.keys() == options
