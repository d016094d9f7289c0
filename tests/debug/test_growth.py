import numpy as np
import pytest

from tinygrad_edu.debug.growth import grown_most, growth, growth_table, layer_sizes
from tinygrad_edu.nn.module import Module
from tinygrad_edu.tensor import Tensor


class Scale(Module):
    def __init__(self, value):
        self.weight = Tensor(np.full(4, value), requires_grad=True)
        self.calls = np.zeros(1)                   # a buffer

    def forward(self, x):
        self.calls += 1
        return x * self.weight


class Chain(Module):
    """ℓ = Σ x·w₁·w₂."""

    def __init__(self):
        self.first, self.rest = Scale(2.0), [Scale(3.0)]

    def forward(self, x):
        return self.rest[0](self.first(x))

    def loss(self, x, y):
        return self(Tensor(x)).sum()


BATCH = (np.array([1.0, -1.0, 2.0, 0.0]), None)     # rms √1.5


def test_sizes_are_those_that_one_computes_by_hand():
    sizes = layer_sizes(Chain(), [BATCH], 0, 0)
    root = np.sqrt(1.5)
    assert sizes.keys() == {"first", "rest.0"}      # Chain itself has no parameter
    assert sizes["first"] == pytest.approx((2 * root, 3 * np.sqrt(6)))       # y = 2x, g = 3x
    assert sizes["rest.0"] == pytest.approx((6 * root, 2 * np.sqrt(6)))


def test_micro_batches_are_averaged_in_the_gradient_and_the_largest_counts_in_the_output():
    one = layer_sizes(Chain(), [BATCH], 0, 0)
    small = (BATCH[0] / 1000, None)
    both = layer_sizes(Chain(), [small, BATCH, small], 0, 0)
    assert both["first"][0] == pytest.approx(one["first"][0])
    assert both["first"][1] == pytest.approx(one["first"][1] * 1.002 / 3)


def test_measuring_changes_nothing():
    model = Chain()
    model.first.weight.grad = np.ones(4)            # left behind by somebody
    layer_sizes(model, [BATCH], 0, 0)
    assert model.first.calls == 0
    assert model.first.weight.grad is None
    assert model.first.weight.data.tolist() == [2.0] * 4


def test_the_layer_that_has_grown_most_is_named_for_the_output_and_for_the_gradient():
    model = Chain()
    usual = layer_sizes(model, [BATCH], 0, 0)
    model.rest[0].weight.data *= 100
    now = layer_sizes(model, [BATCH], 0, 0)
    assert growth(now, usual) == {"first": pytest.approx([1, 100]),
                                  "rest.0": pytest.approx([100, 1])}
    assert ("the output of rest.0 (100 times) and the gradient of first (100 times)"
            in grown_most(now, usual))
    head, *rows = growth_table(now, usual)
    assert [row.split()[0] for row in rows] == ["first", "rest.0"]
    assert rows[1].split()[1:4] == ["735", "7.35", "100"]
    assert len(head) == len(rows[0])


def test_what_is_nan_is_shown_and_never_called_the_largest():
    model = Chain()
    usual = layer_sizes(model, [BATCH], 0, 0)
    model.rest[0].weight.data[...] = np.nan
    now = layer_sizes(model, [BATCH], 0, 0)
    assert np.isnan(now["rest.0"][0])
    assert "the output of first (1 times) and the gradient of rest.0 (1 times)" in (
        grown_most(now, usual))


def test_a_layer_whose_gradient_was_zero_early_has_no_factor():
    usual, now = {"a": (1.0, 0.0)}, {"a": (2.0, 5.0)}
    assert growth(now, usual)["a"][0] == 2
    assert np.isnan(growth(now, usual)["a"][1])
    assert "the gradient of the model itself (nan times)" in grown_most(now, usual)


def test_numbers_whose_squares_overflow_in_float32_are_measured():
    model = Chain()
    for layer in (model.first, model.rest[0]):
        layer.weight.data = layer.weight.data.astype(np.float32)
        layer.weight.requires_grad = False
        layer.weight.requires_grad = True
    pair = (BATCH[0].astype(np.float32) * np.float32(1e30), None)
    assert layer_sizes(model, [pair], 0, 0)["first"][0] == pytest.approx(2e30 * np.sqrt(1.5))
