"""The cuts of later models: known splits, and all bodies against the alternatives in order."""

import random

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.kernel import settings
from tinygrad_edu.tokenizers.patterns import PATTERNS, SCANNERS, cuts, split_digits, split_gpt4
from tinygrad_edu.tokenizers.unicode import gpt2_classes

# text -> pieces, with | between them; of llama3, and of others where they differ.
KNOWN = {
    "": "",
    "Hello world": "Hello| world",
    "I'LL we'Re it'S don'T I'M he'D": "I|'LL| we|'Re| it|'S| don|'T| I|'M| he|'D",
    "'ſ'ſx": "'ſ|'ſ|x",
    "'ßx 'lx 'v": "'ßx| '|lx| '|v",
    "(x\tx": "(x|\tx",
    "!!x": "!!|x",
    "a.\n\nb": "a|.\n\n|b",
    "a\n\n  b": "a|\n\n| | b",
    "a  \n  \n b": "a|  \n  \n| b",
    "a\r\nb": "a|\r\n|b",
    "a\n": "a|\n",
    "a   b": "a|  | b",
    "a\t\tb": "a|\t|\tb",
    "a\u3000\u3000b": "a|\u3000|\u3000b",
    "\nx": "\n|x",
    " 7": " |7",
    "12345678": "123|456|78",
    "½٣Ⅷ1": "½٣Ⅷ|1",
    "naïve 狐狸": "naïve| 狐狸",
    "हिन्दी": "ह|िन|्द|ी",
    " !": " !",
    "  !": " | !",
    "👍🏽 ok": "👍🏽| ok",
}
OTHERS = {
    "gpt4": {"a\n  ": "a|\n  ", "a \n \n": "a| \n \n", "a  ": "a|  ", "a\n  b": "a|\n| | b"},
    "llama3": {"a\n  ": "a|\n|  ", "a \n \n": "a| \n \n", "a  ": "a|  "},
    "qwen2": {"12½": "1|2|½", "a\n  ": "a|\n|  ", "x 12": "x| |1|2"},
    "smollm2": {
        "12½": "1|2|½",
        "a  7": "a|  |7",
        "a  b": "a| | b",
        "7's": "7|'s",
        "x=12.5e3": "x|=|1|2|.|5|e|3",
        "I'LL\n\nb": "I|'|LL|\n|\n|b",
        "7": "7",
        "٣狐": "٣|狐",
    },
    "none": {"a b\n": "a b\n", "": ""},
    "gpt2": {"I'LL": "I|'|LL", "a  7": "a| | 7"},
}
ALPHABET = ["'", " ", " ", "s", "S", "l", "L", "v", "e", "ſ", "7", "½", "é", "狐", "\n", "\r", "\t"]
ALPHABET += ["\u00a0", "\u3000", "!", "-", "😀", "\u0301", "\x00", "\u2028", "\udcff", "\udcc5"]


def split(text, pattern):
    data = text.encode("utf-8", "surrogateescape")
    borders = cuts(data, pattern).tolist()
    return [data[low:high] for low, high in zip(borders, borders[1:], strict=False)]


def random_texts(count, seed):
    source = random.Random(seed)
    return ["".join(source.choices(ALPHABET, k=source.randrange(1, 12))) for _ in range(count)]


def call(text, *options):
    def arguments(draw, real=None):
        array = np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8).copy()
        return draw.out(array.size, dtype=np.bool_), array, gpt2_classes(array), *options

    return arguments


TEXTS = ["a", "'", " ", "7", "\n", "12345", "".join(KNOWN), "".join(random_texts(2000, seed=0))]
TEXTS += random_texts(15, seed=1)
CASES = {
    split_gpt4: [call(text, *options) for text in TEXTS for options in ((3, True), (1, False))],
    split_digits: [call(text) for text in TEXTS],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", split_gpt4.bodies)
def test_known_splits(body):
    with settings(forced=body):
        for text, wanted in KNOWN.items():
            assert b"|".join(split(text, "llama3")).decode() == wanted, repr(text)
        for pattern, splits in OTHERS.items():
            for text, wanted in splits.items():
                assert b"|".join(split(text, pattern)).decode() == wanted, (pattern, text)


@pytest.mark.parametrize("body", split_gpt4.bodies)
def test_bodies_agree_on_every_short_text(body):
    texts = random_texts(400, seed=2)
    for pattern in SCANNERS:
        expected = [split(text, pattern) for text in texts]
        with settings(forced=body):
            assert [split(text, pattern) for text in texts] == expected


@pytest.mark.parametrize("pattern", SCANNERS)
def test_any_bytes_come_back_when_the_pieces_are_joined(pattern):
    source = np.random.default_rng(0)
    for size in (0, 1, 2, 3, 100, 10_000):
        data = source.integers(0, 256, size).astype(np.uint8).tobytes()
        borders = cuts(data, pattern)
        assert borders[0] == 0
        assert borders[-1] == size
        assert np.all(np.diff(borders) > 0)


def test_a_pattern_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no pattern 'gpt3'; known are gpt2, gpt4, llama3"):
        cuts(b"a", "gpt3")
    assert PATTERNS.keys() < SCANNERS.keys()
