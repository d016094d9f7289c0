"""Lesson 4.102 · Support vector machines: curved streets, votes, and tubes

Needs estimator, inputs, linear_svm, smo. Used by tests/ml/test_svm.py.

Idea      With a kernel and SMO (lesson smo) a machine for two classes is three lines. For more
          classes, each pair gets a machine of its own, trained on the rows of these two alone, and
          the machines vote. For numbers in place of classes the street becomes a tube of width 2ε
          around the curve: rows inside cost nothing, those outside pay for the distance to it.
Math      classes: t = ±1, β between 0 and t·C     f(x) = Σᵢ βᵢ·k(xᵢ, x) + b, its sign answers   (1)
          each pair a < b has t = 1 for a; the class with most votes wins, the first of equals   (2)
          votes + d/(3·(|d| + 1)), d = Σ of f over the pairs, towards the class: ranks ties too  (3)
          numbers: cost C·max(0, |f(x) − y| − ε). Each row stands twice in the problem of SMO,
          with t = y − ε and β in [0, C], and with t = y + ε and β in [−C, 0]                    (4)
          γ = "scale": 1/(p·var(x)), of all numbers in x    "auto": 1/p                          (5)
Shapes    support_ (S,) rows that have a weight, by class · support_vectors_ (S, p) · intercept_
          (pairs,) · dual_coef_ (K − 1, S): the machine of a < b has the weights of a's rows in
          line b − 1, those of b's rows in line a. Two classes: signs as if b were 1.
Pitfalls  γ decides everything: too large, and each row is alike to nothing but itself, so that the
          machine knows the training rows by heart; too small, and all rows are alike. Scale the
          columns first: ‖a − b‖ has no other idea of what is far.
          f is a distance in the longer space, no probability: calibrate it if you need one.
          (3) and the votes of (2) may disagree where classes have equally many votes.
          libsvm keeps K in single precision, so the answers of scikit-learn's SVC have seven
          digits at best, however small its tol. On breast_cancer with C = 50 it ends 8e-7 from the
          very optimum, this file 2e-10: pytest tests/cross -k very_optimum -s
Cost      Fit: see smo; K·(K − 1)/2 machines, each with the rows of two classes, cost about as much
          as one with all rows. Predict: a kernel of each new row with each support vector.
Try       build it    probabilities: fit a, b of 1/(1 + exp(a·f + b)) on held-out f (Platt 1999).
          break it    let (2) train each machine on all rows, one class against the rest. Are the
                      digits still told apart as well? What happens to the time?
          measure it  time SVC on 1000, 2000 and 4000 rows, and n_iter_. Which power of n is it?
See       Boser, Guyon, Vapnik 1992 · Hsu, Lin 2002 (one against one) · Smola, Schölkopf 2004, eq. 3
          to 12 (numbers) · Chang, Lin 2011 (libsvm)
"""

import numpy as np

from .estimator import Classifier, Regressor
from .inputs import ConvergenceWarning, warn
from .linear_svm import weights_of_classes
from .smo import FORMS, PRECOMPUTED, gram, solve

NO_LIMIT = 10**8  # steps that max_iter=-1 stands for


def settings_of(machine, X):
    """(tolerance, limit, megabytes, (form, γ, c, d)) for `solve`, checked."""
    form = FORMS[machine.choice("kernel", *FORMS)]
    if form == PRECOMPUTED and X.shape[0] != X.shape[1]:
        raise ValueError(f"Precomputed matrix must be a square matrix: X is {X.shape}, give the "
                         "kernel of each training row with each")
    gamma = machine.gamma
    if isinstance(gamma, str):
        spread = X.var() if machine.choice("gamma", "scale", "auto") == "scale" else 1.0
        gamma = 1 / (X.shape[1] * spread) if spread else 1.0                                   # (5)
    else:
        machine.number("gamma", 0)
    like = form, float(gamma), float(machine.number("coef0")), machine.number("degree", 0)
    tolerance = machine.number("tol", 0, open_low=True)
    limit = machine.number("max_iter", -1, whole=True)
    megabytes = machine.number("cache_size", 0, open_low=True)
    return tolerance, NO_LIMIT if limit < 0 else limit, megabytes, like


