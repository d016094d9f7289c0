"""Lesson 4.60 · Inputs: what a table of numbers must be before anybody learns from it

Needs nothing. Used by estimator, tests/ml/test_inputs.py.

Idea      A learner gets whatever lies at hand: lists, tables of pandas, text where a number should
          stand, a hole, one row instead of a matrix. Arithmetic would not complain: a NaN spreads
          quietly, a vector is broadcast, labels 0.5 and 1.5 become two classes. So everything
          passes through this door once, and comes out as arrays that the loops may trust; what
          cannot pass is sent back with one sentence that names the place and the remedy.
Math      classes = the different labels, sorted        y ≡ classes[codes]                      (1)
          Σᵢ wᵢ > 0, or there is nothing to learn from                                          (2)
          balanced classes: class k weighs N/(K·N_k), N and N_k in weighted rows                (3)
Shapes    X (N, C): a row a sample, a column a feature; float64, rows contiguous · y (N,) numbers or
          labels · codes (N,) in 0 … K − 1 · sample_weight (N,), or one number for all
Pitfalls  np.asarray turns [1, "2"] into text, and [[1], [2, 3]] into an error that names no row.
          A float label is a class if it is whole: 1.0 is one, 0.5 means that somebody gave a
          regression target to a classifier.
          A check that costs a pass over X a column at a time is slower than some fits: the sum of
          everything is finite if all numbers are (or nearly; only then is each looked at).
          Who asks for a random state must not draw from it in __init__: a clone would differ.
Cost      One pass over X; a copy only where type or layout are not what the loops want.
Try       build it    accept a sparse matrix by its three arrays. Which estimators would profit?
          break it    leave out the test for whole numbers in encode_classes. Which check of
                      scikit-learn notices?
          measure it  time check_array on 20,000 × 40 numbers, then with dtype float32.
See       scikit-learn developer guide, "Developing scikit-learn estimators" (whose wording style
          the sentences follow, so that what was written against it finds what it looks for)
"""

import sys
import warnings

import numpy as np


class NotFittedError(ValueError, AttributeError):
    """Asked to predict before it was fitted."""


class DataConversionWarning(UserWarning):
    """Something was read in another shape than it came in."""


class ConvergenceWarning(UserWarning):
    """The allowed number of steps was not enough."""


def theirs(kind):
    """scikit-learn's exception of the same name where it is loaded, ours elsewhere.

    So `except sklearn.exceptions.NotFittedError` works, and scikit-learn is never imported for it.
    """
    return getattr(sys.modules.get("sklearn.exceptions"), kind.__name__, kind)


def warn(kind, text):
    """A warning of one of the kinds above, which points at the line that called the estimator."""
    warnings.warn(text, theirs(kind), stacklevel=4)


# ---- X ----------------------------------------------------------------------------------------


def check_array(X, name="X", by="this function", dtype=np.float64, allow_nan=False, least=1):
    """X as a (N, C) array of contiguous rows, N ≥ least; the caller's own where it is one already.

    dtype: of the result; None keeps it, text too. by: who asks, for the message.
    Raises TypeError for a sparse matrix, ValueError for all else that is no table of numbers.
    """
    if hasattr(X, "toarray"):
        raise TypeError(f"Sparse data was passed as {name}, but dense data is required by {by}: "
                        f"use {name}.toarray()")
    table = as_array(X, name)
    if table.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {table.ndim}D array as {name}: Reshape your data with "
            "reshape(-1, 1) if it is a single feature, reshape(1, -1) if it is a single sample")
    for axis, (wanted, what) in enumerate([(least, "sample"), (1, "feature")]):
        if table.shape[axis] < wanted:
            raise ValueError(
                f"Found array with {table.shape[axis]} {what}(s) (shape={table.shape}) while a "
                f"minimum of {wanted} is required by {by}")
    if dtype is not None:
        table = np.ascontiguousarray(as_numbers(table, X, dtype))
        refuse_holes(table, name, by, allow_nan, X)
    return table


