"""Lesson 4.115 · Packing: several conversations in a row of tokens, and none sees another

Needs characters, conversations, loader, tasks, turns.
Used by scripts/train_sft.py, scripts/finetune.py, tests/data/test_packing.py.

Idea      Conversations have all lengths, and a batch is a rectangle. Filled up with padding most of
          it may be nothing, and nothing costs as much as something. So rows are filled with several
          conversations, end to end. For each of them it must be as if it stood alone: attention
          stops at the seams, and positions begin anew. That this is so to the last bit is tested: a
          token changed in one of them changes no bit of another's logits or gradients.
Math      a row of T holds examples of n₁ + n₂ + … ≤ T tokens, n = length − 1: inputs x = ids[:-1],
          targets y = ids[1:], as in lesson turns                                               (1)
          best fit: the longest example first, each into the row with least room that has enough (2)
          step s with batches of B takes the rows sB … sB + B − 1 of a list in which each epoch's
          rows follow each other, shuffled by words of Philox(seed, epoch)                      (3)
Shapes    x, y, segments (R, T): segments count the examples of a row from 0; what is left of a row
          is one more segment, with x = 0 and y = −1 · a model's loss takes all three
Pitfalls  One long text with marks between its documents, as in pretraining, lets each see the ones
          before it. There they are noise; here an answer could be copied from a neighbour.
          A mask alone leaves the positions: a model with a table of them that met every answer at
          position 70 has not learnt to answer at position 7. Rotary ones forgive it: a score
          depends on distances alone.
          The loss of a batch is a mean over its targets, and rows with many short examples have
          more of them: an example's share differs from what it has in a padded batch. A sum divided
          by a fixed number would not do that.
          An example that is longer than a row is refused. Cut, it would teach to stop nowhere.
Cost      (2): a search in a sorted list for each example. Attention still computes the scores that
          segments hide; for short rows that is little beside the matrix products. What it saves: on
          one core python scripts/train_sft.py --task all learns from 27,700 tokens a second, with
          --padded from 22,900; where all examples are about as long (--task addition) from 21,800
          and 20,700.
Try       build it    first fit in the order of the file: how much fuller does (2) make the rows?
          break it    leave the positions as they are in the row. Which tests notice?
          measure it  python -m tinygrad_edu.data.packing: the share of a batch that is padding,
                      padded and packed. Then the two runs of the Cost slot
See       Krell et al. 2021 (packing without contamination) · Johnson 1973 (best fit decreasing) ·
          the segments of lesson attention
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np

from tinygrad_edu.data.loader import IGNORED
from tinygrad_edu.data.turns import inputs_and_targets


@dataclass(frozen=True)
class Packed:
    """Rows of several examples: x, y and segments, (R, T) each."""

    x: np.ndarray
    y: np.ndarray
    segments: np.ndarray
    padding: float  # share of all places that hold nothing
    examples: int

    def __len__(self):
        return len(self.x)

    def rows_of(self, examples):
        """How many rows hold about so many examples: at least 1."""
        return max(1, round(examples * len(self) / self.examples))

    def rows(self, places):
        """(x, y, segments) of some rows, up to the last column in which anything is learnt."""
        width = np.flatnonzero((self.y[places] >= 0).any(axis=0))[-1] + 1
        return self.x[places, :width], self.y[places, :width], self.segments[places, :width]

    def of_step(self, size, seed, step):
        """The batch of a training step, a function of these numbers alone: (3)."""
        R = len(self)
        numbers = np.arange(step * size, (step + 1) * size)
        order = {int(epoch): shuffled(R, seed, epoch) for epoch in np.unique(numbers // R)}
        return self.rows([order[k // R][k % R] for k in numbers.tolist()])

    def batches(self, size):
        """All rows, in batches: for a loss over everything."""
        for first in range(0, len(self), size):
            yield self.rows(np.arange(first, min(first + size, len(self))))


def shuffled(count, seed, epoch):
    """0 … count − 1 in another order, the same in every version of NumPy."""
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(count)
    return np.argsort(words, kind="stable")


def pack(examples, context, left_out=None):
    """Packed rows of `context` tokens from (ids, mask) pairs, (1).

    ValueError, naming the example, for one that does not fit or has nothing to learn; with a list
    `left_out` the sentence is appended to it, and the others are packed.
    """
    pairs = []
    for number, (ids, mask) in enumerate(examples, start=1):
        fault = reason_against(ids, mask, context)
        if fault is None:
            pairs.append(inputs_and_targets(ids, mask))
        elif left_out is None:
            raise ValueError(f"example {number} {fault}")
        else:
            left_out.append(f"example {number} {fault}")
    if not pairs:
        raise ValueError("there is no example to pack")
    rows = best_fit([len(x) for x, _ in pairs], context)
    x = np.zeros((len(rows), context), np.int32)
    y, segments = np.full_like(x, IGNORED), np.zeros(x.shape, np.int64)
    for row, members in enumerate(rows):
        at = 0
        for segment, member in enumerate(members):
            inputs, targets = pairs[member]
            end = at + len(inputs)
            x[row, at:end], y[row, at:end] = inputs, targets
            segments[row, at:end] = segment
            at = end
        segments[row, at:] = len(members)
    used = sum(len(inputs) for inputs, _ in pairs)
    return Packed(x, y, segments, 1 - used / x.size, len(pairs))


def reason_against(ids, mask, context):
    """Why an example cannot be packed; None where it can."""
    if not np.any(mask[1:]):
        return "has no token to learn"
    first = int(np.argmax(mask[1:])) + 1
    if first > context:
        return (f"has a prompt of {first} tokens, which fills the context of {context}: shorten it,"
                " or choose a model with a longer context")
    if len(ids) - 1 > context:
        return (f"has {len(ids)} tokens, and a row of {context} holds {context + 1} with its last "
                "target: shorten it, or choose a model with a longer context")
    return None


def best_fit(lengths, context):
    """Which examples share a row, a list of lists of their places: (2)."""
    rows, rooms = [], []  # rooms: sorted (room, row) of rows that are not full
    for place in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        n = lengths[place]
        found = bisect_left(rooms, (n, -1))
        if found < len(rooms):
            room, row = rooms.pop(found)
        else:
            room, row = context, len(rows)
            rows.append([])
        rows[row].append(place)
        if room > n:
            insort(rooms, (room - n, row))
    return rows


if __name__ == "__main__":
    from random import Random

    from tinygrad_edu.data.conversations import Conversation
    from tinygrad_edu.data.tasks import TASKS
    from tinygrad_edu.data.turns import Turns
    from tinygrad_edu.tokenizers.characters import train_characters

    generator = Random(0)
    drawn = [task.draw(generator) for task in TASKS.values() for _ in range(1000)]
    talks = [Conversation((("user", p.prompt), ("assistant", p.answer))) for p in drawn]
    tokenizer = train_characters([text + "\n" for talk in talks for _, text in talk.messages])
    examples = list(map(Turns(tokenizer).tokens_and_mask, talks))
    lengths = [len(ids) - 1 for ids, _ in examples]
    padded = 1 - sum(lengths) / (max(lengths) * len(lengths))
    packed = pack(examples, 64)
    print(f"examples={len(examples)} longest={max(lengths)} rows={len(packed)} "
          f"padded={padded:.3f} packed={packed.padding:.4f}")
