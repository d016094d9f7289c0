"""Lesson 4.6 · Byte-pair encoding

Needs characters, presplit, unicode. Used by tokenizer_file.

Idea      Start with the 256 bytes as tokens, so that no text is ever unknown. Find the pair of
          neighbours that occurs most often in the training text, make it a token, replace it
          everywhere, and repeat until the list is as long as wanted. Frequent words end up as one
          token, rare ones as a few pieces, and the order of the merges is all there is to remember:
          to encode, replay them.
Math      training: merge the pair with the greatest (count, bytes of left, bytes of right)     (1)
            count = Σ over distinct pieces of (times the piece occurs) · (times the pair is in it)
          encoding: while a piece has a pair that is a merge, merge the one with the least rank,
            of equal ones the leftmost; rank = when it was learnt                               (2)
          V = 256 bytes + merges + special tokens                                               (3)
Shapes    text of N bytes → ids (at most N,) int32 · ids 0 … 255 are the bytes, then the merges in
          order of rank, then the special tokens (a file that was read may number them otherwise)
Pitfalls  Counting all pairs anew for each merge takes (merges × text) steps. Only the neighbours of
          a merge change: subtract what disappears, add what appears.
          "aaa" has two neighbours aa, and (1) counts both; but merges go from left to right and do
          not overlap, so one of them is made.
          Ties are common (every pair that occurs twice, at the end). Without a rule for them, two
          runs may learn different tokens; the order of a dict is no rule one could state. Other
          programs break ties otherwise, and learn other tokens from the same text.
          Longest match from the left is not BPE: with the merges bc, ab in this order, abc becomes
          a + bc by (2), not ab + c.
Cost      Training: each merge visits the places where its pair is or was, and notes at most two new
          ones, so distinct pieces of N bytes in all cost at most 3N visits, and the heap. Encoding:
          n log n for a piece of n bytes, once for each distinct piece (a cache holds the answer);
          what remains is one dict look-up a piece.
Try       build it    keep a random 10 % of the merges from happening while encoding (BPE-dropout).
          break it    visit the places of a pair in descending order. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.bpe
See       Gage 1994 · Sennrich, Haddow, Birch 2016, algorithm 1 · Radford et al. 2019, section 2.2
"""

import heapq
from collections import Counter, defaultdict
from itertools import chain

import numpy as np

from tinygrad_edu.tokenizers.characters import END_OF_TEXT, Tokenizer
from tinygrad_edu.tokenizers.presplit import presplit, python_library
from tinygrad_edu.tokenizers.unicode import as_bytes

BYTES = [bytes([value]) for value in range(256)]
BLOCK = 1 << 18  # pieces that are held as Python objects at a time
CACHED = 1 << 19  # pieces that the cache of `encode` may hold


# ---- training --------------------------------------------------------------------------------


