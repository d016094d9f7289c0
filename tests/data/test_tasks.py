import itertools
import random as python_random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_edu.data.tasks import BRACKETS, TASKS, Addition, Problem, evaluate

EVERY = [(name, level) for name, task in TASKS.items()
         for level in range(task.levels[0], task.hardest + 1)]


def drawn(name, level=None, held_out=False, count=100, seed=0):
    random = python_random.Random(seed)
    return [TASKS[name].draw(random, level, held_out) for _ in range(count)]


@pytest.mark.parametrize("name, level", EVERY)
def test_every_level_has_both_sides_and_its_answers_are_right(name, level):
    for held_out in (False, True):
        for problem in drawn(name, level, held_out, 5):
            assert problem.level == level
            assert TASKS[name].score(problem, problem.answer) == 1.0
            assert TASKS[name].score(problem, f" {problem.answer}\n") == 1.0
            assert TASKS[name].is_held_out(problem.key) == held_out


@pytest.mark.parametrize("name", TASKS)
def test_nothing_is_right_but_the_whole_answer(name):
    for problem in drawn(name, count=30):
        for text in ("", problem.answer[:-1], problem.answer + " 0", problem.prompt,
                     problem.answer + "\n" + problem.answer, "nan", "é" * 300):
            assert TASKS[name].score(problem, text) == 0.0


def test_a_number_of_a_held_out_sum_is_in_no_sum_to_train_on():
    held_out = drawn("addition", 3, True, 50) + drawn("addition", 2, True, 50)
    train = drawn("addition", 3, count=3000) + drawn("addition", 2, count=1000)
    met, asked = ({number for p in some for number in p.key} for some in (train, held_out))
    assert len(asked) > 60 and len(met) > 800
    assert not met & asked


def test_one_digit_sums_are_split_by_pairs_so_that_every_digit_is_met():
    digits = {digit for p in drawn("addition", 1, count=500) for digit in p.key}
    assert digits == set(range(10))
    pairs = [{p.key for p in drawn("addition", 1, side, 200)} for side in (False, True)]
    assert not pairs[0] & pairs[1]


@pytest.mark.parametrize("name", ["sort", "brackets", "python"])
def test_a_held_out_question_is_no_question_to_train_on_in_any_order(name):
    keys = [{p.key for level in TASKS[name].levels for p in drawn(name, level, side, 150)}
            for side in (False, True)]
    assert keys[0] and keys[1] and not keys[0] & keys[1]


def test_swapped_numbers_are_the_same_question():
    task = TASKS["addition"]
    assert {p.key for p in drawn("addition", 2)} == {tuple(sorted(p.key))
                                                     for p in drawn("addition", 2)}
    # One number held out and the other not: never asked.
    sides = {task.is_held_out((a, b)) for a in range(10, 99) for b in range(a, 99)}
    assert sides == {True, False, None}


def test_the_level_of_a_sum_is_the_number_of_its_digits():
    for level in (1, 2, 5):
        for problem in drawn("addition", level, count=20):
            a, b = problem.prompt.split("+")
            assert len(a) == len(b) == level and int(a) + int(b) == int(problem.answer)


def test_a_backward_sum_has_its_last_digit_first():
    task = Addition(backwards=True)
    problem = task.draw(python_random.Random(0), 3)
    assert int(problem.answer[::-1]) == sum(problem.key)
    assert task.score(problem, problem.answer) == 1.0


def closed(text):
    """Whether every bracket of a text is closed by its own kind, by cancelling neighbours."""
    before = None
    while before != text:
        before = text
        for opening, closing in BRACKETS.items():
            text = text.replace(opening + closing, "")
    return not text


@pytest.mark.parametrize("level", [1, 2, 4, 9])
def test_brackets_and_their_answer_cancel_and_no_shorter_answer_would(level):
    for problem in drawn("brackets", level, count=20):
        text = problem.prompt.removeprefix("close ")
        assert closed(text + problem.answer)
        assert len(problem.answer) == level and len(text) == 3 * level + 2


def test_closing_a_wrong_kind_is_noticed():
    problem = Problem("close ([", "])", 2, "([")
    assert TASKS["brackets"].score(problem, ")]") == 0.0


def test_any_expression_with_the_value_and_the_numbers_is_right():
    task, problem = TASKS["python"], Problem("make 17 of 2 3 7", "2*7+3", 3, (2, 3, 7))
    for text in ("3+2*7", "3 + (7 * 2)", "(3)+(2)*(7)", "7+7+3", "2*7", "17", "2*7+3+0", "2*7+3)",
                 "23-7+1", "2*7+3#", "07*2+3", "2*7+\n3"):
        right = text in ("3+2*7", "3 + (7 * 2)", "(3)+(2)*(7)")
        assert task.score(problem, text) == right, text


@pytest.mark.parametrize("text", ["9**9**9", "__import__('os')", "2/1", "1 if 1 else 2", "[1]", "",
                                  "1;2", "-1", "(" * 90, "1+" * 49, "x", "2(3)", "1_0", "0x1"])
def test_what_is_no_sum_of_numbers_is_refused_and_never_run(text):
    with pytest.raises(ValueError):
        evaluate(text)


@settings(max_examples=60, deadline=None)
@given(st.text("0123456789+-*() ", max_size=30))
def test_the_value_is_the_one_that_python_finds(text):
    try:
        value, used = evaluate(text)
    except ValueError:
        return
    assert value == eval(text, {"__builtins__": {}})
    assert sum(used.values()) == len([*filter(str.isdigit, "".join(
        c if c.isdigit() else " " for c in text).split())])


@settings(max_examples=50, deadline=None)
@given(st.text("0123456789 ()[]{}+-*aé\n", max_size=20), st.sampled_from([*TASKS]))
def test_a_score_is_0_or_1_whatever_a_model_writes(text, name):
    problem = drawn(name, count=1)[0]
    assert TASKS[name].score(problem, text) in (0.0, 1.0)


def test_problems_are_the_same_for_the_same_seed_and_numpy_may_draw_them():
    assert drawn("python", count=5) == drawn("python", count=5)
    assert drawn("python", count=5) != drawn("python", count=5, seed=1)
    problem = TASKS["sort"].draw(np.random.default_rng(0), 4)
    assert Counter(problem.prompt.split()[1:]) == Counter(problem.answer.split())


def test_without_a_level_every_usual_one_is_drawn():
    for name, task in TASKS.items():
        assert {p.level for p in drawn(name)} == set(task.levels)


@pytest.mark.parametrize("level", [0, 10, -1])
def test_a_level_that_is_none_is_told(level):
    with pytest.raises(ValueError, match=f"addition are 1 to 9: there is no {level}"):
        TASKS["addition"].draw(python_random.Random(0), level)


def test_about_a_tenth_of_all_numbers_is_held_out():
    task = TASKS["addition"]
    share = np.mean([task.is_held_out_entity(n) for n in range(100, 1000)])
    assert 0.07 < share < 0.13
    pairs = itertools.combinations_with_replacement(range(10), 2)
    assert 2 <= sum(task.is_held_out(pair) for pair in pairs) <= 12
