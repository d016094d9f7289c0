"""Lesson 4.1 · Unicode: what kind of character is this?

Needs foreign, kernel, memory. Used by presplit, characters, bpe, tokenizer_file.

Idea      A language model computes with integers; a tokenizer turns text into them. The first thing
          it does is to cut the text where the kind of character changes: letters, numbers, white
          space, the rest. For the 128 characters of ASCII that is a matter of four comparisons;
          for all of Unicode it is a table that a committee keeps and extends every year. Text
          comes as bytes (UTF-8, one to four bytes a character), and bytes from real files are not
          always UTF-8. So two things are done here: the bytes are cut into characters, whatever
          they are, and each character is looked up in one fixed version of the table, Unicode 16.
Math      UTF-8, one code point in 1 to 4 bytes:                                               (1)
              0xxxxxxx                               U+0000   … U+007F
              110xxxxx 10xxxxxx                      U+0080   … U+07FF
              1110xxxx 10xxxxxx 10xxxxxx             U+0800   … U+FFFF without U+D800 … U+DFFF
              11110xxx 10xxxxxx 10xxxxxx 10xxxxxx    U+10000  … U+10FFFF
          A byte that is no part of such a sequence, shortest form only, is a character of its
          own that belongs to the category Cs, which no valid text contains.                   (2)
          class(c) = SPACE if c has the property White_Space, else LETTER if its category begins
          with L, else NUMBER if it begins with N, else OTHER                                  (3)
Shapes    categories() (1114112,) uint8, an index into NAMES · gpt2_table() (1114112,) uint8
          text (N,) uint8 → classes (N,) uint8: the class where a character begins,
          CONTINUES elsewhere
Pitfalls  The module `unicodedata` has the tables of the Python that runs, not of the tokenizer you
          want to agree with: 3.11 holds Unicode 14, and its categories differ from version 16 in
          10,302 code points, 9,392 of which change their class (3). See `measure it`.
          White space is the property White_Space. str.isspace also says yes to U+001C … U+001F.
          "Letter" is not "what words are made of": the vowel signs of Devanagari are marks (M).
Cost      One table look-up a byte. The file holds 4,099 runs in 33 kB; unpacked, 1.1 MB.
Try       build it    a table for the classes of another pattern: upper-case letters on their own.
          break it    accept U+D800 … U+DFFF in the loop below. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.unicode
See       The Unicode Standard 16.0, section 3.9, table 3-7 (well-formed UTF-8), section 4.5
          (general category); PropList.txt (White_Space) · RFC 3629 · PEP 383 (surrogateescape)
"""

from functools import cache
from pathlib import Path

import numpy as np

from tinygrad_edu.foreign import any_C, fits_any, out, ptr
from tinygrad_edu.kernel import Kernel
from tinygrad_edu.memory import empty

VERSION = "16.0.0"
CODE_POINTS = 0x110000
TABLE = Path(__file__).with_name("unicode_categories.txt")  # by scripts/make_unicode_table.py

# The categories, two letters each: a major class and what is special about it.
NAMES = (
    *("Lu", "Ll", "Lt", "Lm", "Lo"),  # letters: upper, lower, title case, modifier, other
    *("Mn", "Mc", "Me"),  # marks
    *("Nd", "Nl", "No"),  # numbers: decimal digits, letter-like, other
    *("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"),  # punctuation
    *("Sm", "Sc", "Sk", "So"),  # symbols
    *("Zs", "Zl", "Zp"),  # separators
    *("Cc", "Cf", "Cs", "Co", "Cn"),  # controls, formats, surrogates, private use, unassigned
)
# The property White_Space, as first and last code point. It has not changed since Unicode 6.3.
WHITE_SPACE = (
    *((0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680)),
    *((0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
)

OTHER, LETTER, NUMBER, SPACE = range(4)
CONTINUES = 255  # not the first byte of its character


@cache
def categories():
    """The general category of each code point as an index into NAMES, (1114112,) uint8."""
    first, names = [], []
    for line in TABLE.read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            point, name = line.split()
            first.append(int(point, 16))
            names.append(NAMES.index(name))
    lengths = np.diff([*first, CODE_POINTS])
    return np.repeat(np.array(names, np.uint8), lengths)


def class_table(*groups):
    """A class for each code point, (1114112,) uint8, for `classify`.

    Class k + 1 holds the categories of groups[k], a category being given as "Lu" or, for all that
    begin so, as "L"; class len(groups) + 1 is White_Space, whatever its category; 0 is the rest.
    """
    class_of = np.zeros(len(NAMES), np.uint8)
    for number, group in enumerate(groups, start=1):
        for index, name in enumerate(NAMES):
            if name.startswith(group):
                class_of[index] = number
    table = class_of[categories()]
    for low, high in WHITE_SPACE:
        table[low : high + 1] = len(groups) + 1
    return table


@cache
def gpt2_table():
    """The four classes of (3) that the pattern of GPT-2 tells apart, (1114112,) uint8."""
    return class_table("L", "N")


def as_bytes(text):
    """Text as UTF-8 bytes; bytes pass. ValueError for a str that no UTF-8 can hold."""
    if not isinstance(text, str):
        return bytes(text)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} of the text is half of a surrogate pair, "
            "which UTF-8 cannot hold; remove it or pass bytes"
        ) from None


