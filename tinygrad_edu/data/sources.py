"""Lesson 4.30 · Sources: the words that --data knows

Needs config, corpus, download, stories, token_folder. Used by ngram, scripts/train_gpt.py,
scripts/score_python.py.

Idea      Text that everybody has: every Python brings some 12 MB of good bytes, its own standard
          library. Text that everybody knows: data sets with a name. And the text that matters most,
          one's own: a file, or a folder of notes as it is, with pictures, hidden folders and what
          else has gathered there over the years. All of them become a Corpus, with a part that is
          never trained on; a data set that was published with such a part keeps it.
Math      none; which part is held out is equations (1) and (2) of lesson corpus
Shapes    pystdlib                 this Python's standard library, split by file
          stories, stories:SEED    stories of our own, drawn anew, split by plot, hero and thing
          tinyshakespeare          one file, its last tenth held out
          tinystories, wikitext-2  their own training and validation parts; WikiText's test part is
                                   not touched
          FILE, FOLDER             one's own; a folder that is called pystdlib is ./pystdlib
Pitfalls  Text that changes between machines: figures must name the version of Python.
          Between the stories of TinyStories stand the 13 characters <|endoftext|>. Left in the
          text they are learnt as text, and the model never learns what the token means.
          An encoding is guessed from a byte order mark, the two or three bytes by which some
          programs begin a file, or not at all: Latin-1 stays as it is, and its letters are bytes
          that are no UTF-8. Line ends stay as they are, too.
          Whoever trains on the folder they are in will find the run in it the next time: the list
          of tokens in tokenizer.json is text, too. Runs are known by their files and passed over.
          The archive of WikiText is small and read where it lies: nothing is unpacked.
Cost      A folder is listed and the start of each file read. Text in UTF-16 is turned into UTF-8
          and stays in memory; all other text stays on the disk.
Try       build it    a word that stands for your mail box: the module mailbox reads it.
          break it    look for NUL bytes in the first 10 bytes only. Which test notices?
          measure it  python -m tinygrad_edu.data.sources, then with a folder of your own.
See       Python documentation, sysconfig, "Installation paths" · the lesson download (the data
          sets) · The Unicode Standard 16.0, section 23.8 (byte order marks)
"""

import codecs
import os
import platform
import sys
import sysconfig
import zipfile
from pathlib import Path

from tinygrad_edu.data.corpus import (
    Corpus,
    Document,
    Documents,
    counted,
    split_file,
    split_folder,
)
from tinygrad_edu.data.download import DATASETS, fetch
from tinygrad_edu.data.stories import read_stories
from tinygrad_edu.data.token_folder import is_token_folder
from tinygrad_edu.nn.config import did_you_mean

WORDS = ("pystdlib", "stories", *DATASETS)
NOT_LIBRARY = ("site-packages", "dist-packages", "test", "tests", "idle_test")
# Files by which one knows a folder that holds nobody's notes: a run, encoded text, an environment.
MADE_BY_PROGRAMS = {"checkpoint.safetensors", "tokens.json", "pyvenv.cfg"}
BETWEEN_STORIES = b"<|endoftext|>"


def word_of(spec):
    """Which of WORDS `spec` stands for, None for a path; of stories a seed may follow a colon."""
    word, colon, _ = str(spec).partition(":")
    return word if word in WORDS and (not colon or word == "stories") else None


def is_encoded(spec):
    """Whether `spec` is a folder of tokens. A word is none, whatever lies beside by that name."""
    return bool(str(spec)) and word_of(spec) is None and is_token_folder(spec)


def read_corpus(spec="pystdlib", data_dir=None):
    """The corpus that `spec` names: one of WORDS, a text file, or a folder of text files.

    `data_dir` is a folder of downloads that were brought by hand, looked into before anything is
    fetched. Raises OSError where something is not there or not to be had, ValueError where there is
    no text to split; both in one sentence.
    """
    word = word_of(spec)
    if word == "pystdlib":
        return pystdlib()
    if word == "stories":
        return read_stories(str(spec))
    if word:
        return read_dataset(word, fetch(word, data_dir))
    path = Path(spec).expanduser()
    if str(spec) and path.is_dir():
        return read_folder(path)
    if not path.is_file():
        hint = did_you_mean(str(spec), WORDS)
        raise FileNotFoundError(
            f"there is no file or folder {str(spec)!r}: give a text file, a folder, or one of"
            f" {', '.join(WORDS)}{hint}"
        )
    return read_file(path)


