"""Lesson 5.7 · KV cache: what was read once need not be read again

Needs int8, memory. Used by decoding.

Idea      To write the next token a model looks at the keys and values of all tokens before it. They
          do not change: a causal position never sees what comes later. So each is computed once and
          kept. Then a token costs a pass of one position instead of a pass of the whole text, and
          the work of a text of T tokens falls from T² to T passes of one position, at the price of
          memory that grows with the text.
Math      bytes = 2·L·B·G·S·D·itemsize      keys and values, of all blocks and positions        (1)
          the token at position s asks with its own query and all keys 0 … s                    (2)
          eight bits: a key of a head is D integers and one scale, as a value is. With D = 64 they
          are 68 bytes in place of 256                                                          (3)
Shapes    keys, values (L, B, G, S, D), S the room · lengths (B,): positions that are filled
          append: k, v (B, G, T, D) of T new positions -> all keys and values so far, (B, G, S', D)
Pitfalls  A batch of texts of different length: each row has its own next position, lengths[b]. Rows
          stand left-aligned; what padding has written behind a short row is overwritten by the
          tokens that come, and no query sees it before.
          Keys are kept turned (lesson rope): a key's position never changes, while a query's does.
          A cache belongs to one model. Another text may begin like the one that was read: then
          `back_to` keeps what they share.
          A model with a window of w never looks further back than w − 1 positions. A ring of w
          places would be written round and round, and attention would have to know where it begins.
          Here the arrays have some places more, and when they are full, the last w − 1 keys of each
          row move to the front: seldom, and all else stays as it is. Then key number j of a row has
          the position first[b] + j.
          Rounding each key and value to 127 steps of its own size hardly moves a loss, since the
          scale is theirs alone: python scripts/perplexity.py MODEL --text FILE --cache int8
Cost      (1): for a GPT-2 of 124 million parameters and 1024 positions 75 MB a text in float32.
          Grouped heads (G < H) divide it by H/G: that is what they were invented for.
Try       build it    the ring: no places beyond the window, and no moves.
          break it    forget to advance. What does the model write, and which test notices?
          measure it  python scripts/generate.py RUN --max-new 100, with and without --no-cache
See       Shazeer 2019 (fewer heads for keys and values) · Pope et al. 2022, section 3.3
"""

import math

import numpy as np

from ..memory import available_bytes, beside, empty
from ..ops.int8 import from_rows, to_rows

AT_ONCE = 512  # positions that may come at once where there is a window


