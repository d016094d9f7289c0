"""Lesson 4.71 · Growing a tree: cut, and cut again

Needs cuts, kernel, loops, memory, ranks. Used by pruning, tree.

Idea      To grow a tree, take all rows, try every feature (or a few drawn by lot), make the best
          cut of all, and go on with each side as if it were the whole. It is greedy: nobody looks
          two questions ahead, and nothing is ever taken back here. A node that is pure, too small
          or too deep stays a leaf.
Math      gain = (score(left) + score(right) − score(node)) / (weight of all rows)              (1)
          which is what the impurity falls by, weighted; times ln 2 where it is the entropy
          a node is cut unless it is too deep, has too few rows or too little weight, is pure, or
          the best gain is below the least one wanted                                           (2)
Shapes    N rows, F features, U different values at most · rank (F, N), levels (F, U): lesson ranks
          · y (N,) codes of K classes, or numbers · w (N,), rows of weight 0 are not there
          · nodes in the order of a walk that goes left first: feature, cut, left, right, impurity,
          rows, weight (M,), value (M, K) the shares of the classes, or the mean (M, 1)
Pitfalls  Ties are common: near the leaves many cuts separate a node perfectly. The first one found
          wins, so the order in which features are drawn decides.
          Recursion ends at some depth of the language, and a tree can be as deep as it has rows: a
          list of what is still to do has no such end.
          A cut that gains nothing may be needed: of the four corners of a square with two classes
          across, the first cut gains 0, the next two all. So a gain of 0 is enough by default.
          Rounding makes impurities of 10⁻¹⁷ out of 0; for numbers, what counts as rounding depends
          on how far all of them spread.
Cost      A tree of depth d sorts every row d times by every feature (lesson ranks makes that
          cheap), then walks over them: python -m tinygrad_edu.ml.growing
Try       build it    grow by levels, all nodes of a depth before the next. Is the tree another one?
          break it    leave out the TINY in (2). On which data does the tree get larger?
          measure it  python -m tinygrad_edu.ml.growing
See       Breiman, Friedman, Olshen, Stone 1984 "Classification and Regression Trees" · Louppe 2014
          "Understanding Random Forests", chapter 5
"""

import math

import numpy as np

from ..kernel import Kernel
from ..loops import helper
from ..memory import empty
from .cuts import (
    CRITERIA,
    SQUARED,
    best_of_feature,
    best_of_keys,
    describe_node,
    impurity_of,
    score,
)
from .ranks import DIGIT, LOW, cut_in_two, draw_features, ranked, sort_keys

TINY = float(np.finfo(np.float64).eps)  # an impurity that is rounding alone
LEAF = -1


@helper
def may_split(node, depth, impurity, rows, weight, criterion, max_depth, min_split, min_leaf,
              min_weight):
    """(2), without the gain; numbers are pure relative to the spread of all of them."""
    spread = impurity[0] if criterion == SQUARED else 1.0
    return (depth < max_depth and rows[node] >= min_split and rows[node] >= 2 * min_leaf
            and weight[node] >= 2 * min_weight and impurity[node] > TINY * spread)


@helper
def make_cut(node, f, middle, feature, cut, left):
    """The node asks whether feature f is at most `middle`; its left child is the next node."""
    feature[node] = f
    cut[node] = middle
    left[node] = node + 1


def best_of_node(drawn, rank, levels, inside, sums, w, *limits):
    """(score, feature, cut, last value left of it), the best of the drawn features' best cuts."""
    # levels[f, rank[f, n]] is the value of feature f in row n.
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
    # What is still to do, last in first out: rows, depth, whose right child, how many constants.
    todo, node = [(np.flatnonzero(w), 0, LEAF, 0)], 0
    while todo:
        inside, depth, parent, known = todo.pop()
        if parent != LEAF:
            right[parent] = node
        yn, wn = y[inside], w[inside]
        rows[node] = len(inside)
        weight[node] = wn.sum()
        # The value of the node, and what each row adds to the sums that `score` wants of a side.
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
            # From `begin` on lie the features drawn, the first one last: read them backwards.
            best, f, middle, last = best_of_node(features[begin:][::-1], rank, levels, inside, sums,
                                                 wn, criterion, min_leaf, min_weight)
            gain = (best - score(sums.sum(axis=0), weight[node], criterion)) / weight[0]      # (1)
            if best > -math.inf and gain + TINY >= min_gain:
                make_cut(node, f, middle, feature, cut, left)
                # The left side is put on the list last, hence done next, as node + 1; which number
                # the right side will have is not known yet, so it is told whose child it is.
                goes = levels[f, rank[f, inside]] <= last
                todo.append((inside[~goes], depth + 1, node, known))
                todo.append((inside[goes], depth + 1, LEAF, known))
        node += 1


# ---- the same as loops --------------------------------------------------------------------------


