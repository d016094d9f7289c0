"""SentencePiece's BPE against joining in the plainest way, and a charsmap that is built by hand."""

import random

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.kernel import settings
from tinygrad_edu.tokenizers.sentencepiece import CharacterBPE, Charsmap, join_by_rank, merges_of
from tinygrad_edu.tokenizers.trie import hash_table
from tinygrad_edu.tokenizers.unigram import BYTE_TOKENS

TEXTS = ["<unk>", "▁", "a", "b", "c", "é", "ab", "bc", "abc", "▁a", "▁ab", "▁▁", "aa", "aaaa"]
MERGES = [("b", "c"), ("a", "b"), ("▁", "a"), ("▁", "ab"), ("▁", "▁"), ("a", "a"), ("aa", "aa")]
MERGES += [("ab", "c"), ("▁a", "b")]


def model(tokens=TEXTS, **options):
    data = [token.encode() for token in tokens]
    pairs = [(tokens.index(left), tokens.index(right)) for left, right in MERGES]
    return CharacterBPE(data, pairs, **{"unknown": 0, **options})


def call(size, vocab, merges, seed=0):
    def arguments(draw, real=None):
        source = random.Random(seed)
        marks = np.array([source.choice([-1, *range(vocab)]) for _ in range(size)], np.int32)
        border = np.array([source.random() < 0.1 for _ in range(size)], bool)
        pairs = {}
        for rank in range(merges):
            key = source.randrange(vocab) * vocab + source.randrange(vocab)
            pairs.setdefault(key, rank // 2 << 32 | source.randrange(vocab))
        return marks, border, hash_table(pairs), vocab

    return arguments


CASES = {join_by_rank: [call(1, 2, 1), call(200, 4, 6), call(500, 9, 40, seed=1), call(9, 3, 0)]}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", join_by_rank.bodies)
def test_the_least_rank_is_joined_first_and_of_equal_ones_the_leftmost(body):
    known = {
        "abc": ["a", "bc"],
        "ab": ["ab"],
        "▁ab": ["▁ab"],
        "aaaaa": ["aaaa", "a"],
        "▁▁▁a": ["▁▁", "▁a"],
        "": [],
        "xay": ["<unk>", "a", "<unk>"],
        "xx": ["<unk>", "<unk>"],
    }
    with settings(forced=body):
        for text, tokens in known.items():
            assert [TEXTS[i] for i in model().encode_piece(text.encode())] == tokens, text


def test_a_run_of_unknown_characters_can_be_one_token_in_each_piece():
    fused = model(fuse_unknown=True)
    assert fused.encode_piece(b"xyaxx") == [0, 2, 0]
    assert fused.encode_pieces(b"xxxx", np.array([[0, 2], [2, 3]])).tolist() == [0, 0]


def test_unknown_characters_become_bytes_and_a_text_that_spells_a_byte_token_does_not():
    tokens = [*TEXTS, *(name.decode() for name in BYTE_TOKENS)]
    fallback = model(tokens, byte_fallback=True)
    ids, spans = fallback.locate("a狐".encode(), np.array([[0, 4]]))
    assert [tokens[i] for i in ids] == ["a", "<0xE7>", "<0x8B>", "<0x90>"]
    assert spans.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    spelt = [tokens[i] for i in fallback.encode_piece(b"<0xE7>")]
    assert spelt[:2] == ["<0x3C>", "<0x30>"]
    assert len(spelt) == 6


def test_cutting_where_no_token_is_in_the_way_changes_nothing():
    source = random.Random(2)
    whole, cut = model(), model()
    whole.inside = np.ones_like(whole.inside)  # every pair of characters may be inside a token
    assert 0 < cut.inside.sum() < 20
    for _ in range(300):
        text = "".join(source.choices("▁▁aabcéx", k=source.randrange(1, 20))).encode()
        assert whole.encode_piece(text) == cut.encode_piece(text)


def test_scores_give_every_merge_a_rank_and_equal_scores_the_same():
    ids = {token: index for index, token in enumerate([b"a", b"b", b"ab", b"aba", b"ba"])}
    ranked = list(merges_of(ids, [0.0, 0.0, -1.0, -2.0, -2.0]))
    assert ranked == [(1, (0, 1)), (2, (0, 4)), (2, (2, 0)), (2, (1, 0))]
    scored = CharacterBPE(list(ids), None, scores=[0.0, 0.0, -1.0, -1.0, -1.0])
    assert scored.encode_piece(b"bab") == [4, 1]  # "ba" and "ab" tie: the leftmost


def test_a_merge_that_makes_no_token_is_refused():
    with pytest.raises(ValueError, match="merge 0 makes b'ab', which is no token"):
        CharacterBPE([b"a", b"b"], [(0, 1)])
    with pytest.raises(ValueError, match="no token can write 'x'"):
        CharacterBPE([b"a"], []).encode_piece(b"x")


# ---- a charsmap --------------------------------------------------------------------------------


def charsmap(mapping):
    """A precompiled charsmap of this mapping, its double array filled in by trial."""
    strings, starts = b"", {}
    for key, value in mapping.items():
        starts[key.encode()] = len(strings)
        strings += value.encode() + b"\0"
    units, taken = {0: 0}, {0}
    todo = [(0, b"")]
    while todo:
        place, prefix = todo.pop()
        below = sorted({k[len(prefix)] for k in starts if k.startswith(prefix) and k != prefix})
        ends = prefix in starts
        shift = 1
        while any((place ^ shift ^ b) in taken for b in [*below, *[0] * ends]):
            shift += 1
        units[place] |= shift << 10 | ends << 8
        base = place ^ shift
        if ends:
            units[base] = 1 << 31 | starts[prefix]
            taken.add(base)
        for byte in below:
            units[base ^ byte] = byte
            taken.add(base ^ byte)
            todo.append((base ^ byte, prefix + bytes([byte])))
    trie = [units.get(i, 0xFF) for i in range(max(units) + 1)]
    data = np.array(trie, "<u4").tobytes()
    return len(data).to_bytes(4, "little") + data + strings


MAP = {"ﬁ": "fi", "e\u0301": "é", "é\u0323": "ẹ́", "²": "2", "\u200b": "", "A": "a", "abcd": "x"}


def by_longest_match(text):
    result, at = "", 0
    while at < len(text):
        sizes = [n for n in range(4, 0, -1) if text[at : at + n] in MAP]
        size = sizes[0] if sizes else 1
        result += MAP.get(text[at : at + size], text[at])
        at += size
    return result


def test_the_longest_match_is_replaced_at_every_place():
    step, source = Charsmap(charsmap(MAP)), random.Random(0)
    assert step("ﬁne²  Abcd abcd abce e\u0301\u0323") == "fine2  abcd x abce é\u0323"
    for _ in range(500):
        text = "".join(source.choices([*MAP, "a", "b", "é", " ", "狐", "\u0301"], k=6))
        assert step(text) == step.trace(text)[0] == by_longest_match(text)


def test_what_a_charsmap_makes_is_aligned_with_what_it_was_made_of():
    step = Charsmap(charsmap(MAP))
    assert [list(part) for part in step.trace("xﬁe\u0301y")] == [list("xfiéy"), [0, 1, 1, 2, 4]]
    assert step.trace("a\u200bb")[1].tolist() == [0, 2]
    assert step.trace("")[0] == ""


@pytest.mark.parametrize("data", [b"", b"\0" * 4, b"\x05\0\0\0abcde", b"\x08\0\0\0abcd"])
def test_a_damaged_charsmap_is_refused(data):
    with pytest.raises(ValueError, match="the charsmap is damaged"):
        Charsmap(data)


def test_no_mutated_charsmap_crashes():
    good, source = charsmap(MAP), random.Random(0)
    text = "".join(MAP) + " xyz"
    for _ in range(300):
        data = bytearray(good)
        for _ in range(source.randrange(1, 4)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            assert isinstance(Charsmap(data)(text), str)
        except ValueError as error:
            assert "charsmap" in str(error)
