"""The class table of Unicode 16, and bytes cut into characters."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.kernel import settings
from tinygrad_edu.tokenizers import unicode
from tinygrad_edu.tokenizers.unicode import CONTINUES, LETTER, NUMBER, OTHER, SPACE, classify

# Bytes at every border of the UTF-8 table, valid and not: cut off, overlong, surrogates, too large.
EDGES = (
    b"\x00 \x7f \x80 \xbf \xc0\x80 \xc1\xbf \xc2\x80 \xdf\xbf \xc3 \xc3( \xe0\x80\x80 \xe0\x9f\xbf "
    b"\xe0\xa0\x80 \xed\x9f\xbf \xed\xa0\x80 \xed\xbf\xbf \xee\x80\x80 \xef\xbf\xbf \xe2\x82 \xe2( "
    b"\xf0\x80\x80\x80 \xf0\x8f\xbf\xbf \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf \xf4\x90\x80\x80 "
    b"\xf5\x80\x80\x80 \xf8\x88\x80\x80\x80 \xfc \xfe \xff \xf0\x9f\x98"
)


def as_array(data):
    return np.frombuffer(data, np.uint8).copy()


def call(data):
    """A call of `classify` for the harness."""
    return lambda draw, real=None: (
        draw.out(len(data), dtype=np.uint8),
        as_array(data),
        unicode.gpt2_table(),
    )


def random_bytes(draw, real=None):
    # Bytes above 0x7F are frequent here, so that all kinds of broken sequences occur.
    data = draw.integers(0, 256, 5000, dtype=np.uint8)
    return draw.out(5000, dtype=np.uint8), data | (draw.integers(0, 2, 5000) << 7).astype(
        np.uint8
    ), unicode.gpt2_table()


CASES = {
    classify: [call(EDGES), call(b"a"), call("naïve 狐 😀 ½".encode()), random_bytes],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def test_every_code_point_has_one_category_and_the_major_classes_have_the_size_of_unicode_16():
    categories = unicode.categories()
    assert categories.shape == (0x110000,)
    sizes = {name: int(np.sum(categories == k)) for k, name in enumerate(unicode.NAMES)}
    # Unicode 16.0 has 154,998 graphic and format characters, 65 controls, 2,048 surrogates,
    # 137,468 for private use: https://www.unicode.org/versions/Unicode16.0.0/
    apart = ("Cc", "Cs", "Co", "Cn")
    assert sum(size for name, size in sizes.items() if name not in apart) == 154_998
    assert (sizes["Cc"], sizes["Cs"], sizes["Co"]) == (65, 2048, 137_468)


@pytest.mark.parametrize(
    "character, name",
    [
        ("A", "Lu"),
        ("z", "Ll"),
        ("5", "Nd"),
        ("½", "No"),
        ("Ⅷ", "Nl"),
        (" ", "Zs"),
        ("\n", "Cc"),
        ("狐", "Lo"),
        ("ि", "Mc"),
        ("😀", "So"),
        ("\U00010d40", "Nd"),  # Garay digit zero, new in Unicode 16
        ("\U0001fae9", "So"),  # face with bags under eyes, new in Unicode 16
        ("\ua7cb", "Lu"),  # Latin capital letter rams horn, new in Unicode 16
    ],
)
def test_known_characters_have_their_category(character, name):
    assert unicode.NAMES[unicode.categories()[ord(character)]] == name


def test_white_space_is_the_property_and_not_what_str_isspace_says():
    table = unicode.gpt2_table()
    differing = [p for p in range(0x110000) if chr(p).isspace() != (table[p] == SPACE)]
    assert differing == [0x1C, 0x1D, 0x1E, 0x1F]
    assert int(np.sum(table == SPACE)) == 25


def test_characters_that_this_python_knows_too_nearly_all_have_the_same_category():
    import unicodedata

    mine = np.array(unicode.NAMES)[unicode.categories()]
    theirs = np.array([unicodedata.category(chr(p)) for p in range(0x110000)])
    known = (theirs != "Cn") & (mine != "Cn")
    assert np.mean(mine[known] == theirs[known]) > 0.9999


def test_a_character_counts_at_its_first_byte_and_a_bad_byte_is_a_character_of_its_own():
    text = b"a\xc3\xa9 \xff7\xe2\x82\xed\xa0\x80\xe7\x8b\x90"
    classes = unicode.gpt2_classes(as_array(text)).tolist()
    e, fox = [LETTER, CONTINUES], [LETTER, CONTINUES, CONTINUES]
    bad = [OTHER]
    assert classes == [LETTER, *e, SPACE, *bad, NUMBER, *bad * 2, *bad * 3, *fox]


@pytest.mark.parametrize("body", classify.bodies)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_character_cut_off_by_the_end_is_bad_bytes_whatever_lies_behind_in_memory(body, size):
    with settings(forced=body):
        assert unicode.gpt2_classes(as_array("😀".encode())[:size]).tolist() == [OTHER] * size
        assert unicode.gpt2_classes(as_array("狐".encode())[: size - 1]).tolist() == [OTHER] * (
            size - 1
        )


def test_the_classes_of_other_patterns_can_be_made_from_the_same_categories():
    table = unicode.class_table("Lu", ("Ll", "M"))
    found = [int(table[ord(c)]) for c in "Aa\u0301 5"]
    assert found == [1, 2, 2, 3, 0]


def test_half_a_surrogate_pair_is_refused_in_one_sentence_that_says_where():
    with pytest.raises(ValueError, match="character 2 of the text is half of a surrogate pair"):
        unicode.as_bytes("ab\ud83d")


def test_the_table_is_what_its_generator_makes():
    pytest.importorskip("regex")
    pytest.importorskip("unicodedata2")
    script = Path(__file__).parents[2] / "scripts/make_unicode_table.py"
    command = [sys.executable, script, "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if "install unicodedata2==" in run.stderr or "disagree" in run.stderr:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stderr
