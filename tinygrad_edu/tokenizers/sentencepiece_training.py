"""Lesson 4.36 · Training as SentencePiece does: join characters, or drop the least missed tokens

Needs kernel, presplit, sentencepiece, trie, unigram, wordpiece. Used by nothing.

Idea      BPE over characters grows its list as byte-level BPE does: lesson wordpiece counts the
          pairs, and the last function here only says where to begin. Unigram shrinks its list. It
          begins with every string that occurs often and is long, many times more than wanted. Then
          two questions alternate. How probable is each token? Nobody knows how the text "really"
          was cut, so every cut counts, as much as it is probable under the numbers of the last
          round: expectation maximisation, EM. And which tokens are not missed? Those that could be
          written with others at little cost; often "ings" as "ing" + "s". A quarter goes at a time,
          until the list is as long as wanted. Single characters always stay, since without them
          there would be text that cannot be written.
Math      seeds: strings of at most 16 characters within a piece, those with the greatest
          count · length                                                                        (1)
          E: n(x) = Σ over pieces, times the piece occurs, of Σ over cuts of P(cut) · (times x is in
             it);  for x = text[i:j] that is  exp(left[i] + s(x) + rest[j] − rest[0]), rest as in
             lesson unigram and left[j] = ln Σ over x = text[i:j] of exp(left[i] + s(x))        (2)
          M: s(x) = ψ(n(x)) − ψ(Σ n)                                                            (3)
             ψ, the derivative of ln Γ, is about ln(n − ½): a token that is rarely needed loses
          with f(x), how often x is in the best cuts of all pieces, and F, the sum of all f,
          dropping x costs f(x) · (s(x) − Σ s′(y)), where y₁ … y_k is the best other cut of x,
          s(x) = ln(f(x) / F) and s′(y) = ln((f(y) + f(x)) / (F + (k − 1)·f(x)))                (4)
Shapes    counts (V + 1,), loss (1,) float64: sums over pieces · text (N,), spans (P, 2) of it,
          weights (P,): how often each piece occurs
Pitfalls  EM finds a local maximum: what it ends in depends on the seeds.
          (2) multiplies probabilities of a whole piece: with sums of logarithms, or it underflows.
          A token that was dropped never comes back. So prune a part, then look again.
          Fewer tokens a text are not the aim of Unigram, likelihood is; yet on code it needs fewer
          than BPE: 3.62 bytes a token against 3.54 with 4,096 tokens (`measure it`).
Cost      The seeds: all substrings of the distinct pieces, in a dict. Each round reads all distinct
          pieces three times; threads share them, each with counts of its own.
Try       build it    a Unigram that starts from the tokens of a BPE. Is it better, is it faster?
          break it    use ln n instead of ψ(n) in (3). How many tokens survive the first round?
          measure it  python -m tinygrad_edu.tokenizers.sentencepiece_training
See       Kudo 2018, section 3.2 · Dempster, Laird, Rubin 1977 (EM) · Baum 1972 (2) · Beal 2003 (ψ)
"""

from collections import Counter

import numpy as np

from tinygrad_edu.kernel import Kernel
from tinygrad_edu.tokenizers.sentencepiece import CharacterBPE
from tinygrad_edu.tokenizers.trie import NONE
from tinygrad_edu.tokenizers.unigram import BYTE_TOKENS, Unigram, best_cut, log_add, words_from
from tinygrad_edu.tokenizers.wordpiece import alphabet, learn

SPECIAL = ("<unk>", "<s>", "</s>")
LONGEST = 16  # characters of a token
NEEDED = 0.5  # expected times below which a token is dropped at once
KEPT = 0.75  # the share of tokens that a round of pruning leaves


@Kernel(outputs=2)
def expected_counts(counts, loss, text, spans, weights, edges, ids, scores, longest):
    """n(x) of (2) for all tokens, and minus the log likelihood of all pieces."""
    unknown = scores.size - 1
    found = np.empty(longest, np.int64)
    counts[...] = loss[...] = 0
    for (low, high), weight in zip(spans.tolist(), weights, strict=True):
        # Every token of every cut as (i, j, token), from left to right.
        steps = []
        for i in range(low, high):
            if (text[i] & 0xC0) != 0x80:
                length = words_from(found, edges, ids, text, i, high, unknown)
                steps += [(i, i + k + 1, found[k]) for k in range(length) if found[k] >= 0]
        left = np.full(high + 1, -np.inf)
        rest = np.full(high + 1, -np.inf)
        left[low] = 0
        rest[high] = 0
        for i, j, x in steps:
            left[j] = np.logaddexp(left[j], left[i] + scores[x])
        for i, j, x in reversed(steps):
            rest[i] = np.logaddexp(rest[i], scores[x] + rest[j])
        for i, j, x in steps:
            counts[x] += weight * np.exp(left[i] + scores[x] + rest[j] - rest[low])  # (2)
        loss[0] -= weight * rest[low]


