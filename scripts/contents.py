"""The table of lessons and the orders to read them in, made from the lessons themselves.

    python scripts/contents.py                    prints the table
    python scripts/contents.py --path beginner    a reading order, with the first sentence of each
    python scripts/contents.py --write            writes docs/lessons.md, and goals into README.md
    python scripts/contents.py --check            exit code 1 if these files show others

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
    with_part,
)
from tinygrad_edu.train.program import program

__all__ = ["lesson_files", "lesson_named", "read_lesson", "read_lessons"]

FILES = {"README.md": "", "docs/lessons.md": "../"}  # -> the way back from there
MARKER = "<!-- {}: python scripts/contents.py --write -->"  # lessons, path NAME, or goals NAME
END = "<!-- end of {} -->"


@dataclass(frozen=True)
class Reader:
    """Who reads: the goals in order, and which lessons may be taken on trust until the end."""

    goals: tuple[str, ...]
    last: tuple[str, ...] = ()


PLUMBING = ("memory", "threads", "loops", "watch", "kernel", "foreign", "broadcast", "atomic",
            "config", "module", "init", "download", "sources", "unicode",
            "source", "request", "compiler", "elf", "emulate", "launch", "product", "device",
            "tokenizer_file")
READERS = {
    "beginner": Reader(
        ("scalar", "tape", "tensor", "gradcheck", "names", "bigram", "mlp", "one_block", "gpt",
         "adam", "loop", "sampling"),
        (*PLUMBING, "attention_weights", "attention_kernels", "dropout", "corpus", "loader")),
    "classical": Reader(
        ("descent", "linear", "logistic", "backprop_by_hand", "bayes", "neighbours", "svm", "tree",
         "forest", "boosting", "cluster", "mixture", "decompose", "tsne", "features", "chain",
         "splits", "scores", "intervals", "search", "regularisation", "leaks"),
        PLUMBING),
    "llm": Reader(
        ("bpe", "loader", "gpt", "attention", "rope", "swiglu", "dropout", "adam", "schedule",
         "loop", "checkpoint", "sampling", "ngram"),
        PLUMBING),
    "assistant": Reader(
        ("llama", "cache", "decoding", "ladders", "packed", "fused", "ladder", "affine",
         "conversations", "logprobs", "sft", "lora", "reward", "dpo", "best_of_n", "gae", "ppo",
         "cartpole", "rollout", "grpo", "gauges"),
        PLUMBING),
    "systems": Reader(
        ("memory", "threads", "loops", "kernel", "build", "foreign", "pointwise", "reduce", "norm",
         "matmul", "cross_entropy", "attention", "optim", "estimate", "token_folder")),
}


def table(lessons, root=""):
    """The lessons as a Markdown table, a line each. root: what stands before every path."""
    lines = ["| lesson | title | file | needs |", "|---|---|---|---|"]
    for lesson in lessons:
        needs = [
            f"{other.name} {other.shown_number}"
            for other in lessons
            if any(other.answers_to(name) for name in lesson.needs)
        ]
        file = f"[{lesson.path}]({root}{lesson.path})"
        lines.append(f"| {lesson.shown_number} | {lesson.title} | {file} | {', '.join(needs)} |")
    return "\n".join(lines)


def order_of(reader, lessons):
    """(main line, taken on trust) of one of READERS."""
    return reading_order(READERS[reader].goals, lessons, READERS[reader].last)


def links(lessons, root=""):
    """Lessons as one paragraph of links."""
    return " →\n".join(f"[{lesson.name}]({root}{lesson.path})" for lesson in lessons)


def goals_of(reader, lessons):
    """The goals of one of READERS as lessons."""
    return [lesson_named(name, lessons) for name in READERS[reader].goals]


def whole_path(reader, lessons, root=""):
    """A reading order as a paragraph of links, the goals in bold; what is on trust in another."""
    main_line, trusted = order_of(reader, lessons)
    goals = goals_of(reader, lessons)
    bold = (f"**{links([x], root)}**" if x in goals else links([x], root) for x in main_line)
    rest = f";\nlast, taken on trust until here:\n{links(trusted, root)}" if trusted else ""
    return " →\n".join(bold) + rest


def print_path(reader, lessons):
    """A reading order, a line of number, title and file for each lesson, its Idea below."""
    main_line, trusted = order_of(reader, lessons)
    for lesson in main_line + trusted:
        if trusted and lesson is trusted[0]:
            print("---- taken on trust until here: what the lessons above stand on\n")
        print(f"{lesson.shown_number:<5} {lesson.title}\n      {lesson.path}")
        print(f"      “{lesson.idea()}”\n")
    print(f"path={reader} lessons={len(main_line + trusted)} on_trust={len(trusted)}")


def regenerated(document, lessons, root=""):
    """`document` with a fresh text in each part that it has the marker of."""
    for name in re.findall(re.escape(MARKER).replace(re.escape("{}"), "(.+?)"), document):
        kind, _, reader = name.partition(" ")
        if kind != "lessons" and reader not in READERS:
            raise ValueError(f"there is no path for {reader!r}, only for {', '.join(READERS)}")
        if kind == "lessons":
            text = table(lessons, root)
        elif kind == "goals":
            text = links(goals_of(reader, lessons), root)
        else:
            text = whole_path(reader, lessons, root)
        document = with_part(document, MARKER.format(name), END.format(name), text)
    return document


def write_or_check(root, check):
    """Write the parts of FILES anew, or with `check` only compare; the exit code."""
    lessons, changed = read_lessons(root), []
    for name, way in FILES.items():
        try:
            old = (root / name).read_text(encoding="utf-8")
            new = regenerated(old, lessons, way)
        except (OSError, ValueError) as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            return 2
        if old != new:
            changed.append(name)
            if not check:
                (root / name).write_text(new, encoding="utf-8", newline="\n")
    if check and changed:
        advice = "run python scripts/contents.py --write"
        print(f"error: the lessons shown in {changed[0]} are stale: {advice}", file=sys.stderr)
        return 1
    print(f"lessons={len(lessons)} changed={len(changed)}")
    return 0


def main(argv=None, root=ROOT):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", choices=READERS, help="print the reading order of this reader")
    parser.add_argument("--write", action="store_true", help="put it and the goals into documents")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a document is stale")
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
