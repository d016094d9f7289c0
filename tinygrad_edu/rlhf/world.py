"""Lesson 7.8 · World: what the small models of this floor are asked, and a crowd that slips

Needs conversations, instructions, preference_pairs, tasks. Used by scripts/train_sft.py,
scripts/train_reward.py, scripts/train_dpo.py, scripts/train_grpo.py.

Idea      To see what an algorithm does, one needs questions that a small model can learn within
          minutes and a program can judge. Lesson tasks has them. What is to be seen is also a gap:
          a model that is always right cannot be improved, and one whose mistakes are noise has
          nothing better to find. So the demonstrations are those of a crowd with a habit, on
          purpose: nine in ten make the slip that beginners make in this task, in sums they forget
          the carry. Who imitates the crowd learns the slip. The right way is among what it learns,
          as the rare answer, and rewards and preferences can find it there.
Math      a demonstration: with probability `slips` the usual slip, else the right answer        (1)
          a wrong answer of a pair: with probability `slips` the usual slip, where it is wrong;
          else the right answer with one or two characters exchanged for others that could stand
          there, or two of them swapped, drawn again while it is right                          (2)
Shapes    a worksheet is lines "58+67 -> 521" · found: pairs (task, problem) · asked: pairs
          (messages, score function)
Pitfalls  Nine in ten forget the carry because the lesson wants it so: what practice then brings is
          the better answer that was seen now and then, not one that nobody has ever shown.
          If right answers were longer than slips, length would tell them apart. So all slips have
          the length of the right answer; sums are written in columns, units first, with a place
          for the last carry. Whoever forgets carries writes a 0 there.
          A wrong answer that is easily told (letters in a sum) teaches to look for letters. So
          what is exchanged comes from the characters of the right answers of the same task.
          Held-out problems share no number with those trained on: lesson tasks decides, not chance.
Cost      Microseconds a problem; a held-out one of three digits about a hundred draws.
Try       build it    a crowd of two habits: some forget the carry, some carry always.
          break it    let the slip of a sum leave the last place away. What does `length_only` of
                      train_reward.py say?
          measure it  python scripts/train_sft.py --slips 0, beside the default: what is left to do?
See       the lessons tasks and conversations · Lee et al. 2023 (sums, last digit first)
"""

import random as python_random
import string

from tinygrad_edu.data.conversations import Conversation, Preference
from tinygrad_edu.data.instructions import INSTRUCTIONS
from tinygrad_edu.data.preference_pairs import draw_preferences
from tinygrad_edu.data.tasks import TASKS as SHORT
from tinygrad_edu.data.tasks import Addition

TASKS = SHORT | {"addition": Addition(backwards=True)} | INSTRUCTIONS
NAMES = "all", *TASKS                              # what tasks_of knows; all are the short ones
JUDGED = "all", *SHORT, "stories"                  # of what there are pairs of answers
LEVELS = {"addition": 3, "sort": 6, "brackets": 4, "python": 3}  # hard for so small a model
LETTERS = {"addition": string.digits, "sort": string.digits, "brackets": ")]}",
           "python": string.digits + "+-*"}


def tasks_of(name):
    """The tasks that a name of NAMES or JUDGED stands for. ValueError for another."""
    if name == "all":
        return [TASKS[short] for short in SHORT]
    if name == "stories":                          # their beginnings are what its pairs compare
        return [TASKS["begin"]]
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}; there are all, {', '.join(TASKS)}")
    return [TASKS[name]]


def problems(name, count, seed, held_out=False, level=None):
    """(task, problem) pairs, the tasks in turn, of a level or of each task's in LEVELS."""
    random = python_random.Random(f"{seed} {held_out}")
    tasks = tasks_of(name)
    return [(task, task.draw(random, level or LEVELS.get(task.name), held_out))
            for task in (tasks[k % len(tasks)] for k in range(count))]


def messages_of(problem):
    """A problem as the words of a user."""
    return (("user", problem.prompt),)


