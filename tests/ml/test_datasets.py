"""Clouds whose truth is known, and files as data sets."""

import sys

import numpy as np
import pytest

from tinygrad_edu.ml.datasets import (
    MADE,
    load,
    make_circles,
    make_classification,
    make_moons,
    make_regression,
    make_spirals,
)


@pytest.mark.parametrize("name", MADE)
def test_a_set_depends_on_its_seed_alone_and_its_classes_are_mixed(name):
    first, again, other = load(name, 200, 3), load(name, 200, 3), load(name, 200, 4)
    assert np.array_equal(np.asarray(first.X).astype(str), np.asarray(again.X).astype(str))
    assert not np.array_equal(first.y, other.y)
    assert first.X.shape == (200, len(first.feature_names)) and len(first.y) == 200
    if first.target_names:
        assert set(first.y[:100]) == set(range(len(first.target_names)))  # not sorted by class


def test_without_noise_the_shapes_are_those_of_the_equations():
    X, y = make_circles(50, noise=0)
    np.testing.assert_allclose(np.hypot(*X.T), np.where(y == 0, 1, 0.5))
    X, y = make_moons(50, noise=0)
    np.testing.assert_allclose(np.hypot(*(X - np.where(y[:, None] == 0, 0, [1, 0.5])).T), 1)
    X, y = make_spirals(60, noise=0)
    angle = np.arctan2(X[:, 1], X[:, 0]) - 2.5 * np.hypot(*X.T) - 2 * np.pi * y / 3
    np.testing.assert_allclose(np.cos(angle), 1)


def test_only_the_planted_columns_matter_and_classes_have_one_size():
    X, y, w = make_regression(4000, features=6, informative=2, noise=0.5)
    assert (w != 0).tolist() == [True, True, False, False, False, False]
    np.testing.assert_allclose(np.linalg.lstsq(X, y, rcond=None)[0], w, atol=0.05)
    assert np.bincount(make_classification(300, classes=3)[1]).tolist() == [100, 100, 100]


def test_the_target_of_a_file_is_classes_or_a_number_by_its_looks_or_by_order(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,grade,cost,kind\n1,2,0.5,b\n2,3,1.5,a\n,2,,b\n4,3,2.5,\n")
    kind = load(path)
    assert kind.target_names == ["a", "b"] and kind.y.tolist() == [1, 0, 1]  # one has no answer
    assert kind.feature_names == ["x", "grade", "cost"]
    assert load(path, target="cost").is_regression and len(load(path, target="cost").y) == 3
    grade = load(path, target="grade")
    assert grade.target_names == ["2", "3"] and grade.y.tolist() == [0, 1, 0, 1]
    assert load(path, target="grade", classes=False).y.tolist() == [2, 3, 2, 3]
    with pytest.raises(ValueError, match="'b' in it, which is no number"):
        load(path, target="kind", classes=False)


def test_an_infinite_cell_is_told_with_its_row_of_the_file(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,kind\n1,a\n-1e999,b\n")
    with pytest.raises(ValueError, match="'x' is infinite in row 2 below the header"):
        load(path)


def test_an_unknown_set_and_a_missing_package_are_told(monkeypatch):
    with pytest.raises(ValueError, match="no data set 'irris': take one of blobs"):
        load("irris")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="iris comes with scikit-learn: pip install"):
        load("iris")
