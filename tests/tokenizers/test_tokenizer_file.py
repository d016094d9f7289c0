"""tokenizer.json: written, read back, and refused where damaged or of another kind."""

import json
import random

import pytest

from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.kinds import KINDS, train_tokenizer
from tinygrad_edu.tokenizers.merges_file import write_gpt2, write_vocab_txt
from tinygrad_edu.tokenizers.pipeline import Pipeline
from tinygrad_edu.tokenizers.tiktoken_file import write_ranks
from tinygrad_edu.tokenizers.tokenizer_file import (
    TokenizerFileError,
    load_tokenizer,
    save_tokenizer,
)

TEXT = 'def é(x):\n    return "狐", x, 0xFF  # \x00 \u2028 ends\n' * 3
SIZE = {"bpe": 280}  # TEXT has not enough for more
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


REFUSED = [
    ({"normalizer": {"type": "Nmt"}}, "the normalizer 'Nmt' is not supported"),
    ({"normalizer": {"type": "Sequence"}}, "has no list of steps"),
    ({"normalizer": {"type": "Prepend"}}, "lacks its setting 'prepend'"),
    ({"normalizer": {"type": "Strip", "strip_left": 1}}, "has 1 as its setting 'strip_left'"),
    ({"normalizer": {"type": "NFC", "twice": True}}, "has the setting 'twice'"),
    ({"normalizer": 5}, "5 is no step"),
    ({"normalizer": {"type": "Replace", "pattern": {}, "content": ""}}, "is no pattern"),
    ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "?"}}, "is no base64"),
    ({"pre_tokenizer": {"type": "Whitespace"}}, "only one of its pre-tokenizer and its decoder"),
    ({"pre_tokenizer": None}, "only one of its pre-tokenizer"),
    ({"decoder": {"type": "WordPiece"}}, "decoder"),
    ({"decoder": {"type": "CTC"}}, "only one of"),
    ({"post_processor": {"type": "Unheard"}}, "the post-processor 'Unheard' is not supported"),
    ({"post_processor": {"type": "TemplateProcessing"}}, "lacks its setting 'single'"),
    ({"post_processor": {"type": "BertProcessing", "sep": [], "cls": []}}, "is no token of a post"),
    ({"post_processor": {"type": "TemplateProcessing", "single": [5], "pair": [],
                         "special_tokens": {}}}, "neither a text nor a token"),
    ({"post_processor": {"type": "TemplateProcessing", "single": [], "pair": [],
                         "special_tokens": {}}}, "has to hold each text once"),
    ({"post_processor": {"type": "TemplateProcessing", "pair": [], "special_tokens": {}, "single":
                         [{"SpecialToken": {"id": "x"}}]}}, "has no id that can be used"),
    ({"model": {"type": "Nothing"}}, "the model is 'Nothing'"),
    ({"model": {"type": "Unigram"}}, "'vocab' is missing"),
    ({"model": {"byte_fallback": True}}, "sets byte_fallback"),
    ({"model": {"dropout": 0.1}}, "sets dropout"),
    ({"model": {"end_of_word_suffix": "@"}}, "its words end with '@', not </w>"),
    ({"model": {"merges": ["a b c"]}}, "not a pair"),
    ({"model": {"merges": [7]}}, "not a pair"),
    ({"model": {"merges": ["a nothing"]}}, "joins 'nothing'"),
    ({"model": {"merges": ["q q"]}}, "no token"),
    ({"model": {"merges": None}}, "'merges' is missing"),
    ({"model": {"vocab": {}}}, "id"),
    ({"model": {"vocab": []}}, "'vocab' is missing"),
    ({"added_tokens": 5}, "added_tokens"),
    ({"added_tokens": [5]}, "'content' is missing"),
    ({"added_tokens": [{"content": "<x>", "id": True}]}, "'id' is missing"),
    ({"added_tokens": [{"content": "<x>", "id": 5}]}, "the ids of"),
    ({"added_tokens": [{"content": "\ud800", "id": 280}]}, "surrogate"),
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


def test_words_behind_the_cut_of_characters_are_refused_and_so_is_another_order(file):
    save_tokenizer(train_characters("ab"), file)
    change(file, model={"vocab": {"ab": 0, "b": 1, "<|endoftext|>": 2}})
    with pytest.raises(TokenizerFileError, match="its list has words"):
        load_tokenizer(file)
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


