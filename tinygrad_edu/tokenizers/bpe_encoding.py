"""Lesson 4.6 · Byte-pair encoding, applied: from pieces to ids and back

Needs foreign, kernel, loops, memory. Used by bpe.

Idea      Training has left a list of merges (lesson bpe_training). To encode a piece of text, begin
          with its bytes and replay the merges in the order in which they were learnt. Three things
          make that fast. A pair of tokens finds its merge in a hash table. A long piece keeps its
          pairs in a heap, so that the next merge is found without looking at all others. And most
          pieces have been met before: a cache holds their ids, and it may forget, so it is one
          array in which a piece that is met overwrites whatever has the same hash.
Math      encoding: while a piece has a pair that is a merge, merge the one with the least rank,
            of equal ones the leftmost; rank = when it was learnt                               (1)
          the order of the heap: rank · 2³² + position, one number for both                     (2)
          slot of a pair = hash(left · 2³² + right) mod S, then the next ones, S ≥ 2 · merges   (3)
          decoding: token after token, the bytes store[starts[id]] … store[starts[id + 1] − 1]  (4)
Shapes    text (N,) uint8, begins (N,) bool → ids (N,) int32, of which count[0] count; −1 behind
          byte_ids (256,) int32 · pairs (S, 2) uint64: left and right, rank and merged token, both
          as upper and lower half; NONE in an empty slot
          cache: a WordCache, whose slots (K, 4) uint64 hold a piece of up to 15 bytes, its length
          in the 16th, and up to four ids
Pitfalls  Longest match from the left is not BPE: with the merges bc, ab in this order, abc becomes
          a + bc by (1), not ab + c.
          A pair in the heap may be gone when its turn comes, since a neighbour was merged: what is
          taken out is compared with what stands there now.
          A piece of n bytes needs at most n ids, so ids are written where they belong, without
          knowing their number before; a text needs memory for N of them.
          Two threads must not share a cache: one could read a slot that the other writes.
          Equal hashes do not make equal pieces: a slot holds the piece itself, and its length, for
          "a" and "a" with a zero byte behind it would else be the same 15 bytes.
Cost      n log n for a long piece of n bytes, n² for one of up to 32 bytes, where looking at all
          pairs is faster than keeping order among them. A piece in the cache costs one look.
Try       build it    keep a random 10 % of the merges from happening while encoding (BPE-dropout).
          break it    order the heap by rank, then from right to left. Which tests notice?
          measure it  python -m tinygrad_edu.tokenizers.bpe: MB/s of both ways
See       Sennrich, Haddow, Birch 2016 · Provilkov, Emelianenko, Voita 2020 (BPE-dropout) ·
          Berglund, van der Merwe 2023 "Formalizing BPE tokenization" · Knuth volume 3, section
          5.2.3 (heaps)
"""

import functools
import heapq

import numpy as np

from tinygrad_edu.foreign import any_C, fits_any, out, ptr
from tinygrad_edu.kernel import Kernel
from tinygrad_edu.loops import Compiled, helper
from tinygrad_edu.memory import empty

NONE = np.uint64(2**64 - 1)  # no merge, and no pair
HALF = np.uint64(32)
LOWER = np.uint64(2**32 - 1)
MIX, MIX_AGAIN = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
SHORT = 15  # bytes of a piece that the cache takes
KEPT = 4  # ids of a piece that the cache takes
PLACES = 1 << 13  # slots of a cache: 256 kB
compiled = functools.cache(Compiled)  # a loop is made ready when it is first called


# ---- tables ----------------------------------------------------------------------------------


class WordCache:
    """The ids of short pieces, for one thread: it never changes what the result is."""

    def __init__(self, places=PLACES):
        self.slots = np.zeros((places, 4), np.uint64)


@helper
def scatter(key):
    """A hash of 32 bits: each bit of `key`, uint64, changes about half of them."""
    key = key * MIX
    return ((key ^ (key >> HALF)) * MIX_AGAIN) >> HALF


