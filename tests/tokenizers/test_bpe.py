"""Byte-level BPE against a trainer that counts all pairs anew, and an encoder that has no heap."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edu.tokenizers.bpe import BYTES, BPETokenizer, descending, train_bpe
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.presplit import pieces

CODE = Path(__file__).read_text(encoding="utf-8")
NASTY = [
    b"",
    b"\x00",
    b"\x00\x00\x00",
    b"\xff\xfe\x80",
    b"\xe2\x82",
    "naïve 狐狸 👍🏽 \u200d".encode(),
    b"aaaaaaaaaaaaa",
    b"   \n\t\n   ",
    bytes(range(256)) * 2,
    b"<|endoftext|>",
]


def joined(piece, pair):
    """The tokens (bytes) of a piece after one merge, from left to right."""
    result, i = [], 0
    while i < len(piece):
        step = 2 if tuple(piece[i : i + 2]) == pair else 1
        result.append(b"".join(piece[i : i + step]))
        i += step
    return result


def merges_by_counting_anew(text, merges):
    """Training in the plainest way: count every pair, take the greatest, replace, repeat.

    Stops early where no pair is left.
    """
    words = [([bytes([b]) for b in piece], n) for piece, n in Counter(pieces(text)).items()]
    learnt = []
    for _ in range(merges):
        counts = Counter()
        for word, times in words:
            for pair in zip(word, word[1:], strict=False):
                counts[pair] += times
        if not counts:
            break
        pair = max(counts, key=lambda p: (counts[p], p))
        learnt.append(pair)
        words = [(joined(word, pair), times) for word, times in words]
    return learnt


def encode_by_rank(piece, ranks):
    """Encoding in the plainest way: look for the pair of least rank, merge its leftmost place."""
    word = [bytes([b]) for b in piece]
    while True:
        places = enumerate(zip(word, word[1:], strict=False))
        known = [(ranks[pair], i) for i, pair in places if pair in ranks]
        if not known:
            return word
        _, i = min(known)
        word[i : i + 2] = [word[i] + word[i + 1]]


def merges_of(tokenizer):
    return [(tokenizer.tokens[a], tokenizer.tokens[b]) for a, b in tokenizer.merges]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([CODE], 600)


@pytest.mark.parametrize(
    "text",
    [
        CODE.encode(),
        b"aaaa aaaaaaa aaa a aaaaaaaaaa baaaab aabaab abababab" * 2,
        "狐狸狐狐 狐狸 狸狐狸 naïve naïf".encode() * 3,
        bytes(random.Random(0).choices(b"ab ", k=4000)),
        bytes(random.Random(1).choices(b"ab\xe2\x82\xff", k=4000)),
    ],
    ids=["code", "runs", "chinese", "random", "invalid"],
)
def test_training_learns_what_counting_anew_learns_ties_included(text):
    expected = merges_by_counting_anew(text, 100)
    tokenizer = train_bpe(text, 256 + len(expected) + 1, least_count=1)
    assert merges_of(tokenizer) == expected
    assert len(expected) > 8


def test_a_tie_goes_to_the_greater_pair_of_byte_strings():
    assert merges_of(train_bpe(b"ab cd", 258, least_count=1)) == [(b"c", b"d")]
    # After "bc" all of (b"a", b"b"), (b"a", b"bc") … count alike; the longer string is the greater.
    learnt = merges_of(train_bpe(b"bc bc ab abc", 260, least_count=1))
    assert learnt[0] == (b"b", b"c")
    assert learnt == merges_by_counting_anew(b"bc bc ab abc", 3)


def test_the_key_that_breaks_ties_sorts_the_other_way_round_than_bytes():
    source = random.Random(0)
    tokens = {bytes(source.choices(b"\x00a\xff", k=source.randrange(1, 5))) for _ in range(200)}
    assert sorted(tokens, key=descending) == sorted(tokens, reverse=True)


def test_the_vocabulary_counts_bytes_merges_and_special_tokens():
    tokenizer = train_bpe(CODE, 300, special=(END_OF_TEXT, "<pad>"))
    assert tokenizer.vocab_size == len(tokenizer.tokens) == 300
    assert len(tokenizer.merges) == 300 - 256 - 2
    assert tokenizer.tokens[:256] == BYTES
    assert tokenizer.special == {END_OF_TEXT: 298, "<pad>": 299}


def test_encoding_replays_the_merges_by_rank(tokenizer):
    ranks = {pair: rank for rank, pair in enumerate(merges_of(tokenizer))}
    texts = [CODE.encode(), *NASTY, "ταῦτα  πάντα,\tret 1234567".encode()]
    for text in texts:
        expected = [token for piece in pieces(text) for token in encode_by_rank(piece, ranks)]
        assert [tokenizer.token_bytes(i) for i in tokenizer.encode(text)] == expected


def test_merges_whose_order_matters_are_applied_by_rank_and_not_by_length():
    tokens = [*BYTES, b"bc", b"ab", b"abc"]
    tokenizer = BPETokenizer(tokens, [(98, 99), (97, 98), (257, 99)], {})
    assert tokenizer.encode("abc").tolist() == [97, 256]
    # The order is that of the merges, not of the numbers that the tokens happen to have.
    tokenizer = BPETokenizer([*BYTES, b"ab", b"bc"], [(98, 99), (97, 98)], {})
    assert tokenizer.encode("abc").tolist() == [97, 257]
    # A later merge may make a pair of lower rank: it comes first as soon as it is there.
    tokens = [*BYTES, b"abcd", b"ab", b"cd"]
    tokenizer = BPETokenizer(tokens, [(257, 258), (97, 98), (99, 100)], {})
    assert tokenizer.encode("abcdabcd").tolist() == [256, 256]


@pytest.mark.parametrize("text", NASTY)
def test_any_bytes_come_back_exactly(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == text
    assert ids.dtype == np.int32
    assert tokenizer.encode(text).tolist() == ids.tolist(), "the cache gives another answer"


def test_random_bytes_come_back_exactly(tokenizer):
    source = np.random.default_rng(0)
    data = source.integers(0, 256, 20_000).astype(np.uint8).tobytes()
    assert tokenizer.decode_bytes(tokenizer.encode(data)) == data


def test_a_special_token_in_the_text_is_text_unless_allowed(tokenizer):
    end = tokenizer.special[END_OF_TEXT]
    assert end not in tokenizer.encode(f"a{END_OF_TEXT}b")
    ids = tokenizer.encode(f"a{END_OF_TEXT}b", allowed_special={END_OF_TEXT})
    assert ids.tolist() == [97, end, 98]


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(ValueError, match="256 bytes and 1 special tokens need 257"):
        train_bpe(CODE, 256)
    assert train_bpe("", 257).vocab_size == 257


def test_a_vocabulary_larger_than_the_text_can_give_is_refused_and_the_most_is_named():
    with pytest.raises(ValueError, match="more than this text can give; with it, 259 is the most"):
        train_bpe("abc abc", 1000)
    assert train_bpe("abc abc", 259).vocab_size == 259
    with pytest.raises(ValueError, match="259 is the most"):
        train_bpe("abc abc", 260)
    with pytest.raises(ValueError, match="257 is the most"):
        train_bpe([], 258)


def test_a_vocabulary_that_may_shrink_is_as_large_as_the_text_allows():
    small = train_bpe("abc abc", 1000, shrink=True)
    assert small.tokens == train_bpe("abc abc", 259).tokens
    assert train_bpe(CODE, 300, shrink=True).tokens == train_bpe(CODE, 300).tokens


def test_the_progress_hook_sees_every_merge():
    seen = []

    def progress(loop):
        for item in loop:
            seen.append(item)
            yield item

    train_bpe(CODE, 300, progress=progress)
    assert seen == list(range(300 - 257))


def test_documents_do_not_touch():
    apart = train_bpe(["ab", "ab"], 258)
    assert merges_of(apart) == [(b"a", b"b")]
    with pytest.raises(ValueError, match="258 is the most"):
        train_bpe(["ab", "ab"], 259)


def test_a_stream_never_shows_half_a_character(tokenizer):
    text = "é狐😀 done"
    stream = tokenizer.stream()
    shown = [stream.push(i) for i in tokenizer.encode(text)]
    assert "".join(shown) + stream.finish() == text
    assert "\ufffd" not in "".join(shown)
    assert shown[0] == ""
    broken = tokenizer.stream()
    assert broken.push(0xE2) + broken.push(0x82) == ""
    assert broken.finish() == "\ufffd"


def test_one_long_run_takes_time_in_proportion_and_not_its_square(tokenizer):
    # A million steps for each of a million bytes would never end.
    data = b"a" * 200_000
    assert tokenizer.decode_bytes(tokenizer.encode(data)) == data
    chinese = "狐".encode() * 30_000
    trained = train_bpe(chinese, 262)
    assert trained.decode_bytes(trained.encode(chinese)) == chinese


def test_tokens_without_all_bytes_or_with_a_merge_to_nowhere_are_refused():
    with pytest.raises(ValueError, match="1 bytes have no token, the first is b'\\\\xff'"):
        BPETokenizer(BYTES[:255], [], {})
    with pytest.raises(ValueError, match="merge 0 makes b'ab'"):
        BPETokenizer(BYTES, [(97, 98)], {})
