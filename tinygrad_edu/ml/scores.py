"""Lesson 4.87 · Scores: how right were the answers?

Needs inputs. Used by curves, validate, leaks.

Idea      One number cannot say how good a classifier is, since mistakes differ: an illness that is
          missed, a healthy person who is frightened. The confusion matrix counts all kinds of them,
          and every score is a way to read it: precision asks how many alarms were right, recall how
          many cases were found, F1 wants both. Probabilities are judged by how surprised one is at
          what happened; numbers by how far away they were.
Math      M[i, j] = Σ of weights of rows of class i that were called j                          (1)
          precision = M[c, c]/Σᵢ M[i, c]      recall = M[c, c]/Σⱼ M[c, j]                       (2)
          F1 = 2·M[c, c]/(Σᵢ M[i, c] + Σⱼ M[c, j]), the harmonic mean of both                   (3)
          accuracy = Σ_c M[c, c]/ΣM      balanced accuracy = the mean recall of all classes     (4)
          log loss = −mean ln p(y)      Brier = mean Σ_c (p_c − [y = c])², half of it for two   (5)
          R² = 1 − Σ(y − ŷ)²/Σ(y − ȳ)²      mean absolute error      mean squared error         (6)
Shapes    y, guess (N,) labels, or numbers · proba (N, K), columns as the sorted labels, or (N,) of
          the larger label · M (K, K), rows are the truth
Pitfalls  99 % are right who always say healthy where 1 % are ill: look at the balanced accuracy.
          The mean over classes (macro) lets a rare class count as much as a common one; micro does
          not, and is plain accuracy.
          0/0: nobody was called c, so its precision is unknown; it counts as 0 here, zero_division.
          p = 0 for what happened makes the log loss infinite: p is kept 2.2e-16 off 0 and 1.
          Precision depends on how common the class is; recall does not.
Cost      One pass over the labels.
Try       build it    Matthews' correlation from (1), for two classes.
          break it    divide (2) by rows where it should be by columns. Which test notices?
          measure it  python scripts/classical.py classify --data breast_cancer
See       van Rijsbergen 1979 (F) · Brier 1950 · Brodersen et al. 2010 (balanced accuracy)
"""

import numpy as np

from .inputs import as_array, check_column, check_weights


def labels_of(y, guess, labels=None):
    """The labels that occur in either, sorted; or those that were asked for."""
    if labels is not None:
        return np.asarray(labels)
    try:
        return np.union1d(y, guess)
    except TypeError:
        raise ValueError("y and the guesses mix labels that cannot be sorted, such as numbers and "
                         "text: make them all text") from None


def same_length(y, guess, sample_weight=None):
    """Both as columns of one length, with weights (N,)."""
    y = as_array(y)
    if y.ndim == 0 or not len(y):
        raise ValueError("Found array with 0 sample(s): nothing can be scored")
    y = check_column(y, len(y))
    guess = check_column(guess, len(y), name="the guess")
    return y, guess, check_weights(sample_weight, len(y))


def mean(values, weights):
    """The weighted mean, as a float."""
    return float(np.average(values, weights=weights))


# ---- classes ----------------------------------------------------------------------------------


def confusion_matrix(y, guess, labels=None, sample_weight=None, normalize=None):
    """(1). Counts, or sums of weights; normalize="true", "pred" or "all" makes them shares."""
    whole = sample_weight is None
    y, guess, weights = same_length(y, guess, sample_weight)
    labels = labels_of(y, guess, labels)
    known = np.isin(y, labels) & np.isin(guess, labels)
    rows = place_among(labels, y[known])
    columns = place_among(labels, guess[known])
    K = len(labels)
    counts = np.bincount(rows * K + columns, weights[known], K * K)
    matrix = counts.reshape(K, K)                                                             # (1)
    if normalize is None:
        return matrix.astype(int) if whole else matrix
    axes = {"true": 1, "pred": 0, "all": None}
    if normalize not in axes:
        raise ValueError(f"normalize takes 'true', 'pred', 'all' or None, not {normalize!r}")
    return ratio(matrix, matrix.sum(axes[normalize], keepdims=True))


def place_among(labels, values):
    """Where each of `values` stands among the labels, which need not be sorted."""
    order = np.argsort(labels)
    return order[np.searchsorted(labels, values, sorter=order)]


def ratio(top, bottom, zero_division=0.0):
    """top/bottom, and `zero_division` where bottom is 0."""
    top, bottom = np.broadcast_arrays(top, bottom)
    known = np.full(top.shape, zero_division, float)
    return np.divide(top, bottom, out=known, where=bottom != 0)


def accuracy_score(y, guess, sample_weight=None):
    """The share of right answers, (4)."""
    y, guess, weights = same_length(y, guess, sample_weight)
    return mean(y == guess, weights)


def balanced_accuracy_score(y, guess, sample_weight=None):
    """The mean recall of the classes that occur, (4)."""
    weights = check_weights(sample_weight, len(y))
    matrix = confusion_matrix(y, guess, sample_weight=weights)
    rows = matrix.sum(1)
    recall = np.diag(matrix)[rows > 0] / rows[rows > 0]                                       # (2)
    return float(recall.mean())                                                               # (4)


