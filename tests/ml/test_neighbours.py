"""Nearest neighbours: the k-d tree against a look at every point, ties, votes."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml.neighbours import (
    Boxes,
    KNeighborsClassifier,
    KNeighborsRegressor,
    find_neighbours,
)


def search(n, features, k, p, leaf, grid=False):
    """A call of find_neighbours; on a grid many points are equally far away."""
    def case(draw):
        X, asked = (draw.generator.standard_normal((size, features)) for size in (n, 9))
        if grid:
            X, asked = np.round(X), np.round(asked)
        boxes = Boxes(X, leaf)
        return (draw.out(9, k, dtype=np.float64), draw.out(9, k, dtype=np.int64), asked,
                boxes.points, boxes.order, boxes.low, boxes.high, boxes.start, boxes.stop, p)
    return case


CASES = {
    find_neighbours: [search(100, 3, 4, 2, 5), search(64, 2, 7, 2, 1, grid=True),
                      search(64, 2, 7, 1, 4, grid=True), search(50, 4, 3, 3, 7),
                      search(3, 2, 3, 2, 30), search(40, 1, 5, 2, 40)],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def test_every_point_lies_in_one_leaf_and_inside_its_boxes():
    X = np.random.default_rng(0).standard_normal((101, 3))
    boxes = Boxes(X, 8)
    assert sorted(boxes.order) == list(range(101))
    assert np.array_equal(boxes.points, X[boxes.order])
    for node in range(len(boxes.start)):
        inside = boxes.points[boxes.start[node]:boxes.stop[node]]
        assert np.all((inside >= boxes.low[node]) & (inside <= boxes.high[node]))
    first_leaf = len(boxes.start) // 2
    assert boxes.start[first_leaf:].tolist() == [0, *boxes.stop[first_leaf:-1]]


def test_three_neighbours_by_hand():
    X, y = [[0.0], [1], [4], [9]], [0.0, 1, 2, 3]
    model = KNeighborsRegressor(3).fit(X, y)
    distance, row = model.kneighbors([[3.0]])
    assert row.tolist() == [[2, 1, 0]] and distance.tolist() == [[1, 2, 3]]
    assert model.predict([[3.0]]) == 1
    weighted = KNeighborsRegressor(3, weights="distance").fit(X, y)
    assert weighted.predict([[3.0]]) == pytest.approx((2 + 1 / 2 + 0) / (1 + 1 / 2 + 1 / 3))


def test_of_points_equally_far_away_the_first_row_is_nearer():
    model = KNeighborsClassifier(1).fit([[1.0], [-1], [1]], ["x", "y", "z"])
    assert model.predict([[0.0]]).tolist() == ["x"]


def test_a_point_that_was_met_before_is_believed_alone():
    model = KNeighborsClassifier(3, weights="distance").fit([[0.0], [1], [1.1]], [0, 1, 1])
    assert model.predict_proba([[0.0]]).tolist() == [[1, 0]]


def test_more_neighbours_than_rows_are_refused():
    with pytest.raises(ValueError, match="n_neighbors = 5, n_samples_fit = 2"):
        KNeighborsClassifier().fit([[0.0], [1]], [0, 1]).predict([[0.0]])
