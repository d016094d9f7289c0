"""Lesson 4.70 · Growing a tree: where to cut

Needs kernel, loops, memory, ranks. Used by pruning, tree.

Idea      A decision tree asks one question after another, "is feature 3 at most 0.7?", until those
          who arrive at the same place are (nearly) alike. To grow one, take all rows, try every
          feature and every place between two neighbouring values, keep the cut whose two sides are
          purest, and go on with each side. It is greedy: nobody looks two questions ahead.
Math      impurity of a node   gini  1 − Σₖ pₖ²      entropy  −Σₖ pₖ·log₂ pₖ
                               squared error  mean of (y − ȳ)²                                  (1)
          Per side of a cut, W its weight and Sₖ the weight of class k in it (squared error: one
          number S = Σ w·(y − ȳ), ȳ of the node), the weighted impurities of both sides are
          smallest where the sum of their scores is greatest:
          score   gini, squared error  Σₖ Sₖ²/W      entropy  Σₖ Sₖ·ln Sₖ − W·ln W              (2)
          cut = (a + b)/2 between the neighbours a < b; left: x ≤ cut                           (3)
          a node stays a leaf: too deep, too few rows, pure, or the cut gains too little:
          gain = (score(left) + score(right) − score(node)) / (weight of all rows)              (4)
Shapes    N rows, F features, U different values at most · rank (F, N): levels[f, rank[f, n]] = x
          · y (N,) codes of K classes, or numbers · nodes in the order of a walk that goes left
          first: (M,) each, with value (M, K) the shares of the classes, or the mean (M, 1)
Pitfalls  Ties are common: near the leaves many cuts separate a node perfectly. The first one found
          wins, so the order of the features decides, and that is random here, as in scikit-learn,
          from the same generator: the same seed grows the same tree.
          Sums that are kept up to date as rows cross the cut must not round, or two equal cuts
          differ by where they come from. Weights of whole numbers do not; entropy is computed anew.
          Σy²/W − ȳ² cancels when |ȳ| is large: numbers are taken relative to the node's mean.
          Values closer than 1e-7 count as one, as elsewhere: a cut between them would be luck.
Cost      A tree of depth d sorts every row d times by every feature (lesson ranks makes that
          cheap), then walks over them, one or two divisions a row:
          python -m tinygrad_edu.ml.growing
Try       build it    the misclassification rate 1 − max pₖ as a fourth criterion. When does it see
                      no gain in a cut that gini likes?
          break it    let a tie go to the last cut (>=). Which test notices?
          measure it  python -m tinygrad_edu.ml.growing: what do entropy's logarithms cost?
See       Breiman, Friedman, Olshen, Stone 1984 "Classification and Regression Trees"
"""

import math

import numpy as np

from ..kernel import Kernel
from ..loops import helper
from ..memory import empty
from .ranks import DIGIT, LOW, SAME, cut_in_two, draw_features, ranked, sort_keys

GINI, ENTROPY, SQUARED = 0, 1, 2
CRITERIA = {"gini": GINI, "entropy": ENTROPY, "squared": SQUARED}
TINY = float(np.finfo(np.float64).eps)  # an impurity that is rounding alone
LEAF = -1
ROW = (1 << LOW) - 1  # the bits of a key that name the row


@helper
def may_split(node, depth, impurity, rows, weight, criterion, max_depth, min_split, min_leaf,
              min_weight):
    """Whether a node is worth a search; numbers are pure relative to the spread of all of them."""
    spread = impurity[0] if criterion == SQUARED else 1.0
    return (depth < max_depth and rows[node] >= min_split and rows[node] >= 2 * min_leaf
            and weight[node] >= 2 * min_weight and impurity[node] > TINY * spread)


# ---- the reference: one node, by sorting and running sums ---------------------------------------


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
        scores = score(left, heavy, criterion) + score(rest, light, criterion)
    i = np.argmax(np.where(allowed, scores, -math.inf))
    return scores[i], x[i] / 2.0 + x[i + 1] / 2.0, x[i]                                       # (3)


