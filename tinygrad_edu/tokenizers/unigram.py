"""Lesson 4.11 · Unigram: the most probable way to cut, and how to draw one

Needs kernel, loops, memory, trie, words. Used by sentencepiece,
sentencepiece_training.

Idea      BPE and WordPiece follow a recipe. Unigram, the model of T5 and XLM-R, has an opinion:
          each token has a probability, and a text has as many cuts as its tokens allow. The best
          cut is the one whose tokens, drawn independently, are most likely together. There are up
          to 2ⁿ⁻¹ cuts of n characters, but one need not look at them one by one: the best cut of
          the first j characters ends in some token, and before that token stands a best cut too.
          Since all cuts have a probability, one can also draw one at random. A model that is
          trained on a fresh cut in each epoch sees "un happy" as well as "unhappy", and typing
          errors upset it less: subword regularisation.
Math      a cut x₁ … x_k of a piece has the score Σ s(xᵢ), s(x) = ln p(x)                       (1)
          best[j] = max over tokens x = text[i:j] of  best[i] + s(x),  best[0] = 0              (2)
          a character that is no token itself may be unknown: s = (least s of all tokens) − 10  (3)
          unknown characters side by side become one unknown token, or bytes <0x00> … <0xFF>
          rest[i] = ln Σ over tokens x = text[i:j] of exp(α·s(x) + rest[j]),  rest[n] = 0       (4)
          drawing, from the left:  P(x = text[i:j]) = exp(α·s(x) + rest[j] − rest[i])           (5)
          α = 1 draws cuts as probable as the model thinks, α → 0 all alike, α → ∞ the best one
Shapes    text (N,) uint8, spans (P, 2) → marks (N,) int32 · scores (V + 1,) float64, the last for
          an unknown character
Pitfalls  (2) is Viterbi's algorithm. Of two cuts with equal scores the one found first stays: from
          left to right, and only a greater one replaces it. Another order is another tokenizer.
          Sums of logarithms: float32 loses the difference between long cuts that are nearly alike.
          (3) is a convention of SentencePiece, and so is the 10.
          (5) draws from all cuts exactly. SentencePiece can also draw from the n best only.
Cost      For each character a walk in the trie, as long as the longest token that begins there. No
          cut is ever built but the one that is returned.
Try       build it    the n best cuts: keep n entries for each j in (2).
          break it    let an equal score replace. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.unigram
See       Kudo 2018, "Subword Regularization", sections 3.2-3.3 · Viterbi 1967 · Kudo, Richardson
          2018 · Scott 2002 (forward filtering, backward sampling)
"""

import math

import numpy as np

from tinygrad_edu.kernel import Kernel
from tinygrad_edu.loops import helper
from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.trie import NONE, ROOT, Trie, child
from tinygrad_edu.tokenizers.words import MISSING, Model

PENALTY = 10.0  # of (3)
BYTE_TOKENS = [f"<0x{value:02X}>".encode() for value in range(256)]


def byte_ids(ids):
    """The ids of the 256 byte tokens, (256,) int32, or None where the list lacks one of them."""
    found = [ids.get(name, NONE) for name in BYTE_TOKENS]
    return None if NONE in found else np.array(found, np.int32)


@helper
def words_from(found, edges, ids, text, start, end, unknown):
    """found[k] = the token text[start : start + k + 1], or −1; returns how many are filled in.

    Where the first character is no token, its entry is the unknown one: (3).
    """
    size = 1
    while start + size < end and size < 4 and (text[start + size] & 0xC0) == 0x80:
        size += 1
    # The walk ends where no token goes on; whatever it passes is a prefix of some token.
    node, length = np.int64(ROOT), 0
    while start + length < end:
        node = child(edges, node, text[start + length])
        if node < 0:
            break
        found[length] = ids[node]
        length += 1
    while length < size:
        found[length] = NONE
        length += 1
    if found[size - 1] < 0:
        found[size - 1] = unknown
    return length


@helper
def log_add(a, b):
    """ln(eᵃ + eᵇ), also where one of them is −∞."""
    # The greater one in front, so that the exponential is at most 1.
    high, low = max(a, b), min(a, b)
    if low == -np.inf:
        return high
    return high + math.log1p(math.exp(low - high))


# ---- the best cut ------------------------------------------------------------------------------


