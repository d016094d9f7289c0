r"""Lesson 4.4 · Patterns: how later models cut their text

Needs foreign, kernel, loops, memory, presplit, unicode. Used by bpe.

Idea      GPT-2's cut has habits that cost tokens: I'LL is no contraction, a number of nine digits
          is one piece, a tab does not join the word behind it, and a line end is a piece of its own
          even after a full stop. GPT-4 mended all four, and most models since have copied its
          pattern with small changes. A pattern is part of a tokenizer like its list of tokens:
          another cut gives other ids. So each is written down here under a name, as it was
          published, with a scanner that reads it from left to right.
Math      gpt4 (cl100k), the first alternative that matches at a position wins:                 (1)
              '(?i:[sdmt]|ll|ve|re)|[^\r\n L N]?L+|N{1,3}| ?[^\s L N]+[\r\n]*
              |\s+$|\s*[\r\n]|\s+(?!\S)|\s
          llama3 is (1) without the alternative \s+$, so that white space at the very end of the
          text is cut behind its last line end, as anywhere else                                (2)
          qwen2 is llama3 with N in place of N{1,3}: every digit alone
          (?i:…) ignores case as Unicode has it: ſ (U+017F, a long s) counts as an s            (3)
          smollm2: every N is a piece; what lies between two of them is cut by gpt2, by itself  (4)
          none: the whole text is one piece
Shapes    as in presplit: text, classes (N,) uint8 → begins (N,) bool → cuts (P + 1,) int64
          digits: the most digits of a piece · whole_end: whether there is the alternative \s+$
Pitfalls  By (4) the white space before a digit ends a text: "a  7" is "a", "  ", "7", where gpt2
          alone says "a", " ", " 7".
          A pattern is tried from left to right at each position, and the first alternative that
          matches wins, however short it is: ' and s are a contraction, though 'snow begins so, too.
          Greedy runs give back what a later part needs: \s*[\r\n] takes all white space up to the
          last line end in it, and \s+(?!\S) all but the last, since what follows is no \S then.
          Under (1) any character but a letter, a digit and a line end can lead a word: "(x" and
          "\tx" are one piece each. That is shorter, and "(x" learns nothing from " x".
          GPT-4's pattern was published in two forms. In the first there is no \s+$, as in llama3;
          the package tiktoken has the second. On most texts the two agree.
Cost      One pass over the classes of the bytes: a scanner looks at each byte about twice, where a
          program for regular expressions decides at each of them which alternatives are left.
Try       build it    o200k, the pattern of GPT-4o, which cuts at a change from lower to upper case.
          break it    leave (3) out. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.patterns
See       openai/tiktoken, tiktoken_ext/openai_public.py (cl100k_base) · meta-llama/llama3,
          tokenizer.json · Qwen/Qwen2, tokenizer.json · HuggingFaceTB/SmolLM2, tokenizer.json ·
          Dagan, Synnaeve, Roziere 2024 "Getting the most out of your tokenizer" (what cuts do)
"""

import numpy as np

from tinygrad_edu.foreign import any_C, fits_any, out, ptr
from tinygrad_edu.kernel import Kernel
from tinygrad_edu.loops import helper
from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.presplit import python_library, split_gpt2, split_gpt2_numba
from tinygrad_edu.tokenizers.unicode import CONTINUES, LETTER, NUMBER, OTHER, SPACE, gpt2_classes

LINE_END, RETURN, BLANK, APOSTROPHE = b"\n\r '"
D, E, L, M, R, S, T, V = b"delmrstv"
LOWER = 0x20  # the bit that makes an ASCII letter a small one

# The patterns as their authors wrote them: what a tokenizer.json of these models holds.
WHITE_ONLY = r"\s+(?!\S)|\s+"
CASELESS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
PUNCTUATION = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|" + WHITE_ONLY,
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "llama3": CASELESS + r"\p{N}{1,3}" + PUNCTUATION + WHITE_ONLY,
    "qwen2": CASELESS + r"\p{N}" + PUNCTUATION + WHITE_ONLY,
}


