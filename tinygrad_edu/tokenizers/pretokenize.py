"""Lesson 4.14 · Pre-tokenize: other ways to cut, and what they do to white space

Needs normalize, presplit, unicode, words. Used by decoders.

Idea      Lesson presplit cuts as GPT-2 does. Other models cut otherwise, most of them by simple
          questions about single characters: is it white space, a digit, punctuation? Each cut here
          answers such a question for all characters of the text at once, as an array of yes and no;
          borders follow from the arrays. What shall become of the characters that were found is a
          question of its own, with five answers: removed, alone, a run of them together, or joined
          to what stands before or after. Several cuts in a row cut the pieces of the one before.
          White space is the great divide. BERT drops it: pieces are words, and decoding must guess
          where spaces were. SentencePiece makes it visible: each space becomes ▁ (U+2581), an
          ordinary character that begins a piece, and a text gets one in front, so that its first
          word looks like all others; then decoding is plain replacement.
Math      inside[i]: character i is in a piece       border[i]: a cut lies before character i
          a piece begins at i  ⇔  inside[i] and (border[i] or i = 0 or not inside[i − 1])     (1)
          a piece ends before i  ⇔  inside[i − 1] and (border[i] or i = n or not inside[i])   (2)
          behaviour of matches [l, h):                                                          (3)
            isolated    borders at l and h          merged with previous    at h only
            removed     the same, not inside        merged with next        at l only
            contiguous  the same, but not between two matches that touch
Shapes    cut(text, spans (P, 2), at_start) → (text, spans (Q, 2), source), counted in characters;
          source as in lesson normalize, None where the text is as it was
          byte_spans: the same spans counted in bytes of UTF-8, for a model
Pitfalls  "Punctuation" is three things: ASCII's 32 signs, category P, or both ($ and + are category
          S). BERT means both.
          A regular expression sees one piece at a time: $ and \\b look no further than its ends.
          \\w of a pattern is more than letters: marks, ⅷ, ⓐ and the joiners U+200C, U+200D.
          With prepend="first" Metaspace puts ▁ in front only where the text begins, and not behind
          a special token; `at_start` tells it.
Cost      A few passes of NumPy over an array of code points.
Try       build it    a cut at capitals inside words, for camelCase.
          break it    forget `i = n` in (2). Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.pretokenize
See       Kudo, Richardson 2018, "SentencePiece", section 3 (lossless tokenization) · Devlin et al.
          2019, tokenization.py (BasicTokenizer) · Unicode Technical Standard 18 (\\w)
"""

import re
from collections import Counter
from functools import cache

import numpy as np

from tinygrad_edu.tokenizers.normalize import SPACES, compiled, compose
from tinygrad_edu.tokenizers.presplit import presplit
from tinygrad_edu.tokenizers.unicode import NAMES, categories, code_points
from tinygrad_edu.tokenizers.words import covered

SPACE = "▁"  # U+2581, what SentencePiece writes for a space
ASCII_SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
BEHAVIOURS = ("isolated", "removed", "contiguous", "merged_with_previous", "merged_with_next")
# \w has these beside L, M, Nd, Nl and Pc: joiners, and letters in circles and squares.
WORD_TOO = ((0x200C, 0x200D), (0x24B6, 0x24E9), (0x1F130, 0x1F149))
WORD_TOO += ((0x1F150, 0x1F169), (0x1F170, 0x1F189))


@cache
def table_of(groups, ranges=(), more=""):
    """(1114112,) bool: is a code point of one of the categories, in a range, or among `more`?"""
    named = np.array([name.startswith(groups) for name in NAMES])
    table = named[categories()]
    for low, high in ranges:
        table[low : high + 1] = True
    table[[ord(character) for character in more]] = True
    return table


def spaces():
    """Which code points are white space, (1114112,) bool."""
    return table_of((), (), SPACES)


def punctuation():
    """Which are punctuation as BERT means it: ASCII's signs and category P."""
    return table_of(("P",), (), ASCII_SIGNS)


def marks_of(size, spans):
    """(inside, border) of the pieces that spans names, in a text of that many characters."""
    border = np.zeros(size + 1, bool)
    border[spans[:, 0]] = True
    return covered(size, spans), border