def pystdlib(folder=None):
    """The source of this Python's standard library, without its tests and installed packages.

    `folder` is for tests; the default is `sysconfig`'s stdlib folder, which in a virtual
    environment is still that of the Python beneath it.
    """
    folder = Path(folder or sysconfig.get_path("stdlib"))
    name = f"pystdlib (Python {platform.python_version()})"
    return read_folder(folder, name, suffix=".py", without=NOT_LIBRARY)


def read_dataset(name, paths):
    """The corpus of a data set whose files are there, split as it was published."""
    if name == "tinystories":
        parts = [[Document(path.name, path, 0, path.stat().st_size)] for path in paths]
        return Corpus(name, *(Documents(part, BETWEEN_STORIES) for part in parts))
    if name == "wikitext-2":
        with zipfile.ZipFile(paths[0]) as archive:
            members = [f"wikitext-2-raw/wiki.{part}.raw" for part in ("train", "valid")]
            return Corpus(name, *([(member, archive.read(member))] for member in members))
    return read_file(paths[0], name)


def read_file(path, name=None):
    """One file, split by position. ValueError where it is no text."""
    document = find_text(path, path.name)
    if document is None:
        raise ValueError(f"{str(path)!r} is not plain text: save it as text (UTF-8) and give that")
    return split_file(name or path.name, document)


def read_folder(folder, name=None, suffix="", without=()):
    """All text files below `folder` whose names end in `suffix`, split by path (1) of `corpus`.

    What `walk` passes over is not read, links to folders are not followed. Files that are not text
    (`find_text`) are counted. Empty files are no documents. A folder with one text file is split
    like a file.
    """
    documents = []
    binary = 0
    for file in walk(folder, without):
        if not file.name.endswith(suffix):
            continue
        document = find_text(file, file.relative_to(folder).as_posix())
        if document is None:
            binary += 1
        elif document.size:
            documents.append(document)
    if not documents:
        skipped = f" ({counted(binary, 'binary file')} skipped)" if binary else ""
        raise ValueError(
            f"the folder {str(folder)!r} holds no text{skipped}: give one with plain text files"
        )
    name = name or Path(folder).resolve().name
    if len(documents) == 1:
        return split_file(name, documents[0], binary)
    return split_folder(name, documents, binary)


def walk(folder, without):
    """Paths of the files below `folder`, hidden ones and those below `without` left out.

    Folders in it that a program has filled are left out too: runs, virtual environments.
    """
    for parent, folders, files in os.walk(folder):
        if MADE_BY_PROGRAMS & set(files) and Path(parent) != Path(folder):
            folders.clear()
            continue
        folders[:] = [one for one in folders if one not in without and not one.startswith(".")]
        for file in files:
            path = Path(parent, file)
            if not file.startswith(".") and path.is_file():  # no sockets, no dangling links
                yield path


def find_text(file, path):
    """The Document of a file, or None if it is binary.

    Binary is what has a NUL among its first 8,192 bytes, as git has it, and PDF. A byte order mark
    is no part of the text, and one of UTF-16 says how to read the rest.
    """
    with open(file, "rb") as opened:
        start = opened.read(8192)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            try:
                text = (start + opened.read()).decode("utf-16").encode()
            except UnicodeError:
                return None
            return None if b"\0" in text else Document(path, None, 0, len(text), text)
        size = opened.seek(0, os.SEEK_END)
    if b"\0" in start or start.startswith(b"%PDF-"):
        return None
    return Document(path, file, 3 if start.startswith(codecs.BOM_UTF8) else 0, size)


if __name__ == "__main__":
    print(read_corpus(*sys.argv[1:2]).statistics())
