"""Lesson 4.10 · WordPiece: the longest token that fits, again and again

Needs kernel, memory, presplit, trie, words. Used by decoders, sentencepiece_training.

Idea      BERT writes a word as a beginning and continuations: "tokenization" becomes token and
          ##ization: ## marks what does not begin a word, so the same letters have two tokens, and a
          word boundary is seen in the ids themselves. To encode, take the longest token that fits,
          then the longest continuation that fits behind it, and so on; where nothing fits the whole
          word is [UNK]. No merges are remembered, the list alone decides.
          To train, join neighbours, as lesson bpe_training does, beginning with letters; but the
          pair that explains the text best and not simply the most frequent one: two tokens that
          are frequent anyway stand side by side often by chance.
Math      tokens drawn independently, N of them, n(a) times a: log likelihood = Σ n(a)·ln(n(a)/N)
          joining c places "a b", c far below n(a) and n(b), changes it by about
          c · (ln(c·N / (n(a)·n(b))) − 1); the score is   c · ln(c·N / (n(a)·n(b)))             (1)
          the other score, by count alone: c                                                    (2)
          the pair with the greatest score is joined; of equal ones the pair that was met first
Shapes    text (N,) uint8, spans (P, 2) → marks (N,) int32, as in lesson words
          tokens: specials, then letters c and ##c by code point, then merges in order
Pitfalls  Greedy is not best: with the tokens un, una, ##ble, ##able the word "unable" is una ##ble,
          and with una alone and no ##ble it is [UNK], though un ##able would have fitted.
          One unknown letter makes the whole word unknown. BERT's list therefore has every letter of
          many scripts twice, with and without ##.
          A word of more than 100 characters is [UNK]: a guard against input that is no word.
          The package `tokenizers` trains "WordPiece" by (2), which is BPE with ## in the names; how
          Google trained BERT's list was never published. (1) is near to what Schuster and Nakajima
          wrote: the token that makes the text most likely.
Cost      Encoding: each byte is a step in the trie, and again for what a match overshot. Training:
          only pieces with the pair are counted anew; (1) is computed for all pairs at each merge.
Try       build it    MaxMatch backwards, from the end of the word. Is its count of tokens smaller?
          break it    begin each match at the root of the trie, so that ## counts as two letters.
                      Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.wordpiece
See       Schuster, Nakajima 2012, section 3 · Wu et al. 2016, section 4.1 · Devlin et al. 2019 ·
          Song et al. 2021, "Fast WordPiece" (a single pass, whatever a match overshoots)
"""

from collections import Counter, defaultdict

import numpy as np

from tinygrad_edu.kernel import Kernel
from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.trie import NONE, ROOT, Trie, longest
from tinygrad_edu.tokenizers.words import MISSING, UNKNOWN, Model

PREFIX = "##"
SPECIAL = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]")  # as BERT orders them
MOST = 100  # characters of a word


# ---- encoding --------------------------------------------------------------------------------


@Kernel
def match_longest(marks, text, spans, edges, ids, inside, unknown, most):
    """Greedy longest match; `inside` is the node of the trie where continuations begin."""
    marks[...] = NONE
    for low, high in spans.tolist():
        found = []
        at = low
        while at < high:
            token, end = longest(edges, ids, text, at, high, ROOT if at == low else inside)
            if token < 0:
                break
            found.append((at, token))
            at = end
        characters = np.count_nonzero((text[low:high] & 0xC0) != 0x80)
        if low < high and (at < high or characters > most):
            found = [(low, unknown)]
        for place, token in found:
            marks[place] = token


@match_longest.body("numba")
def match_longest_numba(marks, text, spans, edges, ids, inside, unknown, most):
    # The same, without a list: what has been written of a word that turns out bad is taken back.
    marks[:] = -1
    for p in range(spans.shape[0]):
        low, high = spans[p, 0], spans[p, 1]
        characters = 0
        for i in range(low, high):
            characters += (text[i] & 0xC0) != 0x80
        node = np.int64(0)
        at = low
        while at < high and characters <= most:
            token, end = longest(edges, ids, text, at, high, node)
            if token < 0:
                break
            marks[at] = token
            at = end
            node = np.int64(inside)
        if at < high:
            marks[low:at] = -1
            marks[low] = unknown


