"""Lesson 4.74 · Random forests: many trees that err differently

Needs cuts, estimator, pruning, ranks, threads, tree. Used by nothing.

Idea      One deep tree has learned its training rows by heart: right on average, but another sample
          would have given another tree. The mean of many such trees keeps what they agree on, and
          what each made up by itself cancels, as far as they made up different things. Two lots
          see to that: every tree is grown on rows drawn with replacement (bagging), and each node
          may choose among a few random features only. About a third of the rows is never drawn for
          a given tree, and tells for free how well the others do on rows they have not seen.
Math      B trees, each with error variance σ², any two with correlation ρ:
          Var(mean of them) = ρ·σ² + (1 − ρ)/B·σ²                                               (1)
          P(a row is not drawn) = (1 − 1/N)ᴺ → e⁻¹ ≈ 0.37                                       (2)
          predict_proba(x) = mean over trees of the shares in leaf(x)                           (3)
          out-of-bag: (3) for row n over the trees that did not draw n, N the number of rows    (4)
Shapes    X (N, F) float32 · y (N,) · predict_proba (N, K) · oob_decision_function_ (N, K), NaN for
          a row that every tree has drawn
Pitfalls  More trees never overfit: they bring the second term of (1) down, and the first is what
          remains. So n_estimators is no setting to search, only one to afford.
          A row drawn twice is a row of weight two: growing on copies would be slower and the same.
          Duplicates and neighbours in time make (4) optimistic: the copy of a row that was left
          out was drawn.
          Each tree has a seed of its own, drawn before any is grown: so the forest is the same
          however many threads grow it, and the same as scikit-learn's of that seed.
Cost      The trees are grown side by side on n_jobs threads, which take the next one when they are
          done: python scripts/bench_ml.py forest --vs sklearn
Try       build it    extremely random trees: one random cut for each drawn feature, no sorting.
          break it    let max_features be None. How does ρ of (1) change, and the score?
          measure it  python scripts/bench_ml.py forest --vs sklearn --jobs 2
See       Breiman 1996 "Bagging predictors" · Breiman 2001 "Random forests" · Hastie, Tibshirani,
          Friedman 2009 "The Elements of Statistical Learning", 15.2
"""

import os
import warnings
from itertools import count
from numbers import Integral

import numpy as np

from .. import threads
from .cuts import CRITERIA, SQUARED
from .estimator import Classifier, Regressor
from .pruning import prune
from .ranks import ranked
from .tree import SEEDS, drawn_features, grow, keep_settings, limits_of, old_generator


def drawn_counts(generator, w, size, weighted):
    """How often each row is drawn, `size` draws in all; a heavier row more often if `weighted`."""
    if weighted:
        rows = generator.choice(len(w), size, replace=True, p=w / w.sum())
    else:
        rows = generator.randint(0, len(w), size)
    return np.bincount(rows, minlength=len(w)).astype(np.float64)


def in_threads(jobs, work, tasks):
    """[work(task) for task in tasks], by `jobs` threads that take the next task when they can."""
    results, numbers = [None] * len(tasks), count()

    def take_turns():
        for number in numbers:  # one counter for all threads, and next() of it is one step
            if number >= len(tasks):
                return
            results[number] = work(tasks[number])

    threads.pool.run(take_turns, [()] * min(jobs, len(tasks)))
    return results


