"""Machines with kernels: moons, votes, tubes, and what must not depend on how it is asked."""

import numpy as np
import pytest

from tinygrad_edu.ml.inputs import ConvergenceWarning, theirs
from tinygrad_edu.ml.smo import RBF, gram
from tinygrad_edu.ml.svm import SVC, SVR, pairs


def moons(n=200, seed=0):
    random = np.random.default_rng(seed)
    y = np.arange(n) % 2
    angle = np.pi * random.random(n)
    x = np.column_stack([np.cos(angle) + y, np.sin(angle) * (1 - 2 * y) + y / 2])
    return x + 0.1 * random.standard_normal(x.shape), y


def blobs(n=150, classes=4, seed=0):
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return random.standard_normal((n, 3)) + 2 * random.standard_normal((classes, 3))[y], y


def test_a_curved_street_separates_two_moons_where_a_straight_one_cannot():
    X, y = moons()
    assert SVC(gamma=2.0, C=10).fit(X, y).score(X, y) > 0.99 > 0.95 > SVC(
        kernel="linear").fit(X, y).score(X, y)


def test_the_answer_is_the_sum_over_the_support_vectors():
    X, y = moons()
    fitted = SVC(gamma=0.7).fit(X, y)
    k = gram(X, fitted.support_vectors_, (RBF, 0.7, 0.0, 3))
    f = k @ fitted.dual_coef_[0] + fitted.intercept_
    assert np.allclose(f, fitted.decision_function(X))
    assert np.array_equal(fitted.predict(X), (f > 0).astype(int))
    assert np.array_equal(fitted.support_vectors_, X[fitted.support_])
    assert np.array_equal(fitted.n_support_, np.bincount(y[fitted.support_]))
    assert np.all(np.sign(fitted.dual_coef_[0]) == 2 * y[fitted.support_] - 1)


def test_each_pair_of_classes_has_the_machine_of_its_rows_alone():
    X, y = blobs()
    fitted = SVC(decision_function_shape="ovo", gamma=0.2, tol=1e-9).fit(X, y)
    f = fitted.decision_function(X)
    for column, (a, b) in enumerate(pairs(4)):
        rows = (y == a) | (y == b)
        alone = SVC(gamma=0.2, tol=1e-9).fit(X[rows], y[rows])
        assert np.allclose(f[:, column], -alone.decision_function(X), atol=1e-7)


def test_the_class_with_most_votes_wins_and_the_ranking_agrees():
    X, y = blobs()
    fitted = SVC().fit(X, y)
    votes = np.zeros((len(X), 4))
    f = fitted.set_params(decision_function_shape="ovo").decision_function(X)
    for column, (a, b) in enumerate(pairs(4)):
        votes[np.arange(len(X)), np.where(f[:, column] > 0, a, b)] += 1
    assert np.array_equal(fitted.predict(X), votes.argmax(1))
    ranked = fitted.set_params(decision_function_shape="ovr").decision_function(X)
    assert np.all(np.abs(ranked - votes) < 1 / 3)


@pytest.mark.parametrize("machine", [SVC(kernel="linear"), SVR(kernel="linear")], ids=repr)
def test_a_linear_kernel_has_a_plane(machine):
    X, y = moons() if isinstance(machine, SVR) else blobs()
    machine.fit(X, y)
    f = X @ machine.coef_.T + machine.intercept_
    if isinstance(machine, SVC):
        machine.decision_function_shape = "ovo"
        assert np.allclose(f, machine.decision_function(X))
    else:
        assert np.allclose(f[:, 0], machine.predict(X))


@pytest.mark.parametrize("kind", [SVC, SVR])
def test_a_precomputed_kernel_is_the_kernel(kind):
    X, y = blobs()
    direct = kind(gamma=0.3, tol=1e-9).fit(X, y)
    given = kind(kernel="precomputed", tol=1e-9).fit(gram(X, X, (RBF, 0.3, 0.0, 3)), y)
    new = X[:20] + 0.1
    assert np.allclose(given.dual_coef_, direct.dual_coef_, atol=1e-6)
    assert np.allclose(given.predict(gram(new, X, (RBF, 0.3, 0.0, 3))), direct.predict(new))


def test_rows_inside_the_tube_cost_nothing_and_are_no_support_vectors():
    x = np.linspace(-3, 3, 60)[:, None]
    fitted = SVR(C=100, epsilon=0.1, gamma=1.0, tol=1e-8).fit(x, np.sin(x[:, 0]))
    away = np.abs(fitted.predict(x) - np.sin(x[:, 0]))
    assert away.max() < 0.1 + 1e-6
    inside = away < 0.1 - 1e-6
    assert inside.sum() > 40
    assert not inside[fitted.support_].any()


@pytest.mark.parametrize("machine", [SVC(gamma=0.5, tol=1e-10), SVR(gamma=0.5, tol=1e-10)],
                         ids=repr)
def test_a_weight_counts_rows(machine):
    X, y = blobs(40, 2)
    w = np.arange(40) % 3
    weighted = machine.fit(X, y, sample_weight=w)
    f = getattr(weighted, "decision_function", weighted.predict)(X)
    repeated = machine.fit(X.repeat(w, axis=0), y.repeat(w))
    assert np.abs(f - getattr(repeated, "decision_function", repeated.predict)(X)).max() < 1e-7


def test_a_class_whose_rows_weigh_nothing_is_never_answered():
    X, y = blobs(60, 3)
    fitted = SVC().fit(X, y, sample_weight=(y != 1).astype(float))
    assert set(fitted.predict(X)) == {0, 2}


def test_what_cannot_be_fitted_is_refused_in_one_sentence():
    X, y = blobs(20, 2)
    for options, words in [({"C": -1}, "'C' parameter"), ({"kernel": "cubic"}, "must be one of"),
                           ({"gamma": "auto2"}, "'gamma' parameter"), ({"tol": 0}, "'tol'"),
                           ({"gamma": -1.0}, "'gamma' parameter"),
                           ({"kernel": "precomputed"}, "must be a square matrix")]:
        with pytest.raises(ValueError, match=words):
            SVC(**options).fit(X, y)
    with pytest.raises(ValueError, match="at least 2 classes"):
        SVC().fit(X, np.ones(20))
    with pytest.warns(theirs(ConvergenceWarning), match="terminated early"):
        SVC(max_iter=2).fit(X, y)
