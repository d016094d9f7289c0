"""Examples to learn from: made by programs that can judge them, or a file of yours, checked.

    python scripts/make_data.py addition                          problems and their answers
    python scripts/make_data.py sort --level 4 --held-out --out sort.jsonl
    python scripts/make_data.py instructions                      requests in the world of stories
    python scripts/make_data.py preferences --out pairs.jsonl    two answers each, one is better
    python scripts/make_data.py --check FILE                      what a file of yours holds, faults
"""

import random as python_random
from dataclasses import dataclass
from pathlib import Path

from tinygrad_edu.data.conversations import (
    Conversation,
    conversation_fields,
    preference_fields,
    read_conversations,
    read_preferences,
)
from tinygrad_edu.data.curation import (
    contradictions,
    deduplicate,
    length_report,
    opening_of,
)
from tinygrad_edu.data.instructions import INSTRUCTIONS
from tinygrad_edu.data.jsonl import read_objects, write_objects
from tinygrad_edu.data.preference_pairs import draw_preferences
from tinygrad_edu.data.tasks import TASKS, below
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program

FAULTS = 10  # sentences that are printed
SINGLE = TASKS | INSTRUCTIONS
WORDS = (*SINGLE, "instructions", "preferences")


@dataclass
class Settings:
    """What to make, or what to check."""

    what: str | None = option(None, f"what to make: {', '.join(WORDS)}", positional=True,
                              choices=WORDS)
    out: Path | None = option(None, "JSONL file to write; with .gz at its end compressed")
    count: int = option(1000, "how many", low=1)
    level: int | None = option(None, "difficulty of a task; none: a mixture")
    held_out: bool = option(False, "of the side that is never trained on")
    loophole: float = option(0.0, "share of preferences that like the longer, worse answer",
                             low=0.0, high=1.0)
    show: int = option(5, "how many to print", low=0)
    seed: int = option(0, "of what is drawn", low=0)
    check: Path | None = option(None, "a JSONL file of conversations or preferences to look at")


def examples_of(settings, random):
    """Conversations or Preferences, as many as asked for."""
    if settings.what == "preferences":
        return draw_preferences(random, settings.count, settings.held_out,
                                loophole=settings.loophole)
    tasks = [*INSTRUCTIONS.values()] if settings.what == "instructions" else [SINGLE[settings.what]]
    found = []
    for _ in range(settings.count):
        problem = below(random, tasks).draw(random, settings.level, settings.held_out)
        found.append(Conversation((("user", problem.prompt), ("assistant", problem.answer))))
    return found


def show(example):
    """Print one."""
    print(example.prompt[-1][1])
    if isinstance(example, Conversation):
        print(f"  -> {example.answer}")
    else:
        print(f"  +  {example.chosen}\n  -  {example.rejected}")


def make(settings):
    """Make examples, write them where that was asked for, show some."""
    examples = examples_of(settings, python_random.Random(settings.seed))
    for example in examples[: settings.show]:
        show(example)
    pairs = settings.what == "preferences"
    if settings.out is not None:
        write_objects(settings.out, map(preference_fields if pairs else conversation_fields,
                                        examples))
    words = f"copies={deduplicate(examples)[1]} seed={settings.seed} out={settings.out or 'none'}"
    if pairs:
        print(length_report(examples))
        words += f" length_only={length_report(examples).accuracy:.3f}"
    print(f"made={len(examples)} {words}")


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


def refuse_idle(settings, given):
    """Raise ValueError for a flag that would do nothing."""
    if settings.check is not None and given - {"check"}:
        flags = ", ".join("--" + name.replace("_", "-") for name in sorted(given - {"check"}))
        raise ValueError(f"--check looks at a file, and makes nothing: leave out {flags}")
    if settings.what == "preferences" and "level" in given:
        raise ValueError("--level is for tasks and instructions, preferences have none: leave it "
                         "out")
    if settings.what not in (None, "preferences") and "loophole" in given:
        raise ValueError("--loophole is for preferences: leave it out, or make preferences")


def main():
    """Make, or check."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if (settings.what is None) == (settings.check is None):
            raise ValueError(f"say what to make, one of {', '.join(WORDS)}, or name a file with "
                             "--check")
        refuse_idle(settings, given)
        if settings.check is not None:
            check(settings)
        else:
            make(settings)


if __name__ == "__main__":
    with program():
        main()
