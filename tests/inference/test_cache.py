import numpy as np
import pytest

from tinygrad_edu.inference import cache as lesson
from tinygrad_edu.inference.cache import KVCache
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.tensor import no_grad


def some(T, seed=0, B=2):
    random = np.random.default_rng(seed)
    return random.random((B, 3, T, 4), np.float32), random.random((B, 3, T, 4), np.float32)


def test_what_is_appended_stands_behind_what_was_there():
    cache = KVCache(2, 2, 3, 8, 4)
    (k, v), (more_k, more_v) = some(3), some(2, seed=1)
    cache.append(1, k, v)
    cache.advance(3)
    keys, values = cache.append(1, more_k, more_v)
    assert np.array_equal(keys, np.concatenate([k, more_k], axis=2))
    assert np.array_equal(values, np.concatenate([v, more_v], axis=2))


def test_a_short_row_goes_on_behind_its_own_end_and_overwrites_its_padding():
    cache = KVCache(1, 2, 3, 8, 4)
    (k, v), (more_k, more_v) = some(3), some(1, seed=1)
    cache.append(0, k, v)
    cache.advance(np.array([3, 1]))                 # of the second row, two were padding
    keys, _ = cache.append(0, more_k, more_v)
    assert np.array_equal(keys[0, :, :4], np.concatenate([k, more_k], axis=2)[0])
    assert np.array_equal(keys[1, :, :2], np.concatenate([k[:, :, :1], more_k], axis=2)[1])


def test_layers_do_not_share_room():
    cache = KVCache(2, 2, 3, 8, 4)
    (k, v), (other, _) = some(3), some(3, seed=1)
    cache.append(0, k, v)
    cache.append(1, other, v)
    assert np.array_equal(cache.keys[0, :, :, :3], k)


def test_rows_that_are_kept_may_be_named_twice():
    cache = KVCache(1, 2, 3, 8, 4)
    cache.append(0, *some(3))
    cache.advance(np.array([3, 2]))
    first, second = cache.keys[:, 0].copy(), cache.keys[:, 1].copy()
    cache.keep([1, 0, 1])
    assert cache.lengths.tolist() == [2, 3, 2]
    for row, expected in enumerate((second, first, second)):
        assert np.array_equal(cache.keys[:, row, :, :3], expected[:, :, :3])
    cache.keys[:, 0] = 0
    assert cache.keys[:, 2, :, :3].any()            # copies: they go different ways from now on


def test_more_than_there_is_room_for_is_refused():
    cache = KVCache(1, 2, 3, 4, 4)
    cache.append(0, *some(3))
    cache.advance(3)
    with pytest.raises(ValueError, match="a text of 5 tokens does not fit a cache with room for 4"):
        cache.append(0, *some(2))


@pytest.mark.parametrize("cuts", [(12,), (5, 6, 7, 12), tuple(range(1, 13))],
                         ids=["whole", "chunks", "token by token"])
def test_gpt_reads_in_any_chunks_what_it_reads_at_once(cuts):
    model = GPT(GPTConfig(11, 16, 2, 2, 16), np.random.default_rng(0)).eval()
    ids = np.random.default_rng(1).integers(0, 11, (2, 12))
    cache = KVCache(*model.cache(2, 16))
    with no_grad():
        parts = [model(ids[:, low:high], cache).numpy()
                 for low, high in zip((0, *cuts), cuts, strict=False)]
        assert np.abs(np.concatenate(parts, axis=1) - model(ids).numpy()).max() <= 1e-5
        with pytest.raises(ValueError, match="17 tokens does not fit"):
            model(np.zeros((2, 5), int), cache)


def test_gpt_goes_on_with_rows_of_different_length_as_with_each_alone():
    model = GPT(GPTConfig(11, 16, 2, 2, 16), np.random.default_rng(0)).eval()
    ids, lengths = np.random.default_rng(1).integers(0, 11, (3, 12)), np.array([7, 4, 1])
    cache = KVCache(*model.cache(3, 16))
    with no_grad():
        whole = model(ids).numpy()
        found = model.next_logits(ids[:, :7], lengths, cache).numpy()
        for _ in range(5):
            assert np.abs(found - whole[np.arange(3), lengths - 1]).max() <= 1e-5
            found = model.next_logits(ids[np.arange(3), lengths][:, None], cache=cache).numpy()
            lengths = lengths + 1


# ---- windows -----------------------------------------------------------------------------------


@pytest.fixture
def mistral(monkeypatch):
    """A tiny model that sees five tokens, and caches that take three at once."""
    monkeypatch.setattr(lesson, "AT_ONCE", 3)
    model = Llama(LlamaConfig(11, 64, 2, 4, 2, 16, 12, window=5), np.random.default_rng(0))
    for tensor in model.parameters():
        tensor.assign(tensor.data * (10 if tensor.ndim == 2 else 1))
    return model


