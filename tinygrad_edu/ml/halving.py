"""Lesson 4.95 · Halving: most candidates are seen to be bad on few rows

Needs inputs, search. Used by scripts/classical.py.

Idea      A search gives every candidate all rows, the hopeless ones too. But hopeless is seen soon:
          let all of them learn from few rows, keep the better third, give those three times as many
          rows, and so on. Every round costs about the same, since there are fewer candidates as
          there are more rows, and the last few are compared on all of them.
Math      round r has ⌈n/fʳ⌉ candidates on m·fʳ rows, f the factor; the last one all rows       (1)
          rounds = ⌈log_f n⌉ + 1, or fewer: the first has at least 4 rows a class               (2)
Shapes    n_candidates_, n_resources_: how many there were in each round, and rows they had ·
          cv_results_ as in lesson search, an entry a candidate and round, with iter
Pitfalls  It trusts that what is good on few rows is good on many. A model that needs many rows to
          shine, a deep tree, a boosting with small steps, may be thrown away early.
          Scores of different rounds cannot be compared: so the best is chosen in the last one.
          Few rows of a rare class may be none: each class keeps its share.
Cost      rounds · n·m rows, instead of n·N.
Try       build it    halving over the rounds of boosting in place of rows.
          break it    choose the best among the candidates of all rounds. Which test notices?
          measure it  python scripts/classical.py search --data digits --models tree
See       Karnin, Koren, Somekh 2013 · Jamieson, Talwalkar 2016 · Li et al. 2018 (Hyperband)
"""

import math

import numpy as np

from .inputs import check_random_state
from .search import GridSearchCV


class HalvingGridSearchCV(GridSearchCV):
    """All combinations on few rows, the best 1/factor of them on factor times as many, …, (1).

    The rows to learn from are drawn anew in every round; all test rows of a fold judge.
    """

    def __init__(self, estimator, param_grid, factor=3, scoring=None, cv=5, random_state=None,
                 verbose=False):
        super().__init__(estimator, param_grid, scoring, cv, verbose)
        self.factor = factor
        self.random_state = random_state

    def rounds(self, X, y, folds, bar):
        """Round after round; the best is chosen among the candidates of the last, on all rows."""
        factor = self.number("factor", low=1, open_low=True)
        random = check_random_state(self.random_state)
        candidates = self.candidates()
        classes = len(np.unique(y)) if self.kind == "classifier" else 1
        most = min(len(train) for train, _ in folds)
        # As many rounds as it takes to have few candidates, if there are rows enough, (2).
        wanted = math.ceil(math.log(len(candidates), factor) - 1e-9)
        possible = max(0, int(math.log(max(1.0, most / (4 * classes)), factor)))
        count = min(wanted, possible) + 1
        self.n_candidates_, self.n_resources_ = [], []
        for number in range(count):
            rows = max(1, int(most / factor ** (count - 1 - number)))                         # (1)
            parts = [(smaller(train, rows, y, classes, random), test) for train, test in folds]
            results = [self.try_one(settings, X, y, parts, bar, iter=number, n_resources=rows)
                       for settings in candidates]
            self.n_candidates_.append(len(candidates))
            self.n_resources_.append(rows)
            if number < count - 1:
                kept = math.ceil(len(candidates) / factor)
                best = sorted(results, key=lambda row: -row["mean_test_score"])[:kept]
                candidates = [row["params"] for row in best]
        return results


def smaller(train, rows, y, classes, random):
    """That many of the training rows, each class in its share; all of them if that is as many."""
    if rows >= len(train):
        return train
    train = random.permutation(train)
    if classes == 1:
        return np.sort(train[:rows])
    _, codes = np.unique(np.asarray(y)[train], return_inverse=True)
    place = np.empty(len(train))
    for code, size in enumerate(np.bincount(codes)):
        place[codes == code] = (np.arange(size) + 0.5) / size  # spread evenly over [0, 1)
    return np.sort(train[np.argsort(place, kind="stable")[:rows]])
