"""GPT-2's pattern: known splits, the two bodies, and a third reading of the same pattern."""

import random

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.kernel import settings
from tinygrad_edu.tokenizers.presplit import (
    count_distinct,
    distinct_pieces,
    pieces,
    presplit,
    split_gpt2,
)
from tinygrad_edu.tokenizers.unicode import LETTER, NUMBER, OTHER, SPACE, gpt2_classes, gpt2_table

KNOWN = {
    "": [],
    "Hello world": ["Hello", " world"],
    "Hello  world": ["Hello", " ", " world"],
    "a   b": ["a", "  ", " b"],
    "a\n\n  b": ["a", "\n\n ", " b"],
    "a\nb": ["a", "\n", "b"],
    "a \n b": ["a", " \n", " b"],
    "a\t\tb": ["a", "\t", "\t", "b"],
    "end   ": ["end", "   "],
    "end\n": ["end", "\n"],
    " ": [" "],
    "  x": [" ", " x"],
    "I'll we're it's don't I'm he'd I've": (
        ["I", "'ll", " we", "'re", " it", "'s", " don", "'t", " I", "'m", " he", "'d", " I", "'ve"]
    ),
    "I'LL": ["I", "'", "LL"],
    "'s": ["'s"],
    "'sabc": ["'s", "abc"],
    "'s's": ["'s", "'s"],
    "'d'd'": ["'d", "'d", "'"],
    "''s": ["''", "s"],
    "!'s": ["!'", "s"],
    " 's": [" '", "s"],
    "  's": [" ", " '", "s"],
    "\n's": ["\n", "'s"],
    "7's": ["7", "'s"],
    "'r": ["'", "r"],
    "'re": ["'re"],
    "'l": ["'", "l"],
    "'ver": ["'ve", "r"],
    "x=12.5e3": ["x", "=", "12", ".", "5", "e", "3"],
    "    return x  # no": ["   ", " return", " x", " ", " #", " no"],
    "naïve 狐狸 x½": ["naïve", " 狐狸", " x", "½"],
    "a\u00a0b": ["a", "\u00a0", "b"],
    "a\u3000\u3000b": ["a", "\u3000", "\u3000", "b"],
    "a \u3000b": ["a", " ", "\u3000", "b"],
    "हिन्दी": ["ह", "ि", "न", "्", "द", "ी"],
    "👍🏽!": ["👍🏽!"],
    "a\x1cb": ["a", "\x1c", "b"],
}

ALPHABET = ["'", " ", "s", "t", "r", "e", "v", "l", "m", "d", "D", "7", "½", "é", "狐", "\n", "\t"]
ALPHABET += ["\u00a0", "\u3000", "!", "-", "😀", "\u0301", "\x00", "\x1c", "\u2028"]
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
SURROGATES = ["\udcff", "\udc80", "\udce2"]  # bytes that are no UTF-8, as Python writes them


def scan(text):
    """The pattern as it is written, one alternative after another, on a str."""
    table = gpt2_table()
    kind = [int(table[ord(character)]) for character in text]

    def run(start, wanted):
        end = start
        while end < len(text) and kind[end] == wanted:
            end += 1
        return end

    found, i = [], 0
    while i < len(text):
        ends = [i + len(short) for short in CONTRACTIONS if text.startswith(short, i)]
        start = i + (text[i] == " ")
        ends += [end for k in (LETTER, NUMBER, OTHER) if (end := run(start, k)) > start]
        blank = run(i, SPACE)
        if blank == len(text) or blank - i > 1:
            ends.append(blank if blank == len(text) else blank - 1)
        ends.append(blank)
        found.append(text[i : ends[0]])
        i = ends[0]
    return found


def random_texts(count, alphabet, seed=0):
    source = random.Random(seed)
    return ["".join(source.choices(alphabet, k=source.randrange(1, 12))) for _ in range(count)]


def call(text):
    def arguments(draw, real=None):
        array = np.frombuffer(text, np.uint8).copy()
        return draw.out(array.size, dtype=np.bool_), array, gpt2_classes(array)

    return arguments


def marks(begins, text):
    """A call that counts pieces; begins: True or False for each byte."""

    def arguments(draw, real=None):
        marked = np.array(begins, bool)
        count = int(marked.sum())
        out = [draw.out(count, dtype=np.int32) for _ in range(2)]
        return *out, np.frombuffer(text, np.uint8).copy(), marked

    return arguments


def random_marks(size, letters, seed):
    """A call with pieces of all lengths, most of which occur again."""
    source = np.random.default_rng(seed)
    begins = source.random(size) < 0.2
    begins[0] = True
    return marks(begins, bytes(source.choice(list(letters), size).tolist()))


def bytes_of(texts):
    return "".join(texts).encode("utf-8", "surrogateescape")


CASES = {
    split_gpt2: [
        call(b"a"),
        call(b"'"),
        call(b" 's"),
        call(bytes_of(KNOWN)),
        call(bytes_of(random_texts(3000, ALPHABET + SURROGATES))),
        *[call(text.encode()) for text in random_texts(20, ALPHABET, seed=1)],
    ],
    count_distinct: [
        marks([1], b"a"),
        marks([1, 1, 1, 1], b"abab"),
        marks([1, 0, 0, 0] * 2, b"abacabad"),  # the same first letters
        marks([1, *[0] * 39] * 3, (b"x" * 39 + b"y") + (b"x" * 39 + b"z") * 2),  # long ones
        random_marks(5000, b"ab", seed=0),
        random_marks(60_000, range(256), seed=1),  # thousands of different ones: the table grows
    ],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", split_gpt2.bodies)
@pytest.mark.parametrize("text", KNOWN)
def test_known_splits(text, body):
    with settings(forced=body):
        assert [piece.decode() for piece in pieces(text.encode())] == KNOWN[text]


@pytest.mark.parametrize("body", split_gpt2.bodies)
def test_every_short_text_is_split_as_the_pattern_says(body):
    with settings(forced=body):
        for text in random_texts(4000, ALPHABET + SURROGATES, seed=2):
            got = pieces(text.encode("utf-8", "surrogateescape"))
            assert got == [p.encode("utf-8", "surrogateescape") for p in scan(text)], repr(text)


def test_any_bytes_come_back_when_the_pieces_are_joined():
    source = np.random.default_rng(0)
    for size in (0, 1, 2, 3, 100, 10_000):
        data = source.integers(0, 256, size).astype(np.uint8).tobytes()
        assert b"".join(pieces(data)) == data


def test_cuts_begin_with_zero_ascend_and_end_with_the_length():
    cuts = presplit("if x:\n    return 'é'\n".encode())
    assert cuts[0] == 0
    assert cuts[-1] == 22
    assert np.all(np.diff(cuts) > 0)
    assert presplit(b"").tolist() == [0]


def test_different_pieces_are_counted_in_the_order_in_which_they_are_met():
    text = np.frombuffer(b"to be or not to be", np.uint8)
    begins = np.zeros(18, bool)
    begins[[0, 2, 5, 8, 12, 15]] = True
    found = list(distinct_pieces(text, begins))
    assert found == [(b"to", 1), (b" be", 2), (b" or", 1), (b" not", 1), (b" to", 1)]
    assert list(distinct_pieces(text[:0], begins[:0])) == []
