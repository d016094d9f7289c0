"""Lesson 4.75 · Nearest neighbours, found in a k-d tree

Needs estimator, kernel, loops, memory, tree. Used by nothing.

Idea      To answer for a new row, look up the k most similar rows one has seen, and let them vote.
          There is nothing to learn; the work comes with the question. A k-d tree saves most of it:
          cut the points in two halves along the direction in which they spread most, each half
          again, and remember the box around each. A box that is farther away than the k-th
          neighbour found so far holds none that is nearer, and is skipped with all that is in it.
Math      d(a, b) = (Σ |aᵢ − bᵢ|ᵖ)^(1/p)                                                        (1)
          d(a, box) = (1) to the point of the box that is nearest: aᵢ clipped to [lowᵢ, highᵢ]  (2)
          predict = Σ over neighbours of weight·(vote) / Σ weight, weight 1 or 1/d              (3)
Shapes    points (N, F) in the tree's order · order (N,) their rows · boxes low, high (M, F), node i
          over points[start[i]:stop[i]], its halves 2i + 1 and 2i + 2 · answers (Q, k), nearest
          first
Pitfalls  Scale the features first: the one with the largest numbers decides (1).
          In many dimensions all points are about equally far away and no box can be skipped: beyond
          some fifteen features a plain pass over all points wins, and is what "auto" takes.
          A training row's nearest neighbour is itself: a score on the training rows says nothing.
          Equal distances: the row that came first is nearer, whatever the order in the tree.
          1/d of a point that was met before is infinite: then only such points vote.
Cost      Building N·log N; a question about log N boxes in few dimensions, N in many:
          python -m tinygrad_edu.ml.neighbours
Try       build it    radius_neighbours(X, r): all points nearer than r.
          break it    skip a box at >= instead of >. Which test notices?
          measure it  python -m tinygrad_edu.ml.neighbours
See       Cover, Hart 1967 "Nearest neighbor pattern classification" · Bentley 1975
          "Multidimensional binary search trees used for associative searching"
"""

import numpy as np

from ..kernel import Kernel
from ..loops import helper
from ..memory import empty, zeros
from .estimator import Classifier, Regressor
from .tree import keep_settings

MANY_FEATURES = 15  # beyond it, boxes are not worth looking at
DEEPEST = 64  # levels of a tree: 2⁶⁴ leaves


# ---- the tree -----------------------------------------------------------------------------------


class Boxes:
    """A k-d tree: points halved at the median of their widest direction, down to `leaf` points."""

    def __init__(self, points, leaf):
        levels = max(0, int(np.ceil(np.log2(max(1, len(points) / leaf)))))
        nodes = 2 ** (levels + 1) - 1
        self.order = np.arange(len(points))
        self.start, self.stop = zeros(nodes, np.int64), zeros(nodes, np.int64)
        self.low, self.high = (zeros((nodes, points.shape[1]), np.float64) for _ in range(2))
        self.stop[0] = len(points)
        # A node comes after its parent, which has given it its rows by then. One box alone holds
        # all points, and nobody asks where it ends.
        for node in range(nodes if levels else 0):
            start, stop = self.start[node], self.stop[node]
            inside = points[self.order[start:stop]]
            self.low[node], self.high[node] = inside.min(axis=0), inside.max(axis=0)
            if 2 * node + 2 < nodes:  # halve by the median: left, then right of it
                middle = (stop - start) // 2
                widest = np.argmax(self.high[node] - self.low[node])
                halves = np.argpartition(inside[:, widest], middle)
                self.order[start:stop] = self.order[start:stop][halves]
                self.start[2 * node + 1 : 2 * node + 3] = start, start + middle
                self.stop[2 * node + 1 : 2 * node + 3] = start + middle, stop
        self.points = points[self.order] if levels else points.copy()

    def nearest(self, queries, k, p=2):
        """(distances, rows), each (Q, k), nearest first."""
        distance, row = empty((len(queries), k), np.float64), empty((len(queries), k), np.int64)
        find_neighbours(distance, row, queries, self.points, self.order, self.low, self.high,
                        self.start, self.stop, p)
        return distance ** (1 / p), row


@Kernel(outputs=2)
def find_neighbours(distance, row, queries, points, order, low, high, start, stop, p):
    """The nearest rows and their distances to the power p, (1), by looking at every point."""
    for q in range(len(queries)):
        d = np.sum(np.abs(points - queries[q]) ** p, axis=1)
        nearest = np.lexsort((order, d))[: row.shape[1]]
        distance[q], row[q] = d[nearest], order[nearest]


@helper
def distance_between(a, b, p):
    """(1), to the power p; the usual p = 2 without calls, so that it is a vector loop."""
    total = 0.0
    if p == 2:
        for i in range(a.size):
            total += (a[i] - b[i]) * (a[i] - b[i])
    else:
        for i in range(a.size):
            total += abs(a[i] - b[i]) ** p
    return total


@helper
def distance_to_box(x, low, high, p):
    """(2), to the power p."""
    total = 0.0
    for i in range(x.size):
        gap = max(low[i] - x[i], 0.0, x[i] - high[i])
        total += gap * gap if p == 2 else gap**p
    return total


@helper
def keep_nearest(distance, row, d, n):
    """Put (d, n) into its place in the ascending lists, if it is nearer than the last."""
    i = distance.size - 1
    if d > distance[i] or (d == distance[i] and n > row[i]):
        return
    # The lists are short: what is farther moves down a place, one after another.
    while i > 0 and (distance[i - 1] > d or (distance[i - 1] == d and row[i - 1] > n)):
        distance[i], row[i] = distance[i - 1], row[i - 1]
        i -= 1
    distance[i], row[i] = d, n


