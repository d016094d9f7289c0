"""embed.py on a folder of a tiny BERT whose numbers are random."""

import io
import json
import sys

import numpy as np
import pytest

from house import ROOT, load
from tinygrad_edu.files.safetensors import save
from tinygrad_edu.models.bert import Bert, BertConfig
from tinygrad_edu.models.embedder import INSIDE, OUTSIDE, load_embedder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sat", "ran", "."]


@pytest.fixture
def folder(tmp_path):
    config = BertConfig(len(WORDS), context=16, layers=1, heads=2, width=8, hidden=12)
    model = Bert(config, np.random.default_rng(0))
    names = {here: there for there, here in OUTSIDE.items()}
    names |= {f"blocks.0.{here}": f"encoder.layer.0.{there}" for there, here in INSIDE.items()}
    weights = {}
    for name, tensor in model.named_parameters():
        part, _, leaf = name.rpartition(".")
        weights[f"{names[part]}.{leaf}"] = tensor.numpy() * 5
    save(tmp_path / "model.safetensors", weights | {"pooler.dense.weight": np.zeros(1)})
    settings = {"model_type": "bert", "vocab_size": len(WORDS), "max_position_embeddings": 16,
                "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8,
                "intermediate_size": 12, "type_vocab_size": 2}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("the dog ran.\n\nthe cat\nsat.\n")
    (tmp_path / "notes" / "b.py").write_text("cat")
    return tmp_path


def call(*flags):
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["embed.py", *map(str, flags)])
        patch.setattr(sys, "stdout", out)
        load(ROOT / "scripts" / "embed.py").main()
    return out.getvalue().splitlines()


def test_a_search_finds_the_paragraph_that_is_the_text_itself(folder):
    out = call(folder, "--text", "The cat sat.", "--notes", folder / "notes", "--top", 1)
    assert out[0] == f"1.0000  {folder / 'notes' / 'a.md'}:3" and out[1].strip() == "the cat sat."
    assert out[-1].startswith("paragraphs=2 best=1.0000")


def test_two_sentences_have_the_cosine_of_their_vectors(folder):
    one, other = load_embedder(folder).embed(["the cat", "the dog ran"])
    out = call(folder, "--text", "the cat", "--text-2", "the dog ran")
    assert out == [f"cosine={one @ other:.4f}"]
    numbers = np.array(call(folder, "--text", "the cat")[0].split(), float)
    assert np.abs(numbers - one).max() < 1e-5


def test_mistakes_are_one_sentence(folder, capsys):
    (folder / "empty").mkdir()
    for flags, reason in ((["--text", " "], "--text is empty"),
                          (["--text", "a", "--notes", folder / "empty"], "there is no text"),
                          (["--text", "a", "--notes", folder / "none"], "no folder of notes")):
        with pytest.raises(SystemExit):
            call(folder, *flags)
        assert reason in capsys.readouterr().err
    for name, value, reason in (("hidden_act", "relu", "only gelu is served"),
                                ("model_type", "gpt2", "architecture is 'gpt2'"),
                                ("hidden_size", 16, "numbers do not make those"),
                                ("num_hidden_layers", 2**40, "numbers do not make those")):
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | {name: value}))
        with pytest.raises(ValueError, match=reason):
            load_embedder(folder)
        (folder / "config.json").write_text(json.dumps(settings))
