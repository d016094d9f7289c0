"""Several examples in a row: each as if it stood alone, to the last bit."""

import numpy as np
import pytest

from harness import check_gradient
from tinygrad_edu.data.packing import Packed, best_fit, pack, shuffled
from tinygrad_edu.models.gpt import GPT, GPTConfig, places_of
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.tensor import no_grad
from tinygrad_edu.train.loop import evaluate, forward_and_backward

V, T = 11, 24
MODELS = {
    "gpt": lambda dtype: GPT(GPTConfig(V, T, 2, 2, 8), np.random.default_rng(0), dtype),
    "llama": lambda dtype: Llama(LlamaConfig(V, T, 2, 4, 2, 16, 12), np.random.default_rng(0),
                                 dtype),
    "window": lambda dtype: Llama(LlamaConfig(V, T, 1, 2, 1, 8, 12, head_norms=True, window=4),
                                  np.random.default_rng(0), dtype),
}


def model_of(kind, dtype=np.float32):
    """A tiny model whose matrices are large enough for every token to matter."""
    model = MODELS[kind](dtype)
    random = np.random.default_rng(1)
    for tensor in model.parameters():
        tensor.assign(tensor.data * 10 + 0.1 * random.standard_normal(tensor.shape))
    return model


def examples_of(lengths, seed=2):
    random = np.random.default_rng(seed)
    found = []
    for length in lengths:
        mask = np.ones(length, np.int8)
        mask[:length // 2] = 0
        found.append((random.integers(0, V, length), mask))
    return found


def gradients(model, batch):
    for tensor in model.parameters():
        tensor.grad = None
    model.loss(*batch[:2], reduction="sum", segments=batch[2]).backward()
    return [tensor.grad.copy() for tensor in model.parameters()]


def outputs(model, x, segments):
    with no_grad():
        return model.hidden(x, segments=segments).numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", MODELS)
def test_another_document_of_the_row_changes_no_bit_of_ones_own_outputs_and_gradients(kind, dtype):
    model = model_of(kind, dtype)
    packed = pack(examples_of([9, 8, 8]), T)                    # 8 + 7 + 7 tokens, 2 of padding
    assert len(packed) == 1
    x, y, segments = packed.x, packed.y, packed.segments
    for own in range(3):
        mine = segments == own
        other = np.where(mine, x, (x + 3) % V)
        same, changed = (outputs(model, ids, segments) for ids in (x, other))
        assert np.array_equal(same[mine], changed[mine])
        assert not np.array_equal(same[~mine], changed[~mine])
        targets = np.where(mine, y, -1)
        pairs = zip(gradients(model, (x, targets, segments)),
                    gradients(model, (other, targets, segments)), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", MODELS)
def test_a_packed_row_has_the_loss_and_the_gradient_of_its_examples_one_by_one(kind):
    model = model_of(kind, np.float64)
    examples = examples_of([9, 7, 6, 4, 2, 12])
    packed = pack(examples, T)
    together = gradients(model, (packed.x, packed.y, packed.segments))
    apart = [gradients(model, (p.x, p.y, p.segments)) for p in (pack([e], T) for e in examples)]
    for whole, *parts in zip(together, *apart, strict=True):
        assert np.allclose(whole, sum(parts), rtol=1e-10, atol=1e-12)
    alone = [model.loss(ids[None, :-1], np.where(mask[1:] == 1, ids[1:], -1)[None],
                        reduction="sum").item() for ids, mask in examples]
    total, count = evaluate(model, packed.batches(1))
    assert np.isclose(total * count, sum(alone), rtol=1e-12)
    assert count == sum(int(mask[1:].sum()) for _, mask in examples)


def test_without_segments_a_neighbour_is_seen():
    model = model_of("gpt", np.float64)
    packed = pack(examples_of([9, 8]), T)
    apart = model.loss(packed.x, packed.y, segments=packed.segments).item()
    assert abs(apart - model.loss(packed.x, packed.y).item()) > 0.01


@pytest.mark.parametrize("kind, names", [
    ("gpt", ["h.0.attn.c_attn.bias"]), ("window", ["layers.0.input_layernorm.weight"])])
def test_the_gradient_through_a_packed_row_matches_finite_differences(kind, names):
    model = MODELS[kind](np.float64)
    packed = pack(examples_of([5, 4]), 8)

    def loss(*given):
        for name, tensor in zip(names, given, strict=True):
            path, _, last = name.rpartition(".")
            setattr(model.find(path), last, tensor)
        return model.loss(packed.x, packed.y, segments=packed.segments)
    held = dict(model.named_parameters())
    check_gradient(loss, *[held[name].data.copy() for name in names])


def test_places_begin_anew_at_every_seam():
    segments = np.array([[0, 0, 0, 1, 1, 2], [4, 4, 4, 4, 4, 4]])
    assert places_of(segments).tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]]
    with pytest.raises(ValueError, match="without a cache"):
        places_of(segments, cache=object())


