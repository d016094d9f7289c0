"""Lesson 4.76 · Histograms: the best cut from 256 sums instead of N rows

Needs kernel, loops, memory, threads. Used by leafwise, boosting.

Idea      A tree that sorts its rows looks at every place between two of them. Hundreds of small
          trees in a row need not be that exact: put each value into one of at most 255 bins with
          about equally many rows, once, before all trees. A node then adds up, for every feature,
          what its rows have to say in each bin, one pass without any sorting, and tries the places
          between bins. And of two children only the smaller adds up: the other is the difference
          to their parent.
Math      bin(x) = how many edges of the feature are below x; NaN has the last bin of all       (1)
          hist[f, b] = Σ over rows of the node with bin b of (g, h, 1), g and h the first and
          second derivatives of a row's loss by what is predicted for it (lesson boosting)      (2)
          hist(larger child) = hist(parent) − hist(smaller child)                               (3)
          gain = G_l²/(H_l + λ) + G_r²/(H_r + λ) − G²/(H + λ), G = Σ g and H = Σ h over the left
          side, the right side, the node; λ a penalty on large steps, l2_regularization         (4)
          allowed: both sides have least rows and H ≥ 10⁻³; missing rows go left, or right,
          whichever gains more                                                                  (5)
Shapes    x (N, F) · edges (F, 255), padded with ∞ · bins (F, N) uint8 · rows (n,) of a node
          · slopes (n, 2): g and h of these rows in their order · hist (F, 256, 3)
          · found (F, 6): gain, bin, missing left?, G, H and rows of the left side
Pitfalls  Equally wide bins waste themselves on outliers: the edges are quantiles.
          x ≤ edge must be decided alike when binning and when predicting, or rows at an edge fall
          on the other side: an edge is a value of the data, or the middle between two.
          (3) subtracts large sums to get small ones: float32 sums would end as rounding noise.
          The gain of a cut through equal slopes is 0, or 10⁻¹⁵ by rounding: gains below NOISE times
          G²/(H + λ) do not count, or pure nodes would be cut at random places.
Cost      (2) reads a byte and adds three numbers for each row and feature; a feature's 256 sums
          stay in the first cache, and so do its bins. (4) costs a division for each bin, which
          outweighs (2) in small nodes. Features can be dealt out to threads, by_features, where
          the work is longer than waking one takes: python -m tinygrad_edu.ml.histograms
Try       build it    bins of categories: sort the bins of a feature by G/H, then cut.
          break it    give NaN the bin of the smallest value. Which test notices?
          measure it  python -m tinygrad_edu.ml.histograms, with rows of a node in random order
See       Ke et al. 2017 "LightGBM" · Chen, Guestrin 2016 "XGBoost", equations 6 and 7
"""

import sys

import numpy as np

from .. import threads
from ..kernel import Kernel
from ..loops import helper
from ..memory import empty, zeros

BINS = 256  # the last one for missing values
MISSING = BINS - 1
LEAST_CURVATURE = 1e-3  # of (5)
NOISE = 1e-12
MANY = 1 << 18  # rows · features from which a second thread is worth waking
CUT = (0, 1, 2, 3, 4, 7)  # the arguments of sum_and_cut with a row for each feature


# ---- bins -------------------------------------------------------------------------------------


def find_edges(columns, w, most=MISSING):
    """(edges (F, 255), how many bins each feature has); columns (F, N): x, its features in rows."""
    edges = np.full((len(columns), MISSING), np.inf)
    used = np.ones(len(columns), np.int64)
    for f, x in enumerate(columns):
        there = ~np.isnan(x)
        values, weights = x[there], w[there]
        if not len(values):  # nothing but holes: one bin
            continue
        if np.all(weights == weights[0]):  # equal weights need no order, and sorting alone is quick
            values = np.sort(values)
        else:
            order = np.argsort(values)
            values, weights = values[order], weights[order]
        different = values[np.append(True, values[1:] > values[:-1])]
        if len(different) <= most:  # a bin for each value, the edges half-way between
            found = (different[1:] + different[:-1]) / 2
        else:  # heavy values may fill several quantiles: each edge once
            found = np.unique(quantiles(values, weights, np.arange(1, most) / most))
        edges[f, : len(found)] = found
        used[f] = len(found) + 1
    return edges, used


