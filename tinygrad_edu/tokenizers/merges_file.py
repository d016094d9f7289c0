"""Lesson 4.21 · Lists as files: merges.txt, CLIP's merges, vocab.txt

Needs added, atomic, bpe, byte_characters, characters, hf_json, hf_steps, presplit, unicode,
wordpiece. Used by tokenizer_file.

Idea      Before there was one file for a tokenizer there were lists. GPT-2 came as two of them:
          vocab.json (or encoder.json) numbers the tokens, merges.txt (or vocab.bpe) has a merge a
          line, best first. CLIP came as a list of merges alone: bytes, bytes that end a word,
          merges, two special tokens, numbered in this order. BERT came as vocab.txt: a token a
          line, its number the number of the line. A list says nothing of how a text is cut; that is
          known of the model it came with.
Math      CLIP's V = 256 bytes + 256 bytes that end a word + 48,894 merges + 2 = 49,408          (1)
          A word's end as a byte: "</w>" is 0xFF, which no UTF-8 holds. Then CLIP is byte-level
          BPE whose first merges are (b, 0xFF) for every byte b                                  (2)
Shapes    merges.txt: "#version: 0.2", then "left right" a line · vocab.txt: "[PAD]", "[unused0]", …
Pitfalls  The first line of merges.txt may be a comment; but "#" can begin a merge too, and "# #" is
          one. Only the very first line is looked at, and only for "#version".
          A line of merges.txt ends with a line feed only: U+0085 and U+2028 occur in tokens' files,
          and str.splitlines cuts there.
          CLIP lower-cases and squeezes white space: decode(encode(x)) is not x. "don 't" is not
          "don't". A vocab.txt whose last line is empty has one token less than lines.
Cost      Reading: some tenths of a second for 50,000 merges.
Try       build it    a reader for GPT-1's lists: as CLIP's, but over characters.
          break it    use str.splitlines. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.merges_file
See       Radford et al. 2019, 2021 (CLIP, section 2.4) · openai/CLIP, clip/simple_tokenizer.py ·
          Devlin et al. 2019, tokenization.py
"""

import gzip
import json
from pathlib import Path

from tinygrad_edu.files.atomic import write_text
from tinygrad_edu.tokenizers.added import Added
from tinygrad_edu.tokenizers.bpe import BPETokenizer, train_bpe
from tinygrad_edu.tokenizers.byte_characters import (
    CHARACTER_OF_BYTE,
    SUFFIX,
    WordEnds,
    ended,
    hidden,
    visible,
)
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.hf_json import build_pipeline
from tinygrad_edu.tokenizers.hf_steps import BYTES
from tinygrad_edu.tokenizers.presplit import python_library
from tinygrad_edu.tokenizers.unicode import as_bytes
from tinygrad_edu.tokenizers.wordpiece import SPECIAL, WordPiece

MOST_OF_CLIP = 48_894  # its file holds more merges than it uses, (1)
START_OF_TEXT = "<|startoftext|>"
STEPS_OF_CLIP = {
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"}, {"type": "Digits", "individual_digits": True},
        BYTES | {"use_regex": True}]},
    "decoder": BYTES,
}


# ---- GPT-2 and CLIP ------------------------------------------------------------------------------


def read_gpt2(vocab_path, merges_path):
    """A BPETokenizer from vocab.json and merges.txt, however they are called.

    What no merge makes and is no byte is a special token.
    """
    vocab = json.loads(Path(vocab_path).read_bytes())
    if not isinstance(vocab, dict) or not all(type(index) is int for index in vocab.values()):
        raise ValueError(f"{Path(vocab_path).name} is no list of tokens with their numbers")
    texts = sorted(vocab, key=vocab.get)
    if [vocab[text] for text in texts] != list(range(len(texts))):
        raise ValueError(f"the numbers in {Path(vocab_path).name} are not 0 … {len(texts) - 1}")
    pairs = read_merges(merges_path)
    made = {left + right for left, right in pairs}.union(CHARACTER_OF_BYTE.values())
    special = {text: index for text, index in vocab.items() if text not in made}
    tokens = [as_bytes(text) if text in special else hidden(text) for text in texts]
    return BPETokenizer(tokens, numbered(pairs, vocab), special)


def write_gpt2(tokenizer, folder):
    """Write a BPETokenizer as vocab.json and merges.txt into a folder."""
    if not isinstance(tokenizer, BPETokenizer) or tokenizer.pattern != "gpt2":
        raise ValueError("vocab.json and merges.txt are for byte-level BPE cut as GPT-2 cuts: they "
                         "say of no other how a text is cut; write a tokenizer.json")
    names = {index: name for name, index in tokenizer.special.items()}
    texts = [names.get(index) or visible(token) for index, token in enumerate(tokenizer.tokens)]
    lines = [f"{texts[left]} {texts[right]}" for left, right in tokenizer.merges]
    vocab = {text: index for index, text in enumerate(texts)}
    write_text(Path(folder) / "vocab.json", json.dumps(vocab, ensure_ascii=False))
    write_text(Path(folder) / "merges.txt", "\n".join(["#version: 0.2", *lines, ""]))


