"""Lesson 4.76 · Histograms: the best cut from 256 sums instead of N rows

Needs kernel, memory. Used by boosting.

Idea      A tree that sorts its rows looks at every place between two of them. Hundreds of small
          trees in a row need not be that exact: put each value into one of at most 255 bins with
          about equally many rows, once, before all trees. A node then adds up, for every feature,
          what its rows have to say in each bin, one pass without any sorting, and tries the places
          between bins. And of two children only the smaller adds up: the other is the difference
          to their parent.
Math      bin(x) = how many edges of the feature are below x; NaN has the last bin of all       (1)
          hist[f, b] = Σ over rows of the node with bin b of (g, h, 1)                          (2)
          hist(larger child) = hist(parent) − hist(smaller child)                               (3)
          gain = G_l²/(H_l + λ) + G_r²/(H_r + λ) − G²/(H + λ), sums over both sides             (4)
          allowed: both sides have least rows and H ≥ 10⁻³; missing rows go left, or right,
          whichever gains more                                                                  (5)
Shapes    x (N, F) · edges (F, 254), padded with ∞ · bins (F, N) uint8 · rows (n,) of a node
          · slopes (n, 2): g and h of these rows in their order · hist (F, 256, 3)
          · found (F, 6): gain, bin, missing left?, G, H and rows of the left side
Pitfalls  Equally wide bins waste themselves on outliers: the edges are quantiles.
          x ≤ edge must be decided alike when binning and when predicting, or rows at an edge fall
          on the other side: an edge is a value of the data, or the middle between two.
          (3) subtracts large sums to get small ones: float32 sums would end as rounding noise.
          An empty bin offers no cut that the one before it did not offer.
          The gain of a cut through equal slopes is 0, or 10⁻¹⁵ by rounding: gains below NOISE times
          G²/(H + λ) do not count, or pure nodes would be cut at random places.
Cost      (2) reads a byte and adds three numbers for each row and feature; a feature's 256 sums
          stay in the first cache, and so do its bins. (4) costs divisions for each bin, which
          outweigh (2) in small nodes: python -m tinygrad_edu.ml.histograms
Try       build it    bins of categories: sort the bins of a feature by G/H, then cut.
          break it    give NaN the bin of the smallest value. Which test notices?
          measure it  python -m tinygrad_edu.ml.histograms, with rows of a node in random order
See       Ke et al. 2017 "LightGBM" · Chen, Guestrin 2016 "XGBoost", equations 6 and 7
"""

import numpy as np

from ..kernel import Kernel
from ..memory import empty

BINS = 256  # the last one for missing values
MISSING = BINS - 1
LEAST_CURVATURE = 1e-3  # of (5)
NOISE = 1e-12


# ---- bins -------------------------------------------------------------------------------------


def find_edges(x, w, most=MISSING):
    """(edges (F, 254), how many bins each feature has) from the rows of x with a weight."""
    edges = np.full((x.shape[1], MISSING - 1), np.inf)
    used = np.ones(x.shape[1], np.int64)
    for f in range(x.shape[1]):
        there = ~np.isnan(x[:, f]) & (w > 0)
        order = np.argsort(x[there, f])
        values, weights = x[there, f][order], w[there][order]
        if not len(values):  # nothing but holes: one bin
            continue
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
    reached = np.cumsum(weights)
    wanted = shares * reached[-1]
    i = np.searchsorted(reached, wanted)
    after = np.minimum(i + (reached[i] == wanted), len(values) - 1)
    return (values[i] + values[after]) / 2


@Kernel
def put_in_bins(bins, columns, edges):
    """(1); columns (F, N): x with its features in rows."""
    for f in range(len(columns)):
        below = np.searchsorted(edges[f], columns[f])
        bins[f] = np.where(np.isnan(columns[f]), MISSING, below)                              # (1)


@put_in_bins.body("numba", rows="bins columns edges")
def put_in_bins_numba(bins, columns, edges):
    """Halve the edges that may be the first not below x, until one is left."""
    for f in range(len(columns)):
        for n in range(columns.shape[1]):
            x = columns[f, n]
            low, high = 0, edges.shape[1]
            while low < high:  # edges before low are below x, those from high on are not
                middle = (low + high) // 2
                if edges[f, middle] < x:
                    low = middle + 1
                else:
                    high = middle
            bins[f, n] = low if x == x else MISSING                                           # (1)


# ---- sums and cuts ----------------------------------------------------------------------------


@Kernel
def sum_histograms(hist, bins, rows, slopes):
    """(2), a feature at a time: bincount adds weights up by bin."""
    for f in range(len(bins)):
        b = bins[f, rows]
        for i, weights in enumerate((slopes[:, 0], slopes[:, 1], None)):
            hist[f, :, i] = np.bincount(b, weights, minlength=BINS)                           # (2)


