from types import SimpleNamespace

import numpy as np

from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.loss_scale import FIRST, PATIENCE, LossScale
from tinygrad_edu.ops.mixed import set_products
from tinygrad_edu.train.loop import train_step

PLAN = SimpleNamespace(schedule="cosine", lr=1e-2, min_lr=1e-3, warmup=2, steps=8, clip=0.5, seed=1)


def trained(dtype, steps=4, factor=None):
    """(rows of loss and norm, optimizer, weights) of a tiny GPT."""
    model = set_products(GPT(GPTConfig(40, 16, 1, 2, 16), np.random.default_rng(1)), dtype)
    optimizer = AdamW(model.named_parameters())
    if dtype == "fp16":
        optimizer.loss_scale = LossScale()
        optimizer.loss_scale.factor = factor or FIRST
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 40, (steps, 2, 17))
    rows = [train_step(model, optimizer, [(x[:, :-1], x[:, 1:])], PLAN, step)
            for step, x in enumerate(ids)]
    return rows, optimizer, model.wte.weight.data


def test_sixteen_bits_train_nearly_as_thirty_two_do():
    want = trained("fp32")[0]
    for dtype in ("bf16", "fp16"):
        got = trained(dtype)[0]
        assert got != want
        np.testing.assert_allclose(got, want, rtol=2e-2)


def test_without_a_scale_small_gradients_are_lost():
    want, scaled, lost = (trained("fp16", 1, factor)[0][0][1] for factor in (None, 2.0 ** 12, 1e-9))
    assert abs(scaled - want) < 1e-3 * want
    assert abs(lost - want) > 1e-2 * want


def test_a_step_that_overflows_is_left_out_and_halves_the_scale():
    rows, optimizer, weight = trained("fp16", 1, 2.0 ** 40)
    assert np.isfinite(rows[0][0]) and rows[0][1] == np.inf
    assert optimizer.loss_scale.factor == 2.0 ** 39 and optimizer.steps == 0
    assert np.array_equal(weight, GPT(GPTConfig(40, 16, 1, 2, 16),
                                      np.random.default_rng(1)).wte.weight.data)


def test_the_scale_grows_after_many_good_steps_and_is_saved():
    scale = LossScale()
    for _ in range(PATIENCE + 1):
        scale.grow()
    other = LossScale()
    other.load_state(scale.state())
    assert (other.factor, other.good) == (2 * FIRST, 1)
    scale.factor = 1
    assert not scale.shrink()
