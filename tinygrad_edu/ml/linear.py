"""Lesson 4.62 · Linear regression: a straight line through many dimensions

Needs inputs, kernel, estimator. Used by tests/ml/test_linear.py.

Idea      Predict a number as a weighted sum of features, with the weights for which the squared
          errors are smallest. Setting the derivative to zero gives linear equations, the normal
          equations; a mirror image at a time turns the table into a triangle from which their
          answer can be read, without ever forming XᵀX, which would square every rounding error.
          Few rows or twin columns leave many answers; the shortest is taken. Ridge pulls all
          weights towards zero, like rows of data that say "zero". The lasso pulls by a fixed
          amount: so weights become exactly zero, one at a time: coordinate descent.
Math      w = argmin ‖y − Xw‖²  ⇔  XᵀX·w = Xᵀy                                                 (1)
          H = 1 − 2vvᵀ, v ∝ x ± ‖x‖·e₁, ‖v‖ = 1: a mirror with H·x = ∓‖x‖·e₁, e₁ = (1, 0, …);
          one after another they make X = QR, Q of mirrors, R a triangle                       (2)
          R·w = Qᵀy from the last row up;  R wide: Rᵀ = Q′R′, w = Q′·u with R′ᵀ·u = Qᵀy         (3)
          w ← w − (XᵀX·w − Xᵀy)/λ from w = 0,  λ = largest eigenvalue of XᵀX                   (4)
          ridge: + α‖w‖²: the rows √α·1 below X, zeros below y                                 (5)
          elastic net: ‖y − Xw‖²/2N + l₁‖w‖₁ + l₂‖w‖²/2,  l₁ = αρ, l₂ = α(1 − ρ)               (6)
          along one axis: w_c = S(x_c·r + ‖x_c‖²w_c, N·l₁) / (‖x_c‖² + N·l₂), r = y − Xw       (7)
          S(z, t) = sign(z)·max(|z| − t, 0)
          P = N·(6), D = t·r·y − t²/2·(‖r‖² + N·l₂‖w‖²), t = min(1, N·l₁/max|Xᵀr − N·l₂·w|):
          D is at most the least P there is, so P is above that by at most the gap P − D       (8)
Shapes    X (N, C) · y (N,) · coef_ (C,) · intercept_ a number; columns (C, N): X turned over, so
          that a feature is contiguous
Pitfalls  The intercept is not shrunk: X and y are centred first, and it follows from the means.
          v is the difference of x and its image: with the sign that cancels, digits are lost.
          A column that is a sum of others leaves a remainder of rounding in R; what is below
          N·ε·largest is taken for zero, or the answer would be noise times 10¹⁵.
          The lasso's change per sweep says little about the distance to the goal; the gap does.
Cost      QR: 2NC² operations, once. Descent: 2NC² for XᵀX, once, then 2C² a step, and many steps
          when columns are alike. A sweep: 4NC. Ridge costs what QR does with N + C rows.
Try       build it    sweep only over weights that are not zero, all of them now and then.
          break it    take the other sign of v in (2). Which test notices?
          measure it  LinearRegression with solver "qr" and "gradient" on columns that are nearly
                      the same: how many steps, how many digits?
See       Householder 1958 · Golub, Van Loan "Matrix computations" 5.2, 5.5 · Hoerl, Kennard 1970 ·
          Tibshirani 1996 · Friedman, Hastie, Tibshirani 2010 (coordinate descent)
"""

import math

import numpy as np

from ..kernel import Kernel
from .estimator import Regressor
from .inputs import ConvergenceWarning, warn

EPSILON = np.finfo(np.float64).eps


# ---- least squares by mirrors -------------------------------------------------------------------

@Kernel(inout="table")
def mirror(table, v):
    table -= np.outer(2 * (table @ v), v)                                                     # (2)


@mirror.body("numba", rows="table")
def mirror_numba(table, v):
    for c in range(len(table)):
        x, twice = table[c], table.dtype.type(0)
        for n in range(v.size):
            twice += v[n] * x[n]
        twice += twice
        for n in range(v.size):
            x[n] -= twice * v[n]                                                              # (2)


