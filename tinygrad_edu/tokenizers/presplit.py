r"""Lesson 4.3 · Pre-split: cutting text into pieces that no token may cross

Needs foreign, kernel, loops, memory, unicode. Used by patterns, bpe.

Idea      The next lesson, byte-pair encoding, makes a token of whatever is often found side by
          side. Let loose on raw text it learns "dog.", "dog!" and "dog " as three tokens and wastes
          its vocabulary. So the text is cut beforehand, at the borders of words, and pairs are
          joined inside a piece only. GPT-2 wrote its cut as a regular expression, and many later
          models vary it (lesson patterns).
          Pieces also make training fast, since most of them occur again and again: the standard
          library of Python 3.11.7, 12.1 MB, has 2,887,181 pieces, of which only 51,376 are
          different (`measure it`). So they are counted, and only the different ones are kept. A
          hash table does it: a number computed from the bytes of a piece, its hash, says in which
          slot of an array to look for it; a slot that another piece has taken sends on to the next.
Math      The pattern; the first alternative that matches at a position wins:                   (1)
              's|'t|'re|'ve|'m|'ll|'d| ?L+| ?N+| ?[^\s L N]+|\s+(?!\S)|\s+
          L letter, N number, \s white space, the classes of `unicode`. As rules about borders,
          since every piece but white space and contractions is a run of one class:
          a border lies where the class changes,                                                (2)
          and before the last character of a run of white space that more text follows;         (3)
          but none after that character if it is U+0020: a space goes with what it precedes;    (4)
          an apostrophe at a border opens a contraction if its letters follow: no border after
          the apostrophe, one after the letters.                                                (5)
          a table in which at most half of the slots are taken needs about 1.5 looks a piece    (6)
Shapes    text, classes (N,) uint8 → begins (N,) bool, True on the first byte of a piece
          → cuts (P + 1,) int64: piece p is text[cuts[p] : cuts[p + 1]]
          → places, counts (P,) int32: where each different piece is met first, and how often it
          occurs; -1 and 0 behind the last of them
Pitfalls  Only lower-case contractions count: I'LL is cut as I ' LL. GPT-4's pattern mends that.
          An apostrophe after a space or after punctuation opens none: " 's" is " '" + "s".
          `\s+(?!\S)` gives the last white space back, so "a   b" is "a", "  ", " b"; without it
          indentation would come as one piece and the word after it would lose its space.
          Bytes that are not UTF-8 are OTHER, one character each; joining the pieces gives the text
          back whatever it was.
          Two pieces may have the same hash: only equal bytes make them the same.
Cost      One pass over the bytes to find out their classes, one to split, one to count.
Try       build it    a pattern that cuts before upper-case letters, for names likeThisOne.
          break it    leave out rule (4). Which tests notice?
          measure it  python -m tinygrad_edu.tokenizers.presplit
See       Radford et al. 2019, section 2.2 · openai/gpt-2, src/encoder.py (the pattern) · Knuth, The
          Art of Computer Programming 3, section 6.4 (linear probing) · FNV hash, RFC 9923
"""

import numpy as np

from tinygrad_edu.foreign import any_C, fits_any, out, ptr
from tinygrad_edu.kernel import Kernel
from tinygrad_edu.loops import helper
from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.unicode import CONTINUES, SPACE, gpt2_classes

APOSTROPHE = ord("'")
BLANK = ord(" ")
D, E, L, M, R, S, T, V = b"delmrstv"  # the letters of contractions

# ---- splitting -------------------------------------------------------------------------------


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
@helper
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


@split_gpt2.body("native", when=fits_any)
def split_gpt2_native(begins, text, classes):
    any_C().split_gpt2(out(begins), ptr(text), ptr(classes), text.size)


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


# ---- counting --------------------------------------------------------------------------------