@Kernel
def best_cut(marks, text, spans, edges, ids, scores, longest, whole):
    """The cut with the greatest score (1), by (2); an unknown character gets the mark V.

    whole: may one token be the whole piece? If not, this is the best cut into several, or none.
    """
    unknown = scores.size - 1
    found = np.empty(longest, np.int64)
    marks[...] = NONE
    for low, high in spans.tolist():
        best = {low: (0.0, NONE, NONE)}  # where it ends -> its score, its last token, where that is
        for i in range(low, high):
            if i in best:
                for k in range(words_from(found, edges, ids, text, i, high, unknown)):
                    if found[k] >= 0 and (whole or k + 1 < high - low):
                        score = best[i][0] + scores[found[k]]  # (2)
                        if i + k + 1 not in best or score > best[i + k + 1][0]:
                            best[i + k + 1] = score, found[k], i
        end = high if high in best else low
        while end > low:
            _, token, end = best[end]
            marks[end] = token


@best_cut.body("numba")
def best_cut_numba(marks, text, spans, edges, ids, scores, longest, whole):
    unknown = scores.size - 1
    found = np.empty(longest, np.int64)
    room = 1
    for p in range(spans.shape[0]):
        room = max(room, spans[p, 1] - spans[p, 0] + 1)
    # For each place of a piece: the best score there, its last token, and where that one begins.
    best = np.empty(room, np.float64)
    token = np.empty(room, np.int64)
    begin = np.empty(room, np.int64)
    marks[:] = -1
    # All tokens that end at a place begin further left: its score is final when i gets there.
    for p in range(spans.shape[0]):
        low, high = spans[p, 0], spans[p, 1]
        best[: high - low + 1] = -np.inf
        best[0] = 0
        for i in range(low, high):
            here = best[i - low]
            if here == -np.inf:
                continue  # inside a character
            for k in range(words_from(found, edges, ids, text, i, high, unknown)):
                if found[k] >= 0 and (whole or k + 1 < high - low):
                    score = here + scores[found[k]]  # (2)
                    end = i + k + 1 - low
                    if score > best[end]:
                        best[end], token[end], begin[end] = score, found[k], i
        # The best cut is known from its end only: each place knows where its last token begins.
        while high > low and best[high - low] > -np.inf:
            last = high - low
            high = begin[last]
            marks[high] = token[last]


# ---- a cut that is drawn -----------------------------------------------------------------------


@Kernel
def drawn_cut(marks, text, spans, edges, ids, scores, longest, alpha, chance):
    """A cut drawn by (5); chance (N,): numbers in [0, 1), of which each token takes one."""
    unknown = scores.size - 1
    found = np.empty(longest, np.int64)
    marks[...] = NONE
    for low, high in spans.tolist():
        ways = {}
        rest = {high: 0.0}
        for i in reversed(range(low, high)):
            count = words_from(found, edges, ids, text, i, high, unknown)
            tokens = [(i + k + 1, found[k]) for k in range(count) if found[k] >= 0]
            ways[i] = [(alpha * scores[x] + rest[j], j, x) for j, x in tokens if j in rest]
            if ways[i]:
                rest[i] = np.logaddexp.reduce([weight for weight, _, _ in ways[i]])  # (4)
        i = low
        while i < high:
            shares = np.cumsum(np.exp([weight - rest[i] for weight, _, _ in ways[i]]))  # (5)
            chosen = min(int(np.sum(shares <= chance[i])), len(shares) - 1)
            _, end, marks[i] = ways[i][chosen]
            i = end


@drawn_cut.body("numba")
def drawn_cut_numba(marks, text, spans, edges, ids, scores, longest, alpha, chance):
    unknown = scores.size - 1
    found = np.empty(longest, np.int64)
    rest = np.empty(text.size + 1, np.float64)
    marks[:] = -1
    for p in range(spans.shape[0]):
        low, high = spans[p, 0], spans[p, 1]
        rest[low : high + 1] = -np.inf
        rest[high] = 0
        # Inside a character rest may be filled in too; from the left nobody ever comes there.
        for i in range(high - 1, low - 1, -1):
            for k in range(words_from(found, edges, ids, text, i, high, unknown)):
                if found[k] >= 0:
                    rest[i] = log_add(rest[i], alpha * scores[found[k]] + rest[i + k + 1])  # (4)
        i = low
        while i < high:
            # The chances of the tokens that begin here lie end to end between 0 and 1; the number
            # drawn falls into one of them. Rounding may leave it behind the last: that one, then.
            passed = 0.0
            step = np.int64(0)
            for k in range(words_from(found, edges, ids, text, i, high, unknown)):
                if found[k] >= 0 and passed <= chance[i]:
                    passed += math.exp(alpha * scores[found[k]] + rest[i + k + 1] - rest[i])  # (5)
                    marks[i] = found[k]
                    step = k + 1
            i += step


