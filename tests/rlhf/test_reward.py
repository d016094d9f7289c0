import math

import numpy as np
import pytest

from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.rlhf.reward import (
    RewardModel,
    accuracy,
    bradley_terry,
    calibration,
    ends,
    length_only,
    log_sigmoid,
    pairs_of_step,
    reward_pairs,
    reward_rows,
)
from tinygrad_edu.tensor import Tensor


def row(prompt, answer):
    return np.array(prompt + answer), np.array([0] * len(prompt) + [1] * len(answer))


PAIRS = [(row([1, a], [a, 2]), row([1, a], [b, 2])) for a in range(3, 9) for b in range(3, 9)
         if a != b]


def small_reward_model(dtype=np.float64):
    config = GPTConfig(vocabulary=11, context=8, layers=2, heads=2, width=16)
    return RewardModel(GPT(config, np.random.default_rng(0), dtype=dtype))


def test_the_loss_is_that_of_bradley_and_terry_with_a_margin():
    chosen, rejected, m = np.array([1.0, -2.0]), np.array([0.5, 3.0]), np.array([0.0, 0.25])
    got = bradley_terry(Tensor(chosen), Tensor(rejected), m).numpy()
    assert np.allclose(got, -np.log(1 / (1 + np.exp(-(chosen - rejected - m)))), atol=1e-12)
    assert gradcheck(lambda c, r: bradley_terry(c, r, m), chosen, rejected) <= 1e-6


def test_the_logarithm_of_a_sigmoid_overflows_nowhere():
    got = log_sigmoid(Tensor(np.array([-1e4, 0.0, 1e4]))).numpy()
    assert got.tolist() == [-1e4, pytest.approx(-math.log(2)), 0.0]


def test_before_training_all_answers_are_equally_good():
    assert not reward_rows(small_reward_model(), [pair[0] for pair in PAIRS]).any()


def test_the_reward_is_read_at_the_end_of_the_answer_and_not_in_its_padding():
    model = small_reward_model()
    model.head.weight.data[...] = np.random.default_rng(1).standard_normal((1, 16))
    alone = reward_rows(model, [row([1, 4], [4, 2])])
    padded = reward_rows(model, [row([1, 4], [4, 2]), row([1, 4, 4, 4], [4, 5, 2])])
    assert alone[0] == pytest.approx(padded[0], abs=1e-12)
    assert ends(np.array([[0, 1, 1, 0], [0, 0, 0, 1]])).tolist() == [3, 4]


def test_the_gradient_of_the_whole_model_is_that_of_finite_differences():
    model, h = small_reward_model(), 1e-5
    model.head.weight.data[...] = np.random.default_rng(1).standard_normal((1, 16))
    batch = pairs_of_step(PAIRS, np.zeros(len(PAIRS)), 4, seed=0, step=0)
    model.loss(*batch).backward()
    weight, found = model.trunk.h[0].attn.c_attn.weight, []
    for step in (h, -h):
        weight.data[5, 3] += step
        found.append(model.loss(*batch).item())
        weight.data[5, 3] -= step
    assert weight.grad[5, 3] == pytest.approx((found[0] - found[1]) / (2 * h), rel=1e-6, abs=1e-9)


def test_it_learns_which_answer_repeats_the_question():
    model, margins = small_reward_model(np.float32), np.zeros(len(PAIRS))
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    for step in range(250):
        model.loss(*pairs_of_step(PAIRS, margins, 15, seed=0, step=step)).backward()
        optimizer.step(3e-3, clip=1.0)
    share, low, high = accuracy(reward_pairs(model, PAIRS))
    assert share > 0.95 and low > 0.8 and high <= 1
    assert accuracy(length_only(PAIRS))[0] == 0.5           # nothing to be had from the length


def test_the_interval_is_wilsons():
    # Wilson 1927 for 8 of 10, as every table has it.
    share, low, high = accuracy([1] * 8 + [-1] * 2)
    assert (share, round(low, 3), round(high, 3)) == (0.8, 0.49, 0.943)


def test_a_model_as_right_as_it_is_sure_is_calibrated():
    random = np.random.default_rng(0)
    true = random.normal(0, 2, 20000)
    liked = random.random(20000) < 1 / (1 + np.exp(-true))
    for predicted, right, count in calibration(np.where(liked, true, -true)):
        assert abs(predicted - right) < 4 * math.sqrt(0.25 / count)


def test_a_reward_that_is_no_number_is_named():
    model = small_reward_model()
    model.head.weight.data[...] = np.nan
    with pytest.raises(ValueError, match="the reward of answer 1 is nan"):
        reward_rows(model, [row([1, 4], [4, 2])])