# ---- the pattern of GPT-4 and its kin --------------------------------------------------------


@Kernel
def split_gpt4(begins, text, classes, digits, whole_end):
    """Mark the first byte of each piece of (1), piece by piece.

    A byte that is no UTF-8 is a character of its own here, as it is in `classes`.
    """
    string = text.tobytes().decode("utf-8", "surrogateescape")
    at = np.flatnonzero(classes != CONTINUES)  # one entry for each character of the string
    kinds = classes[at].tolist()
    begins[...] = False
    i = 0
    while i < len(string):
        begins[at[i]] = True
        i = end_of_piece(string, kinds, digits, whole_end, i)


def end_of_piece(string, kinds, digits, whole_end, i):
    """Where the piece that begins at character i ends: the alternatives of (1), in their order."""

    def run(start, wanted):
        """The end of the characters of this kind that begin at `start`."""
        while start < len(string) and kinds[start] == wanted:
            start += 1
        return start

    if string[i] == "'":
        short = string[i + 1 : i + 3].lower().replace("ſ", "s")  # (3)
        if short[:1] in tuple("sdmt"):
            return i + 2
        if short in ("ll", "ve", "re"):
            return i + 3
    lead = i + (kinds[i] in (OTHER, SPACE) and string[i] not in "\r\n")
    if run(lead, LETTER) > lead:  # a word, perhaps behind one character that is no letter
        return run(lead, LETTER)
    if kinds[i] == NUMBER:
        return min(run(i, NUMBER), i + digits)
    lead = i + (string[i] == " ")
    if (end := run(lead, OTHER)) > lead:
        while end < len(string) and string[end] in "\r\n":
            end += 1
        return end
    end = run(i, SPACE)
    if end == len(string) and whole_end:  # (2)
        return end
    # White space: up to its last line end if it has one, else all but the character that may go
    # with what follows.
    line_end = max(string.rfind("\n", i, end), string.rfind("\r", i, end))
    if line_end >= 0:
        return line_end + 1
    return end if end in (len(string), i + 1) else end - 1


@helper
def run_of(kind, classes, i):
    """The end of the characters of this kind that begin at byte i."""
    while i < classes.size and (classes[i] == kind or classes[i] == CONTINUES):
        i += 1
    return i


@helper
def contraction(text, i):
    """The bytes of a contraction at byte i in upper or lower case, 0 where there is none."""
    if text[i] != APOSTROPHE or i + 1 == text.size:
        return 0
    one = text[i + 1] | LOWER
    two = text[i + 2] if i + 2 < text.size else 0
    if one == S or one == D or one == M or one == T:
        return 2
    if text[i + 1] == 0xC5 and two == 0xBF:  # (3)
        return 3
    two |= LOWER
    return 3 if one == L and two == L or (one == V or one == R) and two == E else 0


@helper
def end_of_space(text, classes, whole_end, i):
    """The end of a piece that begins with white space at byte i."""
    end = run_of(SPACE, classes, i)
    if end == text.size and whole_end:  # (2)
        return end
    last = end
    while last > i and text[last - 1] != LINE_END and text[last - 1] != RETURN:
        last -= 1
    if last > i:
        return last
    last = end - 1
    while classes[last] == CONTINUES:
        last -= 1
    return end if end == text.size or last == i else last


