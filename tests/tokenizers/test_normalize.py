"""Normalizer steps: what they write, and where each character came from."""

import random
import unicodedata

import numpy as np
import pytest

from tinygrad_edu.tokenizers.normalize import (
    Form,
    Lower,
    Prepend,
    Replace,
    Sequence,
    Strip,
    bert,
    compiled,
    compose,
    source_of,
    strip_accents,
)

PARTS = [*"aeiouAEZ Σİßﬁ½①ＡｶΩÅéçệ한각漢字ไทยกि", "\u0301", "\u0308", "\u0323", "\u0327", "\u0344"]
PARTS += ["\u1161", "\u11a8", "\u1100", "\u3099", "か", "\t", "\x0b", "\xa0", "\u200b", "\x00"]
STEPS = {
    **{name: Form(name) for name in ("NFC", "NFD", "NFKC", "NFKD")},
    "lower": Lower(),
    "accents": strip_accents(),
    "bert": bert(),
    "bert with accents": bert(accents=False),
    "strip": Strip(),
    "replace": Replace("a", "bcd"),
    "remove": Replace("a+", "", regex=True),
    "prepend": Prepend("▁▁"),
    "several": Sequence(Form("NFD"), strip_accents("Mn"), Prepend("▁"), Replace(" ", "▁")),
}
KNOWN = [
    (Form("NFC"), "e\u0301x", "éx", [0, 2]),
    (Form("NFD"), "éx", "e\u0301x", [0, 0, 1]),
    (Form("NFC"), "한", "한", None),
    (Form("NFC"), "\u1112\u1161\u11ab", "한", [0]),
    (Form("NFKC"), "ﬁ²", "fi2", [0, 0, 1]),
    (Form("NFC"), "a\u0301\u0323", "ạ\u0301", [0, 2]),
    (Form("NFD"), "a\u0301\u0323", "a\u0323\u0301", [0, 1, 2]),
    (Lower(), "ΑΣ", "ασ", None),
    (Lower(), "İa", "i̇a", [0, 0, 1]),
    (strip_accents(), "e\u0301x", "ex", [0, 2]),
    (bert(), "É狐\tx\x00y", "e 狐  xy", [0, 1, 1, 1, 2, 3, 5]),
    (bert(lower=False, chinese=False), "É", "E", None),
    (Strip(), "  a b ", "a b", [2, 3, 4]),
    (Strip(left=False), " a ", " a", [0, 1]),
    (Replace(" ", "▁▁"), "a b", "a▁▁b", [0, 1, 1, 2]),
    (Replace(" {2,}", " ", regex=True), "a   b", "a b", [0, 3, 4]),
    (Replace("x", ""), "axb", "ab", [0, 2]),
    (Prepend("▁"), "ab", "▁ab", [0, 0, 1]),
    (Prepend("▁"), "", "", None),
]


@pytest.mark.parametrize(("step", "text", "written", "source"), KNOWN)
def test_known_texts(step, text, written, source):
    assert step(text) == written
    traced, found = step.trace(text)
    assert traced == written
    assert (found if found is None or source is None else found.tolist()) == source or (
        source is None and found.tolist() == list(range(len(text)))
    )


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_the_quick_way_and_the_traced_way_write_the_same(step):
    source = random.Random(0)
    for _ in range(400):
        text = "".join(source.choices(PARTS, k=source.randrange(0, 9)))
        written, places = step.trace(text)
        assert written == step(text), ascii(text)
        if places is None:
            assert len(written) == len(text)
        else:
            assert len(places) == len(written)
            assert np.all((places >= -1) & (places < max(len(text), 1)))


@pytest.mark.parametrize("name", ["NFC", "NFD", "NFKC", "NFKD"])
def test_forms_are_those_of_unicodedata_also_where_accents_have_to_be_sorted(name):
    source = random.Random(1)
    accents = [chr(point) for point in range(0x300, 0x370)]
    for _ in range(500):
        text = "".join(source.choices(["a", "ö", "ᄀ", "ᅡ", "각", *source.sample(accents, 4)], k=7))
        assert Form(name).trace(text)[0] == unicodedata.normalize(name, text), ascii(text)


def test_two_sources_are_one_after_the_other():
    first, second = np.array([0, 0, 2]), np.array([-1, 2, 1, 0])
    assert compose(first, second).tolist() == [-1, 2, 0, 0]
    assert compose(None, second) is second
    assert compose(first, None) is first
    assert compose(np.zeros(0, int), np.array([-1])).tolist() == [-1]


def test_changes_say_what_is_taken_and_what_is_put_in():
    assert source_of([0, 1, -2, 0, 1]).tolist() == [0, 0, 1, 4, 4]
    assert source_of([1, 0]).tolist() == [-1, 0]
    assert source_of([]).tolist() == []


def test_a_pattern_is_read_or_refused_in_one_sentence(monkeypatch):
    assert compiled(" {2,}").sub("", "a   b") == "ab"
    assert compiled("a.b", plain=True).pattern == "a.b"
    pytest.importorskip("regex")
    assert compiled(r"\p{Lu}+").findall("aBCd") == ["BC"]
    with pytest.raises(ValueError, match=r"the pattern '\(a' cannot be read"):
        compiled("(a")
    monkeypatch.setitem(__import__("sys").modules, "regex", None)
    with pytest.raises(ValueError, match="needs the package regex: pip install regex"):
        compiled(r"\p{N}")
