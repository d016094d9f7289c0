"""The rungs of lesson ladder, on a model that takes no time."""

import numpy as np

from tinygrad_edu.inference.ladder import KINDS, RUNGS, climb
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.packed_llama import packed


def test_every_rung_is_climbed_with_its_weights_and_fresh_memory_on_all_but_the_last():
    model = Llama(LlamaConfig(50, 64, 1, 2, 1, 32, 32), np.random.default_rng(0)).eval()
    kinds, forgotten = [], []

    def pack(model, kind):
        kinds.append(kind)
        return packed(model, kind)
    found = dict(climb(model, pack, lambda: forgotten.append(len(kinds)), prompt=4, new=3))
    assert list(found) == list(RUNGS)
    assert min(found.values()) > 0
    assert kinds == list(KINDS.values())
    assert [forgotten.count(n) for n in range(4)] == [5, 5, 5, 10]  # static buffers: none
