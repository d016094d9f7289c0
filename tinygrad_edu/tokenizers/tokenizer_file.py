"""Lesson 4.23 · Tokenizers as files: which kind is it?

Needs added, atomic, bpe, byte_characters, characters, hf_json, hf_steps, merges_file, pipeline,
presplit, tiktoken_file, unigram, wordpiece, words. Used by models/run.py, scripts/train_gpt.py,
scripts/tokenize_text.py.

Idea      A model without its tokenizer is a list of numbers that nobody can read, so the two travel
          together. The field has half a dozen kinds of file for that, and few say what they are.
          Here is one door for all: given a file, or a folder as models are published in, it finds
          out the kind, hands it to the lesson that knows it, and puts the name of the file before
          every complaint.
Math      kind: by the name where it is fixed (vocab.txt), else by the first bytes: { is JSON;
          base64, a space and a number is a rank file; "#version" is a list of merges         (1)
Shapes    a path → a BPETokenizer, a CharacterTokenizer or a Pipeline
Pitfalls  A folder may hold several: tokenizer.json says the most (cuts, templates), so it comes
          first, then vocab.json + merges.txt, then vocab.txt.
          A file that was written half is the worst of all: it may be read. So writing is done
          beside it, and renamed (lesson atomic).
          Whatever a damaged file causes inside must come out as one sentence, never as a KeyError.
Cost      Reading GPT-2's list of 50,257 tokens: see `measure it`.
Try       build it    a reader for one more kind: a token a line, its count behind a tab.
          break it    write straight to the path. Which test of lesson atomic shows why not?
          measure it  python -m tinygrad_edu.tokenizers.tokenizer_file
See       huggingface/transformers, documentation of PreTrainedTokenizer (names of the files)
"""

import json
from dataclasses import asdict
from pathlib import Path

from tinygrad_edu.files.atomic import write_text
from tinygrad_edu.tokenizers.added import Added
from tinygrad_edu.tokenizers.bpe import BPETokenizer, train_bpe
from tinygrad_edu.tokenizers.byte_characters import SUFFIX, WordEnds, spelt, visible
from tinygrad_edu.tokenizers.characters import CharacterTokenizer
from tinygrad_edu.tokenizers.hf_json import EACH_CHARACTER, PARTS, read_document
from tinygrad_edu.tokenizers.hf_steps import part_of_pattern
from tinygrad_edu.tokenizers.merges_file import read_gpt2, read_list_of_merges, read_vocab_txt
from tinygrad_edu.tokenizers.pipeline import Pipeline
from tinygrad_edu.tokenizers.presplit import python_library
from tinygrad_edu.tokenizers.tiktoken_file import is_rank_file, read_ranks
from tinygrad_edu.tokenizers.unigram import Unigram
from tinygrad_edu.tokenizers.wordpiece import WordPiece
from tinygrad_edu.tokenizers.words import Words

# What a folder may hold, the file that says most first: (names that belong together, reader).
FOLDERS = (
    (("tokenizer.json",), None),
    (("vocab.json", "merges.txt"), read_gpt2),
    (("encoder.json", "vocab.bpe"), read_gpt2),
    (("vocab.txt",), read_vocab_txt),
)


class TokenizerFileError(ValueError):
    """A file that is no tokenizer, is damaged, or is of a kind that is not read here."""


# ---- reading -----------------------------------------------------------------------------------


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
    """The tokenizer of a published model's folder: the first of FOLDERS that is complete.

    FileNotFoundError where there is none.
    """
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
    raise ValueError("it is no tokenizer.json, no rank file, no list of merges and no vocab.txt")


def parsed(data):
    """JSON from bytes; ValueError says where it breaks off, as a file does that was cut short."""
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError(f"it is not JSON, or only half of it: {error}") from None


# ---- writing -----------------------------------------------------------------------------------


