"""Lesson 4.13 · SentencePiece: characters that are joined by rank, and a map of characters

Needs kernel, loops, normalize, trie, unigram, unicode, words. Used by
sentencepiece_training.

Idea      SentencePiece is a program that trains tokenizers for raw text, whatever the language: a
          space is a character like others (written ▁), so nothing has to be known about words. It
          can train Unigram (lesson unigram) and a BPE that starts from characters instead of bytes:
          the one of Llama-2. What is no character of its list it writes as bytes, tokens like
          <0xE5>.
          Such a piece is a whole text, and a heap of all its pairs would be long. But most borders
          between two characters are inside no token at all: no merge ever crosses them, and the
          text can be cut there. The ids are the same, the heaps are short.
          The program's normalizer is in the model file too: a map from strings to strings, kept as
          a trie in an array, the "precompiled charsmap" of T5 and XLM-R. It is read here by hand.
Math      encoding: of all pairs that are merges, join the one of least rank, of equal ones the
          leftmost, until none is left                                                          (1)
          ranks from scores: the greater score(left + right) comes first; equal scores tie      (2)
          cut before character y of "xy"  ⇐  no token that a merge makes has xy inside          (3)
          a unit of the charsmap's trie, 32 bits: offset = bits 10 … 30, shifted left by 8 where
          bit 9 is set; bit 8: a value is below; bits 0 … 7 and 31: the byte that leads here.
          The walk: place ^= offset(unit); then for each byte  place ^= byte, byte ≟ label(unit),
          place ^= offset(unit); a value lies at this place                                     (4)
Shapes    marks (N,) int32, as in lesson words · border (N,) bool
          pairs (S, 2) int64, a hash table: left·V + right → rank·2³² + the token they make
Pitfalls  A byte token is spelt <0x41>, which is six characters; a text that holds these six must
          not become the byte. Only merges join, and no merge makes that token.
          "xy inside no token" is asked of a table with 2²⁰ places: two pairs may share one. Then a
          cut is missed, which costs time and nothing else.
          SentencePiece replaces the longest match at each place. The package `tokenizers` asks for
          clusters of characters, and of a short one for the shortest match only: it loses accents
          behind ﬁ and ², and leaves Hangul that is written in parts as it is.
Cost      n log n for n characters between two cuts; the cuts are one look-up a character.
Try       build it    BPE-dropout: a merge in (1) is skipped with probability p.
          break it    take a cut that (3) does not allow. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.sentencepiece
See       Kudo, Richardson 2018 · Touvron et al. 2023, "Llama 2", section 2.2 · Yata, darts-clone
          (4)
"""

import heapq
import re

import numpy as np

from tinygrad_edu.kernel import Kernel
from tinygrad_edu.loops import helper
from tinygrad_edu.tokenizers.normalize import Step, code_points, source_of
from tinygrad_edu.tokenizers.trie import NONE, hash_table, look_up
from tinygrad_edu.tokenizers.unicode import CODE_POINTS
from tinygrad_edu.tokenizers.unigram import byte_ids
from tinygrad_edu.tokenizers.words import MISSING, Model, covered

LOW = (1 << 32) - 1  # the lower half of a value
CACHED = 1 << 18  # words that a Charsmap remembers
PLACES = 1 << 20  # of the table that (3) asks


@Kernel(inout="marks")
def join_by_rank(marks, border, pairs, vocab):
    """Join neighbours by (1); a border lies before each piece. The id of what is joined is −1."""
    known = {key: divmod(value, 1 << 32) for key, value in pairs.tolist() if key >= 0}
    cuts = [*np.flatnonzero(border).tolist(), marks.size]
    for low, high in zip([0, *cuts], cuts, strict=False):
        places = [i for i in range(low, high) if marks[i] >= 0]
        while True:
            ids = [int(marks[i]) for i in places]
            keys = [a * vocab + b for a, b in zip(ids, ids[1:], strict=False)]
            ranks = [known[key][0] if key in known else LOW for key in keys]
            if min(ranks, default=LOW) == LOW:
                break
            first = ranks.index(min(ranks))  # (1)
            marks[places[first]] = known[keys[first]][1]
            marks[places.pop(first + 1)] = NONE


@helper
def waiting(marks, pairs, vocab, left, right):
    """rank·2³² + place of the pair at two places, for the heap; or NONE where it is no merge."""
    value = look_up(pairs, np.int64(marks[left]) * vocab + marks[right])
    return (value >> 32 << 32) | left if value >= 0 else np.int64(NONE)


