"""Lesson 4.25 · Token folder: a corpus that is encoded once and then mapped

Needs atomic, bpe, characters, corpus, loader, presplit, tokenizer_file. Used by
scripts/train_gpt.py, scripts/score_python.py.

Idea      Training does not read text, it reads numbers, and it reads each of them many times. So
          they are made once and written down, piece by piece, with the tokenizer that made them;
          from then on the files are mapped: an array whose pages the system fetches when they are
          touched and forgets when memory is short. A corpus of any size trains in the memory that
          the model needs, a run that goes on needs neither the text nor the time to encode it, and
          one folder serves many runs.
Math      bytes on the disk = tokens · 2 for a vocabulary up to 2¹⁶, else tokens · 4            (1)
          CRC-32, a checksum, sees every change within 32 neighbouring bits, and all but one in 2³²
          of the others
Shapes    tokenizer.json   the tokenizer
          train.tokens     the training stream, bare little-endian ids; held_out.tokens likewise
          tokens.json      name, vocabulary and text_bytes; of both files how many tokens and the
                           CRC-32. It is written last: a folder that has it is complete.
Pitfalls  A tokenizer that was swapped decodes the numbers into nonsense and no loss says why: the
          size of its vocabulary has to be the one that is written down.
          Bits per byte divides by bytes of text, which the tokens no longer tell: they are written
          down too.
          What is mapped counts as memory in use in some tools (RSS), but the system can take it
          back at any time. Memory without a file behind it (anonymous) has to stay.
Cost      Writing: the time of encoding, and the memory of one piece of text. Reading: the checksums
          read every byte once, at the speed of the disk; `check=False` trusts the disk instead.
Try       build it    store the ids of a small vocabulary in 12 bits each. What does a batch cost?
          break it    write tokens.json first. Which test notices?
          measure it  python -m tinygrad_edu.data.token_folder: MB/s of encoding to a file, and of
                      checking it.
See       POSIX.1-2017, mmap() · Koopman 2002 "32-bit cyclic redundancy codes for Internet
          applications" · Karpathy's nanoGPT (streams of uint16 in a file)
"""

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.data.loader import encode_documents, read_tokens, token_type, write_tokens
from tinygrad_edu.files.atomic import write_text
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.tokenizer_file import load_tokenizer, save_tokenizer

NOTE = "tokens.json"
PARTS = ("train", "held_out")
FILES = ("tokenizer.json", *(f"{part}.tokens" for part in PARTS), NOTE)  # the note is written last
CHUNK = 1 << 24  # bytes of a file that are checked at a time


@dataclass(frozen=True)
class TokenFolder:
    """What a token folder holds; the streams are mapped and read-only."""

    folder: Path
    name: str  # of the corpus
    tokenizer: object
    train: np.ndarray
    held_out: np.ndarray
    train_bytes: int  # of text
    held_out_bytes: int
    checksum: str  # eight digits that stand for both streams


def is_token_folder(folder):
    """Whether a folder holds a complete corpus of tokens."""
    return Path(folder, NOTE).is_file()


