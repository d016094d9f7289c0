import numpy as np
import pytest

from tinygrad_edu.rlhf.gae import advantages_and_returns, explained_variance, whitened


def test_a_return_can_be_worked_out_by_hand():
    rewards, values = np.array([[0.0, 0.0, 1.0]]), np.array([[0.5, 0.25, 0.125]])
    ends = np.array([[False, False, True]])
    advantages, returns = advantages_and_returns(rewards, values, [9.0], ends, 0.5, 1.0)
    assert np.allclose(returns, [[0.25, 0.5, 1.0]])  # discounted, and nothing behind the end
    assert np.allclose(advantages, returns - values)


def test_without_fading_back_an_advantage_is_one_surprise():
    random = np.random.default_rng(0)
    rewards, values = random.standard_normal((2, 3, 5))
    last, ends = random.standard_normal(3), np.zeros((3, 5), bool)
    advantages, _ = advantages_and_returns(rewards, values, last, ends, 0.9, 0.0)
    behind = np.concatenate([values[:, 1:], last[:, None]], axis=1)
    assert np.allclose(advantages, rewards + 0.9 * behind - values)


def test_an_episode_inherits_nothing_from_the_one_behind_it():
    random = np.random.default_rng(1)
    rewards, values = random.standard_normal((2, 1, 6))
    ends = np.array([[False, False, True, False, False, False]])
    whole, _ = advantages_and_returns(rewards, values, [1.0], ends, 0.9, 0.8)
    first, _ = advantages_and_returns(rewards[:, :3], values[:, :3], [0.0], ends[:, :3], 0.9, 0.8)
    assert np.allclose(whole[:, :3], first)


def test_padding_changes_nothing_in_front_of_it():
    random = np.random.default_rng(2)
    rewards, values = random.standard_normal((2, 2, 5))
    mask = np.array([[0, 1, 1, 1, 0], [0, 1, 1, 0, 0]])
    ends = np.array([[0, 0, 0, 1, 0], [0, 0, 1, 0, 0]], bool)
    advantages, returns = advantages_and_returns(rewards, values, np.zeros(2), ends, 1, 0.9, mask)
    short, _ = advantages_and_returns(rewards[1:, 1:3], values[1:, 1:3], [0.0], ends[1:, 1:3], 1,
                                      0.9)
    assert np.allclose(advantages[1, 1:3], short[0])
    assert not advantages[mask == 0].any()
    assert not returns[mask == 0].any()


def test_whitened_advantages_have_mean_0_and_deviation_1_over_the_mask():
    advantages = np.random.default_rng(3).standard_normal((4, 6)) * 7 + 3
    mask = np.arange(6) < np.array([[6], [2], [4], [1]])
    white = whitened(advantages, mask)
    assert abs(white[mask].mean()) < 1e-12
    assert abs(white[mask].std() - 1) < 1e-6
    assert not white[~mask].any()


def test_explained_variance_is_1_for_the_truth_0_for_the_mean_and_negative_for_worse():
    returns = np.array([1.0, 2.0, 5.0])
    assert explained_variance(returns, returns) == 1
    assert abs(explained_variance(np.full(3, 8.0), returns)) < 1e-12
    assert explained_variance(-returns, returns) < 0


def test_a_reward_that_is_no_number_is_refused_with_its_row():
    rewards = np.array([[0.0, 1.0], [np.nan, 0.0]])
    with pytest.raises(ValueError, match="reward of row 1 is nan"):
        advantages_and_returns(rewards, rewards, [0, 0], rewards > 9, 1.0, 1.0)
