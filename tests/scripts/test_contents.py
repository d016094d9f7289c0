"""The table of lessons: made from the lessons, put between the markers, and fresh."""

import pytest

from house import ROOT, load

contents = load(ROOT / "scripts" / "contents.py")

BEGIN, END = contents.MARKER.format("lessons"), contents.END.format("lessons")
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
    document = f"# Title\n\n{BEGIN}\nold\n{END}\n\nMore.\n"
    (tmp_path / "README.md").write_text("# Nothing made\n", encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "lessons.md").write_text(document, encoding="utf-8")
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
    document = (small / "docs" / "lessons.md").read_text(encoding="utf-8")
    table = TABLE.replace("](", "](../")
    assert document == f"# Title\n\n{BEGIN}\n{table}\n{END}\n\nMore.\n"
    assert (small / "README.md").read_text(encoding="utf-8") == "# Nothing made\n"


def test_a_stale_table_fails_the_check_until_it_is_written(small, capsys):
    assert contents.main(["--check"], root=small) == 1
    assert "run python scripts/contents.py --write" in capsys.readouterr().err
    contents.main(["--write"], root=small)
    assert contents.main(["--check"], root=small) == 0
    assert "changed=0" in capsys.readouterr().out


@pytest.mark.parametrize("document", ["{END}\n{BEGIN}\n", "{BEGIN}\n{BEGIN}\n{END}\n"])
def test_markers_that_are_no_pair_are_refused_in_one_sentence(small, capsys, document):
    text = document.replace("{BEGIN}", BEGIN).replace("{END}", END)
    (small / "docs" / "lessons.md").write_text(text, encoding="utf-8")
    assert contents.main(["--write"], root=small) == 2
    assert "docs/lessons.md: there must be these two lines" in capsys.readouterr().err
    assert (small / "docs" / "lessons.md").read_text(encoding="utf-8") == text


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


def test_what_the_documents_show_is_fresh(capsys):
    for name, parts in [("README.md", ["goals"]), ("docs/lessons.md", ["lessons", "path"])]:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert all(f"<!-- {part}" in text for part in parts), name
    assert contents.main(["--check"]) == 0, capsys.readouterr().err


def closure(some, lessons):
    """The lessons that these need, however far down."""
    needed = {contents.lesson_named(name, lessons) for lesson in some for name in lesson.needs}
    return needed | closure(needed, lessons) if needed else set()


@pytest.mark.parametrize("reader", contents.READERS)
def test_a_path_leads_to_its_goals_in_order_and_holds_what_each_lesson_needs(reader):
    lessons = contents.read_lessons()
    main_line, trusted = contents.order_of(reader, lessons)
    goals = [contents.lesson_named(name, lessons) for name in contents.READERS[reader].goals]
    # A goal that an earlier goal needs has been reached before it.
    new = [goal for i, goal in enumerate(goals) if goal not in closure(goals[:i], lessons)]
    places = [main_line.index(goal) for goal in new]
    assert places == sorted(places) and len(new) > 3
    assert set(goals) <= set(main_line)
    everything = main_line + trusted
    assert len(set(everything)) == len(everything)
    for lesson in everything:
        assert {contents.lesson_named(name, lessons) for name in lesson.needs} <= set(everything)


def test_the_beginner_meets_no_plumbing_before_the_first_network():
    lessons = contents.read_lessons()
    main_line, trusted = contents.order_of("beginner", lessons)
    names = [lesson.name for lesson in main_line]
    assert names[0] == "scalar"
    assert {"memory", "kernel", "foreign"} <= {lesson.name for lesson in trusted}
    assert names.index("mlp") < names.index("one_block") < names.index("gpt")


def test_a_path_quotes_the_first_sentence_of_each_lesson(capsys):
    assert contents.main(["--path", "beginner"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1.0   Automatic differentiation on plain floats\n"
                          "      tinygrad_edu/scalar.py\n      “A program computes a number from")
    assert "---- taken on trust until here" in out
    assert out.splitlines()[-1].startswith("path=beginner lessons=")


def test_each_part_is_written_where_a_document_has_its_markers():
    parts = ("lessons", "path llm", "goals llm")
    document = "".join(f"{contents.MARKER.format(part)}\nstale text\n{contents.END.format(part)}\n"
                       for part in parts)
    lessons = contents.read_lessons()
    new = contents.regenerated(document, lessons, "../")
    assert new.count("**[gpt](../models/gpt.py)**") == 1
    assert new.count("[gpt](../models/gpt.py)") == 2
    assert "stale text" not in new and contents.regenerated(new, lessons, "../") == new
    with pytest.raises(ValueError, match="no path for 'cook'"):
        contents.regenerated(document.replace("path llm", "path cook"), lessons)
