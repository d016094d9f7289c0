"""Lesson 4.79 · Gradient boosting: each tree corrects the ones before it

Needs estimator, histograms, leafloops, memory, tree. Used by nothing.

Idea      Start with one number for everyone. Look at how the loss would like each row's prediction
          to move, fit a small tree to these wishes, go a short step in its direction, look again.
          Hundreds of small trees, none good alone, descend on the loss as gradient descent does on
          parameters; the parameters are the predictions themselves. Where the loss also says how
          sharply it bends, a leaf takes Newton's step. Growth takes the leaf that gains most next,
          wherever it is, until there are 31.
Math      F₀ = the best constant      Fₘ(x) = Fₘ₋₁(x) + η·value(leaf of tree m)                 (1)
          value = −Σ g/(Σ h + λ) over the leaf's rows: lesson leafwise; η is learning_rate
          g = ∂loss/∂F      h = ∂²loss/∂F², for each row, times its weight                      (2)
          squared error ½(F − y)²  g = F − y      h = 1                                         (3)
          two classes, p = σ(F)    g = p − y      h = p·(1 − p)                                 (4)
          K classes, p = softmax(F), K trees a round  gₖ = pₖ − [y = k]  hₖ = pₖ·(1 − pₖ)    (5)
Shapes    X (N, F) float64, NaN allowed · F of (1) (K, N) with K = 1 but for three classes or more
Pitfalls  It overfits, unlike a forest: more rounds are a setting. early_stopping holds rows out and
          ends when their loss has not fallen for n_iter_no_change rounds.
          Rows held out at random are no honest judge where rows come in groups or in time order.
          η and the number of rounds belong together: half of one wants twice the other.
          Probabilities near 0 or 1 make h vanish: a leaf needs H ≥ 10⁻³, or its value explodes.
          A missing value goes where it gained most in training; where none was missing, it goes
          with the larger side.
Cost      A round costs about as much as a few passes over the bins: lesson histograms.
          python scripts/bench_ml.py boosting --vs sklearn
Try       build it    the loss max(q·r, (q − 1)·r) of a residual r = y − F, for quantiles: h = 1.
          break it    set learning_rate=1. On which data does the held-out loss rise?
          measure it  python scripts/bench_ml.py boosting --vs sklearn
See       Friedman 2001 "Greedy function approximation: a gradient boosting machine" · Ke et al.
          2017 "LightGBM" · scikit-learn's HistGradientBoostingClassifier, whose trees these are
"""

import numpy as np

from ..memory import contiguous, empty
from .estimator import Classifier, Regressor
from .histograms import MISSING, find_edges, put_in_bins
from .leafloops import grow_questions
from .tree import keep_settings, old_generator

# ---- losses: what F is better at ----------------------------------------------------------------


class SquaredError:
    """½(F − y)², F (1, N)."""

    def start(self, y, w):
        """F₀, (K, 1)."""
        return np.average(y, weights=w).reshape(1, 1)

    def slopes(self, F, y):
        """g and h of (2), each (K, N), by (3)."""
        return F - y, np.ones_like(F)

    def loss(self, F, y):
        """One number a row."""
        return (F[0] - y) ** 2 / 2


class TwoClasses:
    """−log p of the true class, p = σ(F), F (1, N), y in 0, 1."""

    def start(self, y, w):
        """The F₀ of SquaredError, as log odds."""
        p = np.clip(np.average(y, weights=w), 1e-15, 1 - 1e-15)
        return np.log(p / (1 - p)).reshape(1, 1)

    def slopes(self, F, y):
        """(4)."""
        p = self.probability(F)[1:]
        return p - y, p * (1 - p)

    def loss(self, F, y):
        """log(1 + e^F) − y·F, without overflow."""
        return np.logaddexp(0, F[0]) - y * F[0]

    def probability(self, F):
        """(2, N)."""
        p = 1 / (1 + np.exp(-F[0]))
        return np.stack([1 - p, p])


class ManyClasses:
    """−log p of the true class, p = softmax(F), F (K, N)."""

    def __init__(self, K):
        self.K = K

    def start(self, y, w):
        """Logarithms of the shares, with mean 0."""
        share = np.bincount(y, w, minlength=self.K) / w.sum()
        logs = np.log(np.clip(share, np.finfo(np.float64).eps, 1))
        return (logs - logs.mean())[:, None]

    def slopes(self, F, y):
        """(5)."""
        p = self.probability(F)
        return p - (y == np.arange(self.K)[:, None]), p * (1 - p)

    def loss(self, F, y):
        """log Σ e^F − F of the true class."""
        top = F.max(axis=0)
        return top + np.log(np.exp(F - top).sum(axis=0)) - F[y, np.arange(len(y))]

    def probability(self, F):
        """(K, N)."""
        e = np.exp(F - F.max(axis=0))
        return e / e.sum(axis=0)


# ---- estimators ---------------------------------------------------------------------------------


