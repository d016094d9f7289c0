"""Lesson 4.37 · Kinds: every tokenizer, trained from the same text

Needs added, bpe, byte_characters, characters, hf_steps, normalize, pretokenize, sentencepiece,
unicode, unigram_training, wordpiece, words. Used by scripts/tokenizer_study.py.

Idea      A kind is a model and the chain it lives in: WordPiece after BERT's cut, Unigram after
          spaces became ▁, byte-level BPE after GPT-2's pattern. Here each kind is trained with one
          call and comes as a whole tokenizer that encodes, decodes and can be written as a
          tokenizer.json. So they can be compared on the same text with nothing else changed.
Math      vocab counts everything: tokens of the model, byte tokens, special tokens              (1)
          bytes per token = bytes of the text / tokens it is written in                          (2)
Shapes    documents: an iterable of str or bytes → a Tokenizer
Pitfalls  Not every kind gives the text back. Words and WordPiece drop white space and write what
          they do not know as [UNK]; a small number of tokens is no merit where half the text is
          gone. Characters and words have no fixed size: `vocab` is their limit, or means nothing at
          all. A text that ends inside a document is another document: all kinds see the same ones.
Cost      Counting the pieces is one pass over the text; then only different pieces matter.
Try       build it    a kind "lower": BPE after lower case and without accents.
          break it    train WordPiece on the pieces of Metaspace. What becomes of ## ?
          measure it  python scripts/tokenizer_study.py
See       lessons bpe, wordpiece, unigram, sentencepiece · Mielke et al. 2021, "Between words and
          characters"
"""

from tinygrad_edu.tokenizers.added import Added
from tinygrad_edu.tokenizers.bpe import BPETokenizer, train_bpe
from tinygrad_edu.tokenizers.byte_characters import BYTE_OF_CHARACTER
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, train_characters
from tinygrad_edu.tokenizers.hf_json import build_pipeline
from tinygrad_edu.tokenizers.normalize import bert
from tinygrad_edu.tokenizers.pretokenize import Metaspace, Words, bert_cut, count_pieces
from tinygrad_edu.tokenizers.sentencepiece import train_sentencepiece
from tinygrad_edu.tokenizers.unicode import as_bytes
from tinygrad_edu.tokenizers.unigram_training import train_unigram
from tinygrad_edu.tokenizers.wordpiece import SPECIAL as SPECIAL_OF_BERT
from tinygrad_edu.tokenizers.wordpiece import train_wordpiece
from tinygrad_edu.tokenizers.words import UNKNOWN, train_words

KINDS = ("characters", "bytes", "words", "bpe", "wordpiece", "unigram", "sentencepiece")
# The chains, as parts of a tokenizer.json (lesson hf_steps).
BERT = {
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                   "strip_accents": False, "lowercase": False},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
}
PLAIN_WORDS = {"pre_tokenizer": {"type": "Whitespace"}}
SPACES_BACK = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
    {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
UNIGRAM = {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
                             "split": True}, "decoder": SPACES_BACK}
SENTENCEPIECE = {"decoder": SPACES_BACK, "normalizer": {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}}


def train_tokenizer(kind, documents, vocab, special=(END_OF_TEXT,), pattern="gpt2", ties="bytes",
                    progress=iter):
    """A tokenizer of a kind of KINDS, of at most `vocab` tokens, (1), from documents.

    pattern and ties are for "bpe" (lessons patterns, bpe_training). "characters" and "bytes" have
    the size that they have. progress wraps what takes long, as tqdm does. ValueError where the
    kind is unknown, a document is not UTF-8 (but for bytes and bpe), or vocab is too small.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind of tokenizer is called {kind!r}; there are: {', '.join(KINDS)}")
    documents = [documents] if isinstance(documents, str | bytes) else documents
    if kind == "characters":
        return train_characters(documents, special)
    if kind == "bytes":
        return byte_tokenizer(special)
    if kind == "bpe":
        return train_bpe(documents, vocab, special, progress=progress, shrink=True,
                         pattern=pattern, ties=ties)
    texts = (as_text(document) for document in documents)
    return TRAINERS[kind](texts, vocab, special, progress)


def as_text(document):
    """A document as str; ValueError where it is not UTF-8."""
    try:
        return as_bytes(document).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"a document is not UTF-8 at byte {error.start}; the kinds bytes and bpe "
                         "take any bytes") from None


def byte_tokenizer(special=(END_OF_TEXT,)):
    """Every byte is a token: byte-level BPE that has learnt no merge."""
    tokens = [bytes([byte]) for byte in sorted(BYTE_OF_CHARACTER.values())]
    ids = {name: len(tokens) + k for k, name in enumerate(special)}
    return BPETokenizer([*tokens, *map(as_bytes, special)], [], ids, pattern="none")


def _words(texts, vocab, special, progress):
    counts = count_pieces(texts, str, Words(), progress)
    return finished(train_words(counts, vocab, (UNKNOWN, *special)), (UNKNOWN, *special),
                    PLAIN_WORDS)


def _wordpiece(texts, vocab, special, progress):
    names = (*SPECIAL_OF_BERT, *special)
    steps = bert(accents=False, lower=False)
    counts = count_pieces(texts, steps, bert_cut())
    return finished(train_wordpiece(counts, vocab, names, progress=progress), names, BERT)


def _unigram(texts, vocab, special, progress):
    names = ("<unk>", *special)
    counts = count_pieces(texts, str, Metaspace(prepend="first"))
    model = train_unigram(counts, vocab, names, byte_fallback=True, progress=progress)
    return finished(model, names, UNIGRAM)


def _sentencepiece(texts, vocab, special, progress):
    names = ("<unk>", *special)
    counts = count_pieces(texts, str, Metaspace(prepend="first"))
    model = train_sentencepiece(counts, vocab, names, progress=progress)
    return finished(model, names, SENTENCEPIECE)


TRAINERS = {"words": _words, "wordpiece": _wordpiece, "unigram": _unigram,
            "sentencepiece": _sentencepiece}


def finished(model, names, parts):
    """The pipeline of a model whose special tokens have these names."""
    added = [Added(name, model.ids[as_bytes(name)], special=True) for name in names]
    return build_pipeline(model, added, parts)
