"""Every planted leak fakes a score, and what removes it does."""

import numpy as np
import pytest

from tinygrad_edu.ml.leaks import LEAKS, SelectBest, find_leaks


@pytest.mark.parametrize("name", LEAKS)
def test_the_leaky_score_is_too_good_and_the_honest_one_is_not(name):
    leak, _ = LEAKS[name]
    leaky, honest, fresh = np.mean([leak(seed) for seed in range(3)], axis=0)
    assert leaky > fresh + 0.05 and abs(honest - fresh) < (leaky - fresh) / 2


def test_a_leak_depends_on_its_seed_alone():
    leak, _ = LEAKS["duplicate rows"]
    assert leak(1) == leak(1) != leak(2)


def test_findings_are_means_over_seeds(monkeypatch):
    monkeypatch.setattr("tinygrad_edu.ml.leaks.LEAKS", {
        "none": (lambda seed: (seed, 0.25, 0.5), "nothing")})
    (found,) = find_leaks(3)
    assert found == ("none", "nothing", 1.0, 0.25, 0.5) and found.faked == 0.5


def test_the_columns_that_go_with_y_are_chosen():
    random = np.random.default_rng(0)
    X = random.standard_normal((200, 6))
    y = X[:, 4] - X[:, 1] + 0.1 * random.standard_normal(200)
    chosen = SelectBest(2).fit(X, y)
    assert chosen.chosen_.tolist() == [1, 4]
    np.testing.assert_array_equal(chosen.transform(X), X[:, [1, 4]])
    assert chosen.get_feature_names_out().tolist() == ["x1", "x4"]
