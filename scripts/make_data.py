"""Examples to learn from: made by programs that can judge them, or a file of yours, checked.

    python scripts/make_data.py addition --show 5                 problems and their answers
    python scripts/make_data.py sort --out sort.jsonl --count 1000 --level 4
    python scripts/make_data.py --check FILE                      what a JSONL file holds, faults
"""

import random as python_random
from dataclasses import dataclass
from pathlib import Path

from tinygrad_edu.data.conversations import (
    Conversation,
    conversation_fields,
    read_conversations,
    read_preferences,
)
from tinygrad_edu.data.curation import (
    contradictions,
    deduplicate,
    length_report,
    opening_of,
)
from tinygrad_edu.data.jsonl import read_objects, write_objects
from tinygrad_edu.data.tasks import TASKS
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program

FAULTS = 10  # sentences that are printed


@dataclass
class Settings:
    """What to make, or what to check."""

    what: str = option("", f"what to make: {', '.join(TASKS)}", positional=True,
                       choices=("", *TASKS))
    out: Path | None = option(None, "JSONL file to write; with .gz at its end compressed")
    count: int = option(1000, "how many", low=1)
    level: int | None = option(None, "difficulty of a task; none: a mixture")
    held_out: bool = option(False, "of the side that is never trained on")
    show: int = option(5, "how many to print", low=0)
    seed: int = option(0, "of what is drawn", low=0)
    check: Path | None = option(None, "a JSONL file of conversations or preferences to look at")


def task_examples(settings, random):
    """(Conversation, dict) of problems of a task."""
    task = TASKS[settings.what]
    for _ in range(settings.count):
        problem = task.draw(random, settings.level, settings.held_out)
        yield Conversation((("user", problem.prompt), ("assistant", problem.answer)))


def make(settings):
    """Make examples, write them where that was asked for, show some."""
    random = python_random.Random(settings.seed)
    examples = list(task_examples(settings, random))
    for example in examples[: settings.show]:
        print(f"{example.prompt[-1][1]}\n    -> {example.answer}")
    if settings.out is not None:
        write_objects(settings.out, map(conversation_fields, examples))
    kept, copies = deduplicate(examples)
    print(f"made={len(examples)} different={len(kept)} copies={copies} seed={settings.seed} "
          f"out={settings.out or 'none'}")


def check(settings):
    """Say what a file holds, and what is wrong with it."""
    faults = []
    first = next((fields for _, fields in read_objects(settings.check, [])), {})
    is_preferences = "chosen" in first or "rejected" in first
    read = read_preferences if is_preferences else read_conversations
    examples = read(settings.check, faults)
    for sentence in faults[:FAULTS]:
        print(sentence)
    if len(faults) > FAULTS:
        print(f"… and {len(faults) - FAULTS} more")
    kept, copies = deduplicate(examples)
    words = f"faults={len(faults)} copies={copies} prompts={len({*map(opening_of, kept)})}"
    if is_preferences and examples:
        report = length_report(examples)
        print(report)
        words += f" contradictions={contradictions(kept)} length_only={report.accuracy:.3f}"
    kind = "preferences" if is_preferences else "conversations"
    print(f"{kind}={len(examples)} {words}")


def main():
    """Make, or check."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if bool(settings.what) == (settings.check is not None):
            raise ValueError("name what to make, or a file with --check; see --help")
        if settings.check is not None:
            check(settings)
        else:
            make(settings)


if __name__ == "__main__":
    with program():
        main()
