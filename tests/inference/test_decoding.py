import itertools

import numpy as np
import pytest

from tinygrad_edu.inference import decoding
from tinygrad_edu.inference.decoding import (
    Reading,
    beam_search,
    generate,
    generate_many,
    ragged,
    text_of,
    until,
)
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.tensor import Tensor
from tinygrad_edu.tokenizers.characters import train_characters


class Counter:
    """A model that always expects the last token plus one, and tells how much text it was given."""

    class config:
        context = 4

    def __init__(self):
        self.lengths = []

    def next_logits(self, ids):
        self.lengths.append(ids.shape[1])
        logits = np.full((1, 10), -5.0)
        logits[0, (ids[0, -1] + 1) % 10] = 5.0
        return Tensor(logits)


def test_generation_continues_from_its_own_tokens_within_the_context():
    model = Counter()
    written = list(generate(model, [3], 6, np.random.default_rng(0), greedy=True))
    assert written == [4, 5, 6, 7, 8, 9]
    assert model.lengths == [1, 2, 3, 4, 4, 4]


def test_a_stop_token_ends_the_text_and_is_not_part_of_it():
    assert list(generate(Counter(), [3], 9, None, stop=(6,), greedy=True)) == [4, 5]


def test_the_same_seed_writes_the_same_text():
    one, other = (list(generate(Counter(), [0], 50, np.random.default_rng(4), temperature=3.0))
                  for _ in range(2))
    assert one == other


def test_nothing_to_continue_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        list(generate(Counter(), [], 3, None))


@pytest.fixture(scope="module")
def small_gpt():
    config = GPTConfig(vocabulary=50, context=12, layers=2, heads=2, width=16)
    return GPT(config, np.random.default_rng(0)).eval()


PROMPTS = [[3], [7, 8, 9, 1, 2], [4, 4], [5] * 11]


@pytest.mark.parametrize("stop", [(), tuple(range(20))])
def test_many_prompts_at_once_are_continued_like_each_alone(small_gpt, stop):
    many = generate_many(small_gpt, PROMPTS, 15, generators(), stop, temperature=0.7)
    alone = [list(generate(small_gpt, prompt, 15, random, stop, temperature=0.7))
             for prompt, random in zip(PROMPTS, generators(), strict=True)]
    assert many == alone
    assert stop == () or len({len(text) for text in many}) > 1  # rows have left the batch early


def generators():
    return [np.random.default_rng([5, row]) for row in range(len(PROMPTS))]


def test_what_stands_behind_the_end_of_a_row_does_not_count(small_gpt):
    ids, lengths = ragged(PROMPTS)
    assert ids.shape == (4, 11) and lengths.tolist() == [1, 5, 2, 11]
    clean = small_gpt.next_logits(ids, lengths).numpy()
    ids[np.arange(11) >= lengths[:, None]] = 33
    assert np.array_equal(small_gpt.next_logits(ids, lengths).numpy(), clean)


def test_an_empty_prompt_among_many_is_refused(small_gpt):
    with pytest.raises(ValueError, match="in each prompt"):
        generate_many(small_gpt, [[1], []], 3, generators())


def tiny(kind, context=24):
    """A tiny model with logits that are far enough apart to make tokens differ."""
    if kind == "gpt":
        model = GPT(GPTConfig(vocabulary=7, context=context, layers=2, heads=2, width=16),
                    np.random.default_rng(0))
    else:
        config = LlamaConfig(vocabulary=7, context=context, layers=2, heads=4, groups=2, width=16,
                             hidden=24, window=6)
        model = Llama(config, np.random.default_rng(0))
    for tensor in model.parameters():
        if tensor.ndim == 2:
            tensor.assign(tensor.data * 8)
    return model.eval()


FEW = [[3], [1, 2, 3, 4, 5], [4, 4], [5] * 11]


@pytest.mark.parametrize("kind", ["gpt", "llama"])
@pytest.mark.parametrize("choice", [{"greedy": True}, {"temperature": 1.3},
                                    {"penalty": 1.4, "min_p": 0.02}], ids=str)