def pair_table(merges):
    """(S, 2) uint64 for the merges, rows (left, right, merged) by rank: (3). The first row counts
    of those with the same pair.
    """
    merges = np.asarray(merges, np.uint64).reshape(-1, 3)
    keys, rank = np.unique(merges[:, 0] << HALF | merges[:, 1], return_index=True)
    values = rank.astype(np.uint64) << HALF | merges[rank, 2]
    table = np.full((1 << (2 * keys.size).bit_length(), 2), NONE)
    last = np.uint64(len(table) - 1)
    slots = scatter(keys)
    # In each turn those that find a free slot take it, one each, and the others go on to the next
    # slot. So whoever stands behind its own slot has passed none that is empty.
    while keys.size:
        slots &= last
        slot, first = np.unique(slots, return_index=True)
        first = first[table[slot, 0] == NONE]
        table[slots[first]] = np.stack([keys[first], values[first]], 1)
        keys, values, slots = (np.delete(array, first) for array in (keys, values, slots))
        slots += np.uint64(1)
    return table


# ---- encoding --------------------------------------------------------------------------------


@Kernel(outputs=2)
def encode_pieces(ids, count, text, begins, byte_ids, pairs, cache):
    taken = pairs[pairs[:, 0] != NONE]
    halves = np.stack([taken >> HALF, taken & LOWER], -1).tolist()
    merges = {tuple(pair): (rank, merged) for pair, (rank, merged) in halves}
    cuts = np.append(np.flatnonzero(begins), text.size).tolist()
    ids[...], count[0] = -1, 0
    for low, high in zip(cuts, cuts[1:], strict=False):
        found = merge_by_rank(byte_ids[text[low:high]].tolist(), merges)
        ids[count[0] : count[0] + len(found)] = found
        count[0] += len(found)


def merge_by_rank(symbols, merges):
    """(1) on a list of ids, in the plainest way; merges: dict from pair to (rank, merged id)."""
    while True:
        pairs = enumerate(zip(symbols, symbols[1:], strict=False))
        known = [(*merges[pair], place) for place, pair in pairs if pair in merges]
        if not known:
            return symbols
        _, merged, place = min(known)
        symbols[place : place + 2] = [merged]


@helper
def merge_of(pairs, left, right):
    """Rank and merged token of a pair, as one number, or NONE."""
    key = np.uint64(left) << HALF | np.uint64(right)
    slot = np.int64(scatter(key))
    while True:
        slot &= len(pairs) - 1
        if pairs[slot, 0] == key or pairs[slot, 0] == NONE:
            return pairs[slot, 1]  # which is NONE in an empty slot
        slot += 1


@helper
def merge_piece(ids, pairs):
    """(1) on an array of ids, in place, by a heap (2); returns how many are left."""
    size = ids.size
    merge = np.full(size, NONE)
    following, preceding = np.arange(1, size + 1), np.arange(-1, size - 1)
    heap = [np.uint64(0) for _ in range(0)]
    for k in range(size - 1):
        merge[k] = merge_of(pairs, ids[k], ids[k + 1])
        if merge[k] != NONE:
            heap.append(merge[k] >> HALF << HALF | np.uint64(k))
    heapq.heapify(heap)
    # `merge[k]` is what the pair at k makes now, `heap` what pairs made when they were put there.
    while len(heap):
        top = heapq.heappop(heap)
        k = np.int64(top & LOWER)
        if merge[k] == NONE or merge[k] >> HALF != top >> HALF:
            continue  # one of the two was merged with its other neighbour
        ids[k] = np.int32(merge[k] & LOWER)
        second = following[k]
        merge[second] = NONE
        following[k] = following[second]
        if following[k] < size:
            preceding[following[k]] = k
        for place in (preceding[k], k):
            if place >= 0:
                after = following[place]
                merge[place] = merge_of(pairs, ids[place], ids[after]) if after < size else NONE
                if merge[place] != NONE:
                    heapq.heappush(heap, merge[place] >> HALF << HALF | np.uint64(place))
    left = k = 0
    while k < size:
        ids[left] = ids[k]
        k = following[k]
        left += 1
    return left


