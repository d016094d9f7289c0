"""Principal components: the three ways agree, directions by hand, and what whitening means."""

import numpy as np
import pytest

from tinygrad_edu.ml.decompose import PCA, TruncatedSVD, by_covariance, by_svd, signed

WAYS = ["full", "covariance_eigh", "randomized"]


def table(n=200, p=8, seed=0, far=0.0):
    random = np.random.default_rng(seed)
    factors = random.standard_normal((n, p)) * 0.7 ** np.arange(p)
    return factors @ random.standard_normal((p, p)) + far


def test_points_along_a_diagonal_have_that_direction_and_no_other():
    fitted = PCA(2).fit([[1, 1], [2, 2], [4, 4.0]])
    assert np.allclose(fitted.components_[0], [np.sqrt(0.5)] * 2)
    assert np.allclose(fitted.explained_variance_, [2 * np.var([1, 2, 4], ddof=1), 0], atol=1e-12)
    assert np.allclose(fitted.explained_variance_ratio_, [1, 0], atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_components_are_orthonormal_and_their_variances_those_of_the_scores(way):
    X = table()
    fitted = PCA(4, svd_solver=way, random_state=0).fit(X)
    scores = fitted.transform(X)
    assert np.allclose(fitted.components_ @ fitted.components_.T, np.eye(4), atol=1e-12)
    assert np.allclose(np.cov(scores.T), np.diag(fitted.explained_variance_), atol=1e-10)
    assert np.allclose(scores, PCA(4, svd_solver="full").fit(X).transform(X), atol=1e-6)
    left = np.var(X - fitted.inverse_transform(scores), axis=0, ddof=1).sum()
    assert fitted.noise_variance_ == pytest.approx(left / 4, rel=1e-6)
    assert np.all(np.abs(fitted.components_).max(1) == fitted.components_.max(1))


@pytest.mark.parametrize("way", WAYS)
def test_white_scores_vary_alike_in_all_directions_and_come_back(way):
    X = table(p=5)
    fitted = PCA(5, whiten=True, svd_solver=way, random_state=0).fit(X)
    assert np.allclose(np.cov(fitted.transform(X).T), np.eye(5), atol=1e-9)
    assert np.allclose(fitted.inverse_transform(fitted.transform(X)), X, atol=1e-9)


def test_the_covariance_of_a_cloud_far_from_the_origin_keeps_its_digits():
    near, far = table(), table(far=1e6)
    for X in (near, far):
        mean = X.mean(0)
        a, b = by_covariance(X, mean), by_svd(X - mean)
        assert np.allclose(a[0], b[0], rtol=1e-6)
        assert np.allclose(a[1][:4], b[1][:4], atol=1e-6)


def test_products_back_and_forth_bring_chance_near_the_truth():
    X = np.random.default_rng(0).standard_normal((300, 120)) * 0.97 ** np.arange(120)
    exact = PCA(3, svd_solver="full").fit(X).singular_values_
    errors = [abs(PCA(3, svd_solver="randomized", iterated_power=n, random_state=0).fit(
        X).singular_values_ / exact - 1).max() for n in (0, 2, 7, 30)]
    assert np.all(np.diff(errors) < 0)
    assert errors[0] > 0.05 and errors[2] < 0.01 and errors[3] < 1e-5


def test_a_share_of_the_variance_says_how_many():
    X = table()
    ratio = PCA().fit(X).explained_variance_ratio_
    for share in (0.2, 0.5, 0.9, 0.999):
        k = PCA(share).fit(X).n_components_
        assert ratio[:k].sum() > share >= ratio[: k - 1].sum()


def test_more_columns_than_rows_and_a_constant_table():
    assert PCA().fit(table(5, 8)).components_.shape == (5, 8)
    fitted = PCA(2, svd_solver="covariance_eigh").fit(table(5, 8))
    assert np.allclose(fitted.components_, PCA(2).fit(table(5, 8)).components_)
    flat = PCA().fit(np.ones((4, 3)))
    assert np.all(flat.explained_variance_ratio_ == 0)


@pytest.mark.parametrize("algorithm", ["randomized", "exact"])
def test_truncated_svd_is_the_best_of_its_rank_without_taking_the_mean_off(algorithm):
    X = table(far=2.0)
    fitted = TruncatedSVD(3, algorithm=algorithm, random_state=0)
    scores = fitted.fit_transform(X)
    s = np.linalg.svd(X, compute_uv=False)
    assert np.allclose(fitted.singular_values_, s[:3])
    left = np.linalg.norm(X - fitted.inverse_transform(scores))
    assert left == pytest.approx(np.sqrt((s[3:] ** 2).sum()))
    assert np.allclose(scores, fitted.transform(X))


def test_each_direction_has_its_largest_entry_positive():
    found = signed(np.array([[1.0, -2], [0, 0], [-3, 1]]))
    assert np.array_equal(found, [[-1, 2], [0, 0], [3, -1]])


def test_what_cannot_be_fitted_is_refused_in_one_sentence():
    X = table(6, 4)
    for n, words in [(5, "must be between 1 and min"), (0, "'n_components' parameter"),
                     (1.5, "'n_components' parameter")]:
        with pytest.raises(ValueError, match=words):
            PCA(n).fit(X)
    with pytest.raises(ValueError, match="give a number of columns"):
        PCA(0.5, svd_solver="randomized").fit(X)
    with pytest.raises(ValueError, match="must be <= n_features"):
        TruncatedSVD(5).fit(X)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        PCA().fit(X[:1])
