"""Scores, curves and tests beside scikit-learn's and scipy's, on random labels with ties."""

import warnings

import numpy as np
import pytest

from tinygrad_edu.ml import curves, intervals, scores

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from scipy import special, stats
from sklearn import calibration, metrics

CASES = [pytest.param(range(12), id="some"),
         pytest.param(range(12, 400), id="many", marks=pytest.mark.long)]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def same(ours, peer):
    """Equal to 1e-12, NaN where the other is NaN."""
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(peer, float), 0, 1e-12)


def random_labels(seed):
    """(y, guess, weights): one to three classes, words or numbers, some rows without weight."""
    random = np.random.default_rng(seed)
    rows, classes = int(random.integers(2, 40)), int(random.integers(1, 4))
    y, guess = random.integers(0, classes, (2, rows))
    if seed % 3 == 0:
        words = np.array(["b", "a", "cc"])
        y, guess = words[y], words[guess]
    weights = random.integers(0, 4, rows) + (np.arange(rows) == 0)
    return y, guess, None if seed % 2 else weights.astype(float)


@pytest.mark.parametrize("seeds", CASES)
def test_scores_of_classes_are_scikit_learns(seeds):
    for seed in seeds:
        y, guess, w = random_labels(seed)
        for shares in (None, "true", "pred", "all"):
            same(scores.confusion_matrix(y, guess, sample_weight=w, normalize=shares),
                 metrics.confusion_matrix(y, guess, sample_weight=w, normalize=shares))
        for average in (None, "macro", "micro", "weighted"):
            ours = scores.precision_recall_f1(y, guess, average=average, sample_weight=w)
            peer = metrics.precision_recall_fscore_support(y, guess, average=average,
                                                           sample_weight=w, zero_division=0)
            for a, b in zip(ours, peer[:3], strict=True):
                same(a, b)
        for name in ("accuracy_score", "balanced_accuracy_score"):
            same(getattr(scores, name)(y, guess, w),
                 getattr(metrics, name)(y, guess, sample_weight=w))


@pytest.mark.parametrize("seeds", CASES)
def test_curves_and_areas_are_scikit_learns_with_ties_and_one_class(seeds):
    for seed in seeds:
        random = np.random.default_rng(seed)
        _, _, w = random_labels(seed)
        rows = int(random.integers(2, 40)) if w is None else len(w)
        y, score = random.integers(0, 2, rows), np.round(random.random(rows), seed % 4)
        for name in ("roc_curve", "precision_recall_curve"):
            ours = getattr(curves, name)(y, score, 1, w)
            peer = getattr(metrics, name)(y, score, pos_label=1, sample_weight=w)
            for a, b in zip(ours, peer, strict=True):
                same(a, b)
        for name in ("roc_auc_score", "average_precision_score"):
            same(getattr(curves, name)(y, score, sample_weight=w),
                 getattr(metrics, name)(y, score, sample_weight=w))
        for strategy in ("uniform", "quantile"):
            same(curves.calibration_curve(y, score, 5, strategy, 1),
                 calibration.calibration_curve(y, score, n_bins=5, strategy=strategy, pos_label=1))


@pytest.mark.parametrize("seeds", CASES)
def test_scores_of_probabilities_and_numbers_are_scikit_learns(seeds):
    for seed in seeds:
        random = np.random.default_rng(seed)
        rows = int(random.integers(8, 50))
        w = None if seed % 2 else random.integers(1, 4, rows).astype(float)
        for classes in (2, 3):
            y = np.arange(rows) % classes
            proba = np.round(random.dirichlet(np.ones(classes), rows), 2)
            proba[:, -1] = np.abs(1 - proba[:, :-1].sum(1))
            for name in ("log_loss", "brier_score_loss"):
                same(getattr(scores, name)(y, proba, sample_weight=w),
                     getattr(metrics, name)(y, proba, sample_weight=w))
        for average in ("macro", "weighted"):
            same(curves.roc_auc_score(y, proba, "ovr", average, sample_weight=w),
                 metrics.roc_auc_score(y, proba, multi_class="ovr", average=average,
                                       sample_weight=w))
            same(curves.roc_auc_score(y, proba, "ovo", average),
                 metrics.roc_auc_score(y, proba, multi_class="ovo", average=average))
        y = np.ones(rows) if seed % 4 == 0 else random.standard_normal(rows)
        for name in ("r2_score", "mean_absolute_error", "mean_squared_error"):
            guess = np.round(random.standard_normal(rows))
            same(getattr(scores, name)(y, guess, w), getattr(metrics, name)(y, guess,
                                                                           sample_weight=w))


def test_tests_and_intervals_are_scipys():
    for a in (0.5, 1, 2.5, 10, 60):
        for b in (0.5, 1, 3):
            for x in (0.001, 0.1, 0.3, 0.5, 0.77, 0.999):
                same(intervals.incomplete_beta(x, a, b), special.betainc(a, b, x))
    for freedom in (1, 2, 4, 9, 30):
        same(intervals.student_quantile(0.95, freedom), stats.t.ppf(0.975, freedom))
    low_high = stats.binomtest(45, 50).proportion_ci(method="wilson")
    same(intervals.wilson_interval(45, 50), low_high)
    d = np.random.default_rng(0).standard_normal(10) + 0.3
    peer = stats.permutation_test((d,), np.sum, permutation_type="samples", n_resamples=np.inf)
    same(intervals.permutation_test(d, 0 * d), peer.pvalue)
