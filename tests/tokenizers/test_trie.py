"""A trie in two arrays: against a dict of all prefixes, and when the hash table is crowded."""

import random

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.tokenizers.trie import NONE, ROOT, Trie, find_words, hash_table, longest, look_up

WORDS = [b"a", b"ab", b"abc", b"b", b"bcd", "é".encode(), "狐狸".encode(), b"\x00\xff", b"##ing"]


def call(words, texts):
    def arguments(draw, real=None):
        trie = Trie(words)
        ends = np.cumsum([len(text) for text in texts])
        spans = np.stack([ends - [len(text) for text in texts], ends], axis=1)
        text = np.frombuffer(b"".join(texts), np.uint8).copy()
        return draw.out(len(texts), dtype=np.int32), text, spans, trie.edges, trie.ids

    return arguments


CASES = {
    find_words: [
        call(WORDS, WORDS),
        call(WORDS, [b"", b"a", b"abcd", b"bc", b"\xc3", b"ab"] * 50),
        call([], [b"a"]),
    ],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def test_every_word_is_found_and_nothing_else():
    trie = Trie(WORDS)
    assert [trie.find(word) for word in WORDS] == list(range(len(WORDS)))
    assert trie.find(b"") == trie.find(b"abcd") == trie.find(b"bc") == trie.find(b"z") == NONE


def test_of_a_word_that_is_given_twice_the_first_counts_and_the_empty_word_is_none():
    trie = Trie([b"", b"a", b"a"])
    assert trie.find(b"a") == 1
    assert trie.find(b"") == NONE


def test_the_longest_word_is_the_longest_and_says_where_it_ends():
    trie = Trie(WORDS)
    text = np.frombuffer(b"xabcdx", np.uint8)
    assert longest(trie.edges, trie.ids, text, 1, 6, ROOT) == (2, 4)
    assert longest(trie.edges, trie.ids, text, 1, 3, ROOT) == (1, 3)
    assert longest(trie.edges, trie.ids, text, 0, 6, ROOT) == (NONE, 0)
    behind = trie.walk(b"##")
    assert longest(trie.edges, trie.ids, np.frombuffer(b"ing", np.uint8), 0, 3, behind) == (8, 3)


def test_random_words_are_found_as_a_dict_finds_them():
    source = random.Random(0)
    words = {bytes(source.choices(range(256), k=source.randrange(1, 6))) for _ in range(900)}
    words = sorted(words)
    trie, ids = Trie(words), {word: index for index, word in enumerate(words)}
    for word in words:
        for piece in (word, word[:-1], word + b"a"):
            assert trie.find(piece) == ids.get(piece, NONE)


def test_keys_that_want_the_same_slot_are_all_found():
    # The slot depends on the lower 32 bits of a product: keys that differ above them collide.
    entries = {5 + (k << 32): k for k in range(100)}
    table = hash_table(entries)
    assert all(int(look_up(table, key)) == value for key, value in entries.items())
    assert int(look_up(table, 5 + (100 << 32))) == NONE
    assert int(look_up(hash_table({}), 3)) == NONE
