"""Lesson 4.77 · A tree by leaves: the one that gains most grows next

Needs histograms, kernel, loops, memory. Used by boosting.

Idea      A tree of boosting is small on purpose, 31 leaves or so, and what counts is what these few
          can say. So it does not grow level by level: of all leaves the one whose best cut gains
          most is cut next, wherever it is. It does not predict labels either. Every row comes with
          a slope and a curvature of the loss at its present prediction, and a leaf answers with the
          step that is best for its rows together.
Math      loss of the rows of a leaf for a step v ≈ G·v + ½·(H + λ)·v², G = Σ g, H = Σ h        (1)
          best step, times the learning rate:  v = −η·G/(H + λ)                                 (2)
          next leaf = the one with the greatest gain (lesson histograms, equation 4)            (3)
Shapes    bins (F, N) uint8 · slopes (N, 2): g and h · prediction (N,), moved in place · a tree of
          M nodes: feature, cut, missing_left, left, value (M,), right = left + 1
Pitfalls  A leaf that is cut needs the histograms of its children only if these may be cut in turn:
          after the last cut nobody adds up.
          In small tables waking a second thread takes longer than the loop it would share: there
          one thread grows the whole tree, and only large ones are dealt out, feature by feature.
          A tree grown by gain alone can become a chain: max_depth and min_samples_leaf limit it.
          Where no row of the node lacks the value, nobody knows where a missing one should go: it
          goes with the larger side.
Cost      For each cut one pass over the smaller child's rows and features; both children's rows lie
          in one piece, slopes beside them: nothing is fetched from all over the memory.
Try       build it    grow by levels instead (a queue for the heap). Is the loss higher after 100?
          break it    let cut_leaf add up the larger child. What happens to the time?
          measure it  python scripts/bench_ml.py boosting --vs sklearn
See       Ke et al. 2017 "LightGBM", section 3 · Chen, Guestrin 2016 "XGBoost", equations 5 to 7
"""

from typing import NamedTuple

import numpy as np

from ..kernel import Kernel
from ..loops import helper
from ..memory import empty, zeros
from .histograms import (
    BINS,
    MISSING,
    by_features,
    part_rows,
    part_rows_numba,
    sum_and_cut_numba,
)

SMALL = 1 << 22  # rows · features up to which one thread grows a tree sooner than several
FEW = 256  # leaves up to which the histograms of all of them are kept


# ---- the reference: a list of leaves ------------------------------------------------------------


class Leaf:
    """A leaf while the tree grows: its rows, their slopes and sums (G, H, count), its best cut."""

    def __init__(self, node, depth, rows, slopes, sums):
        self.node, self.depth, self.rows, self.slopes = node, depth, rows, slopes
        self.sums, self.gain = sums, 0.0

    def choose(self, hist, found):
        """Take the best cut of all features from what sum_and_cut found."""
        self.hist = hist
        self.feature = int(found[:, 0].argmax())
        self.gain, *self.cut = found[self.feature].tolist()

    def part(self, bins):
        """(rows, slopes) with those of the left side first, and whether missing ones are there."""
        b, missing_left, _, _, count = self.cut
        if not self.hist[self.feature, MISSING, 2]:
            missing_left = count > len(self.rows) - count
        rows, slopes = np.empty_like(self.rows), np.empty_like(self.slopes)
        part_rows(rows, slopes, self.rows, self.slopes, bins[self.feature], int(b),
                  int(missing_left))
        return rows, slopes, missing_left


def look_at(small, large, hist, bins, used, least, ridge):
    """Find the best cuts of two children; hist: their parent's. large: None for the root."""
    found, found_rest = empty((2, len(bins), 6), np.float64)
    mine = empty((len(bins), BINS, 3), np.float64)
    sums_rest = large.sums if large else np.zeros(3)
    by_features(found, found_rest, mine, hist, bins, small.rows, small.slopes, used, small.sums,
                sums_rest, least, ridge)
    small.choose(mine, found)
    if large:
        large.choose(hist, found_rest)


