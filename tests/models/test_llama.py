import numpy as np
import pytest

from harness import check_gradient, need
from tinygrad_edu.inference.cache import KVCache
from tinygrad_edu.inference.decoding import generate
from tinygrad_edu.kernel import settings
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.tensor import no_grad

TINY = {"vocabulary": 11, "context": 16, "layers": 2, "heads": 4, "groups": 2, "width": 16,
        "hidden": 12}
FAMILIES = {
    "llama": {},
    "one key head": {"groups": 1},
    "untied": {"tied": False, "groups": 4},
    "qwen2": {"offsets": True},
    "qwen3": {"head_norms": True, "head_width": 6},
    "mistral": {"window": 3},
    "stretched": {"stretch": {"kind": "llama3", "factor": 4.0, "low": 1.0, "high": 4.0,
                              "context": 8}},
}


def model_of(dtype=np.float32, seed=0, **changes):
    """A tiny model whose matrices are large enough to make attention differ from an average."""
    model = Llama(LlamaConfig(**(TINY | changes)), np.random.default_rng(seed), dtype)
    random = np.random.default_rng(seed + 1)
    for tensor in model.parameters():
        size = 10 if tensor.ndim == 2 else 1
        tensor.assign(tensor.data * size + 0.1 * random.standard_normal(tensor.shape))
    return model


def some_ids(B=2, T=12, seed=1):
    return np.random.default_rng(seed).integers(0, 11, (B, T))


def logits(model, ids, cache=None):
    with no_grad():
        return model(ids, cache).numpy()


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def test_the_counted_parameters_are_the_ones_of_the_model(family):
    model = model_of(**family)
    assert model.parameter_count() == model.config.parameter_count()


def test_smollm2_has_the_135_million_parameters_of_the_published_model():
    config = LlamaConfig(49152, 8192, 30, 9, 3, 576, 1536)
    assert config.parameter_count() == 134_515_008


EVERYTHING = {"tied": False, "offsets": True, "head_norms": True, "head_width": 4, "window": 3,
              "stretch": FAMILIES["stretched"]["stretch"]}


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["plain", "everything"])
def test_the_gradient_of_the_whole_model_matches_finite_differences(changes):
    small = {"layers": 1, "width": 6, "hidden": 5, "heads": 2, "groups": 1, "head_width": 2}
    model = model_of(np.float64, **(small | changes))
    ids = some_ids(T=6)
    names = [name for name, _ in model.named_parameters()]

    def loss_of(*given):
        for name, tensor in zip(names, given, strict=True):
            path, _, last = name.rpartition(".")
            setattr(model.find(path), last, tensor)
        return model.loss(ids[:, :-1], ids[:, 1:])
    check_gradient(loss_of, *[tensor.data.copy() for tensor in model.parameters()])


def test_logits_and_loss_agree(family):
    model, ids = model_of(**family), some_ids()
    z = np.float64(logits(model, ids[:, :-1]))
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_p, ids[:, 1:, None], axis=-1)
    assert np.isclose(model.loss(ids[:, :-1], ids[:, 1:]).item(), -picked.mean(), rtol=1e-5)


def test_a_position_sees_nothing_that_comes_after_it(family):
    model, ids = model_of(**family), some_ids()
    changed = ids.copy()
    changed[:, 7:] = (changed[:, 7:] + 1) % 11
    one, other = logits(model, ids), logits(model, changed)
    assert np.allclose(one[:, :7], other[:, :7], atol=1e-6)
    assert not np.allclose(one[:, 7:], other[:, 7:])


def test_what_lies_before_the_window_of_every_layer_is_not_seen():
    model, ids = model_of(window=3, layers=1), some_ids()
    changed = ids.copy()
    changed[:, 4] = (changed[:, 4] + 1) % 11
    seen = np.abs(logits(model, ids) - logits(model, changed)).max(axis=(0, 2)) > 1e-6
    assert np.flatnonzero(seen).tolist() == [4, 5, 6]


@pytest.mark.parametrize("cuts", [(12,), (5, 6, 7, 12), tuple(range(1, 13))],
                         ids=["whole", "chunks", "token by token"])
def test_with_a_cache_in_any_chunks_the_logits_are_those_of_the_whole(family, cuts):
    model, ids = model_of(**family), some_ids()
    cache = KVCache(*model.cache(2, 16))
    parts = [logits(model, ids[:, low:high], cache)
             for low, high in zip((0, *cuts), cuts, strict=False)]
    assert np.abs(np.concatenate(parts, axis=1) - logits(model, ids)).max() <= 1e-5
    assert cache.lengths.tolist() == [12, 12]


def test_rows_of_different_length_go_on_as_each_alone(family):
    model, ids = model_of(**family), some_ids(B=3)
    lengths = np.array([7, 4, 1])
    cache = KVCache(*model.cache(3, 16))
    whole = logits(model, ids)
    with no_grad():
        found = model.next_logits(ids[:, :7], lengths, cache).numpy()
    for _ in range(5):
        for row, z in enumerate(found):
            assert np.abs(z - whole[row, lengths[row] - 1]).max() <= 1e-5
        assert cache.lengths.tolist() == lengths.tolist()
        with no_grad():
            found = model.next_logits(ids[np.arange(3), lengths][:, None], cache=cache).numpy()
        lengths = lengths + 1


def test_positions_count_from_the_first_token_of_a_text_alone():
    model = model_of(stretch={"kind": "linear", "factor": 2.0})
    assert not np.allclose(logits(model, some_ids()), logits(model_of(), some_ids()))


def test_one_batch_can_be_learnt_by_heart():
    model, ids = Llama(LlamaConfig(**TINY), np.random.default_rng(0)), some_ids(seed=2)
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    for _ in range(120):
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step(lr=1e-2, clip=1.0)
    assert loss.item() < 0.05


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="20 tokens does not fit this model's context of 16"):
        model_of()(some_ids(T=20))
    with pytest.raises(ValueError, match="4 query heads cannot share 3"):
        LlamaConfig(**(TINY | {"groups": 3}))
    with pytest.raises(ValueError, match="heads of 5 numbers cannot be turned in pairs"):
        LlamaConfig(**(TINY | {"head_width": 5}))
    with pytest.raises(ValueError, match="can be stretched by default, linear"):
        model_of(stretch={"kind": "rubber"})


@pytest.mark.emulator
@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["plain", "everything"])
def test_the_cuda_kernels_learn_and_write_the_same_in_the_emulator(changes):
    need("cuda")
    found = []
    for forced in ("", "emulator"):
        model = model_of(layers=1, **({"width": 8} | changes))
        with settings(forced=forced):
            loss = model.loss(some_ids()[:, :-1], some_ids()[:, 1:])
            loss.backward()
            text = list(generate(model, [1, 2, 3], 5, None, greedy=True))
        found.append((loss.item(), text, [tensor.grad.copy() for tensor in model.parameters()]))
    (loss, text, grads), (emulated, written, others) = found
    assert np.isclose(loss, emulated, rtol=1e-5) and text == written
    for mine, theirs in zip(grads, others, strict=True):
        assert np.allclose(mine, theirs, rtol=1e-3, atol=1e-5)