class Pairs:
    """All distinct pieces of a text, laid end to end as symbols, and where each pair of them is.

    A symbol is known by the position of its first byte. `following` and `preceding` link the
    symbols of a piece; -1 ends a piece on either side. Every pair is found at positions[pair].
    """

    def __init__(self, counts):
        """counts: dict from piece (bytes) to how often it occurs."""
        self.symbol, self.weight, self.following, self.preceding = [], [], [], []
        self.count = defaultdict(int)  # pair -> how often it occurs in the text
        self.positions = defaultdict(list)  # pair -> where it is, ascending; some have gone since
        for piece, times in counts.items():
            self._append(piece, times)
        self.tokens = list(BYTES)
        self._keys = [descending(token) for token in BYTES]
        self._heap = [self._entry(pair) for pair in self.count]
        heapq.heapify(self._heap)

    def _append(self, piece, times):
        first = len(self.symbol)
        end = first + len(piece)
        self.symbol += piece
        self.weight += [times] * len(piece)
        self.following += [*range(first + 1, end), -1]
        self.preceding += [-1, *range(first, end - 1)]
        for position, pair in enumerate(zip(piece, piece[1:], strict=False), start=first):
            self.count[pair] += times
            self.positions[pair].append(position)

    def _entry(self, pair):
        return -self.count[pair], self._keys[pair[0]], self._keys[pair[1]], pair

    def best(self):
        """(pair, count) of the pair to merge next, (1); (None, 0) when no pair is left."""
        while self._heap:
            negative, *_, pair = self._heap[0]
            if self.count[pair] == -negative:
                return pair, -negative
            heapq.heappop(self._heap)  # its count has fallen since: put it where it belongs now
            if self.count[pair] > 0:
                heapq.heappush(self._heap, self._entry(pair))
        return None, 0

    def merge(self, pair):
        """Make `pair` a token and replace it everywhere, from left to right in each piece."""
        new = len(self.tokens)
        self.tokens.append(self.tokens[pair[0]] + self.tokens[pair[1]])
        self._keys.append(descending(self.tokens[new]))
        appeared = set()
        # Pairs with the symbol `new` appear in this call only, at ascending positions: that is why
        # every list of positions is ascending, and why merging in its order goes left to right.
        for position in self.positions.pop(pair):
            after = self.following[position]
            here = self.symbol[position], self.symbol[after] if after >= 0 else -1
            if here == pair:  # else it was taken by another merge since
                appeared.update(self._merge_at(position, new))
        del self.count[pair]
        for found in appeared:
            heapq.heappush(self._heap, self._entry(found))

    def _merge_at(self, position, new):
        """Merge the symbol at `position` with its successor; returns the pairs that appear."""
        symbol, count = self.symbol, self.count
        times = self.weight[position]
        second = self.following[position]
        left = self.preceding[position]
        right = self.following[second]
        appeared = []
        if left >= 0:
            count[symbol[left], symbol[position]] -= times
            appeared.append((symbol[left], new))
            self.positions[appeared[-1]].append(left)
        if right >= 0:
            count[symbol[second], symbol[right]] -= times
            appeared.append((new, symbol[right]))
            self.positions[appeared[-1]].append(position)
            self.preceding[right] = position
        for pair in appeared:
            count[pair] += times
        symbol[position] = new
        symbol[second] = -1
        self.following[position] = right
        return appeared


def descending(token):
    """A string that sorts the other way round than the bytes of `token`.

    Each byte is mirrored, and a mark above all of them ends the string: a token that begins
    another one is the smaller of the two, so its mirror image has to be the greater.
    """
    return "".join([chr(255 - byte) for byte in token]) + "\u0100"


def count_pieces(documents):
    """dict from each piece of the documents (an iterable of str or bytes) to its count."""
    counts = Counter()
    for document in documents:
        for block in blocks_of_pieces(as_bytes(document)):
            counts.update(block)
    return counts


def train_bpe(
    documents, vocab_size, special=(END_OF_TEXT,), least_count=2, progress=iter, shrink=False
):
    """A BPETokenizer of exactly `vocab_size` tokens, from documents (iterable of str or bytes).

    vocab_size counts bytes, merges and special tokens, (3). A pair that occurs less than
    `least_count` times is not merged. progress wraps the range of merges, as tqdm does.
    ValueError where vocab_size is below 256 + special tokens, or more than the text can give; with
    `shrink` the vocabulary is then as large as the text allows.
    """
    special = list(special)
    merges = vocab_size - 256 - len(special)
    if merges < 0:
        raise ValueError(
            f"a vocabulary of {vocab_size} is too small: 256 bytes and {len(special)} special "
            f"tokens need {256 + len(special)}"
        )
    if isinstance(documents, str | bytes):
        documents = [documents]
    pairs = Pairs(count_pieces(documents))
    learnt = []
    for _ in progress(range(merges)):
        pair, count = pairs.best()
        if count < least_count or pair is None:
            if shrink:
                break
            most = 256 + len(learnt) + len(special)
            raise ValueError(
                f"a vocabulary of {vocab_size} is more than this text can give; with it, "
                f"{most} is the most (no other pair occurs {least_count} times)"
            )
        pairs.merge(pair)
        learnt.append(pair)
    tokens = pairs.tokens + [as_bytes(name) for name in special]
    ids = {name: len(pairs.tokens) + k for k, name in enumerate(special)}
    return BPETokenizer(tokens, learnt, ids)