def asked(found):
    """(messages, score function) of (task, problem) pairs, as lesson sft's score_answers wants."""
    def score(task, problem):
        return lambda text: task.score(problem, text)
    return [(messages_of(problem), score(task, problem)) for task, problem in found]


def room_for(found):
    """Characters of the longest right answer, and its end: what an answer may take."""
    return max(len(problem.answer) for _, problem in found) + 1


# ---- the usual slips ----------------------------------------------------------------------------


def without_carries(problem):
    """Every place of a sum by itself, units first: 58+67 -> 510, and not 521."""
    a, b = (text[::-1] for text in problem.prompt.split("+"))
    return "".join(str((int(x) + int(y)) % 10) for x, y in zip(a, b, strict=True)) + "0"


def as_given(problem):
    """Digits that are to be sorted, in the order in which they came."""
    return problem.prompt.removeprefix("sort ")


def first_opened_first(problem):
    """Brackets closed in the order in which they were opened."""
    return problem.answer[::-1]


def only_sums(problem):
    """Numbers of which a value is to be made, added up whatever it is."""
    return "+".join(map(str, problem.key))


SLIPS = {"addition": without_carries, "sort": as_given, "brackets": first_opened_first,
         "python": only_sums}


# ---- what the stages read -----------------------------------------------------------------------


def demonstrations(found, slips, seed):
    """(problem, the answer that somebody of the crowd gives): (1)."""
    random = python_random.Random(f"{seed} crowd")
    for task, problem in found:
        slip = SLIPS.get(task.name) if random.random() < slips else None
        yield problem, slip(problem) if slip else problem.answer


def conversations(found, slips=0.0, seed=0):
    """Conversations of (task, problem) pairs, answered by the crowd."""
    return [Conversation((*messages_of(problem), ("assistant", answer)))
            for problem, answer in demonstrations(found, slips, seed)]


def worksheet(count, seed, slips=0.0):
    """The text that a base model reads: problems of all short tasks, answered by the crowd.

    Its last line has every printable character, so that a tokenizer made of it knows them all.
    """
    found = problems("all", count, seed)
    python_random.Random(f"{seed} worksheet").shuffle(found)
    lines = [f"{problem.prompt} -> {answer}"
             for problem, answer in demonstrations(found, slips, seed)]
    alphabet = "".join(map(chr, range(32, 127)))
    return "\n".join([alphabet, *lines, alphabet]) + "\n"


def preferences(found, seed, slips=0.5):
    """Preferences of (task, problem) pairs: the right answer to a wrong one of its length: (2)."""
    random = python_random.Random(f"{seed} wrong")
    return [Preference(messages_of(problem), problem.answer,
                       wrong_answer(task, problem, random, slips)) for task, problem in found]


def pairs_of(name, count, seed, held_out=False, level=None, slips=0.5):
    """Preferences of one of JUDGED: those of lesson preference_pairs, or right and wrong answers.
    """
    if name == "stories":
        return draw_preferences(python_random.Random(f"{seed} {held_out}"), count, held_out)
    return preferences(problems(name, count, seed, held_out, level), seed, slips)


def wrong_answer(task, problem, random, slips):
    """An answer of the same length that the task's checker refuses: (2)."""
    usual = SLIPS[task.name](problem)
    if random.random() < slips and not task.score(problem, usual):
        return usual
    while True:
        wrong = exchanged(problem.answer, LETTERS[task.name], random)
        if not task.score(problem, wrong):
            return wrong


def exchanged(answer, letters, random):
    """An answer with some of its characters exchanged for others of these letters, or swapped."""
    text = list(answer)
    places = [k for k, letter in enumerate(text) if letter in letters]
    if len(places) > 1 and random.random() < 0.3:
        a, b = random.sample(places, 2)
        text[a], text[b] = text[b], text[a]
    else:
        for k in random.sample(places, random.randint(1, min(2, len(places)))):
            text[k] = random.choice(letters)
    return "".join(text)
