"""Words as numbers, and who may see the target."""

import numpy as np
import pytest

from tinygrad_edu.ml.encoding import OneHotEncoder, OrdinalEncoder, TargetEncoder

WORDS = np.array([["b", 1], ["a", 2], [np.nan, 1], ["b", 1]], dtype=object)


def test_each_word_has_a_column_holes_last():
    encoder = OneHotEncoder().fit(WORDS)
    assert encoder.get_feature_names_out().tolist() == ["x0_a", "x0_b", "x0_nan", "x1_1", "x1_2"]
    assert encoder.transform(WORDS).tolist() == [[0, 1, 0, 1, 0], [1, 0, 0, 0, 1],
                                                 [0, 0, 1, 1, 0], [0, 1, 0, 1, 0]]
    back = encoder.inverse_transform(encoder.transform(WORDS[:2]))
    assert back.tolist() == WORDS[:2].tolist()
    assert OneHotEncoder(drop="first").fit_transform(WORDS).shape == (4, 3)
    assert OneHotEncoder(drop="if_binary").fit_transform(WORDS).shape == (4, 4)


def test_a_list_of_rows_keeps_numbers_apart_from_words():
    encoder = OneHotEncoder().fit([["a", 1], ["b", 2]])
    assert encoder.categories_[1].tolist() == [1, 2]
    with pytest.raises(TypeError, match="uniformly strings or numbers.*int.*str"):
        OneHotEncoder().fit(np.array([["a"], [1]], dtype=object))


def test_an_unknown_word_is_an_error_unless_it_is_expected():
    new = np.array([["c", 1]], dtype=object)
    with pytest.raises(ValueError, match=r"Found unknown categories \['c'\] in column 0"):
        OneHotEncoder().fit(WORDS).transform(new)
    lenient = OneHotEncoder(handle_unknown="ignore").fit(WORDS)
    assert lenient.transform(new).tolist() == [[0, 0, 0, 1, 0]]
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(WORDS)
    assert ordinal.transform(new).tolist() == [[-1, 0]]
    with pytest.raises(ValueError, match="unknown_value has to be"):
        OrdinalEncoder(handle_unknown="use_encoded_value").fit(WORDS)


def test_numbers_of_words_are_in_sorted_order_and_holes_stay():
    np.testing.assert_array_equal(OrdinalEncoder().fit_transform(WORDS),
                                  [[1, 0], [0, 1], [np.nan, 0], [1, 0]])


def test_the_mean_of_a_word_is_drawn_towards_the_mean_of_all():
    X, y = np.array([["a"], ["a"], ["b"], ["b"]]), np.array([0.25, 0.75, 2.0, 5.0])
    encoder = TargetEncoder(smooth=2.0).fit(X, y)
    np.testing.assert_allclose(encoder.transform([["a"], ["b"], ["c"]]),
                               [[0.5 * 0.5 + 0.5 * 2], [0.5 * 3.5 + 0.5 * 2], [2]])


def test_no_row_finds_its_own_answer_where_it_is_encoded_for_training():
    """With a word of its own a row can only get the mean of rows that are not its own."""
    X, y = np.arange(50).astype(str)[:, None], np.arange(50.0) + 0.5
    encoder = TargetEncoder(cv=5, smooth=0.0, shuffle=False)
    seen = encoder.fit(X, y).transform(X)[:, 0]
    np.testing.assert_allclose(seen, y)
    fair = encoder.fit_transform(X, y)[:, 0]
    for fold in range(5):
        rows = slice(10 * fold, 10 * fold + 10)
        np.testing.assert_allclose(fair[rows], np.delete(y, rows).mean())


def test_three_classes_are_three_columns():
    X, y = np.array([["a"], ["b"], ["a"], ["b"], ["a"], ["b"]]), list("pqrpqr")
    encoder = TargetEncoder(cv=2, smooth=0.0, random_state=0).fit(X, y)
    assert encoder.get_feature_names_out().tolist() == ["x0_p", "x0_q", "x0_r"]
    np.testing.assert_allclose(encoder.transform([["a"]]), [[1 / 3, 1 / 3, 1 / 3]])
