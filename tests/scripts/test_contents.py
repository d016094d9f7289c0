"""The table of lessons: made from the lessons, put between the markers, fresh in the README."""

import pytest

from house import ROOT, load

contents = load(ROOT / "scripts" / "contents.py")

LESSON = '"""Lesson {number} · {title}\n\nNeeds {needs}. Used by nothing.\n\nIdea      None.\n"""\n'


@pytest.fixture
def small(tmp_path):
    """A repository of three lessons whose order by name is not the order by number."""
    (tmp_path / "tinygrad_edu" / "ops").mkdir(parents=True)
    for path, number, title, needs in [
        ("zero.py", "1.0", "Nothing", "nothing"),
        ("ops/b.py", "2.9", "Before", "zero"),
        ("ops/a.py", "2.10", "After", "zero, ops/b"),
    ]:
        text = LESSON.format(number=number, title=title, needs=needs)
        (tmp_path / "tinygrad_edu" / path).write_text(text, encoding="utf-8")
    (tmp_path / "tinygrad_edu" / "__init__.py").write_text('"""A library."""\n', encoding="utf-8")
    readme = f"# Title\n\n{contents.BEGIN}\nold\n{contents.END}\n\nMore.\n"
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    return tmp_path


TABLE = """\
| lesson | title | file | needs |
|---|---|---|---|
| 1.0 | Nothing | [tinygrad_edu/zero.py](tinygrad_edu/zero.py) |  |
| 2.9 | Before | [tinygrad_edu/ops/b.py](tinygrad_edu/ops/b.py) | zero 1.0 |
| 2.10 | After | [tinygrad_edu/ops/a.py](tinygrad_edu/ops/a.py) | zero 1.0, b 2.9 |"""


def test_lessons_are_listed_in_the_order_of_their_numbers_as_pairs(small, capsys):
    assert contents.main([], root=small) == 0
    assert capsys.readouterr().out == f"{TABLE}\nlessons=3\n"


def test_writing_replaces_what_is_between_the_markers_and_nothing_else(small):
    assert contents.main(["--write"], root=small) == 0
    readme = (small / "README.md").read_text(encoding="utf-8")
    assert readme == f"# Title\n\n{contents.BEGIN}\n{TABLE}\n{contents.END}\n\nMore.\n"


def test_a_stale_table_fails_the_check_until_it_is_written(small, capsys):
    assert contents.main(["--check"], root=small) == 1
    assert "run python scripts/contents.py --write" in capsys.readouterr().err
    contents.main(["--write"], root=small)
    assert contents.main(["--check"], root=small) == 0
    assert "changed=0" in capsys.readouterr().out


@pytest.mark.parametrize("readme", ["# Title\n", "{END}\n{BEGIN}\n", "{BEGIN}\n{BEGIN}\n{END}\n"])
def test_a_readme_without_its_two_markers_is_refused_in_one_sentence(small, capsys, readme):
    text = readme.replace("{BEGIN}", contents.BEGIN).replace("{END}", contents.END)
    (small / "README.md").write_text(text, encoding="utf-8")
    assert contents.main(["--write"], root=small) == 2
    assert capsys.readouterr().err.startswith("error: README.md needs these two lines")
    assert (small / "README.md").read_text(encoding="utf-8") == text


def test_a_missing_readme_is_told_in_one_sentence(small, capsys):
    (small / "README.md").unlink()
    assert contents.main(["--check"], root=small) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_name_means_the_end_of_a_path_and_no_part_of_a_word(small):
    lesson = contents.read_lessons(small)[2]
    for name in ("a", "a.py", "ops/a", "tinygrad_edu/ops/a.py"):
        assert lesson.answers_to(name), name
    for name in ("s/a", "b", "ops", ""):
        assert not lesson.answers_to(name), name


def test_the_table_in_the_readme_is_fresh(capsys):
    readme = ROOT / "README.md"
    if not readme.exists() or contents.BEGIN not in readme.read_text(encoding="utf-8"):
        pytest.skip("README.md has no markers")
    assert contents.main(["--check"]) == 0, capsys.readouterr().err