@Kernel(outputs=2)
def count_distinct(places, counts, text, begins):
    """Where each different piece begins for the first time, and how often it occurs.

    Python's dict is a hash table, too, and remembers in which order its keys came.
    """
    cuts = np.append(np.flatnonzero(begins), text.size).tolist()
    first, number = {}, {}
    for low, high in zip(cuts, cuts[1:], strict=False):
        piece = text[low:high].tobytes()
        first.setdefault(piece, low)
        number[piece] = number.get(piece, 0) + 1
    places[...], counts[...] = -1, 0
    places[: len(first)] = list(first.values())
    counts[: len(first)] = list(number.values())


@helper
def slot_of(slots, places, lengths, text, i, length):
    """Where in the table of numbers a piece is, or belongs; an empty slot holds -1."""
    key = 2166136261
    for k in range(i, i + length):
        key = (key ^ text[k]) * 16777619 & 0xFFFFFFFF  # the hash FNV-1a
    slot = key & (slots.size - 1)
    while slots[slot] >= 0:
        known = slots[slot]
        same = lengths[known] == length
        for k in range(length if same else 0):
            same = same and text[places[known] + k] == text[i + k]
        if same:
            break
        slot = (slot + 1) & (slots.size - 1)
    return slot


@count_distinct.body("numba")
def count_distinct_numba(places, counts, text, begins):
    places[:] = -1
    counts[:] = 0
    lengths = np.zeros(places.size, np.int32)
    slots = np.full(1 << 12, -1, np.int32)
    number = 0
    i = 0
    while i < text.size:
        end = i + 1
        while end < text.size and not begins[end]:
            end += 1
        slot = slot_of(slots, places, lengths, text, i, end - i)
        if slots[slot] < 0:
            slots[slot] = number
            places[number] = i
            lengths[number] = end - i
            number += 1
        counts[slots[slot]] += 1
        if 2 * number > slots.size:  # (6)
            slots = np.full(2 * slots.size, -1, np.int32)
            for k in range(number):
                slots[slot_of(slots, places, lengths, text, places[k], lengths[k])] = k
        i = end


@count_distinct.body("native", when=fits_any)
def count_distinct_native(places, counts, text, begins):
    any_C().count_distinct(
        out(places), out(counts), ptr(text), ptr(begins), text.size, places.size
    )


def distinct_pieces(text, begins):
    """Yield each different piece (bytes) of a uint8 array with its count, in the order met.

    begins, (N,) bool, is True at the first byte of each piece, text[0] among them.
    """
    pieces_here = np.count_nonzero(begins)
    places, counts = empty(pieces_here, np.int32), empty(pieces_here, np.int32)
    if not pieces_here:
        return
    count_distinct(places, counts, text, begins)
    if counts[0] < 0:
        raise MemoryError("no memory for the table of pieces: give a shorter text")
    cuts = np.flatnonzero(begins)
    first = places[counts > 0]
    ends = np.append(cuts, text.size)[np.searchsorted(cuts, first) + 1]
    whole = text.tobytes()
    bounds = zip(first.tolist(), ends.tolist(), counts.tolist(), strict=False)
    yield from ((whole[low:high], count) for low, high, count in bounds)


def python_library():
    """The source files of this Python's standard library without its tests: text to measure on."""
    import sysconfig
    from pathlib import Path

    skipped = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    return [path.read_bytes() for path in files if not skipped & set(path.parts)]


def _measure():
    from time import perf_counter

    texts = [np.frombuffer(text, np.uint8) for text in python_library()]
    text = np.concatenate(texts)
    begins = np.zeros(text.size, bool)
    list(distinct_pieces(text[:9], begins[:9]))  # whoever compiles does it here
    start = perf_counter()
    first = 0
    for part in texts:
        if part.size:
            split_gpt2(begins[first : first + part.size], part, gpt2_classes(part))
        first += part.size
    middle = perf_counter()
    different = len(list(distinct_pieces(text, begins)))
    end = perf_counter()
    print(
        f"bytes={text.size} pieces={np.count_nonzero(begins)} different={different} "
        f"split_mb_per_s={text.size / (middle - start) / 1e6:.0f} "
        f"count_mb_per_s={text.size / (end - middle) / 1e6:.0f}"
    )


if __name__ == "__main__":
    _measure()
