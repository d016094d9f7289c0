"""The package `tokenizers` is asked whether it reads our files, and whether it splits as we do."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.byte_characters import visible
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.presplit import pieces
from tinygrad_edu.tokenizers.tokenizer_file import load_tokenizer, save_tokenizer
from tinygrad_edu.tokenizers.unicode import NAMES, categories

pytest.importorskip("tokenizers.models")  # the folder tests/tokenizers is no package of that name
tokenizers = pytest.importorskip("tokenizers")

CODE = Path(__file__).read_text("utf-8")
SPECIAL = ("<|endoftext|>", "<|pad|>")
SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
PARTS = [
    *SPACES,
    *("  ", "\r\n", "\n\n    ", "\x1c", "\x1f", "\u200b", "\ufeff", "\x00", "\x7f"),
    *("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'", "’s", "''", "don't"),
    *("hello", "World", "naïve", "Straße", "狐狸", "こんにちは", "안녕", "हिन्दी"),
    *("ไทย", "مرحبا", "שלום"),
    *("7", "42", "½", "Ⅷ", "٣", "①", "²"),
    *("e\u0301", "\u0301", "\u200d", "👍🏽", "👨\u200d👩\u200d👧", "🇪🇺", "❤\ufe0f", "😀"),
    *("€", "--", "()", "_"),
    *("def f(x):", "    return", "x != 0xFF", '"""', "\\n", "#", "<|endoftext|", "|>"),
]


def random_text(source):
    return "".join(source.choices(PARTS, k=source.randrange(1, 14)))


def random_code_points(source, assigned):
    return "".join(map(chr, source.choices(assigned, k=source.randrange(1, 20))))


@pytest.fixture(scope="module")
def assigned():
    """Code points that Unicode 16 gave a meaning; the package may know a later version."""
    unwanted = [NAMES.index(name) for name in ("Cn", "Cs", "Co")]
    return np.flatnonzero(~np.isin(categories(), unwanted)).tolist()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(our tokenizer, theirs from our file)."""
    ours = train_bpe([CODE], 500, special=SPECIAL)
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    save_tokenizer(ours, path)
    return ours, tokenizers.Tokenizer.from_file(str(path))


def their_pieces(text):
    """What their ByteLevel pre-tokenizer makes of a text, as bytes in visible characters."""
    splitter = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


def test_the_pre_split_is_the_same_on_ten_thousand_nasty_texts():
    source = random.Random(0)
    for _ in range(10_000):
        text = random_text(source)
        assert [visible(piece) for piece in pieces(text.encode())] == their_pieces(text), repr(text)


def test_the_pre_split_is_the_same_for_every_code_point_that_unicode_16_assigns(assigned):
    # Between a letter and a digit a code point shows its class: it joins one, the other, or none.
    texts = [f"a{chr(point)}1 {chr(point)}\n" for point in assigned]
    differing = []
    for first in range(0, len(texts), 2000):
        block = texts[first : first + 2000]
        mine = [[visible(piece) for piece in pieces(text.encode())] for text in block]
        differing += [t for t, m in zip(block, mine, strict=True) if m != their_pieces(t)]
    assert not differing, f"{len(differing)} code points, first {differing[:5]!r}"


def test_the_pre_split_is_the_same_on_random_code_points(assigned):
    source = random.Random(1)
    for _ in range(3000):
        text = random_code_points(source, assigned)
        assert [visible(piece) for piece in pieces(text.encode())] == their_pieces(text), repr(text)


def test_a_bpe_file_gives_the_same_ids_there(trained):
    ours, theirs = trained
    assert theirs.get_vocab_size() == ours.vocab_size
    source = random.Random(2)
    texts = ["", CODE, "<|endoftext|>", "a<|pad|>b<|endoftext|><|endoftext|> c"]
    texts += [random_text(source) for _ in range(3000)]
    for text in texts:
        ids = ours.encode(text, allowed_special="all").tolist()
        assert ids == theirs.encode(text).ids, repr(text)
        assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids) == text


def test_a_file_that_the_package_wrote_is_read_with_the_same_ids(trained, tmp_path):
    ours, theirs = trained
    path = tmp_path / "theirs.json"
    theirs.save(str(path))
    again = load_tokenizer(path)
    assert (again.tokens, again.merges, again.special) == (ours.tokens, ours.merges, ours.special)


def test_a_tokenizer_that_the_package_trained_is_read_and_gives_the_same_ids(tmp_path):
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(SPECIAL),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator([CODE], trainer)
    path = tmp_path / "tokenizer.json"
    theirs.save(str(path))
    ours = load_tokenizer(path)
    assert ours.special == {"<|endoftext|>": 0, "<|pad|>": 1}
    source = random.Random(3)
    for text in [CODE, *(random_text(source) for _ in range(2000))]:
        assert ours.encode(text, "all").tolist() == theirs.encode(text).ids, repr(text)


def test_the_first_merges_are_the_same_where_no_two_pairs_tie():
    # Their tie-break is another one, so the text is made such that no tie occurs.
    words = {"abab": 1000, "cd": 713, "cdab": 301, "efef": 97, "gh": 31, "hgh": 13}
    text = " ".join(word for word, times in words.items() for _ in range(times))
    ours = train_bpe(text, 256 + 7 + 1)
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + 7,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator([text], trainer)
    merges = [tuple(merge) for merge in json.loads(theirs.to_str())["model"]["merges"]]
    mine = [(visible(ours.tokens[a]), visible(ours.tokens[b])) for a, b in ours.merges]
    assert mine == merges


def test_a_character_file_gives_the_same_ids_there(tmp_path):
    text = "".join(PARTS) + CODE
    ours = train_characters(text, special=SPECIAL)
    path = tmp_path / "tokenizer.json"
    save_tokenizer(ours, path)
    theirs = tokenizers.Tokenizer.from_file(str(path))
    source = random.Random(4)
    for sample in [text, *(random_text(source) for _ in range(1000)), "a<|endoftext|>b"]:
        ids = ours.encode(sample, allowed_special="all").tolist()
        assert ids == theirs.encode(sample).ids, repr(sample)
        assert theirs.decode(ids, skip_special_tokens=False) == sample
    unknown = chr(0x72D7)
    assert unknown not in text
    with pytest.raises(Exception, match="unk|UNK"):
        theirs.encode(unknown)
