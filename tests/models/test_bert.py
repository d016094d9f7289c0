import numpy as np
import pytest

from harness import check_gradient, need, real_model
from tinygrad_edu.kernel import settings
from tinygrad_edu.models.bert import Bert, BertConfig
from tinygrad_edu.models.embedder import load_embedder
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.tensor import no_grad

TINY = {"vocabulary": 11, "context": 12, "layers": 2, "heads": 2, "width": 8, "hidden": 12}
SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]


def model_of(dtype=np.float32, **changes):
    model = Bert(BertConfig(**(TINY | changes)), np.random.default_rng(0), dtype)
    for tensor in model.parameters():
        tensor.assign(tensor.data * (10 if tensor.ndim == 2 else 1))
    return model


def some_ids(B=3, T=9, seed=1):
    return np.random.default_rng(seed).integers(0, 11, (B, T))


def stream(model, *given):
    with no_grad():
        return model(*given).numpy()


def test_the_counted_parameters_are_the_ones_of_the_model():
    model = model_of(kinds=3)
    assert model.parameter_count() == model.config.parameter_count()


def test_every_position_sees_all_others_before_and_behind_it():
    model, ids = model_of(layers=1), some_ids(B=1)
    changed = ids.copy()
    changed[0, 4] = (changed[0, 4] + 1) % 11
    assert (np.abs(stream(model, ids) - stream(model, changed)).max(axis=(0, 2)) > 1e-6).all()


def test_padding_is_neither_seen_nor_counted():
    model, ids = model_of(), some_ids()
    lengths = [9, 5, 1]
    found = model.embed(ids, lengths)
    for row, length in enumerate(lengths):
        alone = model.embed(ids[row : row + 1, :length])[0]
        assert np.abs(found[row] - alone).max() <= 1e-6
        assert np.isclose(np.linalg.norm(alone), 1)


def test_the_kind_of_a_text_matters():
    model, ids = model_of(), some_ids()
    assert not np.allclose(stream(model, ids), stream(model, ids, None, np.ones_like(ids)))


def test_the_gradient_of_the_whole_model_matches_finite_differences():
    model = model_of(np.float64, layers=1, width=4, hidden=3, context=4, vocabulary=5)
    ids = some_ids(B=2, T=4) % 5
    targets = np.where(some_ids(B=2, T=4, seed=3) < 6, ids, -1)
    names = [name for name, _ in model.named_parameters()]

    def loss_of(*given):
        for name, tensor in zip(names, given, strict=True):
            path, _, last = name.rpartition(".")
            setattr(model.find(path), last, tensor)
        return model.loss(ids, targets, [4, 3])
    check_gradient(loss_of, *[tensor.data.copy() for tensor in model.parameters()])


def test_gaps_of_one_batch_can_be_learnt_by_heart():
    model, ids = Bert(BertConfig(**TINY), np.random.default_rng(0)), some_ids()
    gaps = np.arange(9) % 3 == 1
    hidden, targets = np.where(gaps, 10, ids), np.where(gaps, ids, -1)
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    for _ in range(120):
        loss = model.loss(hidden, targets)
        loss.backward()
        optimizer.step(lr=1e-2, clip=1.0)
    assert loss.item() < 0.1


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="13 tokens does not fit this model's context of 12"):
        stream(model_of(), some_ids(T=13))
    with pytest.raises(ValueError, match="width 9 is not a multiple of heads 2"):
        BertConfig(**(TINY | {"width": 9}))


@pytest.fixture(scope="module")
def minilm():
    return load_embedder(real_model("minilm"))


def test_minilm_finds_the_published_likenesses_of_three_sentences(minilm):
    found = minilm.embed(SENTENCES)
    cosines = (found @ found.T)[np.triu_indices(3, 1)]
    assert np.abs(cosines - [0.6660, 0.1046, 0.1411]).max() < 5e-4


def test_minilm_embeds_a_text_the_same_in_any_company(minilm):
    alone = minilm.embed(SENTENCES[:1])[0]
    many = minilm.embed([*SENTENCES, "word " * 1000] * 2)
    assert np.abs(many[::4] - alone).max() < 1e-5
    assert len(minilm.ids("word " * 1000)) == minilm.longest == 256


@pytest.mark.emulator
def test_the_cuda_kernels_read_and_learn_the_same_in_the_emulator():
    need("cuda")
    ids, found = some_ids(), []
    for forced in ("", "emulator"):
        model = model_of(layers=1)
        with settings(forced=forced):
            loss = model.loss(ids, np.where(ids < 6, ids, -1), [9, 5, 1])
            loss.backward()
            vectors = model.embed(ids, [9, 5, 1])
        found.append((loss.item(), vectors, [tensor.grad.copy() for tensor in model.parameters()]))
    (loss, vectors, grads), (emulated, others, more) = found
    assert np.isclose(loss, emulated, rtol=1e-5) and np.allclose(vectors, others, atol=1e-5)
    for mine, theirs in zip(grads, more, strict=True):
        assert np.allclose(mine, theirs, rtol=1e-3, atol=1e-5)
