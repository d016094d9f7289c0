"""Words and bytes: marks, where tokens lie, and what has no token."""

import numpy as np
import pytest

from tinygrad_edu.tokenizers.words import Bytes, Model, Words, covered, train_words

SPANS = np.array([[0, 3], [4, 7], [9, 9], [9, 12]])  # "the fox  狐": gaps, and a piece of nothing
TEXT = "the fox  狐".encode()


def test_each_piece_is_its_token_or_the_unknown_one():
    words = Words([b"[UNK]", b"fox", b"the"], unknown=0)
    ids, spans = words.locate(TEXT, SPANS)
    assert ids.tolist() == words.encode_pieces(TEXT, SPANS).tolist() == [2, 1, 0]
    assert spans.tolist() == [[0, 3], [4, 7], [9, 12]]
    assert words.encode_piece(b"the") == [2]
    assert words.encode_piece(b"") == []


def test_a_word_without_a_token_is_refused_where_nothing_stands_for_the_unknown():
    words = Words([b"fox", b"the"])
    assert words.encode_pieces(TEXT, SPANS[:2]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="no token can write '狐'"):
        words.encode_pieces(TEXT, SPANS)


def test_bytes_are_their_own_tokens_and_gaps_have_none():
    ids, spans = Bytes().locate(TEXT, SPANS)
    assert bytes(ids.tolist()) == b"thefox" + "狐".encode()
    assert spans[2:5].tolist() == [[2, 3], [4, 5], [5, 6]]
    assert Bytes(before=[b"<s>"]).encode_piece(b"\x00\xff") == [1, 256]


def test_a_token_ends_with_its_piece_and_not_where_the_next_one_begins():
    _, spans = Bytes().locate(b"a  b", np.array([[0, 1], [3, 4]]))
    assert spans.tolist() == [[0, 1], [3, 4]]


def test_covered_counts_touching_pieces_and_gaps():
    assert covered(6, np.array([[0, 2], [2, 3], [4, 4], [5, 6]])).tolist() == [1, 1, 1, 0, 0, 1]


def test_training_keeps_the_most_frequent_words_and_ties_go_to_the_smaller():
    counts = {b"b": 2, b"a": 2, b"c": 5, b"d": 1, b"[UNK]": 9}
    words = train_words(counts, 4)
    assert words.tokens == [b"[UNK]", b"c", b"a", b"b"]
    assert words.unknown == 0
    assert train_words(counts, 100).vocab_size == 5
    with pytest.raises(ValueError, match="a vocabulary of 1 has no room for words"):
        train_words(counts, 1)


def test_a_list_with_a_token_twice_or_an_unknown_one_beyond_it_is_refused():
    with pytest.raises(ValueError, match="the token b'a' stands twice"):
        Model([b"a", b"b", b"a"])
    with pytest.raises(ValueError, match="the unknown token has the id 2"):
        Words([b"a", b"b"], unknown=2)
