"""The table of lessons, made from the lessons themselves.

    python scripts/contents.py            prints the table
    python scripts/contents.py --write    puts it into README.md, between its two markers
    python scripts/contents.py --check    exit code 1 if README.md shows another one

A lesson names what it needs; the numbers behind the names are filled in here, so that moving a
lesson changes one line of one file.
"""

import argparse
import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("native", "cuda", "tinygrad_edu", "models")  # where lessons live
BEGIN = "<!-- lessons: python scripts/contents.py --write -->"
END = "<!-- end of lessons -->"

TITLE = re.compile(r"Lesson (\d+)\.(\d+) · (\S.*)")
LINKS = re.compile(r"Needs (.+?)\. Used by (.+)\.")


@dataclass(frozen=True)
class Lesson:
    """The first lines of a lesson's docstring, and where it stands."""

    number: tuple[int, int]
    title: str
    path: str  # relative to the repository, with "/"
    needs: tuple[str, ...]
    used_by: tuple[str, ...]

    @property
    def name(self):
        return self.path.rsplit("/", 1)[-1].removesuffix(".py")

    def answers_to(self, name):
        """Whether `name` means this lesson: its file's path, or the end of it, ".py" or not."""
        return f"/{self.path}".removesuffix(".py").endswith("/" + name.removesuffix(".py"))


def names(text):
    """The names in "a, b" as a tuple; "nothing" is none."""
    return () if text == "nothing" else tuple(name.strip() for name in text.split(","))


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
    return Lesson(number, title[3], place, names(links[1]), names(links[2]))


def lesson_files(root):
    """Every Python file that has to be a lesson: all of FOLDERS but the packages' __init__.py."""
    files = (path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py")))
    return [path for path in files if path.name != "__init__.py"]


def read_lessons(root=ROOT):
    """All lessons below `root`, in reading order."""
    found = (read_lesson(path, root) for path in lesson_files(root))
    return sorted((lesson for lesson in found if lesson), key=lambda lesson: lesson.number)


def table(lessons):
    """The lessons as a Markdown table, a line each."""
    lines = ["| lesson | title | file | needs |", "|---|---|---|---|"]
    for lesson in lessons:
        needs = [
            f"{other.name} {other.number[0]}.{other.number[1]}"
            for other in lessons
            if any(other.answers_to(name) for name in lesson.needs)
        ]
        floor, position = lesson.number
        file = f"[{lesson.path}]({lesson.path})"
        lines.append(f"| {floor}.{position} | {lesson.title} | {file} | {', '.join(needs)} |")
    return "\n".join(lines)


def with_table(readme, text):
    """`readme` with `text` between the markers. ValueError where it has none."""
    once = readme.count(BEGIN) == readme.count(END) == 1
    if not once or readme.index(END) < readme.index(BEGIN):
        raise ValueError(f"README.md needs these two lines, once and in this order: {BEGIN} {END}")
    before = readme[: readme.index(BEGIN)]
    after = readme[readme.index(END) :]
    return f"{before}{BEGIN}\n{text}\n{after}"


def main(argv=None, root=ROOT):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--check", action="store_true", help="exit code 1 if README.md is stale")
    args = parser.parse_args(argv)
    lessons = read_lessons(root)
    if not args.write and not args.check:
        print(table(lessons))
        print(f"lessons={len(lessons)}")
        return 0
    path = root / "README.md"
    try:
        old = path.read_text(encoding="utf-8")
        new = with_table(old, table(lessons))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.check and old != new:
        advice = "run python scripts/contents.py --write"
        print(f"error: the table of lessons in README.md is stale: {advice}", file=sys.stderr)
        return 1
    if old != new:
        path.write_text(new, encoding="utf-8", newline="\n")
    print(f"lessons={len(lessons)} changed={int(old != new)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
