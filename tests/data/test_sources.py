import re
import sys
import zipfile
from pathlib import Path

import pytest

from tinygrad_edu.data import sources
from tinygrad_edu.data.sources import is_encoded, pystdlib, read_corpus, read_dataset, word_of


def make_folder(folder, documents):
    for path, text in documents.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
    return folder


def everything(corpus):
    return sorted([*corpus.train, *corpus.held_out])


def paths(documents):
    return [path for path, _ in documents]


@pytest.mark.parametrize(("spec", "word"), [
    ("stories", "stories"), ("stories:7", "stories"), ("stories:x", "stories"), ("wikitext-2",) * 2,
    ("./stories", None), ("storiesque", None), ("pystdlib:7", None), ("", None),
    (Path("notes"), None)])
def test_a_word_stands_for_a_text_and_only_stories_have_a_seed(spec, word):
    assert word_of(spec) == word


def test_a_word_stands_for_a_text_although_a_folder_of_tokens_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("stories", "stories:7", "pystdlib", "pystdlib:7", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokens.json").write_text("{}")
    assert not any(map(is_encoded, ("stories", "stories:7", "pystdlib", "nothing")))
    assert all(map(is_encoded, ("mine", "./stories", "pystdlib:7", tmp_path / "mine")))
    monkeypatch.chdir(tmp_path / "mine")
    assert not is_encoded("")  # Path("") is the folder that one is in


def test_hidden_binary_and_empty_files_are_passed_over(tmp_path):
    texts = {f"folder/{i}.txt": b"text %d" % i for i in range(30)}
    others = {".git/config": b"x", ".hidden": b"x", "empty": b"", "a.png": b"\x89PNG\0"}
    others["b"] = b"text for 8,191 bytes".ljust(8191) + b"\0"
    others["paper.pdf"] = b"%PDF-1.7\nno NUL so early"
    split = read_corpus(make_folder(tmp_path, texts | others))
    assert paths(everything(split)) == sorted(texts)
    assert split.binary == 3
    assert "3 binary files skipped" in split.statistics()
    assert split.name == tmp_path.name


def test_notes_in_any_encoding_are_read(tmp_path):
    texts = {
        "utf8.md": "naïve".encode(),
        "mark.md": b"\xef\xbb\xbf" + "naïve too".encode(),
        "windows.txt": "naïve as Windows has it".encode("utf-16"),
        "big.txt": b"\xfe\xff" + "naïve, the other way round".encode("utf-16-be"),
        "latin1.org": "naïve, once".encode("latin-1"),
        "lines.txt": b"one\r\ntwo\r\n",
    }
    others = {"half.txt": b"\xff\xfe\x00", "utf32.txt": "naïve".encode("utf-32")}
    split = read_corpus(make_folder(tmp_path, texts | others))
    assert dict(everything(split)) == {
        "utf8.md": "naïve".encode(),
        "mark.md": "naïve too".encode(),
        "windows.txt": "naïve as Windows has it".encode(),
        "big.txt": "naïve, the other way round".encode(),
        "latin1.org": "naïve, once".encode("latin-1"),
        "lines.txt": b"one\r\ntwo\r\n",
    }
    assert split.binary == 2
    assert split.train_bytes + split.held_out_bytes == sum(len(text) for _, text in
                                                           everything(split))


def test_a_file_in_utf16_is_split_like_any_other(tmp_path):
    (tmp_path / "notes.txt").write_bytes(("0123456789" * 10).encode("utf-16"))
    split = read_corpus(tmp_path / "notes.txt")
    assert (split.train_bytes, split.held_out_bytes) == (90, 10)


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
    assert paths(everything(read_corpus(tmp_path))) == ["a.txt", "b.txt"]


def test_a_run_in_the_folder_is_no_text(tmp_path):
    notes = {"a.txt": b"a text", "b/c.txt": b"b text", "d.txt": b"d text"}
    runs = {"runs/x/tokenizer.json": b"{}", "runs/x/checkpoint.safetensors": b"x",
            "runs/x/more/y.txt": b"no", "encoded/tokens.json": b"{}", "venv/pyvenv.cfg": b"home",
            "venv/lib/a.py": b"no"}
    assert paths(everything(read_corpus(make_folder(tmp_path, notes | runs)))) == sorted(notes)


def test_what_is_not_there_is_refused_in_one_sentence(tmp_path):
    for spec in ["", str(tmp_path / "missing"), "pystdlb"]:
        with pytest.raises(FileNotFoundError, match="give a text file, a folder, or one of pystd"):
            read_corpus(spec)
    with pytest.raises(FileNotFoundError, match="did you mean tinyshakespeare"):
        read_corpus("tinyshakespere")


def test_a_place_without_text_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no text: give one with plain text files"):
        read_corpus(tmp_path)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="too few"):
        read_corpus(tmp_path / "empty.txt")
    (tmp_path / "notes.docx").write_bytes(b"PK\3\4\0\0")
    with pytest.raises(ValueError, match=r"notes.docx' is not plain text: save it as text"):
        read_corpus(tmp_path / "notes.docx")
    (tmp_path / "empty.txt").unlink()
    with pytest.raises(ValueError, match=r"holds no text \(1 binary file skipped\)"):
        read_corpus(tmp_path)


