"""Lesson 4.88 · Curves: what every threshold would do, and whether 70 % means 70 %

Needs inputs, scores. Used by validate, pictures, scripts/classical.py.

Idea      A classifier gives scores, and somebody chooses the threshold above which there is an
          alarm. A curve shows all thresholds at once: how many cases are found against how many
          false alarms (ROC), or against how many alarms are right (PR). The area below is one
          number for the order that the scores put the rows in, whatever the threshold. Whether the
          probabilities themselves are true is another question: of all days with 70 % rain, did it
          rain on 70 %? The calibration curve answers it.
Math      tp(t) = Σ w·[y = 1, s ≥ t]      fp(t) = Σ w·[y = 0, s ≥ t]                            (1)
          ROC: (fp/N₀, tp/N₁)      area = P(s of a case > s of another) + ½·P(equal)            (2)
          PR: (tp/N₁, tp/(tp + fp))      average precision = Σ (R_n − R_{n−1})·P_n              (3)
          several classes: each against the rest, or each pair, and the mean of the areas       (4)
          bin b of [0, 1]: (mean p, share of y = 1)      ECE = Σ_b n_b/N·|share − mean p|       (5)
Shapes    y (N,) two labels, the larger is the case · s (N,) any numbers, larger means case;
          (N, K) probabilities for (4) · a curve is arrays of one length
Pitfalls  Equal scores are one threshold, not several: in the order of the rows they would be a
          staircase that depends on chance. So the curve has a point for every different score.
          With 1 case in 1,000 a ROC area of 0.99 can mean that nine alarms in ten are false.
          Straight lines between the points of a PR curve promise what no threshold does: the
          average precision is a sum of steps.
          A bin of three rows says nothing about calibration: look at the counts.
Cost      A sort of the scores.
Try       build it    the threshold where a false alarm costs a tenth of a missed case.
          break it    use a point for every row in (1). Which test with ties notices?
          measure it  python scripts/classical.py classify --data breast_cancer
See       Hanley, McNeil 1982 · Davis, Goadrich 2006 · Hand, Till 2001 (4) · Murphy, Winkler 1977
"""

from itertools import combinations

import numpy as np

from .inputs import as_array, check_weights, refuse_holes
from .scores import probabilities, ratio, refuse_improbable, same_length


def cumulated(y, score, pos_label=None, sample_weight=None):
    """(fp, tp, thresholds) of (1), for falling thresholds; one point for each different score."""
    y, score, weights = same_length(y, score, sample_weight)
    labels = np.unique(y)
    if len(labels) > 2:
        raise ValueError("a curve is drawn for two classes, multiclass format is not supported: y "
                         f"has the labels {labels.tolist()}")
    refuse_holes(score, "score")
    heavy = np.flatnonzero(weights)
    falling = np.argsort(-score[heavy], kind="stable")
    order = heavy[falling]
    score, weights = score[order], weights[order]
    case = y[order] == (labels[-1] if pos_label is None else pos_label)
    changes = np.flatnonzero(np.diff(score))
    last = np.append(changes, len(score) - 1)  # the last row of each different score
    tp = np.cumsum(weights * case)                                                            # (1)
    fp = np.cumsum(weights * ~case)
    return fp[last], tp[last], score[last]


def roc_curve(y, score, pos_label=None, sample_weight=None):
    """(false positive rate, true positive rate, thresholds), (2); points on a line are dropped.

    The first threshold is infinity: no alarm at all. A rate that no row could have is NaN.
    """
    fp, tp, thresholds = cumulated(y, score, pos_label, sample_weight)
    corner = np.ones(len(fp), bool)
    corner[1:-1] = np.any(np.diff([fp, tp], 2), axis=0)
    fp, tp = fp[corner], tp[corner]
    fp = np.append(0.0, fp)
    tp = np.append(0.0, tp)
    thresholds = thresholds[corner]
    thresholds = np.append(np.inf, thresholds)
    fpr = ratio(fp, fp[-1], np.nan)                                                           # (2)
    tpr = ratio(tp, tp[-1], np.nan)
    return fpr, tpr, thresholds


def auc(x, y):
    """The area below straight lines between points whose x rises."""
    y = np.asarray(y, float)
    left, right = y[:-1], y[1:]
    heights = (left + right) / 2
    return float(np.diff(x) @ heights)


