"""Linear regression: mirrors, descent, coordinates, each against what must hold at the answer."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml import linear as lesson
from tinygrad_edu.ml.inputs import ConvergenceWarning, theirs
from tinygrad_edu.ml.linear import ElasticNet, Lasso, LinearRegression, Ridge


def sweep_case(d, C, N):
    columns = d.array(C, N)
    if C > 2:
        columns[1] = 0
    w = d.array(C)
    residual = d.array(N) - w @ columns
    return w, residual, columns, np.einsum("cn,cn->c", columns, columns), 0.3 * N, 0.1


CASES = {lesson.coordinate_sweep: [lambda d, shape=shape: sweep_case(d, *shape)
                                   for shape in ((1, 1), (3, 7), (5, 64), (17, 33), (40, 5))],
         lesson.mirror: [lambda d, shape=shape: (d.array(*shape), d.array(shape[1]))
                         for shape in ((1, 1), (3, 7), (40, 3001))]}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_mirrors_and_sweeps_of_loops_are_those_of_numpy(kernel, case, body, real):
    check_body(kernel, case, body, real)


def table(N=40, C=5, seed=0):
    random = np.random.default_rng(seed)
    X = random.standard_normal((N, C)) + random.standard_normal(C)
    return X, X @ random.standard_normal(C) + 2 + 0.1 * random.standard_normal(N)


def test_three_points_on_a_line_are_met():
    fitted = LinearRegression().fit([[1], [2], [4]], [3, 5, 9])
    assert np.allclose([*fitted.coef_, fitted.intercept_], [2, 1], atol=1e-14)


def test_mirrors_make_a_triangle_and_keep_lengths():
    X = np.random.default_rng(0).standard_normal((9, 4))
    R, Q, order = lesson.triangle(X.T.copy(), np.eye(9))
    assert np.allclose(Q @ Q.T, np.eye(9), atol=1e-14)
    assert np.allclose(Q[:, :4] @ np.triu(R), X[:, order], atol=1e-14)
    assert np.all(np.diff(np.abs(np.diag(R))) <= 0)


def test_a_mirror_takes_the_sign_that_does_not_cancel():
    X = np.eye(3, 2) + 1e-9                        # each column is nearly its own image
    w, _ = lesson.least_squares(X, X @ [1.0, 2.0])
    assert np.abs(w - [1, 2]).max() < 1e-15


def test_the_errors_of_the_best_line_are_orthogonal_to_every_feature():
    X, y = table()
    w = np.arange(40) % 3
    fitted = LinearRegression().fit(X, y, w)
    error = w * (y - fitted.predict(X))
    assert np.abs(X.T @ error).max() < 1e-11
    assert abs(error.sum()) < 1e-11


def test_a_weight_of_two_is_the_row_twice_and_of_zero_is_no_row():
    X, y = table()
    w = np.arange(40) % 3
    for model in (LinearRegression(), Ridge(0.5), Lasso(0.1, tol=1e-14), ElasticNet(tol=1e-14)):
        once = model.fit(X, y, w).predict(X)
        assert np.allclose(model.fit(X.repeat(w, 0), y.repeat(w)).predict(X), once, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 8), (8, 8), (20, 8)], ids=str)
def test_of_many_answers_the_shortest_is_taken(shape):
    X, y = table(*shape)
    X[:, 3], X[:, 5] = X[:, 1], 0.1                # twins, and a constant column
    fitted = LinearRegression(fit_intercept=False).fit(X, y)
    assert np.allclose(fitted.coef_, np.linalg.pinv(X) @ y, atol=1e-9)
    fitted = LinearRegression().fit(X, y)
    assert fitted.coef_[5] == 0 and fitted.rank_ == min(shape[0] - 1, 6)


def test_descent_arrives_where_the_mirrors_are_at_once():
    X, y = table()
    slow = LinearRegression(solver="gradient").fit(X, y)
    assert np.allclose(slow.coef_, LinearRegression().fit(X, y).coef_, atol=1e-8)
    assert slow.n_iter_ > 10
    with pytest.warns(theirs(ConvergenceWarning), match="not converged after 3 steps"):
        LinearRegression(solver="gradient", max_iter=3).fit(X, y)


def test_ridge_solves_its_normal_equations():
    X, y = table()
    fitted = Ridge(3.0).fit(X, y)
    centred = X - X.mean(0)
    right = np.linalg.solve(centred.T @ centred + 3 * np.eye(5), centred.T @ y)
    assert np.allclose(fitted.coef_, right, atol=1e-12)
    assert np.allclose(ElasticNet(0.2, l1_ratio=0).fit(X, y).coef_, Ridge(0.2 * 40).fit(X, y).coef_)


def test_no_direction_leads_down_from_the_elastic_net():
    X, y = table(C=9)
    fitted = ElasticNet(0.3, l1_ratio=0.7, tol=1e-13).fit(X, y)
    slope = (X - X.mean(0)).T @ (y - fitted.predict(X)) / 40 - 0.3 * 0.3 * fitted.coef_
    zero = fitted.coef_ == 0
    assert 0 < zero.sum() < 9
    assert np.allclose(slope[~zero], 0.21 * np.sign(fitted.coef_[~zero]), atol=1e-7)
    assert np.all(np.abs(slope[zero]) <= 0.21)
    assert 0 <= fitted.dual_gap_ < 1e-11


def test_the_gap_is_an_upper_bound_of_what_is_left_to_gain():
    X, y = table(C=9)
    def cost(w):
        return ((y - X @ w) ** 2).sum() / 2 + 4 * np.abs(w).sum() + w @ w
    best, *_ = lesson.elastic_net(X, y, 4.0, 2.0, tolerance=1e-14)
    columns = X.T.copy()
    for scale in (0, 0.5, 0.99, 1):
        gap = lesson.duality_gap(best * scale, y - X @ best * scale, columns, y, 4.0, 2.0)
        assert gap >= cost(best * scale) - cost(best) - 1e-10


def test_a_lasso_that_is_strong_enough_leaves_nothing():
    X, y = table()
    limit = np.abs((X - X.mean(0)).T @ (y - y.mean())).max() / 40
    assert not Lasso(limit * 1.0001).fit(X, y).coef_.any()
    assert (Lasso(limit * 0.99).fit(X, y).coef_ != 0).sum() == 1
    with pytest.warns(theirs(ConvergenceWarning), match="not converged after 1 sweeps"):
        Lasso(limit / 1000, max_iter=1).fit(X, y)


@pytest.mark.parametrize("model", [Ridge(-1), Lasso(alpha="x"), ElasticNet(l1_ratio=2),
                                   ElasticNet(max_iter=0), LinearRegression(solver="lu")], ids=repr)
def test_settings_that_make_no_sense_are_refused(model):
    with pytest.raises(ValueError, match="parameter of .* must be"):
        model.fit(*table())
