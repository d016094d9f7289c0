"""Lesson 4.107 · Principal components: the directions in which a table really varies

Needs estimator, inputs. Used by tsne.

Idea      Ten columns that nearly repeat each other hold one number a row, not ten. Turn the axes so
          that the first points along the direction in which the rows differ most, the second along
          the most of what is left, and so on: the first few new columns then hold nearly all there
          is. These directions are eigenvectors of the covariance matrix, or, the same thing
          without squaring first, singular vectors of the table. Whitening divides each new column
          by its spread, so that afterwards all directions vary alike.
          If only a few directions are wanted of a large table, most of the work is wasted on the
          others. A random matrix times the table gives a few mixtures of all rows, and these lie
          almost in the space of the largest directions: decompose that small thing instead.
Math      X − mean = U·S·Vᵀ       components: rows of Vᵀ       variance along them: S²/(n − 1)   (1)
          covariance = (XᵀX − n·mean·meanᵀ)/(n − 1) = V·S²·Vᵀ/(n − 1)                          (2)
          scores = (X − mean)·V = U·S         whitened: scores/√variance                       (3)
          random: Y = X·Ω, Ω normal (p, k + 10);  Y ← X·(Xᵀ·Y), some times;  Q = an orthonormal
          basis of Y;  QᵀX = W·S·Vᵀ is small                                                   (4)
          truncated SVD: (1) without subtracting the mean, for tables of counts                (5)
Shapes    X (n, p) · components_ (k, p) · scores (n, k) · mean_ (p,)
Pitfalls  A direction has no sign. Here the largest entry of each is positive, so that two runs, and
          two libraries, agree. Directions of equal variance can be turned into each other: then no
          rule helps.
          (2) squares the numbers: variances below 10⁻¹⁶ of the largest are noise. And where the
          mean is far larger than the spread it subtracts two nearly equal things: then the mean is
          taken off first, which costs a copy of the table.
          Columns in other units have other variances: scale them, or grams beat kilograms.
          Y of (4) without an orthonormal basis after each product ends up along the first
          direction alone.
          Whitening multiplies the smallest directions most: noise becomes as large as anything.
Cost      (2): n·p² once, then p³; it wins for n ≥ 10·p. (1): some 10·n·p². (4): n·p·k a product.
Try       build it    PCA by the engine: minimise ‖X − X·W·Wᵀ‖² over W by gradients. Which W is it?
          break it    leave the mean in. What does the first component of a far-off cloud become?
          measure it  python -m tinygrad_edu.ml.decompose: the three ways, seconds and error
See       Pearson 1901 · Hotelling 1933 · Halko, Martinsson, Tropp 2011, algorithm 4.4 (random)
"""

import numpy as np

from .estimator import Transformer
from .inputs import check_random_state

SPARE = 10  # more random columns than directions are wanted
FAR = 1e4  # mean² beyond this many variances: (2) is not to be trusted
TALL, NARROW = 10, 1000  # (2) from 10 rows a column on, up to 1000 columns
SMALL = 500  # no side longer: (1) costs nothing


