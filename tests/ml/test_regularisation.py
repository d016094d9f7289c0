"""Paths of weights whose ends are known, and when patience is over."""

import numpy as np
import pytest

from tinygrad_edu.ml import regularisation as lesson
from tinygrad_edu.ml.linear import Lasso, least_squares
from tinygrad_edu.ml.regularisation import (
    Patience,
    descent_path,
    errors,
    halves,
    lasso_path,
    planted,
    ridge_path,
    stop_early,
)


def test_each_direction_is_shrunk_as_the_equations_say():
    X, y, _ = planted(30, 5)
    values, directions = np.linalg.eigh(X.T @ X)
    full = directions.T @ least_squares(X, y)[0]
    by_ridge = directions.T @ ridge_path(X, y, [7.0])[0]
    assert np.allclose(by_ridge, values / (values + 7) * full)                    # (1)
    by_time = directions.T @ descent_path(X, y, 20, 0.1)[-1]
    assert np.allclose(by_time, (1 - (1 - 0.1 * values / 30) ** 20) * full)       # (2)


def test_time_is_a_ridge_whose_strength_is_its_inverse():
    X, y, _ = planted(40, 8)
    for steps in (5, 50, 500):
        early = descent_path(X, y, steps, 0.05)[-1]
        alike = ridge_path(X, y, [40 / (0.05 * steps)])[0]
        assert np.linalg.norm(early - alike) < 0.35 * np.linalg.norm(alike)


def test_the_lasso_path_begins_with_nothing_and_is_that_of_single_fits():
    X, y, _ = planted(40, 10)
    X, y = X - X.mean(0), y - y.mean()
    alphas, path = lasso_path(X, y, 8, tolerance=1e-12)
    assert not path[0].any() and path[1].any() and path[-1].all()
    for alpha, w in zip(alphas[1::3], path[1::3], strict=True):
        assert np.allclose(Lasso(alpha, tol=1e-12, max_iter=9999).fit(X, y).coef_, w, atol=1e-6)


def test_the_error_on_learned_rows_only_falls_and_on_held_out_rows_it_turns():
    learned, held_out = halves()
    for path in (ridge_path(*learned, np.geomspace(1e4, 1e-3, 30)), lasso_path(*learned)[1],
                 descent_path(*learned, 400, 0.1)):
        low, high = errors(path, *learned), errors(path, *held_out)
        assert np.all(np.diff(low) < 1e-6)
        assert high.min() < 0.75 * min(high[0], high[-1])
        assert high[-1] > 2 * low[-1]


def test_the_lasso_finds_the_features_that_matter():
    X, y, w = planted(N=200)
    alphas, path = lasso_path(X, y)
    found = path[np.argmin(np.abs(alphas - 0.25))]
    assert np.array_equal(found != 0, w != 0)


def test_early_stopping_keeps_the_weights_of_the_best_step():
    learned, held_out = halves()
    path = descent_path(*learned, 400, 0.1)
    watch = stop_early(path, *held_out, patience=30)
    high = errors(path, *held_out)
    assert watch.best_step == high.argmin() < 370
    assert np.array_equal(watch.kept, path[watch.best_step])
    assert np.isclose(watch.best, high.min())


def test_patience_waits_through_a_wave_and_not_through_a_plateau():
    def stops(series, **options):
        watch = Patience(**options)
        return next((i for i, e in enumerate(series) if watch.is_over(i, e, np.zeros(1))), None)
    wave = [5, 4, 4.5, 4.2, 3, 3.5, 3.6, 3.7]
    assert stops(wave, patience=1) == 2
    assert stops(wave, patience=3) == 7
    assert stops([5 - 0.001 * i for i in range(9)], patience=3, least=0.1) == 3
    assert stops(range(9, 0, -1), patience=1) is None


def test_the_picture_of_the_gap_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    lesson.draw_gap(tmp_path / "a.png", 30)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
