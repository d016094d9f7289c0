"""Lesson 4.78 · A tree by leaves, as one loop

Needs histograms, leafwise, loops, memory. Used by boosting.

Idea      Thirty cuts of a small tree are thirty times a few array calls, and in a table of 20,000
          rows each call is over before Python has prepared the next. So the tree of lesson leafwise
          is written once more as a loop that is compiled as a whole. A second thread does not help
          here: it takes longer to wake than a leaf's loop takes. Only the sums over all rows, the
          longest of them, are shared among threads, and tables so large that every leaf is worth
          the waking are left to the reference.
Math      As lesson leafwise: a step −η·G/(H + λ) (2) for the leaf of the greatest gain (3).
Shapes    Leaf i: span[i] = begin and end in the list of rows · node[i], depth[i] · sums[i] =
          (G, H, count) · best[i] = (feature, bin, missing left?, G, H, count) of its best cut
          · gain[i] · hist[place[i]] its histograms
Pitfalls  When a leaf is cut, its number goes on as the left child, and the next free one is the
          right child; the histograms go to the larger child, whichever that is.
          Leaves that may not be cut keep a gain of 0, else an old gain would cut them again.
          All histograms are kept until the tree is grown: 60 KB a leaf for ten features. For a tree
          of many leaves that is too much, and the reference serves.
Cost      The sums of lesson histograms, and nothing else that one would notice:
          python scripts/bench_ml.py boosting --vs sklearn
Try       build it    a heap for the gains. From how many leaves on is it faster than argmax?
          break it    give the histograms to the left child always. Which test notices?
          measure it  TG_BACKEND=numpy python scripts/bench_ml.py boosting: what do the loops save?
See       Ke et al. 2017 "LightGBM" · Amdahl 1967 on what a second processor can do for a program
"""

import numpy as np

from ..loops import helper
from ..memory import empty, zeros
from .histograms import BINS, MISSING, by_features, part_rows_numba, sum_and_cut_numba
from .leafwise import Questions, grow_by_leaves, step

SMALL = 1 << 22  # rows · features up to which one thread grows a tree sooner than several
FEW = 256  # leaves up to which the histograms of all of them are kept


@helper
def keep_best(found, gain, best, i):
    """Note the best of all features' cuts for leaf i."""
    top = 0
    for f in range(1, len(found)):
        if found[f, 0] > found[top, 0]:
            top = f
    gain[i] = found[top, 0]
    best[i, 0] = top
    for j in range(1, 6):
        best[i, j] = found[top, j]


@helper
def halve(i, new, span, sums, best, hist, bins, rows, slopes, spare, spare_slopes):
    """Part the rows of leaf i: the left ones stay with it, `new` gets the right ones.

    Returns whether missing values go left: as it gained more, or with the larger side.
    """
    start, stop = span[i]
    feature = int(best[i, 0])
    cut = int(best[i, 1])
    count = int(best[i, 5])
    size = stop - start
    goes = int(best[i, 2])
    if hist[feature, MISSING, 2] == 0:
        goes = int(count > size - count)
    part_rows_numba(spare[:size], spare_slopes[:size], rows[start:stop], slopes[start:stop],
                    bins[feature], cut, goes)
    # Back into their place, in the new order.
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


@helper
def look_at_both(i, new, span, sums, best, gain, hists, place, bins, rows, slopes, used, least,
                 ridge):
    """The best cuts of both children: the smaller one adds up, the larger gets the difference."""
    # A histogram costs its rows: the smaller child's is summed, the larger one's is what is left.
    small, large = (i, new) if sums[i, 2] <= sums[new, 2] else (new, i)
    parent = place[i]
    place[small], place[large] = new, parent
    found = np.empty((len(bins), 6))
    found_rest = np.empty_like(found)
    start, stop = span[small]
    sum_and_cut_numba(found, found_rest, hists[new], hists[parent], bins, rows[start:stop],
                      slopes[start:stop], used, sums[small], sums[large], least, ridge)
    keep_best(found, gain, best, small)
    keep_best(found_rest, gain, best, large)


