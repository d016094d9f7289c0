"""Lesson 4.0 · Corpora: text, and the part of it that is never trained on

Needs nothing. Used by sources.

Idea      A language model learns from plain bytes. What matters more than where they come from is
          the part that is held out. Held out is what training never sees: only there does the loss
          say what was learned rather than what was remembered. So the split is made here, once,
          before anything is counted, and it depends on the text alone: no seed, no order of files
          on a disk. The text itself stays on the disk: a corpus knows where its documents are and
          reads them whenever someone walks over them, a piece at a time, so it may be larger than
          memory.
Math      u(path) = sha256(path)₀…₇ / 2⁶⁴ ∈ [0, 1)     held out  ⇔  u(path) < 0.1               (1)
          SHA-256, a checksum, looks random and is always the same; its first 8 bytes are a number.
          one file of n bytes: train = bytes [0, c), held out = [c, n), c = n − ⌊n/10⌋          (2)
          c steps back (by 3 at most) to where a UTF-8 character begins: 10xxxxxx continues one.
          a sample of m of n bytes: blocks that begin at ⌊k·n/K⌋, k = 0 … K − 1, K = ⌊m/block⌋ (3)
Shapes    a document is (path, bytes): the path relative to the folder, with "/" on every system;
          a long one comes as several pairs with the same path, in order
          Corpus.train, Corpus.held_out: a list of such pairs, or Documents, sorted by path
Pitfalls  Copies. A file that lies in both parts makes the held-out loss a test of memory: exact
          copies are taken out of the held-out part. Near copies stay; the standard library has
          some (the tables in encodings/ differ in a few rows), so its loss flatters a little.
          A tenth of the files is not a tenth of the bytes: of Python 3.11.7's library 14.6 % are
          held out, two fifths of that in one file of English help texts, pydoc_data/topics.py.
          Drawing the split from a generator moves every file as soon as one is added. With a hash
          of the path (1) each file keeps its side; renaming it can change it.
          One file by position: its end may be unlike its beginning (an appendix, an index).
          A piece that ended anywhere would cut a word, and be encoded otherwise than the whole. It
          ends with a line, between two visible characters: no token of lesson bpe goes across.
          A file may change between two walks: one that became shorter is refused.
Cost      A walk reads every file once; in memory are a piece of it, and a path and two numbers for
          each document.
Try       build it    write split_file for one song per paragraph: hash the paragraphs instead.
          break it    remove the line that drops copies. Which test in tests/data/test_corpus.py
                      notices?
          measure it  python -m tinygrad_edu.data.sources, then with a folder of your own.
See       Lee et al. 2022 "Deduplicating training data makes language models better" · RFC 3629
          section 3 (UTF-8)
"""

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

HELD_OUT_SHARE = 0.1
PIECE = 1 << 22  # bytes of one document that are in memory at a time
SAMPLE = 1 << 26  # bytes that are enough to train a tokenizer on
BLOCK = 1 << 16  # bytes of a sample that stand together


@dataclass(frozen=True)
class Document:
    """Where the bytes of a document are: [start, stop) of a file, or of `text` in memory."""

    path: str
    file: Path | None
    start: int
    stop: int
    text: bytes | None = None

    @property
    def size(self):
        """Number of bytes."""
        return self.stop - self.start

    def read(self, first, last):
        """Its bytes [first, last), or as far as it goes; OSError where the file is shorter now."""
        start, stop = self.start + first, min(self.start + last, self.stop)
        if self.text is not None:
            return self.text[start:stop]
        with open(self.file, "rb") as file:
            file.seek(start)
            found = file.read(stop - start)
        if len(found) < stop - start:
            raise OSError(f"{self.file} has become shorter while it was read: start again")
        return found

    def pieces(self):
        """Yield all of it as (path, bytes), at most PIECE bytes at a time."""
        first = 0
        while first < self.size:
            text = self.read(first, first + PIECE)
            if first + len(text) < self.size:
                text = text[: line_start(text)]
            yield self.path, text
            first += len(text)

    def digest(self):
        """SHA-256 of its bytes."""
        digest = hashlib.sha256()
        for _, text in self.pieces():
            digest.update(text)
        return digest.digest()


