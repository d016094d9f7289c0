"""t-SNE: probabilities by the definition, the gradient by finite differences, groups on the map."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml.tsne import TSNE, Map, attraction, bells, joint, neighbours


def attraction_case(draw, told):
    y, ends = draw.array(12, 3), np.cumsum(draw.integers(0, 5, 12))
    begins = np.append(0, ends[:-1])
    columns, values = draw.integers(0, 12, ends[-1]), draw.positive(ends[-1])
    return draw.out(12, 3), draw.out(12), np.arange(12), begins, ends, columns, values, y, told


CASES = {
    # float64 always: the search goes on until neighbouring numbers
    bells: [lambda d, n=n, k=k: (np.empty((n, k)), d.generator.random((n, k)), np.log(1 + k / 3))
            for n, k in ((1, 2), (9, 30))],
    attraction: [lambda d, told=told: attraction_case(d, told) for told in (True, False)],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_loops_do_what_numpy_does(kernel, case, body, real):
    check_body(kernel, case, body, real)


def blobs(n=90, k=3, seed=0):
    random = np.random.default_rng(seed)
    y = np.arange(n) % k
    return random.standard_normal((n, 5)) + 9 * np.eye(5)[y], y


def dense(begins, ends, columns, values):
    p = np.zeros((len(begins), len(begins)))
    p[np.repeat(np.arange(len(begins)), ends - begins), columns] = values
    return p


def test_each_bell_holds_as_many_neighbours_as_the_perplexity_says():
    d = np.random.default_rng(0).random((20, 50)) * 10
    p = np.empty_like(d)
    for perplexity in (2.0, 7.5, 30.0):
        bells(p, d, np.log(perplexity))
        entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
        assert np.allclose(np.exp(entropy), perplexity)
        beta = np.log(p[:, :1] / p) / (d - d[:, :1] + 1e-300)  # one width a row: (1)
        assert np.allclose(beta[:, 1:], beta[:, 1:2], rtol=1e-6)


def test_neighbours_are_the_nearest_other_rows():
    x, _ = blobs()
    d, rows = neighbours(x, 7)
    full = ((x[:, None] - x) ** 2).sum(2)
    np.fill_diagonal(full, np.inf)
    assert np.allclose(np.sort(d, axis=1), np.sort(full, axis=1)[:, :7])
    assert np.allclose(d, np.take_along_axis(full, rows, 1))


@pytest.mark.parametrize("count", [12, 89])
def test_p_is_symmetric_and_sums_to_one(count):
    p = dense(*joint(blobs()[0], 5.0, count))
    assert np.allclose(p, p.T)
    assert p.sum() == pytest.approx(1)
    assert np.all(p.diagonal() == 0)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_gradient_is_that_of_finite_differences(m):
    x, _ = blobs(30)
    y = np.zeros((30, 3))
    y[:, :m] = np.random.default_rng(1).standard_normal((30, m))
    p = joint(x, 5.0, 29)
    gradient, kl = Map(y, m, p, 0.0).gradient(told=True)
    t = 1 / (1 + ((y[:, None] - y) ** 2).sum(2)) - np.eye(30)
    q = np.maximum(t / t.sum(), 1e-300)
    full = dense(*p)
    assert kl == pytest.approx((full * np.log(np.maximum(full, 1e-300) / q)).sum())
    direction = np.zeros((30, 3))
    direction[:, :m] = np.random.default_rng(2).standard_normal((30, m))
    two = [Map(y + h * direction, m, p, 0.0).gradient(told=True)[1] for h in (1e-5, -1e-5)]
    slope = (two[0] - two[1]) / 2e-5
    assert slope == pytest.approx((gradient * direction).sum(), rel=1e-6)


@pytest.mark.parametrize("method", ["exact", "barnes_hut"])
@pytest.mark.parametrize("init", ["pca", "random"])
def test_groups_of_the_table_are_groups_of_the_map(method, init):
    x, y = blobs()
    fitted = TSNE(perplexity=10, method=method, init=init, max_iter=400, random_state=0).fit(x)
    d = ((fitted.embedding_[:, None] - fitted.embedding_) ** 2).sum(2)
    np.fill_diagonal(d, np.inf)
    assert np.all(y[np.argsort(d, axis=1)[:, :5]] == y[:, None])
    assert 0 < fitted.kl_divergence_ < 0.35  # 0.6 where gains outlive the exaggeration


def test_one_seed_draws_one_map():
    x, _ = blobs(40)
    maps = [TSNE(perplexity=5, max_iter=60, init="random", random_state=3).fit_transform(x)
            for _ in range(2)]
    assert np.array_equal(*maps)


def test_the_rounds_end_when_the_points_have_come_to_rest():
    x, _ = blobs(20, 2)
    fitted = TSNE(perplexity=3, method="exact", max_iter=5000, min_grad_norm=1e-4).fit(x)
    assert 250 < fitted.n_iter_ < 5000


def test_a_progress_bar_is_shown_to_who_asks_for_it(capsys):
    x, _ = blobs(20, 2)
    TSNE(perplexity=3, max_iter=5).fit(x)
    assert capsys.readouterr().err == ""
    TSNE(perplexity=3, max_iter=5, verbose=True).fit(x)
    assert "t-SNE" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_refused_in_one_sentence():
    x, _ = blobs(20, 2)
    with pytest.raises(ValueError, match="must be less than n_samples \\(20\\)"):
        TSNE(perplexity=20).fit(x)
    with pytest.raises(ValueError, match="'n_components' parameter"):
        TSNE(4).fit(x)
    with pytest.raises(ValueError, match="'method' parameter"):
        TSNE(method="fast", perplexity=5).fit(x)
