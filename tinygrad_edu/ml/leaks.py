"""Lesson 4.96 · Leaks: scores that the future will not keep

Needs encoding, estimator, inputs, logistic, chain, scaling, scores, splits, tree, validate.
Used by scripts/classical.py.

Idea      A leak is any way by which a model in training learns about the rows that are to judge it.
          The score rises, nothing fails, and months later reality disagrees. Here each of the usual
          leaks is planted on purpose, in data that are made, so that more rows can be made: a score
          on ten thousand fresh rows is the truth to which the leaky score and the honest one are
          compared. Some leaks a pipeline removes, some only the right split.
Math      leaky: prepare(all rows), then folds      honest: folds, then prepare(train)          (1)
          fresh: fitted on all rows once, scored on rows that did not exist before              (2)
          faked = leaky − fresh; honest − fresh is small, the sign is that of chance            (3)
Shapes    a leak is a function seed → (leaky, honest, fresh): three scores, 1 is perfect
Pitfalls  Most leaks make no visible trouble on most data: scaling a thousand rows before splitting
          fakes nothing that one could measure. That is how the habit survives.
          Honest scores are a little low, since each fold learns from fewer rows.
          Removing exact duplicates does not help against near ones: two photographs of one patient.
Cost      Seconds for all five.
Try       build it    a leak by name: a column "days until cancelled" that is filled in afterwards.
          break it    give `encoded_first` ten categories in place of 150. What becomes of (3)?
          measure it  python scripts/classical.py leaks
See       Kaufman, Rosset, Perlich 2012 · Ambroise, McLachlan 2002 (selection) · Bergmeir, Benítez
          2012 (time)
"""

from typing import NamedTuple

import numpy as np

from .chain import Pipeline, clone
from .encoding import TargetEncoder
from .estimator import Transformer
from .inputs import check_target
from .logistic import LogisticRegression
from .scaling import StandardScaler, names_of
from .scores import accuracy_score, r2_score
from .splits import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit
from .tree import DecisionTreeClassifier, DecisionTreeRegressor
from .validate import cross_val_score

FRESH = 10_000  # rows that judge, (2)


class Finding(NamedTuple):
    """One leak: its mean scores over seeds, and what removes it."""

    name: str
    remedy: str
    leaky: float
    honest: float
    fresh: float

    @property
    def faked(self):
        """How much of the leaky score reality will not keep, (3)."""
        return self.leaky - self.fresh


class SelectBest(Transformer):
    """The k columns that are most correlated with y: the preparation that leaks most."""

    tags = {"target_tags.required": True}

    def __init__(self, k=10):
        self.k = k

    def fit(self, X, y):
        """Find them."""
        X = self.check_X(X, fitting=True)
        y = check_target(y, len(X), "SelectBest")
        X, y = X - X.mean(0), y - y.mean()
        size = np.sqrt((X * X).sum(0) * (y @ y))
        self.correlation_ = np.abs(X.T @ y) / np.where(size == 0, 1.0, size)
        k = min(self.number("k", low=1, whole=True), X.shape[1])
        self.chosen_ = np.sort(np.argsort(-self.correlation_, kind="stable")[:k])
        return self

    def transform(self, X):
        """These columns alone."""
        return self.check_X(X)[:, self.chosen_]

    def get_feature_names_out(self, input_features=None):
        """Their names."""
        return names_of(self, input_features)[self.chosen_]


