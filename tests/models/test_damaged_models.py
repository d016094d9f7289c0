"""Files of a tiny model with other bytes here and there: refused in one sentence, or read."""

import json
import struct
import tracemalloc

import numpy as np
import pytest

from tinygrad_edu.models.export import save_published
from tinygrad_edu.models.gguf_model import load_gguf_model, save_gguf_model
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.published import load_published

EXTREME = np.array([0, 1, 3, 2**31, 2**40, 2**62, 2**63 - 1], np.int64)
WORDS = (b"null", b"-1", b"1e999", b"[]", b'"x"', b"true", b"99999999999999999999", b"NaN", b"{")


@pytest.fixture(scope="module")
def tiny():
    config = LlamaConfig(vocabulary=5, context=8, layers=1, heads=2, groups=1, width=8, hidden=6)
    return Llama(config, np.random.default_rng(0))


def mutated(data, random, head):
    """Other bytes or numbers within the first `head` bytes, a piece moved, or the end cut off."""
    data = bytearray(data)
    for _ in range(random.integers(1, 4)):
        at, way = int(random.integers(0, min(head, len(data)) + 1)), random.integers(0, 6)
        if way == 0:
            data[at : at + 1] = random.bytes(1)
        elif way == 1:
            data[at : at + 8] = struct.pack("<Q", int(random.choice(EXTREME)))
        elif way == 2:
            data[at : at + 4] = struct.pack("<I", int(random.integers(0, 40)))
        elif way == 3:
            data[at : at + int(random.integers(0, 4))] = WORDS[random.integers(0, len(WORDS))]
        elif way == 4:
            del data[int(random.integers(0, len(data) + 1)) :]
        else:
            data[at:at] = data[at : at + int(random.integers(1, 60))]
    return bytes(data)


def survive(load, path, read, count, seed, head=1 << 20):
    """How many of so many mutations of a file are refused, each in one short line."""
    whole, random, refused = path.read_bytes(), np.random.default_rng(seed), 0
    tracemalloc.start()
    for _ in range(count):
        path.write_bytes(mutated(whole, random, head))
        try:
            load(read)
        except ValueError as error:
            refused += 1
            assert len(str(error)) < 1000, error
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    path.write_bytes(whole)
    assert peak < 30e6
    return refused


def damage(tiny, folder, count, seed):
    """Mutations of a GGUF file, and of the two files of a folder."""
    save_gguf_model(folder / "it.gguf", tiny)
    assert survive(load_gguf_model, folder / "it.gguf", folder / "it.gguf", count, seed) > count / 4
    save_published(folder / "it", tiny)
    config, weights = folder / "it" / "config.json", folder / "it" / "model.safetensors"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4}}))
    assert survive(load_published, config, folder / "it", count, seed) > count / 4
    assert survive(load_published, weights, folder / "it", count, seed, head=1500) > count / 4


def test_a_hundred_mutations_of_each_file_are_refused_in_one_sentence_or_read(tiny, tmp_path):
    damage(tiny, tmp_path, 120, seed=0)


@pytest.mark.long
def test_ten_thousand_mutations_of_each_file_are_refused_in_one_sentence_or_read(tiny, tmp_path):
    damage(tiny, tmp_path, 10_000, seed=1)
