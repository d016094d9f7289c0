"""DBSCAN: strips that lose no pair, and the definition, followed literally."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml.dbscan import (
    CHEBYSHEV,
    DBSCAN,
    EUCLIDEAN,
    MANHATTAN,
    adopt,
    join_cores,
    mass_near,
    strips,
)

POWER = {"euclidean": 2, "manhattan": 1, "chebyshev": np.inf}


def windows_case(draw, metric, kernel):
    x = draw.generator.integers(0, 6, (50, 3)).astype(draw.real)
    order, first, last = strips(x, 1.5)
    x, rows, how = x[order], np.arange(50), (metric, 2.25 if metric == EUCLIDEAN else 1.5)
    if kernel is join_cores:
        core = draw.integers(0, 2, 50).astype(bool)
        return np.empty(50, np.int64), first, last, x, core, how
    if kernel is adopt:
        return np.empty(50, np.int64), rows, first, last, x, draw.integers(-1, 4, 50), how
    return draw.out(50), rows, first, last, x, draw.positive(50), how


CASES = {kernel: [lambda draw, metric=metric, kernel=kernel: windows_case(draw, metric, kernel)
                  for metric in (EUCLIDEAN, MANHATTAN, CHEBYSHEV)]
         for kernel in (mass_near, join_cores, adopt)}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_loops_do_what_numpy_does(kernel, case, body, real):
    check_body(kernel, case, body, real)


def by_definition(x, eps, enough, power, w):
    """The labels by growing one cluster after another from its first core."""
    near = np.linalg.norm(x[:, None] - x, power, axis=2) <= eps
    core = near @ w >= enough
    labels = np.full(len(x), -1)
    for number, i in enumerate(i for i in range(len(x)) if core[i]):
        todo = [i] if labels[i] < 0 else []
        while todo:
            j = todo.pop()
            if labels[j] < 0:
                labels[j] = number
                todo += np.flatnonzero(near[j]).tolist() if core[j] else []
    return np.unique(labels, return_inverse=True)[1] - (labels < 0).any(), core


@pytest.mark.parametrize("metric", POWER)
def test_the_labels_are_those_of_the_definition(metric):
    for seed in range(30):
        random = np.random.default_rng(seed)
        n, p = random.integers(1, 90), random.integers(1, 4)
        x = random.integers(0, random.integers(2, 15), (n, p)).astype(float)  # many at exactly eps
        w = random.integers(0, 3, n) + (np.arange(n) == 0)
        eps, enough = float(random.integers(1, 3)), int(random.integers(1, 7))
        fitted = DBSCAN(eps, min_samples=enough, metric=metric).fit(x, sample_weight=w)
        labels, core = by_definition(x, eps, enough, POWER[metric], w)
        assert np.array_equal(fitted.labels_, labels)
        assert np.array_equal(fitted.core_sample_indices_, np.flatnonzero(core))
        assert np.array_equal(fitted.components_, x[core])


def test_two_moons_are_two_groups_and_a_stray_row_is_noise():
    angle = np.linspace(0, np.pi, 100)
    upper = np.column_stack([np.cos(angle), np.sin(angle)])
    lower = np.column_stack([1 - np.cos(angle), 0.5 - np.sin(angle)])
    labels = DBSCAN(0.2).fit_predict(np.vstack([upper, lower, [[5, 5]]]))
    assert list(labels) == [0] * 100 + [1] * 100 + [-1]


def test_a_border_row_belongs_to_the_cluster_that_comes_first():
    x = np.array([[0.0], [0.1], [0.2], [1.0], [1.8], [1.9], [2.0]])
    assert list(DBSCAN(0.8, min_samples=4).fit(x).labels_) == [0, 0, 0, 0, 1, 1, 1]
    assert list(DBSCAN(0.8, min_samples=4).fit(x[::-1]).labels_) == [0, 0, 0, 0, 1, 1, 1]


def test_windows_hold_every_near_pair_also_where_rounding_puts_it_at_the_edge():
    for seed in range(20):
        x = np.random.default_rng(seed).integers(0, 40, (200, 2)) * 0.1 + 1e6 * (seed % 2)
        order, first, last = strips(x, 0.3)
        x = x[order]
        near = np.abs(x[:, None] - x).max(2) <= 0.3
        for i, t in np.argwhere(near):
            assert np.any((first[i] <= t) & (t < last[i]))
        assert (last - first).sum(1).max() < 150  # and not simply everything


def test_settings_that_mean_nothing_are_refused():
    for options in ({"eps": 0}, {"min_samples": 0}, {"metric": "cosine"}):
        with pytest.raises(ValueError, match="parameter of DBSCAN"):
            DBSCAN(**options).fit([[0.0], [1.0]])
