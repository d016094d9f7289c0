"""Lesson 4.84 · Scaling: columns that mean the same by one unit

Needs estimator, inputs. Used by features, leaks, scripts/classical.py.

Idea      Heights in metres and incomes in cents stand in one table. Whoever measures distances, or
          punishes large weights, then listens to the incomes alone. So each column is moved and
          stretched until its numbers are of one size: by mean and standard deviation, by smallest
          and largest value, or by median and quartiles, which a single wild value cannot move. What
          moves and stretches is learned, from the rows that one learns from.
Math      standard: z = (x − mean)/s      s² = Σ(x − mean)²/N                                   (1)
          range: z = a + (b − a)·(x − min)/(max − min)                                          (2)
          robust: z = (x − median)/(q₇₅ − q₂₅)                                                  (3)
          a constant column has s = 0: it is moved, and not stretched                           (4)
Shapes    X (N, C) → (N, C) · one number a column: mean_, scale_, … (C,) · NaN stays NaN, and is not
          counted in what is learned
Pitfalls  Scaled before splitting, the test rows have had a say: lesson leaks.
          A column of 0.1, ten thousand times, has a tiny s that is rounding alone: dividing by it
          makes noise as large as a signal. (4) has to know how much rounding there is.
          A wild value, 10⁶ among ones, makes (2) put all others on one spot.
          Trees do not care, since they look at the order of numbers alone.
Cost      Two passes over X; a median needs a sort of each column.
Try       build it    log(1 + x) first, for incomes: what becomes of a normal distribution?
          break it    leave out the rounding in (4). Which test notices?
          measure it  python scripts/classical.py classify --data wine, with and without --scale
See       Chan, Golub, LeVeque 1983 (variance) · Huber 1981 (robust)
"""

import warnings

import numpy as np

from .estimator import Transformer
from .inputs import check_weights


def names_of(estimator, given=None):
    """The names of the columns that went in: as given, as fitted, or x0, x1, …"""
    estimator.check_fitted()
    known = getattr(estimator, "feature_names_in_", None)
    if given is not None:
        if len(given) != estimator.n_features_in_:
            raise ValueError("input_features should have length equal to number of features "
                             f"({estimator.n_features_in_}), got {len(given)}")
        if known is not None and list(given) != list(known):
            raise ValueError("input_features is not equal to feature_names_in_")
    names = known if given is None else given
    names = [f"x{i}" for i in range(estimator.n_features_in_)] if names is None else names
    return np.array(list(names), dtype=object)


class Scaler(Transformer):
    """z = (x − centre)/scale, column by column: a subclass finds `centre_and_scale`."""

    tags = {"input_tags.allow_nan": True}

    def fit(self, X, y=None):
        """Learn what moves and what stretches."""
        return self._learn(self.check_X(X, fitting=True, allow_nan=True))

    def _learn(self, X, *weights):
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)  # a column that is all NaN stays so
            self._centre, self._scale = self.centre_and_scale(X, *weights)
        return self

    def transform(self, X):
        """The scaled table, a new one."""
        return (self.check_X(X, allow_nan=True) - self._centre) / self._scale

    def inverse_transform(self, X):
        """What the numbers were before."""
        return self.check_X(X, allow_nan=True) * self._scale + self._centre

    def get_feature_names_out(self, input_features=None):
        """The names that went in."""
        return names_of(self, input_features)


def unit_where_zero(scale, constant=None):
    """The scale with 1 where it is 0, or where the column is constant, (4)."""
    constant = scale == 0 if constant is None else constant
    return np.where(constant, 1.0, scale)


class StandardScaler(Scaler):
    """Mean 0 and standard deviation 1, (1)."""

    def __init__(self, with_mean=True, with_std=True):
        self.with_mean = with_mean
        self.with_std = with_std

    def fit(self, X, y=None, sample_weight=None):
        """Learn what moves and what stretches; a row may count for several."""
        X = self.check_X(X, fitting=True, allow_nan=True)
        return self._learn(X, check_weights(sample_weight, len(X)))

    def centre_and_scale(self, X, weights):
        """Mean and deviation of what is there."""
        there = ~np.isnan(X) * weights[:, None]
        count = there.sum(0)
        filled = np.where(there > 0, X, 0.0)
        mean = (filled * there).sum(0) / count
        apart = np.where(there > 0, X - mean, 0.0)
        rest = (apart * there).sum(0)  # 0 but for rounding: the mean is corrected by it
        variance = ((apart**2 * there).sum(0) - rest**2 / count) / count                      # (1)
        eps = np.finfo(float).eps
        constant = variance <= count * eps * variance + (count * mean * eps) ** 2             # (4)
        self.mean_ = mean if self.with_mean else None
        self.var_ = variance if self.with_std else None
        self.scale_ = unit_where_zero(np.sqrt(variance), constant) if self.with_std else None
        return (mean if self.with_mean else 0.0), (self.scale_ if self.with_std else 1.0)


class MinMaxScaler(Scaler):
    """The smallest value becomes a, the largest b, (2); clip=True keeps later ones in between."""

    def __init__(self, feature_range=(0, 1), clip=False):
        self.feature_range = feature_range
        self.clip = clip

    def centre_and_scale(self, X):
        """What (2) takes away and divides by."""
        a, b = self.feature_range
        if a >= b:
            raise ValueError("Minimum of desired feature range must be smaller than maximum. Got "
                             f"{self.feature_range}.")
        self.data_min_, self.data_max_ = np.nanmin(X, axis=0), np.nanmax(X, axis=0)
        span = self.data_max_ - self.data_min_
        tiny = 10 * np.finfo(float).eps  # rounding, where all values are about 1
        self.scale_ = (b - a) / unit_where_zero(span, span < tiny)                            # (2)
        self.min_ = a - self.data_min_ * self.scale_
        return -self.min_ / self.scale_, 1 / self.scale_

    def transform(self, X):
        """The scaled table, a new one."""
        z = self.check_X(X, allow_nan=True) * self.scale_ + self.min_
        return np.clip(z, *self.feature_range) if self.clip else z


class RobustScaler(Scaler):
    """The median becomes 0, the distance of the quartiles 1, (3)."""

    def __init__(self, with_centering=True, with_scaling=True, quantile_range=(25.0, 75.0)):
        self.with_centering = with_centering
        self.with_scaling = with_scaling
        self.quantile_range = quantile_range

    def centre_and_scale(self, X):
        """Median and distance of the quartiles."""
        low, high = self.quantile_range
        if not 0 <= low <= high <= 100:
            raise ValueError(f"Invalid quantile range: {self.quantile_range}: two percentages, the "
                             "smaller one first")
        q_low, q_high = np.nanpercentile(X, (low, high), axis=0)
        span = q_high - q_low
        tiny = 10 * np.finfo(float).eps
        self.center_ = np.nanmedian(X, axis=0) if self.with_centering else None
        self.scale_ = unit_where_zero(span, span < tiny) if self.with_scaling else None       # (3)
        return (self.center_ if self.with_centering else 0.0,
                self.scale_ if self.with_scaling else 1.0)
