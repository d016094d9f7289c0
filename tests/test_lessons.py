"""What a program reads in a lesson: slots, sentences, and the order to read lessons in."""

import pytest

from tinygrad_edu.lessons import (
    Lesson,
    Slot,
    lesson_named,
    read_lessons,
    read_slots,
    reading_order,
)


def lesson(name, number, *needs):
    return Lesson((1, number), name, f"tinygrad_edu/{name}.py", needs, ())


def order(goals, lessons, last=()):
    return [[lesson.name for lesson in part] for part in reading_order(goals, lessons, last)]


CHAIN = [lesson("memory", 0), lesson("kernel", 1, "memory"), lesson("scalar", 2),
         lesson("tensor", 3, "memory", "scalar"), lesson("op", 4, "kernel", "tensor"),
         lesson("alone", 5)]


def test_a_lesson_comes_after_what_it_needs_and_the_goals_in_their_order():
    assert order(["op"], CHAIN) == [["memory", "kernel", "scalar", "tensor", "op"], []]
    assert order(["alone", "scalar", "op"], CHAIN)[0][:2] == ["alone", "scalar"]


def test_plumbing_and_what_it_alone_needs_comes_last_in_an_order_of_its_own():
    assert order(["op"], CHAIN, last=["kernel", "memory"]) == [["scalar", "tensor", "op"],
                                                               ["memory", "kernel"]]
    assert order(["scalar"], CHAIN, last=["memory"]) == [["scalar"], []]


def test_a_goal_is_never_postponed():
    assert order(["kernel", "op"], CHAIN, last=["kernel", "memory"]) == [
        ["kernel", "scalar", "tensor", "op"], ["memory"]]


@pytest.mark.parametrize("name", ["tape", "or"])
def test_a_goal_that_is_no_lesson_is_told_in_one_sentence(name):
    with pytest.raises(ValueError, match=f"'{name}' is no lesson"):
        reading_order([name], CHAIN)


def test_a_name_of_two_lessons_is_refused():
    with pytest.raises(ValueError, match="could be tinygrad_edu/a.py or models/a.py"):
        lesson_named("a", [lesson("a", 0), Lesson((4, 0), "a", "models/a.py", (), ())])


def test_slots_are_read_with_their_lines():
    slots = read_slots("Lesson\n\nIdea      One.\n          Two.\nMath      x = 1\n")
    assert slots == {"Idea": Slot(3, ("One.", "Two.")), "Math": Slot(5, ("x = 1",))}


def test_a_sentence_ends_before_a_capital_and_has_the_line_it_begins_on():
    slot = Slot(7, ("It is 0.5 e.g. here. Then", "more follows! (Yes.) And", "an end"))
    assert list(slot.sentences()) == [(7, "It is 0.5 e.g. here."), (7, "Then more follows!"),
                                      (8, "(Yes.) And an end")]


def test_every_lesson_has_an_idea_that_can_be_quoted():
    assert [x.path for x in read_lessons() if not 15 < len(x.idea()) < 400] == []
