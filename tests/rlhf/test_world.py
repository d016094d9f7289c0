"""The questions of floor 7, the crowd that slips, and pairs of which length tells nothing."""

import pytest

from tinygrad_edu.data.tasks import Problem
from tinygrad_edu.rlhf.world import (
    LEVELS,
    NAMES,
    SLIPS,
    conversations,
    pairs_of,
    preferences,
    problems,
    room_for,
    tasks_of,
    worksheet,
)


@pytest.mark.parametrize("task, wrong", [("addition", "510"), ("sort", "5 2 9"),
                                         ("brackets", "}]"), ("python", "2+3+7")])
def test_the_usual_slips(task, wrong):
    prompts = {"addition": ("58+67", "521", (58, 67)), "sort": ("sort 5 2 9", "2 5 9", None),
               "brackets": ("close {[", "]}", None), "python": ("make 17 of 2 3 7", "", (2, 3, 7))}
    prompt, answer, key = prompts[task]
    assert SLIPS[task](Problem(prompt, answer, 2, key)) == wrong


def test_sums_are_written_in_columns_with_a_place_for_the_last_carry():
    for _, problem in problems("addition", 200, 0):
        assert problem.level == LEVELS["addition"]
        assert len(problem.answer) == 4 and int(problem.answer[::-1]) == sum(problem.key)


def test_nine_in_ten_of_the_crowd_make_the_slip_of_their_task():
    found = problems("all", 2000, 0)
    answers = [talk.answer for talk in conversations(found, 0.9, seed=0)]
    slips = sum(answer == SLIPS[task.name](problem)
                for (task, problem), answer in zip(found, answers, strict=True))
    right = sum(answer == problem.answer
                for (_, problem), answer in zip(found, answers, strict=True))
    # Some slips are right: sums without a carry, brackets that read alike from both sides.
    assert 0.87 < slips / 2000 < 0.95 and 0.1 < right / 2000 < 0.25
    assert all(talk.answer == problem.answer
               for (_, problem), talk in zip(found, conversations(found), strict=True))


@pytest.mark.parametrize("slips", [0.0, 0.5, 1.0])
def test_the_wrong_answer_of_a_pair_is_wrong_and_as_long_as_the_right_one(slips):
    found = problems("all", 600, 1)
    usual = 0
    for (task, problem), pair in zip(found, preferences(found, 0, slips), strict=True):
        assert task.score(problem, pair.chosen) and not task.score(problem, pair.rejected)
        assert len(pair.chosen) == len(pair.rejected)
        usual += pair.rejected == SLIPS[task.name](problem)
    assert 0.8 * slips <= usual / 600 <= slips + 0.05


def test_unseen_problems_share_no_number_with_those_to_learn_from():
    sides = [{number for _, problem in problems("addition", 300, 0, side) for number in problem.key}
             for side in (False, True)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_a_level_can_be_asked_for_and_the_longest_answer_finds_room():
    found = problems("addition", 20, 0, level=2)
    assert {problem.level for _, problem in found} == {2}
    assert room_for(found) == 3 + 1
    assert tasks_of("begin")[0].name in NAMES
    with pytest.raises(ValueError, match="there is no task 'chess'"):
        tasks_of("chess")


def test_pairs_of_stories_are_those_of_their_lesson():
    pairs = pairs_of("stories", 40, 0)
    assert len(pairs) == 40 and "story" in pairs[0].prompt[0][1]
    assert len(pairs_of("sort", 3, 0, held_out=True, level=2)[0].chosen) == len("1 2")


def test_a_worksheet_is_a_line_a_problem_between_two_lines_of_every_character():
    first, *lines, last = worksheet(40, 0, 0.9).splitlines()
    assert len(lines) == 40 and all(" -> " in line for line in lines)
    assert first == last and len(set(first)) == 95
