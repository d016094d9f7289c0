import ast
import warnings
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edu.eval.python_blocks import (
    PROMPT,
    Block,
    Score,
    extract,
    finished,
    judge,
    score_blocks,
)

GOOD = "def area(w, h):\n    size = w * h\n    return size\n"


def test_a_block_ends_where_the_next_top_level_statement_begins():
    for after in ["x = 1\n", "import os", "@decorated\ndef g():\n", "# remark\n", "def g", "'''"]:
        assert extract("\n\n\n" + GOOD + "\n\n" + after) == GOOD


def test_a_block_begins_at_the_first_def_or_class():
    assert extract("import os\nx = 1\n" + GOOD + "class A:\n    x = 1\n") == GOOD
    assert extract("\n\nclass A:\n    x = 1\n    y = 2\n").startswith("class A")
    assert extract("\nasync def f():\n    x = 1\n    return\n").startswith("async def f")
    assert extract("default = 3\nclassic = 4\n    def f():\n") == ""


def test_a_closing_bracket_in_column_0_belongs_to_the_block():
    text = "def area(\n    w,\n    h,\n):\n    return w * h\n"
    assert extract(text + "area(1, 2)\n") == text
    assert judge(text + "area(1, 2)\n").accepted


def test_a_block_cut_by_the_limit_loses_its_incomplete_last_line():
    assert extract(GOOD + "    if siz") == GOOD
    assert judge(GOOD + "    if (").accepted
    assert extract("\n\n\ndef f(a, b") == ""
    assert not judge(GOOD + "    return (size,\n        1").accepted


def test_a_sampler_may_stop_as_soon_as_nothing_can_change_the_block():
    text = "\n\n\n" + GOOD + "\n    # more\n\n" + "x = 1\n" + GOOD
    stops = next(i for i in range(len(text)) if finished(text[:i]))
    assert text[:stops].endswith("\n\nx")
    for end in range(stops, len(text) + 1):
        assert finished(text[:end])
        assert extract(text[:end]) == extract(text)
    assert not finished(PROMPT) and not finished("")


@pytest.mark.parametrize(
    "block, reason",
    [
        ("def f(x):\n    return (x\n\n", "SyntaxError"),
        ("def f(x):\nreturn x\n", "IndentationError"),
        ("def f(x):\n        y = x\n    return y\n", "IndentationError"),
        ('def f(x):\n    """Doc.\n    y = x\n    return y\n', "SyntaxError"),
        ("def f(x):\n    y = '\ufffd\0'\n    return y\n", ""),
        ("def f(): return 1\n", "trivial: fewer than 3"),
        ("def f():\n    return 1\n", "trivial: fewer than 3"),
        ("def f():\n    # one\n\n    # two\n    return 1\n", "trivial: fewer than 3"),
        ('def f():\n    """One\n    two\n    three."""\n', "trivial: nothing"),
        ("class A:\n    'doc'\n    pass\n    ...\n", "trivial: nothing"),
        ("x = 1\ny = 2\nz = 3\n", "no def or class"),
        ("", "no def or class"),
    ],
)
def test_what_is_no_python_or_trivial_is_rejected_with_a_reason(block, reason):
    found = judge(block)
    assert not found.accepted
    assert found.reason.startswith(reason) and found.reason


def test_nesting_too_deep_for_the_parser_is_rejected_and_harms_nobody():
    for deep in ["(" * 5000 + ")" * 5000, "-" * 100_000 + "1", "[" * 150 + "]" * 150, "9" * 9999]:
        block = judge(f"def f():\n    x = 1\n    y = {deep}\n")
        assert isinstance(block, Block)


def test_warnings_of_the_parser_stay_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert judge("def f(x):\n    y = '\\d'\n    return x is 1\n").accepted


def test_form_feeds_do_not_end_a_line():
    assert judge("def f(x):\n    y = 'a\x0c\x1cb'\n    return x\n").accepted


def test_windows_line_ends_are_line_ends():
    assert extract((GOOD + "x = 1\n").replace("\n", "\r\n")) == GOOD


def test_python_written_by_people_is_accepted():
    text = Path(ast.__file__).read_text(encoding="utf-8")
    starts = [node.lineno - 1 for node in ast.parse(text).body if hasattr(node, "body")]
    lines = text.split("\n")
    blocks = [judge("\n".join(lines[start:]) + "\n") for start in starts]
    blocks = [block for block in blocks if not block.reason.startswith(("trivial", "no def"))]
    accepted = sum(block.accepted for block in blocks)
    assert len(blocks) > 20
    assert accepted >= 0.95 * len(blocks)


def test_a_block_does_not_change_with_the_number_of_blocks():
    def sample(generator):
        return f"{PROMPT} f():\n    x = {generator.integers(10**9)}\n    return x\n"

    first, more = score_blocks(sample, 3, seed=1), score_blocks(sample, 6, seed=1)
    assert more.blocks[:3] == first.blocks
    assert len({block.text for block in more.blocks}) == 6
    assert score_blocks(sample, 3, seed=2).blocks != first.blocks
    assert more.share == 1 and more.accepted == 6


def test_the_share_counts_what_the_parser_accepts():
    texts = iter([GOOD, "def f(:\n", GOOD, "nothing"])
    wrapped = []
    score = score_blocks(lambda _: next(texts), 4, progress=lambda it: wrapped.append(it) or it)
    assert (score.accepted, score.share) == (2, 0.5)
    assert [block.accepted for block in score.blocks] == [True, False, True, False]
    assert wrapped == [range(4)]
    with pytest.raises(ValueError, match="at least one block"):
        score_blocks(lambda _: "", 0)


def test_the_interval_of_half_of_a_hundred_is_wilsons():
    half = Score([Block("", "")] * 50 + [Block("", "bad")] * 50)
    np.testing.assert_allclose(half.interval(), [0.40383, 0.59617], atol=1e-5)
    low, high = Score([Block("", "bad")] * 100).interval()
    assert low == pytest.approx(0, abs=1e-12) and 0.03 < high < 0.04
