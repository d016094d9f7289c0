"""Lesson 4.103 · k-means: groups around centres, and distances that need not be computed

Needs estimator, inputs, kernel. Used by mixture.

Idea      Find k points, the centres, such that the rows lie close to the nearest one. Two steps
          take turns: each row goes to its nearest centre; each centre goes to the mean of its rows.
          Neither step makes the sum of squares larger, so it ends, somewhere: in a valley that
          depends on the start. A good start (k-means++) draws centres far from each other: each
          next one from the rows, with probability proportional to the squared distance.
          After a few turns almost no row changes sides, yet all distances are computed again. A
          row that lay close to its centre and far from the others cannot change sides while the
          centres have moved by less than the difference: two bounds a row, corrected by how far
          the centres moved, prove it, and its numbers need not even be read.
Math      inertia = Σᵢ wᵢ·‖xᵢ − c(labelᵢ)‖²                                                    (1)
          labelᵢ = argmin ‖xᵢ − c‖, the first of equals      c = Σ wᵢ·xᵢ/Σ wᵢ over its rows    (2)
          upper ≥ distance to the own centre      lower ≤ distance to any other
          upper += what the own centre moved      lower −= the most that another one moved     (3)
          upper < max(lower, half the way to the next centre)  ⇒  the label stays              (4)
          start: candidate i with probability wᵢ·dᵢ²/Σ w·d², d to the nearest centre so far;
          of 2 + ⌊ln k⌋ candidates the one that leaves the smallest Σ w·d²                     (5)
          the end: no label changed, or Σ ‖moved‖² ≤ tol·(mean variance of the columns)        (6)
Shapes    x (n, p) · centers (k, p) · labels, upper, lower (n,) · delta (k, p) and mass (k,): what
          the rows that changed sides add to the sums of (2)
Pitfalls  A centre may lose all its rows. It is put on the row that is farthest from its own.
          A row as far from two centres goes to the first by (2). With ≤ in (4) it would stay where
          it was, and rounding in (3) decides such cases, too: hence a margin for the bounds.
          The column with the largest numbers decides, so scale first. Means of columns are
          subtracted before anything else, or distances lose their digits.
          The sums of (2) are corrected by the rows that changed sides, so errors of rounding stay
          in them. A hundred turns leave 10⁻¹⁴ of a centre; data in float32 would need fresh sums.
Cost      A turn of plain Lloyd is n·k·p multiplications. With bounds most rows cost two comparisons
          after a few turns: python -m tinygrad_edu.ml.cluster; beside scikit-learn:
          python scripts/bench_ml.py kmeans --vs sklearn
Try       build it    keep a lower bound for each centre (Elkan 2003). For which k does it win?
          break it    correct lower by the distance that the own centre moved. Which test notices?
          measure it  python -m tinygrad_edu.ml.cluster: algorithm="lloyd" forgets its bounds
See       Lloyd 1982 · Arthur, Vassilvitskii 2007 (k-means++) · Elkan 2003 · Hamerly 2010, algorithm
          1 (two bounds)
"""

import numpy as np

from ..kernel import Kernel
from .estimator import Clusterer
from .inputs import ConvergenceWarning, check_random_state, check_weights, warn

MARGIN = 1 + 1e-9  # a bound is believed if it holds with this to spare


@Kernel
def squared_distances(d, x, centers):
    for c in range(len(centers)):
        d[:, c] = ((x - centers[c]) ** 2).sum(1)


@squared_distances.body("numba", rows="d x")
def squared_distances_numba(d, x, centers):
    for i in range(x.shape[0]):
        for c in range(centers.shape[0]):
            total = x.dtype.type(0)
            for j in range(x.shape[1]):
                e = x[i, j] - centers[c, j]
                total += e * e
            d[i, c] = total