def spans_of(inside, border):
    """(Q, 2) the pieces between borders, by (1) and (2)."""
    before, after = np.append(False, inside), np.append(inside, False)
    begins = np.flatnonzero(after & (border | ~before))  # (1)
    ends = np.flatnonzero(before & (border | ~after))  # (2)
    return np.stack([begins, ends], axis=1)


def cut_at(size, spans, matches, behaviour):
    """The pieces that are left of `spans` where `matches` (M, 2) behave so, (3)."""
    inside, border = marks_of(size, spans)
    low, high = matches[:, 0], matches[:, 1]
    if behaviour == "contiguous":
        low, high = np.setdiff1d(low, high), np.setdiff1d(high, low)
    if behaviour != "merged_with_previous":
        border[low] = True
    if behaviour != "merged_with_next":
        border[high] = True
    if behaviour == "removed":
        inside &= ~covered(size, matches)
    return spans_of(inside, border)


class Cut:
    """One cut; a subclass adds `pieces(text, spans) -> spans`, or `cut` where the text changes."""

    def cut(self, text, spans, at_start=True):
        """(text, spans, source) after this cut."""
        return text, self.pieces(text, spans), None

    def __call__(self, text):
        """The pieces of a whole text, as strings."""
        text, spans, _ = self.cut(text, np.array([[0, len(text)]]))
        return [text[low:high] for low, high in spans.tolist()]


class Cuts(Cut):
    """Several cuts in a row, each within the pieces of the one before."""

    def __init__(self, *cuts):
        self.cuts = cuts

    def cut(self, text, spans, at_start=True):
        source = None
        for step in self.cuts:
            text, spans, moved = step.cut(text, spans, at_start)
            source = compose(source, moved)
        return text, spans, source


class Class(Cut):
    """Every character of a class is a match. table: (1114112,) bool."""

    def __init__(self, table, behaviour):
        self.table, self.behaviour = table, check_behaviour(behaviour)

    def pieces(self, text, spans):
        places = np.flatnonzero(self.table[code_points(text)])
        return cut_at(len(text), spans, np.stack([places, places + 1], axis=1), self.behaviour)


class Words(Cut):
    """Runs of \\w, and runs of what is neither \\w nor white space; the latter is dropped."""

    def pieces(self, text, spans):
        points = code_points(text)
        inside, border = marks_of(len(text), spans)
        word = table_of(("L", "M", "Nd", "Nl", "Pc"), WORD_TOO)[points]
        border[1:-1] |= word[1:] != word[:-1]
        return spans_of(inside & ~spaces()[points], border)


class Pattern(Cut):
    """Matches of a string, or with regex=True of a pattern; `invert`: what lies between them."""

    def __init__(self, pattern, behaviour, invert=False, regex=False):
        self.pattern, self.behaviour = pattern, check_behaviour(behaviour)
        self.invert, self.regex = invert, regex
        self._find = compiled(pattern if regex else re.escape(pattern), plain=not regex)

    def pieces(self, text, spans):
        found = []
        for low, high in spans.tolist():
            # A copy, since a pattern must not look beyond its piece.
            found += [(low + a, low + b) for a, b in self._matches(text[low:high])]
        matches = np.array(found, np.int64).reshape(-1, 2)
        return cut_at(len(text), spans, matches, self.behaviour)

    def _matches(self, piece):
        spans = [match.span() for match in self._find.finditer(piece) if match.group()]
        if not self.invert:
            return spans
        # Between two matches that touch lies an empty one: a border, unless contiguous.
        ends = [0, *(place for span in spans for place in span), len(piece)]
        return list(zip(ends[::2], ends[1::2], strict=True))


def check_behaviour(name):
    """The name, if it is one of BEHAVIOURS. ValueError where it is not."""
    if name not in BEHAVIOURS:
        raise ValueError(f"a cut cannot be {name!r}; there are: {', '.join(BEHAVIOURS)}")
    return name


def whitespace_split():
    """Cut at white space and drop it."""
    return Class(spaces(), "removed")


def bert_cut():
    """BERT's words: white space is dropped, each sign of punctuation is a piece."""
    return Cuts(whitespace_split(), Class(punctuation(), "isolated"))


