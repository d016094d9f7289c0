"""Lesson 4.103 · Lloyd's two steps, and distances that need not be computed

Needs kernel, loops. Used by cluster.

Idea      k points are to be put among the rows, the centres, such that each row lies close to one.
          Two steps take turns: each row goes to its nearest centre; each centre goes to the mean of
          its rows. Neither makes the sum of squared distances larger, so it ends.
          After a few turns almost no row changes sides, yet all distances are computed again. A
          row that lies close to its own centre and far from the others cannot change sides while
          the centres have moved by less than the difference. Two bounds for each row, corrected by
          how far the centres moved, prove it, and the row need not even be read. For the same
          reason the sums of the second step are not formed anew: who changed sides is taken from
          one sum and added to another.
Math      labelᵢ = argmin ‖xᵢ − c‖, the first of equals      c = Σ wᵢ·xᵢ/Σ wᵢ over its rows    (1)
          upper ≥ distance to the own centre      lower ≤ distance to any other
          upper += what the own centre moved      lower −= the most that another one moved     (2)
          upper < max(lower, half the way to the next centre)  ⇒  the label stays              (3)
Shapes    x (n, p) · centers (k, p) · w, labels, upper, lower (n,) · by centre, (k,): moved, half,
          others, the most that any of the others moved · what the rows that changed sides add to
          the sums of (1): delta (k, p) and mass (k,)
Pitfalls  A row as far from two centres goes to the first by (1). With ≤ in (3) it would stay where
          it was, and rounding in (2) decides such cases, too: hence a margin for the bounds.
          A centre may lose all its rows. It is put on the row that is farthest from its own.
          Sums that are corrected row by row keep the errors of rounding. A hundred turns leave
          10⁻¹⁴ of a centre in float64; in float32 they would have to be formed anew.
          ‖x‖² − 2·x·c + ‖c‖² is a matrix product, but loses the digits of small distances.
Cost      A plain turn is n·k·p multiplications. With bounds most rows cost two comparisons after a
          few turns: python -m tinygrad_edu.ml.cluster
Try       build it    keep a lower bound for each centre (Elkan 2003). For which k does it win?
          break it    correct lower by the distance that the own centre moved. Which test of
                      tests/ml/test_cluster.py notices?
          measure it  count the rows that (3) lets pass, turn by turn.
See       Lloyd 1982 · Elkan 2003 (bounds) · Hamerly 2010, algorithm 1 (two of them)
"""

import numpy as np

from ..kernel import Kernel
from ..loops import helper

MARGIN = 1 + 1e-9  # a bound is believed if it holds with this to spare


@Kernel
def squared_distances(d, x, centers):
    for c in range(len(centers)):
        d[:, c] = ((x - centers[c]) ** 2).sum(1)


@helper
def to_each_center(d, x, centers):
    """d (k,): the squared distances of one row. Four centres at a time read each number once, and
    their four sums do not wait for one another."""
    last = centers.shape[0] - 1
    for c in range(0, last + 1, 4):
        # Beyond the last centre that one is taken again, and written where it belongs.
        c1, c2, c3 = min(c + 1, last), min(c + 2, last), min(c + 3, last)
        here, next_1, next_2, next_3 = centers[c], centers[c1], centers[c2], centers[c3]
        s = t = u = v = x.dtype.type(0)
        for j in range(x.size):
            s += (x[j] - here[j]) ** 2
            t += (x[j] - next_1[j]) ** 2
            u += (x[j] - next_2[j]) ** 2
            v += (x[j] - next_3[j]) ** 2
        d[c], d[c1], d[c2], d[c3] = s, t, u, v


@squared_distances.body("numba", rows="d x")
def squared_distances_numba(d, x, centers):
    for i in range(x.shape[0]):
        to_each_center(d[i], x[i], centers)


@Kernel(outputs=3, inout="labels upper lower")
def reassign(delta, mass, changed, labels, upper, lower, x, w, centers, moved, others, half):
    upper += moved[labels]                                                                     # (2)
    lower -= others[labels]
    doubtful = np.flatnonzero(upper * MARGIN >= np.maximum(lower, half[labels]))               # (3)
    d = np.empty((len(doubtful), len(centers)), x.dtype)
    squared_distances(d, x[doubtful], centers)
    before, after = labels[doubtful], d.argmin(1)                                              # (1)
    labels[doubtful] = after
    ordered = np.sqrt(np.partition(d, min(1, len(centers) - 1), axis=1))
    upper[doubtful] = ordered[:, 0]
    lower[doubtful] = ordered[:, 1] if len(centers) > 1 else np.inf
    went = before != after
    changed[0] = np.count_nonzero(went)
    delta[...], mass[...] = 0, 0
    rows, old, new = doubtful[went], before[went], after[went]
    np.add.at(delta, new, w[rows, None] * x[rows])
    np.add.at(mass, new, w[rows])
    rows, old = rows[old >= 0], old[old >= 0]  # at first they belong to none
    np.subtract.at(delta, old, w[rows, None] * x[rows])
    np.subtract.at(mass, old, w[rows])