@split_gpt4.body("numba")
def split_gpt4_numba(begins, text, classes, digits, whole_end):
    begins[:] = False
    i = 0
    while i < text.size:
        begins[i] = True
        short = contraction(text, i)
        if short:
            i += short
            continue
        kind = classes[i]
        line_end = text[i] == LINE_END or text[i] == RETURN
        # Bytes of the same character are passed over: `following` is where the next one begins.
        following = run_of(CONTINUES, classes, i + 1)
        after = classes[following] if following < text.size else SPACE
        if kind == NUMBER:
            for _ in range(1, digits):
                if following < text.size and classes[following] == NUMBER:
                    following = run_of(CONTINUES, classes, following + 1)
            i = following
        elif kind == LETTER or after == LETTER and not line_end:
            i = run_of(LETTER, classes, following)
        elif kind == OTHER or after == OTHER and text[i] == BLANK:
            i = run_of(OTHER, classes, following)
            while i < text.size and (text[i] == LINE_END or text[i] == RETURN):
                i += 1
        else:
            i = end_of_space(text, classes, whole_end, i)


@split_gpt4.body("native", when=fits_any)
def split_gpt4_native(begins, text, classes, digits, whole_end):
    any_C().split_gpt4(out(begins), ptr(text), ptr(classes), digits, whole_end, text.size)


# ---- digits alone ----------------------------------------------------------------------------


@Kernel
def split_digits(begins, text, classes):
    """Mark each number, and the pieces of gpt2 in every part between two of them: (4)."""
    begins[...] = False
    first = 0
    for place in [*np.flatnonzero(classes == NUMBER).tolist(), text.size]:
        part = slice(first, place)
        split_gpt2.bodies["numpy"].run(begins[part], text[part], classes[part])
        if place < text.size:
            begins[place] = True  # (4)
        first = run_of(CONTINUES, classes, place + 1)


@split_digits.body("numba")
def split_digits_numba(begins, text, classes):
    begins[:] = False
    i = 0
    while i < text.size:
        end = i
        while end < text.size and classes[end] != NUMBER:
            end += 1
        split_gpt2_numba(begins[i:end], text[i:end], classes[i:end])
        if end < text.size:
            begins[end] = True  # (4)
        i = run_of(CONTINUES, classes, end + 1)


@split_digits.body("native", when=fits_any)
def split_digits_native(begins, text, classes):
    any_C().split_digits(out(begins), ptr(text), ptr(classes), text.size)


# ---- texts -----------------------------------------------------------------------------------

SCANNERS = {  # name -> kernel, and what it is told beside the text
    "gpt2": (split_gpt2,),
    "gpt4": (split_gpt4, 3, True),
    "llama3": (split_gpt4, 3, False),
    "qwen2": (split_gpt4, 1, False),
    "smollm2": (split_digits,),
    "none": None,
}


def check_pattern(pattern):
    """ValueError for a name that is none of SCANNERS."""
    if pattern not in SCANNERS:
        raise ValueError(f"there is no pattern {pattern!r}; known are {', '.join(SCANNERS)}")


def mark_pieces(begins, text, pattern):
    """Set `begins`, (N,) bool, to True where a piece of the uint8 array `text` begins.

    All else becomes False. pattern: a name of SCANNERS.
    """
    if SCANNERS[pattern] is None or not text.size:
        begins[...] = False
        begins[:1] = True
        return
    scanner, *options = SCANNERS[pattern]
    scanner(begins, text, gpt2_classes(text), *options)


def cuts(text, pattern="gpt2"):
    """The cuts, (P + 1,) int64, of `text` (bytes): piece p is text[cuts[p] : cuts[p + 1]]."""
    check_pattern(pattern)
    array = np.frombuffer(text, np.uint8)
    begins = empty(array.shape, np.bool_)
    mark_pieces(begins, array, pattern)
    return np.append(np.flatnonzero(begins), array.size)


if __name__ == "__main__":
    from time import perf_counter

    texts = python_library()
    told = [f"bytes={sum(map(len, texts))}"]
    for name in SCANNERS:
        cuts(b"whoever compiles does it here", name)
        start = perf_counter()
        pieces = sum(cuts(text, name).size - 1 for text in texts)
        told.append(f"{name}={pieces} {name}_s={perf_counter() - start:.2f}")
    print(*told)
