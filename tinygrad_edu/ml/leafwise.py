"""Lesson 4.77 · A tree by leaves: the one that gains most grows next

Needs histograms, kernel, loops, memory. Used by leafloops, boosting.

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
Try       build it    grow by levels instead: the oldest leaf first. Is the loss higher after 100?
          break it    let look_at add up the larger child. What happens to the time?
          measure it  python scripts/bench_ml.py boosting --vs sklearn
See       Ke et al. 2017 "LightGBM", section 3 · Chen, Guestrin 2016 "XGBoost", equations 5 to 7
"""

from typing import NamedTuple

import numpy as np

from ..kernel import Kernel
from ..loops import helper
from ..memory import empty
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
    """Find the best cuts of two children; hist: their parent's, which becomes the larger one's."""
    found, found_rest = empty((2, len(bins), 6), np.float64)
    mine = empty((len(bins), BINS, 3), np.float64)
    by_features(found, found_rest, mine, hist, bins, small.rows, small.slopes, used, small.sums,
                large.sums, least, ridge)
    small.choose(mine, found)
    large.choose(hist, found_rest)


@helper
def step(sums, ridge, rate):
    """(2)."""
    H = sums[1] + ridge
    return -rate * sums[0] / H if H > 0 else 0.0


@Kernel(outputs=5, inout="prediction")
def grow_by_leaves(feature, cut, missing_left, left, value, prediction, bins, slopes, used, hist,
                   found, most, deepest, least, ridge, rate):
    """A tree of at most `most` leaves; left is 0 where there is none, else right is left + 1.

    hist, found: what sum_and_cut says of all rows. The answers are added to prediction.
    """
    for output in (feature, cut, missing_left, left, value):
        output[...] = 0
    n = len(slopes)
    root = Leaf(0, 0, np.arange(n, dtype=np.int32), slopes, np.append(slopes.sum(axis=0), n))
    root.choose(hist.copy(), found)
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
