"""Our safetensors files against those of the `safetensors` package, both ways."""

import json
import random
import struct

import numpy as np
import pytest

from tinygrad_edu.files.safetensors import DTYPES, SafetensorsError, load, save

package = pytest.importorskip("safetensors")
package_numpy = pytest.importorskip("safetensors.numpy")


def arrays():
    rng = np.random.default_rng(0)
    tensors = {}
    for dtype in DTYPES:
        for shape in [(), (0, 3), (5,), (2, 3, 4)]:
            values = rng.integers(0, 2 if dtype == "BOOL" else 100, shape)
            tensors[f"{dtype} {shape} é名"] = np.asarray(values).astype(DTYPES[dtype])
    return tensors


def test_the_package_reads_what_we_write(tmp_path):
    tensors = arrays()
    dtypes = {name: name.split()[0] for name in tensors}
    save(tmp_path / "a", tensors, {"k": "v"}, dtypes)
    records = dict(package.deserialize((tmp_path / "a").read_bytes()))
    assert records.keys() == tensors.keys()
    for name, record in records.items():
        assert record["dtype"] == dtypes[name]
        assert tuple(record["shape"]) == tensors[name].shape
        assert bytes(record["data"]) == tensors[name].tobytes()
    with package.safe_open(tmp_path / "a", framework="numpy") as file:
        assert file.metadata() == {"k": "v"}


def test_we_read_what_the_package_writes(tmp_path):
    tensors = {name: array for name, array in arrays().items() if "BF16" not in name}
    package_numpy.save_file(tensors, tmp_path / "a", {"k": "v"})
    back = load(tmp_path / "a")
    assert back.metadata == {"k": "v"}
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert np.array_equal(back[name], tensor)


def test_both_write_the_same_bytes_for_the_same_tensors(tmp_path):
    rng = np.random.default_rng(1)
    tensors = {"b": rng.normal(size=(3, 2)), "a": rng.integers(0, 9, 5), "c": np.ones(3, np.uint8)}
    save(tmp_path / "ours", tensors, {"k": "v"})
    assert (tmp_path / "ours").read_bytes() == package_numpy.save(tensors, {"k": "v"})


def test_what_the_package_refuses_we_refuse_too(tmp_path):
    # The other way round does not hold: we also refuse equal names and BOOL bytes above 1.
    rng = random.Random(0)
    tensors = {"w": np.arange(6, dtype=np.float32).reshape(3, 2), "b": np.arange(4, dtype=np.int8)}
    whole = package_numpy.save(tensors, {"k": "v"})
    (length,) = struct.unpack("<Q", whole[:8])
    assert json.loads(whole[8 : 8 + length])
    for _ in range(2000):
        data = bytearray(whole)
        data[rng.randrange(8 + length)] = rng.choice(b'0123456789{}[],:"wFI -\xff\x00')
        try:
            package.deserialize(bytes(data))
        except package.SafetensorError:
            (tmp_path / "a").write_bytes(data)
            with pytest.raises(SafetensorsError):
                load(tmp_path / "a")
