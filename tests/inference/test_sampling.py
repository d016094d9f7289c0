import numpy as np
import pytest

from tinygrad_edu.inference.sampling import draw, penalised, pick, probabilities

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))


def test_probabilities_are_the_softmax():
    assert np.allclose(probabilities(LOGITS), [0.1, 0.4, 0.2, 0.3])
    assert np.allclose(probabilities(LOGITS + 1000), [0.1, 0.4, 0.2, 0.3])


def test_temperature_is_a_power_of_the_probabilities():
    squares = np.array([0.1, 0.4, 0.2, 0.3]) ** 2
    assert np.allclose(probabilities(LOGITS, temperature=0.5), squares / squares.sum())


def test_top_k_keeps_the_k_largest():
    assert np.allclose(probabilities(LOGITS, top_k=2), [0, 4 / 7, 0, 3 / 7])
    assert np.allclose(probabilities(LOGITS, top_k=100), [0.1, 0.4, 0.2, 0.3])


def test_top_p_keeps_the_token_that_crosses_p():
    assert np.allclose(probabilities(LOGITS, top_p=0.5), [0, 4 / 7, 0, 3 / 7])
    assert np.allclose(probabilities(LOGITS, top_p=0.01), [0, 1, 0, 0])
    assert np.allclose(probabilities(LOGITS, top_p=1.0), [0.1, 0.4, 0.2, 0.3])


def test_of_top_k_and_top_p_the_stricter_decides():
    assert np.allclose(probabilities(LOGITS, top_k=2, top_p=0.95), [0, 4 / 7, 0, 3 / 7])
    assert np.allclose(probabilities(LOGITS, top_k=3, top_p=0.5), [0, 4 / 7, 0, 3 / 7])


def test_a_draw_beyond_the_sum_takes_the_last_token_that_was_kept():
    class Almost:
        def random(self):
            return 1.0                             # as if the sum ended a rounding below it
    assert draw(LOGITS, Almost()) == 3
    assert draw(LOGITS, Almost(), top_k=1) == 1


def test_draws_have_the_frequencies_of_the_distribution():
    random = np.random.default_rng(0)
    counts = np.bincount([draw(LOGITS, random) for _ in range(20_000)], minlength=4)
    assert np.abs(counts / 20_000 - [0.1, 0.4, 0.2, 0.3]).max() < 0.015


def test_a_token_that_was_cut_off_is_never_drawn():
    random = np.random.default_rng(0)
    assert {draw(LOGITS, random, top_k=2) for _ in range(500)} == {1, 3}


def test_min_p_keeps_what_is_at_least_so_likely_as_a_share_of_the_likeliest():
    assert np.allclose(probabilities(LOGITS, min_p=0.5), [0, 4 / 9, 2 / 9, 3 / 9])  # 0.2 = 0.5·0.4
    assert np.allclose(probabilities(LOGITS, min_p=1.0), [0, 1, 0, 0])
    assert np.allclose(probabilities(LOGITS, min_p=0.0), [0.1, 0.4, 0.2, 0.3])
    assert np.allclose(probabilities(LOGITS, top_k=2, min_p=0.3), [0, 4 / 7, 0, 3 / 7])


def test_of_equal_tokens_at_the_border_those_with_lower_numbers_stay():
    same = np.zeros(6)
    assert np.allclose(probabilities(same, top_k=4), [0.25, 0.25, 0.25, 0.25, 0, 0])
    assert np.allclose(probabilities(same, top_p=0.49), [1 / 3, 1 / 3, 1 / 3, 0, 0, 0])
    assert np.allclose(probabilities(same, min_p=1.0), 1 / 6)  # none is less likely than another
    assert draw(same, None, greedy=True) == 0


def test_the_penalty_makes_tokens_that_were_there_less_likely_once_each():
    logits = np.array([2.0, -2.0, 1.0, -1.0])
    assert penalised(logits, [0, 1, 1, 0], 2.0).tolist() == [1.0, -4.0, 1.0, -1.0]
    assert penalised(logits, [], 2.0).tolist() == logits.tolist()
    assert draw(logits, None, greedy=True, seen=[0], penalty=2.5) == 2
    assert logits.tolist() == [2.0, -2.0, 1.0, -1.0]


# Above such a sum of squares, one in a hundred fair samples lies; by degrees of freedom.
CHI_SQUARE = {1: 6.635, 2: 9.210, 3: 11.345, 4: 13.277, 5: 15.086, 9: 21.666, 11: 24.725}
TWELVE = np.random.default_rng(12).normal(0, 1.5, 12)
WAYS = [{}, {"temperature": 0.5}, {"temperature": 3.0}, {"top_k": 5}, {"top_p": 0.8},
        {"min_p": 0.2}, {"top_k": 6, "top_p": 0.95, "min_p": 0.01, "temperature": 0.9}]


def distance(p, counts):
    """(Σ (count − expected)² / expected, degrees of freedom) over the tokens that can be drawn."""
    assert (counts[p == 0] == 0).all()
    expected = counts.sum() * p[p > 0]
    return ((counts[p > 0] - expected) ** 2 / expected).sum(), (p > 0).sum() - 1


def exact(logits, temperature=1.0, top_k=99, top_p=1.0, min_p=0.0):
    """The same distribution by the words of the definitions, token by token."""
    p = [np.exp(z / temperature) for z in logits]
    p = [x / sum(p) for x in p]
    order = sorted(range(len(p)), key=lambda i: (-p[i], i))
    kept = [i for place, i in enumerate(order) if place < top_k and p[i] >= min_p * max(p)
            and sum(p[j] for j in order[:place]) < top_p]
    return np.array([p[i] / sum(p[j] for j in kept) if i in kept else 0.0 for i in range(len(p))])


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_hundred_thousand_draws_have_the_frequencies_of_the_exact_distribution(way):
    p = exact(TWELVE, **way)
    drawn = pick(probabilities(TWELVE, **way), np.random.default_rng(2).random(100_000))
    chi_square, free = distance(p, np.bincount(drawn, minlength=12))
    assert chi_square < CHI_SQUARE[free]


def test_the_same_numbers_pick_the_same_tokens_one_by_one():
    one, all_ = np.random.default_rng(3), np.random.default_rng(3)
    alone = [draw(TWELVE, one, top_p=0.9) for _ in range(200)]
    assert alone == pick(probabilities(TWELVE, top_p=0.9), all_.random(200)).tolist()


def test_draws_from_a_distribution_that_is_a_little_off_are_noticed():
    drawn = pick(exact(TWELVE, temperature=0.97), np.random.default_rng(2).random(100_000))
    chi_square, free = distance(exact(TWELVE), np.bincount(drawn, minlength=12))
    assert chi_square > CHI_SQUARE[free]
