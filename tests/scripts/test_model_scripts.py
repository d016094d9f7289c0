"""The scripts that take any model: the same one as a GGUF file and as a folder."""

import io
import json
import math
import re
import sys

import numpy as np
import pytest

from house import ROOT, load
from tinygrad_edu.inference import cache
from tinygrad_edu.kernel import Backend, backends
from tinygrad_edu.models.export import save_published
from tinygrad_edu.models.gguf_model import save_gguf_model
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.opened import open_model
from tinygrad_edu.models.packed_llama import PackedLlama
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.gguf_tokenizer import to_fields
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer

TEXT = "the cat and the dog and the cat sat on the mat; the dog did not. " * 8
TEMPLATE = ("{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}<|endoftext|>assistant:{% endif %}")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """{"gguf": path, "folder": path} of one tiny model, which has a tokenizer and a template."""
    place = tmp_path_factory.mktemp("models")
    tokenizer = train_bpe([TEXT.encode()], 275)
    config = LlamaConfig(vocabulary=tokenizer.vocab_size, context=64, layers=1, heads=2, groups=1,
                         width=16, hidden=24)
    model = Llama(config, np.random.default_rng(0))
    for tensor in model.parameters():
        tensor.assign(tensor.data * (20 if tensor.ndim == 2 else 1))
    end = tokenizer.special["<|endoftext|>"]
    fields = to_fields(tokenizer) | {"tokenizer.chat_template": TEMPLATE,
                                     "tokenizer.ggml.eos_token_id": end}
    save_gguf_model(place / "it.gguf", model, fields)
    save_published(place / "it", model)
    save_tokenizer(tokenizer, place / "it" / "tokenizer.json")
    (place / "it" / "chat_template.jinja").write_text(TEMPLATE)
    (place / "it" / "generation_config.json").write_text(json.dumps({"eos_token_id": [end]}))
    (place / "text.txt").write_text(TEXT)
    return {"gguf": place / "it.gguf", "folder": place / "it", "text": place / "text.txt"}


