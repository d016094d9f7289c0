"""Lesson 4.5 · Byte-pair encoding, learnt: which pair of tokens becomes the next token?

Needs foreign, kernel, loops. Used by bpe.

Idea      Start with the 256 bytes as tokens, so that no text is ever unknown. Find the pair of
          neighbours that occurs most often in the training text, make it a token, replace it
          everywhere, and repeat until the list is as long as wanted: frequent words end up as one
          token, rare ones as a few pieces. That is byte-pair encoding, BPE. The order of the merges
          is all there is to remember. It is learnt from the different pieces of a text and their
          counts (lesson presplit), so a text a hundred times as long hardly takes longer.
Math      merge the pair with the greatest count; of pairs with the same count                  (1)
            ties "bytes": the one with the greater byte strings, the left one deciding first    (2)
            ties "first": the one whose left token, then right token, was known first           (3)
          count = Σ over distinct pieces of (times the piece occurs) · (times the pair is in it)
          of the bytes, in (3), the 188 are known first that GPT-2 shows as themselves, then the
          other 68; both ascending: BYTE_ORDER
Shapes    text (N,) uint8: the different pieces, a byte that nobody looks at before, between and
          behind them · starts (P + 1,): piece k is text[starts[k] : starts[k + 1] − 1]
          weights (P,) int64: how often it occurs · merges (M, 2) int32, counts (M,) int64; −1 and
          0 where no pair is left that occurs `least` times. Token 256 + k is made by merge k.
Pitfalls  Counting all pairs anew for each merge takes (merges × text) steps. Only the neighbours of
          a merge change: subtract what disappears, add what appears.
          "aaa" has two neighbours aa, and (1) counts both; but merges go from left to right and do
          not overlap, so one of them is made.
          Ties are common (every pair that occurs twice, at the end). Without a rule for them, two
          runs may learn different tokens; the order of a dict is no rule one could state. Two
          programs with different rules learn different tokens from the same text. (3) is that of
          the package `tokenizers`: its ids ascend as tokens become known.
          No token is made twice. Wherever its bytes stand, as long as no merge has crossed their
          ends, the merges inside them are the same ones, so they are the same two tokens.
Cost      A merge visits the places where its pair is, and changes two pairs at each. Then the
          greatest pair is looked for: among all pairs in Python and Numba, in a heap in C. In C a
          place is in the list of one pair at a time, which takes 16 bytes for each byte of
          different pieces, and 48 for each pair that has ever been there.
Try       build it    a limit for the length of a token. Which tokens come instead?
          break it    visit the places of a pair in descending order. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.bpe: train_s, pieces counted and learnt
See       Gage 1994 · Sennrich, Haddow, Birch 2016, algorithm 1 · huggingface/tokenizers,
          src/models/bpe/trainer.rs (the order of its queue) · Zouhar et al. 2023 "A formal
          perspective on byte-pair encoding"
"""

import functools
from collections import defaultdict, namedtuple

import numpy as np

from tinygrad_edu.foreign import any_C, fits_any, out, ptr
from tinygrad_edu.kernel import Kernel
from tinygrad_edu.loops import Compiled, helper

BYTES = [bytes([value]) for value in range(256)]
SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_ORDER = np.argsort([*SHOWN, *sorted(set(range(256)) - set(SHOWN))]).astype(np.int32)
NOWHERE = END = -1
compiled = functools.cache(Compiled)  # a loop is made ready when it is first called


# ---- in plain Python -------------------------------------------------------------------------


