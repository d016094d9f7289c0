"""Columns with names, and CSV files as people write them."""

import numpy as np
import pytest

from tinygrad_edu.ml.table import Table, count_rows, is_empty, read_csv, take_rows

PEOPLE = "name,age,town\nAnna,31,Rome\nBen,,Oslo\nCara,45.5,\n"


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "people.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("text", [PEOPLE, PEOPLE.replace(",", ";"), PEOPLE.replace(",", "\t"),
                                  "\ufeff" + PEOPLE, PEOPLE.replace("\n", "\r\n"),
                                  PEOPLE.replace(",,", ",NA,"), PEOPLE + "\n\n"])
def test_a_file_is_read_whatever_stands_between_its_cells(tmp_path, text):
    table = read_csv(written(tmp_path, text))
    assert table.columns == ["name", "age", "town"] and table.shape == (3, 3)
    np.testing.assert_array_equal(table["age"], [31, np.nan, 45.5])
    assert table["town"][:2].tolist() == ["Rome", "Oslo"] and is_empty(table["town"])[2]


@pytest.mark.parametrize("cell", ["1_000", "12 km", "0x1F", "1,5", "١٢"])
def test_a_cell_that_is_no_number_makes_its_column_text_and_is_named(tmp_path, cell):
    table = read_csv(written(tmp_path, f'a,b\n1,2\n"{cell}",3\n'))
    assert table.reasons == {"a": cell} and table["a"].tolist() == ["1", cell]
    assert table["b"].dtype == float


@pytest.mark.parametrize(("text", "said"), [
    ("", "has no header"), ("a,b\n", "has no rows"), ("a,a\n1,2\n", "two columns are called 'a'"),
    ("a,\n1,2\n", "column 2 has no name"), ("a,b\n1,2\n1\n", "line 3: 1 cells, but the header"),
    ('a,b\n"1,2\n', "is no CSV file")])
def test_a_file_that_is_no_table_is_told_in_one_sentence(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        read_csv(written(tmp_path, text))


def test_another_encoding_is_told_with_its_remedy(tmp_path):
    with pytest.raises(ValueError, match="is not UTF-8 text .* save it as CSV UTF-8"):
        read_csv(written(tmp_path, "name,age\nJörg,3\n", "latin-1"))


def test_a_table_is_an_array_of_numbers_or_of_objects():
    table = Table({"a": [1, 2], "b": [0.5, np.nan]})
    assert np.asarray(table).dtype == float and np.asarray(table).shape == (2, 2)
    assert np.asarray(Table({"a": [1, 2], "b": ["x", "y"]})).tolist() == [[1, "x"], [2, "y"]]


def test_rows_and_columns_are_taken_by_number_mask_and_name():
    table = Table({"a": np.arange(4), "b": np.arange(4) * 10, "c": list("wxyz")})
    assert take_rows(table, [3, 0])["b"].tolist() == [30, 0]
    assert table.take(table["a"] > 1)["c"].tolist() == ["y", "z"]
    assert table.without("a").columns == ["b", "c"] and table[["c", "a"]].columns == ["c", "a"]
    with pytest.raises(ValueError, match="no column 'd': the columns are a, b, c"):
        table["d"]
    with pytest.raises(ValueError, match="have one length"):
        Table({"a": [1], "b": [1, 2]})


def test_rows_are_counted_or_refused():
    assert count_rows([1, 2]) == 2 and count_rows(np.zeros((3, 1))) == 3
    for value in (3, np.float64(1)):
        with pytest.raises(TypeError):
            count_rows(value)
