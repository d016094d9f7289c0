"""Decoders: each step on known tokens, and there and back again."""

import pytest

from tinygrad_edu.tokenizers.decoders import (
    ByteFallback,
    ByteLevel,
    Decoders,
    EndOfWord,
    Fuse,
    Metaspace,
    Replace,
    Strip,
    WordPiece,
)
from tinygrad_edu.tokenizers.pretokenize import Cuts, whitespace_split
from tinygrad_edu.tokenizers.pretokenize import Metaspace as MetaspaceCut

KNOWN = [
    (ByteLevel(), ["a", "é"], ["a", "é"]),
    (Fuse(), ["a", "b"], ["ab"]),
    (WordPiece(), ["##a", "hel", "##lo", "world", "!", "n't"], "##a hello world!n't"),
    (WordPiece(cleanup=False), ["hel", "##lo", "!"], "hello !"),
    (WordPiece(prefix="@"), ["a", "@b", "##c"], "ab ##c"),
    (Metaspace(), ["▁▁a", "▁b▁", "c▁"], "a b c "),
    (Metaspace(prepend="never"), ["▁a", "▁b"], " a b"),
    (ByteFallback(), ["a", "<0xE5>", "<0x8f>", "<0xAB>", "b"], "a叫b"),
    (ByteFallback(), ["<0xE5>", "<0xFF>", "<0xZZ>", "<0x41>"], "\ufffd\ufffd<0xZZ>A"),
    (Strip(" ", 1, 0), ["  a", "b ", " c"], " ab c"),
    (Strip("a", 0, 2), ["aba", "baaa"], "abba"),
    (Replace("▁", " "), ["▁a▁", "b"], " a b"),
    (Replace("a+", "x", regex=True), ["aab"], "xb"),
    (EndOfWord(), ["a</w>", "b", "c</w>"], "a bc"),
    (Decoders(Replace("▁", " "), ByteFallback(), Fuse(), Strip(" ", 1)), ["▁a", "<0x41>"], "aA"),
]


@pytest.mark.parametrize(("decoder", "tokens", "expected"), KNOWN)
def test_known_tokens(decoder, tokens, expected):
    decoded = decoder([token.encode() for token in tokens])
    assert b"".join(decoded).decode() == "".join(expected)
    assert decoder([]) == [] or decoder([]) == [b""]


def test_bytes_that_are_no_text_pass_through():
    assert Replace("a", "b")([b"a\xff"]) == [b"b\xff"]


def test_there_and_back_again_where_nothing_was_forgotten():
    text = "two  spaces and a 狐"
    tokens = [piece.encode() for piece in MetaspaceCut()(text)]
    assert b"".join(Metaspace()(tokens)).decode() == text
    forgetful = Cuts(whitespace_split(), MetaspaceCut())
    tokens = [piece.encode() for piece in forgetful(text)]
    assert b"".join(Metaspace()(tokens)).decode() == "two spaces and a 狐"
