"""k-means: groups that anybody sees, starts that lie apart, and what is refused."""

import numpy as np
import pytest

from tinygrad_edu.ml.cluster import KMeans, plus_plus
from tinygrad_edu.ml.inputs import ConvergenceWarning, theirs


def blobs(n=300, k=5, seed=0):
    random = np.random.default_rng(seed)
    y = np.arange(n) % k
    return random.standard_normal((n, 2)) + 20 * np.column_stack([y, y**2]), y


def test_groups_that_anybody_sees_are_found():
    X, y = blobs()
    fitted = KMeans(5, random_state=0).fit(X)
    assert len({*zip(fitted.labels_.tolist(), y.tolist(), strict=True)}) == 5
    means = [X[fitted.labels_ == c].mean(0) for c in range(5)]
    assert np.allclose(fitted.cluster_centers_, means)
    away = X - fitted.cluster_centers_[fitted.labels_]
    assert fitted.inertia_ == pytest.approx((away**2).sum())
    assert fitted.score(X) == pytest.approx(-fitted.inertia_)
    assert np.array_equal(fitted.predict(X), fitted.labels_)
    assert np.allclose(fitted.transform(X).min(1) ** 2, (away**2).sum(1))


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_both_algorithms_end_at_the_same_centres(init):
    X = np.random.default_rng(0).standard_normal((500, 4))
    a, b = (KMeans(6, init=init, algorithm=name, random_state=3).fit(X)
            for name in ("hamerly", "lloyd"))
    assert np.array_equal(a.labels_, b.labels_)
    assert a.n_iter_ == b.n_iter_ > 3
    assert np.allclose(a.cluster_centers_, b.cluster_centers_, atol=1e-12)


def test_a_start_drawn_apart_hits_every_group():
    X, _ = blobs()
    for seed in range(20):
        centers = plus_plus(X, 5, np.ones(len(X)), np.random.default_rng(seed))
        assert len({int(round(c[0] / 20)) for c in centers}) == 5


def test_a_row_without_weight_is_never_drawn_and_moves_nothing():
    X, _ = blobs(k=3)
    w = np.ones(len(X))
    X[0], w[0] = 1e6, 0
    fitted = KMeans(3, random_state=0).fit(X, sample_weight=w)
    assert fitted.cluster_centers_.max() < 100
    assert np.allclose(np.sort(fitted.cluster_centers_[:, 0]),
                       np.sort(KMeans(3, random_state=1).fit(X[1:]).cluster_centers_[:, 0]))


def test_the_best_of_several_starts_is_kept():
    X = np.random.default_rng(0).standard_normal((200, 2))
    each = [KMeans(9, n_init=1, random_state=np.random.default_rng(s)).fit(X).inertia_
            for s in range(3)]
    assert KMeans(9, n_init=20, random_state=0).fit(X).inertia_ <= min(each)


def test_rows_far_from_the_origin_keep_their_digits():
    X, y = blobs(k=2)
    fitted = KMeans(2, random_state=0).fit(X / 1e3 + 1e7)
    assert len({*zip(fitted.labels_.tolist(), y.tolist(), strict=True)}) == 2


def test_what_cannot_be_fitted_is_refused_in_one_sentence():
    X, _ = blobs(10)
    with pytest.raises(ValueError, match="n_samples=10 should be >= n_clusters=11"):
        KMeans(11).fit(X)
    with pytest.raises(ValueError, match="shape of the initial centers"):
        KMeans(2, init=np.zeros((3, 2))).fit(X)
    with pytest.raises(ValueError, match="'algorithm' parameter"):
        KMeans(2, algorithm="elkan").fit(X)
    with pytest.warns(theirs(ConvergenceWarning), match="distinct clusters \\(1\\)"):
        KMeans(3).fit(np.ones((5, 2)))
