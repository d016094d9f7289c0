"""Lesson 4.85 · Features: holes filled, numbers cut into bins, columns multiplied

Needs estimator, inputs, scaling, table. Used by encoding, columns, scripts/classical.py.

Idea      A method can only use what its columns say in its own language. A line cannot bend, so one
          gives it the square of a column, or the column cut into bins, each with a height of its
          own. It cannot let the effect of one column depend on another, so one gives it their
          product. And it cannot compute with a hole: something has to stand there, and a second
          column may say that there was none.
Math      filled: the mean, median or most frequent value of what is there in the column        (1)
          bin(x) = how many of the inner edges e₁ ≤ … ≤ e_{B−1} are ≤ x                         (2)
          edges: of one width, or quantiles, which put as many rows into each bin               (3)
          terms of degree ≤ d: xᵢ, xᵢ·xⱼ, … with i ≤ j ≤ …; (C + d)!/(C!·d!) of them with 1     (4)
Shapes    X (N, C) · imputed (N, C) or with marks (N, C + holes) · bins (N, C), or (N, ΣB) as
          indicators · terms (N, P)
Pitfalls  A mean that is filled in pulls the column together: its variance shrinks, and that a value
          was missing may say more than the value would.
          Quantiles of a column that is zero in nine rows of ten coincide: such bins are empty, and
          are merged.
          Terms explode: 100 columns have 176,851 of degree up to 3.
          A column of 0 … 1000 has 0 … 10⁹ as its cube: scale before.
Cost      A sort of each column; the terms are as many products as the result has numbers.
Try       build it    splines: bins within which the function is a straight line.
          break it    let (2) count edges < x. Which test notices?
          measure it  python scripts/classical.py classify --data circles --degree 2
See       Little, Rubin 1987 (missing data) · Hastie, Tibshirani, Friedman 2009, ch. 5
"""

import warnings
from collections import Counter
from itertools import combinations, combinations_with_replacement

import numpy as np

from .estimator import Transformer
from .inputs import as_numbers, refuse_holes
from .scaling import names_of
from .table import is_empty, is_text


def table_of_any(estimator, X, fitting=False):
    """X as an array of numbers or of objects: text and empty cells may stand in it."""
    if isinstance(X, list | tuple) and np.asarray(X).dtype.kind == "U":
        X = np.asarray(X, dtype=object)  # or [1, "a"] would become ["1", "a"]
    table = estimator.check_X(X, fitting=fitting, dtype=None, allow_nan=True)
    if is_text(table):
        if any(isinstance(value, dict | list) for value in table.flat):
            raise TypeError("argument must be a string or a number, not a dict or a list")
        return table.astype(object)
    table = table.astype(float)
    refuse_holes(table, "X", type(estimator).__name__, allow_nan=True, source=X)
    return table


class SimpleImputer(Transformer):
    """Something in place of what is missing (NaN or None), (1).

    strategy: "mean", "median", "most_frequent", or "constant", fill_value (0, or "missing_value"
    for text). A column that was empty in fit is dropped, with a warning. add_indicator: one more
    column for each with holes in fit, 1 where there is one.
    """

    tags = {"input_tags.allow_nan": True, "input_tags.string": True}

    def __init__(self, strategy="mean", fill_value=None, add_indicator=False):
        self.strategy = strategy
        self.fill_value = fill_value
        self.add_indicator = add_indicator

    def fit(self, X, y=None):
        """Learn what stands for a hole, column by column."""
        strategy = self.choice("strategy", "mean", "median", "most_frequent", "constant")
        table = self._table(X, fitting=True)
        holes = is_empty(table)
        self.holey_ = np.flatnonzero(holes.any(0))
        self.empty_ = holes.all(0) & (strategy != "constant")
        if self.empty_.any():
            warnings.warn("Skipping features without any observed values: "
                          f"{list(names_of(self)[self.empty_])}", UserWarning, stacklevel=2)
        self.statistics_ = np.array(
            [self._value(column[~hole]) for column, hole in zip(table.T, holes.T, strict=True)],
            dtype=table.dtype)
        return self

    def _table(self, X, fitting=False):
        table = table_of_any(self, X, fitting)
        if self.strategy in ("mean", "median"):
            return as_numbers(np.where(is_empty(table), np.nan, table), X, np.float64)
        return table

    def _value(self, there):
        """What stands for a hole in a column of which these are known, (1)."""
        text = there.dtype.kind == "O"
        if self.strategy == "constant":
            usual = "missing_value" if text else 0.0
            return usual if self.fill_value is None else self.fill_value
        if not len(there):
            return np.nan
        if self.strategy == "most_frequent":  # the smallest of several
            counts = Counter(there.tolist())
            return min(value for value in counts if counts[value] == max(counts.values()))
        return np.mean(there) if self.strategy == "mean" else np.median(there)

    def transform(self, X):
        """A new table without holes."""
        self.check_fitted()
        table = self._table(X)
        holes = is_empty(table)
        filled = np.where(holes, self.statistics_, table)[:, ~self.empty_]
        if not self.add_indicator:
            return filled
        return np.hstack([filled, holes[:, self.holey_].astype(filled.dtype)])

    def get_feature_names_out(self, input_features=None):
        """The names of what is left, and missingindicator_… of the marks."""
        names = names_of(self, input_features)
        marks = [f"missingindicator_{name}" for name in names[self.holey_]]
        return np.array([*names[~self.empty_], *(marks if self.add_indicator else [])], object)