@expected_counts.body("numba", rows="spans weights", sums="counts loss")
def expected_counts_numba(counts, loss, text, spans, weights, edges, ids, scores, longest):
    unknown = scores.size - 1
    found = np.empty(longest, np.int64)
    # left and rest have one number for each place of the longest piece, and serve all pieces.
    counts[:] = 0
    loss[:] = 0
    room = 1
    for p in range(spans.shape[0]):
        room = max(room, spans[p, 1] - spans[p, 0] + 1)
    left = np.empty(room, np.float64)
    rest = np.empty(room, np.float64)
    for p in range(spans.shape[0]):
        low, high = spans[p, 0], spans[p, 1]
        size = high - low
        left[: size + 1] = -np.inf
        rest[: size + 1] = -np.inf
        left[0] = 0
        rest[size] = 0
        # From the right: how probable is all that follows a place, over all cuts of it? Then from
        # the left the same for what precedes it, and both together say how probable a token is.
        for i in range(high - 1, low - 1, -1):
            if (text[i] & 0xC0) != 0x80:
                for k in range(words_from(found, edges, ids, text, i, high, unknown)):
                    if found[k] >= 0:
                        with_it = scores[found[k]] + rest[i - low + k + 1]
                        rest[i - low] = log_add(rest[i - low], with_it)
        for i in range(low, high):
            if (text[i] & 0xC0) != 0x80:
                here = left[i - low]
                for k in range(words_from(found, edges, ids, text, i, high, unknown)):
                    if found[k] >= 0:
                        upto, end = here + scores[found[k]], i - low + k + 1
                        left[end] = log_add(left[end], upto)
                        counts[found[k]] += weights[p] * np.exp(upto + rest[end] - rest[0])  # (2)
        loss[0] -= weights[p] * rest[0]


def digamma(n):
    """ψ(n) for positive n: shifted to n + 6 by ψ(n) = ψ(n + 1) − 1/n, then its long series."""
    n = np.asarray(n, float)
    shifted = n + 6
    # Far from 0 three terms of the series are enough: for n = ½ they are off by 2e-9.
    inverse = 1 / shifted**2
    terms = 1 / 120 - inverse / 252
    terms = 1 / 12 - inverse * terms
    series = np.log(shifted) - 0.5 / shifted - inverse * terms
    for k in range(6):
        series -= 1 / (n + k)
    return series


class Pieces:
    """The distinct pieces laid end to end, with their counts, as the kernels read them."""

    def __init__(self, counts):
        pieces = sorted(counts)
        ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        self.text = np.frombuffer(b"".join(pieces), np.uint8)
        self.spans = np.stack([np.append(0, ends)[:-1], ends], axis=1)
        self.weights = np.array([counts[piece] for piece in pieces], float)

    def expected(self, tokens, scores):
        """(n(x) of (2) for all tokens, loss)."""
        counts, loss = np.empty(len(tokens) + 1), np.empty(1)
        model = Unigram(tokens, scores)
        expected_counts(counts, loss, self.text, self.spans, self.weights, *model.arrays)
        return counts[:-1], loss[0]

    def in_best_cuts(self, tokens, scores):
        """f(x) of (4): how often each token is in the best cuts."""
        model = Unigram(tokens, scores)
        marks = np.empty(self.text.shape, np.int32)
        best_cut(marks, self.text, self.spans, *model.arrays, True)
        # Characters that were not kept have the mark V, and count for nothing.
        begins = np.flatnonzero((marks >= 0) & (marks < len(tokens)))
        piece = np.searchsorted(self.spans[:, 0], begins, "right") - 1
        return np.bincount(marks[begins], self.weights[piece], len(tokens))


def seeds(counts, letters, most, names=()):
    """(tokens, count of each): characters, then the `most` best strings by (1), no names."""
    known = set(letters)
    found = Counter()
    for piece, times in counts.items():
        text = piece.decode()
        for i in range(len(text)):
            for j in range(i + 1, min(i + LONGEST, len(text)) + 1):
                if text[j - 1] not in known:
                    break
                found[text[i:j]] += times
    # What occurs once would only repeat the text.
    long = [text for text, n in found.items() if len(text) > 1 < n and text.encode() not in names]
    long.sort(key=lambda text: (-found[text] * len(text), text))
    chosen = [*letters, *long[:most]]
    return [text.encode() for text in chosen], np.array([found[text] for text in chosen], float)


def maximise(tokens, counts, fixed):
    """(tokens, scores) by (3); what is hardly needed goes, but never the first `fixed`."""
    kept = [k for k in range(len(tokens)) if k < fixed or counts[k] >= NEEDED]
    counts = np.maximum(counts[kept], NEEDED)
    # Were the probabilities themselves drawn at random, this would be the mean of their logarithm.
    scores = digamma(counts) - digamma(max(counts.sum(), NEEDED))  # (3)
    return [tokens[k] for k in kept], scores


