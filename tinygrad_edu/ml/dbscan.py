"""Lesson 4.106 · DBSCAN: groups of any shape, and rows that belong to none

Needs estimator, kernel, loops. Used by tests/ml/test_dbscan.py.

Idea      k-means looks for balls and puts every row into one. Two moons, a ring around a dot, a
          stray row far away: it cuts them wrongly. Here a group is wherever rows stand close
          together. A row with enough others near it is a core; cores near each other belong
          together, and so on from core to core; a row near a core joins it as its border; what is
          left is noise. Nobody has to say how many groups there are.
          So all pairs of rows within a distance are needed. To look at every pair would be n² of
          them. Instead the rows are laid into strips as wide as that distance, and sorted within
          each: whoever is near stands in the own strip or in one beside it, in a short window.
Math      near(i, t): d(xᵢ, xₜ) ≤ ε, a row is near itself                                      (1)
          d = √Σⱼ(aⱼ − bⱼ)² | Σⱼ|aⱼ − bⱼ| | maxⱼ|aⱼ − bⱼ|     all are ≥ |aⱼ − bⱼ| for each j    (2)
          core(i): Σ wₜ over the rows near i ≥ min_samples                                     (3)
          cluster = cores joined by near, directly or through others; numbered by first row    (4)
          border: the smallest number of a cluster with a core near it; none: −1, noise        (5)
Shapes    x (n, p) · labels (n,) · how: (metric, limit), where the limit of d² is ε², else ε ·
          first, last (n, 3): the windows of each row in its own strip and the two beside it, for
          rows in the order of the strips
Pitfalls  ε has the unit of the columns: scale them. One ε for all: of a dense and a loose group it
          serves one.
          A border row near two clusters belongs to whichever came first: (5) makes that a rule
          and the result independent of the order in which rows are visited.
          In many columns all distances are alike, and no ε separates anything.
          A window computed by rounded numbers must be a hair too wide, or pairs at exactly ε are
          lost; (1) decides on the pairs themselves.
Cost      Pairs in three windows: about n²·6ε²/(area) for rows spread evenly over the two widest
          columns. Nothing is stored for a pair, so memory is O(n). Joining uses a forest of
          parents (union-find), nearly O(1) a pair, and skips pairs that are joined already.
Try       build it    choose ε: sort the distance to the min_samples-th nearest row, draw it, and
                      look for the knee.
          break it    leave the strip above out of the window. Which test notices?
          measure it  time fit on 10³, 10⁴ and 10⁵ rows of two moons, with ε for 20 neighbours each.
See       Ester et al. 1996 · Schubert et al. 2017 "DBSCAN revisited" · Tarjan 1975 (union-find)
"""

import numpy as np

from ..kernel import Kernel
from ..loops import helper
from .estimator import Clusterer

EUCLIDEAN, MANHATTAN, CHEBYSHEV = range(3)
METRICS = {
    "euclidean": EUCLIDEAN,
    "manhattan": MANHATTAN,
    "chebyshev": CHEBYSHEV,
}
SLACK = 1e-9  # by which strips and windows are too wide


@helper
def are_near(x, i, t, how):
    metric, limit = how
    total = x.dtype.type(0)
    for j in range(x.shape[1]):                                                                # (2)
        away = abs(x[i, j] - x[t, j])
        if metric == EUCLIDEAN:
            total += away * away
        elif metric == MANHATTAN:
            total += away
        else:
            total = max(total, away)
    return total <= limit                                                                      # (1)


def near(x, i, first, last, how):
    """The rows of the windows of row i that are near it, by (1). how: (metric, limit)."""
    metric, limit = how
    rows = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    away = np.abs(x[rows] - x[i])
    if metric == EUCLIDEAN:
        d = (away * away).sum(1)  # the limit is ε²
    elif metric == MANHATTAN:
        d = away.sum(1)
    else:
        d = away.max(1)
    return rows[d <= limit]


@Kernel
def mass_near(mass, rows, first, last, x, w, how):
    for r, i in enumerate(rows):
        mass[r] = w[near(x, i, first[r], last[r], how)].sum()                        # (3)


@mass_near.body("numba", rows="mass rows first last", grain=0)
def mass_near_numba(mass, rows, first, last, x, w, how):
    for r in range(rows.size):
        mass[r] = 0
        for s in range(first.shape[1]):
            for t in range(first[r, s], last[r, s]):
                if are_near(x, rows[r], t, how):
                    mass[r] += w[t]                                                            # (3)


@Kernel
def join_cores(parent, first, last, x, core, how):
    parent[:] = np.arange(len(parent))  # each row alone; at the end, the first row of its cluster
    for i in np.flatnonzero(core):
        rows = near(x, i, first[i], last[i], how)
        roots = np.unique(parent[rows[core[rows]]])
        parent[np.isin(parent, roots)] = roots[0]                                              # (4)


