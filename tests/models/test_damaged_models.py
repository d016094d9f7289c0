"""Files of a tiny model with other bytes here and there: refused in one sentence, or read."""

import json

import numpy as np
import pytest

from damage import survive, survive_head
from harness import real_model
from tinygrad_edu.files.gguf import load_gguf
from tinygrad_edu.files.safetensors import load
from tinygrad_edu.models.export import save_published
from tinygrad_edu.models.gguf_model import load_gguf_model, save_gguf_model
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.published import load_published


@pytest.fixture(scope="module")
def tiny():
    config = LlamaConfig(vocabulary=5, context=8, layers=1, heads=2, groups=1, width=8, hidden=6)
    return Llama(config, np.random.default_rng(0))


def damage(tiny, folder, count, seed):
    """Mutations of a GGUF file, and of the two files of a folder."""
    save_gguf_model(folder / "it.gguf", tiny)
    assert survive(load_gguf_model, folder / "it.gguf", count, seed) > count / 4
    save_published(folder / "it", tiny)
    config, weights = folder / "it" / "config.json", folder / "it" / "model.safetensors"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4}}))
    assert survive(load_published, config, count, seed, read=folder / "it") > count / 4
    assert survive(load_published, weights, count, seed, 1500, folder / "it") > count / 4


def test_a_hundred_mutations_of_each_file_are_refused_in_one_sentence_or_read(tiny, tmp_path):
    damage(tiny, tmp_path, 120, seed=0)


@pytest.mark.long
def test_ten_thousand_mutations_of_each_file_are_refused_in_one_sentence_or_read(tiny, tmp_path):
    damage(tiny, tmp_path, 10_000, seed=1)


@pytest.mark.long
def test_ten_thousand_mutations_of_the_heads_of_real_files_are_refused_or_read(tmp_path, capsys):
    gguf, folder = real_model("smollm2"), real_model("minilm")
    begin = min(entry.begin for entry in load_gguf(gguf).entries.values())
    refused = survive_head(load_gguf, gguf, tmp_path / "it.gguf", begin, 10_000, seed=2)
    weights = folder / "model.safetensors"
    begin = load(weights).start
    others = survive_head(load, weights, tmp_path / "it.safetensors", begin, 10_000, seed=3)
    with capsys.disabled():
        print(f"refused: {refused} of SmolLM2's GGUF, {others} of MiniLM's safetensors")
    assert refused > 2_500 and others > 2_500
