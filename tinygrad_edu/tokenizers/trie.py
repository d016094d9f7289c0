"""Lesson 4.8 · Trie: which of my words begin here?

Needs kernel, loops. Used by words, wordpiece, unigram.

Idea      A dictionary answers whether a string is one of V words. A tokenizer asks more: which
          words begin at this byte of the text, and which of them is the longest? Asking the
          dictionary for every end of the string reads the text over and over. A trie (from
          "retrieval") is a tree in which every byte of a word is a step downwards, and words that
          begin alike share the steps: a single walk along the text meets every word that begins
          there, shortest first.
          The tree lies in two flat arrays, which a compiled loop can read: a hash table that holds
          all steps, and a list of which nodes end a word.
Math      key of a step = 256 · node + byte                                                     (1)
          slot(key) = top bits of (key · 0x9E3779B1 mod 2³²), then the next free one            (2)
          A hash table holds a key in a slot that is computed from it; where it is taken, in the
          next that is free. The constant is near 2³²/φ, φ = (1 + √5)/2, the golden ratio, so that
          neighbouring keys land far apart.
Shapes    words: V byte strings → edges (S, 2) int64, S a power of two, more than twice the steps:
          [key, node below], key −1 in a free slot · ids (nodes,) int32: the word that ends there,
          or −1 · node 0 is the root, the empty string
Pitfalls  A table that is nearly full is slow: the search for a free slot passes through long runs.
          Half full at most, a look-up needs about one and a half slots.
          The longest word need not be a good one: "the longest that begins here" is a rule of
          WordPiece, and not of BPE or Unigram.
Cost      A step is one multiplication and, mostly, one read. Building takes Python one look-up for
          each byte of each word: `measure it`.
Try       build it    the double array of Aoe 1989: no keys, no hash, child = base[node] ^ byte.
          break it    let `look_up` give up at the first slot that holds another key. Which test
                      notices?
          measure it  python -m tinygrad_edu.tokenizers.trie
See       Fredkin 1960 (trie) · Knuth, The Art of Computer Programming 3, section 6.4 (2)
"""

import numpy as np

from tinygrad_edu.kernel import Kernel
from tinygrad_edu.loops import helper

MULTIPLIER = 0x9E3779B1
ROOT = 0
NONE = -1  # no node, no word


@helper
def slot_of(key, slots):
    """The slot (2) at which the search for a key begins."""
    mixed = (key * MULTIPLIER) & 0xFFFFFFFF
    return (mixed * slots) >> 32


@helper
def look_up(table, key):
    """What a hash table holds for a key, or NONE."""
    slots = table.shape[0]
    slot = slot_of(key, slots)
    while table[slot, 0] != key:
        if table[slot, 0] == NONE:
            return np.int64(NONE)
        slot = (slot + 1) & (slots - 1)
    return table[slot, 1]


@helper
def child(edges, node, byte):
    """The node that one step leads to, or NONE."""
    return look_up(edges, (node << 8) | np.int64(byte))  # (1)


@helper
def longest(edges, ids, text, start, end, node):
    """(word, where it ends) of the longest word along text[start:end], walking from `node` on."""
    word, stop = np.int64(NONE), start
    for i in range(start, end):
        node = child(edges, node, text[i])
        if node < 0:
            break
        if ids[node] >= 0:
            word, stop = np.int64(ids[node]), i + 1
    return word, stop


class Trie:
    """The words (byte strings; a word's place is its id) as the arrays `edges` and `ids`.

    Of words that are given twice the first counts. The empty word is never found.
    """

    def __init__(self, words):
        steps = {}  # key of a step -> node below
        ends = [NONE]
        for index, word in enumerate(words):
            node = ROOT
            for byte in word:
                key = node << 8 | byte  # (1)
                node = steps.get(key)
                if node is None:
                    node = steps[key] = len(ends)
                    ends.append(NONE)
            if ends[node] == NONE and node != ROOT:
                ends[node] = index
        self.ids = np.array(ends, np.int32)
        self.edges = hash_table(steps)

    def walk(self, prefix, node=ROOT):
        """The node that the bytes of `prefix` lead to, or NONE."""
        for byte in prefix:
            node = node if node == NONE else int(child(self.edges, node, byte))
        return node

    def find(self, word):
        """The id of a word, or NONE."""
        node = self.walk(word)
        return NONE if node == NONE else int(self.ids[node])


def hash_table(entries):
    """dict of integers -> (S, 2) int64: each [key, value] in slot (2) or the next free one."""
    slots = 1 << max(2 * len(entries), 1).bit_length()
    table = np.full((slots, 2), NONE, np.int64)
    rows = np.array(list(entries.items()), np.int64).reshape(-1, 2)
    slot = slot_of(rows[:, 0], slots)
    # All keys at once: each takes its slot where that is free, the others go on to the next one.
    while rows.size:
        free = table[slot, 0] == NONE
        table[slot[free]] = rows[free]  # of several keys for one slot, the last stays
        waits = table[slot, 0] != rows[:, 0]
        rows, slot = rows[waits], (slot[waits] + 1) & (slots - 1)
    return table


@Kernel
def find_words(found, text, spans, edges, ids):
    """The id of the word text[low:high] for each (low, high) of spans (P, 2), or NONE."""
    known = {}
    for p, (low, high) in enumerate(spans.tolist()):
        piece = text[low:high].tobytes()
        if piece not in known:
            node = ROOT
            for byte in piece:
                node = node if node < 0 else int(child(edges, node, byte))
            known[piece] = NONE if node < 0 else ids[node]
        found[p] = known[piece]


@find_words.body("numba", rows="found spans")
def find_words_numba(found, text, spans, edges, ids):
    for p in range(spans.shape[0]):
        node = np.int64(0)
        for i in range(spans[p, 0], spans[p, 1]):
            node = child(edges, node, text[i])
            if node < 0:
                break
        found[p] = ids[node] if node >= 0 else -1


if __name__ == "__main__":
    from time import perf_counter

    source = np.random.default_rng(0)
    letters = source.choice(np.frombuffer(b"etaoinshrdlu", np.uint8), (30_000, 12))
    words = [row[: 2 + i % 10].tobytes() for i, row in enumerate(letters)]
    start = perf_counter()
    trie = Trie(words)
    built = perf_counter() - start
    text = np.frombuffer(b"".join(words), np.uint8)
    ends = np.cumsum([len(word) for word in words])
    spans = np.stack([ends - [len(word) for word in words], ends], axis=1)
    found = np.full(len(words), NONE, np.int32)
    find_words(found, text, spans, trie.edges, trie.ids)  # compile, then measure
    start = perf_counter()
    find_words(found, text, spans, trie.edges, trie.ids)
    took = perf_counter() - start
    print(
        f"words={len(words)} nodes={trie.ids.size} build_ms={built * 1e3:.0f} "
        f"find_mb_per_s={text.size / took / 1e6:.0f}"
    )