def test_a_cache_changes_no_token_also_beyond_the_context(kind, choice, monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK", 4)      # so that the longest prompt is read in chunks
    model = tiny(kind)
    for stop in ((), (0,)):
        texts = [generate_many(model, FEW, 20, generators(), stop, cached=cached, **choice)
                 for cached in (True, False)]
        alone = [list(generate(model, prompt, 20, random, stop, **choice))
                 for prompt, random in zip(FEW, generators(), strict=True)]
        assert texts[0] == texts[1] == alone


@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_a_second_turn_reads_only_what_is_new_and_finds_the_logits_of_a_fresh_reading(kind):
    model, read = tiny(kind), []
    hidden = model.hidden
    model.hidden = lambda ids, cache=None: (read.append(ids.shape[1]), hidden(ids, cache))[1]
    reading = Reading(model, [[]], model.config.context)
    first = [1, 2, 3, 4]
    answer = list(generate(model, first, 3, None, reading=reading, greedy=True))
    del read[:]
    # The last token of the answer was written and not read. One of a turn may also differ.
    for second, known in ((first + answer + [5, 6], 6), (first + answer + [5, 6, 2, 2, 1], 9),
                          ([1, 2, 6, 4, 4], 2), ([1, 2, 6, 4, 4], 4), ([3], 0)):
        assert reading.turn_to(second) == known
        fresh = Reading(model, [second], 1).logits()
        del read[:]
        assert np.abs(reading.logits() - fresh).max() <= 1e-5
        assert read == [len(second) - known]


@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_prompts_of_any_length_are_read_in_chunks_with_the_same_logits(kind, monkeypatch):
    model, texts = tiny(kind), [[3], [1, 2, 3, 4, 5, 6], [4] * 8, [5, 1] * 6]
    whole = Reading(model, texts, 1).logits()
    monkeypatch.setattr(decoding, "CHUNK", 4)
    assert np.abs(Reading(model, texts, 1).logits() - whole).max() <= 1e-5


def test_a_cache_is_read_token_by_token_and_given_up_beyond_the_context(monkeypatch):
    model, lengths = tiny("gpt", context=8), []
    read = model.hidden
    monkeypatch.setattr(model, "hidden", lambda ids, cache=None: (
        lengths.append((ids.shape[1], cache is not None)), read(ids, cache))[1])
    list(generate(model, [1, 2, 3], 8, None, greedy=True))
    assert lengths == [(3, True), *5 * [(1, True)], *2 * [(8, False)]]


@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_beam_search_that_keeps_everything_finds_the_likeliest_text(kind):
    model = tiny(kind)
    z = [np.float64(model(np.array([[2, *three]])).numpy()[0])
         for three in itertools.product(range(7), repeat=3)]
    log_p = [rows - np.log(np.exp(rows).sum(axis=1, keepdims=True)) for rows in z]
    sums = {three: sum(rows[place, token] for place, token in enumerate(three))
            for three, rows in zip(itertools.product(range(7), repeat=3), log_p, strict=True)}
    best = sorted(sums, key=sums.get, reverse=True)[:3]
    for cached in (True, False):
        found = beam_search(model, [2], 3, beams=49, exponent=0, cached=cached)
        assert [tuple(text) for text, _ in found[:3]] == best
        assert np.allclose([total for _, total in found[:3]], [sums[three] for three in best])


def test_one_beam_is_greedy_and_more_beams_find_no_less_likely_text_here():
    model = tiny("gpt")
    (text, total), = beam_search(model, [2, 5], 10, beams=1)
    assert text == list(generate(model, [2, 5], 10, None, greedy=True))
    assert beam_search(model, [2, 5], 10, beams=8)[0][1] >= total - 1e-5


def test_beams_that_come_to_a_stop_token_end_there_and_are_ranked_by_their_length():
    model = tiny("gpt")
    found = beam_search(model, [2], 12, beams=3, stop=(1, 4), exponent=0)
    assert len(found) == 3 and all(not {1, 4} & set(text) for text, _ in found)
    assert [total for _, total in found] == sorted([total for _, total in found], reverse=True)
    long = beam_search(model, [2], 12, beams=3, stop=(1, 4), exponent=3)
    assert len(long[0][0]) >= len(found[0][0])


def test_a_stop_string_in_pieces_ends_the_text_and_nothing_of_it_is_shown():
    assert list(until(["ab", "c#", "#", "d"], ["##"])) == ["ab", "c", ""]
    assert "".join(until(["c#", "d#", "e#"], ["##"])) == "c#d#e#"
    assert "".join(until(["one two", " three"], ["three", "wo t", ""])) == "one t"
    assert "".join(until("aabaac", ["aac"])) == "aab"


def test_the_text_of_tokens_comes_piece_by_piece_and_stops_before_the_stop_string():
    tokenizer = train_characters(["abcdefgh"])
    ids = tokenizer.encode("abcdef")
    assert "".join(text_of(tokenizer, ids)) == "abcdef"
    assert "".join(text_of(tokenizer, ids, ["de"])) == "abc"


def test_beam_search_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        beam_search(tiny("gpt"), [], 3)
