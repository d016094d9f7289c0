"""Training Unigram: expected counts over all cuts, ψ, and what pruning drops."""

import math
import random

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.tokenizers.sentencepiece_training import (
    Pieces,
    digamma,
    expected_counts,
    maximise,
    prune,
    seeds,
    train_sentencepiece,
    train_unigram,
)
from tinygrad_edu.tokenizers.unigram import BYTE_TOKENS, Unigram

TOKENS = [b"a", b"b", b"ab", b"ba", b"aab", "é".encode()]
SCORES = [-1.0, -1.5, -2.0, -3.0, -4.0, -2.0]


def call(counts):
    def arguments(draw, real=None):
        pieces = Pieces(counts)
        out = draw.out(len(TOKENS) + 1, dtype=np.float64), draw.out(1, dtype=np.float64)
        data = pieces.text.copy(), pieces.spans, pieces.weights
        return *out, *data, *Unigram(TOKENS, SCORES).arrays

    return arguments


SOURCE = random.Random(0)
RANDOM = ["".join(SOURCE.choices("aabé", k=SOURCE.randrange(1, 9))).encode() for _ in range(200)]
CASES = {
    expected_counts: [
        call({b"ab": 2, b"a": 1}),
        call({piece: 1 + index % 7 for index, piece in enumerate(RANDOM)}),
        call({"axé".encode(): 3, b"": 2}),
    ]
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def test_expected_counts_are_those_over_all_cuts():
    # aab: a a b, a ab, aab have the scores −3.5, −3, −4.
    shares = np.exp([-3.5, -3.0, -4.0])
    total = shares.sum()
    expected = np.array([2 * shares[0] + shares[1], shares[0], shares[1], 0, shares[2], 0]) / total
    counts, loss = Pieces({b"aab": 3}).expected(TOKENS, SCORES)
    np.testing.assert_allclose(counts, 3 * expected, rtol=1e-12)
    assert loss == pytest.approx(-3 * math.log(total))


def test_an_em_round_never_makes_the_text_less_likely():
    pieces = Pieces({piece: 1 for piece in RANDOM})
    scores, losses = np.array(SCORES), []
    scores -= np.log(np.exp(scores).sum())
    for _ in range(5):
        counts, loss = pieces.expected(TOKENS, scores)
        losses.append(loss)
        scores = np.log(counts / counts.sum())  # EM itself, without the ψ
    assert all(after <= before for before, after in zip(losses, losses[1:], strict=False))
    assert losses[-1] < 0.9 * losses[0]


def test_digamma_is_what_is_known_of_it():
    gamma = 0.57721566490153286
    known = {0.5: -gamma - 2 * math.log(2), 1: -gamma, 2: 1 - gamma, 5: 25 / 12 - gamma}
    for n, value in known.items():
        assert float(digamma(n)) == pytest.approx(value, abs=3e-9)


def test_what_is_hardly_needed_goes_but_characters_stay():
    tokens, scores = maximise([b"a", b"b", b"ab", b"ba"], np.array([0.1, 7.0, 0.4, 3.0]), fixed=2)
    assert tokens == [b"a", b"b", b"ba"]
    assert scores[1] > scores[2] > scores[0]


def test_pruning_drops_the_token_that_others_replace_at_the_least_cost():
    # "ings" is as good as "ing" + "s", which are there anyway; "qu" is not, its letters are rare.
    counts = {b"ings": 4, b"ing": 90, b"s": 90, b"qu": 10}
    tokens = [b"i", b"n", b"g", b"s", b"q", b"u", b"ing", b"ings", b"qu"]
    scores = np.log([1e-3, 1e-3, 1e-3, 0.4, 1e-4, 1e-4, 0.4, 0.02, 0.05])
    kept, _ = prune(tokens, scores, Pieces(counts), fixed=6, wanted=8)
    assert kept == [*tokens[:6], b"ing", b"qu"]


def test_seeds_are_long_and_frequent_and_no_longer_than_sixteen_characters():
    tokens, counts = seeds({b"abab": 3, b"x" * 40: 1, b"zz": 1}, ["a", "b"], most=2)
    assert tokens == [b"a", b"b", b"ab", b"abab"]
    assert counts.tolist() == [6, 6, 6, 3]
    tokens, _ = seeds({b"x" * 40: 2}, ["x"], most=100)
    assert max(map(len, tokens)) == 16


WORDS = {b"un": 9, b"happy": 30, b"unhappy": 20, b"happily": 9, b"ily": 12, "é": 1}
COUNTS = {("▁" + word if isinstance(word, str) else "▁" + word.decode()).encode(): n
          for word, n in WORDS.items()}


def test_a_trained_unigram_has_at_most_the_size_that_was_asked_for_and_writes_all_its_text():
    trained = train_unigram(COUNTS, 20)
    assert 13 < trained.vocab_size <= 20
    assert trained.tokens[:3] == [b"<unk>", b"<s>", b"</s>"]
    assert all(0 not in trained.encode_piece(piece) for piece in COUNTS)
    assert len(trained.encode_piece("▁happy".encode())) <= 2
    ordered = trained.scores[3:-1]
    assert np.all(np.diff(ordered) <= 0)
    again = train_unigram(dict(reversed(COUNTS.items())), 20)
    assert again.tokens == trained.tokens


def test_byte_tokens_can_be_part_of_a_unigram():
    trained = train_unigram(COUNTS, 280, byte_fallback=True)
    assert trained.tokens[3:259] == BYTE_TOKENS
    assert [trained.tokens[i] for i in trained.encode_piece(b"Z")] == [b"<0x5A>"]


def test_a_trained_bpe_joins_the_most_frequent_pair_first():
    trained = train_sentencepiece(COUNTS, 259 + 10 + 4)
    assert trained.vocab_size == 273
    # p and ha, ap, pp, py are all in "happy", 59 times; "▁h" 39 times.
    assert trained.tokens[269] in (b"ha", b"ap", b"pp")
    ids = trained.encode_piece("▁Zun".encode())
    assert b"<0x5A>" in [trained.tokens[i] for i in ids]


@pytest.mark.parametrize("train", [train_unigram, train_sentencepiece])
def test_a_text_that_spells_a_special_token_teaches_no_second_one(train):
    trained = train({"▁<unk>x<0x41>".encode(): 50, "▁<unk>".encode(): 50}, 300)
    assert len(set(trained.tokens)) == trained.vocab_size
    ids = trained.encode_piece("▁<unk>x".encode()) if train is train_sentencepiece else [1]
    assert 0 not in ids


def test_training_on_nothing_gives_the_names_alone():
    assert train_sentencepiece({}, 300).vocab_size == 259
    assert train_unigram({}, 300).vocab_size == 3
    assert train_unigram({b"a": 2}, 300).tokens[3:] == [b"a"]


@pytest.mark.parametrize("train", [train_unigram, train_sentencepiece])
def test_a_vocabulary_without_room_for_the_characters_is_refused(train):
    with pytest.raises(ValueError, match="a vocabulary of 5 is too small: it has to hold"):
        train(COUNTS, 5)