def test_every_example_is_there_once_and_whole():
    examples = examples_of(np.random.default_rng(3).integers(2, T + 2, 60))
    packed = pack(examples, T)
    found = []
    for x, y, segments in zip(packed.x, packed.y, packed.segments, strict=True):
        for segment in np.unique(segments):
            inside = segments == segment
            if (y[inside] >= 0).any():
                assert np.ptp(np.flatnonzero(inside)) == inside.sum() - 1      # neighbours
                found.append((x[inside].tolist(), y[inside].tolist()))
    wanted = [(ids[:-1].tolist(), np.where(mask[1:] == 1, ids[1:], -1).tolist())
              for ids, mask in examples]
    assert sorted(found) == sorted(wanted)
    assert 0 <= packed.padding < 0.1


def test_an_example_goes_where_it_leaves_least_room():
    assert best_fit([3, 5, 7, 2], 10) == [[2, 0], [1, 3]]
    assert best_fit([10, 10], 10) == [[0], [1]]
    assert best_fit([4, 6, 4, 6], 10) == [[1, 0], [3, 2]]


def test_the_batch_of_a_step_is_its_own_and_an_epoch_has_every_row_once():
    packed = pack(examples_of([T + 1] * 10), T)
    seen = [packed.of_step(5, 7, step)[0] for step in range(4)]
    for epoch in (seen[:2], seen[2:]):
        assert sorted(np.concatenate(epoch).tolist()) == sorted(packed.x.tolist())
    assert not np.array_equal(seen[0], seen[2])
    assert np.array_equal(packed.of_step(5, 7, 3)[0], seen[3])
    assert len(packed.of_step(25, 7, 0)[0]) == 25               # more rows than there are
    assert shuffled(5, 1, 0).tolist() == [3, 2, 0, 1, 4]


def test_columns_in_which_nothing_is_learnt_are_not_computed():
    packed = pack(examples_of([9, 5]), 40)
    x, y, segments = packed.of_step(1, 0, 0)
    assert x.shape == y.shape == segments.shape == (1, 12)


def test_a_training_step_takes_packed_rows():
    model = model_of("gpt")
    packed = pack(examples_of([9, 8, 5]), T)
    batch = packed.of_step(1, 0, 0)
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    losses = []
    for step in range(8):
        losses.append(forward_and_backward(model, [batch], 0, step))
        optimizer.step(0.01)
    assert losses[-1] < losses[0] - 0.5
    assert isinstance(packed, Packed)


def test_what_cannot_be_packed_is_named():
    good, = examples_of([5])
    nothing = np.arange(4), np.zeros(4, np.int8)
    prompt = np.arange(12), np.array([0] * 11 + [1])
    long = np.zeros(12, int), np.ones(12)
    with pytest.raises(ValueError, match="example 2 has no token to learn"):
        pack([good, nothing], 8)
    with pytest.raises(ValueError, match="example 1 has a prompt of 11 tokens, which fills"):
        pack([prompt], 8)
    with pytest.raises(ValueError, match="example 3 has 12 tokens, and a row of 8 holds 9"):
        pack([good, good, long], 8)
    left_out = []
    assert len(pack([nothing, good, prompt, long], 8, left_out)) == 1
    assert [sentence[:9] for sentence in left_out] == ["example 1", "example 3", "example 4"]
    with pytest.raises(ValueError, match="no example"):
        pack([], 8)