def best_of_node(drawn, rank, levels, inside, sums, w, *limits):
    """(score, feature, cut, last value left of it), the best of the drawn features' best cuts."""
    best = -math.inf, 0, 0.0, 0.0
    for f in drawn:
        found, *where = best_of_feature(levels[f, rank[f, inside]], sums, w, *limits)
        if found > best[0]:  # of equal ones the first
            best = found, f, *where
    return best


@Kernel(outputs=8)
def grow_tree(feature, cut, left, right, impurity, rows, weight, value, rank, levels, y, w,
              criterion, max_features, max_depth, min_split, min_leaf, min_weight, min_gain, seed):
    """A whole tree. Its nodes are those with rows > 0; left and right are LEAF where it ends."""
    for output in (feature, cut, impurity, rows, weight, value):
        output[...] = 0
    left[...] = right[...] = LEAF
    features, constants, state = np.arange(len(rank)), np.zeros(len(rank), np.int64), seed
    todo, node = [(np.flatnonzero(w), 0, LEAF, 0)], 0
    while todo:
        inside, depth, parent, known = todo.pop()
        if parent != LEAF:
            right[parent] = node
        yn, wn = y[inside], w[inside]
        rows[node], weight[node] = len(inside), wn.sum()
        if criterion == SQUARED:
            value[node] = np.sum(wn * yn) / weight[node]
            sums = (wn * (yn - value[node]))[:, None]
        else:
            sums = wn[:, None] * (yn[:, None] == np.arange(value.shape[1]))
            value[node] = sums.sum(axis=0) / weight[node]
        impurity[node] = impurity_of(value[node], yn, wn, criterion)
        if may_split(node, depth, impurity, rows, weight, criterion, max_depth, min_split,
                     min_leaf, min_weight):
            begin, known, state = draw_features(features, constants, known, state, max_features,
                                                rank, levels, inside)
            best, f, middle, last = best_of_node(features[begin:][::-1], rank, levels, inside, sums,
                                                 wn, criterion, min_leaf, min_weight)
            gain = (best - score(sums.sum(axis=0), weight[node], criterion)) / weight[0]      # (4)
            if best > -math.inf and gain + TINY >= min_gain:
                feature[node], cut[node], left[node] = f, middle, node + 1
                goes = levels[f, rank[f, inside]] <= last
                todo.append((inside[~goes], depth + 1, node, known))
                todo.append((inside[goes], depth + 1, LEAF, known))
        node += 1


# ---- the same as loops --------------------------------------------------------------------------


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
    left[:] = 0
    right[:] = totals
    heavy = square_left = 0.0
    square_right = np.sum(totals * totals)
    for i in range(keys.size):
        n = keys[i] & ROW
        here, before = keys[i] >> LOW, keys[max(i - 1, 0)] >> LOW
        if (here != before and levels[here] > levels[before] + SAME and i >= min_leaf
                and keys.size - i >= min_leaf and heavy >= min_weight
                and weight - heavy >= min_weight):
            if criterion == ENTROPY:
                new = entropy_score(left, heavy) + entropy_score(right, weight - heavy)
            else:
                new = square_left / heavy + square_right / (weight - heavy)                   # (2)
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
    totals[:] = 0
    weight = rest = 0.0
    for n in rows:
        weight += w[n]
        if criterion == SQUARED:
            totals[0] += w[n] * y[n]
        else:
            totals[int(y[n])] += w[n]
    value[:] = totals / weight
    if criterion == SQUARED:
        totals[0] = 0
        for n in rows:
            rest += w[n] * (y[n] - value[0]) ** 2
        return weight, rest / weight, 0.0
    if criterion == ENTROPY:
        for share in value:
            rest -= share * math.log2(share) if share > 0 else 0.0
        return weight, rest, entropy_score(totals, weight)
    return weight, 1 - np.sum(value * value), np.sum(totals * totals) / weight


