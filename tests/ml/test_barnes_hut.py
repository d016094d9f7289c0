"""Barnes and Hut: a tree that holds each point once, forces that approach the exact ones."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml import barnes_hut as lesson
from tinygrad_edu.ml.barnes_hut import morton, plant, repel, repulsion, repulsion_of_tree, squares


def points(n, m, seed=0):
    y = np.zeros((n, 3))
    y[:, :m] = np.random.default_rng(seed).standard_normal((n, m)) * 10
    return y


def tree_case(draw, n, m, theta):
    y = points(n, m)
    y[n // 2 :] = y[: n - n // 2]  # every point twice
    code, width = morton(y[:, :m])
    order = np.argsort(code, kind="stable")
    y = y[order].astype(draw.real)
    begins, ends, sizes, skip, means = plant(code[order], y.astype(float), width, m)
    sizes, means = sizes.astype(draw.real), means.astype(draw.real)
    return (draw.out(n, 3), draw.out(n), np.arange(n), y, begins, ends, sizes, skip, means, theta)


def code_case(draw, n, m, cells):
    """float64 always: codes are integers, and of the rest only the widths are numbers."""
    cell = draw.integers(0, cells, n, m) << (lesson.HALVINGS[m] - 8)
    code = np.sort(morton(cell.astype(float))[0])
    return np.empty(2 * n, np.int64), np.empty(2 * n, np.int64), np.empty(2 * n), code, m


CASES = {
    repulsion: [lambda d: (d.out(9, 3), d.out(9), np.arange(9), d.array(9, 3)),
                lambda d: (d.out(1, 3), d.out(1), np.zeros(1, int), d.array(1, 3))],
    repulsion_of_tree: [lambda d, m=m, theta=theta: tree_case(d, 60, m, theta)
                        for m in (1, 2, 3) for theta in (0.0, 0.6, 1.5)],
    squares: [lambda d, m=m, cells=cells: code_case(d, 70, m, cells)
              for m in (1, 2, 3) for cells in (1, 4, 200)],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_loops_do_what_numpy_does(kernel, case, body, real):
    check_body(kernel, case, body, real)


def test_morton_interlaces_the_digits():
    code, width = morton(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    ones = 4**30 // 3  # 0101…01
    assert list(code) == [0, ones, 2 * ones, 3 * ones]
    assert width == pytest.approx(2.0**-30, rel=1e-6)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_every_point_is_in_one_leaf_and_parts_fill_their_node(m):
    y = points(300, m)
    y[:50] = y[50:100]
    code, width = morton(y[:, :m])
    order = np.argsort(code, kind="stable")
    begins, ends, sizes, skip, means = plant(code[order], y[order], width, m)
    leaves = sizes == 0
    assert np.array_equal(np.repeat(begins[leaves], (ends - begins)[leaves]),
                          np.repeat(begins[leaves], np.diff([*begins[leaves], 300])))
    for node in range(len(begins)):
        run = y[order][begins[node] : ends[node]]
        assert np.allclose(means[node], run.mean(0), atol=1e-9)
        assert np.ptp(run, axis=0).max() <= max(sizes[node], 1.01 * width)
        part = node + 1
        while not leaves[node] and ends[part] < ends[node]:
            assert begins[skip[part]] == ends[part]
            part = skip[part]
    assert (ends - begins)[leaves].sum() == 300
    assert len(begins) < 600


@pytest.mark.parametrize("m", [1, 2, 3])
def test_smaller_angles_come_nearer_to_the_exact_forces(m):
    y = points(500, m)
    y[:20] = y[20:40]
    exact, z = repel(y, m, 0)
    errors = [np.linalg.norm(repel(y, m, theta)[0] - exact) / np.linalg.norm(exact)
              for theta in (1.0, 0.5, 0.2, 1e-6)]
    assert np.all(np.diff(errors) < 0)
    assert errors[1] < 0.1 and errors[-1] < 1e-12
    assert np.allclose(repel(y, m, 1e-6)[1], z)


def test_two_points_push_each_other_as_by_hand():
    force, z = repel(np.array([[0.0, 0, 0], [3.0, 0, 0]]), 2, 0.5)
    assert np.allclose(force, [[-0.03, 0, 0], [0.03, 0, 0]])  # t = 1/10, t²·3
    assert np.allclose(z, 0.1)


def test_points_all_in_one_place_do_not_push():
    force, z = repel(np.ones((7, 3)), 2, 0.5)
    assert np.all(force == 0)
    assert np.allclose(z, 6)
