"""Lesson 4.36 · Training Unigram: begin with too many tokens, drop the least missed

Needs kernel, trie, unigram, wordpiece, words. Used by nothing.

Idea      BPE grows its list; Unigram shrinks it. It begins with every string that occurs often and is
          long, many times more than wanted. Then two questions alternate. How probable is each
          token? Nobody knows how the text "really" was cut, so every cut counts, as much as it is
          probable under the numbers of the last round: expectation maximisation, EM. And which
          tokens are not missed? Those that could be written with two others at little cost; often
          "ings" as "ing" + "s". A quarter goes at a time, until the list is as long as wanted. Single
          characters always stay, since without them there would be text that cannot be written.
Math      seeds: strings of at most 16 characters within a piece, those with the greatest
          count · length                                                                        (1)
          E: n(x) = Σ over pieces, times the piece occurs, of Σ over cuts of P(cut) · (times x is in
             it);  for x = text[i:j] that is  exp(left[i] + s(x) + rest[j] − rest[0]), rest as in
             lesson unigram and left[j] = ln Σ over x = text[i:j] of exp(left[i] + s(x))        (2)
          M: s(x) = ψ(n(x)) − ψ(Σ n)                                                            (3)
             ψ, the derivative of ln Γ, is about ln(n − ½): a token that is rarely needed loses
          what it costs to write all f(x) places of x as its best other cut y₁ … y_k:           (4)
             f(x) · (s(x) − Σ s′(y)),  s(x) = ln(f(x)/F),  s′(y) = ln((f(y) + f(x))/(F + (k−1)·f(x)))
             f: how often it is in the best cuts of all pieces, F their sum
Shapes    counts (V + 1,), loss (1,) float64, sums over the pieces: text (N,), spans (P, 2), weights (P,)
Pitfalls  EM finds a local maximum: what it ends in depends on the seeds.
          (2) multiplies probabilities of a whole piece: with sums of logarithms, or it underflows.
          A token that was dropped never comes back. So prune a part, then look again.
Cost      The seeds: all substrings of the distinct pieces, in a dict. Each round reads all distinct
          pieces three times; threads share them, each with counts of its own.
Try       build it    a Unigram that starts from the tokens of a BPE. Is it better, is it faster?
          break it    use ln n instead of ψ(n) in (3). How many tokens survive the first round?
          measure it  python -m tinygrad_edu.tokenizers.unigram_training
See       Kudo 2018, section 3.2 · Dempster, Laird, Rubin 1977 (EM) · Baum 1972 (2) · Beal 2003 (ψ)
"""

from collections import Counter

import numpy as np

from tinygrad_edu.kernel import Kernel
from tinygrad_edu.tokenizers.trie import NONE, Trie
from tinygrad_edu.tokenizers.unigram import BYTE_TOKENS, Unigram, best_cut, log_add, words_from
from tinygrad_edu.tokenizers.wordpiece import alphabet

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
        steps = []  # (i, j, token): every token in every cut
        for i in range(low, high):
            if (text[i] & 0xC0) != 0x80:
                length = words_from(found, edges, ids, text, i, high, unknown)
                steps += [(i, i + k + 1, found[k]) for k in range(length) if found[k] >= 0]
        left, rest = np.full((2, high + 1), -np.inf)
        left[low] = rest[high] = 0
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
        left[0] = rest[size] = 0
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
    inverse = 1 / shifted**2
    series = np.log(shifted) - 0.5 / shifted
    series -= inverse * (1 / 12 - inverse * (1 / 120 - inverse / 252))
    return series - sum(1 / (n + k) for k in range(6))