class Forest:
    """What forests for classes and for numbers share: growing, averaging, out-of-bag."""

    def grow(self, X, y, w, classes, criterion, weighted):
        """Grow trees_ on checked data; weighted: whether w came from the caller."""
        trees = self.number("n_estimators", 1, whole=True)
        alpha = self.number("ccp_alpha", 0)
        self.choice("bootstrap", True, False)
        if self.choice("oob_score", True, False) and not self.bootstrap:
            raise ValueError("Out of bag estimation only available if bootstrap=True")
        generator = old_generator(self.random_state)
        rank, levels = ranked(X)
        y = y.astype(np.float64)
        size, drawn = self.rows_drawn(len(y)), drawn_features(self, X.shape[1])

        def one_tree(seed):
            own = w
            if self.bootstrap:
                own = drawn_counts(np.random.RandomState(seed), w, size, weighted)
            start = np.random.RandomState(seed).randint(SEEDS)
            limits = limits_of(self, own, criterion)
            tree = grow(rank, levels, y, own, classes, criterion, limits, drawn, start)
            return prune(tree, alpha)[0] if alpha else tree

        seeds = [generator.randint(SEEDS) for _ in range(trees)]
        self.trees_ = in_threads(self.jobs(), one_tree, seeds)
        if self.oob_score:
            return self.out_of_bag(X, w, size, weighted, seeds)
        return None

    def rows_drawn(self, n):
        """How many rows a tree draws: max_samples as a number, a share, or as many as there are."""
        if self.max_samples is None:
            return n
        if isinstance(self.max_samples, Integral):
            return int(self.number("max_samples", 1, n, whole=True))
        return max(1, int(n * self.number("max_samples", 0, 1, open_low=True)))

    def jobs(self):
        """n_jobs as a number of threads: None is one, -1 one for each core."""
        if self.n_jobs is None:
            return 1
        wanted = self.number("n_jobs", whole=True)
        if wanted == 0:
            raise ValueError("n_jobs == 0 has no meaning: give a number of threads, or -1 for all")
        return wanted if wanted > 0 else max(1, (os.cpu_count() or 1) + 1 + wanted)

    def mean_value(self, X):
        """(3): the mean over all trees of the value in each row's leaf, (N, K)."""
        X = self.check_X(X, dtype=np.float32)
        with threads.limit(self.jobs()):
            return sum(tree.value[tree.leaves_of(X)] for tree in self.trees_) / len(self.trees_)

    def out_of_bag(self, X, w, size, weighted, seeds):
        """(4), (N, K); NaN for rows that every tree has drawn."""
        total, voters = 0, np.zeros((len(w), 1))
        for tree, seed in zip(self.trees_, seeds, strict=True):
            drawn = drawn_counts(np.random.RandomState(seed), w, size, weighted)  # once more
            left_out = np.flatnonzero(drawn == 0)
            value = np.zeros((len(w), tree.value.shape[1]))
            value[left_out] = tree.value[tree.leaves_of(X[left_out])]
            total = total + value
            voters[left_out] += 1
        if not voters.all():
            warnings.warn(f"{np.sum(voters == 0)} rows have no out-of-bag answer, since every tree "
                          "has drawn them: grow more trees", UserWarning, stacklevel=3)
        with np.errstate(invalid="ignore"):
            return total / voters

    @property
    def feature_importances_(self):
        """The mean of the trees' importances (lesson pruning, equation 5), with sum 1."""
        self.check_fitted()
        found = [t.importances(self.n_features_in_) for t in self.trees_ if len(t.left) > 1]
        if not found:
            return np.zeros(self.n_features_in_)
        mean = np.mean(found, axis=0)
        return mean / mean.sum()

    def apply(self, X):
        """(N, trees) the number of the leaf of each row in each tree."""
        X = self.check_X(X, dtype=np.float32)
        return np.stack([tree.leaves_of(X) for tree in self.trees_], axis=1)


class RandomForestClassifier(Forest, Classifier):
    """The mean of n_estimators trees for classes. Settings of a tree: DecisionTreeClassifier.

    bootstrap: draw rows for each tree, max_samples of them (a number, or a share of all).
    oob_score: also find oob_decision_function_ and oob_score_. n_jobs: threads, -1 for all cores.
    """

    def __init__(self, n_estimators=100, *, criterion="gini", max_depth=None, min_samples_split=2,
                 min_samples_leaf=1, min_weight_fraction_leaf=0.0, max_features="sqrt",
                 min_impurity_decrease=0.0, bootstrap=True, oob_score=False, n_jobs=None,
                 random_state=None, ccp_alpha=0.0, max_samples=None):
        keep_settings(self, locals())

    def fit(self, X, y, sample_weight=None):
        """Grow on X (N, F) and labels y (N,). With bootstrap a weight is a chance to be drawn."""
        criterion = CRITERIA[self.choice("criterion", "gini", "entropy")]
        X, y, w = self.check_fit(X, y, sample_weight, dtype=np.float32)
        self.n_classes_ = len(self.classes_)
        weighted = sample_weight is not None
        votes = self.grow(X, y, w, self.n_classes_, criterion, weighted)
        if votes is not None:
            self.oob_decision_function_ = votes
            told = ~np.isnan(votes[:, 0])
            self.oob_score_ = float(np.mean(np.argmax(votes[told], axis=1) == y[told]))
        return self

    def predict_proba(self, X):
        """(3), (N, K)."""
        return self.mean_value(X)

    def predict_log_proba(self, X):
        """The logarithm of predict_proba."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))


class RandomForestRegressor(Forest, Regressor):
    """The mean of n_estimators trees for numbers; settings as RandomForestClassifier's."""

    def __init__(self, n_estimators=100, *, criterion="squared_error", max_depth=None,
                 min_samples_split=2, min_samples_leaf=1, min_weight_fraction_leaf=0.0,
                 max_features=1.0, min_impurity_decrease=0.0, bootstrap=True, oob_score=False,
                 n_jobs=None, random_state=None, ccp_alpha=0.0, max_samples=None):
        keep_settings(self, locals())

    def fit(self, X, y, sample_weight=None):
        """Grow on X (N, F) and numbers y (N,). With bootstrap a weight is a chance to be drawn."""
        self.choice("criterion", "squared_error")
        X, y, w = self.check_fit(X, y, sample_weight, dtype=np.float32)
        found = self.grow(X, y, w, 1, SQUARED, sample_weight is not None)
        if found is not None:
            self.oob_prediction_ = found[:, 0]
            told = ~np.isnan(self.oob_prediction_)
            error = np.sum((y - self.oob_prediction_)[told] ** 2)
            self.oob_score_ = float(1 - error / np.sum((y[told] - y[told].mean()) ** 2))
        return self

    def predict(self, X):
        """(3), (N,)."""
        return self.mean_value(X)[:, 0]