class Boosting:
    """What boosting for classes and for numbers shares: the settings, and most of fit."""

    tags = {"input_tags.allow_nan": True}

    def __init__(self, *, learning_rate=0.1, max_iter=100, max_leaf_nodes=31, max_depth=None,
                 min_samples_leaf=20, l2_regularization=0.0, max_bins=255, early_stopping="auto",
                 validation_fraction=0.1, n_iter_no_change=10, tol=1e-7, random_state=None):
        keep_settings(self, locals())

    def boost(self, X, y, w, loss):
        """Grow trees_, a list of K trees a round, on checked data."""
        self.check_settings()
        if not w.all():  # a row of weight zero is not there
            X, y, w = X[w > 0], y[w > 0], w[w > 0]
        generator = old_generator(self.random_state)
        stops = self.choice("early_stopping", "auto", True, False)
        stops = len(y) > 10_000 if stops == "auto" else stops
        held = np.zeros(len(y), bool)
        if stops and self.validation_fraction is not None:
            held = rows_held_out(y, self.validation_fraction, generator, self.kind == "classifier")
        columns, judged = contiguous(X.T), None
        if held.any():
            columns, judged = contiguous(X[~held].T), contiguous(X[held].T)
        y, y_held, w, w_held = y[~held], y[held], w[~held], w[held]
        self.edges_, self.used_ = find_edges(columns, w, self.max_bins)
        bins, judged = self.to_bins(columns), None if judged is None else self.to_bins(judged)
        self.start_ = loss.start(y, w)
        F = np.repeat(self.start_, len(y), axis=1)
        F_held = np.repeat(self.start_, len(y_held), axis=1)
        self.trees_, self.validation_loss_ = [], []
        for _ in range(self.max_iter):
            self.trees_.append(self.one_round(bins, F, y, w, loss))
            if not stops:
                continue
            if judged is None:
                losses, weights = loss.loss(F, y), w
            else:
                F_held += [tree.predict(judged) for tree in self.trees_[-1]]
                losses, weights = loss.loss(F_held, y_held), w_held
            self.validation_loss_.append(float(np.average(losses, weights=weights)))
            if self.has_stalled():
                break
        self.n_iter_ = len(self.trees_)
        return self

    def check_settings(self):
        """Raise ValueError for a setting that makes no sense."""
        self.number("learning_rate", 0, open_low=True)
        self.number("max_iter", 1, whole=True)
        self.number("min_samples_leaf", 1, whole=True)
        self.number("l2_regularization", 0)
        self.number("max_bins", 2, MISSING, whole=True)
        self.number("n_iter_no_change", 1, whole=True)
        self.number("tol", 0)
        for name, low in (("max_leaf_nodes", 2), ("max_depth", 1)):
            if getattr(self, name) is not None:
                self.number(name, low, whole=True)
        if self.validation_fraction is not None:
            self.number("validation_fraction", 0, 1, open_low=True)

    def to_bins(self, columns):
        """The bins of columns (F, N), uint8."""
        bins = empty(columns.shape, np.uint8)
        put_in_bins(bins, columns, self.edges_)
        return bins

    def one_round(self, bins, F, y, w, loss):
        """K trees, whose answers are added to F."""
        slopes = loss.slopes(F, y)
        return [grow_questions(bins, self.used_, np.stack([g * w, h * w], axis=1), self, F[k])
                for k, (g, h) in enumerate(zip(*slopes, strict=True))]

    def has_stalled(self):
        """Whether none of the last n_iter_no_change losses is lower than the one before them."""
        recent = self.validation_loss_[-self.n_iter_no_change - 1:]
        return (len(recent) > self.n_iter_no_change
                and min(recent[1:]) >= recent[0] - self.tol)

    def raw(self, X):
        """F of (1), (K, N)."""
        X = self.check_X(X, allow_nan=True)
        bins = self.to_bins(contiguous(X.T))
        F = np.repeat(self.start_, len(X), axis=1)
        for trees in self.trees_:
            for k, tree in enumerate(trees):
                F[k] += tree.predict(bins)                                                    # (1)
        return F


def rows_held_out(y, share, generator, by_class):
    """(N,) True for rows that judge: a random share of all, or of each class."""
    held = np.zeros(len(y), bool)
    for group in [y == k for k in np.unique(y)] if by_class else [np.ones(len(y), bool)]:
        rows = generator.permutation(np.flatnonzero(group))
        held[rows[: round(share * len(rows))]] = True
    if held.all() or not held.any():
        raise ValueError(f"validation_fraction={share} of {len(y)} rows leaves none to learn from "
                         "or none to judge by: set early_stopping=False, or bring more rows")
    return held


class HistGradientBoostingClassifier(Boosting, Classifier):
    """Boosted trees for classes; settings as in scikit-learn. Missing values are welcome."""

    def fit(self, X, y, sample_weight=None):
        """Boost on X (N, F) and labels y (N,)."""
        X, y, w = self.check_fit(X, y, sample_weight, allow_nan=True)
        self.refuse_one_class(w, y)
        self.loss_ = TwoClasses() if len(self.classes_) == 2 else ManyClasses(len(self.classes_))
        return self.boost(X, y, w, self.loss_)

    def decision_function(self, X):
        """F: (N,) for two classes, else (N, K)."""
        F = self.raw(X)
        return F[0] if len(F) == 1 else F.T

    def predict_proba(self, X):
        """(N, K)."""
        F = self.raw(X)
        return self.loss_.probability(F).T

    def predict(self, X):
        """(N,) the most probable class: the one with the greatest F."""
        F = self.raw(X)
        return self.classes_[np.argmax(F, axis=0) if len(F) > 1 else (F[0] > 0).astype(int)]


class HistGradientBoostingRegressor(Boosting, Regressor):
    """Boosted trees for numbers, by squared error; settings as the classifier's."""

    def fit(self, X, y, sample_weight=None):
        """Boost on X (N, F) and numbers y (N,)."""
        X, y, w = self.check_fit(X, y, sample_weight, allow_nan=True)
        return self.boost(X, y, w, SquaredError())

    def predict(self, X):
        """(N,) F itself."""
        return self.raw(X)[0]
