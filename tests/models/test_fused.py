"""A token in one call, against the operations of lesson llama on the same weights."""

import functools
import threading

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu import threads
from tinygrad_edu.inference.cache import Int8Cache, KVCache
from tinygrad_edu.models import fused
from tinygrad_edu.models.fused import NO_SCALES, llama_step
from tinygrad_edu.models.gguf_model import load_gguf_model, save_gguf_model
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.packed_llama import PackedLlama, packed
from tinygrad_edu.ops.int8 import to_rows
from tinygrad_edu.tensor import no_grad

SMALL = {"vocabulary": 11, "context": 64, "layers": 2, "heads": 4, "groups": 2, "width": 64,
         "hidden": 96}
FAMILIES = {
    "llama": {},
    "one key head": {"groups": 1},
    "untied": {"tied": False, "groups": 4},
    "qwen2": {"offsets": True},
    "qwen3": {"head_norms": True, "head_width": 6},
    "mistral": {"window": 3},
    "stretched": {"stretch": {"kind": "linear", "factor": 4.0}},
}
EVERYTHING = {"tied": False, "offsets": True, "head_norms": True, "window": 5}


def model_of(kind="F32", seed=0, **changes):
    """(a small Llama whose weights differ, the same in blocks)."""
    model = Llama(LlamaConfig(**(SMALL | changes)), np.random.default_rng(seed)).eval()
    random = np.random.default_rng(seed + 1)
    for tensor in model.parameters():
        size = 8 if tensor.ndim == 2 else 1
        tensor.assign(tensor.data * size + 0.1 * random.standard_normal(tensor.shape))
    return model, packed(model, kind)


def call_of(kind, position, eight_bits=False, **changes):
    """A case: the arguments of llama_step for a small model, with a cache that is half full."""
    def make(draw):
        model = model_of(kind, **changes)[1]
        layers, _, *room = model.cache(1, 40)[:5]
        rows = [draw.array(layers, *room) for _ in range(2)]
        scales = [NO_SCALES, NO_SCALES]
        if eight_bits:
            rows, scales = zip(*map(to_rows, rows), strict=True)
        turn = np.stack([table[position] for table in model._tables(64, np.empty(0, np.float32))])
        return (draw.out(11), *rows, *scales, draw.array(64), model.store, model.places,
                model.vectors, turn, position, model.shape)
    return make


CASES = {llama_step: [call_of("F32", 20, **EVERYTHING), call_of("Q8_0", 0),
                      call_of("F32", 20, eight_bits=True, **EVERYTHING)]}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    if real == np.float64:
        pytest.skip("weights in blocks meet float32 alone")
    check_body(kernel, case, body, real)


def write(model, ids, count, room=40, kind=KVCache):
    """The logits of each of `count` tokens behind ids, (count, V); the likeliest is written."""
    cache, found = kind(*model.cache(1, room)), []
    with no_grad():
        z = model.next_logits(np.array([ids]), cache=cache).numpy()
        for _ in range(count):
            z = model.next_logits(z.argmax(axis=1)[:, None], cache=cache).numpy()
            found.append(z[0])
    return np.array(found)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [1, 3])
def test_a_text_is_written_as_by_the_model_of_floats(family, count):
    model, same = model_of(**FAMILIES[family])
    with threads.limit(count):
        got, want = write(same, [1, 5, 3, 8], 6), write(model, [1, 5, 3, 8], 6)
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("family", ["llama", "one key head", "qwen3", "mistral"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_cache_of_eight_bits_is_read_as_by_plain_operations(family, count):
    changes = FAMILIES[family] | {"context": 200}
    if "window" in changes:
        changes["window"] = 90
    plain, same = model_of(**changes)[1], model_of(**changes)[1]
    plain.next_logits = functools.partial(Llama.next_logits, plain)
    prompt = [int(i) for i in np.random.default_rng(3).integers(0, 11, 150)]
    with threads.limit(count):  # keys are widened 64 at a time
        got, want = (write(model, prompt, 6, 160, Int8Cache) for model in (same, plain))
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("kind, most", [("F16", 1e-3), ("Q8_0", 0.03), ("Q4_0", 0.03)])
def test_kinds_of_blocks_differ_from_their_own_plain_operations_by_roundings_of_x(kind, most):
    same = model_of(kind)[1]
    plain = packed(model_of()[0], kind)
    plain.next_logits = functools.partial(Llama.next_logits, plain)
    got, want = write(same, [1, 5, 3, 8], 8), write(plain, [1, 5, 3, 8], 8)
    assert np.abs(got - want).max() <= most * np.abs(want).max()


def test_a_thread_that_nobody_joins_gives_up_and_the_token_is_right(monkeypatch):
    model, same = model_of()
    want = write(model, [1, 5, 3], 1)
    monkeypatch.setattr(threads.pool, "together", lambda function: function(0, 2))
    patience = np.zeros(1 << 20, np.uint8)
    patience.view(np.uint32)[2] = 1                # somebody has lost patience already
    monkeypatch.setattr(fused, "buffers", [patience])
    assert np.abs(write(same, [1, 5, 3], 1) - want).max() <= 1e-4 * np.abs(want).max()


def test_a_second_thread_of_the_program_writes_alone():
    model, same = model_of()
    want, found = write(model, [1, 5, 3], 4), []
    def run():
        found.append(write(same, [1, 5, 3], 4))
    runs = [threading.Thread(target=run) for _ in range(3)]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    assert len(found) == 3
    for got in found:
        assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


def test_loss_and_texts_that_do_not_fit_are_those_of_the_model_of_floats():
    model, same = model_of()
    ids = np.random.default_rng(0).integers(0, 11, (2, 40))
    for reduction in ("mean", "sum"):
        with no_grad():
            want = model.loss(ids[:, :-1], ids[:, 1:], reduction).item()
            assert same.loss(ids[:, :-1], ids[:, 1:], reduction).item() == pytest.approx(want, 1e-5)
    with pytest.raises(ValueError, match="does not fit a cache with room for 4"):
        write(same, [1, 5, 3], 2, room=4)
    with pytest.raises(ValueError, match="does not fit this model's context of 64"):
        write(same, [1] * 63, 2, room=99)


def test_the_file_and_the_model_in_memory_are_the_same_blocks(tmp_path):
    model, same = model_of("Q8_0")
    save_gguf_model(tmp_path / "it.gguf", model, kind="Q8_0")
    read, _ = load_gguf_model(tmp_path / "it.gguf", PackedLlama)
    assert np.array_equal(write(read, [1, 5], 8), write(same, [1, 5], 8))
