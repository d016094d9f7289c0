"""Logistic regression: its two kernels, its derivatives, and three solvers with one answer."""

import math

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml import logistic as lesson
from tinygrad_edu.ml.inputs import ConvergenceWarning, theirs
from tinygrad_edu.ml.logistic import Cost, LogisticRegression

CASES = {
    lesson.logistic_loss: [
        lambda d, N=N, scale=scale: (d.out(N), d.out(N), d.array(N, scale=scale),
                                     d.integers(0, 2, N, dtype=d.real), d.positive(N))
        for N, scale in ((1, 1), (17, 3), (3000, 100))],
    lesson.softmax_loss: [
        lambda d, N=N, K=K, scale=scale: (d.out(N, K), d.out(N), d.array(N, K, scale=scale),
                                          d.integers(0, K, N), d.positive(N))
        for N, K, scale in ((1, 2, 1), (13, 5, 3), (700, 3, 100))],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_losses_of_loops_are_those_of_numpy(kernel, case, body, real):
    check_body(kernel, case, body, real)


def table(N=60, C=4, K=3, seed=0):
    random = np.random.default_rng(seed)
    X = random.standard_normal((N, C))
    z = X @ random.standard_normal((C, K)) + random.gumbel(size=(N, K))
    return X, z.argmax(1)


def costs(R):
    X, y = table(K=max(R, 2))
    return Cost(X, y, 1.0 + np.arange(60) % 3, R, 0.1, True)


@pytest.mark.parametrize("R", [1, 3])
def test_gradient_and_hessian_are_those_of_differences(R):
    cost = costs(R)
    at = np.random.default_rng(1).standard_normal(R * 5)
    gradient, H = cost(at)[1], cost.hessian(at)
    for i, step in enumerate(np.eye(R * 5) * 1e-5):
        up, down = cost(at + step), cost(at - step)
        assert np.isclose((up[0] - down[0]) / 2e-5, gradient[i], rtol=1e-7, atol=1e-9)
        assert np.allclose((up[1] - down[1]) / 2e-5, H[i], rtol=1e-6, atol=1e-9)
    assert np.linalg.eigvalsh(H)[-1] <= cost.largest()


def test_a_score_of_zero_costs_the_logarithm_of_two():
    error, loss = np.empty(2), np.empty(2)
    lesson.logistic_loss(error, loss, np.zeros(2), np.array([0.0, 1.0]), np.ones(2))
    assert np.allclose(loss, math.log(2)) and error.tolist() == [0.5, -0.5]


def test_huge_scores_neither_overflow_nor_lose_the_loss():
    error, loss = np.empty(2), np.empty(2)
    lesson.logistic_loss(error, loss, np.array([1e4, -1e4]), np.array([0.0, 0.0]), np.ones(2))
    assert loss.tolist() == [1e4, 0] and error.tolist() == [1, 0]
    assert lesson.softmax(np.array([[1e4, 0.0]])).tolist() == [[1, 0]]
    assert lesson.sigmoid(np.array([-800.0, 800.0])).tolist() == [math.exp(-800), 1]


@pytest.mark.parametrize("K", [2, 3])
def test_three_solvers_find_one_answer(K):
    X, y = table(K=K)
    found = [LogisticRegression(solver=solver, tol=1e-10, max_iter=5000).fit(X, y)
             for solver in ("lbfgs", "newton", "gradient")]
    for other in found[1:]:
        assert np.allclose(other.coef_, found[0].coef_, atol=1e-7)
        assert np.allclose(other.intercept_, found[0].intercept_, atol=1e-7)
    assert np.allclose(found[0].predict_proba(X).sum(1), 1)
    assert np.allclose(np.exp(found[0].predict_log_proba(X)), found[0].predict_proba(X))


def test_with_an_intercept_the_probabilities_are_right_on_average():
    X, y = table()
    fitted = LogisticRegression(tol=1e-10).fit(X, y)
    assert np.allclose(fitted.predict_proba(X).mean(0), np.bincount(y) / 60, atol=1e-8)
    without = LogisticRegression(fit_intercept=False).fit(X, y)
    assert not without.intercept_.any()


def test_one_feature_and_two_rows_have_an_answer_by_hand():
    fitted = LogisticRegression(C=1.0, tol=1e-12).fit([[-1.0], [1.0]], ["no", "yes"])
    w = fitted.coef_[0, 0]
    assert np.isclose(w, 2 / (1 + math.exp(w)))    # two rows pull with 1 − σ(w), the penalty with w
    assert fitted.predict([[-0.1], [0.1]]).tolist() == ["no", "yes"]


@pytest.mark.parametrize("K", [2, 3])
def test_the_first_penalty_makes_weights_exactly_zero(K):
    X, y = table(K=K)
    model = LogisticRegression(l1_ratio=1.0, C=0.1, solver="gradient", tol=1e-9, max_iter=9999)
    zeros = (model.fit(X, y).coef_ == 0).sum()
    assert 0 < zeros < model.coef_.size
    assert np.allclose(model.predict_proba(X).mean(0), np.bincount(y) / 60)  # b is not shrunk
    with pytest.raises(ValueError, match="take solver='gradient', or l1_ratio=0"):
        model.set_params(solver="newton").fit(X, y)


def test_class_weights_are_sample_weights_by_class():
    X, y = table()
    labels = np.array(["a", "b", "c"])[y]
    share = 60 / (3 * np.bincount(y))
    for setting, weights in [("balanced", share), ({"a": 2, "c": 0.5}, [2, 1, 0.5])]:
        by_class = LogisticRegression(class_weight=setting).fit(X, labels)
        by_row = LogisticRegression().fit(X, labels, np.array(weights)[y])
        assert np.allclose(by_class.coef_, by_row.coef_, atol=1e-12)
    for bad, said in [("even", "'balanced' or a dict"), ({"z": 1}, r"classes \['z'\] of class_w")]:
        with pytest.raises(ValueError, match=said):
            LogisticRegression(class_weight=bad).fit(X, labels)


def test_classes_that_a_line_separates_end_by_the_penalty_or_by_a_warning():
    X, y = [[-2.0], [-1.0], [1.0], [2.0]], [0, 0, 1, 1]
    assert LogisticRegression(C=1.0).fit(X, y).score(X, y) == 1
    with pytest.warns(theirs(ConvergenceWarning), match="L-BFGS has not converged after 3 steps"):
        LogisticRegression(C=math.inf, max_iter=3, tol=1e-9).fit(X, y)


def test_bad_settings_and_one_class_are_refused():
    for bad in ({"C": 0}, {"solver": "sag"}, {"l1_ratio": 2}, {"max_iter": 0.5}, {"tol": -1}):
        with pytest.raises(ValueError, match="parameter of LogisticRegression must be"):
            LogisticRegression(**bad).fit(*table())
    with pytest.raises(ValueError, match="at least 2 classes"):
        LogisticRegression().fit(np.eye(3), [1, 1, 1])