def kernel_with_support(machine, X):
    """k of each row of X with each support vector: (n, S)."""
    X = machine.check_X(X)
    if machine._like[0] == PRECOMPUTED:
        return X[:, machine.support_]
    return gram(X, machine.support_vectors_, machine._like)


def keep(machine, X, rows, settings, steps):
    """Write what both kinds of machines have into the attributes."""
    _, limit, _, machine._like = settings
    machine.support_ = rows.astype(np.int32)
    machine.support_vectors_ = X[rows]
    if machine._like[0] == PRECOMPUTED:
        machine.support_vectors_ = np.empty((0, 0))
    machine.n_iter_ = steps
    if np.max(steps) >= limit:
        warn(ConvergenceWarning, f"Solver terminated early (max_iter={machine.max_iter}): scale "
             "the columns, lower C, or allow more steps")
    if machine.kernel == "linear":
        machine.coef_ = weights_of_columns(machine)
    return machine


def weights_of_columns(machine):
    """The plane of a linear kernel: (pairs, p), or (1, p)."""
    if len(machine.dual_coef_) == 1:
        return machine.dual_coef_ @ machine.support_vectors_
    ends = np.concatenate([[0], np.cumsum(machine.n_support_)])
    rows = [slice(low, high) for low, high in zip(ends, ends[1:], strict=False)]
    return np.array([sum(machine.dual_coef_[line, rows[c]] @ machine.support_vectors_[rows[c]]
                         for line, c in ((b - 1, a), (a, b))) for a, b in pairs(len(rows))])


def pairs(classes):
    """(0, 1), (0, 2), …, (1, 2), …: each pair of classes once."""
    return [(a, b) for a in range(classes) for b in range(a + 1, classes)]


def with_pairwise(tags, machine):
    """The tags of a machine, with a word on whether its X is a K."""
    tags.input_tags.pairwise = machine.kernel == "precomputed"
    return tags


