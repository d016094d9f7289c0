"""Lesson 4.68 · Regularisation: the gap between what was learned and what is true

Needs linear, plots. Used by tests/ml/test_regularisation.py.

Idea      A model with enough freedom learns its examples by heart, noise included: the error on
          them falls to nothing, while the error on rows that it has not seen grows. The gap between
          the two is what this lesson looks at, and its remedies all take freedom away. Ridge makes
          large weights cost something. The lasso makes every weight cost something, so that most
          are not bought at all. And early stopping takes the time away: descent from zero learns
          what is strong in the data first and what is faint last, and the faint is mostly noise. So
          one watches rows that are held out, and stops when they stop getting better. That is ridge
          in disguise: a short time is a large α. How strong is best is asked of held-out rows too;
          the final score then needs rows that took no part in that choice either.
Math      w along a direction in which XᵀX has the eigenvalue λ, with ŵ that of least squares:
          ridge: w = λ/(λ + α)·ŵ                                                                (1)
          t steps of descent at rate η from 0: w = (1 − (1 − ηλ/N)ᵗ)·ŵ                          (2)
          a large λ: both are ≈ ŵ; a small one: ≈ λŵ/α and λŵ·ηt/N; so alike for α = N/ηt       (3)
          lasso: all weights are 0 from α = max|Xᵀy|/N on; below, they enter one by one         (4)
          gap = error on held-out rows − error on the rows learned from                         (5)
Shapes    X (N, C), y (N,), centred · paths (steps or strengths, C) · errors, one for each of those
Pitfalls  The smallest held-out error of a long list is partly luck: report another set's.
          Stopping at the first rise is too early: a curve that goes down in waves rises often.
          Penalties depend on the unit: a feature in millimetres has small weights. Scale first.
          The last weights are not the best ones: keep those of the best step.
Cost      A path of strengths from strong to weak starts each fit at the last answer: a few sweeps.
          Early stopping costs less than not stopping, beside one look at the held-out rows a step.
Try       build it    stop by a k-fold estimate: the median of the best steps of five folds.
          break it    watch the training rows instead of the held-out ones. When does it stop?
          measure it  python -m tinygrad_edu.ml.regularisation picture.png, and look
See       Hoerl, Kennard 1970 · Tibshirani 1996 · Friedman, Hastie, Tibshirani 2010 (paths) ·
          Prechelt 1998 "Early stopping — but when?" · Ali, Kolter, Tibshirani 2019 (3)
"""

import sys

import numpy as np

from ..files.plots import plots
from .linear import elastic_net, ridge


class Patience:
    """Watches an error from step to step and says when to stop.

    It waits `patience` steps for one that is better than the best by more than `least`.
    """

    def __init__(self, patience, least=0.0):
        self.patience, self.least = patience, least
        self.best, self.best_step, self.kept = np.inf, 0, None

    def is_over(self, step, error, weights):
        """Note one step; whether it is time to stop. The best weights are in `kept`."""
        if error < self.best - self.least:
            self.best, self.best_step = error, step
            self.kept = weights.copy()
        return step - self.best_step >= self.patience


def squared_error(X, y, w):
    """The mean of (x·w − y)²."""
    error = X @ w - y
    return error @ error / len(y)


def ridge_path(X, y, alphas):
    """(len(alphas), C): the ridge weights for every strength."""
    return np.array([ridge(X, y, alpha) for alpha in alphas])


def lasso_path(X, y, strengths=50, smallest=1e-3, tolerance=1e-7):
    """(alphas, weights): from the strength where all are zero down to `smallest` times that, (4).

    Each fit starts at the weights of the one before.
    """
    largest = np.abs(X.T @ y).max() / len(y)                                                  # (4)
    alphas = np.geomspace(largest, smallest * largest, strengths)
    w, path = np.zeros(X.shape[1]), []
    for alpha in alphas:
        w, *_ = elastic_net(X, y, alpha * len(y), 0.0, w, 10000, tolerance)
        path.append(w)
    return alphas, np.array(path)


