"""Lesson 4.7 · The byte-pair tokenizer

Needs bpe_encoding, bpe_training, characters, memory, patterns, presplit, threads, unicode. Used by
hf_json, kinds, scripts/train_gpt.py.

Idea      Three lessons come together: a pattern cuts text into pieces, training learns merges from
          the pieces and their counts, encoding replays the merges inside each piece. The result is
          the tokenizer of most language models: no text is unknown to it, frequent words are one
          token, and the vocabulary is exactly as long as one wants.
          A long text is cut into blocks, so that all threads count and encode; a block ends where
          every pattern cuts, whatever stands around. Counting goes block by block, too, and keeps
          nothing but the different pieces, so the text may be larger than memory.
Math      V = 256 bytes + merges + special tokens                                               (1)
          bytes of text in memory while training: one block a thread, and the different pieces  (2)
          a border of blocks: behind a line end between two visible ASCII characters            (3)
Shapes    text of N bytes → ids (at most N,) int32 · ids 0 … 255 are the bytes, then the merges in
          order of rank, then the special tokens (a file that was read may number them otherwise)
Pitfalls  The pattern belongs to the tokenizer: with another one the same merges give other ids.
          The pattern "none" has no borders: a text is one piece, and "the cat" may be a token.
          Some models were trained with a list of tokens that their merges cannot all make; they
          say `ignore_merges`: a piece that is a token as a whole is that token.
          A published vocabulary may lack some bytes. Text that has them cannot be encoded.
          Learning runs in C without Python's lock, so another thread does it, and this one looks
          at how far the list of counts is filled: that is what moves the progress bar.
          Tokens that hold part of a character are common: a piece of UTF-8 is bytes like any other.
          Tokens must therefore be joined as bytes, and only then be read as text.
Cost      12 MB of Python are counted, learnt from, encoded and decoded: `measure it` says how fast.
          (2), measured: training on 1.01 GB with 830,441 different pieces took 544 MB at most, 114
          of them Python and its libraries: scripts/bench_tokenizer.py --gigabytes 1
Try       build it    a function that drops the tokens which encoding the text never used.
          break it    let a block end behind any line end, (3). Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.bpe
See       Sennrich, Haddow, Birch 2016 · Radford et al. 2019, section 2.2 · Grattafiori et al. 2024
          "The Llama 3 herd of models", section 3.2 (a vocabulary of 128,000)
"""

import re
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice

import numpy as np

from tinygrad_edu import threads
from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.bpe_encoding import Store, WordCache, encode_pieces, pair_table
from tinygrad_edu.tokenizers.bpe_training import BYTE_ORDER, BYTES, laid_out, learn_merges
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, Tokenizer
from tinygrad_edu.tokenizers.patterns import check_pattern, mark_pieces
from tinygrad_edu.tokenizers.presplit import distinct_pieces, python_library
from tinygrad_edu.tokenizers.unicode import as_bytes

TIES = ("bytes", "first")
BLOCK = 1 << 20  # bytes that one thread takes at a time
BORDER = re.compile(rb"[!-~]\n(?=[!-~])")  # (3)
MISSING = 2**31 - 1  # stands for a byte that has no token


def blocks(text, pattern):
    """Yield `text` (bytes) in blocks of about BLOCK bytes, (3)."""
    first = 0
    while pattern != "none" and len(text) - first > 2 * BLOCK:
        border = BORDER.search(text, first + BLOCK)
        if not border:
            break
        yield text[first : border.end()]
        first = border.end()
    yield text[first:] if first else text


# ---- training --------------------------------------------------------------------------------


def groups(documents, pattern):
    """Yield lists of texts (bytes), each list of about BLOCK bytes: work for one thread."""
    group, size = [], 0
    for document in documents:
        for block in blocks(as_bytes(document), pattern):
            group.append(block)
            size += len(block)
            if size >= BLOCK:
                yield group
                group, size = [], 0
    if group:
        yield group


def count_group(found, texts, pattern):
    """Append (piece, count) to the list `found` for each different piece of some texts."""
    text = np.frombuffer(b"".join(texts), np.uint8)
    begins = empty(text.shape, np.bool_)
    first = 0
    for part in texts:
        end = first + len(part)
        mark_pieces(begins[first:end], text[first:end], pattern)
        first = end
    found.extend(distinct_pieces(text, begins))