def prune(tokens, scores, pieces, fixed, wanted):
    """(tokens, scores) of the characters and those others that would cost most to write, (4)."""
    # What a token is worth is asked of the best cuts alone: that is how it will be used.
    f = pieces.in_best_cuts(tokens, scores)
    own = Pieces(dict.fromkeys(tokens[fixed:], 1))
    model = Unigram(tokens, scores)
    marks = np.empty(own.text.shape, np.int32)
    best_cut(marks, own.text, own.spans, *model.arrays, False)
    total = f.sum()
    losses = []
    # The best cut of x into several tokens, and what they would cost if they took its place.
    for low, high in own.spans.tolist():
        x = model.ids[own.text[low:high].tobytes()]
        others = marks[low:high][marks[low:high] != NONE]
        if f[x] > 0:
            loss = len(others) * np.log(total + (len(others) - 1) * f[x]) - np.log(total)
            loss += np.log(f[x]) - np.log(f[others] + f[x]).sum()
            losses.append((f[x] * loss, x))  # (4)
    losses.sort(key=lambda pair: (-pair[0], pair[1]))
    kept = [*range(fixed), *sorted(x for _, x in losses[: wanted - fixed])]
    return [tokens[k] for k in kept], scores[kept]


def refuse_too_small(vocab_size, before, letters):
    """ValueError where a vocabulary has no room for what must be in it."""
    if vocab_size < before + letters:
        raise ValueError(
            f"a vocabulary of {vocab_size} is too small: it has to hold {before} special and byte "
            f"tokens and {letters} characters"
        )


def train_unigram(
    counts,
    vocab_size,
    special=SPECIAL,
    most=1000,
    seed_factor=10,
    byte_fallback=False,
    progress=iter,
):
    """A Unigram of at most vocab_size tokens; counts: dict from piece (bytes) to its count.

    special: names that come first, of which the first is the unknown one; with byte_fallback 256
    byte tokens follow. most: how many characters are kept. seed_factor: seeds for each token
    wanted. progress wraps the rounds, as tqdm does. Tokens are ordered by score.
    """
    letters = alphabet(counts, most)
    before = [name.encode() for name in special] + BYTE_TOKENS * byte_fallback
    wanted, fixed = vocab_size - len(before), len(letters)
    refuse_too_small(vocab_size, len(before), fixed)
    tokens, times = seeds(counts, letters, seed_factor * wanted, set(before))
    scores = np.log(np.maximum(times, NEEDED) / max(times.sum(), 1))
    pieces = Pieces(counts)
    # Each round leaves three quarters of the tokens; the last one, all that are wanted.
    rounds = 1 + max(0, int(np.ceil(np.log(1.1 * wanted / max(len(tokens), 1)) / np.log(KEPT))))
    for last in progress([False] * (rounds - 1) + [True]):
        for _ in range(2):
            expected, _ = pieces.expected(tokens, scores)
            tokens, scores = maximise(tokens, expected, fixed)
        size = wanted if last else max(int(1.1 * wanted), int(KEPT * len(tokens)))
        if len(tokens) > size:
            tokens, scores = prune(tokens, scores, pieces, fixed, size)
    # The most probable first; equal ones by their bytes, so that two runs give the same list.
    order = sorted(range(len(tokens)), key=lambda k: (-scores[k], tokens[k]))
    floor = float(scores.min()) if len(scores) else 0.0
    # Names are never found in a text by their score; byte tokens are as bad as the worst token.
    listed = [0.0] * len(special) + [floor] * (len(before) - len(special))
    tokens = before + [tokens[k] for k in order]
    scores = listed + [float(scores[k]) for k in order]
    return Unigram(tokens, scores, 0 if special else None, byte_fallback)


def train_sentencepiece(
    counts,
    vocab_size,
    special=SPECIAL,
    most=1000,
    least_count=2,
    progress=iter,
):
    """A CharacterBPE of at most vocab_size tokens; arguments as for train_unigram.

    The first special token is the unknown one. Then come 256 byte tokens, the `most` frequent
    characters by code point, and what merging the most frequent pair gives, again and again.
    """
    letters = alphabet(counts, most)
    tokens = [*(name.encode() for name in special), *BYTE_TOKENS, *(c.encode() for c in letters)]
    refuse_too_small(vocab_size, len(special) + 256, len(letters))
    ids = {token: index for index, token in enumerate(tokens)}
    # Pieces with other characters teach nothing about joining; these will be written as bytes.
    known = set(letters)
    pieces = sorted(piece for piece in counts if known.issuperset(piece.decode()))
    symbols = [[ids[c.encode()] for c in piece.decode()] for piece in pieces]
    counted = symbols, [counts[piece] for piece in pieces], tokens, vocab_size
    rules = bytes.__add__, "count", least_count, progress
    merges = learn(*counted, *rules)
    return CharacterBPE(tokens, merges, unknown=0, fuse_unknown=True, byte_fallback=True)


if __name__ == "__main__":
    from time import perf_counter

    from tinygrad_edu.tokenizers.presplit import pieces, python_library

    texts = [text for text in python_library() if text.isascii()][::8]
    found = Counter(p.replace(b" ", "▁".encode()) for text in texts for p in pieces(text))
    for train in (train_unigram, train_sentencepiece):
        start = perf_counter()
        model = train(found, 4096)
        took = f"train_s={perf_counter() - start:.1f}"
        count = sum(n * len(model.encode_piece(piece)) for piece, n in found.items())
        print(f"{train.__name__}: bytes_per_token={sum(map(len, texts)) / count:.3f} {took}")
