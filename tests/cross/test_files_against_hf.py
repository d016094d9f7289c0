"""Chains as published models have them, trained here by the package `tokenizers`: the same ids,
offsets and text come out of the file in both, and what is written here is read there.
"""

import json
import random
import unicodedata
from pathlib import Path

import pytest

from tinygrad_edu.tokenizers.hf_json import read_document
from tinygrad_edu.tokenizers.hf_steps import CHAINS, part_of_pattern
from tinygrad_edu.tokenizers.tokenizer_file import write_document
from tinygrad_edu.tokenizers.unicode import NAMES, categories

pytest.importorskip("tokenizers.models")  # the folder tests/tokenizers is no package of that name
tokenizers = pytest.importorskip("tokenizers")

CODE = Path(__file__).read_text("utf-8")
PARTS = [
    *" \t\n\r\u00a0\u3000",
    *("  ", "\r\n", "\n\n    ", "'s", "'LL", "don't", " 's", "--'s"),
    *("hello", "World", "naïve", "Straße", "STRASSE", "狐狸", "こんにちは", "안녕", "हिन्दी", "ไทย"),
    *("مرحبا", "שלום", "7", "42", "1234567", "½", "Ⅷ", "٣", "²", "e\u0301", "\u0301", "Å", "ﬁ"),
    *("👍🏽", "👨\u200d👩\u200d👧", "🇪🇺", "€", "--", "()", "_", "▁", "...", "!?", "\x00", "\x7f"),
    *("def f(x):", "    return", "x != 0xFF", "tokenizer", "tokenizers", "unbelievable"),
    *("<s>", "</s>", "[MASK]", "<extra>", "<|im_end|>", "<|im_", "[CLS"),
]


def byte_level(pattern, **options):
    """A byte-level BPE behind one of our patterns."""
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    document = {"model": {"type": "BPE", "vocab": {}, "merges": [], **options}, "version": "1.0",
                "added_tokens": [], "decoder": CHAINS["none"][0], "normalizer": None,
                "post_processor": None, "pre_tokenizer": part_of_pattern(pattern)}
    chain = tokenizers.Tokenizer.from_str(json.dumps(document))
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet,
                                             show_progress=False, special_tokens=["<s>", "</s>"])
    chain.train_from_iterator([CODE, *PARTS * 3], trainer)
    return chain


def around(chain, first, last):
    """The chain with a template of two of its tokens."""
    ids = [(name, chain.token_to_id(name)) for name in (first, last)]
    chain.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1", special_tokens=ids)
    return chain


def gpt2():
    chain = byte_level("gpt2")
    chain.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    return chain


def roberta():
    chain = byte_level("gpt2")
    chain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    chain.add_special_tokens([tokenizers.AddedToken("[MASK]", lstrip=True, special=True)])
    ends = [(name, chain.token_to_id(name)) for name in ("</s>", "<s>")]
    chain.post_processor = tokenizers.processors.RobertaProcessing(*ends)
    return chain


def smollm2():
    chain = byte_level("smollm2")
    chain.post_processor = tokenizers.processors.ByteLevel(trim_offsets=True)
    return chain


def llama3():
    return around(byte_level("llama3"), "<s>", "</s>")


def gpt4():
    return byte_level("gpt4")


def qwen2():
    chain = byte_level("qwen2")
    chain.normalizer = tokenizers.normalizers.NFC()
    chain.add_special_tokens(["<|im_end|>"])
    chain.add_tokens(["<extra>", tokenizers.AddedToken("fox", single_word=True, rstrip=True)])
    return chain


def bert():
    chain = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    chain.normalizer = tokenizers.normalizers.BertNormalizer()
    chain.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    chain.decoder = tokenizers.decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=500, special_tokens=special,
                                                   show_progress=False)
    chain.train_from_iterator([CODE, *PARTS * 3], trainer)
    return around(chain, "[CLS]", "[SEP]")


def t5():
    chain = tokenizers.Tokenizer(tokenizers.models.Unigram())
    normal = tokenizers.normalizers
    # A pattern of T5's; what Replace takes is a string, unless it is wrapped in Regex.
    squeeze = normal.Replace(tokenizers.Regex(" {2,}"), "▁")
    chain.normalizer = normal.Sequence([normal.NFKC(), squeeze])
    chain.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    chain.decoder = tokenizers.decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>", "<extra_0>"]
    trainer = tokenizers.trainers.UnigramTrainer(vocab_size=400, special_tokens=special,
                                                 unk_token="<unk>", show_progress=False)
    chain.train_from_iterator([CODE, *PARTS * 3], trainer)
    ids = [("</s>", chain.token_to_id("</s>"))]
    chain.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=ids)
    return chain