def call(script, *flags, typed=""):
    """What a script prints."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, flags)])
        patch.setattr(sys, "stdin", io.StringIO(typed))
        patch.setattr(sys, "stdout", out)
        load(ROOT / "scripts" / script).main()
    return out.getvalue()


def last_line(out):
    return dict(pair.split("=", 1) for pair in out.splitlines()[-1].split())


def complaint(capsys, script, *flags):
    with pytest.raises(SystemExit) as end:
        call(script, *flags)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_both_files_are_the_same_model_with_the_same_tokenizer(paths):
    one, other = open_model(paths["gguf"], widen=True), open_model(paths["folder"])
    assert one.ids("the cat") == other.ids("the cat") and one.ends == other.ends != ()
    for (_, mine), (_, theirs) in zip(one.model.named_parameters(), other.model.named_parameters(),
                                      strict=True):
        assert np.array_equal(mine.data, theirs.data)


@pytest.mark.parametrize("way", [["--greedy"], ["--beams", 3], ["--min-p", 0.2, "--penalty", 1.2]])
def test_generate_writes_the_same_from_both_and_without_a_cache(paths, way):
    flags = ["--prompt", "the cat", "--max-new", 12, *way]
    texts = [call("generate.py", paths[kind], *flags).rsplit("\n", 2)[0] for kind in
             ("gguf", "folder")]
    texts.append(call("generate.py", paths["gguf"], *flags, "--no-cache").rsplit("\n", 2)[0])
    assert texts[0].startswith("the cat") and len(set(texts)) == 1


def test_generate_ends_before_a_stop_string(paths):
    flags = [paths["gguf"], "--prompt", "the", "--greedy", "--max-new", 20]
    text = call("generate.py", *flags).rsplit("\n", 2)[0]
    stop = text[8:10]
    found = call("generate.py", *flags, "--stop", stop).rsplit("\n", 2)[0]
    assert found == "the" + text[3:].partition(stop)[0]


@pytest.mark.parametrize("script, flags", [
    ("generate.py", ["--prompt", "the"]), ("chat.py", []),
    ("bench_decode.py", ["--prompt-tokens", 8, "--new", 8])])
def test_a_context_larger_than_the_memory_is_refused_in_a_sentence_before_it_is_taken(
        script, flags, paths, capsys, monkeypatch):
    monkeypatch.setattr(cache, "available_bytes", lambda: 10)
    assert "MB of memory are free: read or write fewer tokens" in complaint(
        capsys, script, paths["gguf"], *flags)


@pytest.mark.parametrize("have, stays", [(["native"], True), (["numba"], True), ([], False)])
def test_weights_stay_in_their_blocks_where_loops_can_multiply_them(have, stays, paths,
                                                                    monkeypatch):
    for name in ("native", "numba"):
        there = name in have
        monkeypatch.setitem(backends, name, Backend(name, lambda there=there: there))
    assert isinstance(open_model(paths["gguf"]).model, PackedLlama) == stays


def test_perplexity_is_the_mean_of_what_each_token_costs(paths):
    opened = open_model(paths["gguf"])
    ids = np.array([opened.tokenizer.encode(TEXT)])
    total = sum(opened.model.loss(ids[:, low : low + 16], ids[:, low + 1 : low + 17],
                                  reduction="sum").item()
                if low + 16 < ids.size else
                opened.model.loss(ids[:, low:-1], ids[:, low + 1 :], reduction="sum").item()
                for low in range(0, ids.size - 1, 16))
    values = last_line(call("perplexity.py", paths["folder"], "--text", paths["text"], "--window",
                            16))
    mean = total / (ids.size - 1)
    assert abs(float(values["mean_nll"]) - mean) < 1e-4
    assert int(values["tokens"]) == ids.size
    assert abs(float(values["ppl"]) / math.exp(mean) - 1) < 1e-3
    bytes_ = len(TEXT) - len(opened.tokenizer.decode(ids[0, :1]))
    assert abs(float(values["bits_per_byte"]) - total / math.log(2) / bytes_) < 1e-3


def test_chat_answers_each_line_and_forgets_after_a_reset(paths):
    pytest.importorskip("jinja2")

    def answers(typed):
        out = call("chat.py", paths["gguf"], "--greedy", "--max-new", 5, typed=typed)
        return [line for line in out.splitlines() if not line.startswith("(")], last_line(out)

    once, values = answers("the cat?\n")
    assert values["turns"] == "1" and 0 < int(values["tokens"]) <= 5
    again, values = answers("the cat?\n/reset\n\nthe cat?\n/exit\nnever read\n")
    assert values["turns"] == "2"
    assert again[: len(once) - 1] == once[:-1] == again[len(once) - 1 : -1]


def test_chat_reads_only_what_is_new_and_forgets_the_oldest_where_the_context_is_full(paths):
    pytest.importorskip("jinja2")
    typed = "".join(f"the cat sat {word}\n" for word in ("on", "in", "at", "by", "up", "off"))
    out = call("chat.py", paths["gguf"], "--greedy", "--max-new", 6, typed=typed)
    read = [tuple(map(int, pair)) for pair in re.findall(r"(\d+) of (\d+) were new to read", out)]
    assert len(read) == 6 and read[0][0] == read[0][1]
    assert read[1][0] < read[1][1] and all(of <= 64 for _, of in read)
    assert "1 of the oldest questions with their answers are forgotten" in out
    too_long = call("chat.py", paths["gguf"], "--greedy", "--max-new", 6,
                    typed="the cat sat on\n" + "cat " * 200 + "\nthe cat sat in\n")
    assert [pair for pair in re.findall(r"(\d+) of (\d+) were new to read", too_long)] == [
        tuple(map(str, pair)) for pair in read[:2]]  # the refused question has cost no turn


def test_chat_goes_on_where_a_question_is_too_long_or_speaks_for_others(paths):
    pytest.importorskip("jinja2")
    typed = "cat " * 200 + "\n<|endoftext|>\nhi\n"
    out = call("chat.py", paths["gguf"], "--max-new", 2, typed=typed)
    assert "this model reads 64 at most" in out and "is a special token" in out
    assert last_line(out)["turns"] == "1"


def test_inspect_model_counts_what_is_in_the_file(paths):
    for kind in ("gguf", "folder"):
        values = last_line(call("inspect_model.py", paths[kind]))
        assert int(values["parameters"]) == open_model(paths[kind]).model.parameter_count()
        assert values["fits"] == "yes" and float(values["expected_tokens_per_s"]) > 0
    out = call("inspect_model.py", paths["folder"] / "model.safetensors", "--all")
    assert "model.layers.0.mlp.up_proj.weight" in out and "24 × 16" in out


def test_mistakes_are_one_sentence(paths, capsys, tmp_path):
    (tmp_path / "some.txt").write_text("no model")
    assert "it is not a GGUF file" in complaint(capsys, "generate.py", tmp_path / "some.txt")
    assert "there is no model in" in complaint(capsys, "generate.py", tmp_path)
    assert "the text is empty" in complaint(capsys, "generate.py", paths["gguf"])
    assert "reads 64 at most" in complaint(capsys, "generate.py", paths["gguf"], "--prompt",
                                           "cat " * 300)
    assert "--window 65 is more" in complaint(capsys, "perplexity.py", paths["gguf"], "--text",
                                              paths["text"], "--window", 65)
    assert "safetensors" in complaint(capsys, "inspect_model.py", tmp_path / "some.txt")
    (paths["folder"] / "chat_template.jinja").rename(tmp_path / "away")
    assert "no chat template" in complaint(capsys, "chat.py", paths["folder"])
