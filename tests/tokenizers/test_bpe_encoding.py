"""Merging by rank: three bodies, the cache, the table of pairs; and joining tokens."""

import random

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.kernel import settings
from tinygrad_edu.tokenizers.bpe_encoding import (
    NONE,
    Store,
    WordCache,
    encode_pieces,
    join_tokens,
    merge_by_rank,
    pair_table,
    scatter,
)

ALPHABET = np.arange(256, dtype=np.int32)
CHAIN = [(97, 97, 256), (256, 256, 257), (257, 257, 258), (98, 97, 259), (97, 98, 260)]
# The merge of rank 0 needs a token of rank 2: it comes first as soon as it is there.
LATE = [(257, 258, 256), (97, 98, 257), (99, 100, 258)]


def random_merges(count, letters, seed):
    """Merges as training leaves them: of tokens that are known, no token twice."""
    source = random.Random(seed)
    tokens = {bytes([letter]): letter for letter in letters}
    rows = []
    while len(rows) < count:
        left, right = source.choice(list(tokens)), source.choice(list(tokens))
        if left + right not in tokens:
            tokens[left + right] = 256 + len(rows)
            rows.append((tokens[left], tokens[right], tokens[left + right]))
    return rows


def call(merges, text, begins=None, places=64):
    def arguments(draw, real=None):
        marks = np.zeros(len(text), bool)
        marks[[0] if begins is None else begins] = True
        out = draw.out(len(text), dtype=np.int32), draw.out(1, dtype=np.int64)
        read = np.frombuffer(text, np.uint8).copy(), marks, ALPHABET, pair_table(merges)
        return *out, *read, WordCache(places)

    return arguments


def random_call(size, letters, seed, places):
    source = np.random.default_rng(seed)
    text = bytes(source.choice(list(letters), size).tolist())
    begins = np.append(0, np.flatnonzero(source.random(size) < 0.15))
    return call(random_merges(60, letters, seed), text, begins, places)


def joins(tokens, ids):
    def arguments(draw, real=None):
        store = Store(tokens)
        chosen = np.array(ids, np.int32)
        size = int(store.lengths[chosen].sum())
        return draw.out(size, dtype=np.uint8), chosen, store.bytes.copy(), store.starts

    return arguments


CASES = {
    encode_pieces: [
        call([], b"a"),
        call([], b"abc", [0, 1, 2]),
        call(CHAIN, b"a" * 31),
        call(CHAIN, b"a" * 32),
        call(CHAIN, b"a" * 33),
        call(CHAIN, b"ab" * 300),
        call(LATE, b"abcdabcd" * 9),
        call(LATE, b"abcd" * 3, [0, 4, 8]),
        random_call(3000, b"ab", 0, 8),  # a small cache: pieces push each other out
        random_call(3000, b"abc\x00\xff", 1, 256),
        random_call(200, b"ab", 2, 1),
        call(random_merges(99, b"abc", 3), bytes(random.Random(3).choices(b"abc", k=2000))),
    ],
    join_tokens: [
        joins([b"a"], []),
        joins([b"a", b"", b"bcd"], [2, 1, 0, 0, 2]),
        joins([bytes([k]) * (k % 7) for k in range(200)], np.arange(200)[::-1]),
    ],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", encode_pieces.bodies)
def test_a_warm_cache_changes_nothing(body):
    source = random.Random(0)
    cache = WordCache(32)
    merges = random_merges(60, b"abcd", 5)
    table, known = pair_table(merges), {row[:2]: (k, row[2]) for k, row in enumerate(merges)}
    for _ in range(60):
        words = [bytes(source.choices(b"abcd", k=source.randrange(1, 20))) for _ in range(20)]
        text = np.frombuffer(b"".join(words), np.uint8).copy()
        begins = np.zeros(text.size, bool)
        begins[np.cumsum([0, *map(len, words[:-1])])] = True
        ids, count = np.empty(text.size, np.int32), np.empty(1, np.int64)
        with settings(forced=body):
            encode_pieces(ids, count, text, begins, ALPHABET, table, cache)
        expected = [index for word in words for index in merge_by_rank(list(word), known)]
        assert ids[: count[0]].tolist() == expected
    assert body == "numpy" or cache.slots.any()


def test_a_piece_that_ends_with_zeros_is_not_taken_for_a_shorter_one():
    cache, table = WordCache(1), pair_table(CHAIN)
    for text in (b"aa", b"aa\0", b"aa\0\0", b"aa"):
        array, ids, count = np.frombuffer(text, np.uint8), np.empty(4, np.int32), np.zeros(1, int)
        begins = np.arange(len(text)) == 0
        encode_pieces(ids[: len(text)], count, array, begins, ALPHABET, table, cache)
        assert ids[: count[0]].tolist() == [256, *text[2:]]


def test_every_merge_is_found_in_the_table_where_its_hash_says():
    merges = random_merges(500, range(256), 0)
    table = pair_table(merges)
    assert len(table) >= 2 * len(merges)
    for rank, (left, right, merged) in enumerate(merges):
        key = np.array([left << 32 | right], np.uint64)
        slot = int(scatter(key)[0]) % len(table)
        while table[slot, 0] != key[0]:
            assert table[slot, 0] != NONE
            slot = (slot + 1) % len(table)
        assert int(table[slot, 1]) == rank << 32 | merged
    assert (table[:, 0] != NONE).sum() == len(merges)
    assert pair_table([]).tolist() == [[int(NONE)] * 2]


def test_of_two_merges_of_the_same_pair_the_first_counts():
    table = pair_table([(97, 98, 256), (97, 98, 257)])
    assert table[table[:, 0] != NONE][:, 1].tolist() == [256]


def test_tokens_are_joined_as_they_are():
    store = Store([b"a", b"", b"\xff\x00", b"word"])
    assert store.join([3, 1, 2, 0]) == b"word\xff\x00a"
    assert store.join([]) == b""
