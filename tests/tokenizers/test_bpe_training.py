"""Learning merges: three bodies, both rules for ties, and the order in which bytes are known."""

import random
from collections import Counter

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.kernel import settings
from tinygrad_edu.tokenizers.bpe_training import BYTE_ORDER, laid_out, learn_merges
from tinygrad_edu.tokenizers.presplit import pieces


def call(counts, number, by_order=False, least=1):
    """A call for a dict of pieces and their counts."""

    def arguments(draw, real=None):
        text, starts, weights = (array.copy() for array in laid_out(counts))
        out = draw.out(number, 2, dtype=np.int32), draw.out(number, dtype=np.int64)
        return *out, text, starts, weights, BYTE_ORDER, by_order, least

    return arguments


def random_pieces(count, letters, seed, longest=12):
    source = random.Random(seed)
    made = (bytes(source.choices(letters, k=source.randrange(1, longest))) for _ in range(count))
    return {piece: source.randrange(1, 50) for piece in made}


RUNS = {b"aaaaaaa": 3, b"aaaa": 2, b"baaab": 5, b"abababab": 4, b"aabaab": 1, b"aaaaaaaaaaaaaa": 1}
WORDS = Counter(pieces(b"it is what it is, and that is that; what it was is not what it will be"))
CASES = {
    learn_merges: [
        call({b"ab": 1}, 3),
        call({b"a": 5}, 1),
        call({}, 2),
        *[call(RUNS, 12, order) for order in (False, True)],
        *[call(WORDS, 60, order, least) for order in (False, True) for least in (1, 2)],
        *[call(random_pieces(200, b"ab\x00\xff", 0), 80, order) for order in (False, True)],
        *[call(random_pieces(900, range(256), 1), 300, order) for order in (False, True)],
        call(random_pieces(30, b"abc", 2, 400), 200),
    ],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def merges(counts, number, by_order, least=1):
    found, times = np.empty((number, 2), np.int32), np.empty(number, np.int64)
    given = (array.copy() for array in laid_out(counts))
    learn_merges(found, times, *given, BYTE_ORDER, by_order, least)
    return list(map(tuple, found.tolist())), times.tolist()


@pytest.mark.parametrize("body", learn_merges.bodies)
def test_of_equal_counts_the_greater_bytes_or_the_pair_known_first(body):
    with settings(forced=body):
        counts = {b"ab": 2, b"cd": 2}
        assert merges(counts, 3, by_order=False) == ([(99, 100), (97, 98), (-1, -1)], [2, 2, 0])
        assert merges(counts, 3, by_order=True) == ([(97, 98), (99, 100), (-1, -1)], [2, 2, 0])
        # A space is byte 32, but one of the 68 that are known last: " b" comes after "ba".
        counts = {b" b": 2, b"ba": 2}
        assert merges(counts, 1, by_order=True)[0] == [(98, 97)]
        assert merges(counts, 1, by_order=False)[0] == [(98, 97)]
        counts = {b" b": 2, b"\x1fa": 2}
        assert merges(counts, 1, by_order=True)[0] == [(31, 97)]
        # "first" is about when a token was known, not about its bytes: ab is token 256.
        counts = {b"ab": 9, b"abx": 2, b"yz": 2}
        assert merges(counts, 3, by_order=True)[0] == [(97, 98), (121, 122), (256, 120)]
        counts = {b"zz": 9, b"zzx": 2, b"za": 2}
        assert merges(counts, 3, by_order=False)[0] == [(122, 122), (256, 120), (122, 97)]


@pytest.mark.parametrize("body", learn_merges.bodies)
def test_a_pair_that_is_too_rare_ends_it(body):
    with settings(forced=body):
        assert merges({b"ab": 3, b"cd": 1}, 3, False, least=2) == (
            [(97, 98), (-1, -1), (-1, -1)],
            [3, 0, 0],
        )


def test_bytes_are_known_in_the_order_of_their_visible_characters():
    order = sorted(range(256), key=lambda byte: BYTE_ORDER[byte])
    assert order[:3] == [33, 34, 35]
    assert order[187:190] == [255, 0, 1]
    assert sorted(order) == list(range(256))


def test_pieces_are_laid_out_between_bytes_that_nobody_reads():
    text, starts, weights = laid_out({b"ab": 3, b"c": 1})
    assert text[starts[0] : starts[1] - 1].tobytes() == b"ab"
    assert text[starts[1] : starts[2] - 1].tobytes() == b"c"
    assert (text.size, starts.tolist(), weights.tolist()) == (6, [1, 4, 6], [3, 1])
    text, starts, weights = laid_out({})
    assert (text.size, starts.tolist(), weights.tolist()) == (1, [1], [])
