"""Lesson 4.109 · t-SNE: a map on which neighbours stay neighbours

Needs barnes_hut, decompose, estimator, inputs, kernel, loops. Used by tests/ml/test_tsne.py.

Idea      A table of many columns is to be drawn on paper. Distances cannot all be kept; t-SNE keeps
          who is whose neighbour. Around each row lies a bell, just so wide that it holds a given
          number of neighbours (the perplexity), which turns distances into probabilities. On the
          map, points are neighbours by a curve with a heavy tail: what is moderately far in the
          table may lie very far on the map, or there would be no room. Then the points move until
          the two sets of probabilities agree: neighbours attract, all points repel each other.
          Attraction is a sum over neighbours; repulsion is over all pairs, which lesson barnes_hut
          computes nearly right in a fraction of the time.
Math      p(j|i) = exp(−βᵢ·dᵢⱼ²)/Σ, dᵢⱼ = ‖xᵢ − xⱼ‖, βᵢ such that −Σ p·log p = log perplexity   (1)
          pᵢⱼ = (p(j|i) + p(i|j))/2n      qᵢⱼ = tᵢⱼ/Z,  tᵢⱼ = 1/(1 + ‖yᵢ − yⱼ‖²),  Z = Σ t       (2)
          KL = Σ pᵢⱼ·log(pᵢⱼ/qᵢⱼ), the Kullback-Leibler divergence: 0 where p = q, else more   (3)
          ∂KL/∂yᵢ = 4·Σⱼ pᵢⱼ·tᵢⱼ·(yᵢ − yⱼ) − 4/Z·Σⱼ tᵢⱼ²·(yᵢ − yⱼ)                             (4)
          gain += 0.2 where gradient and velocity point against each other, else gain ·= 0.8
          velocity ← momentum·velocity − rate·gain·gradient        y += velocity               (5)
Shapes    x (n, p) · y (n, m), m = 1, 2 or 3 · P by rows: begins, ends (n,), columns, values
Pitfalls  Distances between groups, and their sizes, mean nothing on the map: every group is drawn
          about equally dense. Clusters appear in pure noise if the perplexity is small.
          A row far from all others has p(j|i) near zero for all j if ‖xᵢ − xⱼ‖² is not reduced by
          the smallest of them first: then (1) divides zero by zero.
          From a random start the large arrangement is luck; the first two components are better.
          In the first 250 rounds p is 12 times too large (exaggeration): groups contract and can
          pass through each other. Without it they stay torn. Such strong forces make
          the gains small, which would hold the points for hundreds of rounds after it: so velocity
          and gain start anew.
Cost      A round: the pairs of neighbours, 3·perplexity a point, and the repulsion of lesson
          barnes_hut. Neighbours, once: n² distances as a matrix product.
Try       build it    give the map of new rows: a net that is trained on x → y.
          break it    leave out the exaggeration. How large is kl_divergence_ on the digits then?
          measure it  python -m tinygrad_edu.ml.tsne: seconds and KL, exactly and by the tree
See       van der Maaten, Hinton 2008 · Jacobs 1988 (gains) · Kobak, Berens 2019 (start, rate)
          · Wattenberg et al. 2016 "How to Use t-SNE Effectively"
"""

import numpy as np

from ..kernel import Kernel
from ..loops import exp
from .barnes_hut import repel
from .decompose import PCA
from .estimator import Estimator
from .inputs import check_random_state

TINY = 1e-30  # instead of 0 in a logarithm
EXAGGERATED = 250  # rounds
ROUNDS_OF_SEARCH = 64  # halvings of the interval of β
EVERY = 50  # rounds between two looks at KL


# ---- the table: who is whose neighbour ----------------------------------------------------------


@Kernel
def bells(p, d, entropy):
    low, high = np.zeros(len(d)), np.full(len(d), np.inf)
    beta = np.ones(len(d))
    for _ in range(ROUNDS_OF_SEARCH):
        weight = np.exp(-beta[:, None] * (d - d.min(1, keepdims=True)))
        p[...] = weight / weight.sum(1, keepdims=True)                                         # (1)
        found = -(p * np.log(np.maximum(p, TINY))).sum(1)
        low, high = np.where(found > entropy, (beta, high), (low, beta))
        beta = np.where(np.isinf(high), 2 * low, (low + high) / 2)


@bells.body("numba", rows="p d", grain=0)
def bells_numba(p, d, entropy):
    # With weights e^(−β·away) and their sum, −Σ p·log p = log sum + β·(mean of away).
    for i in range(d.shape[0]):
        nearest = d[i].min()
        low, high, beta = 0.0, np.inf, 1.0
        for _ in range(ROUNDS_OF_SEARCH):
            total, mean = 0.0, 0.0
            for j in range(d.shape[1]):
                away = d[i, j] - nearest
                p[i, j] = exp(-beta * away)
                total += p[i, j]
                mean += p[i, j] * away
            if np.log(total) + beta * mean / total > entropy:                                  # (1)
                low = beta
            else:
                high = beta
            before = beta
            beta = 2 * low if np.isinf(high) else (low + high) / 2
            if beta == before:  # the interval has no number left inside
                break
        for j in range(d.shape[1]):
            p[i, j] /= total


