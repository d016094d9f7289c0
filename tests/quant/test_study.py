"""The study: every way rounds, more bits are nearer, and the model is whole afterwards."""

import numpy as np
import pytest

from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.nn.layers import Linear
from tinygrad_edu.quant import study as lesson
from tinygrad_edu.quant.int8_linear import layers_of
from tinygrad_edu.tensor import no_grad


def outputs():
    """(a model, what it says about some tokens, as a function)."""
    model = Llama(LlamaConfig(40, 16, 1, 2, 1, 64, 64), np.random.default_rng(0)).eval()
    ids = np.random.default_rng(1).integers(0, 40, (1, 16))

    def evaluate():
        with no_grad():
            return model.next_logits(ids).numpy()
    return model, evaluate


def test_each_way_is_tried_on_the_same_model_which_is_whole_again_afterwards():
    model, evaluate = outputs()
    exact, before = evaluate(), dict(model.walk())
    calls = []
    rows = {name: (bits, np.linalg.norm(found - exact) / np.linalg.norm(exact))
            for name, bits, found in lesson.study(
                model, evaluate, lambda: calls.append(len(layers_of(model))) or evaluate())}
    assert list(rows) == list(lesson.WAYS)
    assert calls == [sum(isinstance(module, Linear) for module in before.values())]
    for name, (bits, error) in rows.items():
        eight = "8" in name
        assert (0 < error < 0.03) if eight else (0.01 < error < 0.5), (name, error)
        assert (8 < bits < 9) if eight else (4 < bits < 5.1), (name, bits)
    assert rows["int4, groups of 32, zeros"][0] == 4.75 and rows["Q4_1"][0] == 5
    assert dict(model.walk()) == before and np.array_equal(evaluate(), exact)


def test_a_way_that_fails_leaves_the_model_as_it_was():
    model, evaluate = outputs()
    before = dict(model.walk())
    ways = {"too coarse": (lesson.int4(48, False), False)}
    with pytest.raises(ValueError, match="cannot be cut into groups"):
        list(lesson.study(model, evaluate, evaluate, ways))
    assert dict(model.walk()) == before
