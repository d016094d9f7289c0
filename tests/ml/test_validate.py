"""Fit and judge, fold after fold."""

import numpy as np
import pytest

from tinygrad_edu.ml.datasets import make_blobs, make_regression
from tinygrad_edu.ml.linear import LinearRegression
from tinygrad_edu.ml.logistic import LogisticRegression
from tinygrad_edu.ml.scores import log_loss
from tinygrad_edu.ml.splits import KFold, TimeSeriesSplit
from tinygrad_edu.ml.tree import DecisionTreeClassifier
from tinygrad_edu.ml.validate import (
    SCORERS,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)

X, Y = make_blobs(120, spread=2.5)
TWO = Y < 2


def test_each_fold_is_a_fresh_copy_judged_on_rows_it_has_not_seen():
    model = DecisionTreeClassifier(random_state=0)
    report = cross_validate(model, X, Y, 4, train_score=True)
    assert not hasattr(model, "tree_") and len({id(e) for e in report["estimator"]}) == 4
    assert (report["train_score"] == 1).all() and (report["test_score"] < 1).all()
    by_hand = [fitted.score(X[rows], Y[rows])
               for fitted, rows in zip(report["estimator"], report["test_rows"], strict=True)]
    assert report["test_score"].tolist() == by_hand == cross_val_score(model, X, Y, 4).tolist()


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_prefers_the_better_model(name):
    if name in ("r2", "neg_mean_absolute_error", "neg_mean_squared_error"):
        data, y, _ = make_regression(80)
        good, bad = data, np.random.default_rng(0).permutation(data)
        model = LinearRegression()
    else:
        several = "macro" in name or "ovr" in name
        data, y = (X, Y) if several else (X[TWO], Y[TWO])
        good, bad = data, np.random.default_rng(0).permutation(data)
        model = LogisticRegression()
    better, worse = (cross_val_score(model, table, y, 3, name).mean() for table in (good, bad))
    assert better > worse + 0.01


def test_each_row_is_answered_by_the_model_that_has_not_seen_it():
    folds = KFold(5, shuffle=True, random_state=0)
    proba = cross_val_predict(LogisticRegression(), X, Y, folds, method="predict_proba")
    report = cross_validate(LogisticRegression(), X, Y, folds, ["accuracy", "neg_log_loss"])
    for loss, rows in zip(-report["test_neg_log_loss"], report["test_rows"], strict=True):
        assert log_loss(Y[rows], proba[rows], labels=[0, 1, 2]) == pytest.approx(loss)
    with pytest.raises(ValueError, match="only works for partitions"):
        cross_val_predict(LogisticRegression(), X, Y, TimeSeriesSplit(3))


def test_more_rows_help_on_other_rows_and_hurt_on_ones_own():
    sizes, train, test = learning_curve(LogisticRegression(), *make_blobs(400, spread=4), cv=4,
                                        sizes=(0.03, 0.2, 1.0))
    assert sizes.tolist() == [9, 60, 300] and train.shape == test.shape == (3, 4)
    assert train[0].mean() > train[-1].mean() and test[0].mean() < test[-1].mean()


def test_an_unknown_scorer_and_an_estimator_without_score_are_told():
    with pytest.raises(ValueError, match="'acuracy' is not a valid scoring value: take one of acc"):
        cross_validate(LogisticRegression(), X, Y, scoring="acuracy")
    with pytest.raises(TypeError, match="has no score"):
        cross_validate(object(), X, Y)
