"""What passes the door of lesson inputs, and the sentence for what does not."""

import subprocess
import sys

import numpy as np
import pytest

from tinygrad_edu.ml.inputs import (
    DataConversionWarning,
    check_array,
    check_column,
    check_random_state,
    check_target,
    check_weights,
    encode_classes,
    theirs,
)


class Frame:
    """As much of a data frame as the checks look at."""

    def __init__(self, values, columns):
        self.values, self.columns = values, columns

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __repr__(self):
        return f"Frame({self.values})"


class Sparse:
    """Has what every sparse matrix has."""

    def toarray(self):
        return np.eye(2)


def test_an_array_that_is_right_already_is_not_copied():
    X = np.eye(3)
    assert check_array(X) is X
    assert check_array(np.eye(3, 2, order="F")).flags.c_contiguous
    assert check_array([[1, 2]]).dtype == np.float64


@pytest.mark.parametrize(
    ("X", "said"),
    [
        ([1, 2], "Expected 2D array, got 1D array as X: Reshape your data"),
        ([[1], [2, 3]], "its rows differ in length"),
        ([[1j]], "Complex data not supported"),
        (np.empty((0, 2)), r"0 sample\(s\) \(shape=\(0, 2\)\) while a minimum of 1 is required"),
        (np.empty((2, 0)), r"0 feature\(s\) \(shape=\(2, 0\)\) while a minimum of 1 is required"),
        ([[1, 2], [3, np.nan]], r"Input X contains NaN \(row 1, column 1\): .*filled in"),
        ([[1, np.inf]], r"Input X contains infinity .* \(row 0, column 1\)"),
        ([["1", "2"], ["3", "x y"]], r"convert string to float: .*x y.* \(row 1, column 1\)"),
        (Frame([[1, "red"]], ["size", "colour"]), r"'red' \(row 0, column 'colour'\): encode"),
        (Frame([[1.0, np.nan]], ["size", "colour"]), r"NaN \(row 0, column 'colour'\)"),
    ],
    ids=str,
)
def test_what_is_no_table_of_numbers_is_refused_with_its_place(X, said):
    with pytest.raises(ValueError, match=said):
        check_array(X)


def test_a_sparse_matrix_and_an_object_are_refused_as_types():
    with pytest.raises(TypeError, match="Sparse data was passed as X.*toarray"):
        check_array(Sparse())
    with pytest.raises(TypeError, match=r"not 'dict' \(row 0, column 0\)"):
        check_array(np.array([[{}, 1]], dtype=object))
    with pytest.raises(TypeError, match="only supported if all of them are strings"):
        check_array(Frame([["a", 1]], ["size", 7]))


def test_holes_pass_where_they_are_allowed_and_infinity_never_does():
    assert np.isnan(check_array([[np.nan, 1]], allow_nan=True)[0, 0])
    with pytest.raises(ValueError, match="infinity"):
        check_array([[np.nan, np.inf]], allow_nan=True)


def test_a_sum_that_overflows_is_no_infinity_in_the_table():
    assert check_array(np.full((2, 2), 1e308)).shape == (2, 2)
    with pytest.raises(ValueError, match="too large for dtype"):
        check_array([[1e300]], dtype=np.float32)


def test_a_column_vector_is_read_as_a_vector_with_a_warning():
    with pytest.warns(theirs(DataConversionWarning), match="A column-vector y was passed when"):
        assert check_column([[1], [2]], 2).shape == (2,)


def test_targets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="Ridge requires y to be passed, but the target y is None"):
        check_target(None, 3, "Ridge")
    with pytest.raises(ValueError, match="should be a 1d array, got an array of shape"):
        check_target(np.ones((3, 2)), 3)
    with pytest.raises(ValueError, match="inconsistent numbers of samples: X has 3, y has 2"):
        check_target([1, 2], 3)
    with pytest.raises(ValueError, match=r"convert string to float: .*'a' \(row 1\)"):
        check_target(np.array([1, "a"], dtype=object), 2)
    with pytest.raises(ValueError, match=r"Input y contains NaN \(row 1\)"):
        check_target([1, np.nan], 2)


def test_labels_become_codes_and_back():
    for labels in (["b", "a", "b"], [True, False, True], [2.0, -1.0, 2.0]):
        classes, codes = encode_classes(np.array(labels))
        assert codes.tolist() == [1, 0, 1]
        assert classes[codes].tolist() == labels


def test_labels_that_are_no_classes_are_refused():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        encode_classes(np.array([1.0, 0.5]))
    with pytest.raises(ValueError, match="Unknown label type: y mixes labels"):
        encode_classes(np.array([1, "a"], dtype=object))


def test_weights_are_counts_that_are_not_all_zero():
    assert check_weights(None, 2).tolist() == [1, 1]
    assert check_weights(3, 2).tolist() == [3, 3]
    for bad, said in [
        ([1], r"sample_weight.shape == \(1,\), expected \(2,\)"),
        ([[1, 2]], "must be 1D array or scalar, got 2D array"),
        ([0, 0], "at least one non-zero number"),
        ([1, -1], "Negative values in sample_weight"),
        ([1, np.nan], r"Input sample_weight contains NaN \(row 1\)"),
    ]:
        with pytest.raises(ValueError, match=said):
            check_weights(bad, 2)


def test_a_random_state_is_a_generator_in_the_end():
    generator = np.random.default_rng(1)
    assert check_random_state(generator) is generator
    for seed in (3, np.int64(3)):
        assert check_random_state(seed).random() == np.random.default_rng(3).random()
    old = [check_random_state(np.random.RandomState(5)).random() for _ in range(2)]
    assert old[0] == old[1] != check_random_state(5).random()
    assert check_random_state(None).random() != check_random_state(None).random()
    for bad in (-1, "a", 0.5):
        with pytest.raises(ValueError, match="cannot be used to seed"):
            check_random_state(bad)


def test_scikit_learns_exceptions_are_used_only_where_it_is_loaded():
    code = """
import sys, types
from tinygrad_edu.ml.inputs import NotFittedError, theirs
assert "sklearn" not in sys.modules and theirs(NotFittedError) is NotFittedError
module = sys.modules["sklearn.exceptions"] = types.ModuleType("sklearn.exceptions")
module.NotFittedError = type("NotFittedError", (ValueError,), {})
assert theirs(NotFittedError) is module.NotFittedError
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
