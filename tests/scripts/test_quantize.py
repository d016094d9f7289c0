"""quantize.py on a small model: what it writes is read, and what it refuses is named."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from house import ROOT, load
from tinygrad_edu.files.gguf import load_gguf
from tinygrad_edu.models.gguf_model import load_gguf_model, save_gguf_model
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.quant.study import WAYS
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.gguf_tokenizer import to_fields

TEXT = "the cat and the dog and the cat sat on the mat; the dog did not. " * 8


def small(width=32):
    tokenizer = train_bpe([TEXT.encode()], 275)
    config = LlamaConfig(vocabulary=tokenizer.vocab_size, context=64, layers=1, heads=2, groups=1,
                         width=width, hidden=64)
    return Llama(config, np.random.default_rng(0)), to_fields(tokenizer)


def call(script, *flags):
    """What it prints."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, flags)])
        patch.setattr(sys, "stdout", out)
        load(ROOT / "scripts" / script).main()
    return out.getvalue()


@pytest.fixture
def quantize(tmp_path):
    text, out = tmp_path / "text.txt", tmp_path / "small.gguf"
    text.write_text(TEXT)

    def run(model, fields, *flags, to="q8_0"):
        save_gguf_model(tmp_path / "big.gguf", model, fields)
        return call("quantize.py", tmp_path / "big.gguf", "--to", to, "--out", out, "--text", text,
                    "--new", 4, *flags)
    run.out = out
    return run


def test_a_model_of_fewer_bits_is_written_read_and_judged_and_what_is_kept_is_kept(quantize):
    model, fields = small()
    told = quantize(model, fields, "--keep", "blk.0.ffn_*.weight, token_embd.*")
    pairs = dict(pair.split("=") for pair in told.splitlines()[-1].split())
    assert "left as they are: token_embd.weight, " in told and "ffn_down.weight\n" in told
    assert abs(float(pairs["rise"])) < 0.01 and 0.3 < float(pairs["ratio"]) < 0.9
    assert int(pairs["bytes"]) == quantize.out.stat().st_size
    kinds = {name: entry.kind for name, entry in load_gguf(quantize.out).entries.items()}
    assert kinds["blk.0.attn_q.weight"] == "Q8_0" and kinds["blk.0.ffn_up.weight"] == "F32"
    assert kinds["token_embd.weight"] == kinds["output_norm.weight"] == "F32"
    assert int(pairs["kept"]) == sum(kind == "F32" for kind in kinds.values())
    read, _ = load_gguf_model(quantize.out)
    for (name, a), (_, b) in zip(model.named_parameters(), read.named_parameters(), strict=True):
        assert np.abs(a.data - b.data).max() <= np.abs(a.data).max() / 220, name


def test_what_cannot_be_rounded_is_named_with_its_remedy(quantize, tmp_path, capsys):
    def refused(function, *args):
        with pytest.raises(SystemExit):
            function(*args)
        assert not quantize.out.exists()
        return capsys.readouterr().err

    said = refused(quantize, *small(width=16))
    assert "rows of 16 numbers, and Q8_0 wants a multiple of 32: leave it out with --keep" in said
    model, fields = small()
    model.layers[0].mlp.up_proj.weight.data[3, 5] = np.nan
    assert "blk.0.ffn_up.weight has nan at (3, 5)" in refused(quantize, model, fields)
    model, fields = small()
    assert "no weight is called 'blk.9.*'" in refused(quantize, model, fields, "--keep", "blk.9.*")
    save_gguf_model(tmp_path / "rounded.gguf", model, fields, "Q4_0")
    assert "give the file to write: --out" in refused(
        call, "quantize.py", tmp_path / "rounded.gguf", "--to", "q8_0")
    assert "is rounded already (Q4_0): take the floats" in refused(
        call, "quantize.py", tmp_path / "rounded.gguf", "--to", "q8_0", "--out", quantize.out)


@pytest.mark.parametrize("flags, said", [
    (["--tokens", 7], "--study needs 8 tokens, and here are 7: raise --tokens"),
    (["--out", "it.gguf"], "--study writes nothing: leave out --out")])
def test_a_study_of_nearly_nothing_or_into_a_file_is_refused(flags, said, tmp_path, capsys):
    save_gguf_model(tmp_path / "big.gguf", *small())
    (tmp_path / "text.txt").write_text(TEXT)
    with pytest.raises(SystemExit):
        call("quantize.py", tmp_path / "big.gguf", "--study", "--text", tmp_path / "text.txt",
             *flags)
    assert said in capsys.readouterr().err


def test_a_character_that_the_tokenizer_lacks_is_one_of_the_text(tmp_path):
    (tmp_path / "text.txt").write_text("aΩ")
    script = load(ROOT / "scripts" / "quantize.py")
    opened = SimpleNamespace(begins=(), tokenizer=train_characters(["abc"]))
    settings = SimpleNamespace(text=tmp_path / "text.txt", tokens=0)
    with pytest.raises(ValueError, match=r"text.txt \(choose .* --text\): the character 'Ω'"):
        script.text_of(settings, opened)


def test_a_perplexity_behind_a_cache_is_that_without_one_and_of_eight_bits_nearly(quantize,
                                                                                 tmp_path):
    model, fields = small()
    save_gguf_model(tmp_path / "big.gguf", model, fields)
    (tmp_path / "text.txt").write_text(TEXT)
    found = []
    for flags in ((), ("--cache", "float"), ("--cache", "int8")):
        told = call("perplexity.py", tmp_path / "big.gguf", "--text", tmp_path / "text.txt",
                       *flags)
        found.append(float(told.split("ppl=")[1].split()[0]))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0] == pytest.approx(found[2], rel=5e-3)


def test_the_study_prints_a_line_for_every_way_and_writes_nothing(quantize, tmp_path):
    save_gguf_model(tmp_path / "big.gguf", *small(width=64))
    (tmp_path / "text.txt").write_text(TEXT)
    told = call("quantize.py", tmp_path / "big.gguf", "--study", "--text", tmp_path / "text.txt")
    lines = told.splitlines()
    assert [line[:28].strip() for line in lines[2:-1]] == list(WAYS)
    assert lines[-1].startswith("tokens=") and len(lines[-1].split()) == 1 + len(WAYS)
    assert all(abs(float(pair.split("=")[1])) < 0.1 for pair in lines[-1].split()[1:])
    assert not quantize.out.exists()
