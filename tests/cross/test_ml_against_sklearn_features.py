"""Transforms and splits beside scikit-learn's, on random tables with ties, holes and constants."""

import warnings

import numpy as np
import pytest

from tinygrad_edu.ml import encoding, features, scaling, splits

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from sklearn import impute, preprocessing
from sklearn import model_selection as theirs

CASES = [pytest.param(range(6), id="some"),
         pytest.param(range(6, 206), id="many", marks=pytest.mark.long)]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def random_table(seed, holes=True):
    """Numbers with ties, a constant column, a tiny one, a huge one, and holes."""
    random = np.random.default_rng(seed)
    X = random.standard_normal((int(random.integers(6, 60)), 6))
    X[:, 1] = random.integers(0, 3, len(X))
    X[:, 2] = 0.1
    X[:, 3] = 1e6 + 1e-3 * X[:, 3]
    X[:, 4] *= 1e-9
    if holes:
        X[random.random(X.shape) < 0.1] = np.nan
        X[0] = 1.0  # no column is empty
    return X


def random_words(seed):
    """Columns of few words, of numbers, and of words with holes."""
    random = np.random.default_rng(seed)
    rows = int(random.integers(20, 80))
    X = np.empty((rows, 3), dtype=object)
    X[:, 0] = random.choice(["a", "b", "cc", "ä"], rows)
    X[:, 1] = random.choice(["yes", "no"], rows)
    X[:, 2] = random.choice(["p", "q", np.nan], rows)
    X[X == "nan"] = np.nan
    return X


def same(ours, theirs, X, y=None, fresh=None):
    """Both fitted on X give the same table, and the same for rows that are new."""
    a, b = ours.fit(X, y).transform(X), theirs.fit(X, y).transform(X)
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
    assert [*ours.get_feature_names_out()] == [*theirs.get_feature_names_out()]
    if fresh is not None:
        np.testing.assert_allclose(ours.transform(fresh), theirs.transform(fresh), rtol=1e-6)


@pytest.mark.parametrize("seeds", CASES)
def test_scalers_are_scikit_learns_with_holes_and_constant_columns(seeds):
    for seed in seeds:
        X, fresh = random_table(seed), random_table(seed + 1000)
        for name, settings in [
                ("StandardScaler", {}), ("StandardScaler", {"with_mean": False}),
                ("StandardScaler", {"with_std": False}), ("MinMaxScaler", {}),
                ("MinMaxScaler", {"feature_range": (-2, 3), "clip": True}), ("RobustScaler", {}),
                ("RobustScaler", {"quantile_range": (10, 80)})]:
            same(getattr(scaling, name)(**settings), getattr(preprocessing, name)(**settings),
                 X, fresh=fresh)


@pytest.mark.parametrize("seeds", CASES)
def test_imputed_binned_and_multiplied_columns_are_scikit_learns(seeds):
    for seed in seeds:
        X, fresh = random_table(seed), random_table(seed + 1000)
        for strategy in ("mean", "median", "most_frequent", "constant"):
            for marks in (False, True):
                settings = {"strategy": strategy, "add_indicator": marks}
                same(features.SimpleImputer(**settings), impute.SimpleImputer(**settings),
                     X, fresh=fresh)
        X, fresh = (random_table(s, holes=False) for s in (seed, seed + 1000))
        for settings in ({"degree": 3}, {"degree": 2, "interaction_only": True},
                         {"degree": 2, "include_bias": False}):
            same(features.PolynomialFeatures(**settings),
                 preprocessing.PolynomialFeatures(**settings), X, fresh=fresh)
        X[:, 4] *= 1e9  # scikit-learn 1.9 fails where all quantiles are within 1e-8
        for strategy in ("quantile", "uniform"):
            for encode in ("ordinal", "onehot-dense"):
                settings = {"n_bins": 4, "strategy": strategy, "encode": encode}
                same(features.KBinsDiscretizer(**settings), preprocessing.KBinsDiscretizer(
                    **settings, quantile_method="averaged_inverted_cdf"), X, fresh=fresh)


@pytest.mark.parametrize("seeds", CASES)
def test_encoded_words_are_scikit_learns(seeds):
    for seed in seeds:
        X, fresh = random_words(seed), random_words(seed + 1000)
        for drop in (None, "first", "if_binary"):
            ours = encoding.OneHotEncoder(drop=drop)
            peer = preprocessing.OneHotEncoder(drop=drop, sparse_output=False)
            same(ours, peer, X)
            back = ours.inverse_transform(ours.transform(X))
            assert np.all((back == X) | (X != X))
        settings = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
        same(encoding.OrdinalEncoder(**settings), preprocessing.OrdinalEncoder(**settings), X,
             fresh=fresh)
        random = np.random.default_rng(seed)
        for y in (random.standard_normal(len(X)), random.integers(0, 2, len(X)),
                  random.integers(0, 3, len(X)), np.array(["u", "v"])[np.arange(len(X)) % 2]):
            for smooth in ("auto", 5.0, 0.0):
                pair = [module.TargetEncoder(smooth=smooth, shuffle=False)
                        for module in (encoding, preprocessing)]
                same(*pair, X, y, fresh)
                np.testing.assert_allclose(*(e.fit_transform(X, y) for e in pair), rtol=1e-6)


@pytest.mark.parametrize("seeds", CASES)
def test_folds_are_scikit_learns_row_for_row(seeds):
    for seed in seeds:
        random = np.random.default_rng(seed)
        rows, k = int(random.integers(10, 60)), int(random.integers(2, 6))
        X, y = np.zeros((rows, 1)), random.integers(0, random.integers(1, 4), rows)
        groups = random.integers(0, 8, rows)
        for name, settings in [("KFold", {}), ("StratifiedKFold", {}), ("GroupKFold", {}),
                               ("TimeSeriesSplit", {}), ("TimeSeriesSplit", {"gap": 1})]:
            found = [folds_of(getattr(module, name)(k, **settings), X, y, groups)
                     for module in (splits, theirs)]
            assert found[0] == found[1], (name, rows, k)


def folds_of(splitter, X, y, groups):
    """All row numbers; or that it was refused."""
    try:
        return [(a.tolist(), b.tolist()) for a, b in splitter.split(X, y, groups)]
    except ValueError:
        return "refused"