class WordPiece(Model):
    """BERT's model: a list of byte strings, of which those with `prefix` continue a word."""

    def __init__(self, tokens, unknown=None, prefix=PREFIX, most=MOST):
        super().__init__(tokens, unknown)
        self.prefix, self.most = prefix, most
        self.trie = Trie(self.tokens)
        self.inside = self.trie.walk(prefix.encode())

    def mark(self, text, spans):
        """The marks of Model, for whole words as pieces."""
        marks = empty(text.shape, np.int32)
        unknown = MISSING if self.unknown is None else self.unknown
        trie = self.trie
        nodes = trie.edges, trie.ids, self.inside
        match_longest(marks, text, spans, *nodes, unknown, self.most)
        return marks


# ---- training --------------------------------------------------------------------------------


class Neighbours:
    """Distinct pieces as lists of symbols, and how often each pair of symbols stands side by side.

    table   (pairs,) rows of count, left, right: for each pair that was ever met, in that order
    single  (symbols,) how often each symbol occurs
    """

    def __init__(self, pieces, weights, symbols):
        """pieces: lists of symbols, all of them below `symbols` for ever; weights: their counts."""
        self.pieces, self.weights = pieces, weights
        self.single = np.zeros(symbols, np.int64)
        self.table = np.zeros((0, 3), np.int64)
        self.row = {}  # pair -> its row in the table
        self.where = defaultdict(set)  # pair -> the pieces that hold it, or once did
        self.last = 0  # the score of the last merge
        self._count((index, [], piece) for index, piece in enumerate(pieces))

    def _count(self, changes):
        """Count anew: in the piece of this index a row of symbols, `old`, has become `new`."""
        single, pairs = Counter(), Counter()
        for index, old, new in changes:
            weight = self.weights[index]
            for symbols, times in (old, -weight), (new, weight):
                for symbol in symbols:
                    single[symbol] += times
                for pair in zip(symbols, symbols[1:], strict=False):
                    pairs[pair] += times
            for pair in zip(new, new[1:], strict=False):
                self.where[pair].add(index)
        # Pairs that were never met before get the next rows of the table, in the order of meeting.
        fresh = [pair for pair in pairs if pair not in self.row]
        self.row.update((pair, row) for row, pair in enumerate(fresh, start=len(self.row)))
        rows = np.array([(0, *pair) for pair in fresh], np.int64).reshape(-1, 3)
        self.table = np.concatenate([self.table, rows])
        where = np.array([self.row[pair] for pair in pairs], np.int64)
        self.table[where, 0] += np.array(list(pairs.values()), np.int64)
        where = np.array(list(single), np.int64)
        self.single[where] += np.array(list(single.values()), np.int64)

    def merge(self, pair, symbol):
        """Put `symbol` wherever the pair stands, from left to right in each piece."""
        changes = []
        for index in sorted(self.where.pop(pair)):
            old, new, places = self.pieces[index], [], []
            i = 0
            while i < len(old):
                here = old[i] == pair[0] and tuple(old[i : i + 2]) == pair
                if here:
                    places.append(i)
                new.append(symbol if here else old[i])
                i += 1 + here
            if places:  # what lies more than one symbol away from all of them is as it was
                first, end = max(places[0] - 1, 0), places[-1] + 3
                changes.append((index, old[first:end], new[first : end - len(places)]))
                self.pieces[index] = new
        self._count(changes)

    def forbid(self, pair):
        """Never return this pair as the best one."""
        self.table[self.row[pair], 0] = -1 << 60

    def best(self, score, least_count):
        """The pair to join next by (1) ("likelihood") or (2) ("count"), or None."""
        count, left, right = self.table.T
        if not count.size or count.max() < least_count:
            return None
        row = np.argmax(count) if score == "count" else self._likeliest(least_count)  # (2)
        return int(left[row]), int(right[row])

    def _likeliest(self, least_count):
        """The row with the greatest (1).

        A score is at most c · ln N. So where half of the last score is still reached, nothing
        below that bound can win, and most pairs need no logarithm.
        """
        count, left, right = self.table.T
        total = self.single.sum()
        for floor in (self.last / 2, 0):
            rows = np.flatnonzero(count >= max(least_count, floor / np.log(total)))
            c = count[rows].astype(float)
            chance = self.single[left[rows]] * (self.single[right[rows]] / total)
            scores = c * np.log(c / chance)  # (1)
            if rows.size and scores.max() >= floor:
                break
        self.last = scores.max()
        return rows[np.argmax(scores)]


