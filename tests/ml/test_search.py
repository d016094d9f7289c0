"""Settings that nothing learns."""

import numpy as np
import pytest

from tinygrad_edu.ml.chain import Pipeline
from tinygrad_edu.ml.datasets import make_blobs, make_spirals
from tinygrad_edu.ml.halving import HalvingGridSearchCV, smaller
from tinygrad_edu.ml.linear import Ridge
from tinygrad_edu.ml.logistic import LogisticRegression
from tinygrad_edu.ml.scaling import StandardScaler
from tinygrad_edu.ml.search import GridSearchCV, LogUniform, RandomizedSearchCV, draws_of, grid_of
from tinygrad_edu.ml.tree import DecisionTreeClassifier
from tinygrad_edu.ml.validate import cross_val_score

X, Y = make_spirals(200)
DEPTHS = {"max_depth": [1, 3, 12]}


def test_a_grid_is_every_combination_and_the_largest_mean_is_chosen():
    assert grid_of({"b": [1, 2], "a": ["xy"] + ["z"]})[:2] == [{"a": "xy", "b": 1},
                                                                   {"a": "xy", "b": 2}]
    assert grid_of([{"a": [1]}, {"b": [2, 3]}]) == [{"a": 1}, {"b": 2}, {"b": 3}]
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), DEPTHS, cv=3).fit(X, Y)
    means = [cross_val_score(DecisionTreeClassifier(max_depth=d, random_state=0), X, Y, 3).mean()
             for d in (1, 3, 12)]
    assert search.cv_results_["mean_test_score"].tolist() == means
    assert search.best_params_ == {"max_depth": 12} and search.best_score_ == max(means)
    assert search.cv_results_["rank_test_score"].tolist() == [3, 2, 1]
    assert search.score(X, Y) == 1 and search.n_features_in_ == 2  # fitted on all rows


def test_a_loss_is_searched_for_its_smallest_value():
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1e6]}, scoring="neg_mean_squared_error")
    assert search.fit(X, X[:, 0] + 3 * X[:, 1]).best_params_ == {"alpha": 0.1}


def test_settings_inside_a_pipeline_are_searched_by_their_path():
    pipeline = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    grid = {"scale": ["passthrough", StandardScaler()], "model__C": [0.1, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(*make_blobs(60))
    assert len(search.cv_results_["params"]) == 4
    assert {"param_scale", "param_model__C", "split1_test_score"} <= search.cv_results_.keys()


def test_draws_are_spread_over_the_decades_and_lists_are_not_drawn_twice():
    draws = draws_of({"C": LogUniform(1e-3, 1e3), "kind": ["a", "b"]}, 400, 0)
    decades = np.floor(np.log10([draw["C"] for draw in draws]))
    assert (np.unique(decades, return_counts=True)[1] > 40).all() and len(set(decades)) == 6
    assert {draw["kind"] for draw in draws} == {"a", "b"}
    found = draws_of({"a": [1, 2], "b": [3, 4, 5]}, 99, 0)
    assert len(found) == 6 and len({tuple(d.items()) for d in found}) == 6
    assert draws_of({"a": range(50)}, 3, 1) == draws_of({"a": range(50)}, 3, 1)


def test_a_random_search_tries_as_many_as_it_was_told():
    search = RandomizedSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": range(1, 9)},
                                n_iter=4, cv=2, random_state=0).fit(X, Y)
    assert len(search.cv_results_["params"]) == 4


def test_halving_has_fewer_candidates_on_more_rows_and_ends_on_all_of_them():
    grid = {"max_depth": [1, 2, 3, 12], "min_samples_leaf": [1, 30]}
    search = HalvingGridSearchCV(DecisionTreeClassifier(random_state=0), grid, factor=2, cv=2,
                                 random_state=0).fit(X, Y)
    assert search.n_candidates_ == [8, 4, 2, 1] and search.n_resources_ == [12, 25, 50, 100]
    assert search.best_params_ == {"max_depth": 12, "min_samples_leaf": 1}
    assert search.cv_results_["n_resources"][search.best_index_] == 100


def test_the_best_is_chosen_among_those_that_saw_all_rows():
    """On few rows luck makes a score that no candidate keeps: here a scorer lies about them."""

    def liar(fitted, X, y):
        return 2.0 if fitted.tree_.rows[0] < 50 else fitted.score(X, y)

    search = HalvingGridSearchCV(DecisionTreeClassifier(random_state=0), DEPTHS, factor=2, cv=2,
                                 scoring=liar, random_state=0).fit(X, Y)
    assert search.best_score_ < 2


def test_a_part_of_the_rows_keeps_the_shares_of_the_classes():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    rows = smaller(np.arange(100), 20, y, 3, np.random.default_rng(0))
    assert np.bincount(y[rows]).tolist() == [12, 6, 2] and len(set(rows)) == 20


@pytest.mark.parametrize("grid", [{"max_depth": 3}, {"max_depth": []}, {"criterion": "gini"}])
def test_a_grid_without_a_list_is_told(grid):
    with pytest.raises(ValueError, match="Parameter grid for parameter"):
        GridSearchCV(DecisionTreeClassifier(), grid).fit(X, Y)


def test_an_unknown_setting_and_a_bad_range_are_told():
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        GridSearchCV(DecisionTreeClassifier(), {"depth": [1]}).fit(X, Y)
    with pytest.raises(ValueError, match="0 < low < high"):
        LogUniform(0, 1)
