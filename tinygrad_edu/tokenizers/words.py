"""Lesson 4.9 · Models over a list: bytes and words

Needs memory, presplit, trie. Used by wordpiece, unigram, sentencepiece.

Idea      Between the cut of a text into pieces and the numbers stands the model (the word that
          files use for it): a numbered list of tokens, and a rule that writes one piece as a row of
          them.
          The two simplest rules are the two ends of a scale. Bytes: every byte is its own token;
          256 tokens write anything, but a sentence takes a hundred of them. Words: every piece is
          one token; a sentence takes twenty, but the list never ends. Whatever is not on it becomes
          [UNK], "unknown", and the text cannot be told from the numbers any more. All other models
          (BPE before this lesson, WordPiece and Unigram after it) lie between these two.
Math      Zipf's law: the r-th most frequent word occurs about c/r times. The V most frequent words
          so cover a share of about ln V / ln(all different words) of a text, since
          1 + 1/2 + … + 1/V ≈ ln V                                                              (1)
Shapes    text (N,) uint8 · spans (P, 2): piece p is text[spans[p, 0] : spans[p, 1]]; there may be
          gaps between the pieces (white space that was dropped)
          → marks (N,) int32: the id of the token that begins at this byte, else −1
          → ids (M,) int32 and where each token lies, (M, 2)
Pitfalls  A list without [UNK] cannot write an unknown word: that is refused, never skipped.
          Names, numbers and typing errors are new words for ever: by (1) a larger list helps less
          and less. On 90 % of the standard library of Python, a list of 8,192 words leaves 7.2 %
          of the pieces of the other 10 % unknown, and bytes none: `measure it`.
Cost      One look-up a piece in the trie; a byte is its own number.
Try       build it    a model that writes an unknown word as its bytes instead of as [UNK].
          break it    let `located` end a token where the next one begins, gap or not. Which test
                      notices?
          measure it  python -m tinygrad_edu.tokenizers.words
See       Zipf 1949 · Xue et al. 2022, "ByT5" (bytes all the way)
"""

import numpy as np

from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.trie import NONE, Trie, find_words

UNKNOWN = "[UNK]"
MISSING = -2  # a mark: no token for what begins here, not even an unknown one


class Model:
    """What all models over a list share. A subclass adds `mark(text, spans) -> marks`.

    tokens   list of V byte strings, all different; a token's place is its id
    unknown  the id that stands for what the list cannot write, or None
    """

    def __init__(self, tokens, unknown=None):
        self.tokens = list(tokens)
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self.ids) < len(self.tokens):
            twice = next(t for i, t in enumerate(self.tokens) if self.ids[t] != i)
            raise ValueError(f"the token {twice!r} stands twice in the list")
        if unknown is not None and not 0 <= unknown < len(self.tokens):
            raise ValueError(f"the unknown token has the id {unknown}, which the list lacks")
        self.unknown = unknown

    @property
    def vocab_size(self):
        """V, the length of the list."""
        return len(self.tokens)

    def encode_piece(self, piece):
        """The ids of one piece (bytes), as a list."""
        return self.encode_pieces(piece, np.array([[0, len(piece)]])).tolist()

    def encode_pieces(self, text, spans):
        """The ids, (M,) int32, of the pieces of `text` (UTF-8 bytes) that spans (P, 2) names."""
        marks = self.marked(text, spans)
        return marks[marks >= 0]

    def locate(self, text, spans):
        """(ids (M,) int32, (M, 2) int64): the same ids, and the bytes that each covers."""
        return located(self.marked(text, spans), spans)

    def marked(self, text, spans):
        """The marks of `mark`. ValueError where something can be written neither so nor so."""
        spans = np.ascontiguousarray(spans, np.int64)
        marks = self.mark(np.frombuffer(text, np.uint8), spans)
        missing = np.flatnonzero(marks == MISSING)
        if missing.size:
            place = np.searchsorted(spans[:, 0], missing[0], "right") - 1
            piece = bytes(text[spans[place, 0] : spans[place, 1]]).decode("utf-8", "replace")
            raise ValueError(
                f"no token can write {piece[:40]!r}, and the tokenizer has none for what is "
                "unknown; train it on text that has it, or give it an unknown token"
            )
        return marks


