"""Lesson 4.64 · Logistic regression: a straight border, and how sure one is of each side

Needs inputs, loops, kernel, estimator, minimise. Used by tests/ml/test_logistic.py.

Idea      To choose between classes, give each a score, a weighted sum of the features, and turn
          scores into probabilities: the softmax, of which the sigmoid is the case of two. The
          weights are those under which the labels that were seen are most probable; written as a
          cost, the mean of −log p, it is a bowl without side valleys. No formula gives its lowest
          point, but every method of lesson minimise walks there. Where a line separates the classes
          perfectly, steeper is always better: the penalty on the weights is what makes it end.
Math      two classes: z = x·w + b,  p = σ(z),  loss = log(1 + eᶻ) − y·z,  error = p − y        (1)
          K classes: z_k = x·w_k + b_k,  p = softmax(z),  loss = −log p_y,  error_k = p_k − [y = k]
                                                                                               (2)
          cost = Σᵢ sᵢ·lossᵢ/S + (1 − ρ)/2CS·‖w‖² + ρ/CS·‖w‖₁,  S = Σᵢ sᵢ  (b is free)          (3)
          with C and ρ the settings C and l1_ratio: in (3) to (6) C is no number of columns
          gradient = Xᵀ(s·error)/S + (1 − ρ)/CS·w                                               (4)
          Hessian, block k, l: Xᵀ·diag(s·p_k·([k = l] − p_l))·X/S + [k = l]·(1 − ρ)/CS          (5)
          largest second derivative ≤ λ_max(Xᵀ·diag(s)·X)/4S + …, for softmax /2S               (6)
Shapes    X (N, C) · y, sample_weight s (N,) · coef_ (1, C) or (K, C) · intercept_ (1,) or (K,)
          inside, all unknowns are one vector: rows of weights and intercept, (1 or K)·(C + 1)
Pitfalls  log(1 + eᶻ) overflows from z = 710 on; max(z, 0) + log(1 + e^−|z|) never does.
          C is the inverse of the penalty: a large C is a free model.
          Softmax has one row too many: the same vector added to all rows changes nothing. With a
          penalty on the weights their sum is zero; the intercepts are kept there by starting at 0.
          Features of very different size make the bowl a trench: scale them.
Cost      A step of L-BFGS reads X twice: 4·N·C·K operations. Newton: N·(C·K)² for the Hessian.
Try       build it    one against the rest: K models of two classes. Who is better calibrated?
          break it    penalise the intercept too, and shift all features by 100. What is lost?
          measure it  python -m tinygrad_edu.ml.logistic: steps and time of the three solvers
See       Cox 1958 · Hastie, Tibshirani, Friedman "The elements of statistical learning" 4.4 ·
          Böhning 1992 (the bound ½ for softmax)
"""

import math

import numpy as np

from ..kernel import Kernel
from ..loops import exp
from .estimator import Classifier
from .inputs import class_weights
from .minimise import lbfgs, newton, proximal

# ---- the loss and its error, row by row ---------------------------------------------------------

@Kernel(outputs=2)
def logistic_loss(error, loss, z, y, s):
    # Of σ(z) = 1/(1 + e⁻ᶻ) = eᶻ/(1 + eᶻ), the form whose power is at most 1.
    small = np.exp(-np.abs(z))
    p = np.where(z >= 0, 1, small) / (1 + small)
    loss[...] = np.maximum(z, 0) + np.log1p(small)                                            # (1)
    loss -= y * z
    loss *= s
    error[...] = s * (p - y)


@logistic_loss.body("numba", rows="error loss z y s")
def logistic_loss_numba(error, loss, z, y, s):
    real = z.dtype.type
    zero, one = real(0), real(1)
    for n in range(z.size):
        score = z[n]
        small = exp(-abs(score))
        top = one if score >= zero else small
        loss[n] = s[n] * (max(score, zero) + math.log1p(small) - y[n] * score)                # (1)
        error[n] = s[n] * (top / (one + small) - y[n])