class KVCache:
    """Keys and values of B texts, for L blocks, with room for S positions each.

    window: how many keys a query sees at most, None for all. Then S is bounded by it, however long
    the texts grow. Raises ValueError where more positions come than there is room for.
    """

    ARRAYS = "keys", "values"                      # what is kept, (L, B, G, places, …) each

    def __init__(self, layers, batch, groups, room, width, window=None, dtype=np.float32,
                 like=None):
        self.room = room                           # of a text
        self.seen = room                           # how much before a position it sees
        if window is not None:
            self.seen = min(room, window - 1)
        places = min(room, self.seen + AT_ONCE)
        shape = (layers, batch, groups, places, width)
        types = [np.dtype(name) for name in self.types(dtype)]
        refuse_too_much(2 * math.prod(shape) * types[0].itemsize, room)                        # (1)
        for name, type_ in zip(self.ARRAYS, types, strict=True):
            kept = shape[:-1] if name.endswith("scales") else shape
            setattr(self, name, empty(kept, type_, like=like))
        self.lengths = np.zeros(batch, np.int64)
        self.first = np.zeros(batch, np.int64)     # position of each row's first key

    @staticmethod
    def types(dtype):
        """Of each of ARRAYS, for a model of this type."""
        return dtype, dtype

    @property
    def nbytes(self):
        """(1), all places counted."""
        return sum(getattr(self, name).nbytes for name in self.ARRAYS)

    @property
    def starts(self):
        """Where the next position of each row stands among its keys, (B,)."""
        return self.lengths - self.first

    def make_room(self, count):
        """Before `count` positions come: let go of keys that no query sees any more."""
        starts, places = self.starts, self.keys.shape[3]
        if int(starts.max()) + count <= places:
            return
        if count > places - self.seen:
            end = int(self.lengths.max()) + count
            raise ValueError(f"a text of {end} tokens does not fit a cache with room for "
                             f"{self.room}, and {places - self.seen} at once")
        for row, start in enumerate(starts):
            gone = max(0, start - self.seen)
            for kept in (getattr(self, name) for name in self.ARRAYS):
                kept[:, row, :, : start - gone] = kept[:, row, :, gone:start].copy()
            self.first[row] += gone

    def must_fit(self, count):
        """ValueError where `count` positions more are too many for a text of these."""
        longest = int(self.lengths.max()) + count
        if longest > self.room:
            raise ValueError(f"a text of {longest} tokens does not fit a cache with room for "
                             f"{self.room}")

    def append(self, layer, k, v):
        """Keep k, v (B, G, T, D) behind what block `layer` has; all of it as views (B, G, S', D).

        `advance` moves on once all blocks have done so.
        """
        end = self.put(layer, {"keys": k, "values": v})
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def put(self, layer, news):
        """Write {name of an array: (B, G, T, …)}; where the last position of all rows ends."""
        first = next(iter(news.values()))
        T = first.shape[2]
        starts = self.starts
        self.must_fit(T)
        end = int(starts.max()) + T
        rows = np.arange(len(starts))[:, None]
        places = np.add.outer(starts, np.arange(T))             # (B, T)
        rows, places = beside(rows, first), beside(places, first)
        for name, new in news.items():
            kept = getattr(self, name)[layer]
            if (starts == starts[0]).all():
                kept[:, :, starts[0] : end] = new
            else:  # every row at its own place: indices in front, (B, T, G, …)
                kept[rows, :, places] = new.swapaxes(1, 2)
        return end

    def advance(self, counts):
        """Every text has got so many tokens more: one number, or one a row where some were padding.
        """
        self.lengths = self.lengths + counts

    def back_to(self, length):
        """Forget what lies behind so many positions of each row; none are kept where it cannot go
        back so far, since the keys that these positions see have been let go.
        """
        oldest = np.minimum(length, self.lengths) - self.seen
        if (self.first > np.maximum(oldest, 0)).any():
            length = 0
        self.lengths = np.minimum(length, self.lengths)
        if length == 0:
            self.first[:] = 0

    def keep(self, rows):
        """Go on with these rows of the batch only."""
        for name in self.ARRAYS:
            setattr(self, name, getattr(self, name)[:, rows])
        self.lengths = self.lengths[rows]
        self.first = self.first[rows]


class Int8Cache(KVCache):
    """A KVCache of eight bits, (3). What `append` gives back is floats, made anew for each block.

    key_scales, value_scales (L, B, G, places) stand beside keys and values, which are int8.
    """

    ARRAYS = "keys", "values", "key_scales", "value_scales"

    @staticmethod
    def types(dtype):
        """Of each of ARRAYS."""
        return np.int8, np.int8, dtype, dtype

    def append(self, layer, k, v):
        """As of a KVCache, but keys and values, the new ones too, come back rounded."""
        (keys, key_scales), (values, value_scales) = to_rows(k), to_rows(v)                    # (3)
        end = self.put(layer, {"keys": keys, "values": values, "key_scales": key_scales,
                               "value_scales": value_scales})
        return tuple(from_rows(q[layer][:, :, :end], scale[layer][:, :, :end])
                     for q, scale in ((self.keys, self.key_scales),
                                      (self.values, self.value_scales)))


def refuse_too_much(size, room):
    """ValueError where the machine has not so many bytes left: said before they are taken."""
    left = available_bytes()
    if left is not None and size > left:
        raise ValueError(f"keys and values of {room} positions take {size / 1e6:,.0f} MB, and "
                         f"{left / 1e6:,.0f} MB of memory are free: read or write fewer tokens")


CACHES = {"float": KVCache, "int8": Int8Cache}