def signed(vectors):
    """The rows with the signs that make the largest entry of each positive."""
    largest = np.abs(vectors).argmax(1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    return vectors * np.where(signs == 0, 1, signs)[:, None]


def by_covariance(X, mean):
    """(S, Vᵀ) of (1) from the eigenvectors of (2), all of them."""
    product = X.T @ X
    spread = product.diagonal() - len(X) * mean**2
    if np.any(len(X) * mean**2 > FAR * spread):
        away = X - mean
        product = away.T @ away
    else:
        product -= len(X) * np.outer(mean, mean)                                               # (2)
    squares, vectors = np.linalg.eigh(product)
    return np.sqrt(np.maximum(squares[::-1], 0)), signed(vectors[:, ::-1].T)


def by_svd(X):
    """(S, Vᵀ) of (1), all of them; X has its mean taken off already."""
    _, s, vt = np.linalg.svd(X, full_matrices=False)
    return s, signed(vt)


def by_chance(X, k, rounds, generator):
    """(S, Vᵀ) of (4): the k largest, nearly."""
    width = min(k + SPARE, *X.shape)
    y = X @ generator.standard_normal((X.shape[1], width))
    for _ in range(rounds):
        y = X @ np.linalg.qr(X.T @ np.linalg.qr(y)[0])[0]                                      # (4)
    q, _ = np.linalg.qr(y)
    _, s, vt = np.linalg.svd(q.T @ X, full_matrices=False)
    return s[:k], signed(vt[:k])


class PCA(Transformer):
    """The directions of largest variance.

    n_components: how many; a float between 0 and 1: as many as hold that share of the variance;
    None: all, min(n, p). svd_solver: "covariance_eigh" (2), "full" (1), "randomized" (4), or
    "auto": (2) for tall tables, (4) for large ones of which less than 0.8 is wanted, else (1).
    iterated_power: products of (4). Has components_, explained_variance_, singular_values_,
    explained_variance_ratio_, mean_, noise_variance_ (the mean of what was left out),
    n_components_, n_samples_.
    """

    def __init__(self, n_components=None, *, whiten=False, svd_solver="auto",
                 iterated_power="auto", random_state=None):
        self.n_components = n_components
        self.whiten = whiten
        self.svd_solver = svd_solver
        self.iterated_power = iterated_power
        self.random_state = random_state

    def fit(self, X, y=None):
        """Find the directions."""
        X, _, _ = self.check_fit(X, least=2)
        n, p = X.shape
        wanted, solver = self._wanted(min(n, p)), self._solver(X.shape)
        self.mean_ = np.ones(n) @ X / n
        if solver == "covariance_eigh":
            s, vt = by_covariance(X, self.mean_)
            s, vt = s[: min(n, p)], vt[: min(n, p)]
        elif solver == "full":
            s, vt = by_svd(X - self.mean_)
        else:
            away = X - self.mean_
            rounds = self.iterated_power
            if isinstance(rounds, str):
                self.choice("iterated_power", "auto")
                rounds = 7 if wanted < 0.1 * min(n, p) else 4
            s, vt = by_chance(away, wanted, rounds, check_random_state(self.random_state))
        variance = s**2 / (n - 1)                                                              # (1)
        whole = variance.sum() if solver != "randomized" else np.vdot(away, away) / (n - 1)
        ratio = variance / whole if whole else np.zeros_like(variance)
        k = wanted
        if isinstance(wanted, float):
            k = min(np.searchsorted(np.cumsum(ratio), wanted, side="right") + 1, len(s))
        self.n_components_, self.n_samples_ = int(k), n
        self.components_, self.singular_values_ = np.ascontiguousarray(vt[:k]), s[:k]
        self.explained_variance_, self.explained_variance_ratio_ = variance[:k], ratio[:k]
        left = min(n, p) - k
        self.noise_variance_ = (whole - variance[:k].sum()) / left if left else 0.0
        return self

    def _wanted(self, most):
        """n_components as an int up to `most`, or as a float below 1."""
        wanted = self.n_components
        if wanted is None:
            return most
        if isinstance(wanted, float):
            if self.svd_solver == "randomized":
                raise ValueError(f"n_components={wanted!r} asks for a share of the variance, which "
                                 "svd_solver='randomized' does not see: give a number of columns")
            return self.number("n_components", 0, np.nextafter(1, 0), open_low=True)
        self.number("n_components", 1, whole=True)
        if wanted > most:
            raise ValueError(f"n_components={wanted!r} must be between 1 and min(n_samples, "
                             f"n_features)={most!r} with svd_solver={self.svd_solver!r}")
        return int(wanted)

    def _solver(self, shape):
        """Which of the three ways."""
        name = self.choice("svd_solver", "auto", "full", "covariance_eigh", "randomized")
        n, p = shape
        if name != "auto":
            return name
        if n >= TALL * p and p <= NARROW:
            return "covariance_eigh"
        wanted = self._wanted(min(n, p))
        some = not isinstance(wanted, float) and wanted < 0.8 * min(n, p)
        return "randomized" if some and max(n, p) > SMALL else "full"

    def _scale(self):
        """What a score is divided by when whitening."""
        floor = np.finfo(float).eps
        return np.sqrt(np.maximum(self.explained_variance_, floor)) if self.whiten else 1.0

    def transform(self, X):
        """The scores (3) of each row: (n, k)."""
        return (self.check_X(X) - self.mean_) @ self.components_.T / self._scale()             # (3)

    def inverse_transform(self, X):
        """Rows again from scores: what the components kept of them."""
        self.check_fitted()
        return np.asarray(X) * self._scale() @ self.components_ + self.mean_


class TruncatedSVD(Transformer):
    """The largest singular vectors of the table itself, (5), for counts of words and the like.

    algorithm: "randomized" (4) with n_iter products, or "exact". Has components_,
    explained_variance_ (of the scores), explained_variance_ratio_, singular_values_.
    """

    def __init__(self, n_components=2, *, algorithm="randomized", n_iter=5, random_state=None):
        self.n_components = n_components
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.random_state = random_state

    def fit(self, X, y=None):
        """Find the directions."""
        self.fit_transform(X)
        return self

    def fit_transform(self, X, y=None):
        """The scores of these rows."""
        X, _, _ = self.check_fit(X, least=2)
        k = self.number("n_components", 1, whole=True)
        if k > X.shape[1]:
            raise ValueError(f"n_components({k}) must be <= n_features({X.shape[1]})")
        if self.choice("algorithm", "randomized", "exact") == "exact":
            s, vt = by_svd(X)
        else:
            generator = check_random_state(self.random_state)
            s, vt = by_chance(X, k, self.number("n_iter", 0, whole=True), generator)
        self.singular_values_, self.components_ = s[:k], np.ascontiguousarray(vt[:k])
        scores = X @ self.components_.T
        self.explained_variance_ = scores.var(0)
        whole = X.var(0).sum()
        self.explained_variance_ratio_ = self.explained_variance_ / (whole or 1.0)
        return scores

    def transform(self, X):
        """The scores of each row: (n, k)."""
        return self.check_X(X) @ self.components_.T

    def inverse_transform(self, X):
        """Rows again from scores."""
        self.check_fitted()
        return np.asarray(X) @ self.components_


if __name__ == "__main__":
    from time import perf_counter

    generator = np.random.default_rng(0)
    factors = generator.standard_normal((1500, 20)) * 0.8 ** np.arange(20)
    x = factors @ generator.standard_normal((20, 1200))
    x += 0.1 * generator.standard_normal(x.shape)
    exact = PCA(10, svd_solver="full").fit(x).explained_variance_
    for solver in ("full", "covariance_eigh", "randomized"):
        start = perf_counter()
        found = PCA(10, svd_solver=solver, random_state=0).fit(x).explained_variance_
        took = perf_counter() - start
        print(f"{solver}: ms={took * 1e3:.0f} error={abs(found / exact - 1).max():.0e}")