class SVC(Classifier):
    """A support vector machine for classes, one against one.

    kernel: "linear", "poly", "rbf", "sigmoid", or "precomputed": X is then K. C: cost of a row in
    the street, times sample_weight and class_weight. tol: of SMO. max_iter: steps a machine, −1 for
    as many as it takes. decision_function_shape: "ovr" for (3), "ovo" for f of each pair.
    Has support_, support_vectors_, n_support_, dual_coef_, intercept_, n_iter_ (for each pair) and,
    where the kernel is linear, coef_. Raises ValueError for one class.
    """

    def __init__(self, *, C=1.0, kernel="rbf", degree=3, gamma="scale", coef0=0.0, tol=1e-3,
                 cache_size=200, class_weight=None, max_iter=-1, decision_function_shape="ovr"):
        self.C = C
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.cache_size = cache_size
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.decision_function_shape = decision_function_shape

    def __sklearn_tags__(self):
        """A precomputed K is to be cut along both axes."""
        return with_pairwise(super().__sklearn_tags__(), self)

    def fit(self, X, y, sample_weight=None):
        """Train a machine for each pair of classes."""
        self.choice("decision_function_shape", "ovr", "ovo")
        X, y, w = self.check_fit(X, y, sample_weight)
        self.refuse_one_class(w, y)
        settings, count = settings_of(self, X), len(self.classes_)
        cost = self.number("C", 0, open_low=True) * weights_of_classes(
            self.class_weight, self.classes_, y, w)
        weights, intercepts, steps = np.zeros((count - 1, len(X))), [], []
        for a, b in pairs(count):
            rows = np.flatnonzero(((y == a) | (y == b)) & (cost > 0))
            beta, intercept, taken = self._pair(X, rows, y[rows] == a, cost[rows], settings)
            of_a = y[rows] == a
            weights[b - 1, rows[of_a]] = beta[of_a]                                            # (2)
            weights[a, rows[~of_a]] = beta[~of_a]
            intercepts.append(intercept)
            steps.append(taken)
        support = np.flatnonzero(weights.any(0))
        support = support[np.argsort(y[support], kind="stable")]
        self.n_support_ = np.bincount(y[support], minlength=count).astype(np.int32)
        sign = -1.0 if count == 2 else 1.0
        self.dual_coef_ = sign * weights[:, support]
        self.intercept_ = sign * np.array(intercepts)
        return keep(self, X, support, settings, np.array(steps, np.int32))

    @staticmethod
    def _pair(X, rows, first, cost, settings):
        """(β, b, steps) of the machine of one pair: (1)."""
        x, t = X[rows], np.where(first, 1.0, -1.0)
        if settings[-1][0] == PRECOMPUTED:
            x = np.ascontiguousarray(x[:, rows])
        if first.all() or not first.any():  # a class whose rows weigh nothing
            return np.zeros(len(rows)), t[0] if len(t) else 0.0, 1
        return solve(x, t, np.minimum(t * cost, 0), np.maximum(t * cost, 0), *settings)        # (1)

    def _pairs(self, X):
        """f of each machine: (n, pairs), positive for the first class of a pair."""
        k, ends = kernel_with_support(self, X), np.concatenate([[0], np.cumsum(self.n_support_)])
        if len(self.classes_) == 2:
            return -(k @ self.dual_coef_.T + self.intercept_)
        parts = [k[:, low:high] @ self.dual_coef_[:, low:high].T
                 for low, high in zip(ends, ends[1:], strict=False)]
        together = [parts[a][:, b - 1] + parts[b][:, a] for a, b in pairs(len(self.classes_))]
        return np.column_stack(together) + self.intercept_

    def _votes(self, f):
        """(votes, d) of (3), both (n, K)."""
        votes, d = np.zeros((2, len(f), len(self.classes_)))
        for of_pair, (a, b) in zip(f.T, pairs(len(self.classes_)), strict=True):
            votes[:, a] += of_pair > 0
            votes[:, b] += of_pair <= 0
            d[:, a] += of_pair
            d[:, b] -= of_pair
        return votes, d

    def decision_function(self, X):
        """Two classes: f, (n,), positive for the second; more: (3), (n, K), or f of each pair."""
        f = self._pairs(X)
        if len(self.classes_) == 2:
            return -f[:, 0]
        if self.decision_function_shape == "ovo":
            return f
        votes, d = self._votes(f)
        return votes + d / (3 * (np.abs(d) + 1))                                               # (3)

    def predict(self, X):
        """The class with most votes, (2)."""
        votes, _ = self._votes(self._pairs(X))
        return self.classes_[votes.argmax(1)]


class SVR(Regressor):
    """A support vector machine for numbers: a tube of half width `epsilon` around the curve, (4).

    The other settings and attributes are those of SVC.
    """

    def __init__(self, *, kernel="rbf", degree=3, gamma="scale", coef0=0.0, tol=1e-3, C=1.0,
                 epsilon=0.1, cache_size=200, max_iter=-1):
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.C = C
        self.epsilon = epsilon
        self.cache_size = cache_size
        self.max_iter = max_iter

    def __sklearn_tags__(self):
        """A precomputed K is to be cut along both axes."""
        return with_pairwise(super().__sklearn_tags__(), self)

    def fit(self, X, y, sample_weight=None):
        """Lay the tube."""
        X, y, w = self.check_fit(X, y, sample_weight)
        settings, epsilon = settings_of(self, X), self.number("epsilon", 0)
        cost, nothing = self.number("C", 0, open_low=True) * w, np.zeros(len(X))
        t = np.concatenate([y - epsilon, y + epsilon])                                         # (4)
        low, high = np.concatenate([nothing, -cost]), np.concatenate([cost, nothing])
        beta, intercept, steps = solve(X, t, low, high, *settings)
        weights = beta[: len(X)] + beta[len(X) :]
        support = np.flatnonzero(weights)
        self.dual_coef_, self.intercept_ = weights[None, support], np.array([intercept])
        self.n_support_ = np.array([len(support)], np.int32)
        return keep(self, X, support, settings, steps)

    def predict(self, X):
        """The curve at each row."""
        return kernel_with_support(self, X) @ self.dual_coef_[0] + self.intercept_[0]
