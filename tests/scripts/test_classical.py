"""scripts/classical.py from the command line to the table and the picture."""

import sys

import pytest

from house import ROOT, load

classical = load(ROOT / "scripts" / "classical.py")


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["classical.py", *words])
    classical.main()
    return capsys.readouterr().out


def refused(monkeypatch, capsys, *words):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, capsys, *words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.fixture
def people(tmp_path):
    """A CSV file with text, holes, and a patient in several rows."""
    lines = ["age,town,patient,grade,ill"]
    for i in range(60):
        age = "" if i % 9 == 0 else 20 + i
        lines.append(f"{age},{'Rome' if i % 3 else 'Oslo'},p{i // 3},{i % 5},{'yn'[i > 30]}")
    path = tmp_path / "people.csv"
    path.write_text("\n".join(lines))
    return str(path)


def test_models_are_compared_best_first_with_intervals(monkeypatch, capsys):
    out = run(monkeypatch, capsys, "classify", "--samples", "90", "--folds", "3", "--models",
              "bayes,neighbours")
    lines = out.splitlines()
    assert lines[0] == "moons: 90 rows, 2 columns; y: 45 upper, 45 lower"
    assert lines[2].startswith("neighbours") and lines[3].startswith("bayes") and "…" in lines[2]
    last = dict(pair.split("=") for pair in lines[-1].split())
    assert last["best"] == "neighbours" and float(last["accuracy"]) > 0.8
    matrix = [line.split() for line in lines if line.startswith(("upper", "lower"))]
    assert sum(int(n) for row in matrix for n in row[1:]) == 90


def test_a_file_with_words_and_holes_is_learned_from(monkeypatch, capsys, people):
    out = run(monkeypatch, capsys, "classify", "--data", people, "--models", "tree", "--folds", "3",
              "--groups", "patient")
    assert "read as text: town ('Oslo')\n" in out
    assert "60 rows, 3 columns; ill: 29 n, 31 y" in out and "best=tree" in out


def test_numbers_are_foreseen_also_along_time(monkeypatch, capsys, people):
    out = run(monkeypatch, capsys, "regress", "--data", people, "--target", "grade", "--models",
              "ridge,tree", "--folds", "3", "--time")
    assert "grade: a number" in out and "r2=" in out.splitlines()[-1]
    out = run(monkeypatch, capsys, "regress", "--models", "linear", "--folds", "2")
    assert out.startswith("line: 300 rows") and "best=linear" in out


def test_the_other_tasks_print_their_tables(monkeypatch, capsys):
    small = ("--samples", "60", "--folds", "2")
    out = run(monkeypatch, capsys, "tree", *small, "--depth", "1")
    assert "x1 <= " in out and "class: " in out and "grown out" in out
    out = run(monkeypatch, capsys, "curve", *small, "--models", "bayes")
    assert "then on its own rows" in out and "best=bayes" in out
    out = run(monkeypatch, capsys, "search", *small, "--models", "neighbours")
    for kind in ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV"):
        assert f"neighbours, {kind}" in out
    out = run(monkeypatch, capsys, "cluster", *small, "--data", "blobs")
    assert "best=k-means" in out and "DBSCAN" in out


def test_pictures_are_written_where_they_are_asked_for(monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "new" / "pictures"
    run(monkeypatch, capsys, "classify", "--samples", "60", "--folds", "2", "--models", "bayes",
        "--pictures", str(folder))
    assert {path.name for path in folder.iterdir()} == {
        "regions.png", "confusion.png", "operating_curves.png"}


@pytest.mark.parametrize(("words", "said"), [
    (["guess"], "TASK takes classify or"), (["classify", "--data", "irris"], "no data set 'irris'"),
    (["classify", "--data", "line"], "has no classes: the task for it is regress"),
    (["regress", "--data", "moons"], "has classes: the task for it is classify"),
    (["classify", "--models", "ridge"], "--models takes logistic"),
    (["classify", "--groups", "x0"], "--groups names a column of a CSV file"),
    (["search", "--models", "bayes"], "a search knows what to try for"),
    (["classify", "--data", "missing.csv"], "missing.csv: No such file")])
def test_what_cannot_be_done_is_told_in_one_sentence(monkeypatch, capsys, words, said):
    assert said in refused(monkeypatch, capsys, *words)


def test_a_target_that_is_not_there_is_told_with_the_columns(monkeypatch, capsys, people):
    error = refused(monkeypatch, capsys, "classify", "--data", people, "--target", "cost")
    assert "there is no column 'cost': the columns are age, town" in error


def cells(tmp_path, lines):
    """The path of a CSV file with the columns a, b and y."""
    path = tmp_path / "cells.csv"
    path.write_text("\n".join(["a,b,y", *lines]))
    return str(path)


@pytest.mark.parametrize("task", ["classify", "curve", "search"])
def test_one_class_is_nothing_to_tell_apart(monkeypatch, capsys, tmp_path, task):
    path = cells(tmp_path, [f"{i},{-i},no" for i in range(20)])
    error = refused(monkeypatch, capsys, task, "--data", path, "--models", "tree,neighbours")
    assert "have the y no: there is nothing to tell apart" in error


def test_rows_that_are_left_out_are_counted(monkeypatch, capsys, tmp_path):
    lines = [f"{i},{-i},{'yn'[i % 2]}" for i in range(20)]
    words = "classify", "--models", "tree", "--folds", "2", "--data"
    assert "left out" not in run(monkeypatch, capsys, *words, cells(tmp_path, lines))
    out = run(monkeypatch, capsys, *words, cells(tmp_path, [*lines, "1,1,nan", "2,2,"]))
    assert "left out: 2 rows whose y is empty\ncells: 20 rows" in out


def test_few_rows_are_grouped_or_refused(monkeypatch, capsys, tmp_path):
    three = cells(tmp_path, ["1,2,y", "2,1,n", "9,9,n"])
    assert "groups=" in run(monkeypatch, capsys, "cluster", "--data", three)
    assert "fewer clusters" in refused(monkeypatch, capsys, "cluster", "--data", three,
                                       "--clusters", "5")
    same = cells(tmp_path, ["1,2,y", "1,2,n", "1,2,n"])
    for task in ("cluster", "map"):
        assert "are the same" in refused(monkeypatch, capsys, task, "--data", same)
