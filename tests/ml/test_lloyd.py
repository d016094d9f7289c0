"""Lloyd's two steps: bodies, bounds that change nothing but the time, and empty clusters."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml.lloyd import Turns, distances_to, reassign, squared_distances


def reassign_case(draw, n, p, k, first=False):
    """A turn in the middle: bounds that hold, some of them loosely; or the first one."""
    x, centers = draw.array(n, p), draw.array(k, p)
    moved = draw.positive(k) / 10
    d = np.sqrt(((x[:, None] - centers) ** 2).sum(2))
    labels = d.argmin(1).astype(np.int32)
    upper = d.min(1) + draw.positive(n) - 0.4
    lower = np.sort(d, axis=1)[:, min(1, k - 1)] - draw.positive(n) / 5
    labels[: n // 3] = 0
    upper[: n // 3] = np.inf
    if first:
        labels[:], upper[:], lower[:] = -1, np.inf, 0
    bounds = upper.astype(draw.real), lower.astype(draw.real)
    return (draw.out(k, p), draw.out(k), np.empty(1, np.int64), labels, *bounds, x,
            draw.positive(n), centers, moved, np.full_like(moved, moved.max()), moved)


CASES = {
    squared_distances: [lambda d: (d.out(1, 1), d.array(1, 3), d.array(1, 3)),
                        lambda d: (d.out(37, 5), d.array(37, 7), d.array(5, 7))],
    reassign: [lambda d, shape=shape: reassign_case(d, *shape)
               for shape in [(1, 1, 1), (40, 3, 2), (61, 17, 7), (61, 4, 5, True), (9, 2, 1)]],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_loops_do_what_numpy_does(kernel, case, body, real):
    check_body(kernel, case, body, real)


def run(x, w, centers, forget, turns=30):
    """(labels, centres) after each turn."""
    state, seen = Turns(x, w, centers), []
    for _ in range(turns):
        if forget:
            state.forget()
        state.assign()
        state.move()
        seen.append((state.labels.copy(), state.centers.copy()))
    return seen


@pytest.mark.parametrize("integers", [False, True])
def test_with_bounds_each_turn_finds_what_it_finds_without(integers):
    for seed in range(5):
        random = np.random.default_rng(seed)
        x = random.standard_normal((400, 3)) + 3 * random.integers(0, 3, (400, 1))
        if integers:  # many rows as far from two centres
            x = np.round(x)
        w, centers = random.random(400) + 0.5, x[:8].copy()
        for (a, b), (c, d) in zip(run(x, w, centers, False), run(x, w, centers, True), strict=True):
            assert np.array_equal(a, c)
            assert np.allclose(b, d, atol=1e-12)


def test_the_centres_are_the_weighted_means_of_their_rows():
    random = np.random.default_rng(0)
    x, w = random.standard_normal((300, 4)), random.random(300)
    labels, centers = run(x, w, x[:5], False)[-1]
    for c in range(5):
        rows = labels == c
        assert np.allclose(centers[c], np.average(x[rows], axis=0, weights=w[rows]), atol=1e-12)


def test_the_bounds_hold():
    random = np.random.default_rng(1)
    x = random.standard_normal((300, 2))
    state = Turns(x, np.ones(300), x[:6])
    for _ in range(10):
        state.assign()
        d = np.sqrt(distances_to(x, state.centers))
        own = d[np.arange(300), state.labels]
        d[np.arange(300), state.labels] = np.inf
        assert np.all(own <= state.upper + 1e-12)
        assert np.all(d.min(1) >= state.lower - 1e-12)
        state.move()


def test_a_row_as_far_from_two_centres_goes_to_the_first():
    state = Turns(np.array([[0.0], [2.0], [1.0]]), np.ones(3), np.array([[0.0], [2.0]]))
    state.assign()
    assert list(state.labels) == [0, 1, 0]


def test_bounds_that_are_equal_prove_nothing():
    labels, upper, lower = np.array([1], np.int32), np.ones(1), np.ones(1)
    nothing = np.zeros(2)
    reassign(np.empty((2, 1)), np.empty(2), np.empty(1, np.int64), labels, upper, lower,
             np.ones((1, 1)), np.ones(1), np.array([[0.0], [2.0]]), nothing, nothing, nothing)
    assert labels[0] == 0


def test_an_empty_cluster_gets_the_row_that_is_farthest_from_its_centre():
    x = np.array([[0.0], [1.0], [10.0]])
    state = Turns(x, np.ones(3), np.array([[0.5], [100.0]]))
    state.assign()
    state.move()
    assert np.allclose(state.centers, [[0.5], [10]])
