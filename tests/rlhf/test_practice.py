"""Asking, judging and the loop of practice, with a model that cannot learn anything."""

from types import SimpleNamespace

import numpy as np
import pytest
from tqdm import tqdm

from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.rlhf.practice import Exercise, answers_gauges, learnt, one_step
from tinygrad_edu.tokenizers.characters import train_characters

TOKENIZER = train_characters(["\n0123456789+"])


@pytest.fixture(scope="module")
def exercise():
    return Exercise(TOKENIZER, "addition", 2, seed=3)


@pytest.fixture(scope="module")
def model():
    return GPT(GPTConfig(TOKENIZER.vocab_size, 24, 1, 2, 8), np.random.default_rng(0))


def rollout_of(exercise, texts, end=True):
    """What stands for a Rollout: answers that were written beforehand."""
    ends = list(exercise.turns.stop) if end else []
    answers = [[*TOKENIZER.encode(text), *ends] for text in texts]
    return SimpleNamespace(answers=lambda: answers)


def test_a_right_answer_counts_and_one_that_was_cut_off_does_not(exercise):
    found = exercise.problems(3, "some")
    right = [problem.answer for _, problem in found]
    assert exercise.exact(rollout_of(exercise, right), found).tolist() == [1, 1, 1]
    wrong = [right[0], right[1][:-1], right[2] + "0"]
    assert exercise.exact(rollout_of(exercise, wrong), found).tolist() == [1, 0, 0]
    # Its last token is missing, and would have been the end of a right answer.
    cut = [text + "0" for text in right]
    assert exercise.exact(rollout_of(exercise, cut, end=False), found).tolist() == [0, 0, 0]


def test_a_step_is_a_function_of_seed_and_key(exercise, model):
    first, found = exercise.answers(model, 4, "step 7", group=2)
    again, same = exercise.answers(model, 4, "step 7", group=2)
    other, _ = exercise.answers(model, 4, "step 8", group=2)
    assert found == same
    assert np.array_equal(first.ids, again.ids)
    assert not np.array_equal(first.ids[:, :6], other.ids[:, :6])
    assert len(found) == 8
    assert found[0] == found[1] != found[2]        # group by group


def test_examinations_hold_numbers_that_no_step_asks(exercise):
    asked = {number for _, problem in exercise.problems(300, "step 1") for number in problem.key}
    held = {number for _, problem in exercise.problems(50, "exam", held_out=True)
            for number in problem.key}
    assert held and not asked & held


def test_the_gauges_of_a_rollout(exercise, model):
    written, _ = exercise.answers(model, 4, "step 1")
    seen = answers_gauges(written, written.logprobs - 0.5 * written.mask[:, 1:])
    lengths = written.mask.sum(axis=1)
    assert seen["length"] == lengths.mean()
    assert seen["kl"] == pytest.approx(0.5 * lengths.mean())
    assert answers_gauges(written, None)["kl"] is None


def test_a_run_without_a_task_is_refused():
    def runs(**settings):
        return SimpleNamespace(read_run=lambda folder: ({}, {"settings": settings}))

    assert learnt("a", runs(task="sort", level=4, slips=0.5)) == ("sort", 4, 0.5)
    for settings in ({}, {"task": "sort", "data": "mine.jsonl"}):
        with pytest.raises(ValueError, match="has not learnt one of the small tasks"):
            learnt("a", runs(**settings))


def test_a_step_that_diverges_ends_in_one_sentence(capsys):
    def once(step, rate):
        raise FloatingPointError("the loss is nan")

    with pytest.raises(SystemExit):
        one_step(once, 3, 0.1, tqdm(disable=True))
    assert "the checkpoint before it is kept" in capsys.readouterr().err