@Kernel(outputs=3, inout="labels upper lower")
def reassign(delta, mass, changed, labels, upper, lower, x, w, centers, moved, others, half):
    upper += moved[labels]                                                                     # (3)
    lower -= others[labels]
    doubtful = np.flatnonzero(upper * MARGIN >= np.maximum(lower, half[labels]))               # (4)
    d = np.empty((len(doubtful), len(centers)), x.dtype)
    squared_distances(d, x[doubtful], centers)
    before, after = labels[doubtful], d.argmin(1)                                              # (2)
    labels[doubtful] = after
    ordered = np.sqrt(np.partition(d, min(1, len(centers) - 1), axis=1))
    upper[doubtful] = ordered[:, 0]
    lower[doubtful] = ordered[:, 1] if len(centers) > 1 else np.inf
    delta[...], mass[...], changed[0] = 0, 0, np.count_nonzero(before != after)
    rows, old, new = (a[before != after] for a in (doubtful, before, after))
    for labels_of, rows_of, sign in (new, rows, 1), (old[old >= 0], rows[old >= 0], -1):
        np.add.at(delta, labels_of, sign * w[rows_of, None] * x[rows_of])
        np.add.at(mass, labels_of, sign * w[rows_of])


@reassign.body("numba", rows="labels upper lower x w", sums="delta mass changed")
def reassign_numba(delta, mass, changed, labels, upper, lower, x, w, centers, moved, others, half):
    real, k = x.dtype.type, centers.shape[0]
    delta[:], mass[:], changed[0] = 0, 0, 0
    for i in range(x.shape[0]):
        before = labels[i]
        upper[i] += moved[before]                                                              # (3)
        lower[i] -= others[before]
        if upper[i] * MARGIN < max(lower[i], half[before]):                                    # (4)
            continue
        best, nearest, second = before, real(np.inf), real(np.inf)
        for c in range(k):
            total = real(0)
            for j in range(x.shape[1]):
                e = x[i, j] - centers[c, j]
                total += e * e
            if total < nearest:                                                                # (2)
                best, nearest, second = c, total, nearest
            elif total < second:
                second = total
        upper[i], lower[i] = np.sqrt(nearest), np.sqrt(second)
        if best != before:
            labels[i] = best
            changed[0] += 1
            mass[best] += w[i]
            for j in range(x.shape[1]):
                delta[best, j] += w[i] * x[i, j]
            if before >= 0:
                mass[before] -= w[i]
                for j in range(x.shape[1]):
                    delta[before, j] -= w[i] * x[i, j]


def distances_to(x, centers):
    """The squared distance of each row to each centre: (n, k)."""
    d = np.empty((len(x), len(centers)))
    squared_distances(d, np.ascontiguousarray(x), np.ascontiguousarray(centers))
    return d


def plus_plus(x, k, w, generator):
    """k rows that lie apart: (5)."""
    trials = 2 + int(np.log(k))
    centers = np.empty((k, x.shape[1]))
    centers[0] = x[generator.choice(len(x), p=w / w.sum())]
    nearest = distances_to(x, centers[:1])[:, 0]
    for c in range(1, k):
        sums = np.cumsum(w * nearest)
        drawn = np.searchsorted(sums, generator.random(trials) * sums[-1], side="right")
        drawn = np.minimum(drawn, len(x) - 1)  # where all rows lie on centres already
        closer = np.minimum(distances_to(x, x[drawn]).T, nearest)
        best = (closer @ w).argmin()
        centers[c], nearest = x[drawn[best]], closer[best]                                     # (5)
    return centers


class Turns:
    """The state of the two steps of (2) on rows x with weights w, from given centres."""

    def __init__(self, x, w, centers):
        self.x, self.w, self.centers = x, w, np.ascontiguousarray(centers)
        self.labels = np.full(len(x), -1, np.int32)
        self.lower, self.moved = np.zeros(len(x)), np.zeros(len(centers))
        self.upper = np.full(len(x), np.inf)
        self.sums, self.mass = np.zeros_like(self.centers), np.zeros(len(centers))

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


