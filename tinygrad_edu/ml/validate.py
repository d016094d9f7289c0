"""Lesson 4.93 · Validate: fit and judge, fold after fold

Needs curves, chain, scores, splits, table. Used by search, leaks, scripts/classical.py.

Idea      A split gives rows to learn from and rows to be judged by; a score says how right answers
          are. Between them stands a loop that is easy to get wrong: a model that has seen anything
          of the test rows, in an earlier fold or in its preparation, is not judged at all. So each
          fold gets a new copy of the whole pipeline. The same loop over growing numbers of training
          rows gives a learning curve: if both lines have met, more data will not help, and if they
          are far apart, more data or a simpler model will.
Math      score of fold j = s(y[test_j], model fitted on train_j asked about X[test_j])         (1)
          a learning curve: (1) with the first m rows of each train_j, m = m₁ < m₂ < …          (2)
Shapes    scores (k,), one a fold · cross_val_predict (N,) or (N, K): each row's answer from the
          model that has not seen it
Pitfalls  A loss is better when it is smaller, and a search wants the larger: so names that begin
          with neg_ are losses times −1.
          The best of many is not as good as it looks: what was chosen on these folds is to be
          judged on other rows. A search is an estimator, so it can stand inside this loop.
          A score over all rows of cross_val_predict is not the mean of the folds' scores.
Cost      k fits, each on (k − 1)/k of the rows.
Try       build it    a validation curve: the score over one setting, say max_depth.
          break it    fit the given estimator and not a clone. Which test notices?
          measure it  python scripts/classical.py curve --data digits
See       Stone 1974 · Varma, Simon 2006 (nested cross-validation)
"""

import time

import numpy as np

from .chain import clone, kind_of
from .curves import average_precision_score, roc_auc_score
from .scores import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    precision_score,
    r2_score,
    recall_score,
)
from .splits import check_cv
from .table import count_rows, take_rows, with_rows


def of_answers(score, sign=1, **options):
    """A scorer that asks for the answers themselves."""
    return lambda estimator, X, y: sign * score(y, estimator.predict(X), **options)


def of_probabilities(score, sign=-1):
    """A scorer that asks for probabilities of all classes."""

    def judge(estimator, X, y):
        proba = estimator.predict_proba(X)
        return sign * score(y, proba, labels=estimator.classes_)

    return judge


def of_order(score, **options):
    """A scorer that asks in which order the rows are put: by the decision, or the probability."""

    def judge(estimator, X, y):
        ask = getattr(estimator, "decision_function", None) or estimator.predict_proba
        several = len(estimator.classes_) > 2
        values = estimator.predict_proba(X) if several else ask(X)
        values = values[:, 1] if not several and values.ndim == 2 else values
        more = {**options, "labels": estimator.classes_} if several else {}
        return score(y, values, **more)

    return judge


def of_cases(estimator, X, y):
    """The average precision; the case is the larger of the two labels."""
    return of_order(lambda y, v: average_precision_score(y, v, estimator.classes_[-1]))(
        estimator, X, y)


# Larger is better. The names are scikit-learn's.
SCORERS = {
    "accuracy": of_answers(accuracy_score),
    "balanced_accuracy": of_answers(balanced_accuracy_score),
    "precision": of_answers(precision_score), "precision_macro": of_answers(
        precision_score, average="macro"),
    "recall": of_answers(recall_score), "recall_macro": of_answers(recall_score, average="macro"),
    "f1": of_answers(f1_score), "f1_macro": of_answers(f1_score, average="macro"),
    "roc_auc": of_order(roc_auc_score), "roc_auc_ovr": of_order(roc_auc_score, multi_class="ovr"),
    "average_precision": of_cases,
    "neg_log_loss": of_probabilities(log_loss),
    "neg_brier_score": of_probabilities(brier_score_loss),
    "r2": of_answers(r2_score),
    "neg_mean_absolute_error": of_answers(mean_absolute_error, -1),
    "neg_mean_squared_error": of_answers(mean_squared_error, -1),
}


def scorer_of(scoring, estimator):
    """The function (estimator, X, y) of a name; a function itself; the estimator's score if None.

    Raises ValueError for an unknown name.
    """
    if callable(scoring):
        return scoring
    if scoring is None:
        if not hasattr(estimator, "score"):
            raise TypeError(f"{estimator!r} has no score: name one with scoring=")
        return lambda fitted, X, y: fitted.score(X, y)
    if scoring not in SCORERS:
        raise ValueError(f"{scoring!r} is not a valid scoring value: take one of "
                         f"{', '.join(SCORERS)}")
    return SCORERS[scoring]


