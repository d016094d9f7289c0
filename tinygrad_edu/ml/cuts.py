"""Lesson 4.70 · Purity: which cut of a feature is best

Needs loops, ranks. Used by growing.

Idea      A question such as "is feature 3 at most 0.7?" splits rows in two. It is a good question
          if those on either side are more alike than all were together. How unlike rows are has
          several measures, all zero when the rows agree: how often two drawn at random differ
          (gini), how many bits it takes to tell their class (entropy), how far numbers lie from
          their mean (squared error). To find the best cut of a feature, sort its values and walk:
          each step moves one row from right to left, and only a few sums change.
Math      impurity of a node   gini  1 − Σₖ pₖ²      entropy  −Σₖ pₖ·log₂ pₖ
                               squared error  mean of (y − ȳ)²                                  (1)
          Per side of a cut, W its weight and Sₖ the weight of class k in it (squared error: one
          number S = Σ w·(y − ȳ), ȳ of the node), the weighted impurities of both sides are
          smallest where the sum of their scores is greatest:
          score   gini, squared error  Σₖ Sₖ²/W      entropy  Σₖ Sₖ·ln Sₖ − W·ln W              (2)
          cut = (a + b)/2 between the neighbours a < b; left: x ≤ cut                           (3)
Shapes    x, y, w (n,): the rows of one node · sums (n, K) what each row adds to the S of (2)
          · keys (n,) of lesson ranks, sorted
Pitfalls  Sums that are kept up to date as rows cross the cut must not round, or two equal cuts
          differ by where they come from. Weights of whole numbers do not; entropy is computed anew.
          a/b + c/d rounds three times, (a·d + c·b)/(b·d) of whole numbers once: equal cuts then
          have equal scores, and the first of them wins.
          Σy²/W − ȳ² cancels when |ȳ| is large: numbers are taken relative to the node's mean.
          Values closer than 1e-7 count as one, as elsewhere: a cut between them would be luck.
          The share of wrong labels, 1 − max pₖ, looks like a fourth measure, but often no cut
          lowers it, although two cuts in a row would.
Cost      A walk is a division a row, entropy's two logarithms a class.
Try       build it    the absolute error, mean of |y − median|. What has to be kept while walking?
          break it    let a tie go to the last cut (>=). Which test notices?
          measure it  python -m tinygrad_edu.ml.growing: what do entropy's logarithms cost?
See       Breiman, Friedman, Olshen, Stone 1984 "Classification and Regression Trees", chapter 4
"""

import math

import numpy as np

from ..loops import helper
from .ranks import LOW, SAME

GINI, ENTROPY, SQUARED = 0, 1, 2
CRITERIA = {"gini": GINI, "entropy": ENTROPY, "squared": SQUARED}
ROW = (1 << LOW) - 1  # the bits of a key that name the row


# ---- the reference: running sums over the sorted rows -------------------------------------------


def impurity_of(value, y, weight, criterion):
    """(1), from the node's value: the shares of its classes, or its mean."""
    if criterion == GINI:
        return 1 - np.sum(value**2)
    if criterion == ENTROPY:
        return -np.sum(value * np.log2(np.where(value > 0, value, 1)))
    return np.sum(weight * (y - value) ** 2) / weight.sum()


def score(sums, weight, criterion):
    """(2) for each row of sums (…, K)."""
    if criterion == ENTROPY:
        logs = np.log(np.where(sums > 0, sums, 1))
        return np.sum(sums * logs, axis=-1) - weight * np.log(weight)
    return np.sum(sums**2, axis=-1) / weight


def best_of_feature(x, sums, w, criterion, min_leaf, min_weight):
    """(score, cut, last value left of it) of the best cut of one feature; score −∞: there is none.

    sums (N, K): what each row adds to the S of (2).
    """
    order = np.argsort(x, kind="stable")
    x = x[order]
    left, heavy = np.cumsum(sums[order], axis=0)[:-1], np.cumsum(w[order])[:-1]
    rest, light = sums.sum(axis=0) - left, w.sum() - heavy
    count = np.arange(1, len(x))
    allowed = (x[1:] > x[:-1] + SAME) & (count >= min_leaf) & (len(x) - count >= min_leaf)
    allowed &= (heavy >= min_weight) & (light >= min_weight)
    if not allowed.any():
        return -math.inf, 0.0, 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        if criterion == ENTROPY:
            scores = score(left, heavy, criterion) + score(rest, light, criterion)
        else:
            squares = np.sum(left**2, axis=1) * light + np.sum(rest**2, axis=1) * heavy
            scores = squares / (heavy * light)                                                # (2)
    i = np.argmax(np.where(allowed, scores, -math.inf))
    return scores[i], float(x[i]) / 2 + float(x[i + 1]) / 2, x[i]                             # (3)


# ---- the same as loops, for compiled callers ----------------------------------------------------


@helper
def entropy_score(sums, weight):
    """(2) for the sums (K,) of one side."""
    total = -weight * math.log(weight)
    for s in sums:
        if s > 0:
            total += s * math.log(s)
    return total


@helper
def best_of_keys(keys, levels, y, w, mean, totals, weight, criterion, min_leaf, min_weight, left,
                 right):
    """(score, how many keys go left) of the best cut between sorted keys of lesson ranks."""
    best, place = -math.inf, 0
    heavy = square_left = square_right = 0.0
    for k in range(totals.size):
        left[k], right[k] = 0.0, totals[k]
        square_right += totals[k] * totals[k]
    for i in range(keys.size):
        n = keys[i] & ROW
        here, before = keys[i] >> LOW, keys[max(i - 1, 0)] >> LOW
        if (here != before and levels[here] > levels[before] + SAME and i >= min_leaf
                and keys.size - i >= min_leaf and heavy >= min_weight
                and weight - heavy >= min_weight):
            if criterion == ENTROPY:
                new = entropy_score(left, heavy) + entropy_score(right, weight - heavy)
            else:
                light = weight - heavy
                new = (square_left * light + square_right * heavy) / (heavy * light)          # (2)
            if new > best:
                best, place = new, i
        k, step = 0, w[n] * (y[n] - mean)
        if criterion != SQUARED:
            k, step = int(y[n]), w[n]
        square_left += step * (2 * left[k] + step)
        square_right += step * (step - 2 * right[k])
        left[k] += step
        right[k] -= step
        heavy += w[n]
    return best, place


@helper
def describe_node(value, totals, y, w, rows, criterion):
    """(weight, impurity, score) of a node, (1), (2); its value and the S of all of it in place."""
    weight = rest = square = 0.0
    for k in range(totals.size):
        totals[k] = 0.0
    for n in rows:
        weight += w[n]
        if criterion == SQUARED:
            totals[0] += w[n] * y[n]
        else:
            totals[int(y[n])] += w[n]
    for k in range(totals.size):
        value[k] = totals[k] / weight
        square += totals[k] * totals[k]
        rest += value[k] * value[k]
    if criterion == SQUARED:
        totals[0] = rest = 0.0
        for n in rows:
            rest += w[n] * (y[n] - value[0]) ** 2
        return weight, rest / weight, 0.0
    if criterion == ENTROPY:
        rest = 0.0
        for share in value:
            rest -= share * math.log2(share) if share > 0 else 0.0
        return weight, rest, entropy_score(totals, weight)
    return weight, 1 - rest, square / weight
