"""Train a tokenizer on a text and write it as tokenizer.json.

    python scripts/train_tokenizer.py --text book.txt --out runs/book.json
    python scripts/train_tokenizer.py --kind bpe --vocab 32768 --pattern llama3 \\
        --special "<|endoftext|>" "<|pad|>" --text FOLDER --out runs/large.json
    python scripts/train_tokenizer.py --kind unigram --vocab 2048 --text book.txt --out runs/u.json

--vocab counts bytes, merges and special tokens. A file may be larger than memory: of bpe, only the
different pieces are kept. Files of a folder are documents of their own; binary ones are skipped.
"""

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from tinygrad_edu.data.corpus import Documents, counted, readable_size
from tinygrad_edu.data.sources import find_text, walk
from tinygrad_edu.files.atomic import refuse_unwritable
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.tokenizers.bpe import TIES
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.kinds import KINDS, train_tokenizer
from tinygrad_edu.tokenizers.patterns import SCANNERS
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.program import program


@dataclass
class Settings:
    """What is trained, and on what."""

    text: Path = option(help="file or folder of plain text")
    out: Path = option(help="file to write, tokenizer.json for example")
    kind: Literal[KINDS] = option("bpe", "how text is written as numbers")
    vocab: int = option(4096, "tokens, special ones included", low=1)
    pattern: Literal[tuple(SCANNERS)] = option("gpt2", "how bpe cuts text into pieces")
    ties: Literal[TIES] = option("bytes", "which of two pairs as frequent bpe merges first: the "
                                          "greater byte strings, or the one known first")
    special: str = option(END_OF_TEXT, "special tokens, one after the other")


def main():
    """Train, write, and say how well it writes what it has seen."""
    settings, given = parse(Settings, one_word(sys.argv[1:]), description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        documents = read_documents(settings.text)
        options = {"pattern": settings.pattern, "ties": settings.ties}
        if settings.kind != "bpe":
            for name in sorted(given & options.keys()):
                raise ValueError(f"--{name} belongs to --kind bpe: leave it away")
            options = {}
        special = list(dict.fromkeys(settings.special.split()))
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        refuse_unwritable(settings.out)
        start = time.perf_counter()
        merges = partial(tqdm, desc="learning", leave=False, delay=1)
        tokenizer = train_tokenizer(
            settings.kind, shown(documents), settings.vocab, special, merges, **options
        )
        took = time.perf_counter() - start
        save_tokenizer(tokenizer, settings.out)
        sample = list(documents.sample(1 << 20))
        tokens = sum(tokenizer.encode(text).size for text in sample)
    print(f"{counted(len(documents), 'document')} with {readable_size(documents.size)}, "
          f"written to {settings.out}")
    print(f"kind={settings.kind} vocab={tokenizer.vocab_size} bytes={documents.size} "
          f"train_s={took:.2f} bytes_per_token={sum(map(len, sample)) / max(tokens, 1):.3f}")


def one_word(argv):
    """The command line with all that follows --special, up to the next flag, as one word."""
    words, names = [], []
    taking = False
    for word in argv:
        if word.startswith("--"):
            taking = word == "--special"
            words += [] if taking else [word]
        elif taking:
            names.append(word)
        else:
            words.append(word)
    return words + (["--special", " ".join(names)] if names or taking else [])


def read_documents(path):
    """The text files at a path, as Documents; ValueError where there are none."""
    files = sorted(walk(path, ())) if path.is_dir() else [path]
    found = (find_text(file, file.as_posix()) for file in files)
    documents = Documents(document for document in found if document and document.size)
    if not len(documents):
        raise ValueError(f"{path} holds no plain text: give a file or a folder that does")
    return documents


def shown(documents):
    """The texts of documents, with a bar."""
    with tqdm(desc="reading", total=documents.size, unit="B", unit_scale=True, leave=False,
              delay=1) as bar:
        for _, text in documents:
            yield text
            bar.update(len(text))


if __name__ == "__main__":
    with program():
        main()
