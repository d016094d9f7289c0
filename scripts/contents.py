"""The table of lessons and the orders to read them in, made from the lessons themselves.

    python scripts/contents.py                    prints the table
    python scripts/contents.py --path beginner    a reading order, with the first sentence of each
    python scripts/contents.py --write            puts both into README.md, between its markers
    python scripts/contents.py --check            exit code 1 if README.md shows others

A lesson names what it needs; the numbers behind the names are filled in here, so that moving a
lesson changes one line of one file. A path is a few goals in the order of a reader's interest;
what each of them needs is filled in too.
"""

import argparse
import re
import sys
from dataclasses import dataclass

from tinygrad_edu.lessons import (
    ROOT,
    lesson_files,
    lesson_named,
    read_lesson,
    read_lessons,
    reading_order,
)
from tinygrad_edu.train.program import program

__all__ = ["lesson_files", "lesson_named", "read_lesson", "read_lessons"]

BEGIN = "<!-- lessons: python scripts/contents.py --write -->"
END = "<!-- end of lessons -->"
PATH_BEGIN = "<!-- path {}: python scripts/contents.py --write -->"
PATH_END = "<!-- end of path {} -->"


@dataclass(frozen=True)
class Reader:
    """Who reads: the goals in order, and which lessons may be taken on trust until the end."""

    goals: tuple[str, ...]
    last: tuple[str, ...] = ()


PLUMBING = ("memory", "threads", "loops", "watch", "kernel", "foreign", "broadcast", "atomic",
            "config", "module", "init", "download", "sources", "unicode")
READERS = {
    "beginner": Reader(
        ("scalar", "tape", "tensor", "gradcheck", "names", "bigram", "mlp", "one_block", "gpt",
         "adam", "loop", "sampling"),
        (*PLUMBING, "attention_weights", "attention_kernels", "dropout", "corpus", "loader")),
    "llm": Reader(
        ("bpe", "loader", "gpt", "attention", "rope", "swiglu", "dropout", "adam", "schedule",
         "loop", "checkpoint", "sampling", "ngram"),
        PLUMBING),
    "systems": Reader(
        ("memory", "threads", "loops", "kernel", "build", "foreign", "pointwise", "reduce", "norm",
         "matmul", "cross_entropy", "attention", "optim", "estimate", "token_folder")),
}


def table(lessons):
    """The lessons as a Markdown table, a line each."""
    lines = ["| lesson | title | file | needs |", "|---|---|---|---|"]
    for lesson in lessons:
        needs = [
            f"{other.name} {other.shown_number}"
            for other in lessons
            if any(other.answers_to(name) for name in lesson.needs)
        ]
        file = f"[{lesson.path}]({lesson.path})"
        lines.append(f"| {lesson.shown_number} | {lesson.title} | {file} | {', '.join(needs)} |")
    return "\n".join(lines)


def order_of(reader, lessons):
    """(main line, taken on trust) of one of READERS."""
    return reading_order(READERS[reader].goals, lessons, READERS[reader].last)


def path_for_readme(reader, lessons):
    """A reading order as one paragraph of links; the goals are bold."""
    main_line, trusted = order_of(reader, lessons)
    goals = [lesson_named(name, lessons) for name in READERS[reader].goals]

    def links(part):
        found = (f"[{x.name}]({x.path})" for x in part)
        bold = [f"**{link}**" if x in goals else link for x, link in zip(part, found, strict=True)]
        return " →\n".join(bold)

    return links(main_line) + (f";\nlast, taken on trust until here:\n{links(trusted)}"
                               if trusted else "")


def print_path(reader, lessons):
    """A reading order, a line of number, title and file for each lesson, its Idea below."""
    main_line, trusted = order_of(reader, lessons)
    for lesson in main_line + trusted:
        if trusted and lesson is trusted[0]:
            print("---- taken on trust until here: what the lessons above stand on\n")
        print(f"{lesson.shown_number:<5} {lesson.title}\n      {lesson.path}")
        print(f"      “{lesson.idea()}”\n")
    print(f"path={reader} lessons={len(main_line + trusted)} on_trust={len(trusted)}")


def with_table(readme, text, begin=BEGIN, end=END):
    """`readme` with `text` between the markers. ValueError where it has none."""
    once = readme.count(begin) == readme.count(end) == 1
    if not once or readme.index(end) < readme.index(begin):
        raise ValueError(f"README.md needs these two lines, once and in this order: {begin} {end}")
    before = readme[: readme.index(begin)]
    after = readme[readme.index(end) :]
    return f"{before}{begin}\n{text}\n{after}"


def regenerated(readme, lessons):
    """`readme` with a fresh table, and a fresh path wherever it has the markers of one."""
    readme = with_table(readme, table(lessons))
    pattern = re.escape(PATH_BEGIN).replace(re.escape("{}"), r"(\S+)")
    for name in re.findall(pattern, readme):
        if name not in READERS:
            raise ValueError(f"README.md has a path for {name!r}; there are: {', '.join(READERS)}")
        text = path_for_readme(name, lessons)
        readme = with_table(readme, text, PATH_BEGIN.format(name), PATH_END.format(name))
    return readme


def write_or_check(root, check):
    """Write README.md anew, or with `check` only compare; the exit code."""
    path, lessons = root / "README.md", read_lessons(root)
    try:
        old = path.read_text(encoding="utf-8")
        new = regenerated(old, lessons)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if check and old != new:
        advice = "run python scripts/contents.py --write"
        print(f"error: the lessons shown in README.md are stale: {advice}", file=sys.stderr)
        return 1
    if old != new:
        path.write_text(new, encoding="utf-8", newline="\n")
    print(f"lessons={len(lessons)} changed={int(old != new)}")
    return 0


def main(argv=None, root=ROOT):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", choices=READERS, help="print the reading order of this reader")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--check", action="store_true", help="exit code 1 if README.md is stale")
    args = parser.parse_args(argv)
    if args.write or args.check:
        return write_or_check(root, args.check)
    lessons = read_lessons(root)
    if args.path:
        try:
            print_path(args.path, lessons)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0
    print(table(lessons))
    print(f"lessons={len(lessons)}")
    return 0


if __name__ == "__main__":
    with program():
        code = main()
    sys.exit(code)
