"""Lesson 4.32 · Windows: what a run reads, step by step

Needs loader. Used by scripts/train_gpt.py.

Idea      The functions of lesson loader know nothing of a run: they are told batch, context, seed
          and places again and again. A run decides these once. Here they stand together with its
          two streams, and what is left to ask is short: the batches of step 7, some windows of the
          held-out text, how many there are.
Math      the batches of a step = one large batch of B·A windows, cut into A parts               (1)
          the last look, the loss that a run ends with: of the m windows that cover a held-out
          stream of n tokens all if n ≤ E, else ⌊m·E/n⌋, at least one: about E tokens are read   (2)
Shapes    streams (n,), mapped or in memory · a step: A pairs (x, y), each (B, T) · held-out text:
          pairs (x, y) of up to B windows
Pitfalls  A window that begins at a document may need the text in documents and the token before
          each: that is `separator`. Places are searched once, when first asked for.
          Parts that were drawn one by one would make another batch than one large one; (1) gives
          the same tokens for every A, and the same losses up to rounding.
Cost      A step reads its own tokens. Searching the places reads both streams once.
Try       build it    a third way to begin: at the start of a line. What would `separator` be?
          break it    draw the parts of a step with the seeds s, s + 1, … Which test notices?
          measure it  python scripts/train_gpt.py --data stories --windows anywhere, and without
                      that flag. Which model tells more often who has the thing now?
See       the lesson loader, equations (1) to (5)
"""

import functools
from dataclasses import dataclass

import numpy as np

from .loader import document_starts, draw_batch, evaluation_batches, window_count

ENOUGH = 1_000_000  # E of (2)


@dataclass(frozen=True)
class Windows:
    """The batches of a run over two streams of tokens, functions of the step alone.

    separator: the token before every document, at which windows begin; None for anywhere.
    """

    train: np.ndarray
    held_out: np.ndarray
    batch: int
    context: int
    parts: int = 1
    seed: int = 0
    separator: int | None = None

    @functools.cached_property
    def starts(self):
        """Where windows may begin in the training and in the held-out stream; None for anywhere."""
        if self.separator is None:
            return None, None
        return [document_starts(part, self.separator) for part in (self.train, self.held_out)]

    def of_step(self, step):
        """The (x, y) pairs of a training step: (1)."""
        x, y = draw_batch(self.train, self.batch * self.parts, self.context, self.seed, step,
                          self.starts[0])
        return list(zip(np.split(x, self.parts), np.split(y, self.parts), strict=True))

    def of_held_out(self, count):
        """(x, y) batches over `count` windows, spread over the held-out text."""
        return evaluation_batches(self.held_out, self.batch, self.context, count, self.starts[1])

    def last_look(self, enough=ENOUGH):
        """How many windows the last look takes: (2), all of them or about `enough` tokens."""
        count = window_count(self.held_out, self.context, self.starts[1])
        tokens = len(self.held_out)
        return count if tokens <= enough else max(1, count * enough // tokens)
