"""Naive Bayes: counts that can be checked by hand, and tables that come in pieces."""

import numpy as np
import pytest

from tinygrad_edu.ml.bayes import GaussianNB, MultinomialNB


def table(N=50, C=3, K=3, seed=0):
    random = np.random.default_rng(seed)
    y = random.integers(0, K, N)
    return random.standard_normal((N, C)) + 2 * y[:, None] + 100, y


def test_a_coin_and_two_words_are_decided_by_counting():
    spam = MultinomialNB().fit([[3, 0], [1, 2]], ["spam", "ham"])
    # with α = 1: θ = (4, 1)/5 in spam and (2, 3)/5 in ham
    assert np.allclose(np.exp(spam.feature_log_prob_), [[2 / 5, 3 / 5], [4 / 5, 1 / 5]])
    assert np.allclose(np.exp(spam.class_log_prior_), 0.5)
    assert np.allclose(spam.predict_proba([[1, 0]]), [[1 / 3, 2 / 3]])
    shares = MultinomialNB().fit([[3, 0], [1, 2], [1, 1]], [0, 1, 1]).class_log_prior_
    assert np.allclose(np.exp(shares), [1 / 3, 2 / 3])
    assert spam.predict([[1, 0], [0, 1]]).tolist() == ["spam", "ham"]


def test_the_border_between_two_equal_bells_is_half_way():
    fitted = GaussianNB().fit([[0.0], [2], [10], [12]], [0, 0, 1, 1])
    assert fitted.theta_.tolist() == [[1], [11]]
    assert np.allclose(fitted.var_, 1)
    assert np.allclose(fitted.predict_proba([[6.0]]), 0.5)
    # log odds at x: ((x − 1)² − (x − 11)²)/2 = 10x − 60
    assert np.isclose(np.diff(fitted.predict_log_proba([[6.1]]))[0, 0], 1, rtol=1e-6)


@pytest.mark.parametrize("model", [GaussianNB(), MultinomialNB(alpha=0.5)], ids=repr)
def test_a_table_in_pieces_is_the_whole_table(model):
    X, y = table()
    w = np.arange(50) % 4
    whole = model.fit(X, y, w).predict_joint_log_proba(X)
    model.__dict__.pop("classes_")
    for part in np.split(np.arange(50), [1, 9, 30]):
        w[part[0]] += not w[part].any()
        model.partial_fit(X[part], y[part], [0, 1, 2], w[part])
    again = type(model)(**model.get_params()).fit(X, y, w)
    assert np.allclose(model.predict_joint_log_proba(X), again.predict_joint_log_proba(X),
                       rtol=1e-6)
    assert np.abs(whole - again.predict_joint_log_proba(X)).max() < 20


def test_variances_far_from_zero_keep_their_digits():
    X, y = table()
    near, far = GaussianNB().fit(X, y).var_, GaussianNB().fit(X + 1e6, y).var_
    assert np.allclose(near, far, rtol=1e-8)


def test_a_class_without_rows_is_impossible():
    fitted = GaussianNB().partial_fit([[1.0], [2.0]], [0, 0], classes=[0, 1])
    assert fitted.predict_proba([[50.0]]).tolist() == [[1, 0]]


def test_given_priors_move_the_border():
    X, y = [[0.0], [2], [10], [12]], [0, 0, 1, 1]
    assert np.allclose(GaussianNB(priors=[0.9, 0.1]).fit(X, y).predict_proba([[6.0]]), [[0.9, 0.1]])
    with pytest.raises(ValueError, match="2 numbers ≥ 0 whose sum is 1"):
        GaussianNB(priors=[0.9, 0.2]).fit(X, y).predict(X)
    uneven = MultinomialNB(fit_prior=False).fit([[1, 1], [1, 1], [1, 1]], [0, 0, 1])
    assert np.allclose(uneven.predict_proba([[1, 1]]), 0.5)


def test_labels_that_come_too_late_are_refused():
    X, y = table()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        GaussianNB().partial_fit(X, y)
    fitted = GaussianNB().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"labels \[7\] in y do not exist in the initial classes"):
        fitted.partial_fit(X, np.full(50, 7))
    with pytest.raises(ValueError, match="not the same as on the first call"):
        fitted.partial_fit(X, y, classes=[0, 1])


def test_counts_below_zero_are_refused():
    with pytest.raises(ValueError, match="Negative values in data passed to MultinomialNB"):
        MultinomialNB().fit([[1, -1]], [0])
    with pytest.raises(ValueError, match="'alpha' parameter of MultinomialNB must be a float"):
        MultinomialNB(alpha=0).fit([[1, 1]], [0])
