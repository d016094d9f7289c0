"""Lesson 7.8 · World: what the small models of this floor are asked

Needs conversations, tasks. Used by scripts/train_sft.py, scripts/train_reward.py,
scripts/train_dpo.py.

Idea      To see what an algorithm does, one needs questions that a small model can learn within
          minutes and a program can judge. Lesson tasks has them; here they become what the stages
          read. A base model reads worksheets: question after question with its answer. Fine-tuning
          reads conversations. Preferences are a right and a wrong answer of the same length, so
          that length says nothing.
Math      a wrong answer: the right one with one or two characters exchanged for others that could
          stand there, or two of them swapped; it is scored, and drawn again while it is right   (1)
Shapes    a worksheet is lines "58+67 -> 125" · asked: pairs (messages, score function)
Pitfalls  A wrong answer that is easily told (letters in a sum) teaches to look for letters. So what
          is exchanged comes from the characters of the right answers of the same task.
          Held-out problems share no number with those trained on: lesson tasks decides, not chance.
Cost      Microseconds a problem.
Try       build it    worksheets with wrong answers now and then. Does fine-tuning repair them?
          break it    draw the wrong answer of another length. What does length_only say?
          measure it  python scripts/train_reward.py: accuracy, and that of length alone
See       the lessons tasks and conversations
"""

import random as python_random
import string

from tinygrad_edu.data.conversations import Conversation, Preference
from tinygrad_edu.data.tasks import TASKS

NAMES = "all", *TASKS                              # what tasks_of knows
LETTERS = {"addition": string.digits, "sort": string.digits, "brackets": ")]}",
           "python": string.digits + "+-*"}


def tasks_of(name):
    """The tasks that a name stands for: one of TASKS, or "all". ValueError for another."""
    if name == "all":
        return list(TASKS.values())
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}; there are all, {', '.join(TASKS)}")
    return [TASKS[name]]


def problems(name, count, seed, held_out=False, level=None):
    """(task, problem) pairs, the tasks in turn."""
    random = python_random.Random(f"{seed} {held_out}")
    tasks = tasks_of(name)
    return [(task, task.draw(random, level, held_out))
            for task in (tasks[k % len(tasks)] for k in range(count))]


def worksheet(count, seed):
    """The text that a base model reads: problems of all tasks with their answers.

    Its last line has every printable character, so that a tokenizer made of it knows them all.
    """
    random = python_random.Random(f"{seed} worksheet")
    found = problems("all", count, seed)
    random.shuffle(found)
    lines = [f"{problem.prompt} -> {problem.answer}" for _, problem in found]
    alphabet = "".join(map(chr, range(32, 127)))
    return "\n".join([alphabet, *lines, alphabet]) + "\n"


def messages_of(problem):
    """A problem as the words of a user."""
    return (("user", problem.prompt),)


def conversations(found):
    """Conversations of (task, problem) pairs."""
    return [Conversation((*messages_of(problem), ("assistant", problem.answer)))
            for _, problem in found]


def asked(found):
    """(messages, score function) of (task, problem) pairs, as lesson sft's score_answers wants."""
    def score(task, problem):
        return lambda text: task.score(problem, text)
    return [(messages_of(problem), score(task, problem)) for task, problem in found]


def wrong_answer(task, problem, random):
    """An answer of the same length that the task's checker refuses: (1)."""
    letters = LETTERS[task.name]
    while True:
        text = list(problem.answer)
        places = [k for k, letter in enumerate(text) if letter in letters]
        if len(places) > 1 and random.random() < 0.3:
            a, b = random.sample(places, 2)
            text[a], text[b] = text[b], text[a]
        else:
            for k in random.sample(places, random.randint(1, min(2, len(places)))):
                text[k] = random.choice(letters)
        wrong = "".join(text)
        if wrong != problem.answer and not task.score(problem, wrong):
            return wrong


def preferences(found, seed):
    """Preferences of (task, problem) pairs: the right answer to a wrong one of the same length."""
    random = python_random.Random(f"{seed} wrong")
    return [Preference(messages_of(problem), problem.answer, wrong_answer(task, problem, random))
            for task, problem in found]
