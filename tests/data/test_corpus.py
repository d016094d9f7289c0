import re
import sys
from pathlib import Path

import pytest

from tinygrad_edu.data import corpus
from tinygrad_edu.data.corpus import hashed, pystdlib, read_corpus, split_file, split_folder


def make_folder(folder, documents):
    for path, text in documents.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
    return folder


def paths(documents):
    return [path for path, _ in documents]


def numbered(count):
    return [(f"{i:03}.txt", b"text number %d" % i) for i in range(count)]


def test_the_hash_of_a_path_is_the_same_on_every_machine():
    # printf a.py | sha256sum begins with these 16 digits
    assert hashed("a.py") == int("f0de093a8c24f6a3", 16) / 2**64


def test_a_folder_is_split_by_path_alone():
    one = split_folder("one", numbered(400))
    assert all(hashed(path) < 0.1 for path in paths(one.held_out))
    assert all(hashed(path) >= 0.1 for path in paths(one.train))
    assert 20 <= len(one.held_out) <= 60
    other = split_folder("other", [(path, b"!" + text) for path, text in numbered(400)[::-1]])
    assert paths(one.train) == paths(other.train)
    assert paths(one.held_out) == paths(other.held_out)


def test_adding_a_file_moves_no_other_file():
    before = split_folder("before", numbered(100))
    after = split_folder("after", numbered(101))
    assert set(paths(before.train)) <= set(paths(after.train))
    assert set(paths(before.held_out)) <= set(paths(after.held_out))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_both_parts_of_a_small_folder_hold_a_document(count):
    for start in range(0, 210, count):
        small = split_folder("small", numbered(210)[start : start + count])
        assert small.train and small.held_out
        assert len(small.train) + len(small.held_out) == count


def test_exact_copies_leave_the_held_out_part_and_are_counted():
    documents = numbered(200)
    held_out = split_folder("x", documents).held_out
    copied = held_out[0][0]
    documents = [(path, b"text number 0" if path == copied else text) for path, text in documents]
    assert hashed("000.txt") >= 0.1  # the original is one to train on
    split = split_folder("x", documents)
    assert copied not in paths(split.held_out)
    assert "000.txt" in paths(split.train)
    assert split.copies == 1
    assert "1 copy removed" in split.statistics()


def test_a_folder_of_copies_is_refused():
    with pytest.raises(ValueError, match="is a copy of one to train on"):
        split_folder("copies", [("a", b"same"), ("b", b"same"), ("c", b"same")])


def test_one_file_is_split_by_position_and_nothing_is_lost():
    text = bytes(range(32, 127)) * 10
    split = split_file("f", text)
    assert split.train == [("f", text[:855])]
    assert split.held_out == [("f", text[855:])]
    assert (split.train_bytes, split.held_out_bytes) == (855, 95)


@pytest.mark.parametrize("character", ["é", "€", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_the_cut_never_falls_inside_a_character(character, shift):
    text = ("x" * shift + character * 109).encode()
    split = split_file("f", text)
    assert split.train[0][1].decode() + split.held_out[0][1].decode() == text.decode()
    assert abs(split.held_out_bytes - len(text) / 10) <= 4


def test_bytes_that_are_no_utf8_are_cut_where_the_tenth_begins():
    assert split_file("f", b"\x80" * 100).train_bytes == 90


@pytest.mark.parametrize("text", [b"", b"x", b"123456789", "😀".encode()])
def test_a_file_too_short_to_split_is_refused(text):
    with pytest.raises(ValueError, match="too few"):
        split_file("f", text)


def test_hidden_binary_and_empty_files_are_passed_over(tmp_path):
    texts = {f"folder/{i}.txt": b"text %d" % i for i in range(30)}
    others = {".git/config": b"x", ".hidden": b"x", "empty": b"", "a.png": b"\x89PNG\0", "b": b"\0"}
    split = read_corpus(make_folder(tmp_path, texts | others))
    assert sorted(paths(split.train + split.held_out)) == sorted(texts)
    assert split.binary == 2
    assert "2 binary files skipped" in split.statistics()
    assert split.name == tmp_path.name


def test_a_folder_with_one_text_file_is_split_like_a_file(tmp_path):
    make_folder(tmp_path, {"notes/my notes.md": b"0123456789" * 10, "picture": b"\0"})
    split = read_corpus(str(tmp_path))
    assert paths(split.train) == paths(split.held_out) == ["notes/my notes.md"]
    assert (split.train_bytes, split.held_out_bytes, split.binary) == (90, 10, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_links_that_lead_nowhere_or_in_circles_do_no_harm(tmp_path):
    make_folder(tmp_path, {"a.txt": b"a text", "b.txt": b"b text"})
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "circle").symlink_to(tmp_path)
    split = read_corpus(tmp_path)
    assert sorted(paths(split.train + split.held_out)) == ["a.txt", "b.txt"]


def test_what_is_not_there_is_refused_in_one_sentence(tmp_path):
    for spec in ["", str(tmp_path / "missing"), "pystdlb"]:
        with pytest.raises(FileNotFoundError, match="give pystdlib, a text file or a folder"):
            read_corpus(spec)
    with pytest.raises(ValueError, match="holds no text"):
        read_corpus(tmp_path)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="too few"):
        read_corpus(tmp_path / "empty.txt")


def test_the_standard_library_is_read_without_tests_and_packages(tmp_path):
    wanted = {f"{i}.py": b"x = %d" % i for i in range(20)} | {"email/mime.py": b"import email"}
    others = {f"{folder}/x.py": b"no" for folder in corpus.NOT_LIBRARY}
    others |= {"email/test/x.py": b"no", "README.txt": b"no", "__pycache__/x.pyc": b"\0"}
    split = pystdlib(make_folder(tmp_path, wanted | others))
    assert sorted(paths(split.train + split.held_out)) == sorted(wanted)


def test_this_machines_standard_library_gives_megabytes_of_python():
    split = read_corpus()
    assert re.match(r"pystdlib \(Python 3\.\d+\.\d+.*\): ", split.statistics())
    assert split.train_bytes > 5e6
    assert split.held_out_bytes > 5e5
    assert paths(split.train) == sorted(paths(split.train))
    everything = split.train + split.held_out
    assert all(path.endswith(".py") and text for path, text in everything)
    folders = {part for path in paths(everything) for part in Path(path).parent.parts}
    assert not folders & set(corpus.NOT_LIBRARY)
    assert not {text for _, text in split.train} & {text for _, text in split.held_out}
