"""Lesson 4.23 · Tokenizers as files: which kind is it?

Needs atomic, bpe, hf_json, merges_file, presplit, tiktoken_file. Used by models/run.py,
scripts/train_gpt.py, scripts/tokenize_text.py.

Idea      A model without its tokenizer is a list of numbers that nobody can read, so the two travel
          together. The field has half a dozen kinds of file for that, and few say what they are. Here is
          one door for all: given a file, or a folder as models are published in, it finds out the kind,
          hands it to the lesson that knows it, and puts the name of the file before every complaint.
Math      kind = by the name where a name is fixed (vocab.txt, merges.txt), else by the first bytes:    (1)
          { is JSON · base64, a space, a number: a rank file · "#version" or pairs: merges
Shapes    a path → a BPETokenizer, a CharacterTokenizer or a Pipeline
Pitfalls  A folder may hold several: tokenizer.json says the most (cuts, templates), so it comes first,
          then vocab.json + merges.txt, then vocab.txt.
          A file that was written half is the worst of all: it may be read. So writing is done beside
          it, and renamed (lesson atomic).
          Whatever a damaged file causes inside must come out as one sentence, never as a KeyError.
Cost      Reading GPT-2's list of 50,257 tokens: see `measure it`.
Try       build it    a reader for one more kind: BertTokenizer's older vocab with one token a line and
                      its count behind a tab.
          break it    write straight to the path. Which test of lesson atomic shows why not?
          measure it  python -m tinygrad_edu.tokenizers.tokenizer_file
See       huggingface/transformers, documentation of PreTrainedTokenizer (names of the files)
"""

import json
from pathlib import Path

from tinygrad_edu.files.atomic import write_text
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.hf_json import read_document, write_document
from tinygrad_edu.tokenizers.merges_file import read_gpt2, read_list_of_merges, read_vocab_txt
from tinygrad_edu.tokenizers.presplit import python_library
from tinygrad_edu.tokenizers.tiktoken_file import is_rank_file, read_ranks

# What a folder may hold, the file that says most first: (names that belong together, reader).
FOLDERS = (
    (("tokenizer.json",), None),
    (("vocab.json", "merges.txt"), read_gpt2),
    (("encoder.json", "vocab.bpe"), read_gpt2),
    (("vocab.txt",), read_vocab_txt),
)


class TokenizerFileError(ValueError):
    """A file that is no tokenizer, is damaged, or is of a kind that is not read here."""


def save_tokenizer(tokenizer, path):
    """Write a tokenizer to `path` as tokenizer.json, in one step.

    Raises OSError as `open` does; the file at `path` is the old one then. ValueError where it cannot
    be written: a special token is spelt like the visible form of an ordinary one, "Ġ" for example.
    """
    document = write_document(tokenizer)
    write_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def load_tokenizer(path):
    """The tokenizer in a file or folder, of any kind that this folder knows, (1).

    OSError as `open` raises it; TokenizerFileError, in one sentence, for what is no tokenizer.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return read_folder(path)
        return read_file(path)
    except TokenizerFileError:
        raise
    except (ValueError, RecursionError) as error:
        what = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise TokenizerFileError(f"{path}: {what}") from None


def read_folder(folder):
    """The tokenizer of a published model's folder."""
    for names, reader in FOLDERS:
        paths = [folder / name for name in names]
        if all(path.is_file() for path in paths):
            return reader(*paths) if reader else load_tokenizer(*paths)
    wanted = " or ".join(" + ".join(names) for names, _ in FOLDERS)
    raise FileNotFoundError(f"{folder} holds no tokenizer: there is no {wanted}")


def read_file(path):
    """The tokenizer of one file, (1)."""
    data = path.read_bytes()
    if path.name == "vocab.txt":
        return read_vocab_txt(path)
    if data.lstrip()[:1] in (b"{", b"["):
        return read_document(parsed(data))
    if is_rank_file(data):
        return read_ranks(path)
    if data.startswith((b"#version", b'"bpe_simple_vocab', b"\x1f\x8b")):
        return read_list_of_merges(path)
    raise ValueError("it is neither a tokenizer.json, a rank file, a list of merges nor a vocab.txt")


def parsed(data):
    """JSON from bytes."""
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError(f"it is not JSON, or only half of it: {error}") from None


if __name__ == "__main__":
    from tempfile import TemporaryDirectory
    from timeit import timeit

    trained = train_bpe(python_library()[::8], 4096)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        save = timeit(lambda: save_tokenizer(trained, path), number=5) / 5
        load = timeit(lambda: load_tokenizer(path), number=5) / 5
        print(f"bytes={path.stat().st_size} save_ms={save * 1e3:.0f} load_ms={load * 1e3:.0f}")