def as_array(values, name="y"):
    """An array of what came in; ragged lists and complex numbers are refused with ValueError."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is no table: its rows differ in length ({error})") from None
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: take the real part of {name}, or its size")
    return array


def as_numbers(table, source, dtype):
    """The table in that type. An entry that is no number is named by its row and column."""
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinity, refused as such
            return table.astype(dtype, copy=False)
    except (ValueError, TypeError):
        for place, value in np.ndenumerate(table.astype(object)):
            try:
                dtype(value)
            except (ValueError, TypeError) as error:
                text = f"{error}{where(place, source)}: encode text and categories as numbers first"
                raise type(error)(text) from None
        raise


def where(place, source):
    """ (row 3, column 'age'): the column by its name where the source has names."""
    names = column_names(source)
    column = place[-1] if names is None else names[place[-1]]
    return f" (row {place[0]}" + (f", column {column!r})" if len(place) > 1 else ")")


def column_names(X):
    """The names of the columns of a data frame as an array of str; None where it has none."""
    names = list(getattr(X, "columns", []))
    kinds = {isinstance(name, str) for name in names}
    if len(kinds) > 1:
        raise TypeError("Feature names are only supported if all of them are strings: rename the "
                        "columns, X.columns = X.columns.astype(str)")
    return np.array(names, dtype=object) if kinds == {True} else None


def refuse_holes(table, name, by="this function", allow_nan=False, source=None):
    """Raise ValueError where a number is infinite, or is NaN and that is not allowed."""
    with np.errstate(over="ignore", invalid="ignore"):
        if table.dtype.kind != "f" or np.isfinite(table.sum()):
            return
    bad = np.isinf(table) if allow_nan else ~np.isfinite(table)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        what = f"infinity or a value too large for {table.dtype!r}"
        remedy = "correct it or drop the row"
        if np.isnan(table[place]):
            what, remedy = "NaN", f"{by} needs them filled in (SimpleImputer), or the rows dropped"
        raise ValueError(f"Input {name} contains {what}{where(place, source)}: {remedy}")


# ---- y ----------------------------------------------------------------------------------------


def check_column(y, n, by="this function", name="y"):
    """y as an array (n,). A column (n, 1) is accepted with a warning."""
    if y is None:
        raise ValueError(f"{by} requires {name} to be passed, but the target {name} is None")
    column = as_array(y, name)
    if column.ndim == 2 and column.shape[1] == 1:
        warn(DataConversionWarning, f"A column-vector {name} was passed when a 1d array was "
             f"expected: change its shape to (n_samples,), for example with {name}.ravel()")
        column = column.ravel()
    if column.ndim != 1:
        raise ValueError(f"{name} should be a 1d array, got an array of shape {column.shape}")
    if len(column) != n:
        raise ValueError("Found input variables with inconsistent numbers of samples: "
                         f"X has {n}, {name} has {len(column)}")
    return column


def check_target(y, n, by="this function"):
    """y as numbers, float64 (n,), all finite."""
    column = as_numbers(check_column(y, n, by), None, np.float64)
    refuse_holes(column, "y", by)
    return np.ascontiguousarray(column)


def encode_classes(y):
    """(classes, codes) with y = classes[codes], (1). Raises ValueError for what is no label."""
    if y.dtype.kind == "f":
        refuse_holes(y, "y")
        if np.any(y != np.floor(y)):
            raise ValueError("Unknown label type: continuous. A classifier expects classes, not a "
                             "regression target: bin y, or take a regressor")
    try:
        return np.unique(y, return_inverse=True)                                              # (1)
    except TypeError:
        raise ValueError("Unknown label type: y mixes labels that cannot be sorted, such as "
                         "numbers and text: make them all text") from None


def check_weights(weights, n):
    """sample_weight as float64 (n,); ones where it is None. Raises ValueError where (2) fails."""
    weights = as_array(1.0 if weights is None else weights, "sample_weight")
    weights = as_numbers(np.full(n, weights) if weights.ndim == 0 else weights, None, np.float64)
    if weights.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got {weights.ndim}D array")
    if len(weights) != n:
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(n,)}")
    refuse_holes(weights, "sample_weight")
    if weights.min() < 0:
        raise ValueError("Negative values in sample_weight: a weight counts how often a row is "
                         "there, at least zero times")
    if not weights.any():                                                                     # (2)
        raise ValueError("Sample weights must contain at least one non-zero number")
    return np.ascontiguousarray(weights)


def class_weights(setting, classes, codes, w):
    """The weights w times those of the classes: None, "balanced" (3), or a dict label -> weight."""
    if setting is None:
        return w
    if isinstance(setting, str) and setting == "balanced":
        counts = np.maximum(np.bincount(codes, w, len(classes)), np.finfo(float).tiny)
        return w * (w.sum() / (len(classes) * counts))[codes]                                 # (3)
    if not isinstance(setting, dict):
        raise ValueError("The 'class_weight' parameter must be None, 'balanced' or a dict of label "
                         f"and weight. Got {setting!r} instead.")
    unknown = sorted(map(str, setting.keys() - set(classes.tolist())))
    if unknown:
        raise ValueError(f"The classes {unknown} of class_weight are not in y")
    return w * np.array([setting.get(label, 1.0) for label in classes.tolist()])[codes]


def check_random_state(seed):
    """A Generator: a fresh one for None, a fixed one for an integer, a given one as it is.

    From an old RandomState one number is drawn, the seed of the new one.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, np.random.RandomState):
        seed = seed.randint(2**31)
    if seed is None or isinstance(seed, int | np.integer) and seed >= 0:
        return np.random.default_rng(seed)
    raise ValueError(f"{seed!r} cannot be used to seed a generator: give None, a whole number ≥ 0, "
                     "a numpy Generator or RandomState")
