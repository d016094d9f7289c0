"""Lesson 4.12 · Normalize: the same text, always spelt the same way

Needs unicode. Used by sentencepiece, pretokenize,
decoders.

Idea      To a reader, "é" is one letter; in a file it is one code point or two, and "ﬁ" may be one
          or two, and some models want no capitals at all. A normalizer is a row of small steps that
          rewrite the text before it is cut. It forgets on purpose, so decoding cannot bring back
          what was there. But one thing must survive: where each character came from. Who asks
          which words of *their* text a token covers wants places in that text, not in the
          rewritten one. So each step can also tell, for every character it returns, the place of
          the one it was made from.
Math      a step:  text of n characters → text of m,  s: {0 … m−1} → {−1, 0 … n−1}              (1)
          two steps, s then t:  the place of character i is s(t(i)); −1 is "from nowhere"       (2)
          with changes: each new character takes the place of 1 − c old ones (c ≤ 0), of which it
          is aligned with the first, or is put behind the last one taken (c = 1)                (3)
          Unicode's forms: D takes letters and accents apart, C puts them together again; with K
          ("compatibility") also ﬁ → fi, ² → 2 and the like
Shapes    step(text) → text, quickly · step.trace(text) → (text, source (m,) int64, or None where
          every character stayed where it was)
Pitfalls  Lower case needs context: a Greek Σ ends a word as ς, but the package `tokenizers` looks
          at single characters and always writes σ, as is done here. And İ becomes two characters.
          Accents are found by category after D: without D, é has none. "Category M" also holds the
          vowel signs of Hindi and Thai: a step that strips accents there strips letters.
          The tables are those of three versions: unicodedata of this Python (3.11: Unicode 14),
          ours (16), and in the package between 8 and 17, one for each step. They differ only for
          characters that one of the two does not know yet:
          tests/cross/test_normalize_against_hf.py counts them.
          The package's list of Chinese characters lacks U+2B820 … U+2B91F; BERT's own had them.
Cost      step(text): one call of a string method in C where there is one. trace: Python, a
          character at a time, unless all stays as it was.
Try       build it    a step that writes all quotes as ' and ", with its trace.
          break it    in `trace` of Form, do not sort the accents. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.normalize
See       Unicode Standard Annex 15 (forms C, D, KC, KD) · Devlin et al. 2019, tokenization.py
"""

import functools
import re
import unicodedata

import numpy as np

from tinygrad_edu.tokenizers.unicode import WHITE_SPACE, category, code_points

SPACES = "".join(chr(point) for low, high in WHITE_SPACE for point in range(low, high + 1))
CHINESE = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F))
CHINESE += ((0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))


def compose(first, second):
    """The source of two steps, one after the other, from those of both (2)."""
    if first is None or second is None:
        return second if first is None else first
    return np.where(second < 0, -1, first[second]) if first.size else np.full(second.shape, -1)


def source_of(changes):
    """The source that a change for each new character gives, by (3)."""
    changes = np.array(changes, np.int64)
    taken = np.where(changes <= 0, 1 - changes, 0)
    before = np.cumsum(taken) - taken
    return np.where(changes <= 0, before, before - 1)


class Step:
    """One step of a normalizer; a subclass adds `trace`, and `__call__` where that can be fast."""

    def __call__(self, text):
        return self.trace(text)[0]


class Sequence(Step):
    """Several steps, one after the other."""

    def __init__(self, *steps):
        self.steps = steps

    def __call__(self, text):
        return functools.reduce(lambda so_far, step: step(so_far), self.steps, text)

    def trace(self, text):
        source = None
        for step in self.steps:
            text, moved = step.trace(text)
            source = compose(source, moved)
        return text, source


class Each(Step):
    """Each character becomes rewrite(character), a string of any length, aligned with it."""

    def __init__(self, rewrite):
        self.table = _Table(rewrite)

    def __call__(self, text):
        return text.translate(self.table)

    def trace(self, text):
        new = text.translate(self.table)
        used, which = np.unique(code_points(text), return_inverse=True)
        lengths = np.array([len(self.table[point]) for point in used.tolist()], np.int64)
        moved = np.any(lengths != 1)
        return new, np.repeat(np.arange(len(text)), lengths[which]) if moved else None


class _Table(dict):
    """Code point -> string; asked once for each character. str.translate reads such a dict."""

    def __init__(self, rewrite):
        self.rewrite = rewrite

    def __missing__(self, point):
        self[point] = self.rewrite(chr(point))
        return self[point]


class Lower(Each):
    """Small letters, each by itself: Σ never becomes ς."""

    def __init__(self):
        super().__init__(str.lower)

    def __call__(self, text):
        return "σ".join(part.lower() for part in text.split("Σ"))


def strip_accents(which="M"):
    """A step without the characters whose category begins so; "Mn" is what BERT strips, after D."""
    return Each(lambda character: "" if category(character).startswith(which) else character)


def clean_up():
    """BERT's first step: no control characters, and every white space is a space."""

    def rewrite(character):
        if character in SPACES and character not in "\v\f\x85":
            return " "
        gone = character in "\0\ufffd" or category(character) in ("Cc", "Cf", "Co")
        return "" if gone else character

    return Each(rewrite)