def write_token_folder(folder, corpus, tokenizer):
    """Encode a Corpus into `folder`, which is made if need be; what was there is replaced.

    Returns what `read_token_folder` does. Before each document, the first one too, stands the token
    END_OF_TEXT: the end of the one before.
    Raises OSError as `open` does, ValueError where the tokenizer cannot encode the text.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOTE).unlink(missing_ok=True)
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    end = tokenizer.special.get(END_OF_TEXT)
    note = {"name": corpus.name, "vocabulary": tokenizer.vocab_size}
    note["text_bytes"] = {"train": corpus.train_bytes, "held_out": corpus.held_out_bytes}
    for part in PARTS:
        path = file_of(folder, part)
        documents, size = getattr(corpus, part), note["text_bytes"][part]
        with progress(f"encoding {part.replace('_', '-')} text", size) as bar:
            pieces = encode_documents(documents, tokenizer.encode, end, bar.update)
            write_tokens(path, pieces, tokenizer.vocab_size)
        count = os.path.getsize(path) // token_type(tokenizer.vocab_size).itemsize
        note[part] = {"tokens": count, "crc32": f"{crc32_of(path):08x}"}
    write_text(folder / NOTE, json.dumps(note, indent=1) + "\n")
    return read_token_folder(folder, check=False)


def read_token_folder(folder, check=True):
    """The TokenFolder in `folder`, with its streams mapped: nothing is loaded.

    With `check`, the checksums of both files are computed, which reads them once. Raises OSError
    where a file is missing, ValueError where one is not the file that was written; one sentence.
    """
    folder = Path(folder)
    if not is_token_folder(folder):
        raise FileNotFoundError(
            f"{folder} holds no encoded text: there is no {NOTE}, which is written when all tokens"
            " are; encode the text again"
        )
    note = read_note(folder)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    if tokenizer.vocab_size != note["vocabulary"]:
        raise ValueError(
            f"{folder / 'tokenizer.json'} has {tokenizer.vocab_size} tokens, the text beside it was"
            f" encoded with {note['vocabulary']}: put the right tokenizer there"
        )
    streams = {part: read_part(folder, part, note, check) for part in PARTS}
    checksum = note["train"]["crc32"] + note["held_out"]["crc32"]
    text = {f"{part}_bytes": note["text_bytes"][part] for part in PARTS}
    checksum = f"{zlib.crc32(checksum.encode()):08x}"
    return TokenFolder(folder, note["name"], tokenizer, **streams, **text, checksum=checksum)


def file_of(folder, part):
    """Where the tokens of "train" or "held_out" are."""
    return Path(folder) / f"{part}.tokens"


def read_note(folder):
    """What tokens.json says, with the types that it has to have."""
    path = Path(folder) / NOTE
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        wanted = [(note["name"], str), (note["vocabulary"], int)]
        for part in PARTS:
            wanted += [(note["text_bytes"][part], int), (note[part]["tokens"], int)]
            wanted.append((note[part]["crc32"], str))
        if not all(type(value) is kind for value, kind in wanted):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"{path} is not the note of a token folder, or damaged: encode the text again"
        ) from None
    return note


def read_part(folder, part, note, check):
    """One mapped stream, refused where it is not what the note says."""
    path = file_of(folder, part)
    wanted = note[part]["tokens"]
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: bring it back, or encode the text again")
    stream = read_tokens(path, note["vocabulary"])
    if len(stream) != wanted:
        raise ValueError(
            f"{path} has {len(stream):,} tokens, {NOTE} says {wanted:,}: bring the whole file, or"
            " encode the text again"
        )
    if check and f"{crc32_of(path):08x}" != note[part]["crc32"]:
        raise ValueError(
            f"{path} is damaged: its checksum is not the one in {NOTE}; encode the text again"
        )
    return stream


def crc32_of(path):
    """CRC-32 of a file, with a bar where that takes more than a moment."""
    code = 0
    with open(path, "rb") as file, progress(f"checking {path.name}", path.stat().st_size) as bar:
        while block := file.read(CHUNK):
            code = zlib.crc32(block, code)
            bar.update(len(block))
    return code


def progress(title, size):
    """A bar in bytes, which appears after a second and goes when it is full."""
    from tqdm import tqdm

    return tqdm(desc=title, total=size, unit="B", unit_scale=True, leave=False, delay=1)


if __name__ == "__main__":
    from tempfile import TemporaryDirectory
    from time import perf_counter

    from tinygrad_edu.data.corpus import Corpus
    from tinygrad_edu.tokenizers.bpe import train_bpe
    from tinygrad_edu.tokenizers.presplit import python_library

    texts = [(str(k), text) for k, text in enumerate(python_library())]
    corpus = Corpus("library", texts, texts[:1])
    tokenizer = train_bpe(corpus.sample(), 2048)
    with TemporaryDirectory() as folder:
        start = perf_counter()
        write_token_folder(folder, corpus, tokenizer)
        middle = perf_counter()
        found = read_token_folder(folder)
        end = perf_counter()
        encoding = corpus.train_bytes / 1e6 / (middle - start)
        checking = found.train.nbytes / 1e6 / (end - middle)
        count = len(found.train)
        print(f"tokens={count} encode_mb_per_s={encoding:.1f} check_mb_per_s={checking:.0f}")
        del found  # Windows does not remove a file that is mapped