def digits(single=False):
    """Numbers apart from the rest, in runs, or each character by itself."""
    return Class(table_of(("N",)), "isolated" if single else "contiguous")


class Metaspace(Cut):
    """SentencePiece's way: a space becomes `sign`, and one is put in front of the text.

    prepend: "always" before every piece, "first" before a piece where the text begins, "never".
    split: cut before each sign.
    """

    def __init__(self, sign=SPACE, prepend="always", split=True):
        if prepend not in ("always", "first", "never"):
            raise ValueError(f"Metaspace prepends always, first or never, not {prepend!r}")
        self.sign, self.prepend, self.split = sign, prepend, split

    def cut(self, text, spans, at_start=True):
        text, low = text.replace(" ", self.sign), spans[:, 0]
        chosen = low[[not text.startswith(self.sign, at) for at in low.tolist()]]
        if self.prepend != "always":
            chosen = chosen[(chosen == 0) & at_start & (self.prepend == "first")]
        text, spans, source = put_before(text, spans, chosen, self.sign)
        if self.split:
            places = np.flatnonzero(code_points(text) == ord(self.sign))
            matches = np.stack([places, places + 1], axis=1)
            spans = cut_at(len(text), spans, matches, "merged_with_next")
        return text, spans, source


class ByteLevel(Cut):
    """GPT-2's cut of lesson presplit. space_before: each piece that has no space gets one."""

    def __init__(self, space_before=False, regex=True):
        self.space_before, self.regex = space_before, regex

    def cut(self, text, spans, at_start=True):
        source = None
        if self.space_before:
            low = spans[:, 0]
            chosen = low[[text[at] != " " for at in low.tolist()]]
            text, spans, source = put_before(text, spans, chosen, " ")
        if self.regex:
            spans = cut_by_bytes(text, spans, presplit)
        return text, spans, source


def put_before(text, spans, places, sign):
    """(text, spans, source) with the character `sign` put in at these places, in their pieces."""
    if not places.size:
        return text, spans, None
    source = np.insert(np.arange(len(text)), places, places)
    points = np.insert(code_points(text), places, ord(sign))
    text = points.tobytes().decode("utf-32-le", "surrogatepass")
    # A piece that begins there takes the sign in; what lies behind moves by one for each sign.
    moved = [np.searchsorted(places, spans[:, side], "left") for side in (0, 1)]
    return text, spans + np.stack(moved, axis=1), source


def cut_by_bytes(text, spans, cuts):
    """Pieces cut by a scanner of bytes: cuts(bytes) -> (P + 1,), as presplit gives them."""
    found = []
    for low, high in spans.tolist():
        piece = text[low:high]
        data = np.frombuffer(piece.encode("utf-8", "surrogatepass"), np.uint8)
        # How many characters begin before each byte: turns places in bytes into places in the text.
        before = np.concatenate([[0], np.cumsum((data & 0xC0) != 0x80)])
        border = low + before[cuts(data.tobytes())]
        found.append(np.stack([border[:-1], border[1:]], axis=1))
    return np.concatenate(found) if found else spans


def byte_spans(text, spans):
    """Spans of characters as spans of the bytes of UTF-8."""
    if text.isascii():
        return spans
    points = code_points(text)
    lengths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], np.cumsum(lengths)])[spans]


def count_pieces(documents, normalize, cut, progress=iter):
    """Counter of the pieces (bytes) of all documents (str), for the trainers.

    normalize: from str to str, a step for example. progress wraps the documents, as tqdm does.
    """
    counts = Counter()
    for document in progress(documents):
        counts.update(cut(normalize(document)))
    return Counter({piece.encode(): times for piece, times in counts.items()})


if __name__ == "__main__":
    from time import perf_counter

    text = "The naïve fox (aged 42) isn't 狐; it jumps. " * 20_000
    for name, cut in {"bert": bert_cut(), "metaspace": Metaspace()}.items():
        cut("makes the tables")
        start = perf_counter()
        cut.cut(text, np.array([[0, len(text)]]))
        print(f"cut={name} mb_per_s={len(text.encode()) / (perf_counter() - start) / 1e6:.0f}")
