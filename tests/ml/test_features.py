"""Holes filled, bins, products."""

import math

import numpy as np
import pytest

from tinygrad_edu.ml.features import KBinsDiscretizer, PolynomialFeatures, SimpleImputer

HOLES = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, 5.0], [8.0, 9.0]])


def test_a_hole_is_filled_with_what_the_other_rows_have():
    for strategy, values in {"mean": [4, 19 / 3], "median": [3, 5], "most_frequent": [1, 5],
                             "constant": [0, 0]}.items():
        filled = SimpleImputer(strategy).fit_transform(HOLES)
        np.testing.assert_allclose([filled[2, 0], filled[0, 1]], values)
        assert not np.isnan(filled).any() and filled[1].tolist() == [3, 5]


def test_words_are_filled_too_and_none_is_a_hole_like_nan():
    X = np.array([["a", None], ["b", "x"], ["b", np.nan]], dtype=object)
    assert SimpleImputer("most_frequent").fit_transform(X).tolist() == [["a", "x"], ["b", "x"],
                                                                       ["b", "x"]]
    assert SimpleImputer("constant").fit_transform(X)[0, 1] == "missing_value"
    with pytest.raises(ValueError, match="row 0, column 0"):
        SimpleImputer("mean").fit(X)


def test_marks_say_where_there_was_nothing_and_an_empty_column_goes():
    imputer = SimpleImputer(add_indicator=True).fit(HOLES)
    assert imputer.transform(HOLES)[:, 2:].tolist() == [[0, 1], [0, 0], [1, 0], [0, 0]]
    assert imputer.get_feature_names_out().tolist() == [
        "x0", "x1", "missingindicator_x0", "missingindicator_x1"]
    with pytest.warns(UserWarning, match="without any observed values: .*x1"):
        assert SimpleImputer().fit_transform([[1, np.nan], [2, np.nan]]).shape == (2, 1)


def test_a_value_on_an_edge_is_in_the_upper_bin_and_far_ones_in_the_last():
    X = np.array([[0.0], [1.0], [2.0], [4.0]])
    bins = KBinsDiscretizer(2, encode="ordinal", strategy="uniform").fit(X)
    fresh = [[-9.0], [1.999], [2.0], [99.0]]
    assert bins.transform(fresh).ravel().tolist() == [0, 0, 1, 1]
    shown = KBinsDiscretizer(2, strategy="uniform").fit(X)
    assert shown.transform(fresh).tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert shown.get_feature_names_out().tolist() == ["x0_0.0", "x0_1.0"]


def test_quantiles_that_coincide_are_one_edge():
    X = np.array([[0.0]] * 9 + [[5.0]])
    bins = KBinsDiscretizer(4, encode="ordinal").fit(X)
    assert bins.n_bins_.tolist() == [1]
    assert KBinsDiscretizer(3).fit_transform(np.ones((4, 2))).tolist() == [[1, 1]] * 4


@pytest.mark.parametrize(("columns", "degree"), [(1, 3), (3, 2), (4, 3)])
def test_there_are_as_many_products_as_the_formula_says(columns, degree):
    X = np.random.default_rng(0).standard_normal((5, columns))
    terms = PolynomialFeatures(degree).fit(X)
    assert terms.n_output_features_ == math.comb(columns + degree, degree)
    for name, column in zip(terms.get_feature_names_out(), terms.transform(X).T, strict=True):
        factors = [f.partition("^") for f in name.split() if f != "1"]
        wanted = np.prod([X[:, int(n[1:])] ** int(p or 1) for n, _, p in factors], axis=0)
        np.testing.assert_allclose(column, wanted * np.ones(5), rtol=1e-12)


def test_interactions_have_no_squares():
    terms = PolynomialFeatures(2, interaction_only=True, include_bias=False).fit(np.ones((2, 3)))
    assert terms.get_feature_names_out(["a", "b", "c"]).tolist() == ["a", "b", "c", "a b", "a c",
                                                                    "b c"]
    with pytest.raises(ValueError, match="makes no column"):
        PolynomialFeatures(0, include_bias=False).fit(np.ones((2, 2)))