@join_cores.body("numba")
def join_cores_numba(parent, first, last, x, core, how):
    for i in range(parent.size):
        parent[i] = i
    for i in range(parent.size):
        if core[i]:
            for s in range(first.shape[1]):
                for t in range(max(first[i, s], i + 1), last[i, s]):
                    if core[t]:
                        a = root(parent, i)
                        b = root(parent, t)
                        if a != b and are_near(x, i, t, how):
                            parent[max(a, b)] = min(a, b)                                      # (4)
    for i in range(parent.size):
        parent[i] = root(parent, i)


@helper
def root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]  # the path is halved for the next one who asks
        i = parent[i]
    return i


@Kernel
def adopt(labels, rows, first, last, x, of_core, how):
    for r, i in enumerate(rows):
        found = of_core[near(x, i, first[r], last[r], how)]
        found = found[found >= 0] if of_core[i] < 0 else of_core[i : i + 1]
        labels[r] = found.min() if len(found) else -1                                          # (5)


@adopt.body("numba", rows="labels rows first last", grain=0)
def adopt_numba(labels, rows, first, last, x, of_core, how):
    for r in range(rows.size):
        labels[r] = of_core[rows[r]]
        if labels[r] < 0:
            for s in range(first.shape[1]):
                for t in range(first[r, s], last[r, s]):
                    better = of_core[t] >= 0 and (labels[r] < 0 or of_core[t] < labels[r])
                    if better and are_near(x, rows[r], t, how):
                        labels[r] = of_core[t]                                                 # (5)


def strips(x, eps):
    """(order, first, last): the rows in the order of their strips, and the windows there.

    Strips run along the widest column, and the second widest says in which one a row lies.
    """
    n, p = x.shape
    wide = np.argsort(-np.ptp(x, axis=0), kind="stable")
    along = x[:, wide[0]] - x[:, wide[0]].min()
    reach = eps + SLACK * (eps + along.max())
    strip = np.zeros(n)
    if p > 1:
        across = x[:, wide[1]] - x[:, wide[1]].min()
        strip = np.floor(across / (eps + SLACK * (eps + across.max())))
    order = np.lexsort((along, strip))
    strip, along = strip[order], along[order]
    there, place = np.unique(strip, return_inverse=True)  # empty strips take no room
    length = along.max() + 3 * reach  # a window at the end of a strip does not reach the next
    key = place * length + along
    first, last = np.zeros((2, n, 3), np.int64)
    for column, beside in enumerate((-1, 0, 1)):
        place = np.minimum(np.searchsorted(there, strip + beside), len(there) - 1)
        found = there[place] == strip + beside
        at = (place * length + along)[found]
        first[found, column] = np.searchsorted(key, at - reach)
        last[found, column] = np.searchsorted(key, at + reach, side="right")
    return order, first, last


class DBSCAN(Clusterer):
    """Groups of rows that stand close together, and noise.

    eps: ε. min_samples: of (3), the row itself counts. metric: "euclidean", "manhattan" or
    "chebyshev". Has labels_ (−1 is noise), core_sample_indices_, components_ (the cores' rows).
    """

    def __init__(self, eps=0.5, *, min_samples=5, metric="euclidean"):
        self.eps = eps
        self.min_samples = min_samples
        self.metric = metric

    def fit(self, X, y=None, sample_weight=None):
        """Find the groups."""
        eps = float(self.number("eps", 0, open_low=True))
        enough = self.number("min_samples", 1, whole=True)
        metric = METRICS[self.choice("metric", *METRICS)]
        X, _, w = self.check_fit(X, None, sample_weight)
        how = metric, eps * eps if metric == EUCLIDEAN else eps
        order, first, last = strips(X, eps)
        x, rows = np.ascontiguousarray(X[order]), np.arange(len(X))
        mass = np.empty(len(X))
        mass_near(mass, rows, first, last, x, w[order], how)
        # Three walks over the same windows: who is a core, which cores hang together, who joins.
        core = mass >= enough                                                                  # (3)
        parent, labels = np.empty((2, len(X)), np.int64)
        join_cores(parent, first, last, x, core, how)
        adopt(labels, rows, first, last, x, numbered(parent, core, order), how)
        self.labels_ = np.empty(len(X), np.int64)
        self.labels_[order] = labels
        self.core_sample_indices_ = np.sort(order[core])
        self.components_ = X[self.core_sample_indices_]
        return self


def numbered(parent, core, order):
    """The number of the cluster of each core, in the order of their first rows; −1 elsewhere: (4).
    """
    n = len(parent)
    numbers, first = np.full(n, -1), np.full(n, n)
    np.minimum.at(first, parent[core], order[core])
    _, numbers[core] = np.unique(first[parent[core]], return_inverse=True)
    return numbers