def quantiles(values, weights, shares):
    """Of ascending values: the first at which the weight reaches a share of all of it.

    Where it is reached exactly, the middle between this value and the next.
    """
    reached = np.cumsum(weights)  # by this value and all before it
    wanted = shares * reached[-1]
    i = np.searchsorted(reached, wanted)
    after = np.minimum(i + (reached[i] == wanted), len(values) - 1)
    return (values[i] + values[after]) / 2


@Kernel
def put_in_bins(bins, columns, edges):
    """(1), a feature at a time."""
    for f in range(len(columns)):
        below = np.searchsorted(edges[f], columns[f])
        bins[f] = np.where(np.isnan(columns[f]), MISSING, below)                              # (1)


@put_in_bins.body("numba", rows="bins columns edges")
def put_in_bins_numba(bins, columns, edges):
    """Of 255 bins skip the lower 128 if x is above them, then 64, …: eight steps, no branch."""
    for f in range(len(columns)):
        for n in range(columns.shape[1]):
            x = columns[f, n]
            low, step = 0, BINS // 2
            while step > 0:
                low += step * (edges[f, low + step - 1] < x)
                step //= 2
            bins[f, n] = low if x == x else MISSING                                           # (1)


# ---- sums and cuts ----------------------------------------------------------------------------


def best_cut(hist, used, sums, least, ridge):
    """The row of `found` for one feature's hist (256, 3), (4); gain −1 where (5) allows no cut."""
    best, missing = (-1.0, 0, 0, 0, 0, 0), hist[MISSING]
    G, H, count = sums
    for to_left in (0, 1) if missing[2] else (0,):
        left = np.cumsum(hist[:used], axis=0) + missing * to_left
        g, h, n = left.T
        with np.errstate(divide="ignore", invalid="ignore"):
            here = G**2 / (H + ridge)
            gain = g**2 / (h + ridge) + (G - g) ** 2 / (H - h + ridge) - here                 # (4)
        allowed = (n >= least) & (count - n >= least)
        allowed &= (h >= LEAST_CURVATURE) & (H - h >= LEAST_CURVATURE)                        # (5)
        gain = np.where(allowed, gain, -1)
        b = np.argmax(gain)  # of equal gains the leftmost
        if gain[b] > max(best[0], NOISE * here):
            best = gain[b], b, to_left, *left[b]
    return best


@Kernel(outputs=3, inout="rest")
def sum_and_cut(found, found_rest, hist, rest, bins, rows, slopes, used, sums, sums_rest, least,
                ridge):
    """hist of these rows, (2), taken away from `rest`, (3); the best cuts of both.

    rest: the parent's hist, then the larger child's. sums, sums_rest: (G, H, count) of the two.
    used: how many bins each feature has.
    """
    for f in range(len(bins)):
        b = bins[f, rows]
        for i, weights in enumerate((slopes[:, 0], slopes[:, 1], None)):
            hist[f, :, i] = np.bincount(b, weights, minlength=BINS)                           # (2)
        rest[f] -= hist[f]                                                                    # (3)
        found[f] = best_cut(hist[f], used[f], sums, least, ridge)
        found_rest[f] = best_cut(rest[f], used[f], sums_rest, least, ridge)


def by_features(*args):
    """sum_and_cut, the features dealt out to the threads where there are enough rows."""
    bins, rows = args[4], args[5]
    large = rows.size * len(bins) > MANY
    threads.split(sum_and_cut, args, CUT, grain=0 if large else sys.maxsize)


@helper
def walk_over_bins(found, hist, used, sums, least, ridge, left, gains):
    """best_cut in three short loops: running sums, gains (a vector loop), the greatest of them."""
    G, H, count = sums[0], sums[1], sums[2]
    here = G * G / (H + ridge)
    found[:] = 0
    found[0] = -1
    if count < 2 * least:
        return
    best = NOISE * here
    for to_left in range(2 if hist[MISSING, 2] > 0 else 1):
        g, h, n = hist[MISSING, 0] * to_left, hist[MISSING, 1] * to_left, hist[MISSING, 2] * to_left
        for b in range(used):  # each sum needs the one before it: no vector loop
            g += hist[b, 0]
            h += hist[b, 1]
            n += hist[b, 2]
            left[0, b], left[1, b], left[2, b] = g, h, n
        for b in range(used):
            # The gain of both sides over one denominator, a·c.
            g, h, n = left[0, b], left[1, b], left[2, b]
            a, c = h + ridge, H - h + ridge
            gain = (g * g * c + (G - g) * (G - g) * a) / (a * c) - here  # (4) with one division
            enough = (n >= least) & (count - n >= least)
            curved = (h >= LEAST_CURVATURE) & (H - h >= LEAST_CURVATURE)                      # (5)
            gains[b] = gain if enough & curved else -1.0
        top = -1
        for b in range(used):  # of equal gains the leftmost
            if gains[b] > best:
                best, top = gains[b], b
        if top >= 0:
            found[0], found[1], found[2] = best, top, to_left
            found[3], found[4], found[5] = left[0, top], left[1, top], left[2, top]


