"""Names: read, split by hash, laid out in rows, drawn by seed and step."""

import pytest

from tinygrad_edu.data.corpus import HELD_OUT_SHARE, hashed
from tinygrad_edu.data.names import (
    LONGEST,
    draw_rows,
    identifiers,
    name_rows,
    read_names,
    split_names,
    without_padding,
)
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, train_characters

NAMES = [f"name{i}" for i in range(200)]


def write(tmp_path, text):
    path = tmp_path / "names.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def test_a_row_begins_and_ends_with_the_end_and_padding_does_not_count():
    tokenizer = train_characters(["ab", "c"])
    end = tokenizer.special[END_OF_TEXT]
    a, b, c = tokenizer.encode("abc")
    x, y = name_rows(["ab", "c"], tokenizer)
    assert x.tolist() == [[end, a, b], [end, c, end]]
    assert y.tolist() == [[a, b, end], [c, end, -1]]


def test_columns_that_are_padding_in_all_rows_are_cut_off():
    x, y = name_rows(["ab", "c"], train_characters(["abc"]), context=7)
    assert [part.shape for part in without_padding(x, y)] == [(2, 3), (2, 3)]


def test_rows_of_a_step_depend_on_seed_and_step_alone():
    rows = name_rows(NAMES, train_characters(NAMES))
    drawn = [draw_rows(*rows, 8, seed, step)[0].tolist() for seed, step in
             [(1, 5), (1, 5), (1, 6), (2, 5)]]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2] != drawn[3] != drawn[0]


def test_the_split_takes_no_notice_of_order_and_moves_no_name_when_one_is_added():
    train, held_out = split_names(NAMES)
    assert split_names(NAMES[::-1]) == (train, held_out)
    assert sorted(train + held_out) == sorted(NAMES)
    assert 5 < len(held_out) < 40
    more, others = split_names([*NAMES, "another"])
    assert set(train) <= set(more) and set(held_out) <= set(others)


@pytest.mark.parametrize("names", [["a", "b"], ["x", "y", "z"]])
def test_of_two_names_one_is_learned_and_one_is_held_out(names):
    assert all(split_names(names))


def test_of_names_whose_hashes_are_all_small_one_is_learned_nevertheless():
    small = [name for name in map(str, range(300)) if hashed(name) < HELD_OUT_SHARE][:4]
    train, held_out = split_names(small)
    assert (len(train), len(held_out)) == (1, 3)


def test_empty_lines_and_copies_are_passed_over_and_counted(tmp_path):
    text = "\n  anna \r\n\n\nbörje\n\t\n狐\nanna\n"
    assert read_names(write(tmp_path, text)) == (["anna", "börje", "狐"], 4, 1)


def test_a_byte_order_mark_is_no_letter(tmp_path):
    assert read_names(write(tmp_path, b"\xef\xbb\xbfab\ncd"))[0] == ["ab", "cd"]


@pytest.mark.parametrize(("text", "said"), [
    ("", "holds 0 names"), ("anna\nanna\n", "holds 1 names"), ("\n\n", "holds 0 names"),
    ("a\n" + "b" * (LONGEST + 1), "line 2 of .* has 101 characters"), (b"a\n\xff\n", "not UTF-8")])
def test_a_file_that_is_no_list_of_names_gets_one_sentence(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        read_names(write(tmp_path, text))


def test_identifiers_are_the_functions_classes_and_parameters_of_a_source():
    source = b"class Big:\n    async def _run_it(self, the_time, x, *args, **rest): value = 1\n"
    broken = b"def not_this(:"
    assert identifiers([("a", source), ("b", broken)]) == ["args", "rest", "run_it", "self",
                                                           "the_time"]
