"""Lesson 4.100 · Linear support vector machine: the widest street between two classes

Needs estimator, inputs, kernel. Used by svm.

Idea      Many planes separate two classes; which one to take? The one with the widest empty street
          along it, since new points near the old ones then stay on their side. Where no plane
          separates, a row that stands in the street, or on the wrong side, pays for how deep it
          stands: the hinge loss. Rows beyond the kerb cost nothing and could be taken away without
          any change; those that matter are the support vectors.
          The same problem has a second face, the dual: a weight α for each row instead of one for
          each column. The best single α, all others fixed, is a division and a clip, and since the
          plane is the weighted sum of the rows, it is corrected at once. Going round the rows in
          random order is all there is to it. With many rows and few columns and a squared hinge,
          which is smooth, Newton's method on the plane itself is better still.
Math      minimise ½‖w‖² + Σᵢ Cᵢ·max(0, 1 − yᵢ·w·xᵢ)^q      y = ±1, q = 1 or 2                 (1)
          w = Σᵢ αᵢ·yᵢ·xᵢ     0 ≤ αᵢ ≤ U     q = 1: U = Cᵢ, D = 0;   q = 2: U = ∞, D = 1/(2Cᵢ) (2)
          G = yᵢ·w·xᵢ − 1 + D·αᵢ      αᵢ ← clip(αᵢ − G/(‖xᵢ‖² + D), 0, U)                      (3)
          what α can still gain: G, but min(G, 0) at α = 0 and max(G, 0) at α = U; the sweeps end
          when the largest and the smallest of one sweep lie within tolerance                  (4)
          q = 2: S = {i : yᵢ·w·xᵢ < 1}     gradient = w − 2·Σ_S Cᵢ·(yᵢ − w·xᵢ)·xᵢ              (5)
          (1 + 2·Σ_S Cᵢ·xᵢ·xᵢᵀ)·step = gradient      w ← w − s·step, s halved until (1) falls  (6)
Shapes    x (n, p) with a column of `intercept_scaling` at the end · w (p,) · α, y, C (n,)
          coef_ (1, p) for two classes, (K, p) for more: one class against the rest
Pitfalls  The intercept is a weight like all others here, so it is pulled towards zero as they are;
          a larger intercept_scaling pulls less. Lesson svm leaves it free.
          C multiplies the losses: a large C means little regularisation, and slow sweeps.
          Columns of very different size make (3) crawl: scale them first.
          At q = 1 the answer has no unique α where rows repeat, but w is unique always.
Cost      A sweep is O(n·p) whatever happens; the number of sweeps grows with C. A step of (6) is
          O(n·p² + p³), and about ten are enough.
Try       build it    leave rows at a bound out of the sweeps for a while (shrinking, as liblinear).
          break it    go round in the order of the rows instead of a random one, with the classes
                      sorted. How many more sweeps does `n_iter_` count?
          measure it  fit 20,000 × 40 numbers with dual=True and dual=False, and C from 0.01 to 100:
                      seconds and n_iter_. From where on does Newton win?
See       Cortes, Vapnik 1995 · Hsieh et al. 2008, algorithm 1 (dual coordinate descent) ·
          Mangasarian 2002 (Newton for the squared hinge) · Fan et al. 2008 (liblinear: the end)
"""

import numpy as np

from ..kernel import Kernel
from .estimator import Classifier
from .inputs import ConvergenceWarning, check_random_state, warn


@Kernel(outputs=1, inout="w alpha")
def dual_sweep(ends, w, alpha, x, y, upper, damping, squares, order):
    ends[:] = -np.inf, np.inf
    for i in order:
        g = y[i] * (x[i] @ w) - 1 + damping[i] * alpha[i]                                      # (3)
        gain = min(g, 0) if alpha[i] == 0 else max(g, 0) if alpha[i] == upper[i] else g        # (4)
        ends[:] = max(ends[0], gain), min(ends[1], gain)
        before = alpha[i]
        alpha[i] = min(max(before - g / squares[i], 0), upper[i])
        w += (alpha[i] - before) * y[i] * x[i]                                                 # (2)


@dual_sweep.body("numba")
def dual_sweep_numba(ends, w, alpha, x, y, upper, damping, squares, order):
    real = x.dtype.type
    ends[0] = -np.inf
    ends[1] = np.inf
    for i in order:
        dot = real(0)
        for c in range(w.size):
            dot += x[i, c] * w[c]
        g = y[i] * dot - real(1) + damping[i] * alpha[i]                                       # (3)
        gain = g
        if alpha[i] == 0:
            gain = min(g, real(0))                                                             # (4)
        elif alpha[i] == upper[i]:
            gain = max(g, real(0))
        ends[0], ends[1] = max(ends[0], gain), min(ends[1], gain)
        before = alpha[i]
        alpha[i] = min(max(before - g / squares[i], real(0)), upper[i])
        step = (alpha[i] - before) * y[i]
        if step != 0:
            for c in range(w.size):
                w[c] += step * x[i, c]                                                         # (2)


def fit_by_dual(x, y, cost, squared, tolerance, limit, generator):
    """(w, sweeps) of (1) by sweeps of (3) in random order; sweeps > limit: it did not converge."""
    upper, damping = cost, np.zeros_like(cost)
    if squared:
        upper, damping = np.full_like(cost, np.inf), 0.5 / cost                                # (2)
    squares = np.maximum((x * x).sum(1) + damping, np.finfo(float).tiny)
    w, alpha = np.zeros(x.shape[1]), np.zeros(len(x))
    ends = np.empty(2)
    for sweep in range(1, limit + 1):
        dual_sweep(ends, w, alpha, x, y, upper, damping, squares, generator.permutation(len(x)))
        if ends[0] - ends[1] <= tolerance:
            return w, sweep
    return w, limit + 1


