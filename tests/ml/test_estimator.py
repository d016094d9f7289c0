"""Estimators that do next to nothing: their manners are those of the base class."""

import pickle

import numpy as np
import pytest

from tinygrad_edu.ml.estimator import Classifier, Clusterer, Estimator, Regressor, Transformer
from tinygrad_edu.ml.inputs import NotFittedError, theirs


class Mean(Regressor):
    """Predicts the mean of y."""

    tags = {"regressor_tags.poor_score": True}

    def __init__(self, shift=0.0, inner=None):
        self.shift = shift
        self.inner = inner

    def fit(self, X, y, sample_weight=None):
        X, y, w = self.check_fit(X, y, sample_weight)
        self.mean_ = np.average(y, weights=w) + self.number("shift")
        return self

    def predict(self, X):
        return np.full(len(self.check_X(X)), self.mean_)


class Nearest(Classifier):
    """Predicts the class whose weighted mean is nearest."""

    def __init__(self, metric="euclidean"):
        self.metric = metric

    def fit(self, X, y, sample_weight=None):
        X, y, w = self.check_fit(X, y, sample_weight)
        self.refuse_one_class(w, y)
        self.choice("metric", "euclidean")
        rows = [y == k for k in range(len(self.classes_)) if w[y == k].any()]
        self.classes_ = self.classes_[[k for k in range(len(self.classes_)) if w[y == k].any()]]
        self.means_ = np.array([np.average(X[r], axis=0, weights=w[r]) for r in rows])
        return self

    def predict(self, X):
        X = self.check_X(X)
        return self.classes_[((X[:, None] - self.means_) ** 2).sum(2).argmin(1)]


class Shift(Transformer):
    """Takes the means away."""

    def fit(self, X, y=None):
        self.mean_ = self.check_X(X, fitting=True).mean(0)
        return self

    def transform(self, X):
        return self.check_X(X) - self.mean_


class Sides(Clusterer):
    """Two groups: above and below the mean of the first feature."""

    def fit(self, X, y=None):
        X, _, _ = self.check_fit(X)
        self.labels_ = (X[:, 0] > X[:, 0].mean()).astype(int)
        return self


EXAMPLES = [Mean(), Nearest(), Shift(), Sides()]
X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
Y = np.array([1.0, 2.0, 6.0])


def test_settings_are_read_and_written_by_name_also_those_inside():
    outer = Mean(shift=2.0, inner=Nearest())
    assert outer.get_params() == {"shift": 2.0, "inner": outer.inner,
                                  "inner__metric": "euclidean"}
    outer.set_params(shift=3, inner__metric="city")
    assert (outer.shift, outer.inner.metric) == (3, "city")
    assert repr(outer) == "Mean(shift=3, inner=Nearest(metric='city'))"


def test_an_unknown_setting_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ValueError, match=r"'shfit' for estimator Mean\(\).*\['inner', 'shift'\]"):
        Mean().set_params(shfit=1)


def test_scores_are_accuracy_and_explained_variance_of_weighted_rows():
    assert Nearest().fit(X, ["a", "a", "b"]).score(X, ["a", "b", "b"], [1, 2, 1]) == 0.5
    assert Mean().fit(X, Y).score(X, Y) == 0
    assert Mean(shift=1.0).fit(X, Y).score(X, Y) == 1 - (14 + 3) / 14
    assert Mean().fit(X, [2, 2, 2]).score(X, [2, 2, 2]) == 1
    assert Mean().fit(X, Y).score(X, [2, 2, 2]) == 0


@pytest.mark.parametrize("bad", ["1", np.nan, True, None])
def test_a_setting_that_is_no_number_is_refused_by_fit_not_by_init(bad):
    with pytest.raises(ValueError, match="'shift' parameter of Mean must be a float in the range"):
        Mean(shift=bad).fit(X, Y)


def test_a_setting_that_is_none_of_the_choices_is_refused_and_they_are_listed():
    with pytest.raises(ValueError, match="must be one of 'euclidean'. Got 'city'"):
        Nearest("city").fit(X, [0, 1, 1])


class Frame:
    """As much of a data frame as the checks look at."""

    def __init__(self, values, columns):
        self.values, self.columns = values, columns

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


def test_columns_that_have_changed_since_fit_are_named():
    fitted = Mean().fit(Frame(X, ["age", "size"]), Y)
    assert list(fitted.feature_names_in_) == ["age", "size"]
    fitted.predict(Frame(X, ["age", "size"]))
    with pytest.raises(ValueError, match="must be in the same order"):
        fitted.predict(Frame(X, ["size", "age"]))
    with pytest.raises(ValueError, match="unseen at fit time:\n- height\n.*missing:\n- size"):
        fitted.predict(Frame(X, ["age", "height"]))
    assert not hasattr(fitted.fit(X, Y), "feature_names_in_")


def test_another_number_of_features_is_refused():
    with pytest.raises(ValueError, match="X has 1 features, but Mean is expecting 2 features"):
        Mean().fit(X, Y).predict(X[:, :1])


def test_one_class_only_is_refused_also_where_the_others_weigh_nothing():
    for y, w in [([7, 7, 7], None), ([7, 8, 7], [1, 0, 1])]:
        with pytest.raises(ValueError, match="only one class: .*7"):
            Nearest().fit(X, y, w)


@pytest.mark.parametrize("estimator", EXAMPLES, ids=repr)
def test_an_answer_before_fit_is_an_error_of_two_kinds(estimator):
    for kind in (theirs(NotFittedError), ValueError, AttributeError):
        with pytest.raises(kind, match="is not fitted yet"):
            estimator.check_X(X)


def test_a_fitted_estimator_survives_pickling():
    fitted = pickle.loads(pickle.dumps(Mean().fit(X, Y)))
    assert fitted.predict(X).tolist() == [3, 3, 3]


def test_a_transformer_and_a_clusterer_answer_in_one_call():
    assert Shift().fit_transform(X).mean() == 0
    assert Sides().fit_predict(X).tolist() == [0, 0, 1]


def test_only_a_subclass_says_how_to_fit():
    assert not hasattr(Estimator(), "fit")