def save_tokenizer(tokenizer, path):
    """Write a tokenizer to `path` as tokenizer.json, in one step.

    Raises OSError as `open` does; the file at `path` is the old one then. ValueError where it
    cannot be written: a special token is spelt like the visible form of an ordinary one, "Ġ" say.
    """
    document = write_document(tokenizer)
    write_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def write_document(tokenizer):
    """What `read_document` reads, for a tokenizer of this folder, as a dict of JSON's types.

    ValueError for a pipeline that was not built from parts, and where a special token is spelt like
    the visible form of an ordinary one, "Ġ" for example.
    """
    model = tokenizer.model if isinstance(tokenizer, Pipeline) else tokenizer
    if isinstance(tokenizer, Pipeline):
        added, parts = tokenizer.added, getattr(tokenizer, "parts", None)
        if parts is None:
            raise ValueError("this pipeline was put together by hand; build it from the parts of a "
                             "file (build_pipeline), then it can be written")
    else:
        added = [Added(name, index, special=True) for name, index in tokenizer.special.items()]
        characters = isinstance(tokenizer, CharacterTokenizer)
        parts = dict.fromkeys(PARTS)
        if characters:
            parts |= {"pre_tokenizer": EACH_CHARACTER, "decoder": {"type": "Fuse"}}
        else:
            parts["pre_tokenizer"] = part_of_pattern(tokenizer.pattern)
            parts["decoder"] = part_of_pattern("gpt2")
    added = sorted(added, key=lambda token: token.id)
    names = {token.id: token.content for token in added}
    fields = [{"id": token.id, **asdict(token)} for token in added]
    document = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": fields}
    return document | parts | {"model": write_model(model, names)}


def write_model(model, names):
    """The part `model`; names: id → content of the added tokens."""
    spell = {BPETokenizer: visible, WordEnds: spelt}.get(type(model), bytes.decode)
    texts = [names.get(index) or spell(token) for index, token in enumerate(model.tokens)]
    vocab = {text: index for index, text in enumerate(texts)}
    if len(vocab) < len(texts):
        raise ValueError("a special token is spelt like an ordinary one; give it another name")
    unknown = getattr(model, "unknown", None)
    name = None if unknown is None else texts[unknown]
    if isinstance(model, Unigram):
        rows = [[text, score] for text, score in zip(texts, model.scores.tolist(), strict=False)]
        return {"type": "Unigram", "unk_id": unknown, "vocab": rows,
                "byte_fallback": model.byte_fallback}
    if isinstance(model, WordPiece):
        return {"type": "WordPiece", "unk_token": name or absent(vocab), "vocab": vocab,
                "continuing_subword_prefix": model.prefix, "max_input_chars_per_word": model.most}
    if isinstance(model, Words | CharacterTokenizer):
        return {"type": "WordLevel", "vocab": vocab, "unk_token": name or absent(vocab)}
    options = {"fuse_unk": getattr(model, "fuse_unknown", False),
               "byte_fallback": getattr(model, "byte_fallback", False),
               "ignore_merges": getattr(model, "ignore_merges", False)}
    ends = {"continuing_subword_prefix": None,
            "end_of_word_suffix": SUFFIX if isinstance(model, WordEnds) else None}
    pairs = [f"{texts[left]} {texts[right]}" for left, right in model.merges]
    if any(pair.count(" ") > 1 for pair in pairs):  # a token holds a space itself
        pairs = [[texts[left], texts[right]] for left, right in model.merges]
    return {"type": "BPE", "dropout": None, "unk_token": name, **ends, **options, "vocab": vocab,
            "merges": pairs}


def absent(vocab):
    """A name that is no token: the package refuses unknown words then, as we do."""
    name = "<unknown>"
    while name in vocab:
        name = f"<{name}>"
    return name


if __name__ == "__main__":
    from tempfile import TemporaryDirectory
    from timeit import timeit

    trained = train_bpe(python_library()[::8], 4096)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        save = timeit(lambda: save_tokenizer(trained, path), number=5) / 5
        load = timeit(lambda: load_tokenizer(path), number=5) / 5
        print(f"bytes={path.stat().st_size} save_ms={save * 1e3:.0f} load_ms={load * 1e3:.0f}")
