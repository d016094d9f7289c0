"""Lesson 4.105 · Gaussian mixtures: soft groups, and the shape of each

Needs cluster, estimator, inputs. Used by tests/ml/test_mixture.py.

Idea      k-means gives each row to one centre, and all groups are balls of one size. Suppose
          instead that each row was drawn from one of k bell curves, each with its own centre,
          shape and share of the rows, and nobody wrote down which. If one knew the curves, one
          could say how likely each row came from each of them; if one knew that, one could fit each
          curve as a weighted mean and covariance. Neither is known, so guess one and take turns:
          expectation, maximisation. Each turn makes the data more likely, or leaves it.
Math      log p(x) = log Σ_c π_c·N(x; μ_c, Σ_c)                                                (1)
          log N(x; μ, Σ) = −½·(p·log 2π + ‖(x − μ)·U‖²) + log|U|,  U·Uᵀ = Σ⁻¹                  (2)
          Σ = L·Lᵀ (Cholesky), U = L⁻ᵀ, log|U| = −Σⱼ log Lⱼⱼ
          E: r_ic = π_c·N(xᵢ; μ_c, Σ_c)/p(xᵢ)                                                  (3)
          M: n_c = Σᵢ r_ic   π_c = n_c/n   μ_c = Σᵢ r_ic·xᵢ/n_c
             Σ_c = Σᵢ r_ic·(xᵢ − μ_c)(xᵢ − μ_c)ᵀ/n_c + ε·1                                     (4)
          the end: mean log p(x) grew by less than tol                                         (5)
          BIC = −2·Σ log p + f·log n      AIC = −2·Σ log p + 2·f,   f numbers were fitted      (6)
Shapes    x (n, p) · r (n, k) · means_ (k, p) · covariances_: "full" (k, p, p) · "tied" (p, p), one
          for all · "diag" (k, p) · "spherical" (k,)
Pitfalls  p(x) underflows in a few dozen columns: everything is done in logarithms, and (1) by
          log Σ eᶻ = m + log Σ eᶻ⁻ᵐ with m the largest z.
          A curve that sits on one row, or on rows in a plane, shrinks and its density grows
          without end: the likelihood has no maximum. ε keeps every covariance away from that.
          x² − mean² cancels where the mean is large; (4) subtracts first.
          The result is one valley of many, and the components come in any order.
Cost      A turn is n·k·p² operations for "full", n·k·p for "diag", matrix products nearly all.
          Turns: few for groups that lie apart, hundreds where they overlap.
Try       build it    draw the curves: an ellipse for each component from its eigenvectors.
          break it    leave out ε and fit as many components as rows. What is raised?
          measure it  BIC for 1 to 8 components of each type on three blobs: which wins, by much?
See       Dempster, Laird, Rubin 1977 (EM) · Bishop 2006, section 9.2 · Schwarz 1978 (BIC)
"""

import numpy as np

from .cluster import KMeans
from .estimator import Estimator
from .inputs import ConvergenceWarning, check_random_state, warn

FEW = 10 * np.finfo(float).eps  # added to n_c, which may be zero


def covariances(x, r, counts, means, kind, ridge):
    """Σ of (4) in the shape of its kind."""
    if kind == "tied":
        total = sum(_full(x, r[:, c], means[c]) for c in range(len(means)))
        return total / counts.sum() + ridge * np.eye(x.shape[1])
    if kind == "full":
        each = [_full(x, r[:, c], means[c]) / counts[c] for c in range(len(means))]
        return np.array(each) + ridge * np.eye(x.shape[1])
    diagonal = np.array([r[:, c] @ (x - mean) ** 2 for c, mean in enumerate(means)])
    diagonal = diagonal / counts[:, None] + ridge
    return diagonal if kind == "diag" else diagonal.mean(1)


def _full(x, weight, mean):
    away = x - mean
    return (weight[:, None] * away).T @ away                                                   # (4)


