"""Bins, histograms, trees by leaves and boosting: bodies against each other, and by hand."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml.boosting import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    ManyClasses,
    SquaredError,
    TwoClasses,
)
from tinygrad_edu.ml.histograms import (
    BINS,
    MISSING,
    find_edges,
    part_rows,
    put_in_bins,
    quantiles,
    sum_and_cut,
)
from tinygrad_edu.ml.leafwise import grow_by_leaves


def table(draw, n, features, holes=0.1):
    x = np.round(draw.generator.standard_normal((n, features)), 1)
    x[draw.generator.random((n, features)) < holes] = np.nan
    return x


def binning(draw):
    x = table(draw, 50, 3)
    edges, _ = find_edges(x.T, np.ones(50), 7)
    return draw.out(3, 50, dtype=np.uint8), np.ascontiguousarray(x.T), edges


def cutting(holes, least, ridge):
    """A call of sum_and_cut for a third of the rows of a node, the others in `rest`."""
    def case(draw):
        n, features = 90, 4
        x = table(draw, n, features, holes)
        edges, used = find_edges(x.T, np.ones(n), 20)
        bins = np.empty((features, n), np.uint8)
        put_in_bins(bins, np.ascontiguousarray(x.T), edges)
        slopes = np.stack([draw.generator.standard_normal(n), draw.generator.random(n)], axis=1)
        hist = np.zeros((features, BINS, 3))
        for f in range(features):
            np.add.at(hist[f], bins[f], np.column_stack([slopes, np.ones(n)]))
        rows = np.arange(0, n, 3)
        sums = np.append(slopes[rows].sum(axis=0), len(rows))
        return (np.empty((features, 6)), np.empty((features, 6)), np.empty_like(hist), hist, bins,
                rows, slopes[rows], used, sums, np.append(slopes.sum(axis=0), n) - sums, least,
                ridge)
    return case


def parting(missing_left):
    def case(draw):
        bins = draw.integers(0, 6, 40, dtype=np.uint8)
        bins[::7] = MISSING
        rows = np.arange(2, 38)
        slopes = draw.generator.standard_normal((36, 2))
        return np.empty_like(rows), np.empty_like(slopes), rows, slopes, bins, 2, missing_left
    return case


def growing(holes, most, deepest, least):
    def case(draw):
        x = table(draw, 200, 5, holes)
        edges, used = find_edges(x.T, np.ones(200), 30)
        bins = np.empty((5, 200), np.uint8)
        put_in_bins(bins, np.ascontiguousarray(x.T), edges)
        slopes = np.stack([draw.generator.standard_normal(200), draw.generator.random(200)], axis=1)
        nodes = *(np.empty(2 * most - 1, np.int64) for _ in range(4)), np.empty(2 * most - 1)
        found, nothing = np.empty((2, 5, 6))
        hist, rest = np.zeros((2, 5, BINS, 3))
        sum_and_cut(found, nothing, hist, rest, bins, np.arange(200), slopes, used,
                    np.append(slopes.sum(axis=0), 200), np.zeros(3), least, 0.5)
        return (*nodes, np.zeros(200), bins, slopes, used, hist, found, most, deepest, least, 0.5,
                0.1)
    return case


CASES = {
    grow_by_leaves: [growing(0, 12, 99, 5), growing(0.2, 31, 3, 1), growing(0.5, 1, 99, 5),
                     growing(0, 9, 99, 101)],
    put_in_bins: [binning],
    sum_and_cut: [cutting(0, 1, 0.0), cutting(0.2, 5, 1.0), cutting(1, 1, 0.0),
                  cutting(0, 99, 0.0)],
    part_rows: [parting(0), parting(1)],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def test_few_values_get_a_bin_each_and_many_are_cut_at_quantiles():
    edges, used = find_edges(np.array([[1.0, 2, 4, 1], [5, 5, 5, np.nan]]), np.ones(4))
    assert edges[0, :3].tolist() == [1.5, 3, np.inf] and used.tolist() == [3, 1]
    edges, used = find_edges(np.arange(1000.0)[None], np.ones(1000), 4)
    assert edges[0, :3].tolist() == [249.5, 499.5, 749.5] and used[0] == 4


def test_a_quantile_with_weights_is_that_of_the_rows_written_out():
    values, weights = np.array([1.0, 2, 5, 9]), np.array([1.0, 3, 2, 2])
    written_out = np.repeat(values, weights.astype(int))
    shares = np.arange(1, 16) / 16
    expected = np.quantile(written_out, shares, method="averaged_inverted_cdf")
    assert quantiles(values, weights, shares).tolist() == expected.tolist()


def test_one_stump_by_hand():
    X, y = np.array([[0.0], [1], [2], [3]]), np.array([0.0, 0, 4, 8])
    model = HistGradientBoostingRegressor(max_iter=1, learning_rate=0.5, max_leaf_nodes=2,
                                          min_samples_leaf=1, l2_regularization=1.0).fit(X, y)
    # mean 3; G = 6 and −6 over two rows each: steps ∓0.5·6/(2 + 1)
    assert model.predict(X).tolist() == [2, 2, 4, 4]


@pytest.mark.parametrize("loss, K, y", [(SquaredError(), 1, [0.3, -2, 5]),
                                        (TwoClasses(), 1, [0, 1, 1]),
                                        (ManyClasses(4), 4, [0, 3, 2])])
def test_slopes_and_curvatures_are_the_derivatives_of_the_loss(loss, K, y):
    y, F, step = np.array(y), np.random.default_rng(0).standard_normal((K, 3)), 1e-4
    g, h = loss.slopes(F, y)
    for k in range(K):
        up, down = F.copy(), F.copy()
        up[k] += step
        down[k] -= step
        losses = [loss.loss(x, y) for x in (down, F, up)]
        assert g[k] == pytest.approx((losses[2] - losses[0]) / (2 * step), rel=1e-6)
        curve = (losses[2] - 2 * losses[1] + losses[0]) / step**2
        assert h[k] == pytest.approx(curve, rel=1e-5)


def test_no_constant_is_better_than_the_start():
    random = np.random.default_rng(1)
    w = random.random(30)
    for loss, y in ((SquaredError(), random.standard_normal(30)),
                    (TwoClasses(), random.integers(0, 2, 30)),
                    (ManyClasses(3), random.integers(0, 3, 30))):
        g, _ = loss.slopes(np.repeat(loss.start(y, w), 30, axis=1), y)
        assert np.abs(g @ w).max() < 1e-12


def test_a_hole_says_something_when_holes_mean_something():
    random = np.random.default_rng(2)
    y = random.integers(0, 2, 200)
    X = np.where(y[:, None] == 1, np.nan, random.standard_normal((200, 1)))
    model = HistGradientBoostingClassifier(max_iter=5).fit(X, y)
    assert model.score(X, y) == 1
    assert model.predict([[np.nan], [0.0]]).tolist() == [1, 0]


def test_where_no_value_was_missing_a_missing_one_goes_with_the_larger_side():
    X = np.arange(10.0)[:, None]
    model = HistGradientBoostingRegressor(max_iter=1, max_leaf_nodes=2, min_samples_leaf=1)
    model.fit(X, [9.0] * 3 + [0] * 7)
    assert model.predict([[np.nan]]) == model.predict([[9.0]])


def test_boosting_stops_when_the_held_out_loss_does_not_fall():
    random = np.random.default_rng(3)
    X, y = random.standard_normal((300, 3)), random.integers(0, 3, 300)  # nothing to learn
    model = HistGradientBoostingClassifier(max_iter=80, early_stopping=True, n_iter_no_change=4,
                                           random_state=0).fit(X, y)
    losses = model.validation_loss_
    assert model.n_iter_ == len(losses) < 80
    assert min(losses[-4:]) >= losses[-5] - 1e-7


def test_rows_of_weight_zero_are_not_there():
    random = np.random.default_rng(4)
    X, y = random.standard_normal((120, 2)), random.standard_normal(120)
    w = (np.arange(120) % 3 > 0).astype(float)
    weighted = HistGradientBoostingRegressor(max_iter=5).fit(X, y, w)
    alone = HistGradientBoostingRegressor(max_iter=5).fit(X[w > 0], y[w > 0])
    assert np.array_equal(weighted.predict(X), alone.predict(X))


@pytest.mark.parametrize("settings", [{"max_bins": 256}, {"learning_rate": 0}, {"max_iter": 0},
                                      {"max_leaf_nodes": 1}, {"early_stopping": "yes"}])
def test_a_setting_that_makes_no_sense_is_refused_by_name(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))!r} parameter"):
        HistGradientBoostingRegressor(**settings).fit([[0.0], [1.0]], [0, 1])


def test_one_class_and_an_infinite_value_are_refused():
    with pytest.raises(ValueError, match="only one class"):
        HistGradientBoostingClassifier().fit([[0.0], [1.0]], [1, 1])
    with pytest.raises(ValueError, match="infinity"):
        HistGradientBoostingClassifier().fit([[0.0], [np.inf]], [0, 1])
