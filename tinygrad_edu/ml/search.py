"""Lesson 4.94 · Search: settings that nothing learns

Needs estimator, inputs, chain, splits, table, validate. Used by halving,
scripts/classical.py.

Idea      How deep a tree may grow and how much a ridge punishes is not learned by fit: it is
          chosen, by trying. All combinations of a few values each are many, and most of the work
          goes into settings that do not matter. The same number of random draws tries as many
          values of each setting as there are draws, so that those which do matter are tried more
          finely. What is found is fitted once more on all rows: the search is an estimator too.
Math      chosen = argmax over candidates θ of the mean over folds of score(θ)                  (1)
          grid: all combinations      random: θᵢ ~ its distribution, n_iter times               (2)
          log-uniform on [a, b]: a·(b/a)ᵘ, u uniform on [0, 1)                                  (3)
Shapes    param_grid: {setting: values}, or a list of such · cv_results_: a dict of arrays, an
          entry a candidate: mean_test_score, split0_test_score, …, param_C, params
Pitfalls  best_score_ is the best of many, so it flatters: judge the search itself on other rows,
          by cross_validate(search, X, y).
          A rate or a penalty matters by its logarithm: 1, 2, 3 … 10 tries one decade ten times.
          Two candidates are compared on the same folds, or the luck of the folds decides.
          Random draws of a grid repeat themselves: from lists, they are without replacement.
          A candidate is an estimator inside an estimator: what is tried must be cloned, or the
          second fold goes on with what the first one has learned.
Cost      candidates × folds fits, and one.
Try       build it    start each candidate of a ridge at the weights of the one before.
          break it    let (1) take the smallest. Which test notices?
          measure it  python scripts/classical.py search --data digits --models tree
See       Bergstra, Bengio 2012 · Hastie, Tibshirani, Friedman 2009, ch. 7.10 (the wrong way)
"""

from itertools import product

import numpy as np

from .chain import clone, kind_of, passed_on
from .estimator import Estimator
from .inputs import check_column, check_random_state
from .splits import check_cv
from .table import count_rows, with_rows
from .validate import judge, scorer_of


def grid_of(param_grid):
    """All combinations as dicts, (2); of several grids one after the other.

    Raises ValueError for a setting without a list of values.
    """
    grids = [param_grid] if isinstance(param_grid, dict) else list(param_grid)
    found = []
    for grid in grids:
        for name, values in grid.items():
            if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
                raise ValueError(f"Parameter grid for parameter {name!r} needs to be a list or an "
                                 f"array of values, at least one, got {values!r}")
        names = sorted(grid)
        found += [dict(zip(names, values, strict=True))
                  for values in product(*(grid[name] for name in names))]
    return found


class LogUniform:
    """For RandomizedSearchCV: every decade between low and high is as likely, (3)."""

    def __init__(self, low, high):
        if not 0 < low < high:
            raise ValueError(f"LogUniform takes 0 < low < high, not {low!r} and {high!r}")
        self.low, self.high = low, high

    def __repr__(self):
        return f"LogUniform({self.low!r}, {self.high!r})"

    def rvs(self, random_state=None):
        """One draw; the name is that of scipy's distributions, which serve as well."""
        u = check_random_state(random_state).random()
        return float(self.low * (self.high / self.low) ** u)                                  # (3)


def draws_of(distributions, count, random_state):
    """`count` candidates, (2): a setting is drawn from a list, or by .rvs of a distribution.

    Fewer where all are lists that have fewer combinations.
    """
    random = check_random_state(random_state)
    lists = {name: values for name, values in distributions.items() if not hasattr(values, "rvs")}
    if len(lists) == len(distributions):
        every = grid_of(distributions)
        order = random.permutation(len(every))[:count]
        return [every[i] for i in order]
    found = []
    for _ in range(count):
        seed = int(random.integers(2**31))  # scipy's distributions take a seed too
        found.append({name: values[random.integers(len(values))] if name in lists
                      else values.rvs(random_state=seed + i)
                      for i, (name, values) in enumerate(sorted(distributions.items()))})
    return found