class Unigram(Model):
    """Tokens with a score each, the logarithm of its probability.

    unknown        the id for what no token can write, or None
    byte_fallback  write it as byte tokens <0x00> … <0xFF> instead, which then must be in the list
    """

    def __init__(self, tokens, scores, unknown=None, byte_fallback=False):
        super().__init__(tokens, unknown)
        if len(scores) != len(self.tokens) or not np.all(np.isfinite(scores)):
            raise ValueError(
                f"{len(self.tokens)} tokens need as many finite scores, not {len(scores)}"
            )
        self.byte_fallback = byte_fallback
        self.trie = Trie(self.tokens)
        self.scores = np.append(scores, min(scores, default=0) - PENALTY).astype(float)  # (3)
        self.longest = max(map(len, self.tokens), default=0) + 4
        self.bytes = byte_ids(self.ids) if byte_fallback else None

    @property
    def arrays(self):
        """What the kernels read: the trie, the scores, and room for the longest token."""
        return self.trie.edges, self.trie.ids, self.scores, self.longest

    def mark(self, text, spans):
        """The marks of Model: the best cut of each piece."""
        marks = empty(text.shape, np.int32)
        best_cut(marks, text, spans, *self.arrays, True)
        return self._finished(marks, text, spans)

    def sample(self, text, spans, generator, alpha=1.0):
        """ids (M,) int32 of a cut of each piece, drawn by (5) with a numpy generator."""
        array = np.frombuffer(text, np.uint8)
        spans = np.ascontiguousarray(spans, np.int64)
        marks = empty(array.shape, np.int32)
        # A number for each byte, though only those where a token begins are looked at.
        chance = generator.random(array.size)
        drawn_cut(marks, array, spans, *self.arrays, float(alpha), chance)
        marks = self._finished(marks, array, spans)
        return marks[marks >= 0]

    def _finished(self, marks, text, spans):
        """Unknown characters, marked with V, become one unknown token for each run, or bytes."""
        begins = np.flatnonzero(marks >= 0)
        unknown = marks[begins] == self.vocab_size
        if self.unknown is not None and self.bytes is None:
            unknown |= marks[begins] == self.unknown  # somebody wrote out its name
        if not unknown.any():
            return marks
        # An unknown character right behind another one, in the same piece, says nothing new.
        piece = np.searchsorted(spans[:, 0], begins, "right") - 1
        again = unknown[1:] & unknown[:-1] & (piece[1:] == piece[:-1])
        marks[begins[unknown]] = MISSING if self.unknown is None else self.unknown
        marks[begins[1:][again]] = NONE
        if self.bytes is not None:
            ends = np.minimum(np.append(begins[1:], marks.size), spans[piece, 1])
            # A byte token for each byte of the character, all at their own places.
            for low, high in zip(begins[unknown], ends[unknown], strict=True):
                marks[low:high] = self.bytes[text[low:high]]
        return marks


if __name__ == "__main__":
    from time import perf_counter

    ends = ["ing", "ed", "er", "ation", "ly", "able", "ness"]
    tokens = [*"abcdefghijklmnopqrstuvwxyz▁", *ends, "un", "▁un", "re", "▁re", "happi", "▁do"]
    model = Unigram([token.encode() for token in tokens], -np.log(np.arange(2, len(tokens) + 2)))
    text = "▁unhappiness▁redoing▁lovable" * 30_000
    data, spans = text.encode(), np.array([[0, len(text.encode())]])
    generator = np.random.default_rng(0)
    for name, encode in {
        "best": model.encode_pieces, "drawn": lambda *args: model.sample(*args, generator)
    }.items():
        encode(data, spans)  # compile, then measure
        start = perf_counter()
        ids = encode(data, spans)
        rate = len(data) / (perf_counter() - start) / 1e6
        print(f"cut={name} bytes_per_token={len(data) / ids.size:.2f} mb_per_s={rate:.1f}")