def count_pieces(documents, pattern="gpt2"):
    """dict from each piece of the documents (str or bytes) to its count, in the order met: (2)."""
    check_pattern(pattern)
    if isinstance(documents, str | bytes):
        documents = [documents]
    counts = {}
    waiting = groups(documents, pattern)
    while turn := [([], group, pattern) for group in islice(waiting, threads.count())]:
        threads.pool.run(count_group, turn)
        for found, *_ in turn:
            for piece, count in found:
                counts[piece] = counts.get(piece, 0) + count
    return counts


def learn(counts, number, least_count=2, ties="bytes", progress=iter):
    """At most `number` merges, a list of pairs of ids, from a dict of pieces and their counts.

    progress wraps the range of merges, as tqdm does.
    """
    merges, learnt = np.empty((number, 2), np.int32), np.zeros(number, np.int64)
    call = *laid_out(counts), BYTE_ORDER, ties == "first", least_count
    with ThreadPoolExecutor(1) as other:
        work = other.submit(learn_merges, merges, learnt, *call)
        for k in progress(range(number)):
            while not learnt[k] and not work.done():
                wait([work], 0.02)
            if not learnt[k]:  # no pair was left
                break
        work.result()  # which raises what the other thread has raised
    if (learnt < 0).any():
        raise MemoryError("no memory to learn merges from so many different pieces: use less text")
    return [tuple(pair) for pair in merges[: np.count_nonzero(learnt)].tolist()]


def train_bpe(documents, vocab_size, special=(END_OF_TEXT,), least_count=2, progress=iter,
              shrink=False, pattern="gpt2", ties="bytes"):
    """A BPETokenizer of exactly `vocab_size` tokens, from documents (iterable of str or bytes).

    vocab_size counts bytes, merges and special tokens, (1). A pair that occurs less than
    `least_count` times is not merged. ties: which of the pairs with the same count is merged first,
    "bytes" or "first" (lesson bpe_training). progress wraps the range of merges, as tqdm does.
    ValueError where vocab_size is below 256 + special tokens, or more than the text can give; with
    `shrink` the vocabulary is then as large as the text allows.
    """
    special = list(special)
    if ties not in TIES:
        raise ValueError(f"ties are broken by {' or '.join(TIES)}, not by {ties!r}")
    number = vocab_size - 256 - len(special)
    if number < 0:
        raise ValueError(f"a vocabulary of {vocab_size} is too small: 256 bytes and "
                         f"{len(special)} special tokens need {256 + len(special)}")
    counts = count_pieces(documents, pattern)
    merges = learn(counts, number, least_count, ties, progress)
    if len(merges) < number and not shrink:
        most = 256 + len(merges) + len(special)
        raise ValueError(f"a vocabulary of {vocab_size} is more than this text can give; with it, "
                         f"{most} is the most (no other pair occurs {least_count} times)")
    tokens = list(BYTES)
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    ids = {name: len(tokens) + k for k, name in enumerate(special)}
    return BPETokenizer(tokens + [as_bytes(name) for name in special], merges, ids, pattern)


# ---- the tokenizer ---------------------------------------------------------------------------


