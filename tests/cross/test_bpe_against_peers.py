"""tiktoken and tokenizers are asked whether they cut, merge and learn as we do.

pytest -m long asks ten thousand times; every run asks a few hundred times.
"""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.byte_characters import visible
from tinygrad_edu.tokenizers.patterns import PATTERNS, cuts
from tinygrad_edu.tokenizers.presplit import python_library
from tinygrad_edu.tokenizers.unicode import NAMES, categories

CODE = Path(__file__).read_text("utf-8")
SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
PARTS = [
    *SPACES,
    *("  ", "    ", " " * 40, "\r\n", "\n\n    ", "\x1c", "\u200b", "\ufeff", "\x00", "\x7f"),
    *("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'Ve", "'ſ", "'ß", "'", "’s"),
    *("hello", "World", "naïve", "Straße", "狐狸", "こんにちは", "안녕", "हिन्दी", "ไทย"),
    *("مرحبا بالعالم", "שלום", "\u202eabc\u202c", "\u0640"),
    *("7", "42", "½", "Ⅷ", "٣", "①", "²", "1234567890"),
    *("e\u0301", "\u0301", "\u200d", "👍🏽"),
    *("👨\u200d👩\u200d👧", "🇪🇺", "❤\ufe0f", "😀", "\U000e0067"),
    *("€", "--", "()", "_", "def f(x):", "    return", "x != 0xFF", '"""', "\\n", "#", "a" * 70),
]
CHAINS = ("gpt2", "gpt4", "llama3", "qwen2", "smollm2")
LOTS = [pytest.param(300, id="some"), pytest.param(10_000, id="many", marks=pytest.mark.long)]


def package(name, inside):
    """A peer, or a skipped test. (The folder tests/tokenizers is no package of that name.)"""
    pytest.importorskip(f"{name}.{inside}")
    return pytest.importorskip(name)


@pytest.fixture(scope="module")
def assigned():
    """Code points of all planes that Unicode 16 gave a meaning, private ones among them."""
    unwanted = [NAMES.index(name) for name in ("Cn", "Cs")]
    return np.flatnonzero(~np.isin(categories(), unwanted)).tolist()


@pytest.fixture(scope="module")
def trained():
    """pattern → a tokenizer of ours."""
    text = [CODE, *PARTS * 3]
    return {name: train_bpe(text, 700, (), shrink=True, pattern=name) for name in CHAINS}


def texts(count, assigned, seed):
    """Texts of nasty parts, of random code points, and of both."""
    source = random.Random(seed)
    for k in range(count):
        parts = source.choices(PARTS, k=source.randrange(1, 14))
        if k % 3:
            points = source.choices(assigned, k=source.randrange(1, 20))
            parts = [*parts * (k % 3 - 1), *map(chr, points)]
            source.shuffle(parts)
        yield "".join(parts)


def splitter(pre, regex, pattern):
    """The pre-tokenizer of the package for a pattern."""
    if pattern == "gpt2":
        return pre.ByteLevel(add_prefix_space=False)
    if pattern == "smollm2":
        return pre.Sequence(
            [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]
        )
    bytes_only = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre.Sequence([pre.Split(regex(PATTERNS[pattern]), "isolated"), bytes_only])


@pytest.mark.parametrize("count", LOTS)
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "llama3", "qwen2"])
def test_ids_are_those_of_tiktoken(pattern, count, trained, assigned):
    tiktoken = package("tiktoken", "core")
    ours = trained[pattern]
    ranks = {token: rank for rank, token in enumerate(ours.tokens)}
    theirs = tiktoken.Encoding(
        "ours", pat_str=PATTERNS[pattern], mergeable_ranks=ranks, special_tokens={}
    )
    for text in [CODE, *texts(count, assigned, seed=1)]:
        ids = ours.encode(text).tolist()
        assert ids == theirs.encode_ordinary(text), repr(text)
        assert ours.decode(ids) == text


@pytest.mark.parametrize("count", LOTS)
@pytest.mark.parametrize("pattern", ["gpt2", "llama3", "qwen2", "smollm2"])
def test_ids_are_those_of_tokenizers(pattern, count, trained, assigned):
    tokenizers = package("tokenizers", "models")
    ours = trained[pattern]
    names = [visible(token) for token in ours.tokens]
    merges = [(names[left], names[right]) for left, right in ours.merges]
    vocabulary = {name: place for place, name in enumerate(names)}
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    theirs.pre_tokenizer = splitter(tokenizers.pre_tokenizers, tokenizers.Regex, pattern)
    for text in [CODE, *texts(count, assigned, seed=2)]:
        assert ours.encode(text).tolist() == theirs.encode(text).ids, repr(text)


@pytest.mark.parametrize("pattern", ["gpt2", "llama3"])
def test_with_ties_first_the_merges_are_those_of_tokenizers(pattern):
    tokenizers = package("tokenizers", "models")
    documents = [text.decode("utf-8", "replace") for text in python_library()[::80]]
    documents += PARTS * 2
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = splitter(tokenizers.pre_tokenizers, tokenizers.Regex, pattern)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=2500,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=2,
    )
    theirs.train_from_iterator(documents, trainer)
    merges = [tuple(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]
    ours = train_bpe(documents, 2500, (), pattern=pattern, ties="first")
    assert [(visible(ours.tokens[a]), visible(ours.tokens[b])) for a, b in ours.merges] == merges
    assert len(merges) == 2500 - 256


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_package_regex_cuts_as_the_scanners_do(pattern, assigned):
    regex = pytest.importorskip("regex")
    compiled = regex.compile(PATTERNS[pattern])
    for text in texts(300, assigned, seed=3):
        borders = cuts(text.encode(), pattern)[1:].tolist()
        ends = np.cumsum([len(piece.encode()) for piece in compiled.findall(text)])
        assert borders == ends.tolist(), repr(text)