class KBinsDiscretizer(Transformer):
    """The number of the bin instead of the number, (2).

    encode: "ordinal", or "onehot-dense", a column of 0 and 1 for each bin. strategy: "quantile" or
    "uniform", (3). A constant column has one bin.
    """

    def __init__(self, n_bins=5, encode="onehot-dense", strategy="quantile"):
        self.n_bins = n_bins
        self.encode = encode
        self.strategy = strategy

    def fit(self, X, y=None):
        """Find the edges."""
        bins = self.number("n_bins", low=2, whole=True)
        self.choice("encode", "onehot-dense", "ordinal")
        self.choice("strategy", "quantile", "uniform")
        X = self.check_X(X, fitting=True)
        self.bin_edges_ = [self._edges(column, bins) for column in X.T]
        self.n_bins_ = np.array([len(edges) - 1 for edges in self.bin_edges_])
        return self

    def _edges(self, column, bins):
        low, high = column.min(), column.max()
        if low == high:
            return np.array([-np.inf, np.inf])
        if self.strategy == "uniform":
            return np.linspace(low, high, bins + 1)
        shares = np.linspace(0, 100, bins + 1)
        edges = np.percentile(column, shares, method="averaged_inverted_cdf")                 # (3)
        edges = edges[np.append(True, np.diff(edges) > 1e-8)]
        return edges if len(edges) > 1 else np.array([-np.inf, np.inf])

    def transform(self, X):
        """Numbers of bins, or indicators of them."""
        X = self.check_X(X)
        numbers = np.empty_like(X)
        for i, edges in enumerate(self.bin_edges_):
            numbers[:, i] = np.searchsorted(edges[1:-1], X[:, i], side="right")               # (2)
        if self.encode == "ordinal":
            return numbers
        return np.hstack([numbers[:, [i]] == np.arange(count)
                          for i, count in enumerate(self.n_bins_)]).astype(float)

    def get_feature_names_out(self, input_features=None):
        """The names that went in; with the number of the bin where there is one for each."""
        names = names_of(self, input_features)
        if self.encode == "ordinal":
            return names
        return np.array([f"{name}_{bin}.0" for name, count in zip(names, self.n_bins_, strict=True)
                         for bin in range(count)], dtype=object)


class PolynomialFeatures(Transformer):
    """All products of up to `degree` columns, (4); interaction_only leaves out squares and cubes.

    include_bias: the product of no column, 1, comes first.
    """

    def __init__(self, degree=2, interaction_only=False, include_bias=True):
        self.degree = degree
        self.interaction_only = interaction_only
        self.include_bias = include_bias

    def fit(self, X, y=None):
        """Only the number of columns is learned."""
        degree = self.number("degree", low=0, whole=True)
        X = self.check_X(X, fitting=True)
        choose = combinations if self.interaction_only else combinations_with_replacement
        low = 0 if self.include_bias else 1
        self.terms_ = [term for d in range(low, degree + 1)
                       for term in choose(range(X.shape[1]), d)]                              # (4)
        if not self.terms_:
            raise ValueError("degree=0 without include_bias makes no column at all")
        self.n_output_features_ = len(self.terms_)
        return self

    def transform(self, X):
        """The terms: each is one multiplication, of an earlier term with its last column."""
        X = self.check_X(X)
        table = np.ones((len(X), len(self.terms_)))
        place = {term: i for i, term in enumerate(self.terms_)}
        for i, term in enumerate(self.terms_):
            if len(term) == 1:
                table[:, i] = X[:, term[0]]
            elif term:
                table[:, i] = table[:, place[term[:-1]]] * X[:, term[-1]]
        return table

    def get_feature_names_out(self, input_features=None):
        """Such as 1, x0, x0^2, x0 x1."""
        names = names_of(self, input_features)
        found = []
        for term in self.terms_:
            powers = [(names[i], term.count(i)) for i in sorted(set(term))]
            found.append(" ".join(n if p == 1 else f"{n}^{p}" for n, p in powers) or "1")
        return np.array(found, dtype=object)
