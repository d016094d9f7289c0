r"""Lesson 4.3 · Pre-split: cutting text into pieces that no token may cross

Needs kernel, memory, unicode. Used by bpe, tokenizer_file.

Idea      The next lesson, byte-pair encoding, makes a token of whatever is often found side by
          side. Let loose on raw text it learns "dog.", "dog!" and "dog " as three tokens and wastes
          its vocabulary. So the text is cut beforehand, at the borders of words, and pairs are
          joined inside a piece only. GPT-2 wrote its cut as a regular expression, and many later
          models vary it. Counting pieces also makes training fast: the standard library of Python
          3.11.7, 12.1 MB, has 2,887,181 pieces, of which only 51,376 are different (`measure it`).
Math      The pattern; the first alternative that matches at a position wins:                   (1)
              's|'t|'re|'ve|'m|'ll|'d| ?L+| ?N+| ?[^\s L N]+|\s+(?!\S)|\s+
          L letter, N number, \s white space, the classes of `unicode`. As rules about borders,
          since every piece but white space and contractions is a run of one class:
          a border lies where the class changes,                                                (2)
          and before the last character of a run of white space that more text follows;         (3)
          but none after that character if it is U+0020: a space goes with what it precedes;    (4)
          an apostrophe at a border opens a contraction if its letters follow: no border after
          the apostrophe, one after the letters.                                                (5)
Shapes    text, classes (N,) uint8 → begins (N,) bool, True on the first byte of a piece
          → cuts (P + 1,) int64: piece p is text[cuts[p] : cuts[p + 1]]
Pitfalls  Only lower-case contractions count: I'LL is cut as I ' LL. GPT-4's pattern mends that.
          An apostrophe after a space or after punctuation opens none: " 's" is " '" + "s".
          `\s+(?!\S)` gives the last white space back, so "a   b" is "a", "  ", " b"; without it
          indentation would come as one piece and the word after it would lose its space.
          Bytes that are not UTF-8 are OTHER, one character each; joining the pieces gives the text
          back whatever it was.
Cost      One pass over the bytes. Splitting and counting on your machine: `measure it`.
Try       build it    the pattern of cl100k: at most three digits in a piece, 'LL like 'll.
          break it    leave out rule (4). Which tests notice?
          measure it  python -m tinygrad_edu.tokenizers.presplit
See       Radford et al. 2019, section 2.2 · openai/gpt-2, src/encoder.py (the pattern)
"""

import numpy as np

from tinygrad_edu.kernel import Kernel
from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.unicode import CONTINUES, SPACE, gpt2_classes

APOSTROPHE = ord("'")
BLANK = ord(" ")
D, E, L, M, R, S, T, V = b"delmrstv"  # the letters of contractions


@Kernel
def split_gpt2(begins, text, classes):
    """Mark the first byte of each piece of the pattern (1), by the rules (2) to (5)."""
    at = np.flatnonzero(classes != CONTINUES)  # one entry for each character from here on
    kind = classes[at]
    byte = np.append(text[at], np.zeros(2, np.uint8))
    border = np.ones(at.size + 3, bool)
    border[1 : at.size] = kind[1:] != kind[:-1]  # (2)
    last = np.flatnonzero((kind[:-1] == SPACE) & (kind[1:] != SPACE))
    border[last] = True  # (3)
    border[last[byte[last] == BLANK] + 1] = False  # (4)
    quote = np.flatnonzero(border[: at.size] & (byte[: at.size] == APOSTROPHE))
    one, two = byte[quote + 1], byte[quote + 2]
    short = (one == S) | (one == T) | (one == M) | (one == D)
    long = ((one == R) | (one == V)) & (two == E) | (one == L) & (two == L)
    border[quote[short | long] + 1] = False  # (5)
    border[quote[short] + 2] = True
    border[quote[long] + 3] = True
    begins[...] = False
    begins[at] = border[: at.size]


@split_gpt2.body("numba")
def split_gpt2_numba(begins, text, classes):
    """The pattern (1) read from left to right: each turn of the loop is one match."""
    size = text.size
    begins[:] = False
    i = 0
    while i < size:
        begins[i] = True
        one = text[i + 1] if i + 1 < size else 0
        two = text[i + 2] if i + 2 < size else 0
        if text[i] == APOSTROPHE:
            if one == S or one == T or one == M or one == D:
                i += 2
                continue
            if (one == R or one == V) and two == E or one == L and two == L:
                i += 3
                continue
        if text[i] == BLANK and i + 1 < size and classes[i + 1] != SPACE:
            i += 1  # the optional space of " ?L+", " ?N+" and " ?[^\s L N]+"
        kind = classes[i]
        last = i
        i += 1
        while i < size and (classes[i] == kind or classes[i] == CONTINUES):
            if classes[i] != CONTINUES:
                last = i
            i += 1
        if kind == SPACE and i < size and not begins[last]:
            i = last  # \s+(?!\S) gives the last one back; a single one is left to \s+


def presplit(text):
    """The cuts, (P + 1,) int64, of `text` (bytes): piece p is text[cuts[p] : cuts[p + 1]]."""
    array = np.frombuffer(text, np.uint8)
    begins = empty(array.shape, np.bool_)
    if array.size:
        split_gpt2(begins, array, gpt2_classes(array))
    return np.append(np.flatnonzero(begins), array.size)


def pieces(text):
    """The pieces of `text` (bytes) as a list of bytes; joined they are the text."""
    cuts = presplit(text).tolist()
    return [text[low:high] for low, high in zip(cuts, cuts[1:], strict=False)]


def python_library():
    """The source files of this Python's standard library without its tests: text to measure on."""
    import sysconfig
    from pathlib import Path

    skipped = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    return [path.read_bytes() for path in files if not skipped & set(path.parts)]


def _measure():
    from collections import Counter
    from time import perf_counter

    texts = python_library()
    presplit(b"compile, then measure")
    start = perf_counter()
    cuts = [presplit(text) for text in texts]
    middle = perf_counter()
    counts = Counter(piece for text in texts for piece in pieces(text))
    end = perf_counter()
    size = sum(map(len, texts))
    print(
        f"bytes={size} pieces={sum(cut.size - 1 for cut in cuts)} different={len(counts)} "
        f"split_mb_per_s={size / (middle - start) / 1e6:.0f} split_and_count_s={end - middle:.2f}"
    )


if __name__ == "__main__":
    _measure()
