"""Lesson 4.77 · A tree by leaves: the one that gains most grows next

Needs histograms, memory. Used by boosting.

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

import heapq
from typing import NamedTuple

import numpy as np

from ..memory import empty, zeros
from .histograms import BINS, MISSING, by_features, part_rows


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

    def __lt__(self, other):
        return self.gain > other.gain  # the heap's first is the one that gains most


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


def grow_by_leaves(bins, used, slopes, model, prediction):
    """A tree on slopes (N, 2), the settings from model; its answers are added to prediction."""
    n, least, ridge = len(slopes), model.min_samples_leaf, float(model.l2_regularization)
    most, deepest = model.max_leaf_nodes or n, model.max_depth or n
    nodes = [[0, 0, 0, 0, 0.0]]
    root = Leaf(0, 0, np.arange(n), slopes, np.append(slopes.sum(axis=0), n))
    heap, leaves = [root], 1
    if n >= 2 * least:
        look_at(root, None, zeros((len(bins), BINS, 3), np.float64), bins, used, least, ridge)
    while leaves < most and heap[0].gain > 0:
        leaf = heapq.heappop(heap)                                                            # (3)
        children = cut_leaf(leaf, bins, nodes)
        leaves += 1
        small, large = sorted(children, key=lambda child: len(child.rows))
        if leaves < most and leaf.depth + 1 < deepest and len(large.rows) >= 2 * least:
            look_at(small, large, leaf.hist, bins, used, least, ridge)
        for child in children:
            heapq.heappush(heap, child)
    for leaf in heap:
        G, H, _ = leaf.sums
        value = -model.learning_rate * G / (H + ridge) if H + ridge > 0 else 0.0              # (2)
        nodes[leaf.node][4] = value
        prediction[leaf.rows] += value
    return Questions(*(np.array(column) for column in zip(*nodes, strict=True)))


def cut_leaf(leaf, bins, nodes):
    """Make a leaf a question; returns its two children, the left one first."""
    b, missing_left, *left = leaf.cut
    left = np.array(left)
    count, size = int(left[2]), len(leaf.rows)
    if not leaf.hist[leaf.feature, MISSING, 2]:
        missing_left = count > size - count
    first, depth = len(nodes), leaf.depth + 1
    nodes[leaf.node][:4] = leaf.feature, int(b), bool(missing_left), first
    rows, slopes = np.empty_like(leaf.rows), np.empty_like(leaf.slopes)
    part_rows(rows, slopes, leaf.rows, leaf.slopes, bins[leaf.feature], int(b), int(missing_left))
    nodes += [0, 0, 0, 0, 0.0], [0, 0, 0, 0, 0.0]
    return (Leaf(first, depth, rows[:count], slopes[:count], left),
            Leaf(first + 1, depth, rows[count:], slopes[count:], leaf.sums - left))
