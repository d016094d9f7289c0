"""All thresholds at once, and whether probabilities are true."""

import numpy as np
import pytest

from tinygrad_edu.ml import curves

Y, SCORE = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])


def test_the_area_is_the_chance_that_a_case_scores_higher_ties_half():
    random = np.random.default_rng(0)
    y, score = random.integers(0, 2, 60), random.integers(0, 6, 60)
    cases, others = score[y == 1][:, None], score[y == 0][None]
    wanted = np.mean(cases > others) + np.mean(cases == others) / 2
    assert curves.roc_auc_score(y, score) == pytest.approx(wanted, abs=1e-12)
    order = random.permutation(60)  # with ties the order of the rows must not matter
    assert curves.roc_auc_score(y[order], score[order]) == pytest.approx(wanted, abs=1e-12)


def test_curves_of_four_rows_by_hand():
    fpr, tpr, thresholds = curves.roc_curve(Y, SCORE)
    assert fpr.tolist() == [0, 0, 0.5, 0.5, 1] and tpr.tolist() == [0, 0.5, 0.5, 1, 1]
    assert thresholds.tolist() == [np.inf, 0.8, 0.4, 0.35, 0.1]
    precision, recall, thresholds = curves.precision_recall_curve(Y, SCORE)
    assert precision.tolist() == pytest.approx([0.5, 2 / 3, 0.5, 1, 1])
    assert recall.tolist() == [1, 1, 0.5, 0.5, 0]
    assert curves.average_precision_score(Y, SCORE) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_one_class_has_no_area_and_three_need_a_way():
    assert np.isnan(curves.roc_auc_score([1, 1], [0.2, 0.3]))
    with pytest.raises(ValueError, match="multi_class must be in"):
        curves.roc_auc_score([0, 1, 2], np.eye(3))
    for way in ("ovr", "ovo"):
        assert curves.roc_auc_score([0, 1, 2], np.eye(3), way) == 1
    with pytest.raises(ValueError, match="drawn for two classes"):
        curves.roc_curve([0, 1, 2], [1, 2, 3])


def test_true_probabilities_are_calibrated_and_shy_ones_are_not():
    random = np.random.default_rng(0)
    p = random.random(40_000)
    y = (random.random(40_000) < p).astype(int)
    assert curves.calibration_error(y, p) < 0.01
    shy = 0.5 + (p - 0.5) / 2
    share, mean, rows = curves.calibration_bins(y, shy)
    assert rows.sum() == 40_000 and share[0] < mean[0] and share[-1] > mean[-1]
    assert curves.calibration_error(y, shy) == pytest.approx(0.125, abs=0.01)
    assert len(curves.calibration_curve(y, shy, 4, "quantile")[0]) == 4