@helper
def word_of(text, i, length):
    """A piece of up to 15 bytes and its length, as two numbers."""
    low, high = np.uint64(0), np.uint64(length) << np.uint64(56)
    for k in range(min(length, 8)):
        low |= np.uint64(text[i + k]) << np.uint64(8 * k)
    for k in range(8, length):
        high |= np.uint64(text[i + k]) << np.uint64(8 * (k - 8))
    return low, high


@helper
def remember(slot, low, high, ids):
    """Write a piece and its ids, at most four, into a slot of the cache."""
    slot[0], slot[1] = low, high
    for k in range(KEPT):
        value = np.uint64(ids[k]) if k < ids.size else LOWER
        if k % 2:
            slot[2 + k // 2] |= value << HALF
        else:
            slot[2 + k // 2] = value


def encode_loop(ids, count, text, begins, byte_ids, pairs, slots):
    """The loop over pieces: from the cache, or merged and put there."""
    made = i = 0
    while i < text.size:
        end = i + 1
        while end < text.size and not begins[end]:
            end += 1
        if end - i <= SHORT:
            low, high = word_of(text, i, end - i)
            slot = slots[np.int64(scatter(low ^ scatter(high) * high)) & (len(slots) - 1)]
            if slot[0] == low and slot[1] == high:
                for k in range(KEPT):
                    value = slot[2 + k // 2] >> HALF if k % 2 else slot[2 + k // 2] & LOWER
                    if value != LOWER:
                        ids[made] = np.int32(value)
                        made += 1
                i = end
                continue
        for k in range(i, end):
            ids[made + k - i] = byte_ids[text[k]]
        left = merge_piece(ids[made : made + end - i], pairs)
        if end - i <= SHORT and left <= KEPT:
            remember(slot, low, high, ids[made : made + left])
        made += left
        i = end
    count[0] = made
    ids[made:] = -1


@encode_pieces.body("numba", jit=False)
def encode_pieces_numba(ids, count, text, begins, byte_ids, pairs, cache):
    compiled(encode_loop)(ids, count, text, begins, byte_ids, pairs, cache.slots)


@encode_pieces.body("native", when=fits_any)
def encode_pieces_native(ids, count, text, begins, byte_ids, pairs, cache):
    any_C().encode_pieces(
        *(out(ids), out(count), ptr(text), ptr(begins), ptr(byte_ids), ptr(pairs)),
        *(out(cache.slots), text.size, len(pairs), len(cache.slots)),
    )


# ---- decoding --------------------------------------------------------------------------------


@Kernel
def join_tokens(text, ids, store, starts):
    tokens = [store[starts[index] : starts[index + 1]] for index in ids.tolist()]
    text[...] = np.concatenate([store[:0], *tokens])  # (4)


@join_tokens.body("numba")
def join_tokens_numba(text, ids, store, starts):
    place = 0
    for index in ids:
        for k in range(starts[index], starts[index + 1]):
            text[place] = store[k]  # (4)
            place += 1


@join_tokens.body("native", when=fits_any)
def join_tokens_native(text, ids, store, starts):
    any_C().join_tokens(out(text), ptr(ids), ptr(store), ptr(starts), ids.size)


class Store:
    """All tokens of a vocabulary end to end, to join them quickly."""

    def __init__(self, tokens):
        self.bytes = np.frombuffer(b"".join(tokens), np.uint8)
        self.starts = np.cumsum([0, *map(len, tokens)])
        self.lengths = np.diff(self.starts)

    def join(self, ids):
        """The bytes of ids (N,), each of which has to be a place in the list of tokens."""
        ids = np.ascontiguousarray(ids, np.int32)
        text = empty(int(self.lengths[ids].sum()), np.uint8)
        join_tokens(text, ids, self.bytes, self.starts)
        return text.tobytes()
