"""The character tokenizer, and what all tokenizers have in common."""

import numpy as np
import pytest

from tinygrad_edu.tokenizers.characters import END_OF_TEXT, CharacterTokenizer, train_characters

TEXT = "Ĝis revido, 狐! 😀\n\x00"


@pytest.fixture
def tokenizer():
    return train_characters([TEXT, "abc"])


def test_ids_follow_the_code_points_and_special_tokens_come_last():
    small = train_characters("cab")
    assert small.tokens == [b"a", b"b", b"c", b"<|endoftext|>"]
    assert small.special == {END_OF_TEXT: 3}
    assert small.vocab_size == 4
    ids = small.encode("abca")
    assert ids.tolist() == [0, 1, 2, 0]
    assert ids.dtype == np.int32


def test_text_comes_back_exactly(tokenizer):
    for text in (TEXT, "", "a", "狐" * 1000):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.decode_bytes(tokenizer.encode(text.encode())) == text.encode()


def test_bytes_that_are_not_utf8_are_refused_with_their_offset(tokenizer):
    with pytest.raises(ValueError, match="not UTF-8: byte 0xFF at offset 4"):
        tokenizer.encode("é ".encode() + b"a\xff")
    with pytest.raises(ValueError, match="offset 1"):
        train_characters([b"a\xe2\x82"])


def test_an_unknown_character_is_refused_by_name(tokenizer):
    with pytest.raises(ValueError, match=r"the character 'é' \(U\+00E9\) is not among the 18"):
        tokenizer.encode("caé")


def test_an_empty_text_makes_no_tokenizer():
    with pytest.raises(ValueError, match="empty"):
        train_characters([])


def test_special_tokens_are_plain_text_unless_allowed():
    tokenizer = train_characters("ab<|>endoftx", special=("<|endoftext|>", "<|end|>"))
    end, short = tokenizer.special.values()
    text = "a<|endoftext|>b<|end|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert not {end, short} & set(tokenizer.encode(text).tolist())
    assert tokenizer.encode(text, "all").tolist() == [
        *tokenizer.encode("a"), end, *tokenizer.encode("b"), short,
    ]  # fmt: skip
    one = tokenizer.encode(text, allowed_special=["<|end|>"]).tolist()
    assert (one.count(end), one.count(short)) == (0, 1)
    assert tokenizer.encode("<|end|>", "all").tolist() == [short]
    assert tokenizer.decode([0, end]) == tokenizer.decode([0]) + "<|endoftext|>"


def test_the_longest_special_token_wins_where_one_begins_another():
    tokenizer = CharacterTokenizer("a", special=("<x>", "<x><y>"))
    assert tokenizer.encode("<x><y>a<x>", "all").tolist() == [2, 0, 1]


def test_an_unknown_special_token_is_refused(tokenizer):
    with pytest.raises(ValueError, match="no special token is called '<pad>'"):
        tokenizer.encode("a", allowed_special=["<pad>"])


def test_a_special_token_that_is_an_ordinary_one_is_refused():
    with pytest.raises(ValueError, match="needs a name that is no ordinary token"):
        CharacterTokenizer("abc", special=("a",))


@pytest.mark.parametrize("ids", [[-1], [0, 19], np.array([1 << 40])])
def test_an_id_out_of_range_is_refused(tokenizer, ids):
    with pytest.raises(ValueError, match=r"is not in 0 … 18"):
        tokenizer.decode(ids)
    with pytest.raises(ValueError, match=r"is not in 0 … 18"):
        tokenizer.token_bytes(ids[-1])


def test_ids_that_are_no_integers_are_refused(tokenizer):
    with pytest.raises(ValueError, match="integers"):
        tokenizer.decode(np.array([0.5]))


def test_token_bytes_are_those_of_the_token(tokenizer):
    assert tokenizer.token_bytes(tokenizer.encode("狐")[0]) == "狐".encode()
    assert tokenizer.token_bytes(tokenizer.special[END_OF_TEXT]) == b"<|endoftext|>"


def test_a_disallowed_special_token_is_refused_and_an_allowed_one_is_not():
    tokenizer = train_characters("ab<|endoftext|>")
    text = "a<|endoftext|>b"
    with pytest.raises(ValueError, match="holds '<|endoftext|>', which is a special token"):
        tokenizer.encode(text, disallowed_special="all")
    with pytest.raises(ValueError, match="which is a special token"):
        tokenizer.encode(text, disallowed_special=("<|endoftext|>",))
    allowed = tokenizer.encode(text, allowed_special="all", disallowed_special="all")
    assert tokenizer.special["<|endoftext|>"] in allowed.tolist()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("ab", disallowed_special="all").size == 2
