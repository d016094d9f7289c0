"""Lesson 4.114 · Curation: copies out, two sides, and what length alone would say

Needs conversations, corpus. Used by scripts/make_data.py.

Idea      Before a model sees examples, three things are done with them. Copies are taken out: what
          occurs ten times is learnt ten times, and a copy on the held-out side is an answer seen
          before. They are split by prompt: all answers to one prompt stay on one side, or a model
          would be examined on a question that it was taught with another answer. And preferences
          are asked whether their longer answer is mostly the better one; if so, a reward model can
          be right without reading, and a model trained on its reward will write longer and longer.
Math      held out  ⇔  u(prompt) < 0.1; at least one prompt on each side     u: lesson corpus   (1)
          length-only accuracy = P(chosen longer) + ½·P(equally long)                           (2)
Shapes    examples: a list of Conversations or of Preferences
Pitfalls  "Hi  there" and "hi there" are one prompt: case and white space are levelled for (1) and
          for copies. Near copies beyond that stay; lesson corpus has the warning.
          In conversations of several turns the prompt is what stands before the *first* answer:
          the same talk, cut at two places, would otherwise lie on both sides.
          Files hold the same two answers in both orders. Nothing can be right about both, and a
          model's best accuracy falls: they are counted.
          0.5 in (2) is not proof. Lengths that only spread more for one kind also tell something.
Cost      A hash for each example.
Try       build it    near copies: compare sets of five-letter pieces, and drop above 0.8 in common.
          break it    split by whole conversations instead of prompts. Which test notices?
          measure it  python scripts/make_data.py --check FILE, on a file of your own
See       Lee et al. 2022 (copies) · Singhal et al. 2023 "A long way to go" (length in reward
          models) · Saito et al. 2023 (length in preferences)
"""

from dataclasses import dataclass

from tinygrad_edu.data.conversations import Conversation
from tinygrad_edu.data.corpus import HELD_OUT_SHARE, counted, hashed


def levelled(text):
    """A text without what does not matter for being the same: case, and how much white space."""
    return " ".join(text.casefold().split())


def opening_of(example):
    """The messages before the first answer, as one levelled text: what is split by."""
    messages = example.messages if isinstance(example, Conversation) else example.prompt
    texts = []
    for role, text in messages:
        if role == "assistant":
            break
        texts.append(f"{role}: {levelled(text)}")
    return "\n".join(texts)


def identity(example):
    """What two copies have in common."""
    if isinstance(example, Conversation):
        return tuple((role, levelled(text)) for role, text in example.messages)
    prompt = tuple((role, levelled(text)) for role, text in example.prompt)
    return prompt, levelled(example.chosen), levelled(example.rejected)


def deduplicate(examples):
    """(examples without copies, how many copies there were); the first of each stays."""
    kept = {}
    for example in examples:
        kept.setdefault(identity(example), example)
    return list(kept.values()), len(examples) - len(kept)


def contradictions(preferences):
    """How many pairs of answers are there in both orders."""
    seen = {identity(preference) for preference in preferences}
    return sum((prompt, b, a) in seen for prompt, a, b in seen) // 2


def split_by_prompt(examples, share=HELD_OUT_SHARE):
    """(train, held out): no opening is on both sides, in the order they came: (1).

    ValueError where all examples have the same one.
    """
    place = {opening: hashed(opening) for opening in map(opening_of, examples)}
    if len(place) < 2:
        raise ValueError(f"{counted(len(examples), 'example')} with {counted(len(place), 'prompt')}"
                         " cannot be split: two different prompts are needed, one to hold out")
    order = sorted(place, key=place.get)
    count = sum(u < share for u in place.values())
    held_out = {*order[: min(max(count, 1), len(order) - 1)]}
    sides = [], []
    for example in examples:
        sides[opening_of(example) in held_out].append(example)
    return sides


@dataclass(frozen=True)
class LengthReport:
    """What the lengths of answers say, in characters."""

    pairs: int
    chosen: float  # mean length
    rejected: float
    accuracy: float  # of taking the longer answer: (2)

    def __str__(self):
        verdict = "longer wins" if self.accuracy >= 0.5 else "shorter wins"
        return (f"{counted(self.pairs, 'pair')}: chosen answers have {self.chosen:.1f} characters "
                f"on average, rejected ones {self.rejected:.1f}; who always says \"{verdict}\" is "
                f"right in {100 * max(self.accuracy, 1 - self.accuracy):.1f} %")


def length_report(preferences, length=len):
    """A LengthReport. length: of an answer; with a tokenizer, `lambda t: len(tok.encode(t))`."""
    if not preferences:
        raise ValueError("there are no preferences to report on")
    pairs = [(length(each.chosen), length(each.rejected)) for each in preferences]
    n = len(pairs)
    longer = sum(a > b for a, b in pairs)
    equal = sum(a == b for a, b in pairs)
    means = (sum(lengths) / n for lengths in zip(*pairs, strict=True))
    return LengthReport(n, *means, (longer + equal / 2) / n)                                  # (2)
