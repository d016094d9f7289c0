"""Unigram: the best cut and drawn cuts, against all cuts written down."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.kernel import settings
from tinygrad_edu.tokenizers.unigram import BYTE_TOKENS, PENALTY, Unigram, best_cut, drawn_cut

TOKENS = ["<unk>", "a", "b", "ab", "abc", "bc", "é", "éa", "狐狸", "aa"]
SCORES = [0.0, -3.0, -2.5, -4.0, -9.0, -4.25, -5.0, -6.0, -7.0, -5.5]


def model(**options):
    return Unigram([token.encode() for token in TOKENS], SCORES, unknown=0, **options)


def laid(pieces):
    data = [piece.encode() for piece in pieces]
    ends = np.cumsum([len(piece) for piece in data])
    return b"".join(data), np.stack([ends - [len(piece) for piece in data], ends], axis=1)


def call(kernel, pieces, *more):
    def arguments(draw, real=None):
        text, spans = laid(pieces)
        array = np.frombuffer(text, np.uint8).copy()
        out = draw.out(array.size, dtype=np.int32)
        chance = np.random.default_rng(0).random(array.size)
        more = (True,) if kernel is best_cut else (0.5, chance)
        return out, array, spans, *model().arrays, *more

    return arguments


SOURCE = random.Random(0)
RANDOM = ["".join(SOURCE.choices("aaabbcé狐狸😀", k=SOURCE.randrange(1, 9))) for _ in range(200)]
PIECES = ["abc", "", "x", "éa", "狐狸狐"]
CASES = {kernel: [call(kernel, p) for p in (PIECES, RANDOM)] for kernel in (best_cut, drawn_cut)}
CASES[best_cut].append(lambda draw, real=None: (*CASES[best_cut][1](draw)[:-1], False))


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def all_cuts(piece):
    """Every cut of a piece: [(score, tokens)]; an unknown character is itself, in brackets."""
    if not piece:
        return [(0.0, [])]
    cuts = []
    for token, score in zip(TOKENS[1:], SCORES[1:], strict=True):
        if piece.startswith(token):
            cuts += [(score + s, [token, *rest]) for s, rest in all_cuts(piece[len(token) :])]
    if piece[0] not in TOKENS:
        unknown = min(SCORES) - PENALTY
        cuts += [(unknown + s, [f"({piece[0]})", *rest]) for s, rest in all_cuts(piece[1:])]
    return cuts


def score_of(unigram, piece, ids):
    """The score of the cut that these ids are."""
    return sum(unigram.scores[i] for i in ids)


@pytest.mark.parametrize("body", best_cut.bodies)
def test_no_cut_is_better_than_the_one_that_is_found(body):
    with settings(forced=body):
        for piece in RANDOM[:60]:
            ids = model().encode_piece(piece.encode())
            best = max(score for score, _ in all_cuts(piece))
            fused = [(s, t) for s, t in all_cuts(piece) if math.isclose(s, best)]
            assert any(tokens_of(cut) == [TOKENS[i] for i in ids] for _, cut in fused), piece


def tokens_of(cut):
    """A cut with every run of unknown characters as one "<unk>"."""
    names = ["<unk>" if token.startswith("(") else token for token in cut]
    return [t for i, t in enumerate(names) if t != "<unk>" or i == 0 or names[i - 1] != "<unk>"]


@pytest.mark.parametrize("body", best_cut.bodies)
def test_of_equal_cuts_the_one_that_is_found_first_stays(body):
    tokens, scores = [b"a", b"aa"], [-1.0, -2.0]
    with settings(forced=body):
        assert Unigram(tokens, scores).encode_piece(b"aa") == [1]
        assert Unigram(tokens, scores).encode_piece(b"aaa") == [0, 1]
        ids = Unigram([b"a", b"b", b"ab", b"ba"], [-1.0, -1.0, -1.0, -1.0]).encode_piece(b"aba")
        assert ids == [0, 3]


def test_unknown_characters_side_by_side_are_one_token_and_it_says_where():
    ids, spans = model().locate("a😀狐狸xyb".encode(), np.array([[0, 14]]))
    assert [TOKENS[i] for i in ids] == ["a", "<unk>", "狐狸", "<unk>", "b"]
    assert spans.tolist() == [[0, 1], [1, 5], [5, 11], [11, 13], [13, 14]]
    # Not so in two pieces: each has its own.
    assert model().encode_pieces(b"xy", np.array([[0, 1], [1, 2]])).tolist() == [0, 0]


def test_unknown_characters_become_their_bytes_where_all_bytes_are_tokens():
    tokens = [*(token.encode() for token in TOKENS), *BYTE_TOKENS]
    unigram = Unigram(tokens, SCORES + [-20.0] * 256, unknown=0, byte_fallback=True)
    ids = unigram.encode_piece("a😀".encode())
    assert [tokens[i] for i in ids] == [b"a", b"<0xF0>", b"<0x9F>", b"<0x98>", b"<0x80>"]
    part = Unigram(tokens[:-1], SCORES + [-20.0] * 255, unknown=0, byte_fallback=True)
    assert part.encode_piece("a😀".encode()) == [1, 0]


def test_what_cannot_be_written_is_refused_where_nothing_stands_for_the_unknown():
    with pytest.raises(ValueError, match="no token can write 'x'"):
        Unigram([b"a"], [-1.0]).encode_piece(b"x")
    with pytest.raises(ValueError, match="2 tokens need as many finite scores"):
        Unigram([b"a", b"b"], [-1.0])
    with pytest.raises(ValueError, match="finite"):
        Unigram([b"a"], [float("nan")])


@pytest.mark.parametrize("alpha", [1.0, 0.2])
def test_cuts_are_drawn_as_often_as_they_are_probable(alpha):
    piece, draws = "abcab", 4000
    cuts = {tuple(tokens): math.exp(alpha * score) for score, tokens in all_cuts(piece + "")}
    cuts = {cut: share / sum(cuts.values()) for cut, share in cuts.items()}
    text, spans = laid([piece] * draws)
    ids = model().sample(text, spans, np.random.default_rng(1), alpha)
    drawn, at = Counter(), 0
    while at < len(ids):
        cut, length = [], 0
        while length < len(piece):
            name = TOKENS[ids[at]] if ids[at] else "(c)"
            length += 1 if name == "(c)" else len(name)
            cut.append(name)
            at += 1
        drawn[tuple(cut)] += 1
    assert sum(drawn.values()) == draws
    for cut, share in cuts.items():
        # Five standard deviations of a share: one false alarm in a million.
        assert abs(drawn[cut] / draws - share) <= 5 * math.sqrt(share / draws) + 1e-9, cut


def test_a_great_alpha_draws_the_best_cut_and_a_seed_draws_the_same_again():
    text, spans = laid([piece for piece in RANDOM if piece != "aab"][:50])
    best = model().encode_pieces(text, spans)
    again = [model().sample(text, spans, np.random.default_rng(3), 0.3) for _ in range(2)]
    assert np.array_equal(*again)
    sharp = model().sample(text, spans, np.random.default_rng(3), 1e4)
    assert score_of(model(), text, sharp) == pytest.approx(score_of(model(), text, best))