def roc_auc_score(y, score, multi_class="raise", average="macro", *, labels=None,
                  sample_weight=None):
    """The area below the ROC curve, (2); NaN where y has one class.

    For more than two classes multi_class is "ovr", each against the rest, or "ovo", each pair, and
    average "macro" or "weighted" by how many rows there are of them: (4).
    """
    score = as_array(score, "score")
    if score.ndim == 2 and score.shape[1] == 2:
        score = score[:, 1]
    if score.ndim == 1:
        fpr, tpr, _ = roc_curve(y, score, None, sample_weight)
        return auc(fpr, tpr)
    kinds = {"ovr": one_against_rest, "ovo": one_against_one}
    if multi_class not in kinds:
        raise ValueError(f"multi_class must be in ('ovo', 'ovr'), not {multi_class!r}")
    if average not in ("macro", "weighted"):
        raise ValueError(f"average must be in ('macro', 'weighted'), not {average!r}")
    codes, score = probabilities(y, score, labels)
    weights = check_weights(sample_weight, len(codes))
    areas, shares = kinds[multi_class](codes, score, weights)
    if average == "macro":
        return float(np.mean(areas))                                                          # (4)
    there = shares > 0  # a class without weight has no area, and no say
    return float(np.average(areas[there], weights=shares[there]))


def one_against_rest(codes, score, weights):
    """The ROC areas of all classes, and how many rows each has."""
    K = score.shape[1]
    areas = np.empty(K)
    for c in range(K):
        areas[c] = roc_auc_score(codes == c, score[:, c], sample_weight=weights)
    return areas, np.bincount(codes, weights, K)


def one_against_one(codes, score, weights):
    """The ROC areas of all pairs, in both orders and averaged, and how many rows they have."""
    areas, shares = [], []
    for a, b in combinations(range(score.shape[1]), 2):
        pair = (codes == a) | (codes == b)
        kept = codes[pair]
        w = weights[pair]
        of_a = roc_auc_score(kept == a, score[pair, a], sample_weight=w)
        of_b = roc_auc_score(kept == b, score[pair, b], sample_weight=w)
        areas.append((of_a + of_b) / 2)
        shares.append(pair.mean())
    return np.array(areas), np.array(shares)


def precision_recall_curve(y, score, pos_label=None, sample_weight=None):
    """(precision, recall, thresholds), (3), for rising thresholds; ends at precision 1, recall 0.

    Without a single case recall is 1 throughout.
    """
    fp, tp, thresholds = cumulated(y, score, pos_label, sample_weight)
    precision = ratio(tp, tp + fp)                                                            # (3)
    recall = ratio(tp, tp[-1], 1.0)
    rising = slice(None, None, -1)
    precision = np.append(precision[rising], 1.0)
    recall = np.append(recall[rising], 0.0)
    return precision, recall, thresholds[rising]


def average_precision_score(y, score, pos_label=1, sample_weight=None):
    """The area below the PR curve, as a sum of steps, (3)."""
    precision, recall, _ = precision_recall_curve(y, score, pos_label, sample_weight)
    steps = -np.diff(recall)
    heights = precision[:-1]
    return float(steps @ heights)                                                             # (3)


# ---- calibration ------------------------------------------------------------------------------


def calibration_bins(y, proba, bins=10, strategy="uniform", pos_label=None):
    """(share of cases, mean probability, rows) of every bin that is not empty, (5).

    strategy: "uniform", bins of one width; "quantile", bins of about as many rows each.
    """
    y, proba, _ = same_length(y, proba)
    refuse_improbable(proba)
    case = y == (np.unique(y)[-1] if pos_label is None else pos_label)
    edges = np.linspace(0, 1, bins + 1)
    if strategy == "quantile":
        edges = np.quantile(proba, edges)
    elif strategy != "uniform":
        raise ValueError(f"strategy takes 'uniform' or 'quantile', not {strategy!r}")
    place = np.searchsorted(edges[1:-1], proba)
    rows = np.bincount(place, minlength=bins)
    there = rows > 0
    cases = np.bincount(place, case, bins)
    sums = np.bincount(place, proba, bins)
    rows = rows[there]
    share = cases[there] / rows
    mean = sums[there] / rows
    return share, mean, rows


def calibration_curve(y, proba, n_bins=10, strategy="uniform", pos_label=None):
    """(share of cases, mean probability) of every bin that is not empty: equal where it is true."""
    return calibration_bins(y, proba, n_bins, strategy, pos_label)[:2]


def calibration_error(y, proba, bins=10):
    """ECE, (5): how far the probabilities are off, averaged over the rows."""
    share, mean, rows = calibration_bins(y, proba, bins)
    off = np.abs(share - mean)
    return float(off @ rows / rows.sum())                                                     # (5)