@helper
def best_of_drawn(features, begin, rank, levels, rows, keys, spare, tally, y, w, mean, sums, weight,
                  criterion, min_leaf, min_weight):
    """(score, feature, cut, last rank left of it), the best of the drawn features' best cuts."""
    # Read backwards, since the feature that was drawn first lies last.
    best, feature, cut, last = -math.inf, 0, 0.0, 0
    for at in range(features.size - 1, begin - 1, -1):
        f = features[at]
        # A key is a value's rank and its row in one number, so that sorting numbers sorts both.
        for i in range(rows.size):
            keys[i] = np.int64(rank[f, rows[i]]) << LOW | rows[i]
        ordered = sort_keys(keys[:rows.size], spare[:rows.size], tally, levels.shape[1])
        new, i = best_of_keys(ordered, levels[f], y, w, mean, sums[0], weight, criterion,
                              min_leaf, min_weight, sums[1], sums[2])
        if new > best:
            best, feature, last = new, f, ordered[i - 1] >> LOW
            cut = levels[f, last] / 2.0 + levels[f, ordered[i] >> LOW] / 2.0
    return best, feature, cut, last


@helper
def make_leaf(node, feature, cut, left, right):
    """A node that asks nothing, until a cut is found that is worth it."""
    feature[node] = 0
    cut[node] = 0.0
    left[node] = right[node] = LEAF


@helper
def clear(first, feature, cut, left, right, impurity, rows, weight, value):
    """There are no nodes from `first` on, though there is room for them."""
    for i in range(first, len(rows)):
        make_leaf(i, feature, cut, left, right)
        rows[i] = 0
        impurity[i] = 0.0
        weight[i] = 0.0
        for k in range(value.shape[1]):
            value[i, k] = 0.0


@helper
def push(stack, waiting, start, stop, depth, parent, known):
    """One more node to do; returns how many wait now."""
    stack[waiting, 0], stack[waiting, 1], stack[waiting, 2] = start, stop, depth
    stack[waiting, 3], stack[waiting, 4] = parent, known
    return waiting + 1


@grow_tree.body("numba")
def grow_tree_numba(feature, cut, left, right, impurity, rows, weight, value, rank, levels, y, w,
                    criterion, max_features, max_depth, min_split, min_leaf, min_weight, min_gain,
                    seed):
    """The stack holds begin, end, depth, parent (of a right child) and constants of each node."""
    # The rows of a node lie side by side in `order`, so two numbers name them. What the loops need
    # for a while is made once, for the largest node: keys to sort, room to sort them in, sums.
    order = np.flatnonzero(w)
    features, constants, state = np.arange(len(rank)), np.zeros(len(rank), np.int64), seed
    keys, spare, tally = np.empty_like(order), np.empty_like(order), np.empty(DIGIT, np.int64)
    sums = np.empty((3, value.shape[1]))
    stack = np.empty((order.size + 1, 5), np.int64)  # a node for each row at most, and two halves
    waiting = push(stack, 0, 0, order.size, 0, LEAF, 0)
    node = 0
    while waiting > 0:
        waiting -= 1
        start, stop, depth = stack[waiting, 0], stack[waiting, 1], stack[waiting, 2]
        parent, known = stack[waiting, 3], stack[waiting, 4]
        if parent != LEAF:
            right[parent] = node
        inside = order[start:stop]
        weight[node], impurity[node], score_here = describe_node(value[node], sums[0], y, w, inside,
                                                                 criterion)
        rows[node] = inside.size
        make_leaf(node, feature, cut, left, right)
        if may_split(node, depth, impurity, rows, weight, criterion, max_depth, min_split,
                     min_leaf, min_weight):
            begin, known, state = draw_features(features, constants, known, state, max_features,
                                                rank, levels, inside)
            best, f, middle, last = best_of_drawn(
                features, begin, rank, levels, inside, keys, spare, tally, y, w, value[node, 0],
                sums, weight[node], criterion, min_leaf, min_weight)
            if best > -math.inf and (best - score_here) / weight[0] + TINY >= min_gain:       # (1)
                make_cut(node, f, middle, feature, cut, left)
                # order[start:place] goes left now, order[place:stop] right. Left is pushed last, so
                # that it is the next to be done, and gets the number node + 1.
                place = start + cut_in_two(inside, spare, rank[f], last)
                waiting = push(stack, waiting, place, stop, depth + 1, node, known)
                waiting = push(stack, waiting, start, place, depth + 1, LEAF, known)
        node += 1
    clear(node, feature, cut, left, right, impurity, rows, weight, value)


def empty_nodes(most, classes):
    """Room for the outputs of grow_tree: at most `most` nodes; classes: 1 for numbers."""
    kinds = (np.int64, np.float64, np.int64, np.int64, np.float64, np.int64, np.float64)
    return *(empty(most, kind) for kind in kinds), empty((most, classes), np.float64)


def _measure(rows=20_000, rounds=5):
    from statistics import median
    from time import perf_counter

    random = np.random.default_rng(0)
    # Two features that matter together, one that matters alone, 37 that do not, and noise.
    x = random.standard_normal((rows, 40), np.float32)
    y = (x[:, 0] * x[:, 1] + x[:, 2] > random.standard_normal(rows) / 4).astype(np.float64)
    rank, levels = ranked(x)
    nodes = empty_nodes(2 * rows, 2)
    w = np.ones(rows)
    times = {}
    for name in ["gini", "entropy", "squared"] * rounds:
        start = perf_counter()
        grow_tree(*nodes, rank, levels, y, w, CRITERIA[name], 40, rows, 2, 1, 0.0, 0.0, 1)
        times.setdefault(name, []).append(perf_counter() - start)
    return {name: median(values) * 1e3 for name, values in times.items()}


if __name__ == "__main__":
    print(" ".join(f"{name}_ms={ms:.0f}" for name, ms in _measure().items()))