@Kernel(outputs=5, inout="prediction")
def grow_by_leaves(feature, cut, missing_left, left, value, prediction, bins, slopes, used, most,
                   deepest, least, ridge, rate):
    """A tree of at most `most` leaves; left is 0 where there is none, else right is left + 1.

    Its answers are added to prediction.
    """
    for output in (feature, cut, missing_left, left, value):
        output[...] = 0
    n = len(slopes)
    root = Leaf(0, 0, np.arange(n), slopes, np.append(slopes.sum(axis=0), n))
    look_at(root, None, zeros((len(bins), BINS, 3), np.float64), bins, used, least, ridge)
    leaves = [root]
    while len(leaves) < most:
        leaf = max(leaves, key=lambda leaf: leaf.gain)                                        # (3)
        if leaf.gain <= 0:
            break
        rows, parted, goes = leaf.part(bins)
        node, first, count = leaf.node, 2 * len(leaves) - 1, int(leaf.cut[4])
        feature[node], cut[node], missing_left[node] = leaf.feature, leaf.cut[0], goes
        left[node] = first
        sums = np.array(leaf.cut[2:])
        one = Leaf(first, leaf.depth + 1, rows[:count], parted[:count], sums)
        two = Leaf(first + 1, leaf.depth + 1, rows[count:], parted[count:], leaf.sums - sums)
        leaves[leaves.index(leaf)] = one
        leaves.append(two)
        if len(leaves) < most and one.depth < deepest:
            small, large = (one, two) if 2 * count <= len(rows) else (two, one)
            look_at(small, large, leaf.hist, bins, used, least, ridge)
    for leaf in leaves:
        value[leaf.node] = step(leaf.sums, ridge, rate)
        prediction[leaf.rows] += value[leaf.node]


@helper
def step(sums, ridge, rate):
    """(2)."""
    H = sums[1] + ridge
    return -rate * sums[0] / H if H > 0 else 0.0


# ---- the same as loops --------------------------------------------------------------------------


@helper
def keep_best(found, gain, best, i):
    """Note the best of all features' cuts (gain, bin, missing left?, G, H, count) for leaf i."""
    top = 0
    for f in range(1, len(found)):
        if found[f, 0] > found[top, 0]:
            top = f
    gain[i] = found[top, 0]
    best[i, 0] = top
    for j in range(1, 6):
        best[i, j] = found[top, j]


@helper
def cut_leaf(i, new, span, sums, best, hist, bins, rows, slopes, spare, spare_slopes):
    """Part the rows of leaf i between it, now the left side, and leaf `new`; missing left?"""
    start, stop, f = span[i, 0], span[i, 1], int(best[i, 0])
    size, count = stop - start, int(best[i, 5])
    goes = int(best[i, 2]) if hist[f, MISSING, 2] > 0 else int(count > size - count)
    part_rows_numba(spare[:size], spare_slopes[:size], rows[start:stop], slopes[start:stop],
                    bins[f], int(best[i, 1]), goes)
    for j in range(size):
        rows[start + j] = spare[j]
        slopes[start + j, 0] = spare_slopes[j, 0]
        slopes[start + j, 1] = spare_slopes[j, 1]
    span[i, 1] = span[new, 0] = start + count
    span[new, 1] = stop
    for j in range(3):
        sums[new, j] = sums[i, j] - best[i, 3 + j]
        sums[i, j] = best[i, 3 + j]
    return goes


def is_small(*args):
    """Whether the loops serve: one thread, and all histograms at hand."""
    return args[6].size <= SMALL and args[9] <= FEW


