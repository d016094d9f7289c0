"""Lesson 4.104 · k-means: groups around centres

Needs estimator, inputs, lloyd. Used by mixture.

Idea      Rows are to be sorted into k groups, and nobody says which. Let each group have a centre,
          and a row belong to the nearest: which centres make the sum of the squared distances
          smallest? Nobody can say without trying nearly all; the two steps of lesson lloyd lead
          downhill from any start, into the nearest valley. So the start matters. Random rows often
          put two centres into one group and none into another. k-means++ draws them apart: each
          next centre is a row drawn with a probability proportional to its squared distance from
          those that are there, and of a few such draws the best is taken.
Math      inertia = Σᵢ wᵢ·‖xᵢ − c(labelᵢ)‖²                                                    (1)
          start: candidate i with probability wᵢ·dᵢ²/Σ w·d², d to the nearest centre so far;
          of 2 + ⌊ln k⌋ candidates the one that leaves the smallest Σ w·d²                     (2)
          the end: no label changed, or Σ ‖moved‖² ≤ tol·(mean variance of the columns)        (3)
Shapes    X (n, p) · cluster_centers_ (k, p) · labels_ (n,) · transform (n, k)
Pitfalls  The column with the largest numbers decides, so scale first. Means of columns are
          subtracted before anything else, or distances lose their digits.
          k is not found by the inertia, which only falls as k grows. Look at it over k, or at
          groups that a second start finds again.
          Groups are balls of about one size: for other shapes see lessons mixture and dbscan.
          The numbers of the groups mean nothing; another seed permutes them.
Cost      The start is (2 + ln k)·k·n·p, a few turns' worth. Turns: a dozen where groups lie apart,
          hundreds where there are none: python -m tinygrad_edu.ml.cluster
Try       build it    mini-batches: let a hundred drawn rows pull their centres, each by 1/(rows it
                      has seen). How near does it come, and how soon?
          break it    draw the candidates of (2) evenly. How much larger is the inertia of eight
                      blobs, in the mean of twenty seeds?
          measure it  python -m tinygrad_edu.ml.cluster: algorithm="lloyd" forgets its bounds
See       Lloyd 1982 · Arthur, Vassilvitskii 2007 (k-means++) · Hamerly 2010 (bounds)
"""

import numpy as np

from .estimator import Clusterer
from .inputs import ConvergenceWarning, check_random_state, check_weights, warn
from .lloyd import Turns, distances_to


def plus_plus(x, k, w, generator):
    """k rows that lie apart: (2)."""
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
        centers[c], nearest = x[drawn[best]], closer[best]                                     # (2)
    return centers


class KMeans(Clusterer):
    """k-means, from the best of `n_init` starts.

    init: "k-means++", "random" rows, or the centres themselves (k, p). n_init: "auto" is 1, for
    random rows 10. tol: of (3). algorithm: "hamerly", or "lloyd", which forgets its bounds after
    each turn and finds the same. Has cluster_centers_, labels_, inertia_, n_iter_.
    Raises ValueError where there are fewer rows than clusters.
    """

    def __init__(self, n_clusters=8, *, init="k-means++", n_init="auto", max_iter=300, tol=1e-4,
                 random_state=None, algorithm="hamerly"):
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.algorithm = algorithm

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
        turns = Turns(x, w, centers)
        spread = np.einsum("ij,ij", x, x) / x.size  # its columns have mean 0
        for _ in range(self.number("max_iter", 1, whole=True)):
            if self.algorithm == "lloyd":
                turns.forget()
            changed = turns.assign()
            shift = turns.move()
            if changed == 0 or shift <= self.number("tol", 0) * spread:                        # (3)
                break
        d = distances_to(x, turns.centers)  # of the centres that are returned
        inertia, labels = float(np.sum(w * d.min(1))), d.argmin(1).astype(np.int32)            # (1)
        return inertia, turns.centers, labels, turns.count

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