class Pieces:
    """The distinct pieces laid end to end, with their counts, as the kernels read them."""

    def __init__(self, counts):
        pieces = sorted(counts)
        ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        self.text = np.frombuffer(b"".join(pieces), np.uint8)
        self.spans = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
        self.weights = np.array([counts[piece] for piece in pieces], float)

    def expected(self, tokens, scores):
        """(n(x) of (2) for all tokens, loss)."""
        counts, loss = np.empty(len(tokens) + 1), np.empty(1)
        model = Unigram(tokens, scores)
        expected_counts(counts, loss, self.text, self.spans, self.weights, *arrays(model))
        return counts[:-1], loss[0]

    def in_best_cuts(self, tokens, scores):
        """f(x) of (4): how often each token is in the best cuts."""
        model = Unigram(tokens, scores)
        marks = np.empty(self.text.shape, np.int32)
        best_cut(marks, self.text, self.spans, *arrays(model), True)
        begins = np.flatnonzero((marks >= 0) & (marks < len(tokens)))
        piece = np.searchsorted(self.spans[:, 0], begins, "right") - 1
        return np.bincount(marks[begins], self.weights[piece], len(tokens))


def arrays(model):
    """What the kernels read of a Unigram."""
    return model.trie.edges, model.trie.ids, model.scores, model.longest


def seeds(counts, letters, most):
    """(tokens, count of each): the characters, then the `most` best strings by (1)."""
    known, found = set(letters), Counter()
    for piece, times in counts.items():
        text = piece.decode()
        for i in range(len(text)):
            for j in range(i + 1, min(i + LONGEST, len(text)) + 1):
                if text[j - 1] not in known:
                    break
                found[text[i:j]] += times
    long = [text for text, times in found.items() if len(text) > 1 and times > 1]
    long.sort(key=lambda text: (-found[text] * len(text), text))
    chosen = [*letters, *long[:most]]
    return [text.encode() for text in chosen], np.array([found[text] for text in chosen], float)


def maximise(tokens, counts, fixed):
    """(tokens, scores) by (3); what is hardly needed goes, but never the first `fixed`."""
    kept = [k for k in range(len(tokens)) if k < fixed or counts[k] >= NEEDED]
    counts = np.maximum(counts[kept], NEEDED)
    return [tokens[k] for k in kept], digamma(counts) - digamma(counts.sum())


def prune(tokens, scores, pieces, fixed, wanted):
    """(tokens, scores) of the characters and those others that would cost most to write, (4)."""
    f = pieces.in_best_cuts(tokens, scores)
    own = Pieces(dict.fromkeys(tokens[fixed:], 1))
    model = Unigram(tokens, scores)
    marks = np.empty(own.text.shape, np.int32)
    best_cut(marks, own.text, own.spans, *arrays(model), False)
    total, losses = f.sum(), []
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


def train_unigram(
    counts, vocab_size, special=SPECIAL, most=1000, seed_factor=10, byte_fallback=False,
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
    if wanted < fixed:
        raise ValueError(
            f"a vocabulary of {vocab_size} is too small: {len(before)} special and byte tokens and "
            f"{fixed} characters need {len(before) + fixed}"
        )
    tokens, times = seeds(counts, letters, seed_factor * wanted)
    scores = np.log(np.maximum(times, NEEDED) / times.sum())
    pieces = Pieces(counts)
    rounds = 1 + max(0, int(np.ceil(np.log(1.1 * wanted / len(tokens)) / np.log(KEPT))))
    for last in progress([False] * (rounds - 1) + [True]):
        for _ in range(2):
            expected, _ = pieces.expected(tokens, scores)
            tokens, scores = maximise(tokens, expected, fixed)
        size = wanted if last else max(int(1.1 * wanted), int(KEPT * len(tokens)))
        if len(tokens) > size:
            tokens, scores = prune(tokens, scores, pieces, fixed, size)
    order = sorted(range(len(tokens)), key=lambda k: (-scores[k], tokens[k]))
    floor = float(scores.min()) if len(scores) else 0.0
    listed = [0.0] * len(special) + [floor] * (len(before) - len(special))
    return Unigram(
        before + [tokens[k] for k in order], listed + [float(scores[k]) for k in order],
        unknown=0 if special else None, byte_fallback=byte_fallback,
    )