def precision_recall_f1(y, guess, labels=None, average=None, **options):
    """(precision, recall, F1), (2) and (3), of each label; or their average.

    average: None; "binary", the label pos_label (1); "macro", "weighted" by how often a class is
    there; "micro", all decisions in one table. options: pos_label, sample_weight, zero_division.
    """
    zero = options.get("zero_division", 0.0)
    weights = check_weights(options.get("sample_weight"), len(y))
    y, guess, _ = same_length(y, guess)
    every = labels_of(y, guess)
    asked = wanted_labels(every, labels, average, options.get("pos_label", 1))
    others = np.setdiff1d(every, asked)
    matrix = confusion_matrix(y, guess, np.append(asked, others), weights)
    right, called, there = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    counts = np.stack([right, called, there])[:, :len(asked)]
    right, called, there = counts.sum(1) if average == "micro" else counts
    scores = (
        ratio(right, called, zero),                                                           # (2)
        ratio(right, there, zero),
        ratio(2 * right, called + there, zero),                                               # (3)
    )
    if average is None:
        return scores
    shares = there if average == "weighted" else None
    if shares is not None and not shares.any():  # none of these labels is there
        return zero, zero, zero
    return tuple(mean(score, shares) for score in scores)


def wanted_labels(every, labels, average, pos_label):
    """The labels to be averaged over."""
    if average not in (None, "binary", "macro", "micro", "weighted"):
        raise ValueError(f"average takes None, 'binary', 'macro', 'micro' or 'weighted', not "
                         f"{average!r}")
    if average != "binary":
        return every if labels is None else np.asarray(labels)
    if len(every) > 2:
        raise ValueError("Target is multiclass but average='binary': choose 'macro', 'micro' or "
                         "'weighted'")
    if pos_label not in every and len(every) == 2:
        raise ValueError(f"pos_label={pos_label!r} is not a valid label: it should be one of "
                         f"{every.tolist()}")
    return np.array([pos_label])


def precision_score(y, guess, average="binary", **options):
    """How many of those that were called c are c, (2)."""
    return precision_recall_f1(y, guess, average=average, **options)[0]


def recall_score(y, guess, average="binary", **options):
    """How many of those that are c were called c, (2)."""
    return precision_recall_f1(y, guess, average=average, **options)[1]


def f1_score(y, guess, average="binary", **options):
    """The harmonic mean of precision and recall, (3)."""
    return precision_recall_f1(y, guess, average=average, **options)[2]


# ---- probabilities ----------------------------------------------------------------------------


def probabilities(y, proba, labels=None):
    """(codes of y, proba (N, K) with rows that add up to one): what both scores of (5) need."""
    y = check_column(y, len(y))
    proba = as_array(proba, "proba").astype(float)
    labels = np.unique(y if labels is None else labels)
    if proba.ndim == 1:
        proba = np.column_stack([1 - proba, proba])
    if len(proba) != len(y):
        raise ValueError("Found input variables with inconsistent numbers of samples: "
                         f"y has {len(y)}, proba has {len(proba)}")
    if len(labels) != proba.shape[1]:
        raise ValueError(f"y has {len(labels)} labels, {labels.tolist()}, and proba has "
                         f"{proba.shape[1]} columns: pass labels=, all that there are")
    if not np.isin(y, labels).all():
        raise ValueError(f"y has labels that are not among {labels.tolist()}")
    refuse_improbable(proba)
    return np.searchsorted(labels, y), proba


def refuse_improbable(proba):
    """Raise ValueError where a number cannot be a probability."""
    inside = (proba >= 0) & (proba <= 1)  # NaN is not
    if not inside.all():
        raise ValueError("proba has values outside [0, 1], so they are no probabilities")


def log_loss(y, proba, labels=None, sample_weight=None):
    """The mean surprise in nats, (5). labels: all classes, where y lacks some of them."""
    weights = check_weights(sample_weight, len(y))
    codes, proba = probabilities(y, proba, labels)
    tiny = np.finfo(float).eps
    chosen = proba[np.arange(len(codes)), codes]
    surprise = -np.log(np.clip(chosen, tiny, 1 - tiny))                                       # (5)
    return mean(surprise, weights)


def brier_score_loss(y, proba, labels=None, sample_weight=None):
    """The mean squared distance of the probabilities from what happened, (5); halved for two."""
    weights = check_weights(sample_weight, len(y))
    codes, proba = probabilities(y, proba, labels)
    happened = np.eye(proba.shape[1])[codes]
    distance = np.sum((proba - happened) ** 2, axis=1)                                        # (5)
    score = mean(distance, weights)
    return score / 2 if proba.shape[1] == 2 else score


# ---- numbers ----------------------------------------------------------------------------------


def r2_score(y, guess, sample_weight=None):
    """R², (6): 1 is perfect, 0 is what the mean reaches; of a constant y 1 if met, else 0."""
    y, guess, weights = same_length(y, guess, sample_weight)
    left = np.sum(weights * (y - guess) ** 2)
    whole = np.sum(weights * (y - mean(y, weights)) ** 2)
    if whole == 0:
        return float(left == 0)
    return float(1 - left / whole)                                                            # (6)


def mean_absolute_error(y, guess, sample_weight=None):
    """The mean distance, in the unit of y, (6)."""
    y, guess, weights = same_length(y, guess, sample_weight)
    distance = np.abs(y - guess)                                                              # (6)
    return mean(distance, weights)


def mean_squared_error(y, guess, sample_weight=None):
    """The mean squared distance, in the unit of y squared, (6)."""
    y, guess, weights = same_length(y, guess, sample_weight)
    squares = (y - guess) ** 2                                                                # (6)
    return mean(squares, weights)