class KMeans(Clusterer):
    """k-means, from the best of `n_init` starts.

    init: "k-means++", "random" rows, or the centres themselves (k, p). n_init: "auto" is 1, for
    random rows 10. tol: of (6). algorithm: "hamerly", or "lloyd", which forgets the bounds of (3)
    after each turn and finds the same. Has cluster_centers_, labels_, inertia_, n_iter_.
    Raises ValueError where there are fewer rows than clusters.
    """

    def __init__(self, n_clusters=8, *, init="k-means++", n_init="auto", max_iter=300, tol=1e-4,
                 random_state=None, algorithm="hamerly"):
        self.n_clusters, self.init, self.n_init = n_clusters, init, n_init
        self.max_iter, self.tol = max_iter, tol
        self.random_state, self.algorithm = random_state, algorithm

    def fit(self, X, y=None, sample_weight=None):
        """Find the centres."""
        k = self.number("n_clusters", 1, whole=True)
        self.choice("algorithm", "hamerly", "lloyd")
        X, _, w = self.check_fit(X, None, sample_weight)
        if len(X) < k:
            raise ValueError(f"n_samples={len(X)} should be >= n_clusters={k}: ask for fewer "
                             "clusters")
        generator, mean = check_random_state(self.random_state), X.mean(0)
        x = X - mean
        best = None
        for _ in range(self._starts()):
            found = self._one_start(x, w, self._centers(x, mean, w, generator))
            best = found if best is None or found[0] < best[0] else best
        self.inertia_, centers, self.labels_, self.n_iter_ = best
        self.cluster_centers_ = centers + mean
        different = len(np.unique(self.labels_))
        if different < k:
            warn(ConvergenceWarning, f"Number of distinct clusters ({different}) found smaller "
                 f"than n_clusters ({k}): are there duplicate rows?")
        return self

    def _starts(self):
        if not isinstance(self.n_init, str):
            return self.number("n_init", 1, whole=True)
        self.choice("n_init", "auto")
        return 10 if isinstance(self.init, str) and self.init == "random" else 1

    def _centers(self, x, mean, w, generator):
        """Where the centres are to start."""
        if not isinstance(self.init, str):
            centers = np.asarray(self.init, float) - mean
            if centers.shape != (self.n_clusters, x.shape[1]):
                raise ValueError(f"The shape of the initial centers {centers.shape} does not match "
                                 f"({self.n_clusters}, {x.shape[1]}): clusters, features")
            return centers
        if self.choice("init", "k-means++", "random") == "k-means++":
            return plus_plus(x, self.n_clusters, w, generator)
        return x[generator.choice(len(x), self.n_clusters, replace=False, p=w / w.sum())]

    def _one_start(self, x, w, centers):
        """(inertia, centres, labels, turns) of one start."""
        turns, spread = Turns(x, w, centers), np.vdot(x, x) / x.size  # its columns have mean 0
        for turn in range(1, self.number("max_iter", 1, whole=True) + 1):
            if self.algorithm == "lloyd":
                turns.upper.fill(np.inf)
            changed = turns.assign()
            shift = turns.move()
            if changed == 0 or shift <= self.number("tol", 0) * spread:                        # (6)
                break
        d = distances_to(x, turns.centers)  # of the centres that are returned
        return float(w @ d.min(1)), turns.centers, d.argmin(1).astype(np.int32), turn          # (1)

    def transform(self, X):
        """The distance of each row to each centre: (n, k)."""
        return np.sqrt(distances_to(self.check_X(X), self.cluster_centers_))

    def fit_transform(self, X, y=None, sample_weight=None):
        """fit, and the distances of the same rows."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def predict(self, X):
        """The number of the nearest centre."""
        d = distances_to(self.check_X(X), self.cluster_centers_)
        return d.argmin(1).astype(np.int32)

    def score(self, X, y=None, sample_weight=None):
        """Minus the inertia (1) of these rows."""
        d = distances_to(self.check_X(X), self.cluster_centers_).min(1)
        return -float(check_weights(sample_weight, len(d)) @ d)                                # (1)


if __name__ == "__main__":
    from time import perf_counter

    x = np.random.default_rng(0).standard_normal((20_000, 40))
    x[:, :10] += 3 * np.random.default_rng(1).standard_normal((8, 10))[np.arange(20_000) % 8]
    KMeans(random_state=0, max_iter=2).fit(x)  # compile
    took = {}
    for algorithm in ("lloyd", "hamerly"):
        start = perf_counter()
        model = KMeans(random_state=0, algorithm=algorithm, tol=0).fit(x)
        took[algorithm] = (perf_counter() - start) / model.n_iter_ * 1e3
    print(f"turns={model.n_iter_} " + " ".join(f"{k}_ms={v:.2f}" for k, v in took.items()))
