import itertools
import math

import numpy as np
import pytest

from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.rlhf.best_of_n import (
    best_of,
    curve,
    draw_each,
    expected_best,
    kl_bound,
    rewards_of,
)
from tinygrad_edu.rlhf.reward import RewardModel


def test_the_expected_best_is_the_mean_over_all_subsets():
    random = np.random.default_rng(0)
    rewards, scores = random.standard_normal((2, 3, 6))
    for k in (1, 2, 4, 6):
        for row in range(3):
            found = [scores[row, max(some, key=lambda i: rewards[row, i])]
                     for some in itertools.combinations(range(6), k)]
            assert expected_best(rewards, scores, k)[row] == pytest.approx(np.mean(found))


def test_the_best_of_one_is_a_draw_and_goes_nowhere():
    rewards = np.array([[1.0, 5.0, 3.0]])
    assert expected_best(rewards, rewards, 1)[0] == 3.0 and kl_bound(1) == 0
    assert expected_best(rewards, rewards, 3)[0] == 5.0
    with pytest.raises(ValueError, match="best of 4 cannot be estimated from 3 draws"):
        expected_best(rewards, rewards, 4)


def test_the_distance_is_that_of_a_reward_without_ties():
    # The density of the best of n of a uniform reward is n·uⁿ⁻¹; KL = ∫ n·uⁿ⁻¹·ln(n·uⁿ⁻¹) du.
    n, u = 4, (np.arange(200_000) + 0.5) / 200_000
    density = n * u ** (n - 1)
    assert kl_bound(n) == pytest.approx(np.mean(density * np.log(density)), abs=1e-4)
    assert kl_bound(n) == pytest.approx(math.log(4) - 0.75)


def test_a_judge_who_errs_is_followed_into_its_errors():
    random = np.random.default_rng(0)
    score = random.random((200, 64))
    fooled = random.random(score.shape) < 0.03      # one answer in thirty fools the judge
    rewards, scores = np.where(fooled, 2, score), np.where(fooled, 0, score)
    told = curve(rewards, scores, (1, 4, 16, 64))
    assert [row[2] for row in told] == sorted(row[2] for row in told)
    assert told[1][3] > told[0][3] and told[3][3] < told[1][3]


def test_of_several_answers_the_one_with_the_largest_reward_is_kept():
    config = GPTConfig(vocabulary=11, context=16, layers=1, heads=2, width=8)
    model = GPT(config, np.random.default_rng(0))
    judge = RewardModel(GPT(config, np.random.default_rng(1)))
    judge.head.weight.data[...] = 1
    prompts = [[1, 4], [1, 5, 6]]
    drawn = draw_each(model, prompts, 5, stop=(2,), max_new=6, temperature=1.0)
    assert [len(several) for several in drawn] == [5, 5]
    assert len({tuple(answer) for answer in drawn[0]}) > 1
    rewards = rewards_of(judge, prompts, drawn, end=2)
    chosen, best = best_of(drawn, rewards)
    place = int(np.argmax(rewards[1]))
    assert chosen[1] == drawn[1][place] and best[1] == rewards[1, place]