def whiteners(covariance, kind):
    """U of (2) for each component, in the shape of the covariances. ValueError where there is none.
    """
    if kind in ("diag", "spherical"):
        if np.any(covariance <= 0):
            raise ValueError(TOO_THIN)
        return 1 / np.sqrt(covariance)
    try:
        lower = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        raise ValueError(TOO_THIN) from None
    return np.swapaxes(np.linalg.solve(lower, np.eye(lower.shape[-1])), -1, -2)


TOO_THIN = ("Fitting the mixture model failed because some components have ill-defined empirical "
            "covariance: they sit on a single row or on rows in a plane. Ask for fewer components, "
            "or raise reg_covar")


def log_densities(x, means, u, kind):
    """log N of (2) for each row and component: (n, k)."""
    n, p = x.shape
    found = np.empty((n, len(means)))
    for c, mean in enumerate(means):
        shape = u if kind == "tied" else u[c]
        away = x - mean
        if shape.ndim == 2:
            away = away @ shape
            logarithm = np.log(shape.diagonal()).sum()
        else:
            away *= shape
            logarithm = np.log(np.broadcast_to(shape, (p,))).sum()
        found[:, c] = logarithm - 0.5 * (p * np.log(2 * np.pi) + np.einsum("ij,ij->i", away, away))
    return found                                                                               # (2)


def log_sum_exp(z):
    """log Σ eᶻ over the columns, (n, 1), without overflow: (1)."""
    most = z.max(1, keepdims=True)
    return most + np.log(np.exp(z - most).sum(1, keepdims=True))


