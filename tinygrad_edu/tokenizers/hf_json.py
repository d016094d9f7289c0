"""Lesson 4.20 · tokenizer.json: every kind of tokenizer in one file

Needs added, bpe, byte_characters, characters, hf_steps, pipeline, sentencepiece, unicode, unigram,
wordpiece, words. Used by tokenizer_file.

Idea      The package `tokenizers` keeps a tokenizer in one JSON file, and most models are published
          with one. Beside the steps of the chain (lesson hf_steps) it holds the added tokens and
          the model: a list of tokens and what the model needs to choose among them: merges, scores,
          or the name of the unknown token. Read here are the five models of the field; written is
          what was read, or trained here, such that the package gives the same ids.
Math      the ids of vocab and added tokens together are 0 … V − 1, each once                   (1)
Shapes    {"added_tokens": [{"id": 4095, "content": "<|endoftext|>", "special": true, …}],
           "normalizer": …, "pre_tokenizer": …, "post_processor": …, "decoder": …,
           "model": {"type": "BPE", "vocab": {"Ā": 0, …}, "merges": ["Ġ Ġ", …]}, …}
          BPE, WordPiece, WordLevel: vocab is token → id · Unigram: a list of [token, score]
          merges: "left right" in order of rank, or ["left", "right"], as newer versions write it
          A plain byte-level BPE is read as a BPETokenizer, a list of characters as a
          CharacterTokenizer, all else as a Pipeline.
Pitfalls  Tokens of a byte-level BPE are bytes in visible characters; those of Llama-2 are text,
          with <0x41> for a byte. Nothing in the model says which: the steps do.
          Added tokens are often part of vocab too. Their names are text, never visible bytes. The
          package recognises special tokens in any text it is given; `encode` here only those that
          the caller allows. With allowed_special="all" the two agree.
          truncation and padding in a file are about batches and are not applied (lesson batch).
Cost      Reading checks every token and merge once.
Try       build it    the dropout of a BPE model: the one option that makes ids random.
          break it    write the bytes as Latin-1. Which tests notice?
          measure it  python -m tinygrad_edu.tokenizers.tokenizer_file
See       huggingface/tokenizers, documentation of the components
"""

from reprlib import repr as short  # a damaged file may hold a long text

from tinygrad_edu.tokenizers.added import BARE, Added
from tinygrad_edu.tokenizers.bpe import BPETokenizer
from tinygrad_edu.tokenizers.byte_characters import SUFFIX, WordEnds, ended, hidden, words_from_ends
from tinygrad_edu.tokenizers.characters import CharacterTokenizer
from tinygrad_edu.tokenizers.hf_steps import (
    NORMALIZERS,
    cutters_of,
    flat,
    make,
    pattern_of_chain,
    read_decoders,
    read_template,
)
from tinygrad_edu.tokenizers.pipeline import Pipeline
from tinygrad_edu.tokenizers.sentencepiece import CharacterBPE
from tinygrad_edu.tokenizers.unicode import as_bytes
from tinygrad_edu.tokenizers.unigram import Unigram
from tinygrad_edu.tokenizers.wordpiece import WordPiece
from tinygrad_edu.tokenizers.words import Words

# Every character by itself ("." would leave out the line feed).
EACH_CHARACTER = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated"}
EACH_CHARACTER["invert"] = False
PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
FLAGS = ("special", "single_word", "lstrip", "rstrip", "normalized")


def build_pipeline(model, added, parts):
    """A Pipeline around a model, as the parts of a tokenizer.json describe it.

    parts: "normalizer", "pre_tokenizer", "post_processor", "decoder" → a dict, or None; one that is
    absent counts as None. ValueError, in one sentence, for what is not known here.
    The pipeline keeps the parts, so that it can be written again.
    """
    template, trim = read_template(parts.get("post_processor"))
    pipeline = Pipeline(
        model,
        added,
        [make(NORMALIZERS, step, "normalizer") for step in flat(parts.get("normalizer"))],
        cutters_of(model, parts.get("pre_tokenizer")),
        template,
        [words_from_ends] if isinstance(model, WordEnds) else read_decoders(parts.get("decoder")),
        trim,
    )
    pipeline.parts = {name: parts.get(name) for name in PARTS}
    return pipeline