def triangle(columns, rows):
    """QR of A = columnsᵀ with the largest column next: A[:, order] = QR, R (rank, C).

    columns (C, N) and rows (M, N), both overwritten. Returns (R, rows·Q, order).
    """
    C, N = columns.shape
    order = np.arange(C)
    for k in range(min(C, N)):
        left = np.einsum("cn,cn->c", columns[k:, k:], columns[k:, k:])
        largest = k + int(left.argmax())
        columns[[k, largest]], order[[k, largest]] = columns[[largest, k]], order[[largest, k]]
        v = columns[k].copy()
        v[:k] = 0  # rows above are finished
        size = math.sqrt(v @ v)
        if k == 0:
            smallest = max(C, N) * EPSILON * size
        if size <= smallest:  # what is left is rounding: k is the rank
            return columns[:, :k].T, rows, order
        v[k] += math.copysign(size, v[k])
        v /= math.sqrt(v @ v)
        mirror(columns[k:], v)
        mirror(rows, v)
    return columns[:, : min(C, N)].T, rows, order


def solve_triangle(R, b, lower=False):
    """x with R·x = b, by substitution; of R only the upper (lower) triangle is read."""
    x = np.zeros(len(b))
    for k in range(len(b)) if lower else reversed(range(len(b))):
        x[k] = (b[k] - R[k] @ x) / R[k, k]
    return x


def least_squares(X, y):
    """The shortest w of those with the least ‖y − Xw‖, and the rank of X: (1) to (3)."""
    R, (b,), order = triangle(X.T.copy(), y[None].copy())
    rank, C = R.shape
    w = np.zeros(C)
    R = np.triu(R)
    if rank == C:
        w[order] = solve_triangle(R, b[:C])                                                   # (3)
    elif rank:
        R2, Q2, order2 = triangle(R.copy(), np.eye(C))
        w[order] = Q2[:, :rank] @ solve_triangle(np.triu(R2).T, b[order2], lower=True)        # (3)
    return w, rank


def descend(X, y, steps, tolerance):
    """The same by gradient descent from zero, (4): (w, steps taken).

    It ends when the gradient is `tolerance` times what it was at the start.
    """
    product, target = X.T @ X, X.T @ y
    largest = max(np.linalg.eigvalsh(product)[-1], np.finfo(float).tiny)
    w = np.zeros(X.shape[1])
    for step in range(1, steps + 1):
        gradient = product @ w - target
        if np.abs(gradient).max() <= tolerance * np.abs(target).max():
            return w, step
        w -= gradient / largest                                                               # (4)
    warn(ConvergenceWarning, f"gradient descent has not converged after {steps} steps: scale the "
         "features, or raise max_iter")
    return w, steps


# ---- the elastic net by coordinates -------------------------------------------------------------

@Kernel(inout="w residual")
def coordinate_sweep(w, residual, columns, squares, l1, l2):
    for c in range(len(w)):
        if squares[c] > 0:
            wish = columns[c] @ residual + squares[c] * w[c]
            new = np.sign(wish) * max(abs(wish) - l1, 0) / (squares[c] + l2)                  # (7)
            residual += columns[c] * (w[c] - new)
            w[c] = new


@coordinate_sweep.body("numba")
def coordinate_sweep_numba(w, residual, columns, squares, l1, l2):
    zero = w.dtype.type(0)
    for c in range(w.size):
        if squares[c] <= zero:
            continue
        x, wish = columns[c], squares[c] * w[c]
        for n in range(residual.size):
            wish += x[n] * residual[n]
        size = max(abs(wish) - w.dtype.type(l1), zero) / (squares[c] + w.dtype.type(l2))
        new = -size if wish < zero else size                                                  # (7)
        change = w[c] - new
        if change != zero:
            w[c] = new
            for n in range(residual.size):
                residual[n] += x[n] * change


def duality_gap(w, residual, columns, y, l1, l2):
    """How far N times the cost (6) is above its minimum, at most: (8). l1, l2: times N."""
    slope = columns @ residual - l2 * w
    shrink = min(1.0, l1 / max(np.abs(slope).max(), np.finfo(float).tiny))                    # (8)
    primal = residual @ residual / 2 + l1 * np.abs(w).sum() + l2 / 2 * (w @ w)
    dual = shrink * (residual @ y) - shrink**2 / 2 * (residual @ residual + l2 * (w @ w))
    return primal - dual


