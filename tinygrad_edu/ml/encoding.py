"""Lesson 4.86 · Encoding: words as numbers

Needs estimator, inputs, features, scaling, splits, table. Used by scripts/classical.py.

Idea      A town is no number, and calling the towns 1, 2, 3 says that the third is three times the
          first. One column for each town, 1 for those who live there, says nothing that is not so,
          and costs a column a town. Trees cut anywhere, so for them the numbers 0, 1, 2 do. And for
          a thousand towns one can ask what the target was in each: its mean, drawn towards the
          overall mean where few rows speak. That number has seen the target, which is where it
          gets dangerous: a row must not find its own answer in it.
Math      one-hot: z[i, k] = 1 if x[i] is category k, else 0                                    (1)
          target: z(k) = λₖ·ȳₖ + (1 − λₖ)·ȳ                                                     (2)
          λₖ = nₖ/(nₖ + m)      smooth="auto": m = σₖ²/σ², the variance within over that of y   (3)
          cross-fitted: row i gets z from folds that do not contain i                           (4)
Shapes    X (N, C) of text or numbers · one-hot (N, ΣK) · ordinal (N, C) · target (N, C), for more
          than two classes (N, C·classes) · categories_: a sorted array for each column, NaN last
Pitfalls  A category that first occurs when one predicts: an error by default, since silence would
          be a guess; handle_unknown="ignore" makes it all zeros.
          All one-hot columns of a word add up to 1, so with an intercept their weights are not
          unique: drop="first", or a ridge.
          fit(X, y).transform(X) of the target encoder shows each row its own answer; fit_transform
          does not, by (4), and only that is fit for training.
          1 and "1" are different categories.
Cost      A look-up for every cell. One-hot: as many columns as there are words.
Try       build it    count encoding: how often a category was there.
          break it    let fit_transform be fit and transform. How good is a random column of 300
                      different words now? scripts/classical.py leaks
          measure it  python scripts/classical.py classify --data customers
See       Micci-Barreca 2001 (target encoding, eq. 3 to 5) · scikit-learn user guide, "Target
          Encoder's internal cross fitting"
"""

import numpy as np

from .estimator import Transformer
from .features import table_of_any
from .inputs import check_column, check_target, encode_classes
from .scaling import names_of
from .splits import KFold, StratifiedKFold
from .table import is_empty


def find_categories(column):
    """The different values of a column, sorted, None and NaN last."""
    if column.dtype.kind != "O":
        return np.unique(column)  # one NaN, last
    empty = is_empty(column)
    known = set(column[~empty].tolist())
    try:
        found = sorted(known)
    except TypeError:
        raise TypeError("Encoders require their input argument must be uniformly strings or "
                        f"numbers. Got {sorted({type(v).__name__ for v in known})}") from None
    missing = [None] if any(v is None for v in column[empty]) else []
    missing += [np.nan] if any(v is not None for v in column[empty]) else []
    return np.array(found + missing, dtype=object)


def codes_of(column, categories):
    """The place of every value among the categories, −1 where it is none of them."""
    place = {key(value): i for i, value in enumerate(categories.tolist())}
    return np.array([place.get(key(value), -1) for value in column.tolist()], dtype=int)


def key(value):
    """A value as a key of a dict: NaN, which does not equal itself, as a word of ours."""
    return "NaN, a number" if value != value else value


