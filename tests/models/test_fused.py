"""A token in one call, against the operations of lesson llama on the same weights."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu import threads
from tinygrad_edu.inference.cache import KVCache
from tinygrad_edu.models.fused import Shape, llama_step
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.packed_llama import packed
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


def call_of(kind, position, **changes):
    """A case: the arguments of llama_step for a small model, with a cache that is half full."""
    def make(draw):
        model = model_of(kind, **changes)[1]
        keys, values = draw.array(2, *model.cache(1, 40)[2:5]), draw.array(2, *model.cache(1, 40)[2:5])
        turn = np.stack([table[position] for table in model._tables(64, np.empty(0, np.float32))])
        return (draw.out(11), keys, values, draw.array(64), model.store, model.places,
                model.vectors, turn, position, model.shape)
    return make


CASES = {llama_step: [call_of("F32", 20, **EVERYTHING), call_of("Q8_0", 0)]}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    if real == np.float64:
        pytest.skip("weights in blocks meet float32 alone")
    check_body(kernel, case, body, real)


def write(model, ids, count, room=40):
    """The logits of each of `count` tokens behind ids, (count, V); the likeliest is written."""
    cache, found = KVCache(*model.cache(1, room)), []
    with no_grad():
        z = model.next_logits(np.array([ids]), cache=cache).numpy()
        for _ in range(count):
            z = model.next_logits(z.argmax(axis=1)[:, None], cache=cache).numpy()
            found.append(z[0])
    return np.array(found)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_text_is_written_as_by_the_model_of_floats(family, count):
    model, same = model_of(**FAMILIES[family])
    with threads.limit(count):
        got, want = write(same, [1, 5, 3, 8], 24), write(model, [1, 5, 3, 8], 24)
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()