class GaussianMixture(Estimator):
    """A mixture of `n_components` bell curves, fitted by EM from the best of `n_init` starts.

    covariance_type: "full", "tied", "diag" or "spherical". reg_covar: ε. init_params: "kmeans" or
    "random". weights_init (k,), means_init (k, p), precisions_init (inverse covariances): where a
    start is known. Has weights_, means_, covariances_, precisions_, precisions_cholesky_ (U),
    converged_, n_iter_, lower_bound_ (mean log p). Raises ValueError where (4) has no inverse.
    """

    kind = "density_estimator"

    def __init__(self, n_components=1, *, covariance_type="full", tol=1e-3, reg_covar=1e-6,
                 max_iter=100, n_init=1, init_params="kmeans", weights_init=None, means_init=None,
                 precisions_init=None, random_state=None):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init

    def fit(self, X, y=None):
        """Find the curves."""
        self.fit_predict(X)
        return self

    def fit_predict(self, X, y=None):
        """Find the curves; the number of the likeliest one for each row."""
        k = self.number("n_components", 1, whole=True)
        kind = self.choice("covariance_type", "full", "tied", "diag", "spherical")
        X, _, _ = self.check_fit(X, least=2)
        if len(X) < k:
            raise ValueError(f"Expected n_samples >= n_components but got n_components = {k}, "
                             f"n_samples = {len(X)}: ask for fewer components")
        generator, best = check_random_state(self.random_state), None
        for _ in range(self.number("n_init", 1, whole=True)):
            found = self._one_start(X, kind, generator)
            best = found if best is None or found[0] > best[0] else best
        self.lower_bound_, self.converged_, self.n_iter_, state = best
        self.weights_, self.means_, self.covariances_ = state
        self.precisions_cholesky_ = u = whiteners(self.covariances_, kind)
        self.precisions_ = u @ np.swapaxes(u, -1, -2) if u.ndim > 1 and kind != "diag" else u**2
        if not self.converged_:
            warn(ConvergenceWarning, f"GaussianMixture did not converge in {self.n_iter_} turns: "
                 "raise max_iter or tol, or look for duplicate rows")
        return self._joint(X).argmax(1)

    def _one_start(self, X, kind, generator):
        """(mean log p, converged, turns, (π, μ, Σ)) of one start."""
        state, before = self._start(X, kind, generator), -np.inf
        for turn in range(1, self.number("max_iter", 1, whole=True) + 1):
            weights, means, covariance = state
            joint = np.log(weights) + log_densities(X, means, whiteners(covariance, kind), kind)
            likely = log_sum_exp(joint)
            state = self._maximise(X, np.exp(joint - likely), kind)                            # (3)
            if abs(likely.mean() - before) < self.number("tol", 0):                            # (5)
                return likely.mean(), True, turn, state
            before = likely.mean()
        return before, False, turn, state

    def _start(self, X, kind, generator):
        """(π, μ, Σ) to begin with."""
        k = self.n_components
        if self.choice("init_params", "kmeans", "random") == "kmeans":
            seed = int(generator.integers(2**31))
            labels = KMeans(k, n_init=1, random_state=seed).fit(X).labels_
            r = (labels[:, None] == np.arange(k)).astype(float)
        else:
            r = generator.random((len(X), k))
            r /= r.sum(1, keepdims=True)
        state = list(self._maximise(X, r, kind))
        p = X.shape[1]
        shapes = {"full": (k, p, p), "tied": (p, p), "diag": (k, p), "spherical": (k,)}
        for i, (name, shape) in enumerate([("weights_init", (k,)), ("means_init", (k, p)),
                                           ("precisions_init", shapes[kind])]):
            if getattr(self, name) is not None:
                state[i] = np.array(getattr(self, name), float)
                if state[i].shape != shape:
                    raise ValueError(f"The parameter {name!r} should have the shape of {shape}, "
                                     f"but got {state[i].shape}")
                if i == 2:
                    state[i] = np.linalg.inv(state[i]) if kind in ("full", "tied") else 1 / state[i]
        return state

    def _maximise(self, X, r, kind):
        """(π, μ, Σ) of (4) for the responsibilities r."""
        counts = r.sum(0) + FEW
        means = r.T @ X / counts[:, None]                                                      # (4)
        ridge = self.number("reg_covar", 0)
        return counts / counts.sum(), means, covariances(X, r, counts, means, kind, ridge)

    def _joint(self, X):
        """log π·N: (n, k)."""
        densities = log_densities(X, self.means_, self.precisions_cholesky_, self.covariance_type)
        return np.log(self.weights_) + densities

    def score_samples(self, X):
        """log p of each row, (1)."""
        return log_sum_exp(self._joint(self.check_X(X)))[:, 0]

    def score(self, X, y=None):
        """The mean of log p."""
        return float(self.score_samples(X).mean())

    def predict(self, X):
        """The number of the likeliest curve."""
        return self._joint(self.check_X(X)).argmax(1)

    def predict_proba(self, X):
        """r of (3): how likely each row came from each curve."""
        joint = self._joint(self.check_X(X))
        return np.exp(joint - log_sum_exp(joint))                                              # (3)

    def _free_numbers(self):
        k, p = self.means_.shape
        shape = {"full": k * p * (p + 1) // 2, "tied": p * (p + 1) // 2, "diag": k * p,
                 "spherical": k}
        return shape[self.covariance_type] + k * p + k - 1

    def bic(self, X):
        """The Bayesian information criterion (6): smaller is better."""
        return -2 * self.score(X) * len(X) + self._free_numbers() * np.log(len(X))             # (6)

    def aic(self, X):
        """Akaike's information criterion (6): smaller is better."""
        return -2 * self.score(X) * len(X) + 2 * self._free_numbers()                          # (6)

    def sample(self, n_samples=1):
        """(rows, component of each): new rows from the mixture, in the order of the components."""
        self.check_fitted()
        generator = check_random_state(self.random_state)
        labels = np.repeat(np.arange(len(self.weights_)),
                           generator.multinomial(n_samples, self.weights_))
        k, p = self.means_.shape
        normal, u = generator.standard_normal((n_samples, p)), self.precisions_cholesky_
        if u.ndim == 3 or self.covariance_type == "tied":
            shape = np.linalg.inv(u) if u.ndim == 3 else np.repeat(np.linalg.inv(u)[None], k, 0)
            moved = np.einsum("ij,ijk->ik", normal, shape[labels])
        else:
            moved = normal / (u[labels] if u.ndim == 2 else u[labels, None])
        return self.means_[labels] + moved, labels