def clip():
    normal, cut = tokenizers.normalizers, tokenizers.pre_tokenizers
    chain = byte_level("gpt2")
    chain.model = tokenizers.models.BPE(end_of_word_suffix="</w>")
    chain.normalizer = normal.Sequence([normal.NFC(), normal.Lowercase()])
    chain.pre_tokenizer = cut.Sequence([cut.WhitespaceSplit(), cut.Digits(individual_digits=True),
                                        cut.ByteLevel(add_prefix_space=False)])
    letters = cut.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=900, end_of_word_suffix="</w>", show_progress=False,
        special_tokens=["<s>", "</s>", *letters, *(letter + "</w>" for letter in letters)])
    chain.train_from_iterator([CODE, *PARTS * 3], trainer)
    document = json.loads(chain.to_str())
    document["added_tokens"] = document["added_tokens"][:2]
    return around(tokenizers.Tokenizer.from_str(json.dumps(document)), "<s>", "</s>")


def llama2():
    """BPE over characters, the space as ▁, unknown characters as bytes."""
    normal, decode = tokenizers.normalizers, tokenizers.decoders
    chain = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True,
                                                       byte_fallback=True))
    chain.normalizer = normal.Sequence([normal.Prepend("▁"), normal.Replace(" ", "▁")])
    chain.decoder = decode.Sequence([decode.Replace("▁", " "), decode.ByteFallback(),
                                     decode.Fuse(), decode.Strip(" ", 1, 0)])
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=600, special_tokens=names,
                                             limit_alphabet=60, show_progress=False)
    words = ["▁" + word for text in [CODE, *PARTS * 3] for word in text.split()]
    chain.train_from_iterator(words, trainer)
    document = json.loads(chain.to_str())
    document["added_tokens"] = document["added_tokens"][:3]
    return around(tokenizers.Tokenizer.from_str(json.dumps(document)), "<s>", "</s>")


MAKERS = [llama2, gpt2, roberta, smollm2, llama3, gpt4, qwen2, bert, t5, clip]


@pytest.fixture(scope="module", params=MAKERS, ids=lambda maker: maker.__name__)
def both(request):
    """(ours, theirs, name)"""
    theirs = request.param()
    return read_document(json.loads(theirs.to_str())), theirs, request.param.__name__


def texts_of(count, seed=0):
    """Made of nasty parts, and of code points whose category is the same in old versions of Unicode
    and in new ones: the steps of the package have tables of several (lesson normalize).
    """
    source = random.Random(seed)
    old = unicodedata.ucd_3_2_0.category
    assigned = [p for p, new in enumerate(categories())
                if old(chr(p)) == NAMES[new] and NAMES[new] not in ("Cn", "Cs", "Co")]
    yield from ("", " ", CODE[:3000])
    for turn in range(count):
        if turn % 4:
            yield "".join(source.choices(PARTS, k=source.randrange(1, 14)))
        else:
            yield "".join(map(chr, source.choices(assigned, k=source.randrange(1, 20))))


def compare(ours, theirs, name, texts):
    for text in texts:
        wanted = theirs.encode(text)
        assert ours.encode(text, **EVERYTHING).tolist() == wanted.ids, text[:99]
        if hasattr(ours, "encode_with_offsets"):
            ids, offsets = ours.encode_with_offsets(text, **EVERYTHING)
            assert ids.tolist() == wanted.ids, text[:99]
            assert [tuple(row) for row in offsets.tolist()] == wanted.offsets, text[:99]
        if name != "clip":  # the package leaves </w> in the text
            assert ours.decode(wanted.ids) == theirs.decode(wanted.ids, False), text[:99]


EVERYTHING = {"allowed_special": "all"}


def test_ids_offsets_and_text_are_those_of_the_package(both):
    compare(*both, texts_of(150))


@pytest.mark.long
def test_they_are_on_ten_thousand_texts(both):
    compare(*both, texts_of(10_000, seed=1))


def test_what_is_written_is_read_by_the_package_with_the_same_ids(both):
    ours, theirs, name = both
    again = tokenizers.Tokenizer.from_str(json.dumps(write_document(ours)))
    for text in texts_of(50, seed=2):
        assert again.encode(text).ids == theirs.encode(text).ids, text[:99]
    once_more = read_document(json.loads(again.to_str()))
    assert once_more.encode(CODE[:999]).tolist() == ours.encode(CODE[:999]).tolist()


def test_two_texts_in_one_row_are_joined_as_the_package_joins_them(both):
    ours, theirs, _ = both
    if hasattr(ours, "encode_pair"):
        wanted = theirs.encode("a fox", "two foxes")
        ids, kinds = ours.encode_pair("a fox", "two foxes", "all")
        assert (ids.tolist(), kinds.tolist()) == (wanted.ids, wanted.type_ids)
