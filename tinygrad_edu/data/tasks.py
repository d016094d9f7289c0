"""Lesson 4.110 · Tasks: questions that a program asks and can judge

Needs corpus. Used by instructions, scripts/make_data.py.

Idea      To reward a model one has to know whether it is right, thousands of times a minute and
          without being fooled. People are too slow, and a model that judges can be flattered. So
          here are questions whose answers a few lines of Python can check: add two numbers, sort,
          close brackets, write an expression with a given value. Each has a dial for its
          difficulty, the level. Whether a model has understood or remembers is seen on questions
          that it cannot have met: which those are is decided by what a question is about (its key),
          and not by the way in which it happens to be asked.
Math      entity e is held out  ⇔  u(name/e) < 0.1, u as in lesson corpus, (1) there            (1)
          a problem is held out  ⇔  all its entities are; to train on  ⇔  none is               (2)
          a problem of which only some are is never asked
Shapes    random: anything whose random() is uniform on [0, 1): NumPy's generators, Python's
          Problem.prompt "58+67", .answer "125", .level 2, .key (58, 67) · a score is 0.0 or 1.0
Pitfalls  58+67 and 67+58 are one question: keys are sorted, whatever is shuffled stays together.
          If pairs were split, a model could know both numbers from other sums. Numbers are split
          here, but for numbers of one digit: who has never seen a 7 cannot add it. Of them pairs.
          `eval` on what a model wrote runs what a model wrote. The expression is parsed and worked
          out here, by three operators; ** is none of them, since 9**9**9 would take for ever.
          A checker that looks for the answer anywhere in the text is content with a list of all
          numbers. Here the whole text has to be the answer.
Cost      Microseconds a problem; a held-out sum takes about a hundred draws, as 1 % of them are.
Try       build it    a task: sums modulo 97, in which no digit can be copied.
          break it    let `is_held_out` look at any entity, not at all. Which test notices?
          measure it  python -m tinygrad_edu.data.tasks: problems of each task at every level
See       Cobbe et al. 2021 (answers that can be checked) · Lightman et al. 2023 · Lee et al. 2023
          (teaching arithmetic to small transformers; answers from the last digit on)
"""

import ast
import functools
import operator
import re
import sys
from collections import Counter
from dataclasses import dataclass

from tinygrad_edu.data.corpus import hashed

HELD_OUT_ENTITIES = 0.1


@dataclass(frozen=True)
class Problem:
    """A question, an answer to it, how hard it is, and what it is about: the key of the split."""

    prompt: str
    answer: str
    level: int
    key: object


class Task:
    """What all tasks share. A subclass has make(random, level) -> Problem, of either side.

    levels: those that are drawn where none is asked for; any from levels[0] to `hardest` may be.
    family: tasks of one family hold out the same entities; by default each is its own.
    """

    name = family = ""
    levels = ()
    hardest = 9

    def draw(self, random, level=None, held_out=False):
        """A Problem of the training side, or of the held-out one; ValueError for a wrong level."""
        level = self.level_or_any(random, level)
        while True:
            problem = self.make(random, level)
            if self.is_held_out(problem.key) == held_out:
                return problem

    def level_or_any(self, random, level):
        """The level, or one that is drawn where it is None."""
        if level is None:
            return below(random, self.levels)
        if not self.levels[0] <= level <= self.hardest:
            raise ValueError(f"the levels of {self.name} are {self.levels[0]} to {self.hardest}: "
                             f"there is no {level}")
        return level

    def is_held_out(self, key):
        """True or False, or None for a problem that stands between the sides: (1) and (2)."""
        sides = set(map(self.is_held_out_entity, self.entities(key)))
        return sides.pop() if len(sides) == 1 else None                                   # (2)

    def is_held_out_entity(self, entity):
        """Whether training never meets this entity."""
        return is_held_out_name(f"{self.family or self.name}/{entity}")

    def entities(self, key):
        """What no problem of the other side may share."""
        return [key]

    def score(self, problem, text):
        """1.0 where the text, white space around it aside, answers the problem; else 0.0."""
        return float(text.strip() == problem.answer)


@functools.lru_cache(1 << 16)
def is_held_out_name(name):
    """Whether name/entity is on the held-out side: (1)."""
    return hashed(name) < HELD_OUT_ENTITIES                                               # (1)