@join_by_rank.body("numba")
def join_by_rank_numba(marks, border, pairs, vocab):
    size = marks.size
    after = np.empty(size, np.int64)
    before = np.empty(size, np.int64)
    # What waits in the heap is never taken out early: whoever comes out of it asks whether the
    # pair is still there. An empty list would not tell the compiler what it is to hold.
    heap = [np.int64(0) for _ in range(0)]
    end = 0
    while end < size:
        # One piece: its symbols as a list in which each knows its neighbours, and all its pairs.
        last = np.int64(-1)
        first = end
        while end < size and (end == first or not border[end]):
            if marks[end] >= 0:
                before[end], after[end] = last, -1
                if last >= 0:
                    after[last] = end
                    heap.append(waiting(marks, pairs, vocab, last, end))
                last = end
            end += 1
        heapq.heapify(heap)
        while len(heap) > 0:  # (1)
            top = heapq.heappop(heap)
            i = top & LOW
            if top < 0 or marks[i] < 0 or after[i] < 0:
                continue  # no merge, or taken by another one since
            j = after[i]
            if waiting(marks, pairs, vocab, i, j) != top:
                continue
            value = look_up(pairs, np.int64(marks[i]) * vocab + marks[j])
            marks[i], marks[j] = value & LOW, -1
            after[i] = after[j]
            if after[i] >= 0:
                before[after[i]] = i
                heapq.heappush(heap, waiting(marks, pairs, vocab, i, after[i]))
            if before[i] >= 0:
                heapq.heappush(heap, waiting(marks, pairs, vocab, before[i], i))


class CharacterBPE(Model):
    """BPE whose first symbols are characters. ValueError for a merge that makes no token.

    merges         pairs of ids in order of rank; or None, and then
    scores         one for each token, from which all merges follow by (2)
    unknown        the id of what is not in the list; fuse_unknown: one for a whole run of it
    byte_fallback  write it as byte tokens, if all 256 are in the list
    """

    def __init__(
        self, tokens, merges, unknown=None, fuse_unknown=False, byte_fallback=False, scores=None
    ):
        super().__init__(tokens, unknown)
        self.merges, self.scores = merges, scores
        self.fuse_unknown, self.byte_fallback = fuse_unknown, byte_fallback
        ranked = enumerate(merges) if merges is not None else merges_of(self.ids, scores)
        pairs, made = {}, set()
        for rank, (left, right) in ranked:
            token = self.tokens[left] + self.tokens[right]
            if token not in self.ids:
                raise ValueError(f"merge {rank} makes {token!r}, which is no token")
            made.add(token)
            pairs.setdefault(left * len(self.tokens) + right, rank << 32 | self.ids[token])
        self.pairs = hash_table(pairs)
        self.inside = inside_of(made)
        # Code point -> id, for the first symbols; tokens that are one character.
        self.of_point = np.full(CODE_POINTS, NONE, np.int32)
        for token, index in self.ids.items():
            text = token.decode("utf-8", "replace")
            if len(text) == 1 and text.encode() == token:
                self.of_point[ord(text)] = index
        self.bytes = byte_ids(self.ids) if byte_fallback else None

    def mark(self, text, spans):
        points = code_points(text.tobytes().decode("utf-8"))
        begins = np.flatnonzero((text & 0xC0) != 0x80)
        edges = np.zeros(text.size + 1, bool)
        edges[spans] = True
        inside = covered(text.size, spans)[begins]
        unknown = inside & (self.of_point[points] == NONE)
        marks = np.full(text.size, NONE, np.int32)
        marks[begins] = np.where(inside, self.of_point[points], NONE)
        self._write(marks, text, begins, unknown, edges)
        # Pieces end where the caller says so, and can be cut further where no token is in the way.
        border = edges[:-1].copy()
        border[begins[1:]] |= ~self.inside[place_of(points[:-1], points[1:])]  # (3)
        join_by_rank(marks, border, self.pairs, len(self.tokens))
        return marks

    def _write(self, marks, text, begins, unknown, edges):
        """The marks of unknown characters: bytes, or one for each, or one for a run of them."""
        if self.bytes is not None:
            of_byte = np.repeat(unknown, np.diff(np.append(begins, text.size)))
            marks[of_byte] = self.bytes[text[of_byte]]
            return
        marks[begins[unknown]] = MISSING if self.unknown is None else self.unknown
        if self.fuse_unknown:
            again = unknown[1:] & unknown[:-1] & ~edges[begins[1:]]
            marks[begins[1:][again]] = NONE


def place_of(left, right):
    """Where the table of (3) says whether these two characters (code points) stand in a token."""
    return (np.asarray(left, np.int64) * 0x9E37 + right) % PLACES


