"""Moved and stretched columns."""

import numpy as np
import pytest

from tinygrad_edu.ml.scaling import MinMaxScaler, RobustScaler, StandardScaler

X = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 60.0], [4.0, np.nan]])


def test_values_that_can_be_verified_by_hand():
    z = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(z[:, 0] * np.sqrt(1.25), [-1.5, -0.5, 0.5, 1.5])
    z = MinMaxScaler((-1, 1)).fit_transform(X)
    np.testing.assert_allclose(z[:, 1], [-1, -0.6, 1, np.nan])
    z = RobustScaler().fit_transform(X)
    np.testing.assert_allclose(z[:, 1], [-0.4, 0, 1.6, np.nan])  # quartiles of 10, 20, 60: 15, 40


def test_new_rows_are_measured_with_what_was_learned():
    scaler = MinMaxScaler().fit(X[:2])
    np.testing.assert_allclose(scaler.transform(X[2:3]), [[2, 5]])
    assert MinMaxScaler(clip=True).fit(X[:2]).transform(X[2:3]).tolist() == [[1, 1]]


@pytest.mark.parametrize("kind", [StandardScaler, MinMaxScaler, RobustScaler])
def test_scaling_can_be_undone_and_names_stay(kind):
    scaler = kind().fit(X)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X)
    assert scaler.get_feature_names_out().tolist() == ["x0", "x1"]
    with pytest.raises(ValueError, match="equal to number of features"):
        scaler.get_feature_names_out(["a"])


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, -7e-12])
def test_a_constant_column_is_moved_and_not_stretched_though_it_rounds(value):
    column = np.full((10_000, 1), value)
    z = StandardScaler().fit_transform(column)
    assert np.abs(z).max() < 1e-6
    assert StandardScaler().fit(column).scale_ == 1


def test_differences_that_are_rounding_alone_are_not_blown_up():
    column = 1e15 + 0.125 * np.arange(4).reshape(-1, 1)  # neighbouring float64 numbers
    assert np.ptp(column) > 0 and np.abs(StandardScaler().fit_transform(column)).max() < 1


def test_a_row_of_weight_two_is_a_row_twice():
    weighted = StandardScaler().fit(X, sample_weight=[2, 1, 0, 3])
    repeated = StandardScaler().fit(X[[0, 0, 1, 3, 3, 3]])
    np.testing.assert_allclose(weighted.mean_, repeated.mean_)
    np.testing.assert_allclose(weighted.scale_, repeated.scale_)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="Minimum of desired feature range"):
        MinMaxScaler((1, 1)).fit(X)
    with pytest.raises(ValueError, match="Invalid quantile range"):
        RobustScaler(quantile_range=(80, 20)).fit(X)