def elastic_net(X, y, l1, l2, start=None, steps=1000, tolerance=1e-4):
    """Minimise ‖y − Xw‖²/2 + l1·‖w‖₁ + l2·‖w‖²/2 by sweeps: (w, sweeps, gap).

    It ends when the gap is below tolerance·‖y‖². start: a w that is near, to begin from.
    """
    columns = np.ascontiguousarray(X.T)
    squares = np.einsum("cn,cn->c", columns, columns)
    w = np.zeros(len(columns)) if start is None else start.copy()
    residual, enough, gap = y - X @ w, tolerance * (y @ y), np.inf
    for sweep in range(1, steps + 1):
        before = w.copy()
        coordinate_sweep(w, residual, columns, squares, l1, l2)
        # The gap costs as much as a sweep: ask for it when little moves, or at the end.
        if np.abs(w - before).max() <= tolerance * np.abs(w).max() or sweep == steps:
            gap = duality_gap(w, residual, columns, y, l1, l2)
            if gap <= enough:
                return w, sweep, gap
    warn(ConvergenceWarning, f"coordinate descent has not converged after {steps} sweeps (gap "
         f"{gap:.3g}, wanted {enough:.3g}): scale the features, or raise max_iter or alpha")
    return w, steps, gap


# ---- estimators ---------------------------------------------------------------------------------

class LinearModel(Regressor):
    """What they share: centring, weights of rows, the prediction. A subclass has `solve`."""

    def fit(self, X, y, sample_weight=None):
        """Find coef_ (C,) and intercept_."""
        X, y, w = self.check_fit(X, y, sample_weight)
        means, mean = np.zeros(X.shape[1]), 0.0
        if self.choice("fit_intercept", True, False):
            means, mean = np.average(X, axis=0, weights=w), float(np.average(y, weights=w))
            constant = X.max(axis=0) == X.min(axis=0)
            means[constant] = X[0, constant]  # so that nothing but zero is left of it
        X, y = X - means, y - mean
        if sample_weight is not None:
            root = np.sqrt(w)
            X *= root[:, None]
            y *= root
        self.coef_ = self.solve(X, y, w.sum())
        self.intercept_ = mean - float(means @ self.coef_)
        return self

    def predict(self, X):
        """(N,) numbers: X·coef_ + intercept_."""
        return self.check_X(X) @ self.coef_ + self.intercept_


class LinearRegression(LinearModel):
    """Least squares by mirrors (solver "qr") or by descent ("gradient", at most max_iter steps).

    Afterwards: coef_, intercept_, rank_ ("qr"), n_iter_.
    """

    def __init__(self, *, fit_intercept=True, solver="qr", max_iter=10000, tol=1e-10):
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol

    def solve(self, X, y, total):
        """The weights for a table that is centred and weighted already."""
        if self.choice("solver", "qr", "gradient") == "qr":
            w, self.rank_ = least_squares(X, y)
            self.n_iter_ = 1
        else:
            steps = self.number("max_iter", 1, whole=True)
            w, self.n_iter_ = descend(X, y, steps, self.number("tol", 0))
        return w


def ridge(X, y, strength):
    """argmin ‖y − Xw‖² + strength·‖w‖²: least squares with rows below, (5)."""
    C = X.shape[1]
    below = math.sqrt(strength) * np.eye(C)
    return least_squares(np.vstack([X, below]), np.append(y, np.zeros(C)))[0]                 # (5)


class Ridge(LinearModel):
    """Least squares plus alpha·‖w‖²."""

    def __init__(self, alpha=1.0, *, fit_intercept=True):
        self.alpha = alpha
        self.fit_intercept = fit_intercept

    def solve(self, X, y, total):
        """The weights for a table that is centred and weighted already."""
        return ridge(X, y, self.number("alpha", 0))


class ElasticNet(LinearModel):
    """(6), with alpha = α and l1_ratio = ρ. Afterwards also n_iter_ and dual_gap_."""

    def __init__(self, alpha=1.0, *, l1_ratio=0.5, fit_intercept=True, max_iter=1000, tol=1e-4):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol

    def solve(self, X, y, total):
        """The weights for a table that is centred and weighted already."""
        strength, ratio = self.number("alpha", 0) * total, self.number("l1_ratio", 0, 1)
        steps, tolerance = self.number("max_iter", 1, whole=True), self.number("tol", 0)
        l1, l2 = strength * ratio, strength * (1 - ratio)
        if l1 == 0:  # nothing becomes exactly zero: no need for sweeps, and no gap to stop them
            self.n_iter_, self.dual_gap_ = 1, 0.0
            return ridge(X, y, l2)
        w, self.n_iter_, gap = elastic_net(X, y, l1, l2, None, steps, tolerance)
        self.dual_gap_ = gap / total
        return w


class Lasso(ElasticNet):
    """The elastic net with ρ = 1: many weights are exactly zero."""

    l1_ratio = 1.0  # not a setting here

    def __init__(self, alpha=1.0, *, fit_intercept=True, max_iter=1000, tol=1e-4):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
