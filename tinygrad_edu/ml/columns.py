"""Lesson 4.91 · Columns: each kind of column gets its own steps

Needs encoding, estimator, features, chain, scaling, table. Used by scripts/classical.py.

Idea      A chain runs lengthwise: one step after the other over the whole table. But a town
          needs other steps than an age. So the table is cut into groups of columns, each group goes
          through a transformer of its own, and the results are put beside each other. The whole is
          a transformer again, so it is a step of a pipeline, and learns from training rows alone.
Math      z = [transform₁(X[:, c₁]) | transform₂(X[:, c₂]) | … | the rest]                      (1)
Shapes    X (N, C), an array, Table or data frame · c: names, numbers, a slice, a mask, or a
          function of X that returns one of these · a single name or number: a column (N,), as text
          wants it
Pitfalls  Columns by number are other columns after one was added in front; by name they are not.
          What is in no group is dropped, silently: remainder="passthrough" keeps it.
          A column in two groups is used twice, which is allowed, and may be meant.
Cost      What its parts cost, and a copy of the results.
Try       build it    a third group in `usual_columns`: words of many kinds to a target encoder.
          break it    let `fit` keep the given transformers and not copies. Which check of
                      scikit-learn speaks?
          measure it  python scripts/classical.py classify --data customers
See       scikit-learn user guide, "ColumnTransformer for heterogeneous data"
"""

import numpy as np

from .chain import PASS, Composed, Pipeline, clone
from .encoding import OneHotEncoder
from .estimator import Transformer
from .features import SimpleImputer
from .scaling import StandardScaler, names_of
from .table import Table, is_text


def columns_of(X):
    """(name or number, values (N,)) of each column."""
    if isinstance(X, Table):
        return [(name, X[name]) for name in X.columns]
    if hasattr(X, "iloc"):  # a data frame of pandas
        return [(name, np.asarray(X[name])) for name in X.columns]
    return list(enumerate(np.asarray(X).T))


def is_words(values):
    """Whether a column, perhaps of objects, has anything but numbers and holes in it."""
    if not is_text(values):
        return False
    return any(isinstance(value, str) for value in values.tolist())


def number_columns(X):
    """The columns of numbers: for ColumnTransformer, which calls it with the training rows."""
    return [name for name, values in columns_of(X) if not is_words(values)]


def word_columns(X):
    """The columns of words."""
    return [name for name, values in columns_of(X) if is_words(values)]


class ColumnTransformer(Composed, Transformer):
    """Groups (name, transformer, columns), side by side, (1).

    A transformer may be "passthrough" or "drop". remainder: what becomes of columns in no group.
    """

    parts = "transformers"

    def __init__(self, transformers, remainder="drop"):
        self.transformers = transformers
        self.remainder = remainder

    def __sklearn_tags__(self):
        from sklearn.utils import get_tags

        # NaN may come in if all groups can bear it, text if one of them can use it.
        tags = super().__sklearn_tags__()
        inner = [get_tags(part).input_tags for part in self.named().values()
                 if not isinstance(part, str)]
        tags.input_tags.allow_nan = all(each.allow_nan for each in inner)
        tags.input_tags.string = any(each.string for each in inner)
        return tags

    def fit(self, X, y=None):
        """Fit a copy of each transformer on its columns."""
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X, y=None):
        """Fit, and the results side by side."""
        self.named()
        X = self._check(X, fitting=True)
        everything = [name for name, _ in columns_of(X)]
        self.transformers_, results, used = [], [], set()
        for name, transformer, asked in self.transformers:
            wanted, single = self._resolve(X, asked, everything)
            used.update(wanted)
            self._fit_group(name, transformer, wanted, single, X, y, results)
        # What no group has asked for is one group more.
        rest = [name for name in everything if name not in used]
        self._fit_group("remainder", self.remainder, rest, False, X, y, results)
        if not results:
            raise ValueError("every column is dropped: nothing is left to learn from")
        return beside(results, len(X))

    def _fit_group(self, name, transformer, wanted, single, X, y, results):
        if wanted and transformer != "drop":
            part = chosen(X, wanted, single)
            if transformer == PASS:
                results.append(np.asarray(part))
            else:
                transformer = clone(transformer)
                results.append(transformer.fit_transform(part, y))
            self.transformers_.append((name, transformer, wanted, single))

    def transform(self, X):
        """The results side by side."""
        X = self._check(X)
        parts = [(t, chosen(X, wanted, single)) for _, t, wanted, single in self.transformers_]
        return beside([np.asarray(part) if t == PASS else t.transform(part) for t, part in parts],
                      len(X))

    def _check(self, X, fitting=False):
        """X itself where it has names for its columns, else an array."""
        table = self.check_X(X, fitting=fitting, dtype=None, allow_nan=True)
        return X if hasattr(X, "columns") else table

    def _resolve(self, X, wanted, everything):
        """(columns by name, or by number where X is an array; whether it is a single one)."""
        # A function is asked when fitting, so that it sees training rows alone.
        wanted = wanted(X) if callable(wanted) else wanted
        single = isinstance(wanted, str | int | np.integer)
        if isinstance(wanted, slice):
            wanted = everything[wanted]
        wanted = [wanted] if single else list(wanted)
        if wanted and all(isinstance(each, bool | np.bool_) for each in wanted):
            wanted = [each for each, kept in zip(everything, wanted, strict=True) if kept]
        named = [everything[each] if isinstance(each, int | np.integer)
                 and -len(everything) <= each < len(everything) else each for each in wanted]
        for each in named:
            if each not in everything:
                raise ValueError(f"A given column is not a column of the dataframe: {each!r}; there"
                                 f" are {everything}")
        return named, single

    def get_feature_names_out(self, input_features=None):
        """Such as words__town_Paris: the name of the group, two underscores, the column."""
        names = names_of(self, input_features)
        found = []
        for group, transformer, wanted, single in self.transformers_:
            inside = [str(each if isinstance(each, str) else names[each]) for each in wanted]
            if transformer != PASS:
                asked = None if single else inside
                inside = transformer.get_feature_names_out(asked)
            found += [f"{group}__{name}" for name in inside]
        return np.array(found, dtype=object)


def chosen(X, names, single):
    """Columns of X, of its own kind; one as (N,) if `single`."""
    if isinstance(X, Table) or hasattr(X, "iloc"):
        return X[names[0]] if single else X[names]
    return X[:, names[0]] if single else X[:, names]


def beside(results, rows):
    """The results as one table, of objects only if words were passed through."""
    for result in results:
        if np.ndim(result) != 2 or len(result) != rows:
            raise ValueError("a transformer of ColumnTransformer has to make a table with a row "
                             f"for each sample, got shape {np.shape(result)}; a column that is to "
                             "stay a table has its name in a list")
    return np.hstack(results)


def usual_columns(scale=True):
    """What most tables need: numbers filled by the median and scaled, words filled and one-hot."""
    numbers = Pipeline([("scale", StandardScaler() if scale else PASS),
                        ("fill", SimpleImputer("median"))])
    words = Pipeline([("fill", SimpleImputer("most_frequent")),
                      ("encode", OneHotEncoder(handle_unknown="ignore"))])
    return ColumnTransformer([("numbers", numbers, number_columns), ("words", words, word_columns)])
