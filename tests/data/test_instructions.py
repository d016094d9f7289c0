import random as python_random

import pytest

from tinygrad_edu.data.instructions import BREAK, INSTRUCTIONS, KINDS
from tinygrad_edu.data.stories import draw, grammar, reading

BEGIN, TELL, ASK = INSTRUCTIONS.values()


def drawn(task, level=None, held_out=False, count=40, seed=0):
    random = python_random.Random(seed)
    return [task.draw(random, level, held_out) for _ in range(count)]


@pytest.mark.parametrize("task", [BEGIN, TELL, ASK], ids=lambda task: task.name)
def test_answers_fulfil_their_requests_and_nothing_shorter_or_longer_does(task):
    for problem in drawn(task, count=12):
        assert task.score(problem, problem.answer) == 1.0
        assert task.score(problem, f"\n{problem.answer} ") == 1.0
        for text in ("", problem.answer[:-1], problem.answer + " So.", problem.prompt):
            assert task.score(problem, text) == 0.0


def test_any_story_with_what_was_wished_is_right_and_a_level_wishes_more():
    random, found = python_random.Random(1), set()
    problems = {level: drawn(TELL, level, count=1)[0] for level in TELL.levels}
    for _ in range(60):
        plot, values, text = draw(random)
        for level, problem in problems.items():
            number = values.get("a") or values.get("c")
            told = [values["hero"], values["thing"], number, values["item"]]
            # Make the story one about what is wished, as far as the level goes.
            wished = [*problem.key[1:]][:(1, 2, 4)[level - 1]]
            right = told[:len(wished)] == wished
            assert TELL.score(problem, text) == right
            found.add(right)
    problem = problems[1]
    plot = next(p for p in grammar().plots if p.title != problem.key[0])
    text = grammar().write(plot.sequence, random, {"hero": problem.key[1]})
    assert TELL.score(problem, text) == 1.0                     # another plot, thing and number
    assert TELL.score(problems[3], text) == 0.0


@pytest.mark.parametrize("level, word", [(1, 0), (2, 1), (3, 2), (3, 3)])
def test_one_wrong_word_of_the_wish_is_noticed(level, word):
    problem = drawn(BEGIN, level, count=1)[0]
    old = problem.key[1 + word]
    kind = ("hero", "thing", "a" if old in grammar().words["a"] else "c", "item")[word]
    other = next(w for w in grammar().words[kind] if w != old and w not in problem.answer)
    assert BEGIN.score(problem, problem.answer.replace(old, other)) == 0.0


def test_a_list_of_the_wished_words_is_no_story():
    for task in (BEGIN, TELL):
        problem = drawn(task, 3, count=1)[0]
        assert task.score(problem, " ".join(problem.key)) == 0.0


def test_a_beginning_is_a_first_paragraph_and_a_tale_has_three():
    for begun, told in zip(drawn(BEGIN), drawn(TELL), strict=True):
        assert BREAK not in begun.answer and told.answer.count(BREAK) == 2


def test_questions_are_answered_by_the_part_that_is_left_out():
    for level, kind in enumerate(("hero", "holder", "total"), start=1):
        for problem in drawn(ASK, level):
            told, _, question = problem.prompt.rpartition("\n")
            assert told.count(BREAK) == 1
            # Some last paragraph makes it a story, and that one says what the answer is.
            plot = next(p for p in grammar().plots if p.title == problem.key[0])
            ends = [values for _, values, _ in grammar().parse(
                plot.sequence[:len(plot.sequence) - 1 - plot.sequence[::-1].index(BREAK)],
                told, 0, {})]
            values = ends[0]
            total = next(p for p in plot.sequence if hasattr(p, "sign")).value(values)
            assert problem.answer == {**values, "total": total}[kind]
            assert question == ASK.questions[level - 1].format(**values)


@pytest.mark.parametrize("task", [BEGIN, TELL, ASK], ids=lambda task: task.name)
def test_sides_share_no_plot_no_hero_and_no_thing(task):
    sides = [drawn(task, held_out=side, count=300) for side in (False, True)]
    for place, kind in enumerate(KINDS):
        train, held_out = ({p.key[place] for p in side} for side in sides)
        assert len(held_out) >= 3 and len(train) >= 30, kind
        assert not train & held_out
    assert all(task.is_held_out(p.key) is False for p in sides[0])
    assert all(task.is_held_out(p.key) is True for p in sides[1])


def test_the_three_tasks_hold_out_the_same():
    key = drawn(BEGIN, held_out=True, count=1)[0].key
    assert [task.is_held_out(key) for task in (BEGIN, TELL, ASK)] == [True] * 3


def test_requests_need_no_character_that_stories_lack():
    stories = {*"".join(draw(python_random.Random(k))[2] for k in range(300))} | {"\n"}
    asked = {*"".join(p.prompt + p.answer for task in INSTRUCTIONS.values() for p in drawn(task))}
    assert not asked - stories


def test_told_stories_are_stories_and_the_same_for_the_same_seed():
    for problem in drawn(TELL, count=5):
        plot, values, _ = reading(problem.answer)
        assert (plot.title, values["hero"]) == problem.key[:2]
    assert drawn(TELL, count=5) == drawn(TELL, count=5)


def test_a_level_that_is_none_is_told():
    with pytest.raises(ValueError, match="levels of begin are 1 to 3: there is no 4"):
        drawn(BEGIN, 4, count=1)
