"""merges.txt, CLIP's merges, vocab.txt and rank files: written, read, and refused where damaged."""

import gzip

import pytest

from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.byte_characters import CHARACTER_OF_BYTE, WordEnds, ended, spelt
from tinygrad_edu.tokenizers.kinds import train_tokenizer
from tinygrad_edu.tokenizers.merges_file import (
    read_gpt2,
    read_list_of_merges,
    read_merges,
    read_vocab_txt,
    write_gpt2,
    write_vocab_txt,
)
from tinygrad_edu.tokenizers.tiktoken_file import read_ranks, recover_merges, write_ranks
from tinygrad_edu.tokenizers.tokenizer_file import TokenizerFileError, load_tokenizer

TEXT = "the fox and the foxes, naïve \u2028 \x85 狐 12 \r\n" * 4


@pytest.fixture
def bpe():
    return train_bpe(TEXT, 275)


def test_vocab_and_merges_give_the_same_tokenizer_back(bpe, tmp_path):
    write_gpt2(bpe, tmp_path)
    again = read_gpt2(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert (again.tokens, again.merges, again.special) == (bpe.tokens, bpe.merges, bpe.special)


def test_a_token_with_a_line_separator_does_not_end_its_line(tmp_path):
    # U+0085 is the visible form of byte 0xC2's neighbour in some lists; splitlines would cut there.
    (tmp_path / "m").write_bytes("#version: 0.2\na \x85b\nc d\n".encode())
    assert read_merges(tmp_path / "m") == [("a", "\x85b"), ("c", "d")]


def test_merges_that_begin_with_a_hash_are_merges(tmp_path):
    (tmp_path / "m").write_bytes(b"# #\n")
    assert read_merges(tmp_path / "m") == [("#", "#")]


CLIP = '"bpe_simple_vocab_16e6.txt#version: 0.2\nf o\nfo x</w>\nth e</w>\nt h\n'


def clip(tmp_path, text=CLIP):
    path = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_clips_list_is_numbered_bytes_ends_merges_and_events(tmp_path):
    with pytest.raises(TokenizerFileError, match="the merge 'th e</w>' needs 'th'") as error:
        load_tokenizer(clip(tmp_path, CLIP.replace("t h\n", "")))
    assert "\n" not in str(error.value)
    tokenizer = load_tokenizer(clip(tmp_path))
    assert tokenizer.vocab_size == 256 + 256 + 4 + 2
    ids, offsets = tokenizer.encode_with_offsets(" The  FOX12's")
    first = list(CHARACTER_OF_BYTE.values()).index
    assert ids.tolist() == [516, 514, 513, 256 + first("1"), 256 + first("2"), first("'"),
                            256 + first("s"), 517]
    assert offsets.tolist() == [[0, 0], [1, 4], [6, 9], [9, 10], [10, 11], [11, 12], [12, 13],
                                [0, 0]]
    assert tokenizer.decode(ids, skip_special=True) == "the fox 1 2 's"


def test_the_end_of_a_word_and_its_spelling_are_inverses():
    for token in (b"fox\xff", b"fox", b"\xff", b"\xff\xff"):
        assert ended(spelt(token)) == token
    with pytest.raises(ValueError, match="needs all 256 bytes"):
        WordEnds([b"a", b"a\xff"], [])


def test_vocab_txt_gives_the_same_ids_and_says_by_its_letters_whether_text_is_made_small(tmp_path):
    chain = train_tokenizer("wordpiece", TEXT, 60)
    write_vocab_txt(chain, tmp_path / "vocab.txt")
    again = read_vocab_txt(tmp_path / "vocab.txt")
    assert again.encode("the foxes", wrap=False).tolist() == chain.encode("the foxes").tolist()
    assert again.encode("THE FOXES").tolist() == again.encode("the foxes").tolist()
    cased = read_vocab_txt(tmp_path / "vocab.txt", lowercase=False)
    assert cased.encode("THE").tolist() != cased.encode("the").tolist()


def test_a_rank_file_gives_the_merges_back(bpe, tmp_path):
    path = tmp_path / "my.tiktoken"
    write_ranks(bpe, path)
    again = read_ranks(path, "gpt2", {"<|endoftext|>": 274})
    assert (again.tokens, again.merges, again.special) == (bpe.tokens, bpe.merges, bpe.special)
    assert again.encode(TEXT).tolist() == bpe.encode(TEXT).tolist()
    with pytest.raises(TokenizerFileError, match="name the pattern"):
        load_tokenizer(path)


def test_a_token_that_no_merge_reaches_is_still_its_own_piece():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"ab": 256, b" cde": 257, b"abab": 258}
    assert recover_merges(ranks) == [(97, 98), (256, 256)]


def test_ids_in_another_order_than_the_merges_cannot_be_ranks(bpe, tmp_path):
    turned = train_tokenizer("words", TEXT, 20)
    with pytest.raises(ValueError, match="for byte-level BPE"):
        write_ranks(turned, tmp_path / "x")
    bpe.merges.reverse()
    with pytest.raises(ValueError, match="not in the order of its merges"):
        write_ranks(bpe, tmp_path / "x")


@pytest.mark.parametrize("lines, message", [
    (b"YQ== 0\nYQ== 1\n", "twice"),
    (b"YQ== 0\nYg== 0\n", "the same rank"),
    (b"YQ== 0\n?? 1\n", "line 2 is no base64"),
    (b"YQ== 900000000\n", "its ranks go up to"),
])
def test_a_damaged_rank_file_is_one_sentence(tmp_path, lines, message):
    (tmp_path / "r").write_bytes(lines)
    with pytest.raises(ValueError, match=message):
        read_ranks(tmp_path / "r", "gpt2")


def test_a_list_for_another_kind_is_not_written(tmp_path):
    for write in (write_gpt2, write_ranks):
        with pytest.raises(ValueError, match="write a tokenizer.json"):
            write(train_tokenizer("words", TEXT, 20), tmp_path / "x")
    with pytest.raises(ValueError, match="WordPiece"):
        write_vocab_txt(train_bpe(TEXT, 270), tmp_path / "x")


def test_merges_alone_are_gpt2s_tokenizer(bpe, tmp_path):
    write_gpt2(bpe, tmp_path)
    again = read_list_of_merges(tmp_path / "merges.txt")
    assert [again.tokens[k] for k in again.encode("the foxes")] == [
        bpe.tokens[k] for k in bpe.encode("the foxes")]