def neighbours(x, count):
    """(squared distances, rows) of the `count` nearest other rows of each row, in no order."""
    squares = np.einsum("ij,ij->i", x, x)
    block = max(1, 2**24 // len(x))  # of rows: their distances fill 128 MB
    rows = np.empty((len(x), count), np.int64)
    for low in range(0, len(x), block):
        part = x[low : low + block]
        d = squares - 2 * part @ x.T
        here = np.arange(len(part))
        d[here, low + here] = np.inf  # a row is no neighbour of itself
        rows[low : low + block] = np.argpartition(d, count - 1, axis=1)[:, :count]
    d = np.empty(rows.shape)  # once more, without the rounding of the product
    for column in range(count):
        d[:, column] = ((x - x[rows[:, column]]) ** 2).sum(1)
    return d, rows


def joint(x, perplexity, count):
    """(begins, ends, columns, values): P of (2) by rows, from the `count` nearest rows of each."""
    n = len(x)
    d, rows = neighbours(x, count)
    p = np.empty_like(d)
    bells(p, d / (d.mean() or 1.0), np.log(perplexity))  # β is searched from 1 on
    # A pair is one number, i·n + j. Those that occur both ways round are added up by sorting.
    pairs = np.arange(n)[:, None] * n + rows
    turned = rows * n + np.arange(n)[:, None]
    both, where = np.unique(np.concatenate([pairs, turned]), return_inverse=True)
    values = np.bincount(where.ravel(), np.concatenate([p, p]).ravel()) / (2 * n)              # (2)
    edges = np.searchsorted(both, np.arange(n + 1) * n)
    return edges[:-1], edges[1:], both % n, values


# ---- the map: forces ----------------------------------------------------------------------------


@Kernel(outputs=2)
def attraction(force, cost, rows, begins, ends, columns, values, y, told):
    for r, i in enumerate(rows):
        p, away = values[begins[r] : ends[r]], y[i] - y[columns[begins[r] : ends[r]]]
        t = 1 / (1 + (away * away).sum(1))                                                     # (2)
        force[r] = (p * t) @ away                                                              # (4)
        cost[r] = (p * np.log(np.maximum(p, TINY) / t)).sum() if told else 0                   # (3)


@attraction.body("numba", rows="force cost rows begins ends", grain=0)
def attraction_numba(force, cost, rows, begins, ends, columns, values, y, told):
    one = y.dtype.type(1)
    for r in range(rows.size):
        i = rows[r]
        fx, fy, fz, total = 0 * one, 0 * one, 0 * one, 0 * one
        for e in range(begins[r], ends[r]):
            j, p = columns[e], values[e]
            dx, dy, dz = y[i, 0] - y[j, 0], y[i, 1] - y[j, 1], y[i, 2] - y[j, 2]
            square = one + dx * dx + dy * dy + dz * dz
            fx += p / square * dx                                                              # (4)
            fy += p / square * dy
            fz += p / square * dz
            if told:
                total += p * np.log(max(p, TINY) * square)                                     # (3)
        force[r, 0], force[r, 1], force[r, 2], cost[r] = fx, fy, fz, total


class Map:
    """Points y (n, 3) that move until q agrees with P; of the three columns m are used."""

    def __init__(self, y, m, neighbours, theta):
        self.y = y
        self.m = m
        self.theta = theta
        self.neighbours = neighbours
        self.rest()

    def rest(self):
        """Forget how the points moved: when the exaggeration ends, the forces are others."""
        self.velocity, self.gain = np.zeros_like(self.y), np.ones_like(self.y)

    def gradient(self, exaggeration=1.0, told=False):
        """(gradient (4), KL): P counts `exaggeration` times; KL is 0 unless it is to be told."""
        force, cost = np.empty_like(self.y), np.empty(len(self.y))
        rows, values = np.arange(len(self.y)), self.neighbours[3]
        attraction(force, cost, rows, *self.neighbours, self.y, told)
        away, z = repel(self.y, self.m, self.theta)
        kl = cost.sum() + values.sum() * np.log(z.sum()) if told else 0.0                      # (3)
        return 4 * (exaggeration * force - away / z.sum()), float(kl)                          # (4)

    def step(self, gradient, rate, momentum):
        """Move the points, (5)."""
        against = gradient * self.velocity < 0
        self.gain = np.maximum(np.where(against, self.gain + 0.2, self.gain * 0.8), 0.01)
        self.velocity = momentum * self.velocity - rate * self.gain * gradient                 # (5)
        self.y += self.velocity


class TSNE(Estimator):
    """A map of the rows on which neighbours stay neighbours.

    perplexity: how many neighbours a row has, about. early_exaggeration: of P, in the first 250
    rounds. learning_rate: "auto" is n/exaggeration/4, at least 50. init: "pca", "random" or points
    (n, n_components). method: "barnes_hut" with `angle` θ, or "exact". The end: max_iter rounds, a
    gradient below min_grad_norm, or n_iter_without_progress rounds. verbose: show a progress bar.
    Has embedding_, kl_divergence_, n_iter_. Raises ValueError where rows ≤ perplexity.
    """

    def __init__(self, n_components=2, *, perplexity=30.0, early_exaggeration=12.0,
                 learning_rate="auto", max_iter=1000, n_iter_without_progress=300,
                 min_grad_norm=1e-7, init="pca", verbose=False, random_state=None,
                 method="barnes_hut", angle=0.5):
        self.n_components = n_components
        self.perplexity = perplexity
        self.early_exaggeration = early_exaggeration
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.n_iter_without_progress = n_iter_without_progress
        self.min_grad_norm = min_grad_norm
        self.init = init
        self.verbose = verbose
        self.random_state = random_state
        self.method = method
        self.angle = angle

    def fit(self, X, y=None):
        """Draw the map."""
        self.fit_transform(X)
        return self

    def fit_transform(self, X, y=None):
        """The map: (n, n_components)."""
        m = self.number("n_components", 1, 3, whole=True)
        exact = self.choice("method", "barnes_hut", "exact") == "exact"
        perplexity = self.number("perplexity", 0, open_low=True)
        X, _, _ = self.check_fit(X, least=2)
        n = len(X)
        if perplexity >= n:
            raise ValueError(f"perplexity ({perplexity}) must be less than n_samples ({n})")
        count = n - 1 if exact else min(n - 1, int(3 * perplexity + 1))
        theta = 0.0 if exact else self.number("angle", 0, 1)
        self._map = Map(self._start(X, m), m, joint(X, perplexity, count), theta)
        self._run(self.number("early_exaggeration", 1), self.number("max_iter", 1, whole=True))
        self.embedding_ = self._map.y[:, :m].copy()
        del self._map
        return self.embedding_

    def _start(self, X, m):
        """Where the points begin: (n, 3), very near each other, unless they were given."""
        y = np.zeros((len(X), 3))  # kernels take three coordinates
        generator = check_random_state(self.random_state)
        if not isinstance(self.init, str):
            y[:, :m] = np.asarray(self.init, float)
        elif self.choice("init", "pca", "random") == "random" or X.shape[1] < m:
            y[:, :m] = 1e-4 * generator.standard_normal((len(X), m))
        else:
            scores = PCA(m, random_state=generator).fit(X).transform(X)
            y[:, : scores.shape[1]] = 1e-4 * scores / (scores[:, 0].std() or 1.0)
        return y

    def _run(self, exaggeration, rounds):
        """Move the points to the end, and write down how it went.

        KL costs a logarithm a pair, so it is looked at every EVERY rounds. While p is exaggerated
        it measures something else, and no round counts as the last.
        """
        from tqdm import trange

        rate = self.learning_rate
        if isinstance(rate, str):
            self.choice("learning_rate", "auto")
            rate = max(len(self._map.y) / exaggeration / 4, 50.0)
        else:
            self.number("learning_rate", 0, open_low=True)
        best, best_round = np.inf, 0
        for turn in trange(1, rounds + 1, disable=not self.verbose, desc="t-SNE"):
            early, look = turn <= EXAGGERATED, turn % EVERY == 0 or turn == rounds
            if turn == EXAGGERATED + 1:
                self._map.rest()
            gradient, kl = self._map.gradient(exaggeration if early else 1.0, look)
            self._map.step(gradient, rate, 0.5 if early else 0.8)
            if look and not early:  # is it still getting better?
                if kl < best:
                    best, best_round = kl, turn
                if turn - best_round > self.n_iter_without_progress or (
                        np.linalg.norm(gradient) <= self.min_grad_norm):
                    break
        self.n_iter_, self.kl_divergence_ = turn, self._map.gradient(told=True)[1]


if __name__ == "__main__":
    from time import perf_counter

    generator = np.random.default_rng(0)
    x = generator.standard_normal((2000, 20)) + 4 * np.eye(20)[np.arange(2000) % 10]
    for method in ("exact", "barnes_hut"):
        TSNE(method=method, max_iter=2).fit(x)  # compile
        start = perf_counter()
        found = TSNE(method=method, random_state=0).fit(x).kl_divergence_
        took = perf_counter() - start
        print(f"method={method} points={len(x)} seconds={took:.1f} kl={found:.3f}")