@pytest.mark.parametrize("cuts", [range(1, 41), range(3, 43, 3), (1, 4, 6, 9, 10, 13, 15)],
                         ids=["token by token", "chunks", "any"])
def test_a_window_bounds_the_memory_and_changes_no_logits(mistral, cuts):
    ids = np.random.default_rng(1).integers(0, 11, (2, 45))
    cache = KVCache(*mistral.cache(2, 64))
    assert cache.keys.shape[3] == 4 + 3             # of the window before a token, and at once
    with no_grad():
        parts = [mistral(ids[:, low:high], cache).numpy()
                 for low, high in zip((0, *cuts), cuts, strict=False)]
        whole = mistral(ids[:, : cuts[-1]]).numpy()
    assert np.abs(np.concatenate(parts, axis=1) - whole).max() <= 1e-5


def test_rows_of_different_length_move_their_windows_each_by_itself(mistral):
    ids, lengths = np.random.default_rng(1).integers(0, 11, (3, 50)), np.array([0, 0, 0])
    cache = KVCache(*mistral.cache(3, 64))
    with no_grad():
        whole = mistral(ids).numpy()
        for counts in ([3, 1, 2], [3, 3, 1], [3, 2, 3], *[[1, 1, 1]] * 6, [2, 3, 1]) * 2:
            rows = np.stack([row[n : n + 3] for row, n in zip(ids, lengths, strict=True)])
            found = mistral.next_logits(rows[:, : max(counts)], counts, cache).numpy()
            lengths = lengths + counts
            assert np.abs(found - whole[np.arange(3), lengths - 1]).max() <= 1e-5
    assert len(set(cache.first)) == 3 and cache.lengths.tolist() == lengths.tolist()


def test_more_at_once_than_a_window_leaves_places_for_is_refused(mistral):
    cache = KVCache(*mistral.cache(1, 64))
    with pytest.raises(ValueError, match="room for 64, and 3 at once"):
        mistral(np.zeros((1, 9), int), cache)


def test_a_cache_goes_back_as_far_as_the_keys_are_there_and_else_to_the_begin(mistral):
    ids = np.random.default_rng(1).integers(0, 11, (1, 30))
    for read, length, kept in ((6, 2, 2), (20, 19, 19), (20, 5, 0), (20, 99, 20)):
        cache = KVCache(*mistral.cache(1, 64))
        with no_grad():
            for place in range(read):
                mistral(ids[:, place : place + 1], cache)
            cache.back_to(length)
            assert cache.lengths.tolist() == [kept]
            found = mistral(ids[:, kept : kept + 3], cache).numpy()
            assert np.abs(found - mistral(ids[:, : kept + 3]).numpy()[:, kept:]).max() <= 1e-5


def test_a_cache_that_does_not_fit_in_memory_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(lesson, "available_bytes", lambda: 2 * 2 * 3 * 8 * 4 * 4 - 1)
    with pytest.raises(ValueError, match=r"8 positions take 0 MB, and 0 MB of memory are free"):
        KVCache(2, 1, 3, 8, 4)
    monkeypatch.setattr(lesson, "available_bytes", lambda: 2 * 2 * 3 * 8 * 4 * 4)
    KVCache(2, 1, 3, 8, 4)


def test_a_cache_of_eight_bits_is_a_quarter_and_gives_back_what_it_was_told_to_a_step():
    random = np.random.default_rng(0)
    k, v = random.standard_normal((2, 2, 3, 5, 64)).astype(np.float32)
    whole, small = KVCache(2, 2, 3, 8, 64), lesson.Int8Cache(2, 2, 3, 8, 64)
    assert small.nbytes / whole.nbytes == 68 / 256
    for cache in (whole, small):
        cache.append(1, k[:, :, :3], v[:, :, :3])
        cache.advance(np.array([3, 1]))
        cache.keep([1, 0])
    exact, found = (cache.append(1, k[:, :, 3:], v[:, :, 3:]) for cache in (whole, small))
    for a, b in zip(exact, found, strict=True):
        for row, end in enumerate((3, 5)):
            step = np.abs(a[row, :, :end]).max(axis=-1, keepdims=True) / 127
            assert np.all(np.abs(a[row, :, :end] - b[row, :, :end]) <= 0.501 * step)


def test_a_model_writes_the_same_behind_a_cache_of_eight_bits():
    from tinygrad_edu.inference.decoding import generate

    model = Llama(LlamaConfig(50, 64, 2, 4, 2, 32, 64), np.random.default_rng(0)).eval()
    written = [list(generate(model, [1, 2, 3], 20, np.random.default_rng(0), cached=cached,
                             greedy=True)) for cached in (True, "int8", "float", False)]
    assert written[0] == written[1] == written[2] == written[3]