class Encoder(Transformer):
    """What all three share: the categories of each column, and the codes of a table."""

    tags = {"input_tags.allow_nan": True, "input_tags.categorical": True}

    def _learn(self, X):
        """categories_, found or as given; the codes of X, (N, C)."""
        table = table_of_any(self, X, fitting=True)
        if isinstance(self.categories, str) and self.categories == "auto":
            self.categories_ = [find_categories(column) for column in table.T]
        elif len(self.categories) != table.shape[1]:
            raise ValueError("Shape mismatch: if categories is an array, it has to be of shape "
                             "(n_features,).")
        else:
            self.categories_ = [np.asarray(given, dtype=table.dtype) for given in self.categories]
        return self._codes(table, self.handle_unknown == "error", "fit")

    def _codes(self, table, strict, when="transform"):
        codes = np.empty(table.shape, int)
        for i, (column, known) in enumerate(zip(table.T, self.categories_, strict=True)):
            codes[:, i] = codes_of(column, known)
            if strict and codes[:, i].min() < 0:
                strange = list(dict.fromkeys(column[codes[:, i] < 0].tolist()))[:5]
                raise ValueError(f"Found unknown categories {strange} in column {i} during {when}: "
                                 "set handle_unknown if new ones are to be expected")
        return codes

    def get_feature_names_out(self, input_features=None):
        """The names that went in."""
        return names_of(self, input_features)


class OneHotEncoder(Encoder):
    """A column of 0 and 1 for each category, (1).

    drop: None; "first", the first category of each column has none; "if_binary", only where there
    are two. handle_unknown: "error", or "ignore", which leaves all columns 0.
    """

    def __init__(self, categories="auto", drop=None, handle_unknown="error"):
        self.categories = categories
        self.drop = drop
        self.handle_unknown = handle_unknown

    def fit(self, X, y=None):
        """Collect the categories."""
        self.choice("drop", None, "first", "if_binary")
        self.choice("handle_unknown", "error", "ignore")
        self._learn(X)
        first = [self.drop == "first" or self.drop == "if_binary" and len(known) == 2
                 for known in self.categories_]
        self.skipped_ = [int(skip) for skip in first]  # how many categories have no column
        return self

    def transform(self, X):
        """(N, ΣK) of 0.0 and 1.0."""
        self.check_fitted()
        codes = self._codes(table_of_any(self, X), self.handle_unknown == "error")
        parts = [codes[:, [i]] == np.arange(skip, len(known))                                 # (1)
                 for i, (known, skip) in enumerate(zip(self.categories_, self.skipped_,
                                                       strict=True))]
        return np.hstack(parts).astype(float)

    def inverse_transform(self, X):
        """The categories again; None where a row has none."""
        self.check_fitted()
        X, start, columns = np.asarray(X), 0, []
        for known, skip in zip(self.categories_, self.skipped_, strict=True):
            part = X[:, start:start + len(known) - skip]
            start += part.shape[1]
            column = known[np.argmax(part, axis=1) + skip] if part.shape[1] else np.repeat(
                known[:1], len(X))
            column = column.astype(object)
            column[~part.any(1)] = known[0] if skip else None
            columns.append(column)
        return np.array(columns, dtype=object).T

    def get_feature_names_out(self, input_features=None):
        """Such as town_Paris."""
        names = names_of(self, input_features)
        triples = zip(names, self.categories_, self.skipped_, strict=True)
        return np.array([f"{name}_{category}" for name, known, skip in triples
                         for category in known[skip:]], dtype=object)


class OrdinalEncoder(Encoder):
    """The number of the category in sorted order; a hole stays NaN.

    handle_unknown: "error", or "use_encoded_value", and then unknown_value, a number or NaN.
    """

    def __init__(self, categories="auto", handle_unknown="error", unknown_value=None):
        self.categories = categories
        self.handle_unknown = handle_unknown
        self.unknown_value = unknown_value

    def fit(self, X, y=None):
        """Collect the categories."""
        self.choice("handle_unknown", "error", "use_encoded_value")
        lenient = self.handle_unknown == "use_encoded_value"
        if lenient == (self.unknown_value is None):
            raise ValueError("unknown_value has to be a number exactly where handle_unknown is "
                             f"'use_encoded_value', got {self.unknown_value!r}")
        self._learn(X)
        return self

    def transform(self, X):
        """(N, C) numbers 0 … K − 1."""
        self.check_fitted()
        table = table_of_any(self, X)
        codes = self._codes(table, self.handle_unknown == "error").astype(float)
        if self.handle_unknown != "error":
            codes[codes < 0] = self.unknown_value
        codes[is_empty(table)] = np.nan
        return codes