@sum_histograms.body("numba")
def sum_histograms_numba(hist, bins, rows, slopes):
    hist[:] = 0
    for f in range(len(bins)):  # the sums of one feature, 6 KB, stay in the first cache
        for i in range(rows.size):
            b = bins[f, rows[i]]
            hist[f, b, 0] += slopes[i, 0]                                                     # (2)
            hist[f, b, 1] += slopes[i, 1]
            hist[f, b, 2] += 1


@Kernel
def find_cuts(found, hist, used, least, ridge):
    """The best cut of each feature, (4); gain −1 where (5) allows none. used: bins of a feature."""
    G, H, count = hist[0].sum(axis=0)
    found[...] = 0
    found[:, 0] = -1
    for f in range(len(hist)):
        missing = hist[f, MISSING]
        for to_left in (False, True) if missing[2] else (False,):
            left = np.cumsum(hist[f, : used[f]], axis=0) + missing * to_left
            g, h, n = left.T
            with np.errstate(divide="ignore", invalid="ignore"):
                gain = (g**2 / (h + ridge) + (G - g) ** 2 / (H - h + ridge)
                        - G**2 / (H + ridge))                                                 # (4)
            allowed = (n >= least) & (count - n >= least)
            allowed &= (h >= LEAST_CURVATURE) & (H - h >= LEAST_CURVATURE)                    # (5)
            b = np.argmax(np.where(allowed, gain, -1))  # of equal gains the leftmost
            if allowed[b] and gain[b] > max(found[f, 0], NOISE * G**2 / (H + ridge)):
                found[f] = gain[b], b, to_left, *left[b]


@find_cuts.body("numba")
def find_cuts_numba(found, hist, used, least, ridge):
    """A walk over the bins of each feature, with the sums left of the cut in g, h and n."""
    G = H = count = 0.0
    for b in range(BINS):  # any feature has the sums of all rows
        G += hist[0, b, 0]
        H += hist[0, b, 1]
        count += hist[0, b, 2]
    here = G * G / (H + ridge)
    for f in range(len(hist)):
        found[f] = 0
        found[f, 0] = -1
        best = NOISE * here
        missing = hist[f, MISSING]
        for to_left in range(2 if missing[2] > 0 else 1):
            g, h, n = missing[0] * to_left, missing[1] * to_left, missing[2] * to_left
            for b in range(used[f]):
                if hist[f, b, 2] == 0:
                    continue
                g += hist[f, b, 0]
                h += hist[f, b, 1]
                n += hist[f, b, 2]
                if n < least or h < LEAST_CURVATURE:                                          # (5)
                    continue
                if count - n < least or H - h < LEAST_CURVATURE:
                    break  # and it only gets worse to the right
                a, c = h + ridge, H - h + ridge
                gain = (g * g * c + (G - g) * (G - g) * a) / (a * c) - here  # (4) with one division
                if gain > best:
                    best = gain
                    found[f, 0], found[f, 1], found[f, 2] = gain, b, to_left
                    found[f, 3], found[f, 4], found[f, 5] = g, h, n


@Kernel(outputs=2)
def part_rows(parted, parted_slopes, rows, slopes, bins, cut, missing_left):
    """Rows with a bin up to `cut` first, the others from the end backwards; bins (N,)."""
    b = bins[rows]
    left = np.where(b == MISSING, missing_left, b <= cut).astype(bool)
    order = np.concatenate([np.flatnonzero(left), np.flatnonzero(~left)[::-1]])
    parted[...] = rows[order]
    parted_slopes[...] = slopes[order]


@part_rows.body("numba")
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
    x = random.standard_normal((rows, features))
    edges, used = find_edges(x, np.ones(rows))
    bins = empty((features, rows), np.uint8)
    slopes = random.uniform(0.1, 1, (rows, 2))
    hist, found = empty((features, BINS, 3), np.float64), empty((features, 6), np.float64)
    parted, parted_slopes, columns = np.arange(rows), slopes.copy(), np.ascontiguousarray(x.T)
    calls = {"bins": (put_in_bins, bins, columns, edges),
             "sums": (sum_histograms, hist, bins, random.permutation(rows), slopes),
             "cuts": (find_cuts, found, hist, used, 20, 0.0),
             "parts": (part_rows, parted, parted_slopes, np.arange(rows), slopes, bins[0], 99, 0)}
    for name, (kernel, *args) in calls.items():
        times = []
        for _ in range(rounds):
            start = perf_counter()
            kernel(*args)
            times.append(perf_counter() - start)
        yield f"{name}_us={median(times) * 1e6:.0f}"


if __name__ == "__main__":
    print(" ".join(_measure()))
