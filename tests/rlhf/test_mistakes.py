"""Each mistake lights its gauge, in a model that is smaller still than that of the script."""

import numpy as np
import pytest

from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.rlhf import gauges
from tinygrad_edu.rlhf.mistakes import (
    BEGIN,
    END,
    LONGEST,
    MISTAKES,
    VOCABULARY,
    MistakeSettings,
    beginner,
    judged_answers,
    ruined,
    strings_at_random,
)

SMALL = dict(batch=48, minibatch=48, epochs=2, lr=8e-3, imitate=120)
STEPS = {"healthy": 20, "leash": 20, "loophole": 14, "stale": 8, "mask": 6, "unwhitened": 6}


def model_of(weights=None):
    model = GPT(GPTConfig(VOCABULARY, LONGEST + 1, 1, 2, 16), np.random.default_rng(0))
    if weights is not None:
        model.load_state(weights)
    return model


@pytest.fixture(scope="module")
def runs():
    """Rows of a short run of each mistake: name -> rows."""
    start = beginner(model_of(), MistakeSettings(**SMALL))
    return {name: ruined(MistakeSettings(**SMALL, steps=STEPS[name]), start, name, model_of)
            for name in MISTAKES}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_lights_its_gauge_and_the_healthy_run_lights_none(runs, mistake):
    lit = gauges.lit(runs[mistake])
    causes = {each.gauge for each in MISTAKES.values()} - {None}
    if mistake == "healthy":
        assert not causes & set(lit)
    else:
        assert MISTAKES[mistake].gauge in lit


def test_the_first_ratio_tells_a_stale_policy_from_a_wrong_mask(runs):
    """Both light it; but a step in which nothing is old yet is all right only for the first."""
    assert abs(runs["stale"][0]["first_ratio"] - 1) < 1e-3
    assert runs["mask"][0]["first_ratio"] > 1.1


def test_without_the_leash_the_reward_rises_and_the_exact_score_does_not_follow(runs):
    gap = {name: np.mean([row["reward"] - row["score"] for row in runs[name][-5:]])
           for name in ("healthy", "leash")}
    assert gap["leash"] > 0.15 + gap["healthy"]


def test_the_judge_is_right_about_all_that_the_beginner_writes():
    ids, targets = strings_at_random(50, np.random.default_rng(0))
    assert (ids[:, 0] == BEGIN).all()
    answers = [[token for token in row if token >= 0] for row in targets]
    assert all(len(answer) >= 6 and END not in answer[:-1] for answer in answers)
    rewards, scores = judged_answers(answers, "healthy")
    assert np.array_equal(rewards, scores)
    rewards, scores = judged_answers([[7, 7, 7, 7, 7, 7, END], [1, 3, 4, END]], "healthy")
    assert rewards.tolist() == [1.0, 0.4]
    assert scores.tolist() == [0.0, 0.4]
    assert judged_answers([[1, 3, 4, END]], "loophole")[0] == pytest.approx([0.4 + 1.2])
    assert judged_answers([[1, 3, 4, END]], "unwhitened")[0] == pytest.approx([40.0])