class Pairs:
    """All distinct pieces of a text, laid end to end as symbols, and where each pair of them is.

    A symbol is known by the position of its first byte. `following` and `preceding` link the
    symbols of a piece; -1 ends a piece on either side. Every pair is found at positions[pair].
    """

    def __init__(self, pieces, weights):
        """weights: how often each piece occurs."""
        self.symbol, self.weight, self.following, self.preceding = [], [], [], []
        self.count = defaultdict(int)  # pair -> how often it occurs in the text
        self.positions = defaultdict(list)  # pair -> where it is, ascending; some have gone since
        self.tokens = list(BYTES)
        for piece, times in zip(pieces, weights, strict=True):
            first = len(self.symbol)
            end = first + len(piece)
            self.symbol += piece
            self.weight += [times] * len(piece)
            self.following += [*range(first + 1, end), -1]
            self.preceding += [-1, *range(first, end - 1)]
            for position, pair in enumerate(zip(piece, piece[1:], strict=False), start=first):
                self.count[pair] += times
                self.positions[pair].append(position)

    def best(self, order=None):
        """The pair to merge next, (1). order: of the bytes, for (3); None for (2)."""

        def by_bytes(pair):
            return self.count[pair], self.tokens[pair[0]], self.tokens[pair[1]]

        def by_order(pair):
            return self.count[pair], *(-order[k] if k < 256 else -k for k in pair)

        return max(self.count, key=by_bytes if order is None else by_order, default=None)

    def merge(self, pair):
        """Make `pair` a token and replace it everywhere, from left to right in each piece."""
        new = len(self.tokens)
        self.tokens.append(self.tokens[pair[0]] + self.tokens[pair[1]])
        # Pairs with the symbol `new` appear in this call only, at ascending positions: that is why
        # every list of positions is ascending, and why merging in its order goes left to right.
        for position in self.positions.pop(pair):
            after = self.following[position]
            here = self.symbol[position], self.symbol[after] if after >= 0 else -1
            if here == pair:  # else it was taken by another merge since
                self._merge_at(position, new)
        del self.count[pair]

    def _merge_at(self, position, new):
        """Merge the symbol at `position` with its successor."""
        symbol, times = self.symbol, self.weight[position]
        second = self.following[position]
        left = self.preceding[position]
        right = self.following[second]
        if left >= 0:
            self.count[symbol[left], symbol[position]] -= times
            self._add((symbol[left], new), left)
        if right >= 0:
            self.count[symbol[second], symbol[right]] -= times
            self._add((new, symbol[right]), position)
            self.preceding[right] = position
        symbol[position] = new
        symbol[second] = -1
        self.following[position] = right

    def _add(self, pair, position):
        self.count[pair] += self.weight[position]
        self.positions[pair].append(position)


@Kernel(outputs=2)
def learn_merges(merges, counts, text, starts, weights, order, by_order, least):
    pieces = [text[low : high - 1].tobytes() for low, high in zip(starts, starts[1:], strict=False)]
    pairs = Pairs(pieces, weights.tolist())
    merges[...], counts[...] = -1, 0
    for k in range(len(merges)):
        pair = pairs.best(order.tolist() if by_order else None)
        if pair is None or pairs.count[pair] < least:
            break
        merges[k], counts[k] = pair, pairs.count[pair]
        pairs.merge(pair)


# ---- compiled --------------------------------------------------------------------------------

# symbol[p] is the token that begins at p, and the one that ends at p; with the lengths of tokens
# that leads to both neighbours. The places of a pair are a list: ends[pair] are its first and last
# one, chain[p] the ones before and behind p. spelt[token]: a place where it is spelt, its length.
State = namedtuple(
    "State", "text symbol piece chain weights spelt order by_order pairs ends count slots known"
)


@helper
def slot_of(s, left, right):
    """Where in the hash table a pair is, or belongs."""
    slot = (left * 1_000_003 + right) * 2_654_435_761 >> 15  # a hash: the digits well stirred
    while True:
        slot &= s.slots.size - 1
        known = s.slots[slot]
        if known < 0 or s.pairs[known, 0] == left and s.pairs[known, 1] == right:
            return slot
        slot += 1


@helper
def enter(s, p, left, right):
    """The pair at p is (left, right) from now on."""
    slot = slot_of(s, left, right)
    if s.slots[slot] < 0:
        k = s.slots[slot] = s.known[0]
        s.known[0] += 1
        s.pairs[k, 0], s.pairs[k, 1] = left, right
    k = s.slots[slot]
    last = s.ends[k, 1]
    s.count[k] += s.weights[s.piece[p]]
    s.chain[p, 0], s.chain[p, 1] = last, NOWHERE
    if last < 0:
        s.ends[k, 0] = p
    else:
        s.chain[last, 1] = p
    s.ends[k, 1] = p


@helper
def leave(s, p, k):
    """Pair k is no more at p."""
    before, after = s.chain[p, 0], s.chain[p, 1]
    s.count[k] -= s.weights[s.piece[p]]
    if before < 0:
        s.ends[k, 0] = after
    else:
        s.chain[before, 1] = after
    if after < 0:
        s.ends[k, 1] = before
    else:
        s.chain[after, 0] = before


