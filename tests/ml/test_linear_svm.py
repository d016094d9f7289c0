"""The widest street: a case by hand, both ways to the same plane, and what must hold at the end."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml import linear_svm as lesson
from tinygrad_edu.ml.inputs import ConvergenceWarning, theirs
from tinygrad_edu.ml.linear_svm import LinearSVC, dual_sweep


def sweep_case(draw, n, p, squared):
    x, y = draw.array(n, p), np.sign(draw.array(n))
    cost = draw.positive(n)
    upper = np.full_like(cost, np.inf) if squared else cost
    damping = 0.5 / cost if squared else np.zeros_like(cost)
    alpha = np.minimum(draw.positive(n) - 0.5, upper).astype(draw.real)
    w = (alpha * y) @ x
    order = draw.generator.permutation(n)
    return draw.out(2), w, alpha, x, y, upper, damping, (x * x).sum(1) + damping, order


CASES = {dual_sweep: [lambda draw, shape=shape: sweep_case(draw, *shape)
                      for shape in [(1, 1, True), (7, 3, False), (60, 17, True), (60, 17, False)]]}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_a_sweep_of_loops_is_that_of_numpy(kernel, case, body, real):
    check_body(kernel, case, body, real)


def table(n=80, p=5, classes=2, seed=0):
    random = np.random.default_rng(seed)
    X = random.standard_normal((n, p))
    planes = random.standard_normal((classes, p))
    return X, (X @ planes.T + random.standard_normal((n, classes))).argmax(1)


def test_two_points_have_the_street_between_them():
    # 1 and 3 on a line: w = 1, b = -2 leaves both at the kerb; b is a weight, so scale it up.
    fitted = LinearSVC(C=1e6, intercept_scaling=1e3, tol=1e-12).fit([[1.0], [3.0]], ["a", "b"])
    assert np.allclose([*fitted.coef_[0], *fitted.intercept_], [1, -2], atol=1e-4)
    assert list(fitted.predict([[1.9], [2.1]])) == ["a", "b"]


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_newton_and_the_sweeps_find_the_same_plane(C):
    X, y = table()
    planes = [LinearSVC(C=C, dual=dual, tol=1e-9, max_iter=100_000, random_state=0).fit(X, y).coef_
              for dual in (True, False)]
    assert np.abs(planes[0] - planes[1]).max() < 1e-6


def test_the_last_steps_of_newton_double_the_digits():
    X, y = table(2000, 10)
    steps = [LinearSVC(tol=tol, dual=False).fit(X, y).n_iter_ for tol in (1e-4, 1e-12)]
    assert steps[1] <= steps[0] + 2 <= 12


@pytest.mark.parametrize("loss, power", [("hinge", 1), ("squared_hinge", 2)])
def test_no_small_change_of_the_plane_lowers_the_objective(loss, power):
    X, y = table(seed=1)
    fitted = LinearSVC(loss=loss, dual=True, tol=1e-8, max_iter=100_000, random_state=0).fit(X, y)
    best = np.append(fitted.coef_[0], fitted.intercept_)
    x, signs = np.column_stack([X, np.ones(len(X))]), 2 * y - 1

    def objective(w):
        return w @ w / 2 + (np.maximum(0, 1 - signs * (x @ w)) ** power).sum()

    assert objective(best) == pytest.approx(
        lesson.objective(best, x, signs, np.ones(len(x)), power == 2))
    for _ in range(50):
        change = 1e-3 * np.random.default_rng(_).standard_normal(len(best))
        assert objective(best + change) > objective(best)


@pytest.mark.parametrize("dual", [True, False])
def test_a_weight_counts_rows(dual):
    X, y = table(n=40, classes=3)
    w = np.arange(40) % 3
    options = {"dual": dual, "tol": 1e-10, "max_iter": 100_000}
    weighted = LinearSVC(**options).fit(X, y, sample_weight=w)
    repeated = LinearSVC(**options).fit(X.repeat(w, axis=0), y.repeat(w))
    assert np.abs(weighted.coef_ - repeated.coef_).max() < 1e-6


def test_balanced_classes_weigh_the_same():
    y = np.array([0, 0, 0, 1])
    w = lesson.weights_of_classes("balanced", np.array([0, 1]), y, np.ones(4))
    assert np.allclose(w, [2 / 3, 2 / 3, 2 / 3, 2])
    w = lesson.weights_of_classes({1: 5}, np.array([0, 1]), y, np.ones(4))
    assert np.allclose(w, [1, 1, 1, 5])


def test_three_classes_have_a_plane_each():
    X, y = table(300, 2, 3)
    fitted = LinearSVC().fit(X, np.array(["a", "b", "c"])[y])
    assert fitted.coef_.shape == fitted.decision_function(X).T[:, :2].shape == (3, 2)
    assert fitted.score(X, np.array(["a", "b", "c"])[y]) > 0.6


def test_what_cannot_be_fitted_is_refused_in_one_sentence():
    X, y = table()
    with pytest.raises(ValueError, match="at least 2 classes"):
        LinearSVC().fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="has a kink"):
        LinearSVC(loss="hinge", dual=False).fit(X, y)
    with pytest.raises(ValueError, match="'C' parameter of LinearSVC must be a float"):
        LinearSVC(C=0).fit(X, y)
    with pytest.raises(ValueError, match="not in class_weight"):
        LinearSVC(class_weight={7: 1}).fit(X, y)
    with pytest.raises(ValueError, match="'balanced' or a dict"):
        LinearSVC(class_weight="even").fit(X, y)
    with pytest.warns(theirs(ConvergenceWarning), match="raise max_iter"):
        LinearSVC(dual=True, max_iter=1, tol=1e-9).fit(X, y)
