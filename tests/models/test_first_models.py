"""The models of the first hour: bigram, MLP and one block, each a step above the one before."""

import numpy as np
import pytest

from harness import check_gradient
from tinygrad_edu.models.bigram import Bigram, by_counting, count_pairs
from tinygrad_edu.models.mlp import LetterMLP, MLPConfig, windows
from tinygrad_edu.models.one_block import OneBlock, OneBlockConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.ops.attention import attention_qkv
from tinygrad_edu.ops.shape import concatenate

IDS = np.array([[4, 0, 1, 2], [4, 1, 1, 3]])
TARGETS = np.array([[0, 1, 2, 4], [1, 1, 3, -1]])


def bigram(dtype=np.float64):
    return Bigram(5, dtype)


def mlp(dtype=np.float64):
    config = MLPConfig(5, context=2, width=3, hidden=6)
    return LetterMLP(config, np.random.default_rng(0), dtype)


def one_block(dtype=np.float64):
    config = OneBlockConfig(5, context=4, heads=2, width=4, hidden=3)
    model = OneBlock(config, np.random.default_rng(0), dtype)
    for table in (model.letters, model.places):    # a norm of tiny vectors is too curved to check
        table.weight.assign(table.weight.data * 50)
    for layer in (model.query, model.key):         # so that attention is not near to an average
        layer.weight.assign(layer.weight.data * 3)
    return model


MODELS = [bigram, mlp, one_block]


@pytest.mark.parametrize("make", MODELS)
def test_the_gradient_of_a_whole_model_matches_finite_differences(make):
    model = make()
    named = list(model.named_parameters())

    def loss_of(*given):
        for (name, _), tensor in zip(named, given, strict=True):
            path, _, last = name.rpartition(".")
            setattr(model.find(path), last, tensor)
        return model.loss(IDS, TARGETS)
    check_gradient(loss_of, *[tensor.data.copy() for _, tensor in named])


@pytest.mark.parametrize("make", MODELS)
def test_a_place_sees_nothing_that_comes_after_it(make):
    model = make()
    changed = IDS.copy()
    changed[:, 2:] = (changed[:, 2:] + 1) % 5
    before, after = model(IDS).data, model(changed).data
    assert np.array_equal(before[:, :2], after[:, :2])
    assert make is bigram or not np.allclose(before[:, 2:], after[:, 2:])


@pytest.mark.parametrize("make", MODELS)
def test_next_logits_are_those_of_the_last_place_and_a_batch_is_learned(make):
    model = make(np.float32)
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    first = model.loss(IDS, TARGETS).item()
    for _ in range(100):
        loss = model.loss(IDS, TARGETS)
        loss.backward()
        optimizer.step(lr=3e-2)
    assert loss.item() < first / 2
    assert np.allclose(model.next_logits(IDS).data, model(IDS).data[:, -1], atol=1e-6)


def test_the_counted_table_is_the_share_of_each_pair():
    pairs = count_pairs(IDS, TARGETS, 5)
    assert pairs.sum() == 7 and pairs[1].tolist() == [0, 1, 1, 1, 0] and pairs[4, 0] == 1
    p = np.exp(by_counting(pairs, smoothing=1.0, dtype=np.float64).table.data)
    assert np.allclose(p[1], [1 / 8, 2 / 8, 2 / 8, 2 / 8, 1 / 8])
    assert np.allclose(p.sum(axis=1), 1)


def test_gradient_descent_finds_the_table_that_counting_finds():
    random = np.random.default_rng(1)
    x, y = random.integers(0, 5, (2, 30, 20))
    counted = by_counting(count_pairs(x, y, 5), smoothing=1e-9, dtype=np.float64)
    walked = bigram()
    optimizer = AdamW(walked.named_parameters(), decay=0.0)
    for step in range(300):
        walked.loss(x, y).backward()
        optimizer.step(lr=0.1 / (1 + step / 20))
    assert walked.loss(x, y).item() == pytest.approx(counted.loss(x, y).item(), abs=1e-6)
    shares = [np.exp(each.table.data) for each in (walked, counted)]
    shares = [share / share.sum(axis=1, keepdims=True) for share in shares]
    assert np.allclose(*shares, atol=1e-3)


def test_a_pair_never_seen_is_not_impossible():
    with pytest.raises(ValueError, match="smoothing must be above 0"):
        by_counting(np.ones((2, 2)), smoothing=0.0)


def test_a_window_ends_at_its_own_place_and_is_filled_with_the_first_id():
    assert windows(np.array([[7, 1, 2]]), 3).tolist() == [[[7, 7, 7], [7, 7, 1], [7, 1, 2]]]


def test_attention_in_plain_operations_is_the_fused_one_of_the_gpt():
    model = one_block()
    x = model.letters(IDS)
    qkv = concatenate([part(x) for part in (model.query, model.key, model.value)], axis=-1)
    expected = model.out(attention_qkv(qkv, 2, causal=True))
    assert np.allclose(model.attend(x).data, expected.data, atol=1e-12)


def test_a_text_longer_than_the_context_and_a_width_without_its_heads_are_refused():
    with pytest.raises(ValueError, match="5 letters do not fit this model's context of 4"):
        one_block()(np.zeros((1, 5), np.int64))
    with pytest.raises(ValueError, match="not a multiple of heads"):
        OneBlockConfig(5, heads=3, width=7)