def both_ways(step, model, X, y, fresh_X, fresh_y):
    """(leaky, honest, fresh) accuracies where `step` prepares: (1) and (2)."""
    pipeline = Pipeline([("step", step), ("model", model)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    prepared = clone(step).fit(X, y).transform(X)  # of all rows, those that judge too
    leaky = cross_val_score(model, prepared, y, folds).mean()
    honest = cross_val_score(pipeline, X, y, folds).mean()
    return leaky, honest, pipeline.fit(X, y).score(fresh_X, fresh_y)                          # (2)


def scaled_first(seed):
    """Sensors, one of which now and then reports 10,000: whoever scales before has seen it.

    A broken value in a training row makes the scale of its column so large that later ones do no
    harm. A column that first breaks in a test row spoils that row, unless the scale was found with
    it.
    """

    def sensors(rows, random):
        y = np.arange(rows) % 2
        X = random.standard_normal((rows, 101))
        X[:, 0] += 3 * y
        broken = np.flatnonzero(random.random(rows) < 0.5)
        X[broken, random.integers(1, 101, len(broken))] = 1e4
        return X, y

    random = np.random.default_rng(seed)
    return both_ways(StandardScaler(), LogisticRegression(), *sensors(100, random),
                     *sensors(FRESH, random))


def encoded_first(seed):
    """Each of 400 rows lives in one of 150 streets, and no street has anything to do with y."""

    def streets(rows, random):
        X = random.integers(0, 150, (rows, 1)).astype(str).astype(object)
        return X, random.integers(0, 2, rows)

    random = np.random.default_rng(seed)
    encoder = TargetEncoder(smooth=1.0, random_state=seed)
    return both_ways(encoder, LogisticRegression(), *streets(400, random),
                     *streets(FRESH, random))


def selected_first(seed):
    """100 rows of 1,000 columns of noise: the ten that look best were chosen on all rows."""

    def noise(rows, random):
        return random.standard_normal((rows, 1000)), np.arange(rows) % 2

    random = np.random.default_rng(seed)
    return both_ways(SelectBest(10), LogisticRegression(), *noise(100, random),
                     *noise(FRESH, random))


def doubled(seed):
    """300 rows are there twice or more; a tree needs only to remember them."""

    def patients(rows, random):
        X = random.standard_normal((rows, 5))
        return X, (X[:, 0] + 2 * random.standard_normal(rows) > 0).astype(int)

    random = np.random.default_rng(seed)
    X, y = patients(300, random)
    patient = np.concatenate([np.arange(300), random.integers(0, 300, 600)])
    X_all, y_all, tree = X[patient], y[patient], DecisionTreeClassifier(random_state=0)
    leaky = cross_val_score(tree, X_all, y_all, KFold(5, shuffle=True, random_state=0)).mean()
    honest = cross_val_score(tree, X_all, y_all, GroupKFold(5), groups=patient).mean()
    fresh_X, fresh_y = patients(FRESH, random)
    return leaky, honest, accuracy_score(fresh_y, clone(tree).fit(X_all, y_all).predict(fresh_X))


def shuffled_time(seed):
    """A price that wanders, and a tree that knows the date: between two days it interpolates.

    The score is R²; the fresh rows are the days that follow.
    """
    random = np.random.default_rng(seed)
    days = 600
    price = np.cumsum(random.standard_normal(days + days // 10))  # the fresh days too
    date = np.arange(len(price), dtype=float)[:, None]
    X, y, tree = date[:days], price[:days], DecisionTreeRegressor(random_state=0)
    leaky = cross_val_score(tree, X, y, KFold(10, shuffle=True, random_state=0)).mean()
    folds = [*TimeSeriesSplit(9, test_size=days // 10).split(X),
             (np.arange(days), np.arange(days, len(price)))]  # the last one is the future
    scores = [r2_score(price[test], clone(tree).fit(date[train], price[train]).predict(date[test]))
              for train, test in folds]
    scores = np.maximum(scores, -1)  # how far below their own mean does not matter
    return leaky, scores[:-1].mean(), scores[-1]


# name -> (the function, what removes the leak)
LEAKS = {
    "scaled before splitting": (scaled_first, "pipeline"),
    "target encoded on all rows": (encoded_first, "pipeline"),
    "columns chosen on all rows": (selected_first, "pipeline"),
    "duplicate rows": (doubled, "split by group"),
    "time order ignored": (shuffled_time, "split by time"),
}


def find_leaks(seeds=10, progress=iter):
    """A Finding for each of LEAKS, averaged over so many seeds. progress: wraps the work."""
    work = [(name, seed) for name in LEAKS for seed in range(seeds)]
    scores = {name: [] for name in LEAKS}
    for name, seed in progress(work):
        scores[name].append(LEAKS[name][0](seed))
    return [Finding(name, remedy, *map(float, np.mean(scores[name], axis=0)))
            for name, (_, remedy) in LEAKS.items()]
