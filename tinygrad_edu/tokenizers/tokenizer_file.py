"""Lesson 4.23 · tokenizer.json: a tokenizer as a file

Needs atomic, bpe, byte_characters, characters, presplit, unicode. Used by models/run.py,
scripts/train_gpt.py.

Idea      A model without its tokenizer is a list of numbers that nobody can read, so the two travel
          together. The common form is one JSON file, tokenizer.json of the package `tokenizers`. It
          describes a chain: normalizer, pre-tokenizer, model, decoder. Written here are the two
          chains that this folder knows, in such a way that the package gives the same ids. Read are
          files of these chains, whoever wrote them, GPT-2's among them; any other chain is refused,
          because almost the right ids are worse than none.
Math      JSON holds text, tokens are bytes. GPT-2 gave each byte a visible character:
            u(b) = chr(b) for b in 33 … 126, 161 … 172, 174 … 255                               (1)
            u(b) = chr(256 + k) for the k-th of the other bytes, counted from 0                 (2)
          so that the space is Ġ (U+0120) and the line feed Ċ (U+010A).
Shapes    {"added_tokens": [{"id": 4095, "content": "<|endoftext|>", "special": true, …}],
           "pre_tokenizer": {"type": "ByteLevel", …}, "decoder": {"type": "ByteLevel", …},
           "model": {"type": "BPE", "vocab": {"Ā": 0, …}, "merges": ["Ġ Ġ", …]}, …}
          vocab: token → id, every id from 0 to V − 1 once · merges: "left right" in order of rank
          (or ["left", "right"], as newer versions of the package write it) · added_tokens: special
          tokens with their ids, here also part of vocab, as in GPT-2's own file
          The character tokenizer is a model "WordLevel" behind a pre-tokenizer "Split".
Pitfalls  (1) is not Latin-1: U+0120 is byte 32, while U+0020 never occurs in a token.
          `add_prefix_space` puts a space in front of every text: then decode(encode(x)) ≠ x.
          The package recognises special tokens in any text it is given; `encode` here only those
          that the caller allows. With allowed_special="all" the two agree.
          truncation and padding in a file are about batches and are not applied here.
Cost      Reading checks every token and merge once.
Try       build it    write vocab.json and merges.txt, the two files GPT-2 was published with.
          break it    write the bytes as Latin-1. Which tests notice?
          measure it  python -m tinygrad_edu.tokenizers.tokenizer_file
See       openai/gpt-2, src/encoder.py (bytes_to_unicode) · huggingface/tokenizers, documentation of
          the components
"""

import json
from pathlib import Path

from tinygrad_edu.files.atomic import write_text
from tinygrad_edu.tokenizers.bpe import BPETokenizer, train_bpe
from tinygrad_edu.tokenizers.byte_characters import hidden, visible
from tinygrad_edu.tokenizers.characters import CharacterTokenizer
from tinygrad_edu.tokenizers.presplit import python_library
from tinygrad_edu.tokenizers.unicode import as_bytes

# GPT-2's pattern on bytes, and every character by itself ("." would leave out the line feed).
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
BYTE_LEVEL["use_regex"] = True
EACH_CHARACTER = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated"}
EACH_CHARACTER["invert"] = False
# Options of a BPE model that give other ids than lesson `bpe` does.
CHANGES_IDS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
CHANGES_IDS += ("ignore_merges",)


class TokenizerFileError(ValueError):
    """A file that is no tokenizer, is damaged, or is of a kind that is not read here."""


# ---- writing ---------------------------------------------------------------------------------


def save_tokenizer(tokenizer, path):
    """Write a BPETokenizer or CharacterTokenizer to `path` as tokenizer.json, in one step.

    Raises OSError as `open` does; the file at `path` is the old one then. ValueError where a
    special token is spelt like the visible form of an ordinary one, "Ġ" for example.
    """
    names = {index: name for name, index in tokenizer.special.items()}
    # A special token is written as its name; the bytes of the others have to become text first.
    bpe = isinstance(tokenizer, BPETokenizer)
    spell = visible if bpe else bytes.decode
    texts = [names.get(index) or spell(token) for index, token in enumerate(tokenizer.tokens)]
    vocab = {text: index for index, text in enumerate(texts)}
    if len(vocab) < len(texts):
        raise ValueError("a special token is spelt like an ordinary one; give it another name")
    model = bpe_model(vocab, texts, tokenizer.merges) if bpe else word_level_model(vocab)
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(names[index], index) for index in sorted(names)],
        "normalizer": None,
        "pre_tokenizer": BYTE_LEVEL if bpe else EACH_CHARACTER,
        "post_processor": None,
        "decoder": BYTE_LEVEL if bpe else {"type": "Fuse"},
        "model": model,
    }
    write_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def bpe_model(vocab, texts, merges):
    """The part `model` of a byte-level BPE."""
    # None of these occurs in byte-level BPE; the package wants them spelt out.
    absent = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    off = dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False)
    pairs = [f"{texts[left]} {texts[right]}" for left, right in merges]
    return {"type": "BPE", **dict.fromkeys(absent), **off, "vocab": vocab, "merges": pairs}


def word_level_model(vocab):
    """The part `model` of a list of characters.

    The package wants a name for unknown words; one that is no token makes it refuse them, as we do.
    """
    name = "<unknown>"
    while name in vocab:
        name = f"<{name}>"
    return {"type": "WordLevel", "vocab": vocab, "unk_token": name}