def cross_validate(estimator, X, y=None, cv=5, scoring=None, groups=None, train_score=False,
                   progress=iter):
    """{"test_score": (k,), "fit_time": (k,), "score_time": (k,)}, (1), and train_score if asked.

    Also "estimator", the k fitted copies, and "test_rows", the rows that each has not seen.
    scoring: a name of SCORERS, a function, or several in a list: then test_accuracy and so on.
    cv: a number of folds, stratified for a classifier, or a splitter. progress: wraps the folds,
    such as tqdm.
    """
    X = with_rows(X)
    splitter = check_cv(cv, y, kind_of(estimator) == "classifier")
    several = isinstance(scoring, list | tuple)
    named = {name: scorer_of(name, estimator) for name in scoring} if several else {
        "score": scorer_of(scoring, estimator)}
    folds = list(splitter.split(X, y, groups))
    rows = [judge(estimator, X, y, train, test, named, train_score)
            for train, test in progress(folds)]
    kept = {"estimator": [row.pop("estimator") for row in rows],
            "test_rows": [test for _, test in folds]}
    return {**{name: np.array([row[name] for row in rows]) for name in rows[0]}, **kept}


def judge(estimator, X, y, train, test, named, train_score=False):
    """What one fold says: times and scores by name, (1), and the fitted copy."""
    start = time.perf_counter()
    fitted = clone(estimator).fit(take_rows(X, train), take_rows(y, train))
    found = {"fit_time": time.perf_counter() - start}
    sides = {"test": test, "train": train} if train_score else {"test": test}
    start = time.perf_counter()
    for side, rows in sides.items():
        part = take_rows(X, rows), take_rows(y, rows)
        found.update((f"{side}_{name}", score(fitted, *part)) for name, score in named.items())
    return {**found, "score_time": time.perf_counter() - start, "estimator": fitted}


def cross_val_score(estimator, X, y=None, cv=5, scoring=None, groups=None):
    """The scores (k,) of the folds, (1)."""
    return cross_validate(estimator, X, y, cv, scoring, groups)["test_score"]


def cross_val_predict(estimator, X, y=None, cv=5, groups=None, method="predict"):
    """Each row's answer by the model that has not seen it. Every row is tested exactly once."""
    X = with_rows(X)
    splitter = check_cv(cv, y, kind_of(estimator) == "classifier")
    answers, places = [], []
    for train, test in splitter.split(X, y, groups):
        fitted = clone(estimator).fit(take_rows(X, train), take_rows(y, train))
        if method == "predict_proba" and len(fitted.classes_) != len(np.unique(y)):
            raise ValueError("a fold has learned from fewer classes than there are: use stratified "
                             "folds, or fewer of them")
        answers.append(getattr(fitted, method)(take_rows(X, test)))
        places.append(test)
    places = np.concatenate(places)
    if len(places) != count_rows(X) or len(np.unique(places)) != len(places):
        raise ValueError("cross_val_predict only works for partitions: every row is to be tested "
                         "once")
    return np.concatenate(answers)[np.argsort(places)]


def learning_curve(estimator, X, y, sizes=(0.1, 0.325, 0.55, 0.775, 1.0), cv=5, scoring=None,
                   random_state=0, progress=iter):
    """(sizes (S,), scores on the rows learned from (S, k), scores on the others (S, k)), (2).

    sizes: shares of the training rows, which are shuffled first so that a part has all classes.
    """
    X = with_rows(X)
    splitter = check_cv(cv, y, kind_of(estimator) == "classifier")
    random = np.random.default_rng(random_state)
    folds = [(random.permutation(train), test) for train, test in splitter.split(X, y)]
    smallest = min(len(train) for train, _ in folds)
    counts = np.unique([max(1, int(share * smallest)) for share in sizes])
    named = {"score": scorer_of(scoring, estimator)}
    pairs = [(i, j) for i in range(len(counts)) for j in range(len(folds))]
    train_scores, test_scores = np.empty((2, len(counts), len(folds)))
    for i, j in progress(pairs):
        train, test = folds[j]
        row = judge(estimator, X, y, train[:counts[i]], test, named, train_score=True)        # (2)
        train_scores[i, j], test_scores[i, j] = row["train_score"], row["test_score"]
    return counts, train_scores, test_scores