@dataclass(frozen=True)
class Addition(Task):
    """Sums of two numbers of `level` digits.

    backwards: the answer in columns, as one works it out: the last digit first, and a place more
    than the numbers have, 0 where nothing is carried there. So all answers have the same length.
    """

    backwards: bool = False
    name = "addition"
    levels = 1, 2, 3

    def make(self, random, level):
        """58+67 -> 125; if backwards 521, and 12+34 -> 640."""
        low = 10 ** (level - 1) if level > 1 else 0
        numbers = [below(random, range(low, 10 ** level)) for _ in range(2)]
        answer = str(sum(numbers))
        if self.backwards:
            answer = answer[::-1].ljust(level + 1, "0")
        prompt = f"{numbers[0]}+{numbers[1]}"
        return Problem(prompt, answer, level, tuple(sorted(numbers)))

    def entities(self, key):
        """Both numbers; the pair where they have one digit."""
        return [key] if max(key) < 10 else key


class Sort(Task):
    """Digits in order: `level` of them."""

    name = "sort"
    levels = 2, 3, 4, 5, 6

    def make(self, random, level):
        """sort 5 2 9 -> 2 5 9."""
        digits = [below(random, "0123456789") for _ in range(level)]
        key = tuple(sorted(digits))
        return Problem("sort " + " ".join(digits), " ".join(key), level, key)


BRACKETS = {"(": ")", "[": "]", "{": "}"}


class Brackets(Task):
    """Close what is open: `level` brackets, among one more that are closed already."""

    name = "brackets"
    levels = 1, 2, 3, 4

    def make(self, random, level):
        """close ([]{} -> )."""
        text, still_open = "", []
        opening, closing = 2 * level + 1, level + 1  # moves that are left
        while opening + closing:
            if still_open and random.random() * (opening + closing) < closing:
                text += BRACKETS[still_open.pop()]
                closing -= 1
            elif opening:
                still_open.append(below(random, [*BRACKETS]))
                text += still_open[-1]
                opening -= 1
        answer = "".join(BRACKETS[bracket] for bracket in reversed(still_open))
        return Problem(f"close {text}", answer, level, text)


OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}
EXPRESSION = re.compile(r"[0-9+*() -]{1,100}")


class Python(Task):
    """An expression of Python that has a given value and uses each of `level` numbers once."""

    name = "python"
    levels = 2, 3, 4
    hardest = 6

    def make(self, random, level):
        """make 17 of 2 3 7 -> 2*7+3, or any other that is right."""
        numbers = [below(random, range(1, 10)) for _ in range(level)]
        while True:
            text = str(numbers[0])
            for number in numbers[1:]:
                text += below(random, "+-*") + str(number)
            target, _ = evaluate(text)
            if target >= 0:
                break
        key = tuple(sorted(numbers))
        prompt = f"make {target} of {' '.join(map(str, key))}"
        return Problem(prompt, text, level, key)

    def score(self, problem, text):
        """1.0 where the text parses, has the value, and uses each number once; else 0.0."""
        target = int(problem.prompt.split()[1])
        try:
            value, used = evaluate(text.strip())
        except ValueError:
            return 0.0
        return float(value == target and used == Counter(problem.key))


def evaluate(text):
    """(value, Counter of the numbers) of an expression of whole numbers with + - *.

    ValueError for whatever else a model may write. Nothing of it is run.
    """
    if not EXPRESSION.fullmatch(text):
        raise ValueError(f"{text[:40]!r} has other signs than digits, + - * and parentheses")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is not Python") from None
    used = Counter()

    def value(node):
        match node:
            case ast.Constant(value=int(number)):
                used[number] += 1
                return number
            case ast.BinOp(left, op, right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](value(left), value(right))
            case _:
                raise ValueError(f"{ast.unparse(node)} is no number, sum, difference or product")

    return value(tree.body), used


def below(random, options):
    """One of a sequence, each as likely as another."""
    return options[int(random.random() * len(options))]


TASKS = {task.name: task for task in (Addition(), Sort(), Brackets(), Python())}


if __name__ == "__main__":
    from random import Random

    generator = Random(int(*sys.argv[1:2] or [0]))
    for task in TASKS.values():
        for level in task.levels:
            problem = task.draw(generator, level)
            print(f"{task.name:9} {level}  {problem.prompt} -> {problem.answer}")