# ---- encoding --------------------------------------------------------------------------------


class BPETokenizer(Tokenizer):
    """Byte-level BPE with GPT-2's pre-split.

    tokens   list of V byte strings, the 256 single bytes among them
    merges   pairs of ids in order of rank; the bytes of both, joined, are a token
    special  dict from name to id
    """

    def __init__(self, tokens, merges, special):
        super().__init__(tokens, special)
        self.merges = list(merges)
        reserved = set(self.special.values())
        ids = {token: k for k, token in enumerate(tokens) if k not in reserved}
        missing = [byte for byte in BYTES if byte not in ids]
        if missing:
            raise ValueError(f"{len(missing)} bytes have no token, the first is {missing[0]!r}")
        self._bytes = [ids[byte] for byte in BYTES]
        self._rank = {}  # pair -> (rank, id of the merged token)
        for rank, (left, right) in enumerate(self.merges):
            merged = ids.get(tokens[left] + tokens[right])
            if merged is None:
                raise ValueError(f"merge {rank} makes {tokens[left] + tokens[right]!r}: no token")
            self._rank.setdefault((left, right), (rank, merged))
        self._cache = {}  # piece -> tuple of ids

    def encode_ordinary(self, text):
        """(N,) int32 ids of any bytes, special tokens not recognised."""
        cache = self._cache
        ids = []
        for block in blocks_of_pieces(text):
            if len(cache) > CACHED:
                cache.clear()
            for piece in block:
                if piece not in cache:
                    cache[piece] = tuple(self.encode_piece(piece))
            found = chain.from_iterable(map(cache.__getitem__, block))
            ids.append(np.fromiter(found, np.int32))
        return np.concatenate(ids) if ids else np.array([], np.int32)

    def encode_piece(self, piece):
        """Ids of one piece by (2): the pairs wait in a heap, ordered by rank, then position."""
        symbol = [self._bytes[byte] for byte in piece]
        size = len(symbol)
        following = list(range(1, size + 1))
        preceding = list(range(-1, size - 1))
        rank = self._rank
        heap = []

        def wait(position, after):
            """Queue the pair at these two positions if it is a merge."""
            pair = (symbol[position], symbol[after])
            if pair in rank:
                heapq.heappush(heap, (*rank[pair], position, pair))

        for position in range(size - 1):
            wait(position, position + 1)
        while heap:
            _, merged, position, pair = heapq.heappop(heap)
            second = following[position]
            if second >= size or (symbol[position], symbol[second]) != pair:
                continue  # one of the two has been merged with its other neighbour
            right = following[second]
            symbol[position], symbol[second] = merged, -1
            following[position] = right
            if right < size:
                preceding[right] = position
                wait(position, right)
            if preceding[position] >= 0:
                wait(preceding[position], position)
        return [index for index in symbol if index >= 0]


def blocks_of_pieces(text):
    """Yield the pieces of `text` (bytes) in lists of at most BLOCK: a piece takes ~60 bytes."""
    cuts = presplit(text)
    for first in range(0, cuts.size - 1, BLOCK):
        block = cuts[first : first + BLOCK + 1].tolist()
        yield [text[low:high] for low, high in zip(block, block[1:], strict=False)]


if __name__ == "__main__":
    from time import perf_counter

    texts = python_library()
    start = perf_counter()
    tokenizer = train_bpe(texts, 4096)
    middle = perf_counter()
    count = sum(tokenizer.encode(text).size for text in texts)
    end = perf_counter()
    print(
        f"bytes={sum(map(len, texts))} tokens={count} train_s={middle - start:.2f} "
        f"encode_s={end - middle:.2f}"
    )