def read_merges(path, most=None):
    """Pairs of strings, best first, from a list of merges (or a gzip of one); the first `most`.

    A comment in the first line is passed over. ValueError for a line that is no two tokens.
    """
    data = Path(path).read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError):
        raise ValueError(f"{Path(path).name} is no list of merges: it is not text") from None
    lines = text.split("\n")  # splitlines would cut at U+0085, too
    if "#version" in lines[0]:
        del lines[0]
    pairs = []
    for number, line in enumerate(lines[:most], start=1):
        parts = line.rstrip("\r").split(" ")
        if len(parts) == 2 and all(parts):
            pairs.append(tuple(parts))
        elif line.strip() or number < len(lines):
            raise ValueError(f"merge {number} of {Path(path).name} is {line[:40]!r}: no two tokens")
    return pairs


def numbered(pairs, ids):
    """Merges as pairs of ids; ValueError for one of tokens that are not in the list."""
    for pair in pairs:
        for part in (*pair, "".join(pair)):
            if part not in ids:
                raise ValueError(f"the merge {' '.join(pair)!r} needs {part!r}, which is no token")
    return [(ids[left], ids[right]) for left, right in pairs]


def read_list_of_merges(path):
    """The tokenizer that merges alone describe: CLIP's where words end with </w>, else GPT-2's.

    Both number the bytes as lesson byte_characters lists them, then the merges in their order.
    """
    pairs = read_merges(path)
    texts = list(CHARACTER_OF_BYTE.values())
    clip = any(SUFFIX in right for _, right in pairs)
    if clip:
        pairs = pairs[:MOST_OF_CLIP]
        texts += [text + SUFFIX for text in texts]
    texts += ["".join(pair) for pair in pairs]
    ids = {text: index for index, text in enumerate(texts)}
    if len(ids) < len(texts):
        raise ValueError("two of its merges make the same token")
    merges = numbered(pairs, ids)
    if not clip:
        tokens = [*map(hidden, texts), END_OF_TEXT.encode()]
        return BPETokenizer(tokens, merges, {END_OF_TEXT: len(texts)})
    return clip_pipeline(WordEnds(list(map(ended, texts)), merges))


def clip_pipeline(model):
    """CLIP's chain around its model: <|startoftext|> A <|endoftext|>."""
    V = model.vocab_size
    added = [Added(START_OF_TEXT, V, special=True), Added(END_OF_TEXT, V + 1, special=True)]
    after = {"type": "RobertaProcessing", "cls": [START_OF_TEXT, V], "sep": [END_OF_TEXT, V + 1],
             "trim_offsets": False, "add_prefix_space": False}
    return build_pipeline(model, added, STEPS_OF_CLIP | {"post_processor": after})


# ---- BERT ----------------------------------------------------------------------------------------


def read_vocab_txt(path, lowercase=None):
    """BERT's tokenizer from a list with a token a line.

    lowercase: whether text is made small; None asks the list: one without capitals wants it.
    """
    texts = Path(path).read_text(encoding="utf-8").split("\n")
    texts = [text.removesuffix("\r") for text in (texts if texts[-1] else texts[:-1])]
    ids = {text: index for index, text in enumerate(texts)}
    if len(ids) < len(texts) or "" in ids or "[UNK]" not in ids:
        raise ValueError("it is no vocab.txt: a line is empty or there twice, or [UNK] is missing")
    added = [Added(name, ids[name], special=True) for name in SPECIAL if name in ids]
    if lowercase is None:
        lowercase = not any("A" <= c <= "Z" for text in texts if text[:1] != "[" for c in text)
    model = WordPiece(list(map(as_bytes, texts)), ids["[UNK]"])
    return build_pipeline(model, added, steps_of_bert(ids, lowercase))


def steps_of_bert(ids, lowercase):
    """The parts of BERT's chain; ids: name → id, of [CLS] and [SEP] among others.

    Where one of these two is missing, nothing is put around a text.
    """
    parts = {"normalizer": {"type": "BertNormalizer", "clean_text": True, "lowercase": lowercase,
                            "handle_chinese_chars": True, "strip_accents": None},
             "pre_tokenizer": {"type": "BertPreTokenizer"},
             "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}
    if "[CLS]" in ids and "[SEP]" in ids:
        around = {name.strip("[]").lower(): [name, ids[name]] for name in ("[CLS]", "[SEP]")}
        parts["post_processor"] = {"type": "BertProcessing", **around}
    return parts


def write_vocab_txt(tokenizer, path):
    """Write the list of a pipeline around a WordPiece model, a token a line."""
    if not isinstance(getattr(tokenizer, "model", None), WordPiece):
        raise ValueError("vocab.txt is for WordPiece tokenizers; write a tokenizer.json")
    write_text(path, b"\n".join([*tokenizer.tokens, b""]).decode())


if __name__ == "__main__":
    from tempfile import TemporaryDirectory
    from time import perf_counter

    trained = train_bpe(python_library()[::8], 4096)
    with TemporaryDirectory() as folder:
        write_gpt2(trained, folder)
        start = perf_counter()
        again = read_gpt2(Path(folder, "vocab.json"), Path(folder, "merges.txt"))
        took = perf_counter() - start
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        print(f"bytes={size} read_ms={took * 1e3:.0f} same={again.merges == trained.merges}")