def space_chinese():
    """A space before and after each Chinese character, for BERT: each is to be a word."""

    def rewrite(character):
        found = any(low <= ord(character) <= high for low, high in CHINESE)
        return f" {character} " if found else character

    return Each(rewrite)


def bert(clean=True, chinese=True, accents=True, lower=True):
    """BERT's four steps, those that are wanted. accents: strip them."""
    steps = [clean_up()] * clean + [space_chinese()] * chinese
    steps += [Form("NFD"), strip_accents("Mn")] * accents + [Lower()] * lower
    return Sequence(*steps)


# ---- Unicode's forms ---------------------------------------------------------------------------


class Form(Step):
    """One of Unicode's four normal forms: "NFC", "NFD", "NFKC" or "NFKD"."""

    def __init__(self, name):
        self.name = name

    def __call__(self, text):
        return unicodedata.normalize(self.name, text)

    def trace(self, text):
        if unicodedata.is_normalized(self.name, text):
            return text, None
        parts = self._taken_apart(text)
        if "D" not in self.name:
            parts = put_together(parts)
        changes = [change for _, change in parts]
        return "".join(character for character, _ in parts), source_of(changes)

    def _taken_apart(self, text):
        """(character, change) of form D or KD: accents sorted by class, in each row of them."""
        apart = self.name.replace("C", "D") if self.name != "NFC" else "NFD"
        parts, row = [], []
        for character in text:
            for place, part in enumerate(unicodedata.normalize(apart, character)):
                accent = unicodedata.combining(part)
                if not accent:
                    parts += [item for _, item in sorted(row, key=lambda pair: pair[0])]
                    row = []
                row.append((accent, (part, int(place > 0))))
        return parts + [item for _, item in sorted(row, key=lambda pair: pair[0])]


def put_together(parts):
    """(character, change) of form C from those of form D.

    A letter takes up every accent behind it that makes another letter with it, unless an accent of
    the same class, or of a higher one, stands between them.
    """
    result, letter, between = [], None, -1
    for character, change in parts:
        accent = unicodedata.combining(character)
        if letter is not None and between < accent:
            base, taken = result[letter]
            whole = unicodedata.normalize("NFC", base + character)
            if len(whole) == 1:
                result[letter] = whole, taken + change - 1
                continue
        if accent == 0:
            letter = len(result)
        between = accent if accent else -1
        result.append((character, change))
    return result


class Replace(Step):
    """Every match of a string, or with regex=True of a pattern, becomes `content`.

    What is new is aligned with the last character of the match.
    """

    def __init__(self, pattern, content, regex=False):
        self.pattern, self.content, self.regex = pattern, content, regex
        self._find = compiled(pattern if regex else re.escape(pattern), plain=not regex)

    def __call__(self, text):
        return self._find.sub(lambda match: self.content, text)

    def trace(self, text):
        new, source, at = [], [], 0
        for match in self._find.finditer(text):
            low, high = match.span()
            new += [text[at:low], self.content]
            source += [*range(at, low), *[high - 1] * len(self.content)]
            at = high
        if not new:
            return text, None
        return "".join([*new, text[at:]]), np.array([*source, *range(at, len(text))], np.int64)


class Prepend(Step):
    """A string before every text that is not empty, aligned with the first character."""

    def __init__(self, content):
        self.content = content

    def trace(self, text):
        if not text:
            return text, None
        source = np.maximum(np.arange(-len(self.content), len(text)), 0)
        return self.content + text, source


class Strip(Step):
    """No white space on the left, on the right, or on both sides."""

    def __init__(self, left=True, right=True):
        self.left, self.right = left, right

    def trace(self, text):
        high = len(text.rstrip(SPACES)) if self.right else len(text)
        low = len(text) - len(text.lstrip(SPACES)) if self.left else 0
        kept = text[low:high]
        return kept, None if kept == text else np.arange(low, low + len(kept))


def compiled(pattern, plain=False):
    """A pattern of a tokenizer file, ready to search with.

    Python's `re` serves where it must agree: no classes, no escapes. Others need the package
    `regex`, which knows \\p{L}. ValueError where that is missing, or the pattern is none.
    """
    if plain or re.fullmatch(r"[^\\\[\](){}?.|^$*+]+(\{\d+,?\d*\}|\+)?", pattern):
        return re.compile(pattern)
    try:
        import regex
    except ImportError:
        message = f"the pattern {pattern!r} needs the package regex: pip install regex"
        raise ValueError(message) from None
    try:
        return regex.compile(pattern, regex.VERSION0)
    except regex.error as error:
        raise ValueError(f"the pattern {pattern!r} cannot be read: {error}") from None


if __name__ == "__main__":
    from time import perf_counter

    sample = "The naïve ﬁsh, déjà vu; Ελλάς and 狐狸. " * 2000
    step = bert()
    start = perf_counter()
    quick = step(sample)
    middle = perf_counter()
    same = quick == step.trace(sample)[0]
    size = len(sample.encode()) / 1e6
    quickly, traced = size / (middle - start), size / (perf_counter() - middle)
    print(f"bert_mb_per_s={quickly:.1f} trace_mb_per_s={traced:.2f} same={same}")
