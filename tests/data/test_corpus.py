from dataclasses import replace

import pytest

from tinygrad_edu.data import corpus
from tinygrad_edu.data.corpus import (
    Corpus,
    Document,
    Documents,
    hashed,
    in_memory,
    line_start,
    split_file,
    split_folder,
)
from tinygrad_edu.tokenizers.presplit import pieces as presplit


def paths(documents):
    return [path for path, _ in documents]


def held(pairs):
    """Documents, as the splits take them, of a list of (path, bytes)."""
    return in_memory(pairs).documents


def numbered(count):
    return [(f"{i:03}.txt", b"text number %d" % i) for i in range(count)]


def file_document(path, text):
    path.write_bytes(text)
    return Document(path.name, path, 0, len(text))


def test_the_hash_of_a_path_is_the_same_on_every_machine():
    # printf a.py | sha256sum begins with these 16 digits
    assert hashed("a.py") == int("f0de093a8c24f6a3", 16) / 2**64


def test_a_folder_is_split_by_path_alone():
    one = split_folder("one", held(numbered(400)))
    assert all(hashed(path) < 0.1 for path in paths(one.held_out))
    assert all(hashed(path) >= 0.1 for path in paths(one.train))
    assert 20 <= len(one.held_out) <= 60
    other = split_folder("x", held([(path, b"!" + text) for path, text in numbered(400)[::-1]]))
    assert paths(one.train) == paths(other.train) == sorted(paths(one.train))
    assert paths(one.held_out) == paths(other.held_out) == sorted(paths(one.held_out))


def test_adding_a_file_moves_no_other_file():
    before = split_folder("before", held(numbered(100)))
    after = split_folder("after", held(numbered(101)))
    assert set(paths(before.train)) <= set(paths(after.train))
    assert set(paths(before.held_out)) <= set(paths(after.held_out))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_both_parts_of_a_small_folder_hold_a_document(count):
    for start in range(0, 210, count):
        small = split_folder("small", held(numbered(210)[start : start + count]))
        assert len(small.train) and len(small.held_out)
        assert len(small.train) + len(small.held_out) == count


def test_exact_copies_leave_the_held_out_part_and_are_counted():
    documents = numbered(200)
    copied = paths(split_folder("x", held(documents)).held_out)[0]
    documents = [(path, b"text number 0" if path == copied else text) for path, text in documents]
    assert hashed("000.txt") >= 0.1  # the original is one to train on
    split = split_folder("x", held(documents))
    assert copied not in paths(split.held_out)
    assert "000.txt" in paths(split.train)
    assert split.copies == 1
    assert "1 copy removed" in split.statistics()


def test_a_folder_of_copies_is_refused():
    with pytest.raises(ValueError, match="is a copy of one to train on"):
        split_folder("copies", held([("a", b"same"), ("b", b"same"), ("c", b"same")]))


def test_one_file_is_split_by_position_and_nothing_is_lost():
    text = bytes(range(32, 127)) * 10
    (document,) = held([("f", text)])
    split = split_file("f", document)
    assert list(split.train) == [("f", text[:855])]
    assert list(split.held_out) == [("f", text[855:])]
    assert (split.train_bytes, split.held_out_bytes) == (855, 95)
    part = split_file("part", replace(document, start=100, stop=200))
    assert list(part.train) + list(part.held_out) == [("f", text[100:190]), ("f", text[190:200])]


