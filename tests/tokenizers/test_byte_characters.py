"""Bytes as visible characters: GPT-2's, all different, and back."""

import pytest

from tinygrad_edu.tokenizers.byte_characters import BYTE_OF_CHARACTER, hidden, visible


def test_bytes_become_the_characters_of_gpt2():
    assert visible(b" the\n") == "ĠtheĊ"
    assert visible("é".encode()) == "Ã©"
    assert visible(b"\x00\x7f\xad\xff") == "ĀġŃÿ"
    assert len(BYTE_OF_CHARACTER) == 256


def test_every_byte_comes_back_and_can_be_seen():
    everything = bytes(range(256))
    assert hidden(visible(everything)) == everything
    assert not any(character.isspace() for character in visible(everything))


def test_a_character_that_stands_for_no_byte_is_refused():
    with pytest.raises(ValueError, match="stands for no byte"):
        hidden("a b")