class Search(Estimator):
    """Tries candidates; a subclass has `candidates()`, and perhaps its own `rounds`.

    Its estimator, scoring, cv and verbose mean the same in all of them: see cross_validate of
    lesson validate; verbose shows a bar.
    """

    @property
    def kind(self):
        """What the estimator is that is searched for."""
        return kind_of(self.estimator)

    def __sklearn_tags__(self):
        from sklearn.utils import get_tags

        return get_tags(self.estimator)

    def fit(self, X, y=None, groups=None):
        """Try all candidates on the same folds, then fit the best one on all rows.

        Afterwards best_params_, best_score_ and best_estimator_ say what was found, cv_results_ how
        all candidates did.
        """
        X = with_rows(X)
        y = y if y is None else check_column(y, count_rows(X), type(self).__name__)
        splitter = check_cv(self.cv, y, self.kind == "classifier")
        folds = list(splitter.split(X, y, groups))  # a list, so that all see the same ones
        self.results_ = []
        with self._bar() as bar:
            last = self.rounds(X, y, folds, bar)
        best = max(last, key=lambda row: row["mean_test_score"])                              # (1)
        self.best_index_ = next(i for i, row in enumerate(self.results_) if row is best)
        self.best_params_, self.best_score_ = best["params"], best["mean_test_score"]
        self.cv_results_ = self._table()
        self.n_splits_ = len(folds)
        self.best_estimator_ = clone(self.estimator).set_params(**clone_values(self.best_params_))
        self.best_estimator_.fit(X, y)
        return self

    def rounds(self, X, y, folds, bar):
        """Results of the candidates among which the best is chosen: here one round, all rows."""
        return [self.try_one(settings, X, y, folds, bar) for settings in self.candidates()]

    def try_one(self, settings, X, y, folds, bar, **more):
        """The scores of one candidate over the folds; they are kept in results_."""
        estimator = clone(self.estimator).set_params(**clone_values(settings))
        rows, named = [], {"score": scorer_of(self.scoring, self.estimator)}
        for train, test in folds:
            rows.append(judge(estimator, X, y, train, test, named))
            bar.update()
        scores = np.array([row["test_score"] for row in rows])
        result = {"params": settings, "mean_test_score": float(scores.mean()),
                  "std_test_score": float(scores.std()),
                  "mean_fit_time": float(np.mean([row["fit_time"] for row in rows])), **more}
        result.update((f"split{i}_test_score", score) for i, score in enumerate(scores))
        self.results_.append(result)
        return result

    def _table(self):
        """cv_results_: the results as columns, with ranks and a column for each setting."""
        table = {name: np.array([row[name] for row in self.results_])
                 for name in self.results_[0] if name != "params"}
        table["params"] = [row["params"] for row in self.results_]
        means = table["mean_test_score"]
        table["rank_test_score"] = np.array([1 + int(np.sum(means > mean)) for mean in means])
        for name in sorted({name for settings in table["params"] for name in settings}):
            column = [settings.get(name) for settings in table["params"]]
            table[f"param_{name}"] = np.array([*column, None], dtype=object)[:-1]
        return table

    def _bar(self):
        from tqdm import tqdm

        return tqdm(desc=type(self).__name__, unit="fit", leave=False, disable=not self.verbose)

    @property
    def _last(self):
        return self.estimator

    @property
    def _fitted(self):
        return self.best_estimator_

    def _before_last(self, X):
        self.check_fitted()
        return X

    predict, predict_proba = passed_on("predict"), passed_on("predict_proba")
    decision_function, transform = passed_on("decision_function"), passed_on("transform")

    def score(self, X, y=None):
        """The score that was searched for, of the best estimator."""
        self.check_fitted()
        return scorer_of(self.scoring, self.estimator)(self.best_estimator_, X, y)

    @property
    def classes_(self):
        """Of the best estimator."""
        return self.best_estimator_.classes_

    @property
    def n_features_in_(self):
        """Of the best estimator."""
        return self.best_estimator_.n_features_in_

    @property
    def feature_names_in_(self):
        """Of the best estimator."""
        return self.best_estimator_.feature_names_in_


def clone_values(settings):
    """Settings with new copies of the estimators among them."""
    return {name: clone(value) if hasattr(value, "get_params") else value
            for name, value in settings.items()}


class GridSearchCV(Search):
    """All combinations of param_grid, (2)."""

    def __init__(self, estimator, param_grid, scoring=None, cv=5, verbose=False):
        self.estimator = estimator
        self.param_grid = param_grid
        self.scoring = scoring
        self.cv = cv
        self.verbose = verbose

    def candidates(self):
        """The settings to try."""
        return grid_of(self.param_grid)


class RandomizedSearchCV(Search):
    """n_iter draws from param_distributions, (2): lists, LogUniform, distributions of scipy."""

    def __init__(self, estimator, param_distributions, n_iter=10, scoring=None, cv=5,
                 random_state=None, verbose=False):
        self.estimator = estimator
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.scoring = scoring
        self.cv = cv
        self.random_state = random_state
        self.verbose = verbose

    def candidates(self):
        """The settings to try."""
        count = self.number("n_iter", low=1, whole=True)
        return draws_of(self.param_distributions, count, self.random_state)