def inside_of(tokens):
    """(PLACES,) bool: True for every two neighbouring characters of every token."""
    table = np.zeros(PLACES, bool)
    points = code_points("\0".join(token.decode("utf-8", "replace") for token in tokens))
    table[place_of(points[:-1], points[1:])] = True
    return table


def merges_of(ids, scores):
    """(rank, (left, right)) for every way to make a token of two others, by (2)."""
    order = sorted(ids.values(), key=lambda index: -scores[index])
    tokens = sorted(ids, key=ids.get)
    rank, last = -1, None
    for index in order:
        rank += scores[index] != last
        last = scores[index]
        token = tokens[index].decode("utf-8", "replace")
        # Whatever two tokens it is made of, the merge is as urgent as the token is good.
        for middle in range(1, len(token)):
            pair = token[:middle].encode(), token[middle:].encode()
            if pair[0] in ids and pair[1] in ids:
                yield rank, (ids[pair[0]], ids[pair[1]])


class Charsmap(Step):
    """A normalizer that replaces, at each place, the longest string that its map has.

    data: the precompiled charsmap of a SentencePiece model. ValueError where it is damaged.
    """

    def __init__(self, data):
        self.data = bytes(data)
        size = int.from_bytes(self.data[:4], "little")
        if size % 4 or not 0 < size <= len(self.data) - 4:
            raise ValueError("the charsmap is damaged: its trie does not fit into it")
        units = np.frombuffer(self.data, "<u4", size // 4, 4)
        self.units, self.strings = units.tolist(), self.data[4 + size :]
        # Where a space only begins strings of the map, no match crosses into one: then words can
        # be replaced one by one, each for the first time it is met.
        self.by_words = np.count_nonzero(units & 0x800000FF == ord(" ")) <= 1
        self.known = {}

    def __call__(self, text):
        parts = re.findall(" ?[^ ]+| ", text) if self.by_words else [text]
        if len(self.known) > CACHED:
            self.known.clear()
        for part in set(parts).difference(self.known):
            self.known[part] = self.trace(part)[0]
        return "".join(map(self.known.__getitem__, parts))

    def trace(self, text):
        """(text, source): of a match, each new character takes an old one while there are some."""
        data = text.encode()
        new, changes, at = [], [], 0
        while at < len(data):
            part, end = self.match(data, at)
            if part is None:
                end = at + 1
                while data[end : end + 1] and data[end] & 0xC0 == 0x80:
                    end += 1
                part = data[at:end].decode()
            # Of a match of three characters that becomes two, the second stands for two old ones.
            taken = len(data[at:end].decode())
            added = [0] * min(taken, len(part)) + [1] * (len(part) - taken)
            if len(part) < taken and (added or changes):
                (added or changes)[-1] -= taken - len(part)
            new.append(part)
            changes += added
            at = end
        return "".join(new), source_of(changes)

    def match(self, data, start):
        """(what the longest match at data[start] becomes, where it ends), or (None, start)."""
        units = self.units
        place = offset(units[0])
        found, end = None, start  # the longest string of the map so far
        for i in range(start, len(data)):
            place ^= data[i]
            if place >= len(units) or units[place] & 0x800000FF != data[i]:
                break
            unit = units[place]
            place ^= offset(unit)
            if unit >> 8 & 1 and place < len(units):
                found, end = units[place] & 0x7FFFFFFF, i + 1
        return (None if found is None else self.string(found)), end

    def string(self, start):
        """The string that begins there and ends with a zero byte."""
        end = self.strings.find(b"\0", start)
        try:
            return self.strings[start : end if end >= 0 else None].decode()
        except UnicodeDecodeError:
            raise ValueError("the charsmap is damaged: it maps to what is no UTF-8") from None


def offset(unit):
    """How a unit of the trie moves the place, (4)."""
    return (unit >> 10 & 0x1FFFFF) << (8 if unit & 1 << 9 else 0)


if __name__ == "__main__":
    from time import perf_counter

    tokens = ["<unk>", *"▁abcdefghijklmnopqrstuvwxyz", "▁t", "in", "he", "▁the", "an", "ing"]
    model = CharacterBPE([token.encode() for token in tokens], None, 0, scores=range(0, -99, -1))
    text = "▁the▁fox▁and▁another▁thing".encode()
    model.encode_piece(text)  # compile, then measure
    for name, data in {"words": text * 40_000, "one_letter": b"a" * 1_000_000}.items():
        start = perf_counter()
        model.encode_piece(data)
        print(f"text={name} mb_per_s={len(data) / (perf_counter() - start) / 1e6:.1f}")
