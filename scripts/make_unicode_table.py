"""Writes tinygrad_edu/tokenizers/unicode_categories.txt: the category of every code point.

Python's own tables follow Python (3.11 has Unicode 14), so the numbers come from two packages
that were made independently of each other from the Unicode Character Database, version 16.0.0:

    pip install unicodedata2==16.0.0 regex==2024.11.6
    python scripts/make_unicode_table.py

The table is written only if the two agree on every code point. Neither package is needed to use
the tokenizers. `--check` compares the file in the repository and writes nothing.
"""

import argparse
import sys
from pathlib import Path

VERSION = "16.0.0"
CODE_POINTS = 0x110000
TABLE = (
    Path(__file__).resolve().parent.parent / "tinygrad_edu/tokenizers/unicode_categories.txt"
)
HEADER = f"""\
# General category of every code point, Unicode {VERSION}. Made by scripts/make_unicode_table.py.
# Source: the Unicode Character Database as unicodedata2 16.0.0 and regex 2024.11.6 hold it; both
# agree. A line is the first code point of a run (hexadecimal) and the category of the whole run.
# Data of the Unicode Character Database: (c) Unicode, Inc., https://www.unicode.org/license.txt
"""


def categories_of_unicodedata2():
    """A list of CODE_POINTS names such as "Lu"; ValueError for another version of the tables."""
    import unicodedata2

    if unicodedata2.unidata_version != VERSION:
        raise ValueError(
            f"unicodedata2 holds Unicode {unicodedata2.unidata_version}; "
            f"install unicodedata2=={VERSION}"
        )
    return [unicodedata2.category(chr(point)) for point in range(CODE_POINTS)]


def categories_of_regex(names):
    """The same list, asked of the package regex one property at a time."""
    import regex

    found = [None] * CODE_POINTS
    everything = "".join(map(chr, range(CODE_POINTS)))
    for name in names:
        for match in regex.finditer(rf"\p{{{name}}}+", everything):
            found[match.start() : match.end()] = [name] * (match.end() - match.start())
    return found


def table_text(categories):
    """The file as text: one line for each run of code points of one category."""
    lines = []
    for point, name in enumerate(categories):
        if point == 0 or name != categories[point - 1]:
            lines.append(f"{point:x} {name}\n")
    return HEADER + "".join(lines)


def main():
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args().check
    categories = categories_of_unicodedata2()
    other = categories_of_regex(sorted(set(categories)))
    differing = [point for point in range(CODE_POINTS) if categories[point] != other[point]]
    if differing:
        raise ValueError(
            f"the two sources disagree in {len(differing)} code points, first U+{differing[0]:04X}"
        )
    text = table_text(categories)
    if check and TABLE.read_text(encoding="ascii") != text:
        raise ValueError(f"{TABLE.name} is not what the two sources give; run without --check")
    if not check:
        TABLE.write_text(text, encoding="ascii", newline="\n")
    print(f"unicode={VERSION} runs={len(text.splitlines()) - 4} bytes={len(text)} agree=yes")


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        print(f"error: {error}; the packages to install are in --help", file=sys.stderr)
        sys.exit(2)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