@Kernel(outputs=2)
def softmax_loss(error, loss, z, codes, s):
    rows = np.arange(len(z))
    shifted = z - z.max(axis=1, keepdims=True)
    sizes = np.exp(shifted)
    total = sizes.sum(axis=1)
    loss[...] = np.log(total) - shifted[rows, codes]                                          # (2)
    loss *= s
    error[...] = sizes / total[:, None]
    error[rows, codes] -= 1
    error *= s[:, None]


@softmax_loss.body("numba", rows="error loss z codes s")
def softmax_loss_numba(error, loss, z, codes, s):
    K = z.shape[1]
    for n in range(len(z)):
        right, weight = codes[n], s[n]
        largest = z[n].max()
        total = z.dtype.type(0)
        for k in range(K):
            size = exp(z[n, k] - largest)
            error[n, k] = size
            total += size
        loss[n] = weight * (math.log(total) + largest - z[n, right])                          # (2)
        share = weight / total
        for k in range(K):
            error[n, k] *= share
        error[n, right] -= weight


def softmax(z):
    """(N, K) scores -> probabilities, rows that sum to one."""
    sizes = np.exp(z - z.max(axis=1, keepdims=True))
    return sizes / sizes.sum(axis=1, keepdims=True)


def sigmoid(z):
    """(N,) scores -> probabilities of the second of two classes."""
    return np.exp(-np.logaddexp(0, -z))


# ---- the cost of all rows -----------------------------------------------------------------------

class Cost:
    """(3) without its kink, as a function of the vector of all unknowns.

    R: rows of unknowns, 1 for two classes, else K. l2: (1 − ρ)/CS. intercept: whether b is learned.
    """

    def __init__(self, X, codes, s, R, l2, intercept):
        self.X, self.R, self.l2, self.intercept = X, R, l2, intercept
        self.s = s / s.sum()
        self.y = codes if R > 1 else codes.astype(X.dtype)
        # Of one row of unknowns there is one score a sample: vectors, not matrices of one column.
        self.loss = np.empty(len(X))
        self.error = np.empty((len(X), R) if R > 1 else len(X))

    def scores(self, unknown):
        """z, (N, R) or (N,) where R is 1."""
        table = unknown.reshape(self.R, -1)
        w, b = table[:, :-1], table[:, -1]
        return self.X @ w.T + b if self.R > 1 else self.X @ w[0] + b[0]

    def __call__(self, unknown):
        """(value, gradient)."""
        kernel = softmax_loss if self.R > 1 else logistic_loss
        z = self.scores(unknown)
        kernel(self.error, self.loss, z, self.y, self.s)
        w = unknown.reshape(self.R, -1)[:, :-1]
        # The errors were weighted by the kernel: what is left of (4) is one product.
        gradient = np.zeros((self.R, w.shape[1] + 1))
        gradient[:, :-1] = self.error.T @ self.X                                              # (4)
        gradient[:, :-1] += self.l2 * w
        if self.intercept:  # else its slope stays zero, and so does b
            gradient[:, -1] = self.error.sum(axis=0)
        value = self.loss.sum() + self.l2 / 2 * np.sum(w * w)                                 # (3)
        return value, gradient.ravel()

    def wide(self):
        """X with one column more, which the intercept multiplies: of ones, or of zeros."""
        column = np.full((len(self.X), 1), float(self.intercept))
        return np.hstack([self.X, column])

    def hessian(self, unknown):
        """(5), with a row and a column for each unknown."""
        z = self.scores(unknown)
        p = softmax(z) if self.R > 1 else sigmoid(z)[:, None]
        wide = self.wide()
        R, size = self.R, wide.shape[1]
        H = np.zeros((R, size, R, size))
        for k in range(R):
            for j in range(R):
                share = self.s * p[:, k] * ((k == j) - p[:, j])
                H[k, :, j] = wide.T @ (wide * share[:, None])                                 # (5)
        weights = np.tile(np.arange(size) < size - 1, R)  # unknowns that are no intercept
        return H.reshape(R * size, -1) + np.diag(self.l2 * weights)

    def largest(self):
        """A bound of the largest second derivative: (6)."""
        wide = self.wide()
        product = wide.T @ (wide * self.s[:, None])
        top = np.linalg.eigvalsh(product)[-1]
        return top / (2 if self.R > 1 else 4) + self.l2                                       # (6)