@grow_by_leaves.body("numba", when=is_small)
def grow_by_leaves_numba(feature, cut, missing_left, left, value, prediction, bins, slopes, used,
                         most, deepest, least, ridge, rate):
    """Leaf i has the rows span[i, 0] … span[i, 1] of a list, and hist[place[i]]."""
    n, F = len(slopes), len(bins)
    rows, parted = np.arange(n), slopes.copy()
    spare, spare_slopes = np.empty_like(rows), np.empty_like(parted)
    hist = np.empty((most + 1, F, BINS, 3))
    found, found_rest = np.empty((F, 6)), np.empty((F, 6))
    span, place = np.zeros((most, 2), np.int64), np.zeros(most, np.int64)
    node, depth = np.zeros(most, np.int64), np.zeros(most, np.int64)
    sums, best, gain = np.zeros((most + 1, 3)), np.zeros((most, 6)), np.zeros(most)
    for i in range(len(left)):
        feature[i] = cut[i] = missing_left[i] = left[i] = 0
        value[i] = 0.0
    for i in range(n):
        sums[0, 0] += slopes[i, 0]
        sums[0, 1] += slopes[i, 1]
    sums[0, 2] = span[0, 1] = n
    hist[most] = 0.0  # the root is the smaller child of nobody: there is no rest
    sum_and_cut_numba(found, found_rest, hist[0], hist[most], bins, rows, parted, used, sums[0],
                      sums[most], least, ridge)
    keep_best(found, gain, best, 0)
    leaves = 1
    while leaves < most:
        i = np.argmax(gain[:leaves])                                                          # (3)
        if gain[i] <= 0:
            break
        first, new, here = 2 * leaves - 1, leaves, node[i]
        feature[here], cut[here], left[here] = int(best[i, 0]), int(best[i, 1]), first
        missing_left[here] = cut_leaf(i, new, span, sums, best, hist[place[i]], bins, rows, parted,
                                      spare, spare_slopes)
        node[i], node[new] = first, first + 1
        depth[i] = depth[new] = depth[i] + 1
        gain[i] = gain[new] = 0.0
        leaves += 1
        if leaves < most and depth[i] < deepest:
            small, large = (i, new) if sums[i, 2] <= sums[new, 2] else (new, i)
            old, place[small] = place[i], new
            place[large] = old
            low, high = span[small, 0], span[small, 1]
            sum_and_cut_numba(found, found_rest, hist[new], hist[old], bins, rows[low:high],
                              parted[low:high], used, sums[small], sums[large], least, ridge)
            keep_best(found, gain, best, small)
            keep_best(found_rest, gain, best, large)
    for i in range(leaves):
        value[node[i]] = step(sums[i], ridge, rate)
        for j in range(span[i, 0], span[i, 1]):
            prediction[rows[j]] += value[node[i]]


# ---- a grown tree -------------------------------------------------------------------------------


class Questions(NamedTuple):
    """A grown tree: nodes in the order they were made; left is 0 at a leaf, right = left + 1."""

    feature: np.ndarray
    cut: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    value: np.ndarray

    def predict(self, bins):
        """The value of the leaf of each row; bins (F, N)."""
        rows, node = np.arange(bins.shape[1]), np.zeros(bins.shape[1], np.int64)
        walking = rows if self.left[0] else rows[:0]
        while walking.size:
            here = node[walking]
            b = bins[self.feature[here], walking]
            goes = np.where(b == MISSING, self.missing_left[here], b <= self.cut[here])
            node[walking] = self.left[here] + 1 - goes
            walking = walking[self.left[node[walking]] > 0]
        return self.value[node]


def grow_questions(bins, used, slopes, model, prediction):
    """Questions for slopes (N, 2), the settings from model; its answers are added to prediction."""
    n = len(slopes)
    most = min(model.max_leaf_nodes or n, max(1, n // model.min_samples_leaf))
    nodes = *(empty(2 * most - 1, np.int64) for _ in range(4)), empty(2 * most - 1, np.float64)
    grow_by_leaves(*nodes, prediction, bins, slopes, used, most, model.max_depth or n,
                   model.min_samples_leaf, float(model.l2_regularization),
                   float(model.learning_rate))
    count = nodes[3].max() + 2 if nodes[3].any() else 1
    return Questions(*(array[:count].copy() for array in nodes))
