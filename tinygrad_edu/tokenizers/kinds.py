"""Lesson 4.37 · Kinds: every tokenizer of this folder, trained on the same text by one call

Needs added, bpe, characters, hf_json, hf_steps, normalize, presplit, pretokenize,
sentencepiece_training, unicode, wordpiece, words. Used by scripts/train_tokenizer.py,
scripts/tokenizer_study.py.

Idea      The lessons before have seven ways to write text as numbers. Each comes with habits of its
          family: which characters are changed before, where text is cut, how the tokens are joined
          again. Here each model gets the habits it was published with, so that the seven can be
          trained on the same text and compared, and so that the files which come out are those that
          other programs read.
Math      bytes per token = bytes of text / tokens: how much text a context of T tokens holds   (1)
Shapes    documents (str or bytes), a size V → a tokenizer of at most V tokens
Pitfalls  A larger vocabulary always looks better in (1), and costs rows of the embedding and of the
          output layer; only the bits per byte of a trained model say whether it was worth it.
          words and wordpiece forget white space: the text does not come back from their tokens.
          With [UNK] in the list, (1) is the better the more is unknown.
          bytes has the size that it has, and so have characters: V is only an upper limit there.
Cost      Bytes, characters and BPE count at the speed of compiled loops. The others cut text in
          Python: some MB of text are enough for them.
Try       build it    a kind "morphemes", cut where a list of endings says so.
          break it    leave ByteFallback out of the decoder of unigram. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.kinds
See       Radford et al. 2019 (bpe) · Devlin et al. 2019 (wordpiece) · Kudo 2018 (unigram) · Touvron
          et al. 2023 (Llama's form of sentencepiece) · Xue et al. 2022 (bytes)
"""

from tinygrad_edu.tokenizers.added import Added
from tinygrad_edu.tokenizers.bpe import BYTES, BPETokenizer, train_bpe
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, decode_utf8, train_characters
from tinygrad_edu.tokenizers.hf_json import build_pipeline
from tinygrad_edu.tokenizers.hf_steps import NORMALIZERS, cutters_of, flat, make
from tinygrad_edu.tokenizers.normalize import Sequence
from tinygrad_edu.tokenizers.pretokenize import Cuts, count_pieces
from tinygrad_edu.tokenizers.sentencepiece_training import train_sentencepiece, train_unigram
from tinygrad_edu.tokenizers.unicode import as_bytes
from tinygrad_edu.tokenizers.wordpiece import train_wordpiece
from tinygrad_edu.tokenizers.words import train_words

# The parts of a tokenizer.json that go with a model. BERT's, without its lower case:
BERT = {
    "normalizer": {"type": "BertNormalizer", "lowercase": False},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
}
# SentencePiece's: a space is ▁ and goes with the word behind it; bytes for what is unknown.
SPACES = {
    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
}
WORDS = {"pre_tokenizer": {"type": "Whitespace"}, "decoder": None}
# kind -> trainer, its parts, the special tokens that it begins with, and more for the trainer
CHAINS = {
    "wordpiece": (train_wordpiece, BERT, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), {}),
    "unigram": (train_unigram, SPACES, ("<unk>", "<s>", "</s>"), {"byte_fallback": True}),
    "sentencepiece": (train_sentencepiece, SPACES, ("<unk>", "<s>", "</s>"), {}),
    "words": (train_words, WORDS, ("[UNK]",), None),
}
KINDS = ("bpe", *CHAINS, "characters", "bytes")


def train_tokenizer(kind, documents, vocab_size, special=(), progress=iter, **options):
    """A tokenizer of one of KINDS, from documents (an iterable of str or bytes).

    special: names of more special tokens; none given: END_OF_TEXT. The vocabulary counts them.
    options: those of train_bpe, for bpe. ValueError where the kind or the size cannot be.
    """
    special = list(special) or [END_OF_TEXT]
    if isinstance(documents, str | bytes):
        documents = [documents]
    if kind == "bpe":
        return train_bpe(documents, vocab_size, special, progress=progress, **options)
    if kind in CHAINS:
        return train_chain(kind, documents, vocab_size, special, progress)
    if kind == "bytes":
        tokens = [*BYTES, *map(as_bytes, special)]
        ids = {name: 256 + k for k, name in enumerate(special)}
        return limited(BPETokenizer(tokens, [], ids, pattern="none"), vocab_size)
    if kind == "characters":
        return limited(train_characters(documents, special), vocab_size)
    raise ValueError(f"there is no kind {kind!r} of tokenizer; there are: {', '.join(KINDS)}")


def train_chain(kind, documents, vocab_size, special, progress):
    """A Pipeline around a model that knows no more than pieces."""
    train, parts, own, options = CHAINS[kind]
    names = [*own, *(name for name in special if name not in own)]
    steps = [make(NORMALIZERS, step, "normalizer") for step in flat(parts.get("normalizer"))]
    cuts = Cuts(*cutters_of(None, parts["pre_tokenizer"]))
    texts = (decode_utf8(as_bytes(document)) for document in documents)
    counts = count_pieces(texts, Sequence(*steps), cuts)
    if not counts:
        raise ValueError("the text is empty; a tokenizer needs text to train on")
    if options is not None:
        options = options | {"progress": progress}
    model = train(counts, vocab_size, names, **(options or {}))
    added = [Added(name, place, special=True) for place, name in enumerate(names)]
    return build_pipeline(model, added, parts)


def limited(tokenizer, vocab_size):
    """The tokenizer, refused where it needs more tokens than it may have."""
    if tokenizer.vocab_size > vocab_size:
        raise ValueError(
            f"a vocabulary of {vocab_size} is too small: this text and these special tokens need "
            f"{tokenizer.vocab_size}"
        )
    return tokenizer


if __name__ == "__main__":
    from tinygrad_edu.tokenizers.presplit import python_library

    texts = python_library()[::20]
    size = sum(map(len, texts))
    told = [f"bytes={size}"]
    for kind in KINDS:
        tokenizer = train_tokenizer(kind, texts, 4096)
        tokens = sum(tokenizer.encode(text).size for text in texts)
        told.append(f"{kind}={size / tokens:.2f}")
    print(*told)