def code_points(text):
    """The code points of a str, (n,) uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def category(character):
    """The general category of one character, two letters."""
    return NAMES[categories()[ord(character)]]


@Kernel
def classify(classes, text, table):
    """The class of the character that begins at each byte, else CONTINUES; (1), (2), (3)."""
    # Python's decoder knows (1); "surrogateescape" turns a bad byte b into U+DC00 + b, see (2).
    decoded = text.tobytes().decode("utf-8", "surrogateescape")
    points = np.frombuffer(decoded.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
    lengths[(points >= 0xDC80) & (points <= 0xDCFF)] = 1
    classes[...] = CONTINUES
    classes[np.cumsum(lengths) - lengths] = table[points]


@classify.body("numba")
def classify_numba(classes, text, table):
    size = text.size
    i = 0
    while i < size:
        byte = np.int64(text[i])
        length = 1
        point = byte
        least = 0
        if 0xC0 <= byte < 0xE0:  # the lead byte says how many follow, and the least they may say
            length, point, least = 2, byte & 0x1F, 0x80
        elif 0xE0 <= byte < 0xF0:
            length, point, least = 3, byte & 0x0F, 0x800
        elif 0xF0 <= byte < 0xF8:
            length, point, least = 4, byte & 0x07, 0x10000
        valid = (byte < 0x80 or length > 1) and i + length <= size
        if valid:
            for j in range(i + 1, i + length):
                valid = valid and (text[j] & 0xC0) == 0x80
                point = point << 6 | np.int64(text[j] & 0x3F)
            valid = valid and least <= point < 0x110000 and not 0xD800 <= point < 0xE000
        if not valid:
            length, point = 1, 0xDC00 + byte  # (2)
        classes[i] = table[point]
        for j in range(i + 1, i + length):
            classes[j] = CONTINUES
        i += length


@classify.body("native", when=fits_any)
def classify_native(classes, text, table):
    any_C().classify(out(classes), ptr(text), ptr(table), text.size)


def gpt2_classes(text):
    """(N,) uint8 classes (3) of the N bytes of `text`, a uint8 array."""
    classes = empty(text.shape, np.uint8)
    classify(classes, text, gpt2_table())
    return classes


def differences_from_this_python():
    """(category, class): in how many code points this Python's tables differ from those here."""
    import unicodedata

    names = [unicodedata.category(chr(point)) for point in range(CODE_POINTS)]
    here = np.array(NAMES)[categories()]
    major = np.array([{"L": LETTER, "N": NUMBER}.get(name[0], OTHER) for name in names])
    major[gpt2_table() == SPACE] = SPACE
    return int(np.sum(here != names)), int(np.sum(gpt2_table() != major))


if __name__ == "__main__":
    import sys
    import unicodedata

    category, kind = differences_from_this_python()
    python = ".".join(map(str, sys.version_info[:2]))
    print(
        f"python={python} unicodedata={unicodedata.unidata_version} here={VERSION} "
        f"categories_differ={category} classes_differ={kind}"
    )