def added_token(name, index):
    """A special token, to be found in text exactly as it is spelt."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": name, **flags, "special": True}


# ---- reading ---------------------------------------------------------------------------------


def load_tokenizer(path):
    """The BPETokenizer or CharacterTokenizer in the file `path`.

    Raises TokenizerFileError, one sentence that begins with the path, for a file that is damaged,
    is something else, or describes a tokenizer of another kind; OSError as `open` does.
    """
    data = Path(path).read_bytes()
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise TokenizerFileError(f"{path} is not a tokenizer file: it is not JSON") from None
    try:
        return read_document(document)
    except ValueError as error:
        raise TokenizerFileError(f"{path}: {error}") from None


def read_document(document):
    """The tokenizer that the parsed JSON describes; ValueError says why it is none.

    Whatever would change ids and is not known here is refused, never skipped. The model of GPT-2's
    own file has no type: what has merges is BPE.
    """
    model = entry(document, "model", dict)
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind not in ("BPE", "WordLevel"):
        raise ValueError(f"the model is {kind!r}; read here are byte-level BPE and characters")
    if document.get("normalizer") is not None:
        raise ValueError("it has a normalizer, which is not supported here")
    special = read_special(document.get("added_tokens") or [])
    texts = read_vocabulary(entry(model, "vocab", dict), special)
    if kind == "BPE":
        return read_bpe(document, model, texts, special)
    return read_characters(document, texts, special)


def entry(mapping, key, kind):
    """mapping[key], which has to be there and of this type (bool is no int here)."""
    value = mapping.get(key) if isinstance(mapping, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        raise ValueError(f"{key!r} is missing or damaged, so this is not a usable tokenizer file")
    return value


def read_special(added):
    """dict from name to id of the added tokens, all of which count as special here.

    Their other flags say what white space around a name is swallowed: not done here.
    """
    special = {}
    if not isinstance(added, list):
        raise ValueError("'added_tokens' is damaged: it is not a list")
    for token in added:
        name = entry(token, "content", str)
        if not name or name in special:
            raise ValueError(f"the added token {name!r} is empty or occurs twice")
        special[name] = entry(token, "id", int)
        for flag in ("single_word", "lstrip", "rstrip"):
            if token.get(flag):
                raise ValueError(f"the added token {name!r} sets {flag}, not supported here")
    return special


def read_vocabulary(vocab, special):
    """The texts of the tokens in the order of their ids, which have to be 0 … V − 1, each once."""
    everything = {**vocab, **special}
    # A list of the right length, filled in: an id that is too large, too small or taken shows up.
    texts = [None] * len(everything)
    for text, index in everything.items():
        valid = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(texts)
        if not valid or texts[index] is not None:
            raise ValueError(
                f"token {text!r} has the id {index!r}, but the ids of {len(texts)} tokens have "
                "to be the numbers from 0, each once"
            )
        texts[index] = text
    return texts


def read_bpe(document, model, texts, special):
    """A BPETokenizer; ValueError where the chain is not the one of GPT-2."""
    before = entry(document, "pre_tokenizer", dict)
    if before.get("type") != "ByteLevel" or before.get("use_regex", True) is not True:
        raise ValueError("its pre-tokenizer is not the ByteLevel of GPT-2, the one known here")
    if before.get("add_prefix_space") is not False:
        raise ValueError("it puts a space before each text (add_prefix_space); not supported")
    if entry(document, "decoder", dict).get("type") != "ByteLevel":
        raise ValueError("its decoder is not ByteLevel, the one known here")
    # A post-processor of this type moves offsets only; the others add tokens to every text.
    after = document.get("post_processor")
    if after and entry(document, "post_processor", dict).get("type") != "ByteLevel":
        raise ValueError("it has a post-processor that adds tokens, not supported here")
    for option in CHANGES_IDS:
        if model.get(option):
            raise ValueError(f"its model sets {option}, which is not supported here")
    # Special tokens are spelt as they are, all others by `visible`.
    tokens = [as_bytes(text) if text in special else hidden(text) for text in texts]
    ids = {text: index for index, text in enumerate(texts)}
    merges = [read_merge(merge, ids) for merge in entry(model, "merges", list)]
    return BPETokenizer(tokens, merges, special)


def read_merge(merge, ids):
    """A merge, "left right" or ["left", "right"], as a pair of ids."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2:
        raise ValueError(f"the merge {merge!r} is not a pair of tokens")
    for part in parts:
        if not isinstance(part, str) or part not in ids:
            raise ValueError(f"the merge {merge!r} joins {part!r}, which is no token")
    return ids[parts[0]], ids[parts[1]]


def read_characters(document, texts, special):
    """A CharacterTokenizer; ValueError for any other list of words."""
    characters = [text for text in texts if text not in special]
    names = sorted(special, key=special.get)
    if document.get("pre_tokenizer") != EACH_CHARACTER or any(len(c) != 1 for c in characters):
        raise ValueError("it is a list of words, not of characters; only the latter is read here")
    tokenizer = CharacterTokenizer(characters, names)
    if tokenizer.tokens != [as_bytes(text) for text in texts]:
        raise ValueError("its characters are not in the order of their code points, as they must")
    return tokenizer


if __name__ == "__main__":
    from tempfile import TemporaryDirectory
    from timeit import timeit

    trained = train_bpe(python_library()[::8], 4096)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        save = timeit(lambda: save_tokenizer(trained, path), number=5) / 5
        load = timeit(lambda: load_tokenizer(path), number=5) / 5
        print(f"bytes={path.stat().st_size} save_ms={save * 1e3:.0f} load_ms={load * 1e3:.0f}")
