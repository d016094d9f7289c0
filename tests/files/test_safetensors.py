"""Lesson 3.13: what is written comes back, and a file that lies gets one sentence."""

import json
import os
import random
import struct
import tracemalloc

import numpy as np
import pytest

from tinygrad_edu.files.safetensors import (
    DTYPES,
    Safetensors,
    SafetensorsError,
    bf16_to_float32,
    float32_to_bf16,
    load,
    save,
)


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def write(path, header, data=b"\0" * 8, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def sample(dtype, shape):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 120
    return (values % 2 if dtype == "BOOL" else values).astype(DTYPES[dtype])


def test_the_bytes_of_a_small_file_are_those_one_can_write_by_hand(tmp_path):
    tensors = {"b": np.array([7], np.uint8), "a": np.array([1.0, -2.0], np.float32)}
    save(tmp_path / "a", tensors, {"k": "v"})
    header = (
        b'{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"b":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}'
    )
    header += b" " * (-len(header) % 8)
    data = struct.pack("<ffB", 1.0, -2.0, 7)
    assert (tmp_path / "a").read_bytes() == struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_and_shape_comes_back_as_it_was(tmp_path, dtype):
    shapes = [(), (1,), (0,), (3, 0, 2), (7,), (3, 5), (2, 3, 4)]
    tensors = {f"t{i}": sample(dtype, shape) for i, shape in enumerate(shapes)}
    save(tmp_path / "a", tensors, dtypes=dict.fromkeys(tensors, dtype))
    back = load(tmp_path / "a")
    assert isinstance(back, Safetensors)
    assert set(back) == set(tensors) and len(back) == len(tensors)
    for name, tensor in tensors.items():
        assert back.dtypes[name] == dtype
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        assert np.array_equal(back[name], tensor)


def test_strides_and_byte_order_of_the_array_do_not_reach_the_file(tmp_path):
    x = np.arange(12, dtype=np.float64).reshape(3, 4)
    save(tmp_path / "a", {"t": x.T, "s": x[::2, ::-1], "big": x.astype(">f8")})
    back = load(tmp_path / "a")
    assert np.array_equal(back["t"], x.T)
    assert np.array_equal(back["s"], x[::2, ::-1])
    assert np.array_equal(back["big"], x)


def test_a_loaded_file_can_be_saved_again_bit_for_bit(tmp_path):
    tensors = {"w": np.arange(6, dtype=np.uint16), "naïve 名": np.ones((2, 2), np.float16)}
    save(tmp_path / "a", tensors, {"π": "3"}, {"w": "BF16"})
    first = load(tmp_path / "a")
    save(tmp_path / "b", first, first.metadata, first.dtypes)
    assert first.metadata == {"π": "3"}
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_are_aligned_windows_on_the_file_and_cannot_be_written(tmp_path):
    tensors = {"a": sample("U8", (3,)), "b": sample("F64", (5,)), "c": sample("F16", (1,))}
    save(tmp_path / "a", tensors)
    back = load(tmp_path / "a")
    for name in tensors:
        array = back[name]
        assert array.flags.aligned and not array.flags.owndata and not array.flags.writeable
        assert np.shares_memory(array, np.frombuffer(back.mapped, np.uint8))


def test_a_tensor_that_is_not_aligned_in_the_file_is_given_as_an_aligned_copy(tmp_path):
    header = {"a": entry("U8", [1], [0, 1]), "b": entry("F32", [2], [1, 9])}
    write(tmp_path / "a", header, b"\1" + struct.pack("<ff", 1.5, 2.5))
    b = load(tmp_path / "a")["b"]
    assert b.flags.aligned and b.tolist() == [1.5, 2.5]


@pytest.mark.skipif(os.name == "nt", reason="needs files with holes")
def test_a_file_larger_than_memory_opens_at_once_and_gives_its_last_number(tmp_path):
    size = 2**37  # 128 GiB of zeros that take no room on the disk
    header = {"big": entry("U8", [size], [0, size])}
    path = write(tmp_path / "a", header, b"")
    try:
        os.truncate(path, path.stat().st_size + size)
    except OSError:
        pytest.skip("this file system refuses so large a file")
    tracemalloc.start()
    assert load(path)["big"][-1] == 0
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


GOOD = entry()
DAMAGED = {
    "shape and bytes differ": ({"w": entry(shape=[3])}, "F32 of shape .3. takes 12 bytes, not 8"),
    "unknown type": ({"w": entry("F31")}, "unknown type 'F31'"),
    "type not text": ({"w": entry(["F32"])}, "unknown type"),
    "negative size": ({"w": entry(shape=[-2])}, "not a shape"),
    "two negative sizes": ({"w": entry(shape=[-2, -1])}, "not a shape"),
    "size true": ({"w": entry(shape=[True, 2])}, "not a shape"),
    "size with a point": ({"w": entry(shape=[2.0])}, "not a shape"),
    "size as text": ({"w": entry(shape=["2"])}, "not a shape"),
    "too many axes": ({"w": entry(shape=[2] + [1] * 32)}, "not a shape"),
    "huge size": ({"w": entry(shape=[2**63])}, "not a shape"),
    "product that is 0 in 64 bits": ({"w": entry(shape=[2**32, 2**32])}, "larger than any file"),
    "huge and empty": ({"w": entry(shape=[0, 2**62], offsets=[0, 0])}, "larger than any file"),
    "negative offset": ({"w": entry(offsets=[-8, 0])}, "data_offsets"),
    "offsets swapped": ({"w": entry(offsets=[8, 0])}, "data_offsets"),
    "three offsets": ({"w": entry(offsets=[0, 4, 8])}, "data_offsets"),
    "beyond the end": ({"w": entry(shape=[4], offsets=[0, 16])}, "ends at byte 16 of 8"),
    "hole at the start": ({"w": entry(shape=[1], offsets=[4, 8])}, "a hole"),
    "overlap": ({"v": GOOD, "w": GOOD}, "an overlap"),
    "partial overlap": (
        {"v": entry(shape=[1], offsets=[0, 4]), "w": entry("U8", [6], [2, 8])},
        "an overlap",
    ),
    "rest": ({"w": entry(shape=[1], offsets=[0, 4])}, "4 bytes follow the last tensor"),
    "no tensors but data": ({}, "8 bytes follow"),
    "entry not an object": ({"w": [1]}, "is missing"),
    "field missing": ({"w": {"dtype": "F32", "shape": [2]}}, "is missing"),
    "metadata not an object": ({"__metadata__": [], "w": GOOD}, "not an object"),
    "metadata not text": ({"__metadata__": {"a": 1}, "w": GOOD}, "entry 'a' is not text"),
    "half a surrogate pair": ({"\ud800": GOOD}, "not valid Unicode"),
    "not an object": (b"[]", "not a JSON object"),
    "empty header": (b"", "not a JSON object"),
    "leading space": (b" {}", "not a JSON object"),
    "trailing tab": (b"{}\t", "not a JSON object"),
    "not JSON": (b"{w}", "not valid JSON"),
    "not UTF-8": (b'{"\xff": 1}', "not valid JSON"),
    "half a pair in UTF-8": (b'{"__metadata__":{"a":"\xed\xa0\x80"}}', "not valid JSON"),
    "UTF-16": ("{}".encode("utf-16-le") + b"}", "not valid JSON"),
    "nested": (b'{"a":' * 100_000 + b"}" * 100_000, "not valid JSON"),
    "many digits": (b'{"a":' + b"9" * 10**6 + b"}", "integer of 1000000 digits"),
    "equal names": (b'{"w":1,"w":2}', "names 'w' twice"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_header_that_lies_gets_one_sentence(tmp_path, case):
    header, message = DAMAGED[case]
    with pytest.raises(SafetensorsError, match=message) as caught:
        load(write(tmp_path / "model.bin", header))
    sentence = str(caught.value)
    assert "model.bin" in sentence and "\n" not in sentence and len(sentence) < 400


def test_a_header_longer_than_the_file_is_refused_without_reserving_memory(tmp_path):
    for length in (9, 2**40, 2**64 - 1):
        path = write(tmp_path / "a", b"", length=length)
        tracemalloc.start()
        with pytest.raises(SafetensorsError, match="cut short or not a safetensors file"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 1e6
        tracemalloc.stop()


def test_a_header_above_the_limit_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a", b"{}" + b" " * 99, b"")
    assert len(load(path)) == 0
    monkeypatch.setattr("tinygrad_edu.files.safetensors.MAX_HEADER", 100)
    with pytest.raises(SafetensorsError, match="has 101 bytes, more than 100"):
        load(path)
    with pytest.raises(ValueError, match="more than 100"):
        save(path, {"w" * 100: np.zeros(1)})


def test_an_empty_tensor_may_be_listed_before_the_one_at_whose_end_it_lies(tmp_path):
    header = {"none": entry("U8", [0], [8, 8]), "w": entry(), "zero": entry("U8", [0], [0, 0])}
    assert load(write(tmp_path / "a", header))["w"].shape == (2,)


def test_every_file_that_was_cut_short_is_refused(tmp_path):
    save(tmp_path / "a", {"w": np.ones((3, 2), np.float32), "b": np.ones(3, np.int8)})
    whole = (tmp_path / "a").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "b").write_bytes(whole[:size])
        with pytest.raises(SafetensorsError):
            load(tmp_path / "b")


def test_a_file_changed_at_random_loads_or_gets_one_sentence(tmp_path):
    rng = random.Random(0)
    save(tmp_path / "a", {"w": sample("F32", (3, 2)), "b": sample("BOOL", (5,))}, {"k": "v"})
    whole = (tmp_path / "a").read_bytes()
    refused = 0
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "b").write_bytes(data)
        try:
            dict(load(tmp_path / "b"))
        except SafetensorsError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600
    assert refused > 500


def test_a_bool_that_is_neither_0_nor_1_is_refused(tmp_path):
    write(tmp_path / "a", {"w": entry("BOOL", [8])}, b"\0\1\0\1\2\0\0\0")
    with pytest.raises(SafetensorsError, match="tensor 'w': a BOOL byte"):
        load(tmp_path / "a")["w"]


def test_a_missing_file_and_a_folder_are_errors_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
    with pytest.raises(OSError):
        load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"w": np.zeros(2, complex)},), "cannot hold complex128"),
        (({"w": np.array([None])},), "cannot hold object"),
        (({"w": np.zeros(2, np.float32)}, None, {"w": "BF16"}), "cannot hold float32 as BF16"),
        (({"w": np.zeros(2, np.float32)}, None, {"w": "F8"}), "cannot hold float32 as F8"),
        (({"__metadata__": np.zeros(2)},), "cannot be the name"),
        (({"\udc00": np.zeros(2)},), "cannot be the name"),
        (({3: np.zeros(2)},), "cannot be the name"),
        (({"w": np.zeros(2)}, {"step": 3}), "have to be text"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(
    tmp_path, arguments, message
):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises((TypeError, ValueError), match=message):
        save(tmp_path / "a", *arguments)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_bf16_to_float32_and_back_is_exact_for_every_bf16():
    every = np.arange(2**16, dtype=np.uint32).astype(np.uint16)
    wide = bf16_to_float32(every)
    number = ~np.isnan(wide)
    assert np.array_equal(float32_to_bf16(wide)[number], every[number])
    assert np.isnan(bf16_to_float32(float32_to_bf16(wide[~number]))).all()


def test_float32_goes_to_the_nearest_bf16_and_ties_to_even():
    spacing = 2.0**-7  # of bfloat16 between 1 and 2
    x = np.array([1 + spacing / 2, 1 + 3 * spacing / 2, 1 + spacing / 2 + 2.0**-23], np.float32)
    assert bf16_to_float32(float32_to_bf16(x)).tolist() == [1.0, 1 + 2 * spacing, 1 + spacing]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 0x7F7F0000, 10_000, dtype=np.uint32).view(np.float32)
    chosen = float32_to_bf16(x)
    error = np.abs(bf16_to_float32(chosen).astype(np.float64) - x)
    for other in (chosen - np.uint16(1), chosen + np.uint16(1)):
        neighbour = bf16_to_float32(np.where(chosen > 0, other, chosen).astype(np.uint16))
        assert (error <= np.abs(neighbour.astype(np.float64) - x)).all()


def test_nan_stays_nan_and_overflow_becomes_infinity_in_bf16():
    odd = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF800001], np.uint32).view(np.float32)
    back = bf16_to_float32(float32_to_bf16(odd))
    assert np.isnan(back).all()
    assert np.signbit(back).tolist() == [False, False, True, True]
    largest = np.finfo(np.float32).max
    assert bf16_to_float32(float32_to_bf16(np.float32([largest, -largest]))).tolist() == [
        np.inf,
        -np.inf,
    ]


def test_the_bf16_functions_refuse_other_types():
    with pytest.raises(TypeError, match="takes float32, not float64"):
        float32_to_bf16(np.zeros(3))
    with pytest.raises(TypeError, match="as uint16, not float32"):
        bf16_to_float32(np.zeros(3, np.float32))
