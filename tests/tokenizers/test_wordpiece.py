"""WordPiece: greedy longest match, and which pair is joined next."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.kernel import settings
from tinygrad_edu.tokenizers.wordpiece import (
    PREFIX,
    Neighbours,
    WordPiece,
    alphabet,
    match_longest,
    train_wordpiece,
)

TOKENS = ["[UNK]", "un", "una", "##ble", "##able", "a", "b", "##a", "##b", "##c"]
TOKENS += ["狐", "##狸", "##é"]
WORDS = ["unable", "una", "unx", "ab", "abc", "ca", "狐狸", "狐狐", "aé", "##a"]
WORDS += ["a" * 100, "a" * 101]


def model(**options):
    return WordPiece([token.encode() for token in TOKENS], unknown=0, **options)


def laid(words):
    """Words end to end, as (text, spans)."""
    data = [word.encode() for word in words]
    ends = np.cumsum([len(word) for word in data])
    return b"".join(data), np.stack([ends - [len(word) for word in data], ends], axis=1)


def call(words, inside=True):
    def arguments(draw, real=None):
        text, spans = laid(words)
        trie, made = model().trie, model()
        array = np.frombuffer(text, np.uint8).copy()
        node = made.inside if inside else -1
        out = draw.out(array.size, dtype=np.int32)
        return out, array, spans, trie.edges, trie.ids, node, -2, 100

    return arguments


SOURCE = random.Random(0)
RANDOM = ["".join(SOURCE.choices("abcunle狐é", k=SOURCE.randrange(1, 9))) for _ in range(300)]
CASES = {match_longest: [call(WORDS), call(RANDOM), call(["a"], inside=False), call([""])]}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", match_longest.bodies)
def test_known_words(body):
    expected = {
        "unable": ["una", "##ble"],  # greedy, though un ##able is as short
        "una": ["una"],
        "unx": ["[UNK]"],
        "abc": ["a", "##b", "##c"],
        "ca": ["[UNK]"],  # c only continues
        "狐狸": ["狐", "##狸"],
        "狐狐": ["[UNK]"],
        "a" * 101: ["[UNK]"],
        "a" * 100: ["a"] + ["##a"] * 99,
        "##a": ["##a"],  # spelt out, the mark is text
        "": [],
    }
    with settings(forced=body):
        for word, tokens in expected.items():
            ids = model().encode_piece(word.encode())
            assert [TOKENS[i] for i in ids] == tokens, word


def test_tokens_say_where_they_lie_and_a_bad_word_is_one_token():
    text, spans = laid(["ab", "unx", "狐狸"])
    ids, places = model().locate(text, spans)
    assert [TOKENS[i] for i in ids] == ["a", "##b", "[UNK]", "狐", "##狸"]
    assert places.tolist() == [[0, 1], [1, 2], [2, 5], [5, 8], [8, 11]]


def test_the_most_characters_are_counted_as_characters_and_not_as_bytes():
    assert model(most=2).encode_piece("aé".encode()) == [5, 12]
    assert model(most=1).encode_piece("aé".encode()) == [0]


def best_by_counting_anew(words, score):
    """The pairs with the greatest score in [(list of symbols, times)], in the plainest way."""
    single, pairs = Counter(), Counter()
    for word, times in words:
        for symbol in word:
            single[symbol] += times
        for pair in zip(word, word[1:], strict=False):
            pairs[pair] += times
    values = {pair: c for pair, c in pairs.items() if c > 1}
    if score == "likelihood":
        n = sum(single.values())
        for (a, b), c in values.items():
            values[a, b] = c * math.log(c * n / (single[a] * single[b]))
    best = max(values.values())
    return {pair for pair, value in values.items() if math.isclose(value, best, rel_tol=1e-9)}


@pytest.mark.parametrize("score", ["likelihood", "count"])
def test_every_join_is_one_of_those_that_counting_anew_finds_best(score, monkeypatch):
    source = random.Random(1)
    texts = ["".join(source.choices("abcd", k=source.randrange(1, 7))) for _ in range(200)]
    counts = Counter(texts)
    seen = []
    merge = Neighbours.merge
    monkeypatch.setattr(Neighbours, "merge", lambda s, p, t: (seen.append(p), merge(s, p, t))[1])
    trained = train_wordpiece({w.encode(): n for w, n in counts.items()}, 60, score=score)
    tokens = [token.decode() for token in trained.tokens]
    words = [([PREFIX * (i > 0) + c for i, c in enumerate(w)], n) for w, n in counts.items()]
    assert len(seen) >= 60 - 13
    for left, right in seen:
        pair = tokens[left], tokens[right]
        assert pair in best_by_counting_anew(words, score)
        for word, _ in words:
            for i in range(len(word)):
                if tuple(word[i : i + 2]) == pair:
                    word[i : i + 2] = [pair[0] + pair[1].removeprefix(PREFIX)]


def test_the_likelihood_prefers_a_pair_that_is_rarely_apart():
    # e is everywhere, so "te" meets by chance more often than "qu", which is never apart.
    counts = {b"qu": 20, b"te": 24, b"e": 400, b"t": 400}
    first = {score: train_wordpiece(counts, 10, special=("[UNK]",), score=score).tokens[-1]
             for score in ("likelihood", "count")}
    assert first == {"likelihood": b"qu", "count": b"te"}


def test_training_keeps_the_most_frequent_characters_and_every_word_of_them_can_be_written():
    counts = {"aab": 5, "ba": 4, "c": 1, "狐a": 3}
    counts = {word.encode(): times for word, times in counts.items()}
    assert alphabet(counts, 3) == ["a", "b", "狐"]
    trained = train_wordpiece(counts, 100, most=3)
    assert trained.tokens[5:11] == [t.encode() for t in ("a", "b", "狐", "##a", "##b", "##狐")]
    assert trained.unknown not in trained.encode_piece("b狐ab".encode())
    assert trained.encode_piece(b"ac") == [trained.unknown]


def test_words_of_one_letter_have_no_pairs_and_no_words_have_no_letters():
    assert train_wordpiece({b"a": 3, b"b": 1}, 20).tokens[5:] == [b"a", b"b", b"##a", b"##b"]
    assert train_wordpiece({}, 20).vocab_size == 5


def test_a_vocabulary_without_room_for_the_letters_is_refused():
    with pytest.raises(ValueError, match="5 special tokens and 2 characters, .* need 9"):
        train_wordpiece({b"ab": 3}, 8)
    assert train_wordpiece({b"ab": 3}, 9).vocab_size == 9
