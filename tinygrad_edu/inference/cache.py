"""Lesson 5.7 · KV cache: what was read once need not be read again

Needs memory. Used by decoding.

Idea      To write the next token a model looks at the keys and values of all tokens before it. They
          do not change: a causal position never sees what comes later. So each is computed once and
          kept. Then a token costs a pass of one position instead of a pass of the whole text, and
          the work of a text of T tokens falls from T² to T passes of one position, at the price of
          memory that grows with the text.
Math      bytes = 2·L·B·G·S·D·itemsize      keys and values, of all blocks and positions        (1)
          the token at position s asks with its own query and all keys 0 … s                    (2)
Shapes    keys, values (L, B, G, S, D), S the room · lengths (B,): positions that are filled
          append: k, v (B, G, T, D) of T new positions -> all keys and values so far, (B, G, S', D)
Pitfalls  A batch of texts of different length: each row has its own next position, lengths[b]. Rows
          stand left-aligned; what padding has written behind a short row is overwritten by the
          tokens that come, and no query sees it before.
          Keys are kept turned (lesson rope): a key's position never changes, while a query's does.
          A cache belongs to one model and one text. Another text needs `lengths` set back to 0.
Cost      (1): for a GPT-2 of 124 million parameters and 1024 positions 75 MB a text in float32.
          Grouped heads (G < H) divide it by H/G: that is what they were invented for.
Try       build it    a window: room for the last w positions only, written round and round.
          break it    forget to advance. What does the model write, and which test notices?
          measure it  python scripts/generate.py RUN --max-new 100, with and without --no-cache
See       Shazeer 2019 (fewer heads for keys and values) · Pope et al. 2022, section 3.3
"""

import numpy as np

from ..memory import empty


class KVCache:
    """Keys and values of B texts, for L blocks, with room for S positions each.

    Raises ValueError where more positions come than there is room for.
    """

    def __init__(self, layers, batch, groups, room, width, dtype=np.float32, like=None):
        shape = (layers, batch, groups, room, width)
        self.keys, self.values = empty(shape, dtype, like=like), empty(shape, dtype, like=like)
        self.lengths = np.zeros(batch, np.int64)

    @property
    def room(self):
        """S: positions that a text may have."""
        return self.keys.shape[3]

    def must_fit(self, length):
        """ValueError for a text that is longer than the room."""
        if length > self.room:
            raise ValueError(f"a text of {length} tokens does not fit a cache with room for "
                             f"{self.room}")

    def append(self, layer, k, v):
        """Keep k, v (B, G, T, D) behind what block `layer` has; all of it as views (B, G, S', D).

        `advance` moves on once all blocks have done so.
        """
        T, starts = k.shape[2], self.lengths
        end = int(starts.max()) + T
        self.must_fit(end)
        for kept, new in ((self.keys[layer], k), (self.values[layer], v)):
            if (starts == starts[0]).all():
                kept[:, :, starts[0] : end] = new
            else:
                for row, start in enumerate(starts):
                    kept[row, :, start : start + T] = new[row]
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, counts):
        """Every text has got so many tokens more: one number, or one a row where some were padding.
        """
        self.lengths = self.lengths + counts

    def keep(self, rows):
        """Go on with these rows of the batch only."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.lengths = self.lengths[rows]
