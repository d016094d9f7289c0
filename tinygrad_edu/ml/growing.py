"""Lesson 4.71 · Growing a tree: cut, and cut again

Needs cuts, kernel, loops, memory, ranks. Used by pruning, tree.

Idea      To grow a tree, take all rows, try every feature (or a few drawn by lot), make the best
          cut of all, and go on with each side as if it were the whole. It is greedy: nobody looks
          two questions ahead, and nothing is ever taken back here. A node that is pure, too small
          or too deep stays a leaf.
          The rows of a node always lie side by side in one list of row numbers. A cut reorders its
          piece of the list, left rows first, and what is still to do is a stack of pieces.
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
          The compiler's work grows with every array expression: the loops spell them out.
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
    DEPTH,
    GAIN,
    LEAST,
    LIGHTEST,
    SPLIT,
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
def may_split(node, depth, impurity, rows, weight, criterion, limits):
    """(2), without the gain; numbers are pure relative to the spread of all of them."""
    spread = impurity[0] if criterion == SQUARED else 1.0
    enough = rows[node] >= limits[SPLIT] and rows[node] >= 2 * limits[LEAST]
    heavy = weight[node] >= 2 * limits[LIGHTEST]
    return depth < limits[DEPTH] and enough and heavy and impurity[node] > TINY * spread


def best_of_node(drawn, rank, levels, inside, sums, w, criterion, limits):
    """(score, feature, cut, last value left of it), the best of the drawn features' best cuts."""
    # levels[f, rank[f, n]] is the value of feature f in row n.
    best = -math.inf, 0, 0.0, 0.0
    for f in drawn:
        x = levels[f, rank[f, inside]]
        found, *where = best_of_feature(x, sums, w, criterion, limits)
        if found > best[0]:  # of equal ones the first
            best = found, f, *where
    return best


@Kernel(outputs=8)
def grow_tree(feature, cut, left, right, impurity, rows, weight, value, rank, levels, y, w,
              criterion, limits, max_features, seed):
    """A whole tree. Its nodes are those with rows > 0; left and right are LEAF where it ends.

    limits (5,): DEPTH, SPLIT, LEAST, LIGHTEST, GAIN of lesson cuts. max_features: a node draws so
    many. seed: where the generator of lesson ranks starts.
    """
    for output in (feature, cut, impurity, rows, weight, value):
        output[...] = 0
    left[...] = right[...] = LEAF
    features, state = np.arange(len(rank)), seed
    constants = np.zeros_like(features)
    # What is still to do, last in first out: rows, depth, whose right child, how many constants.
    todo = [(np.flatnonzero(w), 0, LEAF, 0)]
    node = 0
    while todo:
        inside, depth, parent, known = todo.pop()
        if parent != LEAF:
            right[parent] = node
        yn, wn = y[inside], w[inside]
        rows[node], weight[node] = len(inside), wn.sum()
        # What each row adds to the S of lesson cuts: its weight, in the column of its class.
        if criterion == SQUARED:
            value[node] = np.sum(wn * yn) / weight[node]
            sums = (wn * (yn - value[node]))[:, None]
        else:
            sums = wn[:, None] * (yn[:, None] == np.arange(value.shape[1]))
            value[node] = sums.sum(axis=0) / weight[node]
        impurity[node] = impurity_of(value[node], yn, wn, criterion)
        if may_split(node, depth, impurity, rows, weight, criterion, limits):
            begin, known, state = draw_features(features, constants, known, state, max_features,
                                                rank, levels, inside)
            drawn = features[begin:][::-1]
            best, f, middle, last = best_of_node(drawn, rank, levels, inside, sums, wn, criterion,
                                                 limits)
            gain = best - score(sums.sum(axis=0), weight[node], criterion)
            if gain / weight[0] + TINY >= limits[GAIN]:                                       # (1)
                feature[node], cut[node], left[node] = f, middle, node + 1
                goes = levels[f, rank[f, inside]] <= last
                todo.append((inside[~goes], depth + 1, node, known))
                todo.append((inside[goes], depth + 1, LEAF, known))
        node += 1


# ---- the same as loops --------------------------------------------------------------------------