def alphabet(counts, most):
    """The characters of the pieces, by code point; of too many, the `most` frequent ones."""
    characters = Counter()
    for piece, times in counts.items():
        for character in piece.decode():
            characters[character] += times
    kept = sorted(characters, key=lambda c: (-characters[c], c))[:most]
    return sorted(kept)


def learn(pieces, weights, tokens, vocab_size, joined, score, least_count, progress):
    """Append the tokens that merging gives until there are vocab_size; returns the merges."""
    # Two different pairs may spell the same token; such a merge joins, but adds none to the list.
    neighbours = Neighbours(pieces, weights, vocab_size)
    ids, given = {token: index for index, token in enumerate(tokens)}, len(tokens)
    merges = []
    for _ in progress(range(vocab_size - len(tokens))):
        pair = True
        size = len(tokens)
        while pair and len(tokens) == size:
            pair = neighbours.best(score, least_count)
            if pair:
                token = joined(tokens[pair[0]], tokens[pair[1]])
                if ids.get(token, given) < given:  # text that spells a special token stays text
                    neighbours.forbid(pair)
                    continue
                symbol = ids.setdefault(token, len(tokens))
                tokens += [token] * (symbol == len(tokens))
                neighbours.merge(pair, symbol)
                merges.append(pair)
        if pair is None:
            break
    return merges


def train_wordpiece(
    counts, vocab_size, special=SPECIAL, score="likelihood", most=1000, least_count=2, progress=iter
):
    """A WordPiece of at most vocab_size tokens; counts: dict from word (bytes) to its count.

    special: names that come first, the unknown token among them. most: how many different
    characters are kept; words with others are [UNK]. progress wraps the loop, as tqdm does.
    ValueError where vocab_size is below the specials and the letters.
    """
    letters = alphabet(counts, most)
    names = [name.encode() for name in special]
    tokens = names + [(mark + c).encode() for mark in ("", PREFIX) for c in letters]
    if len(tokens) > vocab_size:
        raise ValueError(
            f"a vocabulary of {vocab_size} is too small: {len(names)} special tokens and "
            f"{len(letters)} characters, with and without {PREFIX}, need {len(tokens)}"
        )
    ids = {token: index for index, token in enumerate(tokens)}
    # Words with a character that was not kept teach nothing: they will be unknown as a whole.
    known = set(letters)
    words = sorted(word for word in counts if known.issuperset(word.decode()))
    pieces = [
        [ids[(PREFIX * (place > 0) + c).encode()] for place, c in enumerate(word.decode())]
        for word in words
    ]
    weights = [counts[word] for word in words]

    def joined(left, right):
        return left + right.removeprefix(PREFIX.encode())

    learn(pieces, weights, tokens, vocab_size, joined, score, least_count, progress)
    return WordPiece(tokens, unknown=ids[UNKNOWN.encode()])


if __name__ == "__main__":
    from time import perf_counter

    from tinygrad_edu.tokenizers.presplit import presplit, python_library

    texts = [text for text in python_library() if text.isascii()]
    spans = []
    for text in texts:  # GPT-2's cut without the space in front
        cuts = presplit(text)
        low = cuts[:-1] + (np.frombuffer(text, np.uint8)[cuts[:-1]] == ord(" "))
        spans.append(np.stack([low, cuts[1:]], axis=1)[low < cuts[1:]])
    counts = Counter()
    for text, where in list(zip(texts, spans, strict=True))[::8]:
        counts.update(text[low:high] for low, high in where.tolist())
    for score in ("likelihood", "count"):
        start = perf_counter()
        model = train_wordpiece(counts, 4096, score=score)
        middle = perf_counter()
        count = sum(model.encode_pieces(t, s).size for t, s in zip(texts, spans, strict=True))
        size, end = sum(map(len, texts)), perf_counter()
        print(
            f"score={score} bytes={size} bytes_per_token={size / count:.3f} "
            f"train_s={middle - start:.1f} encode_mb_per_s={size / (end - middle) / 1e6:.0f}"
        )
