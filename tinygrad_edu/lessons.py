"""Lesson 1.11 · Lessons: how to read one, and what a program reads in it

Needs nothing. Used by scripts/contents.py, scripts/explain.py.

Idea      A lesson is a file whose docstring says what the code cannot: which problem is solved, by
          which mathematics, with which traps. It has a number, floor and position, and needs only
          lessons with lower numbers. Its text stands in seven slots, always the same ones in the
          same order, so a reader finds the traps without looking for them, and so does a program:
          the table of lessons, the reading orders and the glossary quote these slots and hold no
          sentence of their own. What is changed in a lesson is changed everywhere.
Math      a path: the goals of a reader in order, each after everything that it needs            (1)
          with some lessons read last: what only they need comes last too, in order             (2)
          dx is the derivative of the final result, the loss, with respect to x: its gradient.
          An equation has a number in brackets at its end, and so has code that computes it.
Shapes    Letters mean the same in all lessons that speak of models.
          B sequences in a batch · T positions of a sequence, those that ask · S positions that
          are looked at, those of the cache included · C numbers a position, the width ·
          H heads of attention · G heads of keys and values · D numbers of a head, C = H·D ·
          F hidden units of a network · V tokens in the vocabulary · L layers, or blocks ·
          N rows of whatever is treated row by row
Pitfalls  A lesson without a slot, or with the slots in another order, is refused by the tests: a
          program would quote the wrong text. It takes a full stop (or ! or ?), a space and then a
          capital letter or a bracket for the end of a sentence: "Press et al. Numerical Recipes"
          would be cut in two, and is written with a comma.
Cost      Reading all lessons takes a moment: each file is parsed.
Try       build it    list the lessons that nobody needs.
          break it    let a lesson need one with a higher number. Which test notices?
          measure it  python scripts/explain.py lesson, or any other word
See       Knuth 1984 "Literate programming" · CONTRIBUTING.md, "What is a lesson"
"""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("native", "cuda", "tinygrad_edu", "models")  # where lessons live
SLOTS = ("Idea", "Math", "Shapes", "Pitfalls", "Cost", "Try", "See")
INDENT = 10  # width of the slot column

TITLE = re.compile(r"Lesson (\d+)\.(\d+) · (\S.*)")
LINKS = re.compile(r"Needs (.+?)\. Used by (.+)\.")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\W\d_a-z]|\()")


@dataclass(frozen=True)
class Slot:
    """One slot of a lesson: its lines without the indent, and the line of the file it starts on."""

    line: int
    lines: tuple[str, ...]

    def sentences(self):
        """(line of the file, text) of each sentence."""
        text, places = "", []
        for number, line in enumerate(self.lines, start=self.line):
            places.append((len(text), number))
            text += line.strip() + " "
        start = 0
        for end in [*(match.end() for match in SENTENCE_END.finditer(text)), len(text)]:
            number = max(number for place, number in places if place <= start)
            if text[start:end].strip():
                yield number, text[start:end].strip()
            start = end


@dataclass(frozen=True)
class Lesson:
    """What the docstring of a lesson says, and where it stands."""

    number: tuple[int, int]
    title: str
    path: str  # relative to the repository, with "/"
    needs: tuple[str, ...]
    used_by: tuple[str, ...]
    slots: dict[str, Slot] = field(compare=False, repr=False, default_factory=dict)

    @property
    def name(self):
        """The file's name without its folder and ending."""
        return self.path.rsplit("/", 1)[-1].removesuffix(".py")

    @property
    def shown_number(self):
        """The number as people write it: 2.10."""
        return f"{self.number[0]}.{self.number[1]}"

    def answers_to(self, name):
        """Whether `name` means this lesson: its file's path, or the end of it, ".py" or not."""
        return f"/{self.path}".removesuffix(".py").endswith("/" + name.removesuffix(".py"))

    def idea(self):
        """The first sentence of the Idea."""
        return next((text for _, text in self.slots["Idea"].sentences()), "")


def names(text):
    """The names in "a, b" as a tuple; "nothing" is none."""
    return () if text == "nothing" else tuple(name.strip() for name in text.split(","))


def read_slots(docstring):
    """{name: Slot} of a docstring that begins on the first line of its file."""
    found, current = {}, None
    for number, line in enumerate(docstring.splitlines(), start=1):
        word = line[:INDENT].strip()
        if word in SLOTS and line[:INDENT] == word.ljust(INDENT):
            current = found.setdefault(word, (number, []))
        if current:
            current[1].append(line[INDENT:])
    return {name: Slot(number, tuple(lines)) for name, (number, lines) in found.items()}


def read_lesson(path, root):
    """The Lesson in a Python file, or None where the docstring does not begin like one."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) or ""
    paragraphs = docstring.split("\n\n")
    title = TITLE.fullmatch(paragraphs[0].strip())
    links = LINKS.fullmatch(" ".join(paragraphs[1].split())) if len(paragraphs) > 1 else None
    if not title or not links:
        return None
    number = int(title[1]), int(title[2])
    place = path.relative_to(root).as_posix()
    needs, used_by = names(links[1]), names(links[2])
    return Lesson(number, title[3], place, needs, used_by, read_slots(docstring))


def lesson_files(root):
    """Every Python file that has to be a lesson: all of FOLDERS but the packages' __init__.py."""
    files = (path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py")))
    return [path for path in files if path.name != "__init__.py"]


def read_lessons(root=ROOT):
    """All lessons below `root`, in the order of their numbers."""
    found = (read_lesson(path, root) for path in lesson_files(root))
    return sorted((lesson for lesson in found if lesson), key=lambda lesson: lesson.number)


def lesson_named(name, lessons):
    """The lesson that a name or a path's end means. ValueError where that is none or several."""
    found = [lesson for lesson in lessons if lesson.answers_to(name)]
    if len(found) != 1:
        what = "is no lesson" if not found else "could be " + " or ".join(x.path for x in found)
        raise ValueError(f"{name!r} {what}; python scripts/contents.py lists all lessons")
    return found[0]


def reading_order(goals, lessons, last=()):
    """(main line, read last): lessons in an order in which the goals come one after the other.

    goals, last: names. Each lesson stands after all that it needs, (1), but the lessons named in
    `last` and what only they need come after everything else, (2).
    """
    by_name = {name: lesson_named(name, lessons) for name in (*goals, *last)}
    postponed = {by_name[name] for name in last} - {by_name[name] for name in goals}
    order, trusted = [], []

    def read(lesson, into, skipped):
        if lesson in order or lesson in trusted:
            return
        for name in sorted(lesson.needs, key=lambda name: lesson_named(name, lessons).number):
            needed = lesson_named(name, lessons)
            if needed not in skipped:
                read(needed, into, skipped)
        into.append(lesson)

    for name in goals:
        read(by_name[name], order, postponed)
    needed = {lesson_named(name, lessons) for lesson in order for name in lesson.needs}
    for lesson in sorted(needed & postponed, key=lambda lesson: lesson.number):
        read(lesson, trusted, ())
    return order, trusted


def with_part(document, begin, end, text, who="there must be"):
    """`document` with `text` between two marks, each a line of its own.

    ValueError, which begins with `who`, where the marks are not there once and in this order.
    """
    once = document.count(begin) == document.count(end) == 1
    if not once or document.index(end) < document.index(begin):
        raise ValueError(f"{who} these two lines, once and in this order: {begin} {end}")
    return f"{document[:document.index(begin)]}{begin}\n{text}\n{document[document.index(end):]}"