@helper
def tables(most):
    """Of each leaf: its sums, its best cut, and what that gains."""
    return np.zeros((most, 3)), np.zeros((most, 6)), np.zeros(most)


@helper
def add_bins(sums, hist):
    """The sums of all bins of one feature."""
    for b in range(BINS):
        for j in range(3):
            sums[j] += hist[b, j]


def is_small(*args):
    """Whether the loops serve: one thread is enough, and all histograms can be kept."""
    bins, most = args[6], args[11]
    return bins.size <= SMALL and most <= FEW


@grow_by_leaves.body("numba", when=is_small)
def grow_by_leaves_numba(feature, cut, missing_left, left, value, prediction, bins, slopes, used,
                         hist, found, most, deepest, least, ridge, rate):
    """No leaf moves: the left child has its parent's number, the right one the next."""
    n = len(slopes)
    rows, parted = np.arange(n, dtype=np.int32), slopes.copy()  # in the order of the leaves
    spare = np.empty_like(rows)
    spare_slopes = np.empty_like(parted)
    hists = np.empty((most, len(bins), BINS, 3))
    hists[0] = hist
    span = np.zeros((most, 2), np.int64)
    place, node, depth = np.zeros((3, most), np.int64)
    sums, best, gain = tables(most)
    # Every node is a leaf of value 0 until something else is known of it.
    feature[:] = cut[:] = missing_left[:] = left[:] = 0
    value[:] = 0.0
    add_bins(sums[0], hist[0])  # any feature has the sums of all rows
    span[0, 1] = n
    keep_best(found, gain, best, 0)
    leaves = 1
    while leaves < most:
        i = np.argmax(gain[:leaves])                                                          # (3)
        new = leaves
        if gain[i] <= 0:
            break
        here = node[i]
        first = 2 * leaves - 1
        feature[here], cut[here], left[here] = int(best[i, 0]), int(best[i, 1]), first
        missing_left[here] = halve(i, new, span, sums, best, hists[place[i]], bins, rows, parted,
                                   spare, spare_slopes)
        node[i], node[new], leaves = first, first + 1, leaves + 1
        depth[i] = depth[new] = depth[i] + 1
        gain[i] = gain[new] = 0.0
        if leaves < most and depth[i] < deepest:
            look_at_both(i, new, span, sums, best, gain, hists, place, bins, rows, parted, used,
                         least, ridge)
    # What is a leaf now stays one: its rows get its step.
    for i in range(leaves):
        value[node[i]] = step(sums[i], ridge, rate)                                           # (2)
        for j in range(span[i, 0], span[i, 1]):
            prediction[rows[j]] += value[node[i]]


def grow_questions(bins, used, slopes, model, prediction):
    """Questions for slopes (N, 2), the settings from model; its answers are added to prediction."""
    F, n = bins.shape
    least, ridge = model.min_samples_leaf, float(model.l2_regularization)
    most = min(model.max_leaf_nodes or n, max(1, n // least))
    found, nothing = empty((2, F, 6), np.float64)
    hist, rest = empty((F, BINS, 3), np.float64), zeros((F, BINS, 3), np.float64)
    sums = np.append(slopes.sum(axis=0), n)
    # All rows are the smaller child of nobody: there is no rest.
    by_features(found, nothing, hist, rest, bins, np.arange(n, dtype=np.int32), slopes, used, sums,
                np.zeros(3), least, ridge)
    nodes = *(empty(2 * most - 1, np.int64) for _ in range(4)), empty(2 * most - 1, np.float64)
    grow_by_leaves(*nodes, prediction, bins, slopes, used, hist, found, most, model.max_depth or n,
                   least, ridge, float(model.learning_rate))
    count = nodes[3].max() + 2 if nodes[3].any() else 1
    return Questions(*(array[:count].copy() for array in nodes))
