"""Lesson 4.0 · Corpora: text, and the part of it that is never trained on

Needs nothing. Used by ngram, scripts/train_gpt.py, scripts/score_python.py.

Idea      A language model learns from plain bytes, and every Python brings some 12 MB of good
          ones: its own standard library. What matters more than where the text comes from is the
          part that training never sees: only on that part does the loss say what was learnt rather
          than what was remembered. So the split is made here, once, before anything is counted, and
          it depends on the text alone: no seed, no order of files on a disk.
Math      u(path) = sha256(path)₀…₇ / 2⁶⁴ ∈ [0, 1)     held out  ⇔  u(path) < 0.1               (1)
          one file of n bytes: train = bytes [0, c), held out = [c, n), c = n − ⌊n/10⌋          (2)
          c steps back (by 3 at most) to where a UTF-8 character begins: 10xxxxxx continues one.
Shapes    a document is (path, bytes): the path relative to the folder, with "/" on every system
          Corpus.train, Corpus.held_out: lists of documents, sorted by path
Pitfalls  Copies. A file that lies in both parts makes the held-out loss a test of memory: exact
          copies are taken out of the held-out part. Near copies stay; the standard library has
          some (the tables in encodings/ differ in a few rows), so its loss flatters a little.
          A tenth of the files is not a tenth of the bytes: of Python 3.11.7's library 14.6 % are
          held out, two fifths of that in one file of English help texts, pydoc_data/topics.py.
          Drawing the split from a generator moves every file as soon as one is added. With a hash
          of the path (1) each file keeps its side; renaming it can change it.
          One file by position: its end may be unlike its beginning (an appendix, an index).
          Text that changes between machines: figures must name the version of Python.
Cost      Each file is read once and all of it stays in memory, as many bytes as the text has.
Try       build it    write split_file for one song per paragraph: hash the paragraphs instead.
          break it    remove the line that drops copies. Which test in tests/data/test_corpus.py
                      notices?
          measure it  python -m tinygrad_edu.data.corpus, then with a folder of your own.
See       Lee et al. 2022 "Deduplicating training data makes language models better" · Python
          documentation, sysconfig, "Installation paths" · RFC 3629 section 3 (UTF-8)
"""

import hashlib
import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_SHARE = 0.1
NOT_LIBRARY = ("site-packages", "dist-packages", "test", "tests", "idle_test")


@dataclass(frozen=True)
class Corpus:
    """Documents for training and documents held out, with what was left aside."""

    name: str
    train: list[tuple[str, bytes]]
    held_out: list[tuple[str, bytes]]
    copies: int = 0  # documents removed from the held-out part: their bytes are in train
    binary: int = 0  # files skipped because they are not text

    @property
    def train_bytes(self):
        """Number of bytes of text to train on."""
        return sum(len(text) for _, text in self.train)

    @property
    def held_out_bytes(self):
        """Number of bytes of text held out: what bits per byte divide by."""
        return sum(len(text) for _, text in self.held_out)

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


def counted(number, singular, plural=None):
    """`1 file`, `1,204 files`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def amount(documents):
    """`1,204 documents with 13.17 MB`, where a MB is 10⁶ bytes."""
    size = sum(len(text) for _, text in documents)
    return f"{counted(len(documents), 'document')} with {size / 1e6:.2f} MB"


def read_corpus(spec="pystdlib"):
    """The corpus that `spec` names: `pystdlib`, a text file, or a folder of text files.

    A file is taken as it is and split by position (2), a folder by the hash of each path (1).
    To read a folder that is itself called pystdlib, write ./pystdlib.

    Raises FileNotFoundError where nothing has that name, ValueError where there is no text to
    split; both in one sentence.
    """
    if str(spec) == "pystdlib":
        return pystdlib()
    path = Path(spec).expanduser()
    if str(spec) and path.is_dir():
        return read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file or folder {str(spec)!r}: give pystdlib, a text file or a folder"
        )
    return split_file(path.name, path.read_bytes())


def pystdlib(folder=None):
    """The source of this Python's standard library, without its tests and installed packages.

    `folder` is for tests; the default is `sysconfig`'s stdlib folder, which in a virtual
    environment is still that of the Python beneath it.
    """
    folder = Path(folder or sysconfig.get_path("stdlib"))
    name = f"pystdlib (Python {platform.python_version()})"
    return read_folder(folder, name, suffix=".py", without=NOT_LIBRARY)


def read_folder(folder, name=None, suffix="", without=()):
    """All text files below `folder` whose names end in `suffix`, split by path (1).

    Hidden files and folders (a leading dot) and folders named in `without` are passed over, links
    to folders are not followed. A NUL byte makes a file binary, as git has it; UTF-16 therefore
    counts as binary. Empty files are no documents. A folder with one text file is split like a
    file.
    """
    documents = []
    binary = 0
    for path in walk(folder, without):
        if not path.name.endswith(suffix):
            continue
        text = read_text(path)
        if text is None:
            binary += 1
        elif text:
            documents.append((path.relative_to(folder).as_posix(), text))
    if not documents:
        raise ValueError(
            f"the folder {str(folder)!r} holds no text"
            f" ({counted(binary, 'binary file')} skipped): give a folder with text files"
        )
    name = name or Path(folder).resolve().name
    if len(documents) == 1:
        return split_file(name, documents[0][1], documents[0][0], binary)
    return split_folder(name, sorted(documents), binary)


def walk(folder, without):
    """Paths of the files below `folder`, hidden ones and those below `without` left out."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if one not in without and not one.startswith(".")]
        for file in files:
            path = Path(parent, file)
            if not file.startswith(".") and path.is_file():  # no sockets, no dangling links
                yield path


def read_text(path):
    """The bytes of a file, or None if it is binary: a NUL among its first 8,192 bytes."""
    with open(path, "rb") as file:
        start = file.read(8192)
        if b"\0" in start:
            return None
        return start + file.read()


def hashed(path):
    """u(path) of equation (1): a number in [0, 1) that is the same on every machine."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_folder(name, documents, binary=0):
    """Split two or more documents by the hash of their paths (1).

    Both parts get at least one: in a small folder the lowest hash is held out, the highest kept.
    """
    order = sorted(documents, key=lambda document: hashed(document[0]))
    count = sum(hashed(path) < HELD_OUT_SHARE for path, _ in order)
    count = min(max(count, 1), len(order) - 1)
    train = sorted(order[count:])
    seen = {text for _, text in train}
    held_out = sorted(document for document in order[:count] if document[1] not in seen)
    if not held_out:
        raise ValueError(
            f"every document of {name!r} that could be held out is a copy of one to train on:"
            " give a folder with more different texts"
        )
    return Corpus(name, train, held_out, copies=count - len(held_out), binary=binary)


def character_start(text, cut):
    """The nearest place at or before `cut` where a UTF-8 character begins, `cut` if none does."""
    for start in range(cut, max(cut - 4, -1), -1):
        if start == len(text) or text[start] & 0b11000000 != 0b10000000:
            return start
    return cut


def split_file(name, text, path=None, binary=0):
    """Split one document by position (2): the last tenth is held out, at a character's start."""
    cut = character_start(text, len(text) - len(text) // 10)
    train, held_out = text[:cut], text[cut:]
    if not train or not held_out:
        raise ValueError(
            f"{name!r} has {counted(len(text), 'byte')}, too few to hold a tenth of them out:"
            " give a longer text"
        )
    path = path or name
    return Corpus(name, [(path, train)], [(path, held_out)], binary=binary)


if __name__ == "__main__":
    print(read_corpus(*sys.argv[1:2]).statistics())