def located(marks, spans):
    """ids and byte ranges from marks: a token ends where the next begins, or with its piece."""
    begins = np.flatnonzero(marks >= 0)
    piece = np.searchsorted(spans[:, 0], begins, "right") - 1
    ends = np.minimum(np.append(begins[1:], marks.size)[: begins.size], spans[piece, 1])
    return marks[begins], np.stack([begins, ends], axis=1)


def covered(size, spans):
    """(size,) bool: which places lie in one of the spans (P, 2)."""
    # +1 where a piece begins, −1 where one ends: the running sum is 1 inside, 0 in the gaps.
    steps = np.bincount(spans[:, 0], minlength=size + 1)
    steps -= np.bincount(spans[:, 1], minlength=size + 1)
    return np.cumsum(steps[:size]) > 0


class Bytes(Model):
    """Every byte is the token of its own value; `first` ids before them are for special tokens."""

    def __init__(self, before=()):
        super().__init__([*before, *(bytes([value]) for value in range(256))])
        self.first = len(before)

    def mark(self, text, spans):
        """The marks of Model: inside the pieces, the byte itself."""
        inside = covered(text.size, spans)
        return np.where(inside, text.astype(np.int32) + self.first, NONE).astype(np.int32)


class Words(Model):
    """Every piece is one token, or the unknown one."""

    def __init__(self, tokens, unknown=None):
        super().__init__(tokens, unknown)
        self.trie = Trie(self.tokens)

    def mark(self, text, spans):
        """The marks of Model: at the first byte of each piece, its id."""
        found = empty(len(spans), np.int32)
        find_words(found, text, spans, self.trie.edges, self.trie.ids)
        found[found == NONE] = MISSING if self.unknown is None else self.unknown
        marks = np.full(text.shape, NONE, np.int32)
        some = spans[:, 0] < spans[:, 1]
        marks[spans[some, 0]] = found[some]
        return marks


def train_words(counts, vocab_size, special=(UNKNOWN,)):
    """Words of the most frequent pieces; counts: dict from piece (bytes) to how often it occurs.

    vocab_size counts the special tokens, which come first; the first of them is the unknown one.
    Among equals the smaller byte string comes first. Where there are fewer pieces, so be it.
    """
    names = [name.encode() for name in special]
    room = vocab_size - len(names)
    if room < 1:
        raise ValueError(f"a vocabulary of {vocab_size} has no room for words")
    reserved = set(names)
    ranked = sorted((-count, piece) for piece, count in counts.items() if piece not in reserved)
    return Words(names + [piece for _, piece in ranked[:room]], unknown=0 if names else None)


if __name__ == "__main__":
    from collections import Counter
    from time import perf_counter

    from tinygrad_edu.tokenizers.presplit import pieces, presplit, python_library

    texts = python_library()
    words = train_words(Counter(p for i, t in enumerate(texts) if i % 10 for p in pieces(t)), 8192)
    seen = unknown = took = 0
    for text in texts[::10]:
        cuts = presplit(text)
        start = perf_counter()
        ids = words.encode_pieces(text, np.stack([cuts[:-1], cuts[1:]], axis=1))
        took += perf_counter() - start
        seen += ids.size
        unknown += int(np.sum(ids == words.unknown))
    size = sum(map(len, texts[::10]))
    print(
        f"bytes={size} pieces={seen} unknown_percent={100 * unknown / seen:.1f} "
        f"bytes_per_token={size / seen:.2f} encode_mb_per_s={size / took / 1e6:.0f}"
    )
