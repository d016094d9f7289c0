"""Lesson 4.81 · Table: columns with names, and how they are read from a CSV file

Needs nothing. Used by datasets, splits, columns, scripts/classical.py.

Idea      Data come as columns of different kinds: an age is a number, a job is a word, and some
          cells are empty. A matrix can hold only one kind, so the columns stay apart until somebody
          has said what each one becomes. A table is just that: arrays of one length, each with its
          name. Its rows can be taken, since that is all that a split needs; its columns can be
          chosen by name, since that is how people speak of them.
Math      a column is a column of numbers  ⇔  each of its cells is a number or empty            (1)
Shapes    columns: {name: array (N,)}, float64 or object · as an array (N, C): float64 where all
          columns are numbers, else object · an empty cell is NaN in both
Pitfalls  One "unknown" among 10,000 ages makes the ages text, by (1). So what was read as text is
          said, and by which cell: `reasons`.
          float("1_000") is 1000.0 in Python and an account number in a table; "nan" and "inf" are
          numbers for Python as well.
          A spreadsheet writes a mark (BOM) before the first header, and in half of Europe puts
          semicolons where others put commas.
          Postcodes and other numbers that are only names become numbers: nobody can see it in them.
Cost      A CSV is read cell by cell in Python: about a second for a million cells.
Try       build it    read dates, as days since the first one.
          break it    let (1) accept "1_000". Which test notices?
          measure it  time read_csv on 10,000 lines of 20 numbers. How much of it is float()?
See       RFC 4180 (CSV) · Wickham 2014 "Tidy data"
"""

import csv
import re

import numpy as np

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.I | re.A)
EMPTY = {"", "na", "n/a", "nan", "null", "none", "?"}


class Table:
    """Columns of one length by name. Estimators read it as they read a data frame of pandas."""

    def __init__(self, columns):
        self._arrays = {name: np.asarray(values) for name, values in columns.items()}
        lengths = {len(array) for array in self._arrays.values()}
        if len(lengths) > 1:
            raise ValueError(f"the columns of a table have one length, not {sorted(lengths)}")
        self.reasons = {}  # name of a column of text -> the cell that makes it one, from a file

    @property
    def columns(self):
        """The names, in order."""
        return list(self._arrays)

    @property
    def shape(self):
        """(rows, columns)."""
        return len(self), len(self._arrays)

    def __len__(self):
        return len(next(iter(self._arrays.values()), ()))

    def __getitem__(self, names):
        """One column as an array by its name, or a Table of several by a list of names."""
        try:
            if isinstance(names, str):
                return self._arrays[names]
            return self._with({name: self._arrays[name] for name in names})
        except KeyError as error:
            raise ValueError(f"there is no column {error}: the columns are "
                             f"{', '.join(self.columns)}") from None

    def _with(self, arrays):
        """A Table of other arrays that knows the same reasons."""
        table = Table(arrays)
        table.reasons = {name: cell for name, cell in self.reasons.items() if name in arrays}
        return table

    def take(self, rows):
        """A Table of these rows, by numbers or by a mask."""
        return self._with({name: array[rows] for name, array in self._arrays.items()})

    def without(self, *names):
        """A Table that lacks these columns."""
        return self[[name for name in self.columns if name not in names]]

    def __array__(self, dtype=None, copy=None):
        kind = dtype or (object if any(map(is_text, self._arrays.values())) else np.float64)
        table = np.empty(self.shape, kind)
        for i, array in enumerate(self._arrays.values()):
            table[:, i] = array
        return table


def is_text(column):
    """Whether a column holds anything but numbers."""
    return np.asarray(column).dtype.kind not in "biuf"


def is_empty(values):
    """Where an array has no value, NaN or None: a mask of its shape."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind != "O":
        return np.zeros(values.shape, bool)
    return (values == None) | (values != values)  # noqa: E711 - element by element; NaN ≠ NaN


def take_rows(X, rows):
    """The rows of an array, a Table, a data frame or a list, by their numbers; None stays None."""
    if X is None:
        return None
    if isinstance(X, Table):
        return X.take(rows)
    if hasattr(X, "iloc"):  # pandas
        return X.iloc[rows]
    return X[rows] if isinstance(X, np.ndarray) else np.asarray(X)[rows]


def with_rows(X):
    """X itself if its rows can be taken, else the array that it stands for.

    Raises TypeError for what has no rows, and for a sparse matrix.
    """
    if hasattr(X, "toarray"):
        raise TypeError("Sparse data was passed, but dense data is required: use X.toarray()")
    if hasattr(X, "fit") or not any(hasattr(X, name) for name in ("__len__", "__array__")):
        raise TypeError(f"Expected sequence or array-like, got {type(X).__name__}: pass a table "
                        "with a row for each sample")
    return X if hasattr(X, "columns") else np.asarray(X)


def count_rows(X):
    """How many rows X has; TypeError for what has none, such as a number."""
    X = with_rows(X)
    if np.ndim(X) == 0 and not hasattr(X, "columns"):
        raise TypeError("Singleton array cannot be considered a valid collection: pass a table "
                        "with a row for each sample")
    return len(X)


# ---- CSV --------------------------------------------------------------------------------------


def read_csv(path):
    """The Table in a file: a header, then a line a row; commas, semicolons or tabs between cells.

    Cells such as nothing, NA or ? are empty. Raises OSError where the file cannot be opened and
    ValueError, which names the line, where it is no such table.
    """
    header, rows = read_cells(path)
    table, reasons = {}, {}
    for name, cells in zip(header, zip(*rows, strict=True), strict=True):
        text = next((cell for cell in cells if not is_number(cell)), None)
        if text is not None:                                                                  # (1)
            reasons[name] = text
        table[name] = column_of(cells, text is not None)
    result = Table(table)
    result.reasons = reasons
    return result


def read_cells(path):
    """(header, rows) of text, all rows as long as the header."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            separator = max(",;\t", key=first.count)
            lines = csv.reader(file, delimiter=separator, strict=True)
            header = [name.strip() for name in next(lines, [])]
            rows = [(lines.line_num, row) for row in lines if any(map(str.strip, row))]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save "
                         "it as CSV UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV file: {error}") from None
    if not header or not rows:
        raise ValueError(f"{path} has no {'rows' if header else 'header'}: a CSV file is a line of "
                         "names and a line for every row")
    twice = next((name for i, name in enumerate(header) if not name or name in header[:i]), None)
    if twice is not None:
        raise ValueError(f"{path}: two columns are called {twice!r}" if twice else
                         f"{path}: column {header.index('') + 1} has no name in the header")
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(f"{path}, line {line}: {len(row)} cells, but the header has "
                             f"{len(header)} names")
    return header, [row for _, row in rows]


def is_number(cell):
    """Whether a cell is a number or empty, (1)."""
    cell = cell.strip()
    return cell.casefold() in EMPTY or NUMBER.fullmatch(cell) is not None


def column_of(cells, text):
    """An array of the cells: float64, or object where they are text; NaN where one is empty."""
    convert = str if text else float
    values = (cell.strip() for cell in cells)
    found = [np.nan if cell.casefold() in EMPTY else convert(cell) for cell in values]
    return np.array(found, dtype=object if text else np.float64)
