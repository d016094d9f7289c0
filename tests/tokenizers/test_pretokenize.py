"""Cuts: known pieces, the five behaviours, and what a cut does to the places of characters."""

import numpy as np
import pytest

from tinygrad_edu.tokenizers.normalize import bert
from tinygrad_edu.tokenizers.presplit import pieces
from tinygrad_edu.tokenizers.pretokenize import (
    BEHAVIOURS,
    ByteLevel,
    Class,
    Cuts,
    Metaspace,
    Pattern,
    Words,
    bert_cut,
    byte_spans,
    count_pieces,
    cut_at,
    digits,
    punctuation,
    whitespace_split,
)

SIGNS = Class(punctuation(), "isolated")
KNOWN = [
    (whitespace_split(), " a  b\u3000c\x1cd", ["a", "b", "c\x1cd"]),
    (bert_cut(), "it's $5. «a»", ["it", "'", "s", "$", "5", ".", "«", "a", "»"]),
    (Words(), "it's ⓐ_1 +-x", ["it", "'", "s", "ⓐ_1", "+-", "x"]),
    (digits(), "a12b½", ["a", "12", "b", "½"]),
    (digits(single=True), "a12b", ["a", "1", "2", "b"]),
    (Metaspace(), "a b  c", ["▁a", "▁b", "▁", "▁c"]),
    (Metaspace(), " a", ["▁a"]),
    (Metaspace(prepend="never"), "a b", ["a", "▁b"]),
    (Metaspace(split=False), "a b", ["▁a▁b"]),
    (Cuts(whitespace_split(), Metaspace()), "a  b", ["▁a", "▁b"]),
    (Cuts(whitespace_split(), Metaspace(prepend="first")), "a  b", ["▁a", "b"]),
    (Cuts(SIGNS, Pattern("$", "isolated")), "a$.", ["a", "$", "."]),
    (ByteLevel(), "I'm é狐 x", ["I", "'m", " é狐", " x"]),
    (ByteLevel(space_before=True), "a b", [" a", " b"]),
    (ByteLevel(space_before=True, regex=False), " a b", [" a b"]),
    (Cuts(digits(single=True), ByteLevel()), "ab 12", ["ab", " ", "1", "2"]),
    (Pattern("aa", "removed"), "aaabaa", ["ab"]),
    (whitespace_split(), "", []),
    (Metaspace(), "", []),
]


@pytest.mark.parametrize(("cut", "text", "expected"), KNOWN)
def test_known_texts(cut, text, expected):
    assert cut(text) == expected


MATCHES = [["a", "-", "-", "b", "-"], ["a", "b"], ["a", "--", "b", "-"]]
MATCHES += [["a-", "-", "b-"], ["a", "-", "-b", "-"]]


@pytest.mark.parametrize("place", range(len(BEHAVIOURS)), ids=BEHAVIOURS)
def test_what_becomes_of_a_match(place):
    behaviour, expected = BEHAVIOURS[place], MATCHES[place]
    assert Class(punctuation(), behaviour)("a--b-") == expected
    assert Pattern("-", behaviour)("a--b-") == expected


def test_a_cut_stays_within_the_pieces_of_the_one_before():
    spans = np.array([[0, 2], [2, 4], [5, 6]])
    matches = np.array([[1, 2], [2, 3]])
    apart = cut_at(6, spans, matches, "contiguous")
    assert apart.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4], [5, 6]]
    joined = cut_at(6, spans, matches, "merged_with_next")
    assert joined.tolist() == [[0, 1], [1, 2], [2, 4], [5, 6]]


def test_what_lies_between_matches_can_be_meant():
    assert Pattern("ab", "removed", invert=True)("xababy") == ["ab", "ab"]
    assert Pattern("ab", "contiguous", invert=True)("xababy") == ["x", "abab", "y"]


def test_a_pattern_sees_one_piece_at_a_time():
    pytest.importorskip("regex")
    both = Cuts(whitespace_split(), Pattern("a$", "isolated", regex=True))
    assert both("ba ba") == ["b", "a", "b", "a"]
    assert Pattern(r"\p{Lu}\p{Ll}*", "isolated", regex=True)("camelCase") == ["camel", "Case"]


def test_a_sign_in_front_is_aligned_with_the_first_character():
    both = Cuts(whitespace_split(), Metaspace())
    text, spans, source = both.cut("xé y", np.array([[0, 4]]))
    assert text == "▁xé▁▁y"
    assert spans.tolist() == [[0, 3], [4, 6]]
    assert source.tolist() == [0, 0, 1, 2, 3, 3]


def test_first_means_where_the_text_begins():
    cut = Metaspace(prepend="first")
    assert cut.cut("a", np.array([[0, 1]]), at_start=False)[0] == "a"
    assert cut.cut("a", np.array([[0, 1]]), at_start=True)[0] == "▁a"
    assert cut.cut("xa", np.array([[1, 2]]), at_start=True)[0] == "xa"


def test_the_cut_by_bytes_is_that_of_lesson_presplit():
    text = "naïve 狐 isn't  two\n\n 12½ 😀"
    assert [piece.encode() for piece in ByteLevel()(text)] == pieces(text.encode())


def test_spans_of_characters_become_spans_of_bytes():
    text = "aé狐😀b"
    spans = np.array([[0, 2], [2, 3], [3, 5]])
    parts = [text.encode()[low:high].decode() for low, high in byte_spans(text, spans)]
    assert parts == ["aé", "狐", "😀b"]
    assert byte_spans("abc", spans[:1]).tolist() == [[0, 2]]


def test_pieces_of_normalized_documents_are_counted():
    counts = count_pieces(["The fox, the", "THE"], bert(), bert_cut())
    assert counts == {b"the": 3, b"fox": 1, b",": 1}


def test_a_behaviour_that_is_none_is_refused():
    with pytest.raises(ValueError, match="a cut cannot be 'Isolated'; there are: isolated"):
        Pattern("a", "Isolated")
    with pytest.raises(ValueError, match="prepends always, first or never, not 'no'"):
        Metaspace(prepend="no")