@reassign.body("numba", rows="labels upper lower x w", sums="delta mass changed")
def reassign_numba(delta, mass, changed, labels, upper, lower, x, w, centers, moved, others, half):
    real, d = x.dtype.type, np.empty(centers.shape[0], x.dtype)
    delta[:] = 0
    mass[:] = 0
    changed[0] = 0
    for i in range(x.shape[0]):
        before = labels[i]
        upper[i] += moved[before]                                                              # (2)
        lower[i] -= others[before]
        if upper[i] * MARGIN < max(lower[i], half[before]):                                    # (3)
            continue
        best, nearest, second = before, real(np.inf), real(np.inf)
        to_each_center(d, x[i], centers)
        for c in range(d.size):
            if d[c] < nearest:                                                                 # (1)
                best, second = c, nearest
                nearest = d[c]
            elif d[c] < second:
                second = d[c]
        upper[i] = np.sqrt(nearest)
        lower[i] = np.sqrt(second)
        if best == before:
            continue
        labels[i] = best
        changed[0] += 1
        mass[best] += w[i]
        for j in range(x.shape[1]):
            delta[best, j] += w[i] * x[i, j]
        if before >= 0:  # at first it belongs to none
            mass[before] -= w[i]
            for j in range(x.shape[1]):
                delta[before, j] -= w[i] * x[i, j]


def distances_to(x, centers):
    """The squared distance of each row to each centre: (n, k)."""
    d = np.empty((len(x), len(centers)))
    squared_distances(d, np.ascontiguousarray(x), np.ascontiguousarray(centers))
    return d


class Turns:
    """The state of the two steps of (1) on rows x with weights w, from given centres; a counter.

    After `forget` all distances of the next turn are computed.
    """

    def __init__(self, x, w, centers):
        self.x, self.w, self.centers = x, w, np.ascontiguousarray(centers)
        self.count = 0
        self.labels = np.full(len(x), -1, np.int32)
        self.upper, self.lower = np.full(len(x), np.inf), np.zeros(len(x))
        self.moved = np.zeros(len(centers))
        self.sums, self.mass = np.zeros_like(self.centers), np.zeros(len(centers))

    def forget(self):
        """Bounds that prove nothing."""
        self.upper.fill(np.inf)

    def assign(self):
        """Rows to their nearest centres; returns how many changed sides."""
        k = len(self.centers)
        between = distances_to(self.centers, self.centers)
        np.fill_diagonal(between, np.inf)
        others = np.full(k, self.moved.max())
        if k > 1:
            others[self.moved.argmax()] = np.partition(self.moved, -2)[-2]
        delta, mass, changed = np.empty_like(self.sums), np.empty(k), np.empty(1, np.int64)
        reassign(delta, mass, changed, self.labels, self.upper, self.lower, self.x, self.w,
                 self.centers, self.moved, others, np.sqrt(between.min(1)) / 2)
        self.count += 1
        self.sums += delta
        self.mass += mass
        return int(changed[0])

    def move(self):
        """Centres to the means of their rows; returns Σ ‖moved‖²."""
        sums, mass = self.sums.copy(), self.mass.copy()
        empty = np.bincount(self.labels, self.w, len(mass)) == 0
        mass[empty] = 0
        if empty.any():
            self._fill(np.flatnonzero(empty), sums, mass)
        centers = np.where(mass[:, None] > 0, sums / np.where(mass, mass, 1)[:, None], self.centers)
        squares = ((centers - self.centers) ** 2).sum(1)
        self.centers, self.moved = centers, np.sqrt(squares)
        return squares.sum()

    def _fill(self, empty, sums, mass):
        """Each empty cluster gets the row that is farthest from its centre."""
        away = ((self.x - self.centers[self.labels]) ** 2).sum(1)
        if away.max() == 0:
            return
        far = np.argpartition(away, -len(empty))[: -len(empty) - 1 : -1]
        for c, row in zip(empty, far, strict=True):
            part = self.w[row] * self.x[row]
            sums[self.labels[row]] -= part
            mass[self.labels[row]] -= self.w[row]
            sums[c], mass[c] = part, self.w[row]
