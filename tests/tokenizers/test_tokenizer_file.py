"""tokenizer.json: written, read back, and refused where damaged or of another kind."""

import json
import random

import pytest

from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.tokenizer_file import (
    TokenizerFileError,
    load_tokenizer,
    save_tokenizer,
)

TEXT = 'def é(x):\n    return "狐", x, 0xFF  # \x00 \u2028 ends\n' * 3
SPECIAL = ("<|endoftext|>", "<|ß end|>")


@pytest.fixture(params=["bpe", "characters"])
def tokenizer(request):
    if request.param == "bpe":
        return train_bpe(TEXT, 282, special=SPECIAL)
    return train_characters(TEXT, special=SPECIAL)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokenizer.json"


def change(file, **parts):
    """Replace parts of a tokenizer file; `model` is updated, not replaced."""
    document = json.loads(file.read_text(encoding="utf-8"))
    document["model"] |= parts.pop("model", {})
    file.write_text(json.dumps(document | parts), encoding="utf-8")


def test_a_file_gives_the_same_tokenizer_back(tokenizer, file):
    save_tokenizer(tokenizer, file)
    again = load_tokenizer(file)
    assert type(again) is type(tokenizer)
    assert again.tokens == tokenizer.tokens
    assert again.special == tokenizer.special
    text = TEXT + "".join(SPECIAL)
    for allowed in ((), "all", SPECIAL[1:]):
        if type(tokenizer).__name__ == "CharacterTokenizer" and allowed != "all":
            text = TEXT  # the names themselves hold characters that it does not know
        assert again.encode(text, allowed).tolist() == tokenizer.encode(text, allowed).tolist()


def test_a_file_of_the_newer_form_with_merges_as_pairs_is_read(file):
    tokenizer = train_bpe(TEXT, 280)
    save_tokenizer(tokenizer, file)
    merges = json.loads(file.read_text(encoding="utf-8"))["model"]["merges"]
    change(file, model={"merges": [merge.split(" ") for merge in merges]})
    assert load_tokenizer(file).merges == tokenizer.merges


def test_a_file_with_other_numbers_for_the_bytes_is_read(file):
    tokenizer = train_bpe(TEXT, 280)
    save_tokenizer(tokenizer, file)
    vocab = json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]
    turned = {token: 279 - index for token, index in vocab.items()}
    added = [{"id": 0, "content": "<|endoftext|>", "special": True}]
    change(file, model={"vocab": turned}, added_tokens=added)
    again = load_tokenizer(file)
    assert again.encode(TEXT).tolist() == [279 - index for index in tokenizer.encode(TEXT)]
    assert again.decode(again.encode(TEXT)) == TEXT
    assert again.special == {"<|endoftext|>": 0}


LITTLE = {"<|endoftext|>": 0}
REFUSED = [
    ({"normalizer": {"type": "NFC"}}, "has a normalizer"),
    ({"pre_tokenizer": {"type": "Whitespace"}}, "not the ByteLevel of GPT-2"),
    ({"pre_tokenizer": None}, "'pre_tokenizer' is missing"),
    ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "add_prefix_space"),
    ({"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}}, "not the ByteLevel"),
    ({"decoder": {"type": "WordPiece"}}, "decoder"),
    ({"post_processor": {"type": "TemplateProcessing"}}, "post-processor"),
    ({"model": {"type": "Unigram"}}, "the model is 'Unigram'"),
    ({"model": {"byte_fallback": True}}, "sets byte_fallback"),
    ({"model": {"ignore_merges": True}}, "sets ignore_merges"),
    ({"model": {"dropout": 0.1}}, "sets dropout"),
    ({"model": {"end_of_word_suffix": "</w>"}}, "sets end_of_word_suffix"),
    ({"model": {"merges": ["a b c"]}}, "not a pair"),
    ({"model": {"merges": [7]}}, "not a pair"),
    ({"model": {"merges": ["a nothing"]}}, "joins 'nothing'"),
    ({"model": {"merges": ["q q"]}}, "no token"),
    ({"model": {"merges": None}}, "'merges' is missing"),
    ({"model": {"vocab": {}}}, "id"),
    ({"model": {"vocab": LITTLE}, "added_tokens": []}, "no token"),
    ({"model": {"vocab": []}}, "'vocab' is missing"),
    ({"added_tokens": 5}, "added_tokens"),
    ({"added_tokens": [5]}, "'content' is missing"),
    ({"added_tokens": [{"content": "<x>", "id": True}]}, "'id' is missing"),
    ({"added_tokens": [{"content": "<x>", "id": 5}]}, "the ids of"),
    ({"added_tokens": [{"content": "<|endoftext|>", "id": 278, "lstrip": True}]}, "sets lstrip"),
    ({"added_tokens": [{"content": "", "id": 280}]}, "empty"),
]


@pytest.mark.parametrize("parts, message", REFUSED, ids=[text for _, text in REFUSED])
def test_what_is_not_read_is_refused_in_one_sentence_that_names_the_file(file, parts, message):
    save_tokenizer(train_bpe(TEXT, 280), file)
    change(file, **parts)
    with pytest.raises(TokenizerFileError) as error:
        load_tokenizer(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("index", [5, -1, 280, 2.0, "3", None, True, 1 << 70])
def test_an_id_that_is_taken_or_outside_is_refused(file, index):
    save_tokenizer(train_bpe(TEXT, 280), file)
    vocab = json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]
    change(file, model={"vocab": vocab | {"A": index}})
    with pytest.raises(TokenizerFileError, match="has the id"):
        load_tokenizer(file)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": 5}', b'{"model": {}}', b"[" * 100_000],
)
def test_a_file_that_is_something_else_is_refused(file, data):
    file.write_bytes(data)
    with pytest.raises(TokenizerFileError):
        load_tokenizer(file)


def test_a_list_of_words_is_refused_and_so_are_characters_in_another_order(file):
    save_tokenizer(train_characters("ab"), file)
    change(file, pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(TokenizerFileError, match="list of words"):
        load_tokenizer(file)
    save_tokenizer(train_characters("ab"), file)
    change(file, model={"vocab": {"b": 0, "a": 1, "<|endoftext|>": 2}})
    with pytest.raises(TokenizerFileError, match="order of their code points"):
        load_tokenizer(file)


def test_a_special_token_that_looks_like_the_visible_form_of_another_is_not_written(file):
    with pytest.raises(ValueError, match="give it another name"):
        save_tokenizer(train_bpe(TEXT, 280, special=("Ġ",)), file)
    assert not file.exists()


def test_a_missing_file_is_an_os_error(file):
    with pytest.raises(FileNotFoundError):
        load_tokenizer(file)


def test_mutated_files_are_read_or_refused_but_never_crash(tokenizer, file):
    save_tokenizer(tokenizer, file)
    data = file.read_bytes()
    source = random.Random(0)
    refused = 0
    for _ in range(150):
        mutated = bytearray(data)
        for _ in range(source.randrange(1, 4)):
            place = source.randrange(len(mutated))
            if source.random() < 0.5:
                mutated[place] = source.choice(b'0159{}[]",:\\n a\xc4\xff')
            else:
                del mutated[place : place + source.choice((1, 2, 20, 500))]
        file.write_bytes(mutated)
        try:
            again = load_tokenizer(file)
        except TokenizerFileError:
            refused += 1
        else:
            assert again.decode(range(again.vocab_size)) is not None
    assert refused > 50
