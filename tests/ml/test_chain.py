"""Everything that learns, learns from the same rows."""

import pickle

import numpy as np
import pytest

from tinygrad_edu.ml.chain import Pipeline, clone
from tinygrad_edu.ml.datasets import load, make_blobs
from tinygrad_edu.ml.encoding import TargetEncoder
from tinygrad_edu.ml.estimator import Transformer
from tinygrad_edu.ml.inputs import NotFittedError, theirs
from tinygrad_edu.ml.logistic import LogisticRegression
from tinygrad_edu.ml.scaling import StandardScaler
from tinygrad_edu.ml.validate import cross_validate

X, Y = make_blobs(90, features=3)


class Spy(Transformer):
    """Remembers the rows that it was fitted on and those that it was asked about."""

    def fit(self, X, y=None):
        self.learned_, self.asked_ = np.array(X), []
        return self

    def transform(self, X):
        self.asked_.append(np.array(X))
        return X


def chain(*steps):
    return Pipeline([*steps, ("model", LogisticRegression())])


def test_no_step_learns_from_a_row_that_judges_it():
    report = cross_validate(chain(("spy", Spy()), ("scale", StandardScaler())), X, Y, 3)
    for fitted, test in zip(report["estimator"], report["test_rows"], strict=True):
        learned = {tuple(row) for row in fitted["spy"].learned_}
        assert len(learned) == 60 and not learned & {tuple(row) for row in X[test]}
        np.testing.assert_allclose(fitted["scale"].mean_, np.delete(X, test, axis=0).mean(0))


def test_asking_learns_nothing():
    pipeline = chain(("scale", StandardScaler())).fit(X, Y)
    before = pipeline.predict_proba(X[:5])
    pipeline.predict(X + 100)
    np.testing.assert_array_equal(pipeline.predict_proba(X[:5]), before)


def test_training_uses_fit_transform_so_that_target_encoding_is_cross_fitted():
    words, y = np.arange(40).astype(str)[:, None], np.arange(40) % 2
    pipeline = chain(("encode", TargetEncoder(smooth=0.0, random_state=0))).fit(words, y)
    assert abs(pipeline["model"].coef_[0, 0]) < 0.7  # it would be several times that: z is y


def test_the_settings_of_a_step_are_reached_by_path_and_a_step_can_be_replaced():
    pipeline = chain(("scale", StandardScaler()))
    pipeline.set_params(scale__with_mean=False, model__C=3.0)
    assert not pipeline.get_params()["scale__with_mean"] and pipeline.steps[1][1].C == 3.0
    pipeline.set_params(scale="passthrough")
    np.testing.assert_allclose(pipeline.fit(X, Y)["model"].coef_,
                               LogisticRegression(C=3.0).fit(X, Y).coef_)
    with pytest.raises(ValueError, match="Invalid parameter 'shrink'"):
        pipeline.set_params(shrink=1)


def test_fit_leaves_the_given_steps_as_they_were_and_a_clone_knows_nothing():
    pipeline = chain(("scale", StandardScaler())).fit(X, Y)
    assert not hasattr(pipeline.steps[0][1], "mean_") and hasattr(pipeline["scale"], "mean_")
    fresh = clone(pipeline)
    assert repr(fresh) == repr(pipeline) and fresh.steps[0][1] is not pipeline.steps[0][1]
    with pytest.raises(theirs(NotFittedError)):
        fresh.predict(X)
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict(X), pipeline.predict(X))


def test_a_pipeline_has_the_methods_of_its_last_step():
    assert hasattr(chain(), "predict_proba") and not hasattr(chain(), "transform")
    scalers = Pipeline([("one", StandardScaler()), ("two", StandardScaler())])
    assert hasattr(scalers, "transform") and not hasattr(scalers, "predict")
    np.testing.assert_allclose(scalers.fit_transform(X), scalers.transform(X))


def test_options_of_the_last_step_are_named_after_it():
    weights = np.where(Y == 0, 0.0, 1.0)
    pipeline = chain(("scale", StandardScaler())).fit(X, Y, model__sample_weight=weights)
    assert pipeline.predict_proba(X)[:, 0].max() < 0.4
    with pytest.raises(ValueError, match="model__option"):
        pipeline.fit(X, Y, sample_weight=weights)


@pytest.mark.parametrize("steps", [[("a", StandardScaler()), ("a", StandardScaler())],
                                   [("a__b", StandardScaler())], [("steps", StandardScaler())]])
def test_names_that_a_path_could_not_mean_are_refused(steps):
    with pytest.raises(ValueError, match="not unique, or clash"):
        Pipeline(steps).fit(X)


def test_a_step_in_between_must_transform():
    with pytest.raises(TypeError, match="intermediate steps should be transformers: first"):
        chain(("first", LogisticRegression())).fit(X, Y)


def test_names_of_columns_go_through():
    data = load("customers").X[["age", "months"]]
    assert Pipeline([("scale", StandardScaler())]).fit(data).get_feature_names_out().tolist() == [
        "age", "months"]