class LogisticRegression(Classifier):
    """Softmax regression; with two classes, the logistic one.

    C: inverse of the penalty's strength, math.inf for none. l1_ratio: ρ, for which the solver must
    be "gradient". class_weight: None, "balanced" or a dict. solver: "lbfgs", "newton", "gradient".
    tol: the largest entry of the gradient at the end. Afterwards: coef_, intercept_, n_iter_.
    """

    def __init__(self, *, C=1.0, l1_ratio=0.0, tol=1e-4, fit_intercept=True, class_weight=None,
                 solver="lbfgs", max_iter=100):
        self.C = C
        self.l1_ratio = l1_ratio
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.max_iter = max_iter

    def fit(self, X, y, sample_weight=None):
        """Find coef_ and intercept_. Raises ValueError where there is one class only."""
        X, codes, s = self.check_fit(X, y, sample_weight)
        self.refuse_one_class(s, codes)
        s = class_weights(self.class_weight, self.classes_, codes, s)
        K, width = len(self.classes_), X.shape[1] + 1
        R = K if K > 2 else 1  # of two classes, one score tells
        strength = 1 / (self.number("C", 0, open_low=True) * s.sum())
        ratio = self.number("l1_ratio", 0, 1)
        intercept = self.choice("fit_intercept", True, False)
        cost = Cost(X, codes, s, R, (1 - ratio) * strength, intercept)
        l1 = np.full((R, width), ratio * strength)
        l1[:, -1] = 0  # b is free
        unknown, self.n_iter_ = self._minimise(cost, np.zeros(R * width), l1.ravel())
        table = unknown.reshape(R, width)
        self.coef_, self.intercept_ = table[:, :-1].copy(), table[:, -1].copy()
        return self

    def _minimise(self, cost, start, l1):
        solver = self.choice("solver", "lbfgs", "newton", "gradient")
        limits = self.number("tol", 0), self.number("max_iter", 1, whole=True)
        # A step down the gradient is the proximal step of a cost that has no kink.
        if solver == "gradient":
            found, steps = proximal(cost, start, cost.largest(), l1, *limits)
        elif l1.any():
            raise ValueError(f"solver {solver!r} cannot do the kink of the L1 penalty: take "
                             "solver='gradient', or l1_ratio=0")
        elif solver == "newton":
            found, steps = newton(cost, cost.hessian, start, *limits)
        else:
            found, steps = lbfgs(cost, start, *limits)
        return found, max(steps, 1)

    def decision_function(self, X):
        """Scores: (N, K), or (N,) for two classes, positive for the second."""
        X = self.check_X(X)
        z = X @ self.coef_.T + self.intercept_
        return z if len(self.classes_) > 2 else z[:, 0]

    def predict_proba(self, X):
        """(N, K) probabilities."""
        z = self.decision_function(X)
        return softmax(z) if z.ndim == 2 else np.stack([sigmoid(-z), sigmoid(z)], axis=1)

    def predict_log_proba(self, X):
        """Their logarithms."""
        return np.log(self.predict_proba(X))

    def predict(self, X):
        """(N,) labels: the class of the highest score."""
        z = self.decision_function(X)
        return self.classes_[z.argmax(axis=1) if z.ndim == 2 else (z > 0).astype(int)]


def _measure(N=5000, C=20):
    import time

    random = np.random.default_rng(0)
    X = random.standard_normal((N, C))
    y = X @ random.standard_normal(C) + random.logistic(size=N) > 0
    for solver in ("lbfgs", "newton", "gradient"):
        model = LogisticRegression(solver=solver, tol=1e-8, max_iter=10000)
        model.fit(X[:100], y[:100])  # compiles
        begin = time.perf_counter()
        model.fit(X, y)
        took = (time.perf_counter() - begin) * 1000
        print(f"{solver}_steps={model.n_iter_} {solver}_ms={took:.1f}", end=" ")
    print()


if __name__ == "__main__":
    _measure()
