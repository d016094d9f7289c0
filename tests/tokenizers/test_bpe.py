"""Byte-level BPE against a trainer that counts all pairs anew, and an encoder that has no heap."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edu import threads
from tinygrad_edu.tokenizers import bpe
from tinygrad_edu.tokenizers.bpe import BYTES, BPETokenizer, count_pieces, train_bpe
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.patterns import cuts
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


def test_a_merge_to_nowhere_is_refused():
    with pytest.raises(ValueError, match="merge 0 makes b'ab'"):
        BPETokenizer(BYTES, [(97, 98)], {})


def test_a_byte_that_the_vocabulary_lacks_is_named_when_a_text_has_it_and_each_time():
    tokenizer = BPETokenizer(BYTES[:255], [], {})
    assert tokenizer.encode(b"abc\xfe").tolist() == [97, 98, 99, 254]
    for _ in range(2):  # the second time the piece is in the cache
        with pytest.raises(ValueError, match="byte 0xFF, for which this vocabulary has no token"):
            tokenizer.encode(b"abc\xff")


def test_half_a_surrogate_pair_is_refused_in_training_and_in_encoding(tokenizer):
    for call in (tokenizer.encode, lambda text: train_bpe(text, 300)):
        with pytest.raises(ValueError, match="character 2 of the text is half of a surrogate pair"):
            call("ab\ud800")


def test_a_pattern_or_a_rule_for_ties_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no pattern 'gpt5'; known are gpt2, gpt4"):
        train_bpe(CODE, 300, pattern="gpt5")
    with pytest.raises(ValueError, match="no pattern 'gpt5'"):
        BPETokenizer(BYTES, [], {}, pattern="gpt5")
    with pytest.raises(ValueError, match="ties are broken by bytes or first, not by 'last'"):
        train_bpe(CODE, 300, ties="last")


def test_without_a_pattern_a_token_may_hold_a_space_and_more():
    text = "to be or not to be, that is to be " * 9
    tokenizer = train_bpe(text, 280, pattern="none")
    assert any(b" " in token.strip() for token in tokenizer.tokens[256:279])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode_piece(b"to be ") == tokenizer.encode("to be ").tolist()


def test_the_pattern_decides_what_may_be_joined():
    text = "it's 12345 12345 12345\n" * 40
    longest = {
        pattern: max(len(t) for t in train_bpe(text, 400, shrink=True, pattern=pattern).tokens
                     if t.isdigit())
        for pattern in ("gpt2", "gpt4", "llama3", "qwen2", "smollm2")
    }
    assert longest == {"gpt2": 5, "gpt4": 3, "llama3": 3, "qwen2": 1, "smollm2": 1}


def test_with_ignore_merges_a_piece_that_is_a_token_is_that_token():
    tokens = [*BYTES, b"ab", b"cd", b"abx", b"a long word of its own"]
    merges = [(97, 98), (99, 100)]
    plain = BPETokenizer(tokens, merges, {})
    whole = BPETokenizer(tokens, merges, {}, ignore_merges=True)
    assert plain.encode("abx").tolist() == [256, 120]
    assert whole.encode("abx").tolist() == [258]
    # Only a whole piece counts, and what stands around it stays.
    assert whole.encode("abxx").tolist() == plain.encode("abxx").tolist()
    text = "abx ab\nabx,cd abxx"
    assert whole.encode(text).tolist().count(258) == 2
    assert whole.decode(whole.encode(text)) == text
    assert whole.encode_piece(b"a long word of its own") == [259]


def test_a_long_text_gives_the_same_on_any_number_of_threads(tokenizer, monkeypatch):
    text = CODE.encode() * 3
    whole = tokenizer.encode(text).tolist()
    counts = count_pieces([text])
    monkeypatch.setattr(bpe, "BLOCK", 1000)
    assert len(list(bpe.blocks(text, "gpt2"))) > 9
    for workers in (1, 2, 5):
        with threads.limit(workers):
            assert tokenizer.encode(text).tolist() == whole
            assert count_pieces([text]) == counts
            assert list(count_pieces([text])) == list(counts)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "llama3", "qwen2", "smollm2"])
def test_a_text_is_cut_into_blocks_only_where_every_pattern_cuts(pattern, monkeypatch):
    monkeypatch.setattr(bpe, "BLOCK", 1)
    source = random.Random(0)
    alphabet = ["\n", "\n", "a", "b", " ", "'s", "!", "7", "\t", "\r\n", "é", "\u3000"]
    for _ in range(300):
        text = "".join(source.choices(alphabet, k=30)).encode()
        parts = list(bpe.blocks(text, pattern))
        assert b"".join(parts) == text
        apart = [piece for part in parts for piece in cut(part, pattern)]
        assert apart == cut(text, pattern)


def cut(text, pattern):
    """The pieces of a text."""
    borders = cuts(text, pattern).tolist()
    return [text[low:high] for low, high in zip(borders, borders[1:], strict=False)]


def test_no_more_documents_are_read_than_the_threads_can_take():
    taken = []

    def documents():
        for k in range(50):
            taken.append(k)
            yield b"x" * 2**18

    groups = bpe.groups(documents(), "gpt2")
    assert [len(text) for text in next(groups)] == [2**18] * 4
    assert taken == [0, 1, 2, 3]
    assert sum(len(group) for group in groups) == 46
    counts = count_pieces(f"document {k} " * 9 for k in range(50))
    assert counts[b" document"] == 50 * 8
    assert list(counts)[:2] == [b"document", b" 0"]


def test_an_error_while_learning_comes_out_and_does_not_hang(monkeypatch):
    def broken(*args):
        raise RuntimeError("no luck")

    monkeypatch.setattr(bpe, "learn_merges", broken)
    with pytest.raises(RuntimeError, match="no luck"):
        train_bpe(CODE, 300)