@find_neighbours.body("numba", rows="distance row queries", grain=0)
def find_neighbours_numba(distance, row, queries, points, order, low, high, start, stop, p):
    """The boxes still to look at lie on a stack, each with how near its points can be at best."""
    # Of each box on the way down the other half may wait: as many as the tree is deep.
    todo, bound = np.empty(2 * DEEPEST, np.int64), np.empty(2 * DEEPEST)
    # An entry of the stack is a node and a bound: no point of its box is nearer than that. By the
    # time it is taken from the stack the k-th neighbour may be nearer, and the box is skipped.
    distance[:] = np.inf  # k places that every point is nearer than
    row[:] = order.size
    for q in range(len(queries)):
        x = queries[q]
        todo[0], bound[0], size = 0, 0.0, 1
        while size > 0:
            size -= 1
            node = todo[size]
            if bound[size] > distance[q, -1]:  # nothing in it is nearer
                continue
            if 2 * node + 1 >= start.size:  # not halved: look at its points
                for i in range(start[node], stop[node]):
                    d = distance_between(points[i], x, p)                                     # (1)
                    keep_nearest(distance[q], row[q], d, order[i])
                continue
            left, right = 2 * node + 1, 2 * node + 2
            to_left = distance_to_box(x, low[left], high[left], p)                            # (2)
            to_right = distance_to_box(x, low[right], high[right], p)
            near = left if to_left <= to_right else right
            todo[size], todo[size + 1] = left + right - near, near  # the nearer one comes first
            bound[size], bound[size + 1] = max(to_left, to_right), min(to_left, to_right)
            size += 2


# ---- estimators ---------------------------------------------------------------------------------


class Neighbours:
    """What neighbours that vote and neighbours that average share."""

    def remember(self, X):
        """Build the tree on checked rows."""
        self.number("n_neighbors", 1, whole=True)
        self.number("p", 1)
        self.choice("weights", "uniform", "distance")
        leaf = self.number("leaf_size", 1, whole=True)
        kind = self.choice("algorithm", "auto", "kd_tree", "brute")
        plain = kind == "brute" or kind == "auto" and X.shape[1] > MANY_FEATURES
        self.boxes_ = Boxes(X, max(1, len(X)) if plain else leaf)
        self.n_samples_fit_ = len(X)

    def kneighbors(self, X, n_neighbors=None, return_distance=True):
        """(distances, rows) of the nearest training rows of each row of X, each (N, k)."""
        X = self.check_X(X)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if k > self.n_samples_fit_:
            raise ValueError(f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {k}, "
                             f"n_samples_fit = {self.n_samples_fit_}: ask for fewer neighbours")
        distance, row = self.boxes_.nearest(X, k, self.p)
        return (distance, row) if return_distance else row

    def voters(self, X):
        """(rows, weights), each (N, k), with weights of (3)."""
        distance, row = self.kneighbors(X)
        if self.weights == "uniform":
            return row, np.ones_like(distance)
        met = distance == 0  # 1/d is infinite: such neighbours vote alone
        with np.errstate(divide="ignore"):
            return row, np.where(met.any(axis=1, keepdims=True), met, 1 / distance)


class KNeighborsClassifier(Neighbours, Classifier):
    """The n_neighbors nearest training rows vote. weights: "uniform", or "distance" for 1/d."""

    def __init__(self, n_neighbors=5, *, weights="uniform", algorithm="auto", leaf_size=30, p=2):
        keep_settings(self, locals())

    def fit(self, X, y):
        """Remember X (N, F) and labels y (N,)."""
        X, self.codes_, _ = self.check_fit(X, y)
        self.remember(X)
        return self

    def predict_proba(self, X):
        """(3), (N, K): the share of each class among the neighbours."""
        row, weight = self.voters(X)
        votes = np.zeros((len(row), len(self.classes_)))
        np.add.at(votes, (np.arange(len(row))[:, None], self.codes_[row]), weight)
        return votes / votes.sum(axis=1, keepdims=True)


class KNeighborsRegressor(Neighbours, Regressor):
    """The mean of the n_neighbors nearest training rows; settings as KNeighborsClassifier."""

    def __init__(self, n_neighbors=5, *, weights="uniform", algorithm="auto", leaf_size=30, p=2):
        keep_settings(self, locals())

    def fit(self, X, y):
        """Remember X (N, F) and numbers y (N,)."""
        X, self.targets_, _ = self.check_fit(X, y)
        self.remember(X)
        return self

    def predict(self, X):
        """(3), (N,)."""
        row, weight = self.voters(X)
        return np.sum(weight * self.targets_[row], axis=1) / weight.sum(axis=1)


def _measure(points=20_000, queries=500):
    from time import perf_counter

    random = np.random.default_rng(0)
    for features in (2, 5, 10, 20, 40):
        X, asked = (random.standard_normal((n, features)) for n in (points, queries))
        text = f"features={features}"
        for name, leaf in (("tree", 30), ("plain", points)):
            boxes = Boxes(X, leaf)
            boxes.nearest(asked[:1], 5)  # compiles
            start = perf_counter()
            boxes.nearest(asked, 5)
            text += f" {name}_us={(perf_counter() - start) / queries * 1e6:.1f}"
        yield text


if __name__ == "__main__":
    for line in _measure():
        print(line)