@helper
def add_up(hist, bins, f, count, rows, slopes):
    """(2) of `count` features from f on, at most two: while one sum waits, the other goes on."""
    e = f + count - 1
    hist[f], hist[e] = 0.0, 0.0
    for i in range(rows.size):
        n, g, h = rows[i], slopes[i, 0], slopes[i, 1]
        b = bins[f, n]
        hist[f, b, 0] += g                                                                    # (2)
        hist[f, b, 1] += h
        hist[f, b, 2] += 1
        if count == 2:
            b = bins[e, n]
            hist[e, b, 0] += g
            hist[e, b, 1] += h
            hist[e, b, 2] += 1


@sum_and_cut.body("numba")
@helper
def sum_and_cut_numba(found, found_rest, hist, rest, bins, rows, slopes, used, sums, sums_rest,
                      least, ridge):
    """The sums of a feature, 6 KB, stay in the first cache until its cuts are known."""
    left, gains = np.empty((3, BINS)), np.empty(BINS)
    # Two features are added up at a time, and then looked at one after the other.
    for f in range(len(bins)):
        if f % 2 == 0:
            add_up(hist, bins, f, min(2, len(bins) - f), rows, slopes)
        for b in range(BINS):  # while the sums are still at hand
            for i in range(3):
                rest[f, b, i] -= hist[f, b, i]                                                # (3)
        walk_over_bins(found[f], hist[f], used[f], sums, least, ridge, left, gains)
        walk_over_bins(found_rest[f], rest[f], used[f], sums_rest, least, ridge, left, gains)


@Kernel(outputs=2)
def part_rows(parted, parted_slopes, rows, slopes, bins, cut, missing_left):
    """Rows with a bin up to `cut` first, the others from the end backwards; bins (N,)."""
    b = bins[rows]
    left = np.where(b == MISSING, missing_left, b <= cut).astype(bool)
    order = np.concatenate([np.flatnonzero(left), np.flatnonzero(~left)[::-1]])
    parted[...] = rows[order]
    parted_slopes[...] = slopes[order]


@part_rows.body("numba")
@helper
def part_rows_numba(parted, parted_slopes, rows, slopes, bins, cut, missing_left):
    """One pass: the next row of the left side goes to `low`, of the right side to `high`."""
    low, high = 0, rows.size - 1
    for i in range(rows.size):
        b = bins[rows[i]]
        left = missing_left if b == MISSING else b <= cut
        place = low if left else high
        parted[place] = rows[i]
        parted_slopes[place, 0] = slopes[i, 0]
        parted_slopes[place, 1] = slopes[i, 1]
        low += left
        high -= not left


def _measure(rows=20_000, features=40, rounds=30):
    from statistics import median
    from time import perf_counter

    random = np.random.default_rng(0)
    columns = random.standard_normal((features, rows))
    edges, used = find_edges(columns, np.ones(rows))
    bins = empty((features, rows), np.uint8)
    slopes = random.uniform(0.1, 1, (rows, 2))
    found, found_rest = empty((2, features, 6), np.float64)
    hist, rest = zeros((2, features, BINS, 3), np.float64)
    parted = np.arange(rows)
    sums, none = np.append(slopes.sum(axis=0), rows), np.zeros(3)
    some = np.sort(random.permutation(rows)[:500])
    calls = {"bins": (put_in_bins, bins, columns, edges),
             "all_rows": (by_features, found, found_rest, hist, rest, bins, np.arange(rows), slopes,
                          used, sums, none, 20, 0.0),
             "500_rows": (by_features, found, found_rest, hist, rest, bins, some, slopes[some],
                          used, sums, none, 20, 0.0),
             "parts": (part_rows, parted, slopes.copy(), np.arange(rows), slopes, bins[0], 99, 0)}
    for name, (kernel, *args) in calls.items():
        times = []
        for _ in range(rounds):
            start = perf_counter()
            kernel(*args)
            times.append(perf_counter() - start)
        yield f"{name}_us={median(times) * 1e6:.0f}"


if __name__ == "__main__":
    print(" ".join(_measure()))
