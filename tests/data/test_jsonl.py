import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_edu.data import jsonl
from tinygrad_edu.data.jsonl import read_objects, write_objects

ROWS = [{"a": 1}, {"b": "ö\n狐"}, {}]


def read(path, left_out=None):
    return [*read_objects(path, left_out)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_what_is_written_is_read_with_its_lines(tmp_path, name):
    path = tmp_path / name
    assert write_objects(path, ROWS) == 3
    assert read(path) == [(1, ROWS[0]), (2, ROWS[1]), (3, ROWS[2])]
    before = path.read_bytes()
    write_objects(path, iter(ROWS))
    assert path.read_bytes() == before
    assert (before[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_gzip_is_known_by_its_bytes_and_not_by_its_name(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert read(path) == [(1, {"a": 1})]
    path = tmp_path / "plain.gz"
    path.write_bytes(b'{"a": 1}\n')
    assert read(path) == [(1, {"a": 1})]


def test_blank_lines_windows_ends_and_a_byte_order_mark_do_no_harm(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n   \n{"b": 2}')
    assert read(path) == [(1, {"a": 1}), (4, {"b": 2})]


@pytest.mark.parametrize("line, said", [
    (b"{", "this is not JSON"),
    (b"[1, 2]", "holds a JSON object, {…}, not a list"),
    (b"[", "one list over many lines"),
    (b"null", "not null"),
    (b"true", "not true or false"),
    (b'"a"', "not text"),
    (b"1.5", "not a number"),
    (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"a": ' + b"9" * 5000 + b"}", "this is not JSON"),
    (b"\x00", "this is not JSON"),
], ids=lambda value: str(value)[:12])
def test_a_line_that_is_no_object_is_told_with_its_place(tmp_path, line, said):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"b": 2}\n')
    with pytest.raises(ValueError, match=said) as error:
        read(path)
    assert str(error.value).startswith(f"{path}, line 2: ") and "\n" not in str(error.value)
    left_out = []
    assert read(path, left_out) == [(1, {"a": 1}), (3, {"b": 2})]
    assert left_out == [str(error.value)]


def test_a_gzip_file_that_was_cut_short_or_spoilt_is_told(tmp_path):
    path = tmp_path / "rows.gz"
    whole = gzip.compress(b"".join(b'{"a": %d}\n' % k ** 9 for k in range(3000)))
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 0xFF
    for bad in (whole[:-4], whole[: len(whole) // 2], whole[:12], bytes(spoilt), whole + b"abc"):
        path.write_bytes(bad)
        with pytest.raises(OSError, match="cut short or damaged behind line"):
            read(path, [])


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "LONGEST_LINE", 1 << 20)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n"' + b"a" * (1 << 21))
    with pytest.raises(OSError, match="line 2 has more than 1 MiB"):
        read(path, [])


def test_a_file_that_is_not_there_raises_what_open_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.jsonl")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_objects(path, ROWS)
    with pytest.raises(TypeError):
        write_objects(path, [{"a": 1}, {"a": object()}])
    assert len(read(path)) == 3 and [*tmp_path.iterdir()] == [path]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path_factory, noise, packed):
    path = tmp_path_factory.mktemp("noise") / "rows"
    path.write_bytes(gzip.compress(noise) if packed else noise)
    left_out = []
    try:
        for _, fields in read_objects(path, left_out):
            assert isinstance(fields, dict)
    except OSError as error:
        left_out.append(str(error))
    assert all("\n" not in sentence for sentence in left_out)


def test_every_object_comes_back(tmp_path):
    rows = [{"text": chr(code) + "x", "n": code} for code in (0, 10, 34, 92, 0x2028, 0x1F600)]
    write_objects(tmp_path / "a", rows)
    assert [row for _, row in read_objects(tmp_path / "a")] == rows
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8").split("\n")[0]) == rows[0]