class Documents:
    """Documents that are read when one walks over them: `for path, text in documents`.

    With a `separator`, every file holds many documents with these bytes between them. They are cut
    out and path#0, path#1 … handed on; the sizes still count them, since the token that will stand
    between two documents stands for them.
    """

    def __init__(self, documents, separator=None):
        self.documents = list(documents)
        self.separator = separator

    @property
    def size(self):
        """Number of bytes of all documents."""
        return sum(document.size for document in self.documents)

    def __len__(self):
        return len(self.documents)

    def __add__(self, other):
        return Documents(self.documents + other.documents, self.separator)

    def __iter__(self):
        for document in self.documents:
            number = 0
            for path, text in document.pieces():
                if self.separator is None:
                    yield path, text
                    continue
                first, *others = text.split(self.separator)
                yield f"{path}#{number}", first
                for other in others:
                    number += 1
                    yield f"{path}#{number}", other

    def sample(self, most=SAMPLE):
        """Yield whole lines from all over the documents (3), the same ones each time.

        All of the text where it has no more than `most` bytes, else no more than `most`.
        """
        if self.size <= most:
            yield from (text for _, text in self)
            return
        ends = list(accumulate(document.size for document in self.documents))
        count = max(most // BLOCK, 1)
        for k in range(count):
            at = k * ends[-1] // count  # (3)
            place = bisect_right(ends, at)
            document = self.documents[place]
            first = at - (ends[place] - document.size)
            text = document.read(first, first + min(BLOCK, most))
            if first > 0:
                text = text[text.find(b"\n") + 1 :]
            text = text[: text.rfind(b"\n") + 1] or text
            yield from text.split(self.separator) if self.separator else [text]


def in_memory(pairs):
    """Documents of a list of (path, bytes)."""
    return Documents([Document(path, None, 0, len(text), text) for path, text in pairs])


@dataclass(frozen=True)
class Corpus:
    """Documents for training and documents held out, with what was left aside.

    Each part is a list of (path, bytes) or a Documents: it can be walked over again and again.
    """

    name: str
    train: list[tuple[str, bytes]] | Documents
    held_out: list[tuple[str, bytes]] | Documents
    copies: int = 0  # documents removed from the held-out part: their bytes are in train
    binary: int = 0  # files skipped because they are not text

    @property
    def train_bytes(self):
        """Number of bytes of text to train on."""
        return size_of(self.train)

    @property
    def held_out_bytes(self):
        """Number of bytes of text held out: what bits per byte divide by."""
        return size_of(self.held_out)

    def sample(self, most=SAMPLE):
        """Texts to train a tokenizer on: all of the training part, or `most` bytes of it (3)."""
        train = self.train if isinstance(self.train, Documents) else in_memory(self.train)
        return train.sample(most)

    def statistics(self):
        """One line for people: how much there is on each side and what was left aside."""
        held_out = self.held_out_bytes
        share = 100 * held_out / (held_out + self.train_bytes)
        line = f"{self.name}: {amount(self.train)} to train on, {amount(self.held_out)} held out"
        line += f" ({share:.1f} %)"
        if self.copies:
            line += f"; {counted(self.copies, 'copy', 'copies')} removed from the held-out part"
        if self.binary:
            line += f"; {counted(self.binary, 'binary file')} skipped"
        return line


def size_of(documents):
    """Number of bytes of a list of (path, bytes), or of Documents, which need not be read."""
    if isinstance(documents, Documents):
        return documents.size
    return sum(len(text) for _, text in documents)


def counted(number, singular, plural=None):
    """`1 file`, `1,204 files`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def amount(documents):
    """`1,204 documents with 13.17 MB`, where a MB is 10⁶ bytes."""
    word = "file" if getattr(documents, "separator", None) else "document"
    return f"{counted(len(documents), word)} with {readable_size(size_of(documents))}"


def readable_size(size):
    """`13.17 MB`, `4.1 kB`, `19 bytes`."""
    if size < 1000:
        return counted(size, "byte")
    return f"{size / 1e3:.1f} kB" if size < 1e5 else f"{size / 1e6:,.2f} MB"


def hashed(path):
    """u(path) of equation (1): a number in [0, 1) that is the same on every machine."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_folder(name, documents, binary=0):
    """Split two or more documents by the hash of their paths (1).

    Both parts get at least one: in a small folder the lowest hash is held out, the highest kept.
    """
    order = sorted(documents, key=lambda document: hashed(document.path))
    count = sum(hashed(document.path) < HELD_OUT_SHARE for document in order)
    count = min(max(count, 1), len(order) - 1)
    train, held_out = (
        sorted(part, key=lambda document: document.path) for part in (order[count:], order[:count])
    )
    sizes = {document.size for document in held_out}
    seen = {document.digest() for document in train if document.size in sizes}
    held_out = [document for document in held_out if document.digest() not in seen]
    if not held_out:
        raise ValueError(
            f"every document of {name!r} that could be held out is a copy of one to train on:"
            " give a folder with more different texts"
        )
    copies = count - len(held_out)
    return Corpus(name, Documents(train), Documents(held_out), copies, binary)


def character_start(text, cut):
    """The nearest place at or before `cut` where a UTF-8 character begins, `cut` if none does."""
    for start in range(cut, max(cut - 4, -1), -1):
        if start == len(text) or text[start] & 0b11000000 != 0b10000000:
            return start
    return cut


def line_start(text):
    """The last place where a line begins, or where a character does if that is the only line.

    If possible with a visible ASCII character on both sides of the line feed: what is encoded up to
    there and what is encoded from there on are then what the whole would be.
    """
    at = text.rfind(b"\n")
    while at > 0:
        if b" " < text[at - 1 : at] < b"\x7f" and b" " < text[at + 1 : at + 2] < b"\x7f":
            return at + 1
        at = text.rfind(b"\n", 0, at)
    return text.rfind(b"\n") + 1 or character_start(text, len(text) - 1)


def split_file(name, document, binary=0):
    """Split one document by position (2): the last tenth is held out, at a character's start."""
    cut = document.size - document.size // 10
    low = max(cut - 3, 0)
    cut = low + character_start(document.read(low, cut + 1), cut - low)
    if not 0 < cut < document.size:
        raise ValueError(
            f"{name!r} has {counted(document.size, 'byte')}, too few to hold a tenth of them out:"
            " give a longer text"
        )
    cut += document.start
    train, held_out = replace(document, stop=cut), replace(document, start=cut)
    return Corpus(name, Documents([train]), Documents([held_out]), binary=binary)
