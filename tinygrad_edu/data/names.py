"""Lesson 4.31 · Names: a small language, one short word after the other

Needs characters, corpus, loader, sources. Used by scripts/names.py.

Idea      The first hour with language models wants a language that is learned in seconds and judged
          at a glance. Names are one: short, every one a document of its own, with rules that nobody
          wrote down. Every Python brings thousands: what the functions, classes and parameters of
          its standard library are called. A tenth of them is put aside, so that a model can be
          asked how surprised it is at names that it has not seen, and so that an invented name can
          be told from a remembered one.
Math      held out  ⇔  u(name) < 0.1, u the hash of lesson corpus                              (1)
          a row: x = • n₁ n₂ … n_k      y = n₁ n₂ … n_k •      • begins and ends every name    (2)
          rows of a step: r mod N, r = the first 64-bit words of Philox(seed, step)            (3)
          Philox: random numbers as a function of a key, so that there is no state to save
Shapes    N names, the longest of T − 1 letters: x, y (N, T) int32. Past the end of a name x is •
          and y is IGNORED, which the loss does not count: the loss is a mean over letters, • too.
Pitfalls  The same name twice would be in training and held out: each is taken once, (1) sees to the
          rest. What a letter is depends on the file: here every character is one.
          A mean over padding would make short names look easy.
          Names of another Python differ: a figure must say which.
Cost      Reading the names parses all of the library's source: `measure it` prints the seconds.
Try       build it    identifiers cut at their underscores into words. Is that language easier?
          break it    let y be • in the padding too. Which test notices, and why does
                      scripts/names.py now print lower losses?
          measure it  python -m timeit -n 1 -r 1 -s "from tinygrad_edu.data import names" \\
                      "names.identifiers()"
See       Python's documentation of ast · Salmon et al. 2011 (Philox)
"""

import ast
import re
import warnings

import numpy as np

from tinygrad_edu.data.corpus import HELD_OUT_SHARE, hashed
from tinygrad_edu.data.loader import IGNORED
from tinygrad_edu.data.sources import pystdlib
from tinygrad_edu.tokenizers.characters import END_OF_TEXT

LONGEST = 100  # letters of a name; a line that is longer is none
IDENTIFIER = re.compile(r"[a-z_]{3,30}")
NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def identifiers(documents=None):
    """The names of functions, classes and parameters in Python's standard library, sorted.

    Lower-case letters and inner underscores, 3 to 30 of them. documents: (path, bytes) of Python
    source, for tests; what does not parse is passed over.
    """
    if documents is None:
        corpus = pystdlib()
        documents = [*corpus.train, *corpus.held_out]
    found = set()
    for _, text in documents:
        found.update(name.strip("_") for name in names_in(text))
    return sorted(name for name in found if IDENTIFIER.fullmatch(name))


def names_in(source):
    """Yield what a Python source defines: functions, classes, parameters."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")        # of the library's old escapes: not our matter
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, NAMED):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def read_names(path):
    """(names, empty lines, copies) of a UTF-8 text file with one name a line, in its order.

    Raises OSError where the file cannot be read; ValueError where it is not UTF-8, holds fewer
    than two different names, or a line that is too long to be a name.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file.read().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is not UTF-8, see byte 0x{error.object[error.start]:02X} "
                         f"at offset {error.start}: save it as UTF-8 text") from None
    for number, name in enumerate(names, start=1):
        if len(name) > LONGEST:
            raise ValueError(f"line {number} of {str(path)!r} has {len(name)} characters, a name "
                             f"has at most {LONGEST}: give a file with one name a line")
    written = [name for name in names if name]
    different = list(dict.fromkeys(written))
    if len(different) < 2:
        raise ValueError(f"{str(path)!r} holds {len(different)} names; one part is to be learned "
                         "and another kept aside, so give two different names or more")
    return different, len(names) - len(written), len(written) - len(different)


def split_names(names):
    """(train, held out) by the hash of each name, (1); both get one at least.

    ValueError for fewer than two names.
    """
    if len(names) < 2:
        raise ValueError("one name cannot be split into two parts: give more names")
    order = sorted(names, key=lambda name: (hashed(name), name))
    count = sum(hashed(name) < HELD_OUT_SHARE for name in order)                               # (1)
    count = min(max(count, 1), len(order) - 1)
    return sorted(order[count:]), sorted(order[:count])


def name_rows(names, tokenizer, context=None):
    """x, y (N, T) int32 of these names, (2). context: T, the longest name and • by default."""
    end = tokenizer.special[END_OF_TEXT]
    ids = [tokenizer.encode(name) for name in names]
    T = context or max(map(len, ids)) + 1
    x = np.full((len(ids), T), end, np.int32)
    y = np.full((len(ids), T), IGNORED, np.int32)
    for row, letters in enumerate(ids):
        x[row, 1:len(letters) + 1] = letters
        y[row, :len(letters)] = letters
        y[row, len(letters)] = end
    return x, y


def draw_rows(x, y, batch, seed, step):
    """The rows of one training step, (3), without the columns where all of them are padding."""
    words = np.random.Philox(key=np.array([seed, step], np.uint64)).random_raw(batch)
    rows = (words % np.uint64(len(x))).astype(np.int64)
    return without_padding(x[rows], y[rows])


def without_padding(x, y):
    """x and y up to the last column in which a target counts."""
    T = int((y >= 0).any(axis=0).sum())
    return x[:, :T], y[:, :T]