def descent_path(X, y, steps, rate):
    """(steps + 1, C): plain descent from zero on the mean of (x·w − y)²/2: (2)."""
    path = [np.zeros(X.shape[1])]
    for _ in range(steps):
        slope = X.T @ (X @ path[-1] - y) / len(y)
        path.append(path[-1] - rate * slope)
    return np.array(path)


def stop_early(path, X, y, patience, least=0.0):
    """Walk along a path with an eye on held-out rows: the Patience that ended it, or the path."""
    watch = Patience(patience, least)
    for step, w in enumerate(path):
        if watch.is_over(step, squared_error(X, y, w), w):
            break
    return watch


def errors(path, X, y):
    """(len(path),) errors of all weights of a path on the same rows."""
    return np.array([squared_error(X, y, w) for w in path])


def planted(N=60, C=40, useful=6, noise=1.0, seed=0):
    """Rows with C features of which `useful` matter: X (N, C), y (N,), and the true weights."""
    random = np.random.default_rng(seed)
    mix = np.eye(C) + 0.6 * random.standard_normal((C, C)) / np.sqrt(C)
    X = random.standard_normal((N, C)) @ mix
    w = np.zeros(C)
    w[:useful] = random.choice([-1.0, 1.0], C)[:useful]
    return X, X @ w + noise * random.standard_normal(N), w


def halves(seed=0, N=60):
    """Planted rows cut in two: (rows to learn from), (rows held out); each is (X, y)."""
    X, y, _ = planted(2 * N, seed=seed)
    return (X[:N], y[:N]), (X[N:], y[N:])


def draw_gap(target, steps=400):
    """Write a picture: both errors against strength and time, and all weights of the lasso."""
    pyplot = plots()
    learned, held_out = halves()
    figure, (first, second, third, last) = pyplot.subplots(
        1, 4, figsize=(16, 4), layout="constrained")
    alphas = np.geomspace(1e4, 1e-2, 60)
    draw_errors(first, alphas, ridge_path(*learned, alphas), learned, held_out)
    first.set(xscale="log", xlabel="α of ridge, strong to weak", ylabel="mean squared error")
    alphas, path = lasso_path(*learned)
    draw_errors(second, alphas, path, learned, held_out)
    second.set(xscale="log", xlabel="α of the lasso")
    third.plot(alphas, path, color="C2", lw=0.8)
    third.plot(alphas, path[:, :6], color="C3", lw=1.5)
    third.set(xscale="log", xlabel="α of the lasso", title="weights; red: those that matter")
    path = descent_path(*learned, steps, 0.1)
    draw_errors(last, np.arange(len(path)) + 1, path, learned, held_out)
    watch = stop_early(path, *held_out, patience=30)
    last.axvline(watch.best_step + 1, color="black", ls=":", label="kept by early stopping")
    last.set(xscale="log", xlabel="steps of descent")
    for panel in (first, second, third):
        panel.invert_xaxis()
    for panel in (first, second, last):
        panel.legend(fontsize=8)
    figure.savefig(target, dpi=100)
    pyplot.close(figure)


def draw_errors(panel, places, path, learned, held_out):
    """Both errors of a path, and the gap between them as a shade: (5)."""
    low, high = errors(path, *learned), errors(path, *held_out)
    panel.plot(places, low, label="rows learned from")
    panel.plot(places, high, label="rows held out")
    panel.fill_between(places, low, high, alpha=0.12, color="black", label="gap")             # (5)
    best = high.argmin()
    panel.plot(places[best], high[best], "*", color="black", ms=10)
    panel.set(title=f"best {high[best]:.2f}, at the end {high[-1]:.2f}", ylim=(0, None))


def _measure():
    if len(sys.argv) > 1:
        draw_gap(sys.argv[1])
    learned, held_out = halves()
    _, by_lasso = lasso_path(*learned)
    paths = {"ridge": ridge_path(*learned, np.geomspace(1e4, 1e-2, 60)), "lasso": by_lasso,
             "descent": descent_path(*learned, 400, 0.1)}
    for name, path in paths.items():
        high = errors(path, *held_out)
        print(f"{name}_best={high.min():.3f} {name}_end={high[-1]:.3f}", end=" ")
    watch = stop_early(paths["descent"], *held_out, patience=30)
    print(f"stopped_at={watch.best_step}")


if __name__ == "__main__":
    _measure()