def fit_by_newton(x, y, cost, tolerance, limit):
    """(w, steps) of (1) with the squared hinge by (5) and (6); steps > limit: not converged."""
    w, size = np.zeros(x.shape[1]), None
    for step in range(1, limit + 1):
        short = np.maximum(1 - y * (x @ w), 0)
        inside = short > 0
        xs, cs = x[inside], cost[inside]
        gradient = w - 2 * xs.T @ (cs * y[inside] * short[inside])                             # (5)
        size = size or np.linalg.norm(gradient)
        if np.linalg.norm(gradient) <= tolerance * size:
            return w, step
        curve = np.eye(len(w)) + 2 * xs.T @ (cs[:, None] * xs)
        direction = np.linalg.solve(curve, gradient)                                           # (6)
        loss, slope, s = objective(w, x, y, cost), gradient @ direction, 1.0
        while objective(w - s * direction, x, y, cost) > loss - 1e-4 * s * slope and s > 1e-10:
            s /= 2
        w = w - s * direction
    return w, limit + 1


def objective(w, x, y, cost, squared=True):
    """The sum that (1) minimises."""
    short = np.maximum(1 - y * (x @ w), 0)
    return 0.5 * w @ w + cost @ (short * short if squared else short)                          # (1)


def weights_of_classes(class_weight, classes, codes, w):
    """The row weights w, each times the weight of its class.

    class_weight: None, "balanced" (all classes weigh the same), or {class: weight}, 1 where a class
    is not named. Raises ValueError for anything else, or a class that the data does not have.
    """
    if class_weight is None:
        return w
    if isinstance(class_weight, str) and class_weight == "balanced":
        each = w.sum() / (len(classes) * np.maximum(np.bincount(codes, w), np.finfo(float).tiny))
    elif isinstance(class_weight, dict):
        unknown = [label for label in class_weight if label not in classes]
        if unknown:
            raise ValueError(f"The classes, {unknown}, are not in class_weight: the data has only "
                             f"{list(classes)}")
        each = np.array([class_weight.get(label, 1.0) for label in classes.tolist()], float)
    else:
        raise ValueError("class_weight must be None, 'balanced' or a dict of a weight for each "
                         f"class. Got {class_weight!r} instead.")
    return w * each[codes]


class LinearSVC(Classifier):
    """A linear support vector machine, for more than two classes one against the rest.

    loss: "squared_hinge" or "hinge". dual: True for (3), False for (6), "auto" for (6) where it can
    serve and there are as many rows as columns. tol: of (4), and of the gradient in (5), against
    the first one. Has coef_, intercept_, classes_, n_iter_. Raises ValueError for one class.
    """

    def __init__(self, *, loss="squared_hinge", dual="auto", tol=1e-4, C=1.0, fit_intercept=True,
                 intercept_scaling=1.0, class_weight=None, random_state=None, max_iter=1000):
        self.loss = loss
        self.dual = dual
        self.tol = tol
        self.C = C
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.max_iter = max_iter

    def fit(self, X, y, sample_weight=None):
        """Find the street between each class and all others."""
        squared = self.choice("loss", "squared_hinge", "hinge") == "squared_hinge"
        dual = self.choice("dual", "auto", True, False)
        C, tol = self.number("C", 0, open_low=True), self.number("tol", 0, open_low=True)
        limit = self.number("max_iter", 1, whole=True)
        if dual is False and not squared:
            raise ValueError("loss='hinge' has a kink, which dual=False cannot step over: "
                             "use dual=True")
        X, y, w = self.check_fit(X, y, sample_weight)
        self.refuse_one_class(w, y)
        cost = C * weights_of_classes(self.class_weight, self.classes_, y, w)
        kept = cost > 0
        x, y, cost = self._with_constant(X[kept]), y[kept], cost[kept]
        ways = [1] if len(self.classes_) == 2 else range(len(self.classes_))
        generator, found = check_random_state(self.random_state), []
        for code in ways:
            signs = np.where(y == code, 1.0, -1.0)
            if squared and (dual is False or dual == "auto" and len(x) >= X.shape[1]):
                few = min(np.mean(signs > 0), np.mean(signs < 0))
                found.append(fit_by_newton(x, signs, cost, tol * few, limit))
            else:
                found.append(fit_by_dual(x, signs, cost, squared, tol, limit, generator))
        self.n_iter_ = max(count for _, count in found)
        if self.n_iter_ > limit:
            self.n_iter_ = limit
            warn(ConvergenceWarning, f"LinearSVC failed to converge in {limit} rounds: raise "
                 "max_iter, scale the columns or lower C")
        return self._keep(np.array([w for w, _ in found]), X.shape[1])

    def _with_constant(self, x):
        """The table with the column that the intercept multiplies, if there is to be one."""
        if not self.fit_intercept:
            return x
        scale = self.number("intercept_scaling", 0, open_low=True)
        return np.hstack([x, np.full((len(x), 1), scale)])

    def _keep(self, w, p):
        self.coef_, self.intercept_ = np.ascontiguousarray(w[:, :p]), np.zeros(len(w))
        if self.fit_intercept:
            self.intercept_ = w[:, p] * self.intercept_scaling
        return self

    def decision_function(self, X):
        """How far on the side of each class: (n, K), or (n,) for the second of two classes."""
        scores = self.check_X(X) @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """The class whose street is nearest, or behind which a row stands deepest."""
        scores = self.decision_function(X)
        return self.classes_[scores.argmax(1) if scores.ndim == 2 else (scores > 0).astype(int)]
