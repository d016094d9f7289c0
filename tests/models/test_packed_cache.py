"""A packed model the long way, one token at a time: behind a cache of eight bits, and without C."""

import numpy as np
import pytest

from harness import need
from tinygrad_edu import kernel
from tinygrad_edu.inference.cache import Int8Cache, KVCache
from tinygrad_edu.models.gguf_model import load_gguf_model, save_gguf_model
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.packed_llama import PackedLlama, packed
from tinygrad_edu.tensor import no_grad


def test_tokens_behind_a_cache_of_eight_bits_have_nearly_the_logits_of_the_fused_way(tmp_path):
    config = LlamaConfig(vocabulary=40, context=32, layers=2, heads=4, groups=2, width=64,
                         hidden=64)
    save_gguf_model(tmp_path / "m.gguf", Llama(config, np.random.default_rng(0)), kind="Q8_0")
    model, _ = load_gguf_model(tmp_path / "m.gguf", PackedLlama)
    ids = np.random.default_rng(1).integers(0, 40, (1, 9))
    found = []
    with no_grad():
        for kind in (KVCache, Int8Cache):
            cache = kind(*model.cache(1, 16))
            model.next_logits(ids[:, :5], cache=cache)
            found.append([model.next_logits(ids[:, t : t + 1], cache=cache).numpy()
                          for t in range(5, 9)])
    exact, rounded = map(np.array, found)
    assert np.abs(rounded - exact).max() < 0.03 * np.abs(exact).max()
    assert np.any(rounded != exact)


@pytest.mark.parametrize("kind", ["F32", "Q4_0"])
def test_without_c_a_token_takes_the_long_way_through_numba_and_has_nearly_the_same_logits(
        kind, monkeypatch):
    need("numba")
    need("native")
    config = LlamaConfig(vocabulary=40, context=32, layers=2, heads=4, groups=2, width=64,
                         hidden=64)
    model = packed(Llama(config, np.random.default_rng(0)), kind)
    ids = np.random.default_rng(1).integers(0, 40, (1, 7))

    def written():
        cache = KVCache(*model.cache(1, 16))
        model.next_logits(ids[:, :5], cache=cache)
        return np.array([model.next_logits(ids[:, t : t + 1], cache=cache).numpy()
                         for t in range(5, 7)])

    with no_grad():
        fused = written()
        monkeypatch.setitem(kernel.backends, "native", kernel.Backend("native", lambda: False))
        model.kernel = None                        # who calls it breaks
        with kernel.settings(forced="numba"):
            found = written()
    assert np.abs(found - fused).max() < (1e-5 if kind == "F32" else 0.03) * np.abs(fused).max()