@helper
def best_of_drawn(drawn, rank, levels, rows, keys, spare, tally, y, w, mean, totals, weight,
                  criterion, min_leaf, min_weight, left, right):
    """(score, feature, cut, last rank left of it), the best of the drawn features' best cuts."""
    best, feature, cut, last = -math.inf, 0, 0.0, 0
    for f in drawn:
        for i in range(rows.size):
            keys[i] = np.int64(rank[f, rows[i]]) << LOW | rows[i]
        ordered = sort_keys(keys[:rows.size], spare[:rows.size], tally, levels.shape[1])
        new, i = best_of_keys(ordered, levels[f], y, w, mean, totals, weight, criterion,
                              min_leaf, min_weight, left, right)
        if new > best:
            best, feature, last = new, f, ordered[i - 1] >> LOW
            cut = levels[f, last] / 2.0 + levels[f, ordered[i] >> LOW] / 2.0                  # (3)
    return best, feature, cut, last


@grow_tree.body("numba")
def grow_tree_numba(feature, cut, left, right, impurity, rows, weight, value, rank, levels, y, w,
                    criterion, max_features, max_depth, min_split, min_leaf, min_weight, min_gain,
                    seed):
    """The stack holds begin, end, depth, parent (of a right child) and constants of each node."""
    order = np.flatnonzero(w)
    features, constants, state = np.arange(len(rank)), np.zeros(len(rank), np.int64), seed
    keys, spare, tally = np.empty_like(order), np.empty_like(order), np.empty(DIGIT, np.int64)
    totals, sums_left, sums_right = np.empty((3, value.shape[1]))
    stack, node = [(0, order.size, 0, LEAF, 0)], 0
    while len(stack) > 0:
        start, stop, depth, parent, known = stack.pop()
        if parent != LEAF:
            right[parent] = node
        inside = order[start:stop]
        weight[node], impurity[node], score_here = describe_node(value[node], totals, y, w, inside,
                                                                 criterion)
        rows[node], feature[node], cut[node] = inside.size, 0, 0.0
        left[node] = right[node] = LEAF
        if may_split(node, depth, impurity, rows, weight, criterion, max_depth, min_split,
                     min_leaf, min_weight):
            begin, known, state = draw_features(features, constants, known, state, max_features,
                                                rank, levels, inside)
            best, f, middle, last = best_of_drawn(
                features[begin:][::-1], rank, levels, inside, keys, spare, tally, y, w,
                value[node, 0], totals, weight[node], criterion, min_leaf, min_weight, sums_left,
                sums_right)
            if best > -math.inf and (best - score_here) / weight[0] + TINY >= min_gain:       # (4)
                feature[node], cut[node], left[node] = f, middle, node + 1
                place = start + cut_in_two(inside, spare, rank[f], last)
                stack.append((place, stop, depth + 1, node, known))
                stack.append((start, place, depth + 1, LEAF, known))
        node += 1
    feature[node:], cut[node:], rows[node:], impurity[node:], weight[node:] = 0, 0.0, 0, 0.0, 0.0
    left[node:] = right[node:] = LEAF
    value[node:] = 0.0


def empty_nodes(most, classes):
    """Room for the outputs of grow_tree: at most `most` nodes; classes: 1 for numbers."""
    kinds = (np.int64, np.float64, np.int64, np.int64, np.float64, np.int64, np.float64)
    return *(empty(most, kind) for kind in kinds), empty((most, classes), np.float64)


def _measure(rows=20_000, rounds=5):
    from statistics import median
    from time import perf_counter

    random = np.random.default_rng(0)
    x = random.standard_normal((rows, 40), np.float32)
    y = (x[:, 0] * x[:, 1] + x[:, 2] > random.standard_normal(rows) / 4).astype(np.float64)
    rank, levels = ranked(x)
    nodes, w, times = empty_nodes(2 * rows, 2), np.ones(rows), {}
    for name in ["gini", "entropy", "squared"] * rounds:
        start = perf_counter()
        grow_tree(*nodes, rank, levels, y, w, CRITERIA[name], 40, rows, 2, 1, 0.0, 0.0, 1)
        times.setdefault(name, []).append(perf_counter() - start)
    return {name: median(values) * 1e3 for name, values in times.items()}


if __name__ == "__main__":
    print(" ".join(f"{name}_ms={ms:.0f}" for name, ms in _measure().items()))
