import struct

import numpy as np
import pytest

from damage import survive
from tinygrad_edu.files.blocks import READ, WRITE, from_blocks
from tinygrad_edu.files.gguf import GGUF, GGUFError, load_gguf, save_gguf

SETTINGS = {"general.architecture": "llama", "yes": True, "small": 7, "negative": -7,
            "large": 2**40, "real": 0.5, "text": "Wörter", "texts": ["a", "", "c"],
            "numbers": [1, 2, 3], "signed": [-1, 2], "reals": [0.5, -2.0]}


def some_tensors(seed=0):
    random = np.random.default_rng(seed)
    return {"first.weight": random.normal(size=(3, 64)).astype(np.float32),
            "second": random.normal(size=32).astype(np.float32),
            "third.weight": random.normal(size=(2, 5, 32)).astype(np.float32)}


@pytest.fixture
def path(tmp_path):
    save_gguf(tmp_path / "some.gguf", SETTINGS, some_tensors(), {"first.weight": "Q4_1"})
    return tmp_path / "some.gguf"


def test_settings_come_back_with_their_types(path):
    found = load_gguf(path).settings
    assert found == SETTINGS
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in SETTINGS.items()}


@pytest.mark.parametrize("kind", WRITE)
def test_tensors_come_back_with_their_shapes(tmp_path, kind):
    tensors = some_tensors()
    save_gguf(tmp_path / "x.gguf", {}, tensors, dict.fromkeys(tensors, kind))
    file = load_gguf(tmp_path / "x.gguf")
    assert isinstance(file, GGUF) and list(file) == list(tensors) and len(file) == 3
    for name, array in tensors.items():
        assert file.entries[name].kind == kind and file[name].shape == array.shape
        tolerance = {"F32": 0, "F16": 1e-3, "Q8_0": 0.02}.get(kind, 0.5)
        assert np.abs(file[name] - array).max() <= tolerance


def test_token_types_are_int32_since_llama_cpp_takes_no_other(tmp_path):
    save_gguf(tmp_path / "x.gguf", {"types": [1, 3], "large": [2**40, 1]}, {})
    raw = (tmp_path / "x.gguf").read_bytes()
    assert b"types" + struct.pack("<IIQii", 9, 5, 2, 1, 3) in raw
    assert b"large" + struct.pack("<IIQqq", 9, 11, 2, 2**40, 1) in raw


def test_blocks_of_a_file_are_written_again_byte_for_byte(path, tmp_path):
    file = load_gguf(path)
    raws = {name: (file.raw(name), entry.kind) for name, entry in file.entries.items()}
    save_gguf(tmp_path / "again.gguf", file.settings, raws)
    assert (tmp_path / "again.gguf").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", READ)
def test_every_kind_that_can_be_read_is_read_from_a_file(tmp_path, kind):
    raw = np.random.default_rng(3).integers(0, 120, (4, 2 * READ[kind][1]), dtype=np.uint8)
    save_gguf(tmp_path / "x.gguf", {}, {"x": (raw, kind)})
    assert np.array_equal(load_gguf(tmp_path / "x.gguf")["x"], from_blocks(raw, kind))


def test_a_tensor_lies_at_a_multiple_of_the_alignment(path):
    assert all(entry.begin % 32 == 0 for entry in load_gguf(path).entries.values())


# ---- files by hand, one lie each ---------------------------------------------------------------


def text(word):
    return struct.pack("<Q", len(word)) + word.encode()


def setting(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def row(name="x", axes=(32,), kind=0, offset=0):
    lengths = b"".join(struct.pack("<Q", n) for n in axes)
    return text(name) + struct.pack("<I", len(axes)) + lengths + struct.pack("<IQ", kind, offset)


def file_of(rows=(), settings=(), version=3, data=256, claims=None):
    head = b"GGUF" + struct.pack("<IQQ", version, *(claims or (len(rows), len(settings))))
    head += b"".join(settings) + b"".join(rows)
    return head.ljust(-(-len(head) // 32) * 32, b"\0") + bytes(data)


DEEP = struct.pack("<IQ", 9, 1) * 6 + struct.pack("<IQB", 0, 1, 1)
LIES = {
    "it is not a GGUF file": b"GGML" + bytes(100),
    "cut short": file_of([row()], data=0),
    "version 1; versions 2 and 3": file_of(version=1),
    "speaks of 9223372036854775808 things": file_of(claims=(0, 2**63)),
    "speaks of 1152921504606846976 things": file_of(claims=(2**60, 0)),
    "no multiple of 32": file_of([row(offset=8)]),
    "ends at byte": file_of([row(axes=(1024, 1024))]),
    "overlaps the one before": file_of([row("a"), row("b", offset=96), row("c", (64,), 0, 0)]),
    "tensor 'x' is there twice": file_of([row(), row(offset=128)]),
    "setting 'n' is there twice": file_of(settings=[setting("n", 0, b"1")] * 2),
    "type 77, which is not known here; known are F32": file_of([row(kind=77)]),
    "has 9 axes": file_of([row(axes=(1,) * 9)]),
    "axis of length 0": file_of([row(axes=(32, 0))]),
    "rows of 33 numbers, and Q4_0 blocks of 32": file_of([row(axes=(33,), kind=2)]),
    "unknown type 99": file_of(settings=[setting("n", 99, b"1")]),
    "2000000 are the most": file_of(
        settings=[setting("n", 9, struct.pack("<IQ", 0, 2_000_001) + bytes(2_000_001))]),
    "far too long": file_of(
        settings=[setting("n", 8, struct.pack("<Q", 2_000_001) + bytes(2_000_001))]),
    "lie 4 deep": file_of(settings=[setting("n", 9, DEEP)]),
    "not UTF-8": file_of(settings=[setting("n", 8, struct.pack("<Q", 2) + b"\xff\xfe")]),
    "general.alignment is 12": file_of(
        settings=[setting("general.alignment", 4, struct.pack("<I", 12))]),
}


@pytest.mark.parametrize("reason", LIES)
def test_a_file_that_lies_is_refused_in_one_sentence_with_its_name(tmp_path, reason):
    (tmp_path / "lie.gguf").write_bytes(LIES[reason])
    with pytest.raises(GGUFError, match=reason) as error:
        load_gguf(tmp_path / "lie.gguf")
    assert str(error.value).startswith(str(tmp_path / "lie.gguf")) and "\n" not in str(error.value)


def test_the_file_by_hand_is_a_good_one_without_a_lie(tmp_path):
    aligned = setting("general.alignment", 4, struct.pack("<I", 64))
    rows = row("a"), row("b", (8, 4), 0, 128)
    (tmp_path / "good.gguf").write_bytes(file_of(rows, [aligned], data=512))
    assert load_gguf(tmp_path / "good.gguf")["b"].shape == (4, 8)


# ---- mutations ---------------------------------------------------------------------------------


def read_all(path):
    file = load_gguf(path)
    assert sum(file[name].nbytes for name in file) <= 8 * path.stat().st_size


def test_hundreds_of_mutations_are_refused_or_read_and_nothing_else_happens(path):
    assert 200 < survive(read_all, path, 400, seed=0, head=700) < 400


@pytest.mark.long
def test_twenty_thousand_mutations_are_refused_or_read(path):
    assert survive(read_all, path, 20_000, seed=1, head=700) > 10_000
