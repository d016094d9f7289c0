"""Linear, logistic and Bayesian estimators against scikit-learn's, and its own checks of them."""

import warnings

import numpy as np
import pytest

from tinygrad_edu.ml.bayes import GaussianNB, MultinomialNB
from tinygrad_edu.ml.linear import ElasticNet, Lasso, LinearRegression, Ridge
from tinygrad_edu.ml.logistic import LogisticRegression

sklearn = pytest.importorskip("sklearn", reason="needs scikit-learn: pip install scikit-learn")
datasets = pytest.importorskip("sklearn.datasets")
peers = pytest.importorskip("sklearn.linear_model")
peers_bayes = pytest.importorskip("sklearn.naive_bayes")
checks = pytest.importorskip("sklearn.utils.estimator_checks")

ALL = [LinearRegression(), LinearRegression(solver="gradient"), Ridge(), Lasso(), ElasticNet(),
       LogisticRegression(), LogisticRegression(solver="newton"),
       LogisticRegression(solver="gradient", l1_ratio=0.5), GaussianNB(), MultinomialNB()]
EXACT = {"tol": 1e-14, "max_iter": 20000}
REGRESSORS = [(LinearRegression(), peers.LinearRegression()), (Ridge(0.7), peers.Ridge(0.7)),
              (Lasso(0.1, **EXACT), peers.Lasso(0.1, **EXACT)),
              (ElasticNet(0.1, **EXACT), peers.ElasticNet(0.1, **EXACT))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_scikit_learns_own_checks_of_an_estimator_all_pass(estimator):
    found = checks.check_estimator(estimator, on_fail=None, on_skip=None)
    bad = {r["check_name"]: repr(r["exception"]) for r in found if r["status"] == "failed"}
    skipped = {r["check_name"] for r in found if r["status"] == "skipped"}
    assert not bad
    assert skipped <= {"check_array_api_input"}    # needs SCIPY_ARRAY_API in the environment


def cases(first, last):
    """Random tables with ties, constant columns, twins, few rows, weights of zero."""
    for seed in range(first, last):
        random = np.random.default_rng(seed)
        N, C = random.integers(3, 60), random.integers(1, 25)
        X = random.standard_normal((N, C)) * random.choice([0.1, 1, 10])
        X = np.round(X, random.integers(1, 4))
        if seed % 3 == 0:
            X[:, random.integers(C)] = 0.1
        if seed % 4 == 0:
            X[:, -1] = X[:, 0]
        y = np.round(X @ random.standard_normal(C) + random.standard_normal(N), 1)
        weights = random.integers(0, 3, N) + (np.arange(N) == 0) if seed % 2 else None
        yield X, y, weights


def compare_regressors(first, last):
    for X, y, w in cases(first, last):
        for ours, theirs in REGRESSORS:
            ours.fit(X, y, w)
            theirs.fit(X, y, w)
            # Of a constant column scikit-learn may keep the rounding of its mean, 1e-17, as signal.
            moving = X.max(0) > X.min(0)
            apart = np.abs(ours.coef_ - theirs.coef_)[moving].max(initial=0)
            assert apart <= 1e-6 * max(1, np.abs(theirs.coef_).max()), (ours, X.shape)
            assert np.abs(ours.coef_[~moving]).max(initial=0) < 1e-12
            assert np.abs(ours.predict(X) - theirs.predict(X)).max() <= 1e-6 * np.abs(y).max()
            assert abs(ours.score(X, y, w) - theirs.score(X, y, w)) <= 1e-6


def compare_classifiers(first, last):
    tight = {"tol": 1e-10, "max_iter": 20000}
    for i, (X, y, w) in enumerate(cases(first, last)):
        codes = np.digitize(y, np.quantile(y, [0.3, 0.6] if i % 2 else [0.5]))
        kept = np.ones(len(y)) if w is None else w
        if len(np.unique(codes[kept > 0])) < 2:
            continue
        small = X / max(1, np.abs(X).max())
        theirs = peers.LogisticRegression(solver="newton-cholesky", **tight).fit(small, codes, w)
        for solver in ("lbfgs", "newton"):
            ours = LogisticRegression(solver=solver, **tight).fit(small, codes, w)
            assert np.abs(ours.coef_ - theirs.coef_).max() <= 1e-6
            assert np.abs(ours.predict_proba(small) - theirs.predict_proba(small)).max() <= 1e-6
        for ours, theirs in [(GaussianNB(), peers_bayes.GaussianNB()),
                             (MultinomialNB(), peers_bayes.MultinomialNB())]:
            gaussian = isinstance(ours, GaussianNB)
            table, weights = (small, None) if gaussian else (np.abs(small), w)
            got = ours.fit(table, codes, weights).predict_proba(table)
            want = theirs.fit(table, codes, weights).predict_proba(table)
            if np.any(table != table[0]):          # else scikit-learn divides zero by zero
                assert np.abs(got - want).max() <= 1e-6
            assert np.allclose(got.sum(axis=1), 1)


@pytest.mark.filterwarnings("ignore")
def test_random_tables_give_the_coefficients_of_scikit_learn():
    compare_regressors(0, 12)
    compare_classifiers(0, 12)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_two_hundred_random_tables_give_the_coefficients_of_scikit_learn():
    compare_regressors(12, 212)
    compare_classifiers(12, 212)


def test_diabetes_has_the_coefficients_of_scikit_learn():
    X, y = datasets.load_diabetes(return_X_y=True)
    for ours, theirs in REGRESSORS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")        # twenty thousand sweeps may not be enough
            want = theirs.fit(X, y).coef_
            assert np.allclose(ours.fit(X, y).coef_, want, rtol=1e-6, atol=1e-6), ours


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
def test_naive_bayes_has_the_probabilities_of_scikit_learn(name):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    for ours, theirs in [(GaussianNB(), peers_bayes.GaussianNB()),
                         (MultinomialNB(), peers_bayes.MultinomialNB())]:
        got, want = ours.fit(X, y).predict_proba(X), theirs.fit(X, y).predict_proba(X)
        assert np.abs(got - want).max() <= 1e-6


@pytest.mark.parametrize("name", [
    "iris", "wine", "breast_cancer", pytest.param("digits", marks=pytest.mark.long)])
def test_logistic_regression_has_the_coefficients_of_scikit_learn(name):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    X = (X - X.mean(0)) / np.maximum(X.std(0), 1e-9)
    tight = {"tol": 1e-10, "max_iter": 5000}
    ours = LogisticRegression(**tight).fit(X, y)
    theirs = peers.LogisticRegression(**tight, solver="newton-cholesky").fit(X, y)
    assert np.abs(ours.coef_ - theirs.coef_).max() <= 1e-6
    assert np.abs(ours.intercept_ - theirs.intercept_).max() <= 1e-6


def test_sparse_logistic_regression_has_the_coefficients_of_scikit_learn():
    X, y = datasets.load_iris(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    tight = {"l1_ratio": 0.5, "C": 0.3, "tol": 1e-10, "max_iter": 20000}
    ours = LogisticRegression(solver="gradient", **tight).fit(X, y)
    theirs = peers.LogisticRegression(solver="saga", **tight).fit(X, y)
    assert np.abs(ours.coef_ - theirs.coef_).max() <= 1e-6
    assert (ours.coef_ == 0).sum() == (theirs.coef_ == 0).sum() > 0


def test_gaussian_bayes_in_pieces_is_scikit_learns():
    X, y = datasets.load_iris(return_X_y=True)
    ours, theirs = GaussianNB(), peers_bayes.GaussianNB()
    for part in np.array_split(np.random.default_rng(0).permutation(150), 5):
        ours.partial_fit(X[part], y[part], classes=[0, 1, 2])
        theirs.partial_fit(X[part], y[part], classes=[0, 1, 2])
    assert np.allclose(ours.theta_, theirs.theta_, atol=1e-12)
    assert np.allclose(ours.var_, theirs.var_, atol=1e-8)


def test_ours_drop_into_a_pipeline_and_a_search_of_scikit_learn():
    from sklearn.chain import make_pipeline
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import StandardScaler

    X, y = datasets.load_wine(return_X_y=True)
    search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()),
                          {"logisticregression__C": [1e-4, 1.0]}, cv=3).fit(X, y)
    assert search.best_params_ == {"logisticregression__C": 1.0} and search.best_score_ > 0.95