FOLDERS = {
    "tokenizer.json": lambda folder, bpe: save_tokenizer(bpe, folder / "tokenizer.json"),
    "vocab.json": lambda folder, bpe: write_gpt2(bpe, folder),
    "vocab.txt": lambda folder, _: write_vocab_txt(
        train_tokenizer("wordpiece", TEXT, 300), folder / "vocab.txt"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_read_by_what_it_holds(tmp_path, name):
    FOLDERS[name](tmp_path, train_bpe(TEXT, 280))
    assert load_tokenizer(tmp_path).encode("def x").size >= 2


def test_an_empty_folder_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_text_that_is_no_tokenizer_is_refused(file):
    file.write_text("Once upon a time", encoding="utf-8")
    with pytest.raises(TokenizerFileError, match="no rank file, no list of merges"):
        load_tokenizer(file)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_from_its_file(kind, file):
    tokenizer = train_tokenizer(kind, TEXT, SIZE.get(kind, 400))
    save_tokenizer(tokenizer, file)
    again = load_tokenizer(file)
    assert again.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert again.decode(again.encode(TEXT)) == tokenizer.decode(tokenizer.encode(TEXT))
    assert type(again) is type(tokenizer)


def test_a_pipeline_made_by_hand_cannot_be_written(file):
    with pytest.raises(ValueError, match="put together by hand"):
        save_tokenizer(Pipeline(train_bpe(TEXT, 280)), file)


# ---- damaged files -------------------------------------------------------------------------------


def files_of_every_kind(folder):
    """name → path of a small tokenizer of every kind and form."""
    paths = {}
    for kind in KINDS:
        paths[kind] = folder / f"{kind}.json"
        save_tokenizer(train_tokenizer(kind, TEXT, SIZE.get(kind, 400)), paths[kind])
    bpe = train_bpe(TEXT, 280)
    paths["ranks"] = folder / "cl100k_base.tiktoken"
    write_ranks(bpe, paths["ranks"])
    (folder / "gpt2").mkdir()
    write_gpt2(bpe, folder / "gpt2")
    paths["vocab.json"] = folder / "gpt2" / "vocab.json"
    paths["merges"] = folder / "gpt2" / "merges.txt"
    paths["vocab.txt"] = folder / "vocab.txt"
    write_vocab_txt(train_tokenizer("wordpiece", TEXT, 300), paths["vocab.txt"])
    return paths


def mutated(data, source):
    """Some bytes changed, or a part left out, doubled or cut off."""
    data = bytearray(data)
    for _ in range(source.randrange(1, 4)):
        place, length = source.randrange(len(data) + 1), source.choice((1, 2, 20, 500))
        match source.randrange(5):
            case 0:
                data[place:place + length] = b""
            case 1:
                data[place:place] = data[place:place + length]
            case 2:
                del data[place:]
            case _:
                data[place:place + 1] = bytes([source.choice(b'0159{}[]",:\\n aZ=\xc4\xff')])
    return bytes(data)


def damage(paths, folder, count, seed):
    """Mutate every file `count` times; (read, refused). Anything but one sentence is a failure."""
    source, outcomes = random.Random(seed), [0, 0]
    for name, path in paths.items():
        data = path.read_bytes()
        for _ in range(count):
            path.write_bytes(mutated(data, source))
            try:
                again = load_tokenizer(path.parent if path.parent.name == "gpt2" else path)
            except TokenizerFileError as error:
                assert "\n" not in str(error) and len(str(error)) < 600, (name, str(error))
                outcomes[1] += 1
                continue
            outcomes[0] += 1
            assert isinstance(again.decode(range(again.vocab_size)), str)
            try:
                again.encode("def x: 狐 1")
            except ValueError as error:
                assert "\n" not in str(error)
        path.write_bytes(data)
    return outcomes


def test_mutated_files_are_read_or_refused_but_never_crash(tmp_path):
    read, refused = damage(files_of_every_kind(tmp_path), tmp_path, 25, seed=0)
    assert refused > 80 and read > 20


@pytest.mark.long
def test_thousands_of_mutated_files_are_read_or_refused(tmp_path):
    read, refused = damage(files_of_every_kind(tmp_path), tmp_path, 800, seed=1)
    print(f"read={read} refused={refused}")