class BPETokenizer(Tokenizer):
    """Byte-level BPE.

    tokens   list of V byte strings, single bytes among them
    merges   pairs of ids in order of rank; the bytes of both, joined, are a token
    special  dict from name to id
    pattern  the name of the pattern that cuts text into pieces (lesson patterns)
    ignore_merges  whether a piece that is a token as a whole is that token, whatever the merges say
    """

    def __init__(self, tokens, merges, special, pattern="gpt2", ignore_merges=False):
        super().__init__(tokens, special)
        check_pattern(pattern)
        self.merges, self.pattern, self.ignore_merges = list(merges), pattern, ignore_merges
        reserved = set(self.special.values())
        ids = {token: k for k, token in enumerate(tokens) if k not in reserved}
        self._byte_ids = np.array([ids.get(byte, MISSING) for byte in BYTES], np.int32)
        rows = []
        for rank, (left, right) in enumerate(self.merges):
            merged = ids.get(tokens[left] + tokens[right])
            if merged is None:
                raise ValueError(f"merge {rank} makes {tokens[left] + tokens[right]!r}: no token")
            rows.append((left, right, merged))
        self._pairs = pair_table(rows)
        self._caches = []  # those that no thread has in use
        self._store = Store(tokens)
        self.lengths = self._store.lengths  # (V,) int64, in bytes
        self._whole = self._beyond_merges(ids) if ignore_merges else {}

    def encode_ordinary(self, text):
        """(N,) int32 ids of any bytes, special tokens not recognised; threads share a long text."""
        parts = list(blocks(text, self.pattern))
        if len(parts) == 1:
            return self._encode_block(parts[0])
        found = [None] * len(parts)

        def work(first, step):
            for k in range(first, len(parts), step):
                found[k] = self._encode_block(parts[k])

        workers = threads.count()
        threads.pool.run(work, [(k, workers) for k in range(workers)])
        return np.concatenate(found)

    def encode_piece(self, piece):
        """The ids, a list, of bytes that are not cut into pieces."""
        return self._encode_block(piece, "none").tolist()

    def decode_bytes(self, ids):
        """The bytes of these ids, exactly. ValueError for an id that is not in 0 … V − 1."""
        return self._store.join(self._checked(ids).ravel())

    def forget(self):
        """Empty the caches of pieces: only to measure what they are worth."""
        self._caches.clear()

    def _encode_block(self, text, pattern=None):
        array = np.frombuffer(text, np.uint8)
        begins = empty(array.shape, np.bool_)
        mark_pieces(begins, array, pattern or self.pattern)
        ids = self._merge(array, begins)
        if self._whole:
            ids = self._put_whole_tokens(ids, text, np.append(np.flatnonzero(begins), len(text)))
        if MISSING in self._byte_ids and MISSING in ids:
            byte = next(byte for byte in text if self._byte_ids[byte] == MISSING)
            raise ValueError(f"the text has the byte 0x{byte:02X}, for which this vocabulary has "
                             "no token: remove it, or use a tokenizer with all 256 bytes")
        return ids

    def _merge(self, text, begins):
        ids, count = empty(text.shape, np.int32), empty(1, np.int64)
        try:
            cache = self._caches.pop()
        except IndexError:
            cache = WordCache()
        encode_pieces(ids, count, text, begins, self._byte_ids, self._pairs, cache)
        self._caches.append(cache)
        if count[0] < 0:
            raise MemoryError("no memory to merge so long a piece: cut the text into shorter parts")
        return ids[: count[0]].copy()

    def _beyond_merges(self, ids):
        """dict of the tokens that their own merges do not make to their ids."""
        tokens = [token for token in ids if len(token) > 1]
        text = np.frombuffer(b"".join(tokens), np.uint8)
        starts = np.cumsum([0, *map(len, tokens)])[:-1]
        begins = np.zeros(text.size, bool)
        begins[starts] = True
        found = self._merge(text, begins)
        lengths = np.append(self.lengths, [1])[np.where(found == MISSING, -1, found)]
        at = np.searchsorted(np.cumsum(lengths) - lengths, starts)
        wrong = np.flatnonzero(found[at] != [ids[token] for token in tokens]).tolist()
        return {tokens[k]: ids[tokens[k]] for k in wrong}

    def _put_whole_tokens(self, ids, text, cuts):
        """The ids with one in place of several where a piece is a token beyond all merges."""
        spans = zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        whole = [(low, high) for low, high in spans if text[low:high] in self._whole]
        starts = np.append(np.cumsum(self.lengths[ids]) - self.lengths[ids], len(text))
        keep = np.ones(ids.size, bool)
        for low, high in whole:
            first, last = np.searchsorted(starts, (low, high))
            ids[first] = self._whole[text[low:high]]
            keep[first + 1 : last] = False
        return ids[keep]


if __name__ == "__main__":
    from time import perf_counter

    texts = python_library()
    train_bpe(texts[:1], 260)
    times = [perf_counter()]
    tokenizer = train_bpe(texts, 4096)
    times.append(perf_counter())
    ids = [tokenizer.encode(text) for text in texts]
    times.append(perf_counter())
    same = [tokenizer.decode_bytes(part) for part in ids] == texts
    times.append(perf_counter())
    size, (train, encode, decode) = sum(map(len, texts)), np.diff(times)
    print(f"bytes={size} tokens={sum(map(len, ids))} train_s={train:.2f} same={same} "
          f"encode_mb_per_s={size / 1e6 / encode:.0f} decode_mb_per_s={size / 1e6 / decode:.0f}")