class TargetEncoder(Encoder):
    """The mean of the target for each category, drawn towards the overall mean, (2).

    smooth: "auto", or m of (3). cv folds of fit_transform are shuffled by random_state. An unknown
    category gets the overall mean.
    """

    handle_unknown = "mean"
    tags = {**Encoder.tags, "target_tags.required": True}

    def __init__(self, categories="auto", smooth="auto", cv=5, shuffle=True, random_state=None):
        self.categories = categories
        self.smooth = smooth
        self.cv = cv
        self.shuffle = shuffle
        self.random_state = random_state

    def fit(self, X, y):
        """Learn from all rows: for rows that come later."""
        self._fit(X, y)
        return self

    def _fit(self, X, y):
        """(codes, targets (N, T)): T is 1 for numbers and two classes, else one a class."""
        codes = self._learn(X)
        y = check_column(y, len(codes), "TargetEncoder")
        numbers = y.dtype.kind == "f" and np.any(y != np.floor(y))
        if numbers:
            targets, self.classes_ = check_target(y, len(y))[:, None], None
        else:
            self.classes_, labels = encode_classes(y)
            several = np.arange(len(self.classes_)) if len(self.classes_) > 2 else [1]
            targets = (labels[:, None] == several).astype(float)
        self.target_mean_ = targets.mean(0)
        self.encodings_ = self._encodings(codes, targets)
        return codes, targets

    def _encodings(self, codes, targets):
        """For each column an array (K, T), (2)."""
        mean, variance = targets.mean(0), targets.var(0)
        found = []
        for column, known in zip(codes.T, self.categories_, strict=True):
            count = np.bincount(column, minlength=len(known))[:, None]
            sums = sum_by(column, targets, len(known))
            with np.errstate(invalid="ignore", divide="ignore"):
                own = sums / count
                within = sum_by(column, (targets - own[column]) ** 2, len(known)) / count
                smooth = within / variance if self.smooth == "auto" else self.smooth          # (3)
                share = count / (count + smooth)
                z = share * own + (1 - share) * mean                                          # (2)
            found.append(np.where(count * np.isfinite(z) > 0, z, mean))
        return found

    def fit_transform(self, X, y):
        """Learn from all rows, and encode each of them without having seen it, (4)."""
        codes, targets = self._fit(X, y)
        kind = KFold if self.classes_ is None else StratifiedKFold
        folds = kind(self.cv, self.shuffle, self.random_state if self.shuffle else None)
        result = np.empty((len(codes), codes.shape[1] * targets.shape[1]))
        for train, test in folds.split(codes, y):                                             # (4)
            encodings = self._encodings(codes[train], targets[train])
            result[test] = self._look_up(codes[test], encodings, targets[train].mean(0))
        return result

    def transform(self, X):
        """The encoded table, for rows that fit has not seen."""
        self.check_fitted()
        codes = self._codes(table_of_any(self, X), strict=False)
        return self._look_up(codes, self.encodings_, self.target_mean_)

    def _look_up(self, codes, encodings, mean):
        parts = [np.vstack([table, mean])[column]  # −1 is the last row, the overall mean
                 for column, table in zip(codes.T, encodings, strict=True)]
        return np.hstack(parts)

    def get_feature_names_out(self, input_features=None):
        """The names that went in, for several classes each with the class."""
        names = names_of(self, input_features)
        if self.classes_ is None or len(self.classes_) <= 2:
            return names
        return np.array([f"{name}_{label}" for name in names for label in self.classes_], object)


def sum_by(codes, targets, count):
    """(K, T): the sums of the rows of each code."""
    return np.stack([np.bincount(codes, column, count) for column in targets.T], axis=1)