@helper
def best_of_drawn(features, begin, rank, levels, rows, keys, spare, tally, y, w, mean, sums,
                  weight, criterion, limits):
    """(score, feature, cut, last rank left of it), the best of the drawn features' best cuts."""
    # Read backwards, since the feature that was drawn first lies last.
    best, feature, cut, last = -math.inf, 0, 0.0, 0
    for at in range(features.size - 1, begin - 1, -1):  # the first drawn lies last
        f = features[at]
        for i in range(rows.size):  # the rank in the upper half, the row in the lower
            keys[i] = np.int64(rank[f, rows[i]]) << LOW | rows[i]
        # Sorting goes back and forth between the two arrays: here is where it ended.
        ordered = sort_keys(keys[:rows.size], spare[:rows.size], tally, levels.shape[1])
        new, i = best_of_keys(ordered, levels[f], y, w, mean, sums[0], weight, criterion, limits,
                              sums[1], sums[2])
        if new > best:
            best, feature = new, f
            last, after = ordered[i - 1] >> LOW, ordered[i] >> LOW
            cut = levels[f, last] / 2.0 + levels[f, after] / 2.0
    return best, feature, cut, last


@helper
def push(stack, waiting, start, stop, depth, parent, known):
    """One more node to do; returns how many wait now."""
    todo = stack[waiting]
    todo[0] = start
    todo[1] = stop
    todo[2] = depth
    todo[3] = parent
    todo[4] = known
    return waiting + 1


@helper
def no_node(node, feature, cut, left, right, impurity, rows, weight):
    """What stands where there is no node; one that is there starts as this, a leaf."""
    feature[node] = rows[node] = 0
    left[node] = right[node] = LEAF
    cut[node] = impurity[node] = weight[node] = 0.0


@grow_tree.body("numba")
def grow_tree_numba(feature, cut, left, right, impurity, rows, weight, value, rank, levels, y, w,
                    criterion, limits, max_features, seed):
    """A node is a piece of `order`, which is cut in two in place; sums: of all, left, right."""
    order = np.flatnonzero(w)
    features, state = np.arange(len(rank)), seed
    constants = np.zeros_like(features)
    keys, spare = np.empty_like(order), np.empty_like(order)
    tally = np.empty(DIGIT, np.int64)
    sums = np.empty((3, value.shape[1]))
    stack = np.empty((order.size + 1, 5), np.int64)  # a node for each row at most, and two halves
    waiting = push(stack, 0, 0, order.size, 0, LEAF, 0)
    node = 0
    while waiting > 0:
        waiting -= 1
        start, stop, depth, parent, known = stack[waiting]
        if parent != LEAF:
            right[parent] = node
        inside = order[start:stop]
        # A node is a leaf until it is cut.
        no_node(node, feature, cut, left, right, impurity, rows, weight)
        rows[node] = inside.size
        weight[node], impurity[node], here = describe_node(value[node], sums[0], y, w, inside,
                                                           criterion)
        if may_split(node, depth, impurity, rows, weight, criterion, limits):
            begin, known, state = draw_features(features, constants, known, state, max_features,
                                                rank, levels, inside)
            best, f, middle, last = best_of_drawn(features, begin, rank, levels, inside, keys,
                                                  spare, tally, y, w, value[node, 0], sums,
                                                  weight[node], criterion, limits)
            if (best - here) / weight[0] + TINY >= limits[GAIN]:                              # (1)
                feature[node], cut[node], left[node] = f, middle, node + 1
                # What is pushed last is done next: the left side gets the next number.
                place = start + cut_in_two(inside, spare, rank[f], last)
                waiting = push(stack, waiting, place, stop, depth + 1, node, known)
                waiting = push(stack, waiting, start, place, depth + 1, LEAF, known)
        node += 1
    # There is room for as many leaves as rows; mostly there are fewer.
    for i in range(node, len(rows)):
        no_node(i, feature, cut, left, right, impurity, rows, weight)
        value[i] = 0.0


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
    nodes, w, times = empty_nodes(2 * rows, 2), np.ones(rows), {}
    limits = np.array([rows, 2, 1, 0, 0], np.float64)
    for name in ["gini", "entropy", "squared"] * rounds:
        start = perf_counter()
        grow_tree(*nodes, rank, levels, y, w, CRITERIA[name], limits, 40, 1)
        times.setdefault(name, []).append(perf_counter() - start)
    return {name: median(values) * 1e3 for name, values in times.items()}


if __name__ == "__main__":
    print(" ".join(f"{name}_ms={ms:.0f}" for name, ms in _measure().items()))