@helper
def compare(s, a, b):
    """Above 0 where token a wins a tie against b, 0 only if they are the same token."""
    if s.by_order:
        return (s.order[b] if b < 256 else b) - (s.order[a] if a < 256 else a)  # (3)
    for k in range(min(s.spelt[a, 1], s.spelt[b, 1])):  # (2)
        x = s.text[s.spelt[a, 0] + k] if a >= 256 else a
        y = s.text[s.spelt[b, 0] + k] if b >= 256 else b
        if x != y:
            return np.int64(x) - np.int64(y)
    return s.spelt[a, 1] - s.spelt[b, 1]


@helper
def greatest(s):
    """The pair that (1) prefers among all that there are, NOWHERE if none is left."""
    best = NOWHERE
    for k in range(s.known[0]):
        more = s.count[k] - (s.count[best] if best >= 0 else 0)
        if more == 0 and best >= 0:
            more = compare(s, s.pairs[k, 0], s.pairs[best, 0])
            if more == 0:
                more = compare(s, s.pairs[k, 1], s.pairs[best, 1])
        if more > 0:
            best = k
    return best


@helper
def merge(s, pair, merged):
    """Make a token of a pair and replace it everywhere, in ascending order."""
    left, right = s.pairs[pair, 0], s.pairs[pair, 1]
    s.spelt[merged, 0] = s.ends[pair, 0]
    s.spelt[merged, 1] = s.spelt[left, 1] + s.spelt[right, 1]
    while s.ends[pair, 0] >= 0:
        p = s.ends[pair, 0]
        second, behind = p + s.spelt[left, 1], p + s.spelt[merged, 1]
        before, after = s.symbol[p - 1], s.symbol[behind]
        leave(s, p, pair)
        s.symbol[p] = s.symbol[behind - 1] = merged
        if before != END:
            at = p - s.spelt[before, 1]
            leave(s, at, s.slots[slot_of(s, before, left)])
            enter(s, at, before, merged)
        if after != END:
            leave(s, second, s.slots[slot_of(s, right, after)])
            enter(s, p, merged, after)


def learn_loop(merges, counts, starts, least, s):
    """All merges, learnt in a State that is still empty.

    First the pieces are laid out as bytes, and their pairs entered; then the greatest pair is
    merged, again and again.
    """
    merges[:], counts[:] = -1, 0
    for k in range(starts.size - 1):
        for p in range(starts[k], starts[k + 1] - 1):
            s.symbol[p], s.piece[p] = s.text[p], k
            if p > starts[k]:
                enter(s, p - 1, np.int64(s.text[p - 1]), np.int64(s.text[p]))
    for k in range(len(merges)):
        best = greatest(s)
        if best < 0 or s.count[best] < least:
            break
        counts[k] = s.count[best]
        merges[k] = s.pairs[best]
        merge(s, best, 256 + k)


@learn_merges.body("numba", jit=False)
def learn_merges_numba(merges, counts, text, starts, weights, order, by_order, least):
    room = 3 * text.size  # a place begins with one pair, and each merge adds at most two
    symbol, piece = np.full((2, text.size), END, np.int32)
    chain, ends = np.zeros((text.size, 2), np.int32), np.full((room, 2), NOWHERE)
    spelt = np.ones((256 + len(merges), 2), np.int64)
    pairs, count = np.zeros((room, 2), np.int64), np.zeros(room, np.int64)
    slots = np.full(1 << (2 * room).bit_length(), NOWHERE, np.int32)
    table = pairs, ends, count, slots, np.zeros(1, np.int64)
    state = State(text, symbol, piece, chain, weights, spelt, order, by_order, *table)
    compiled(learn_loop)(merges, counts, starts, least, state)


@learn_merges.body("native", when=fits_any)
def learn_merges_native(merges, counts, text, starts, weights, order, by_order, least):
    any_C().learn_merges(
        *(out(merges), out(counts), ptr(text), ptr(starts), ptr(weights), ptr(order)),
        *(by_order, least, text.size, weights.size, len(merges)),
    )


def laid_out(counts):
    """text, starts and weights, as the kernel takes them, of a dict from piece to its count."""
    text = np.frombuffer(b"\0" + b"\0".join([*counts, b""]), np.uint8)
    if text.size >= 2**31:
        raise ValueError("the different pieces of the text have 2 GB or more: train on a sample")
    lengths = np.fromiter(map(len, counts), np.int64, len(counts))
    starts = np.cumsum(np.append(1, lengths + 1))
    return text, starts, np.fromiter(counts.values(), np.int64, len(counts))
