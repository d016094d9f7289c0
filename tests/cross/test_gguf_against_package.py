"""Blocks and files beside the package gguf, byte for byte."""

import numpy as np
import pytest

from tinygrad_edu.files.blocks import READ, WRITE, from_blocks, to_blocks
from tinygrad_edu.files.gguf import load_gguf, save_gguf

gguf = pytest.importorskip("gguf")
quants = pytest.importorskip("gguf.quants")
TYPES = gguf.GGMLQuantizationType
FLOATS = {"F32": np.float32, "F16": np.float16}


def bits(array):
    """The bits of float32 numbers, a NaN as good as any other."""
    array = np.ascontiguousarray(array, np.float32)
    return np.where(np.isnan(array), np.uint32(0x7FC00000), array.view(np.uint32))


@pytest.mark.parametrize("kind", READ)
def test_any_bytes_are_the_same_numbers(kind):
    raw = np.random.default_rng(0).integers(0, 256, (50, 6 * READ[kind][1]), dtype=np.uint8)
    with np.errstate(all="ignore"):
        theirs = quants.dequantize(raw.view(FLOATS.get(kind, np.uint8)), TYPES[kind])
    assert np.array_equal(bits(from_blocks(raw, kind)), bits(theirs))


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e3, 1e-30])
@pytest.mark.parametrize("kind", WRITE)
def test_numbers_are_the_same_bytes(kind, size):
    x = (np.random.default_rng(1).standard_normal((64, 256)) * size).astype(np.float32)
    x[0], x[1, :32], x[2], x[3], x[4] = 0, 1, np.round(x[2] * 4) / 4, abs(x[3]), -abs(x[4])
    with np.errstate(all="ignore"):
        theirs = quants.quantize(x, TYPES[kind])
    assert np.array_equal(to_blocks(x, kind), theirs.view(np.uint8))


def test_a_file_of_ours_is_read_by_the_package(tmp_path):
    x = np.random.default_rng(2).standard_normal((3, 64)).astype(np.float32)
    settings = {"general.architecture": "llama", "llama.block_count": 7, "real": 0.25,
                "words": ["a", "bc"], "numbers": [3, -4]}
    save_gguf(tmp_path / "x.gguf", settings, {"x": x, "y": x}, {"y": "Q4_0"})
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    found = {name: reader.get_field(name).contents() for name in settings}
    assert found == settings
    plain, blocks = reader.tensors
    assert np.array_equal(plain.data, x) and blocks.tensor_type == TYPES.Q4_0
    assert np.array_equal(blocks.data, to_blocks(x, "Q4_0"))


def test_a_file_of_the_package_is_read_here(tmp_path):
    x = np.random.default_rng(2).standard_normal((3, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_block_count(7)
    writer.add_array("words", ["a", "bc"])
    writer.add_tensor("x", x)
    writer.add_tensor("y", quants.quantize(x, TYPES.Q8_0), raw_dtype=TYPES.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = load_gguf(tmp_path / "x.gguf")
    assert file.settings["llama.block_count"] == 7 and file.settings["words"] == ["a", "bc"]
    assert np.array_equal(file["x"], x)
    assert np.array_equal(file["y"], quants.dequantize(quants.quantize(x, TYPES.Q8_0), TYPES.Q8_0))