@pytest.mark.parametrize("character", ["é", "€", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_the_cut_never_falls_inside_a_character(character, shift, tmp_path):
    text = ("x" * shift + character * 109).encode()
    split = split_file("f", file_document(tmp_path / "f", text))
    assert list(split.train)[0][1].decode() + list(split.held_out)[0][1].decode() == text.decode()
    assert abs(split.held_out_bytes - len(text) / 10) <= 4


def test_bytes_that_are_no_utf8_are_cut_where_the_tenth_begins():
    assert split_file("f", held([("f", b"\x80" * 100)])[0]).train_bytes == 90


@pytest.mark.parametrize("text", [b"", b"x", b"123456789", "😀".encode()])
def test_a_file_too_short_to_split_is_refused(text):
    with pytest.raises(ValueError, match="too few"):
        split_file("f", held([("f", text)])[0])


# ---- text that stays on the disk ----------------------------------------------------------------

TEXTS = [
    b"".join(b"line %d\n" % i for i in range(50)),
    b"\n\n\n   indented\nunder\n\n  \nnext\n\tlast" * 9,
    b"one line without an end " * 20,
    ("é€😀" * 40).encode(),
    b"\n" * 100,
    b"\x80\xff" * 60,
    "a\n\u00a0b\n\u3000c\n'll\n's d\r\n\r\ne".encode() * 11,
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("most", [16, 37, 100])
def test_pieces_are_small_and_joined_they_are_the_document(text, most, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "PIECE", most)
    for document in (file_document(tmp_path / "f", text), held([("f", text)])[0]):
        pieces = list(document.pieces())
        assert b"".join(piece for _, piece in pieces) == text
        assert all(0 < len(piece) <= most for _, piece in pieces)
        assert {path for path, _ in pieces} == {"f"}
        if text[0] < 0x80 or text[0] == 0xC3:  # it is UTF-8
            assert all(piece.decode() for _, piece in pieces)


@pytest.mark.parametrize("text", [TEXTS[0], TEXTS[1], TEXTS[6]])
def test_cut_between_lines_nothing_is_encoded_otherwise_than_in_the_whole(text):
    for most in range(60, len(text)):
        cut = line_start(text[:most])
        assert presplit(text[:cut]) + presplit(text[cut:]) == presplit(text)


def test_documents_can_be_walked_over_again_and_added(tmp_path):
    one = Documents([file_document(tmp_path / "a", b"first"), file_document(tmp_path / "b", b"2")])
    assert list(one) == list(one) == [("a", b"first"), ("b", b"2")]
    assert (len(one), one.size) == (2, 6)
    both = one + in_memory([("c", b"third")])
    assert paths(both) == ["a", "b", "c"]
    assert both.size == 11


def test_a_file_that_became_shorter_is_refused(tmp_path):
    document = file_document(tmp_path / "f", b"0123456789")
    (tmp_path / "f").write_bytes(b"01234567")
    with pytest.raises(OSError, match="f has become shorter while it was read: start again"):
        list(document.pieces())


def test_a_separator_makes_documents_of_a_file_whatever_the_pieces(tmp_path, monkeypatch):
    stories = [b"Once there was a cat %d.\nIt slept.\n" % i for i in range(40)]
    document = file_document(tmp_path / "f", b"|END|\n".join(stories))
    whole = list(Documents([document], b"|END|\n"))
    assert whole == [(f"f#{i}", story) for i, story in enumerate(stories)]
    monkeypatch.setattr(corpus, "PIECE", 100)
    joined = {}
    for path, text in Documents([document], b"|END|\n"):
        joined[path] = joined.get(path, b"") + text
    assert list(joined.items()) == whole


def test_statistics_say_small_amounts_in_small_units():
    small = Corpus("x", [("a", b"1" * 1234), ("b", b"2" * 1000)], [("c", b"3" * 19)])
    assert small.statistics() == (
        "x: 2 documents with 2.2 kB to train on, 1 document with 19 bytes held out (0.8 %)"
    )
    large = Documents([replace(held([("a", b"")])[0], stop=2_227_753_162)])
    assert "x: 1 document with 2,227.75 MB to" in Corpus("x", large, [("c", b"3")]).statistics()


def test_a_small_corpus_is_its_own_sample():
    pairs = numbered(20)
    assert list(Corpus("x", pairs, pairs).sample()) == [text for _, text in pairs]
    assert list(Corpus("x", in_memory(pairs), pairs).sample()) == [text for _, text in pairs]


def test_a_sample_is_spread_over_all_of_the_text_and_is_made_of_whole_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK", 64)
    lines = [b"line number %05d\n" % i for i in range(6000)]
    cuts = [0, 10, 3000, 3001, 6000]
    documents = Documents(
        file_document(tmp_path / str(i), b"".join(lines[low:high]))
        for i, (low, high) in enumerate(zip(cuts, cuts[1:], strict=False))
    )
    sample = list(documents.sample(6400))
    assert sample == list(documents.sample(6400))
    assert 0.5 * 6400 < sum(map(len, sample)) <= 6400
    seen = b"".join(sample).splitlines(keepends=True)
    assert set(seen) <= set(lines)
    places = [lines.index(line) for line in seen]
    assert places == sorted(places)
    assert all(any(place // 300 == part for place in places) for part in range(20))


def test_a_sample_has_no_separators(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK", 64)
    document = file_document(tmp_path / "f", b"a story\n|END|\n" * 1000)
    sample = list(Documents([document], b"|END|").sample(2000))
    assert b"a story\n" in sample
    assert not any(b"END" in text for text in sample)
