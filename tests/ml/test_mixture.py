"""Gaussian mixtures: densities by hand, a likelihood that never falls, curves that are found."""

import numpy as np
import pytest

from tinygrad_edu.ml.inputs import ConvergenceWarning, theirs
from tinygrad_edu.ml.mixture import GaussianMixture, log_densities, log_sum_exp, whiteners

KINDS = ["full", "tied", "diag", "spherical"]


def two_curves(n=2000, seed=0):
    random = np.random.default_rng(seed)
    y = (random.random(n) < 0.3).astype(int)
    shapes = np.array([[[2, 1], [0, 0.5]], [[0.5, 0], [0, 1]]])
    x = np.einsum("ij,ijk->ik", random.standard_normal((n, 2)), shapes[y])
    return x + np.array([[0, 0], [6, 3]])[y], shapes.swapaxes(1, 2) @ shapes


@pytest.mark.parametrize("kind, shape, covariance", [
    ("full", [[[2.0, 0.3], [0.3, 1.0]]], [[2.0, 0.3], [0.3, 1.0]]),
    ("tied", [[2.0, 0.3], [0.3, 1.0]], [[2.0, 0.3], [0.3, 1.0]]),
    ("diag", [[2.0, 0.5]], [[2.0, 0], [0, 0.5]]), ("spherical", [0.7], [[0.7, 0], [0, 0.7]])])
def test_the_density_is_the_one_of_the_textbook(kind, shape, covariance):
    x, mean = np.array([[1.0, 2.0], [0, 0]]), np.array([[0.5, 0.5]])
    found = log_densities(x, mean, whiteners(np.array(shape), kind), kind)
    for row, value in zip(x - mean, found[:, 0], strict=True):
        square = row @ np.linalg.inv(covariance) @ row
        wanted = np.exp(-square / 2) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))
        assert np.exp(value) == pytest.approx(wanted, rel=1e-12)


def test_the_logarithm_of_a_sum_does_not_overflow():
    z = np.array([[1000.0, 1000.0], [-2000.0, -2000.0]])
    assert np.allclose(log_sum_exp(z)[:, 0], z[:, 0] + np.log(2), atol=1e-12)


def test_the_curves_that_the_rows_came_from_are_found():
    x, shapes = two_curves()
    fitted = GaussianMixture(2, random_state=0).fit(x)
    order = fitted.weights_.argsort()[::-1]
    assert np.allclose(fitted.weights_[order], [0.7, 0.3], atol=0.03)
    assert np.allclose(fitted.means_[order], [[0, 0], [6, 3]], atol=0.15)
    assert np.allclose(fitted.covariances_[order], shapes, atol=0.35)


@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_never_makes_the_rows_less_likely(kind):
    x, _ = two_curves(300)
    likely = []
    for turns in range(1, 12):
        with pytest.warns(theirs(ConvergenceWarning)):
            fitted = GaussianMixture(3, covariance_type=kind, max_iter=turns, tol=0, reg_covar=0,
                                     random_state=0).fit(x)
        likely.append(fitted.score(x))
    assert np.all(np.diff(likely) > -1e-12)
    assert likely[-1] > likely[0] + 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_probabilities_and_drawn_rows_belong_together(kind):
    x, _ = two_curves()
    fitted = GaussianMixture(2, covariance_type=kind, random_state=0).fit(x)
    shape = {"full": (2, 2, 2), "tied": (2, 2), "diag": (2, 2), "spherical": (2,)}[kind]
    assert fitted.covariances_.shape == fitted.precisions_.shape == shape
    r = fitted.predict_proba(x)
    assert np.allclose(r.sum(1), 1)
    assert np.array_equal(r.argmax(1), fitted.predict(x))
    rows, labels = fitted.sample(50_000)
    one = rows[labels == 1]
    covariance = {"full": fitted.covariances_[-1], "tied": fitted.covariances_,
                  "diag": np.diag(np.atleast_1d(fitted.covariances_[-1])),
                  "spherical": fitted.covariances_[-1] * np.eye(2)}[kind]
    assert np.allclose(one.mean(0), fitted.means_[1], atol=0.1)
    assert np.allclose(np.cov(one.T), covariance, atol=0.2)


def test_the_criterion_of_bayes_finds_how_many_curves_there_are():
    x, _ = two_curves()
    bic = [GaussianMixture(k, n_init=2, random_state=0).fit(x).bic(x) for k in (1, 2, 3)]
    assert np.argmin(bic) == 1
    one = GaussianMixture(1).fit(x)
    assert one.bic(x) - one.aic(x) == pytest.approx(5 * (np.log(len(x)) - 2))


def test_what_cannot_be_fitted_is_refused_in_one_sentence():
    x = np.zeros((5, 2))
    with pytest.raises(ValueError, match="raise reg_covar"):
        GaussianMixture(1, reg_covar=0).fit(x)
    with pytest.raises(ValueError, match="raise reg_covar"):
        GaussianMixture(1, reg_covar=0, covariance_type="diag").fit(x)
    with pytest.raises(ValueError, match="n_samples >= n_components"):
        GaussianMixture(6).fit(x)
    with pytest.raises(ValueError, match="'means_init' should have the shape"):
        GaussianMixture(2, means_init=np.zeros((3, 2)), init_params="random").fit(x)