def test_the_standard_library_is_read_without_tests_and_packages(tmp_path):
    wanted = {f"{i}.py": b"x = %d" % i for i in range(20)} | {"email/mime.py": b"import email"}
    others = {f"{folder}/x.py": b"no" for folder in sources.NOT_LIBRARY}
    others |= {"email/test/x.py": b"no", "README.txt": b"no", "__pycache__/x.pyc": b"\0"}
    split = pystdlib(make_folder(tmp_path, wanted | others))
    assert paths(everything(split)) == sorted(wanted)


def test_this_machines_standard_library_gives_megabytes_of_python():
    split = read_corpus()
    assert re.match(r"pystdlib \(Python 3\.\d+\.\d+.*\): ", split.statistics())
    assert split.train_bytes > 5e6
    assert split.held_out_bytes > 5e5
    assert paths(split.train) == sorted(paths(split.train))
    assert all(path.endswith(".py") and text for path, text in everything(split))
    folders = {part for path in paths(everything(split)) for part in Path(path).parent.parts}
    assert not folders & set(sources.NOT_LIBRARY)
    assert not {text for _, text in split.train} & {text for _, text in split.held_out}


def test_tinystories_are_stories_and_keep_their_own_split(tmp_path):
    make_folder(tmp_path, {
        "train.txt": b"A cat.\n<|endoftext|>\nA dog.\n<|endoftext|>\n",
        "valid.txt": b"A hen.\n<|endoftext|>\nA cow.\n",
    })
    split = read_dataset("tinystories", [tmp_path / "train.txt", tmp_path / "valid.txt"])
    assert [text for _, text in split.train] == [b"A cat.\n", b"\nA dog.\n", b"\n"]
    assert [text for _, text in split.held_out] == [b"A hen.\n", b"\nA cow.\n"]
    assert split.held_out_bytes == (tmp_path / "valid.txt").stat().st_size
    assert "1 file with" in split.statistics()


def test_wikitext_is_read_in_its_archive_and_its_test_part_is_not_touched(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for part in ("train", "valid", "test"):
            archive.writestr(f"wikitext-2-raw/wiki.{part}.raw", f" = A {part} title = \n")
    split = read_dataset("wikitext-2", [tmp_path / "w.zip"])
    assert list(split.train) == [("wikitext-2-raw/wiki.train.raw", b" = A train title = \n")]
    assert list(split.held_out) == [("wikitext-2-raw/wiki.valid.raw", b" = A valid title = \n")]


def test_the_words_of_data_sets_are_fetched_from_the_folder_that_was_named(tmp_path, monkeypatch):
    asked = []

    def fetch(name, data_dir):
        asked.append((name, data_dir))
        (tmp_path / "input.txt").write_text("to be or not " * 10)
        return [tmp_path / "input.txt"]

    monkeypatch.setattr(sources, "fetch", fetch)
    split = read_corpus("tinyshakespeare", tmp_path)
    assert asked == [("tinyshakespeare", tmp_path)]
    assert (split.name, split.train_bytes, split.held_out_bytes) == ("tinyshakespeare", 117, 13)