def read_document(document):
    """The tokenizer that the parsed JSON describes; ValueError says why it is none.

    Whatever would change ids and is not known here is refused, never skipped.
    """
    model = entry(document, "model", dict)
    guess = "BPE" if "merges" in model else None  # GPT-2's own file gives no type
    kind = model.get("type", guess)
    if not isinstance(kind, str) or kind not in MODELS:
        raise ValueError(f"the model is {short(kind)}; read here are {', '.join(MODELS)}")
    added = read_added(document.get("added_tokens") or [])
    parts = {name: document.get(name) for name in PARTS}
    if kind == "WordLevel" and parts["pre_tokenizer"] == EACH_CHARACTER:
        return read_characters(model, added)
    made = MODELS[kind](model, added, parts)
    tokenizer = build_pipeline(made, added, parts)
    return made if kind == "BPE" and is_plain(tokenizer) else tokenizer


def is_plain(pipeline):
    """Whether a pipeline does no more than the BPETokenizer in it."""
    flagged = any(getattr(token, name) for token in pipeline.added for name in FLAGS[1:4])
    steps = pipeline.normalizers or pipeline.cutters or pipeline.template != BARE
    special = all(token.special for token in pipeline.added)
    return pipeline.byte_level and not steps and not flagged and special


def entry(mapping, key, kind):
    """mapping[key], which has to be there and of this type (bool is no int here)."""
    value = mapping.get(key) if isinstance(mapping, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        raise ValueError(f"{key!r} is missing or damaged, so this is not a usable tokenizer file")
    return value


def read_added(added):
    """The list of Added of a file, in the order of their ids."""
    if not isinstance(added, list):
        raise ValueError("'added_tokens' is damaged: it is not a list")
    found, seen = [], set()
    for token in added:
        name = entry(token, "content", str)
        as_bytes(name)
        if not name or name in seen:
            raise ValueError(f"the added token {name!r} is empty or occurs twice")
        seen.add(name)
        # A file of ours of former days says nothing of "special": there all of them are.
        flags = {flag: bool(token.get(flag, flag == "special")) for flag in FLAGS}
        found.append(Added(name, entry(token, "id", int), **flags))
    return sorted(found, key=lambda token: token.id)


def read_vocabulary(vocab, added):
    """The texts of the tokens in the order of their ids; ValueError unless (1) holds."""
    everything = {**vocab, **{token.content: token.id for token in added}}
    # A list of the right length, filled in: an id that is too large, too small or taken shows up.
    texts = [None] * len(everything)
    for text, index in everything.items():
        valid = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(texts)
        if not valid or texts[index] is not None:
            raise ValueError(
                f"token {short(text)} has the id {short(index)}, but the ids of {len(texts)} "
                "tokens have to be the numbers from 0, each once"
            )
        texts[index] = text
    return texts


def own_tokens(model, added):
    """The texts of a model's tokens, without those that were only added behind them.

    A model must not know the latter: a word spelt like one would be taken for it.
    """
    vocab = entry(model, "vocab", dict)
    return read_vocabulary(vocab, added)[: len(vocab)]


def choice(model, key, kind, default):
    """An option of a model, of this type, or its default where the file has null or nothing."""
    value = model.get(key)
    return default if value is None else entry(model, key, kind)


def unknown_id(model, texts):
    """The id of the token for what is unknown, or None."""
    name = choice(model, "unk_token", str, None)
    return texts.index(name) if name in texts else None


def read_bpe(model, added, parts):
    """The model of a BPE, one of three.

    A BPETokenizer where the steps are those of bytes, WordEnds where its words end with </w> too,
    and a CharacterBPE where its tokens are text.
    """
    if model.get("dropout"):
        raise ValueError("its model sets dropout: ids would be random, which is not supported here")
    texts = read_vocabulary(entry(model, "vocab", dict), added)
    ids = {text: index for index, text in enumerate(texts)}
    merges = [read_merge(merge, ids) for merge in entry(model, "merges", list)]
    whole = choice(model, "ignore_merges", bool, False)
    cuts = [step["type"] for step in flat(parts["pre_tokenizer"])]
    if ("ByteLevel" in cuts) != ("ByteLevel" in [step["type"] for step in flat(parts["decoder"])]):
        raise ValueError("only one of its pre-tokenizer and its decoder is ByteLevel, so what its "
                         "tokens are, bytes or text, cannot be known")
    if "ByteLevel" not in cuts:
        return read_character_bpe(model, texts, merges)
    for option in ("continuing_subword_prefix", "byte_fallback"):
        if model.get(option):
            raise ValueError(f"its model sets {option}, not supported for tokens that are bytes")
    names = {token.content for token in added}
    if model.get("end_of_word_suffix") == SUFFIX:
        tokens = [as_bytes(text) if text in names else ended(text) for text in texts]
        return WordEnds(tokens, merges)
    if model.get("end_of_word_suffix"):
        raise ValueError(f"its words end with {short(model['end_of_word_suffix'])}, not {SUFFIX}")
    tokens = [as_bytes(text) if text in names else hidden(text) for text in texts]
    special = {token.content: token.id for token in added}
    pattern = pattern_of_chain(parts["pre_tokenizer"]) or "none"
    return BPETokenizer(tokens, merges, special, pattern=pattern, ignore_merges=whole)


def read_character_bpe(model, texts, merges):
    """BPE over characters, as Llama-2 has it."""
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(option):
            raise ValueError(f"its model sets {option}, not supported for BPE over characters")
    fuse, fallback = (choice(model, key, bool, False) for key in ("fuse_unk", "byte_fallback"))
    tokens = list(map(as_bytes, texts))
    return CharacterBPE(tokens, merges, unknown_id(model, texts), fuse, fallback)


def read_merge(merge, ids):
    """A merge, "left right" or ["left", "right"], as a pair of ids."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2:
        raise ValueError(f"the merge {short(merge)} is not a pair of tokens")
    for part in parts:
        if not isinstance(part, str) or part not in ids:
            raise ValueError(f"the merge {short(merge)} joins {short(part)}, which is no token")
    return ids[parts[0]], ids[parts[1]]


def read_wordpiece(model, added, parts):
    """A WordPiece model; how its continuations begin and how long a word may be are options."""
    texts = own_tokens(model, added)
    prefix = choice(model, "continuing_subword_prefix", str, "##")
    most = choice(model, "max_input_chars_per_word", int, 100)
    return WordPiece(list(map(as_bytes, texts)), unknown_id(model, texts), prefix, most)


def read_words(model, added, parts):
    """A list of words."""
    texts = own_tokens(model, added)
    return Words(list(map(as_bytes, texts)), unknown_id(model, texts))


def read_unigram(model, added, parts):
    """A Unigram model; its list has [token, score] in the order of the ids."""
    rows = entry(model, "vocab", list)
    for row in rows:
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)
                and type(row[1]) in (int, float)):
            raise ValueError(f"{short(row)} is no token with its score")
    unknown = choice(model, "unk_id", int, None)
    fallback = choice(model, "byte_fallback", bool, False)
    return Unigram([as_bytes(text) for text, _ in rows], [score for _, score in rows], unknown,
                   byte_fallback=fallback)


def read_characters(model, added):
    """A CharacterTokenizer; ValueError for any other list of words."""
    texts = read_vocabulary(entry(model, "vocab", dict), added)
    names = {token.content: token.id for token in added}
    characters = [text for text in texts if text not in names]
    if any(len(character) != 1 for character in characters):
        raise ValueError("it cuts a text into characters, but its list has words")
    tokenizer = CharacterTokenizer(characters, sorted(names, key=names.get))
    if tokenizer.tokens != [as_bytes(text) for text in texts]:
        raise ValueError("its characters are not in the order of their code points, as they must")
    return tokenizer


MODELS = {"BPE": read_bpe, "WordPiece": read_wordpiece, "Unigram": read_unigram,
          "WordLevel": read_words}

