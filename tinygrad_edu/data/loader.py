"""Lesson 4.24 · Batches: windows of a stream of tokens

Needs atomic. Used by token_folder, windows, scripts/train_gpt.py, scripts/score_python.py.

Idea      All documents become one long stream of tokens. Training reads it through a window that
          falls anywhere; evaluation reads all of it, window after window, so that no luck is in the
          number. Which windows a training step sees is a function of the seed and of the step's
          number, and of nothing else: a run that was stopped goes on with the batches it would have
          had, and there is no state of a generator to save.
Math      inputs x[b,t] = s[a_b + t], targets y[b,t] = s[a_b + t + 1],  0 ≤ t < T              (1)
          training:   a_b = r_b mod (n − T),  r = the first 64-bit words of Philox(seed, step) (2)
          evaluation: a = 0, T, 2T, … while a < n − 1: each of the n − 1 targets once          (3)
          bits per byte = nats per token · tokens / (bytes · ln 2)                             (4)
          by document: a_b is drawn from the places where documents begin; evaluation takes the
          windows (3) of each document by itself, up to the separator after it               (5)
Shapes    stream s (n,): an array or a memory-mapped file · x, y (B, T) int32
          The last window of (3) may be short: there x is 0 and y is IGNORED = −1, which a cross
          entropy that ignores targets of −1 does not count. The last batch may have fewer rows.
Pitfalls  Loss per token compares only models with the same tokenizer; (4) compares all. Its tokens
          are the targets that were counted, its bytes the text that they stand for: with a
          separator before each document (token_stream) every byte of text belongs to a target.
          A mean of the batches' means counts a short batch like a full one: sum, then divide.
          Every target of (3) but the last of a window sees less than T tokens of context, half of
          T on average, so the loss is a little higher than that of sliding windows.
          `random` of a NumPy Generator may change its stream between versions of NumPy, the raw
          words of a bit generator may not (NEP 19): hence `random_raw` and a remainder in (2).
          A window that falls anywhere begins in the middle of a story; what it is about may have
          been said before: nobody learns to look back to what is not shown. Hence (5) for short
          documents.
          With accumulation, draw B·A rows and cut them: the data is that of one large batch.
Cost      B·(T + 1) tokens are copied per step; of a memory-mapped file only the touched pages are
          read, so a stream larger than memory trains.
Try       build it    write the windows of (3) with numpy.lib.stride_tricks.sliding_window_view.
          break it    draw with one generator for the whole run, stop, resume. Which test of
                      tests/data/test_loader.py would have noticed?
          measure it  python -m timeit -s "import numpy as np; s = np.arange(9**7)" \\
                      -s "from tinygrad_edu.data.loader import draw_batch" \\
                      "draw_batch(s, 12, 64, seed=1, step=7)"
See       Salmon et al. 2011 "Parallel random numbers: as easy as 1, 2, 3" (Philox) · NEP 19 ·
          Radford et al. 2019, section 2.2 (bytes as the common measure)
"""

import math
import os

import numpy as np

from tinygrad_edu.files.atomic import atomic_write

IGNORED = -1  # the target of a position that is not counted
SCAN = 1 << 22  # tokens that are searched at a time


def encode_documents(documents, encode, separator=None, progress=None):
    """Yield arrays of ids, a piece of a document at a time: all that is in memory at once.

    `encode` turns bytes into ids; the id `separator` stands before every document, the first one
    too, so that each token of text is the target of some position. Neighbours with the same path
    are pieces of one document. progress(bytes) is called after each piece.
    """
    current = None
    for path, text in documents:
        if path != current and separator is not None:
            yield np.array([separator], np.int32)
        current = path
        yield np.asarray(encode(text), np.int32)
        if progress is not None:
            progress(len(text))


def token_stream(documents, encode, separator=None):
    """One stream of tokens (n,) int32 in memory: what `encode_documents` yields, end to end."""
    pieces = list(encode_documents(documents, encode, separator))
    return np.concatenate([np.zeros(0, np.int32), *pieces])


def gather(tokens, starts, context, last=None):
    """Inputs and targets (B, T) int32 of the windows that begin at `starts` (B,): equation (1).

    After position `last` (B,), the end of the stream by default, an input is 0, a target IGNORED.
    """
    positions = starts[:, None] + np.arange(context + 1)
    window = tokens[np.minimum(positions, len(tokens) - 1)].astype(np.int32)  # (B, T + 1)
    window[positions > (len(tokens) - 1 if last is None else last[:, None])] = IGNORED
    inputs = np.maximum(window[:, :-1], 0)
    return inputs, np.ascontiguousarray(window[:, 1:])


def document_starts(tokens, separator):
    """Where documents begin: the positions of `separator` in the stream, (M,) int64.

    Raises ValueError where there is none.
    """
    pieces = [first + np.flatnonzero(tokens[first : first + SCAN] == separator)
              for first in range(0, len(tokens), SCAN)]
    starts = np.concatenate([np.zeros(0, np.int64), *pieces])
    if not len(starts):
        raise ValueError("the text has no documents: let windows begin anywhere")
    return starts


def draw_batch(tokens, batch, context, seed, step, starts=None):
    """Inputs and targets (batch, context) int32 of one training step: equations (1) and (2).

    `seed` and `step` are integers in [0, 2⁶⁴). With `starts`, windows begin at those positions
    only, (5). Raises ValueError where the stream holds no window of context + 1 tokens.
    """
    choices = len(tokens) - context
    if choices < 1:
        raise ValueError(
            f"the text has {len(tokens):,} tokens, a context of {context:,} needs {context + 1:,}"
            " or more: give a longer text or a shorter context"
        )
    key = np.array([seed, step], np.uint64)
    words = np.random.Philox(key=key).random_raw(batch)
    if starts is not None:
        return gather(tokens, starts[words % np.uint64(len(starts))], context)                 # (5)
    places = (words % np.uint64(choices)).astype(np.int64)  # (2); biased by less than n / 2⁶⁴
    return gather(tokens, places, context)


def evaluation_batches(tokens, batch, context, windows=None, starts=None):
    """Yield inputs and targets (B, T) that cover the stream once: equation (3), B ≤ batch.

    With `windows`, only that many, spread evenly over the stream and always the same ones: a quick
    estimate, comparable from step to step. With `starts`, every document by itself, (5). Positions
    past the end have input 0, target IGNORED. Raises ValueError where the stream has no target
    (fewer than two tokens).
    """
    if len(tokens) < 2:
        raise ValueError("the held-out text has fewer than two tokens: give a longer text")
    starts, ends, counts = _windows_of_documents(tokens, context, starts)
    before = np.cumsum(counts) - counts  # windows of all documents that come earlier
    count = int(counts.sum())
    shown = count if windows is None else min(windows, count)
    for first in range(0, shown, batch):
        chosen = np.arange(first, min(first + batch, shown)) * count // shown
        document = np.searchsorted(before, chosen, "right") - 1
        places = starts[document] + (chosen - before[document]) * context                      # (3)
        yield gather(tokens, places, context, ends[document])


def window_count(tokens, context, starts=None):
    """How many windows `evaluation_batches` has when it covers the whole stream."""
    return int(_windows_of_documents(tokens, context, starts)[2].sum())


def _windows_of_documents(tokens, context, starts):
    """Of each document its start, its last target, and how many windows it takes: (5).

    Without `starts` the stream is one document.
    """
    starts = np.zeros(1, np.int64) if starts is None else starts
    ends = np.append(starts[1:], len(tokens) - 1)
    return starts, ends, -(-(ends - starts) // context)


def bits_per_byte(nats_per_token, tokens, text_bytes):
    """Equation (4): a loss that does not depend on the tokenizer.

    `tokens` counts the targets whose mean loss is `nats_per_token`, `text_bytes` the bytes of text
    that those targets stand for (for a whole held-out split: `Corpus.held_out_bytes`).
    """
    return nats_per_token * tokens / (text_bytes * math.log(2))


def token_type(vocabulary):
    """The type that a token file stores: uint16 where every id fits, else uint32; little endian."""
    return np.dtype("<u2") if vocabulary <= 2**16 else np.dtype("<u4")


def write_tokens(path, pieces, vocabulary):
    """Write arrays of ids one after another to a bare binary file; half a file never appears.

    `pieces` may be a generator: only one piece is in memory at a time. Raises ValueError where an
    id is not in [0, vocabulary), OSError where the disk refuses.
    """
    with atomic_write(path) as file:
        for ids in pieces:
            if len(ids) and not 0 <= np.min(ids) <= np.max(ids) < vocabulary:
                raise ValueError(f"a token lies outside 0 … {vocabulary - 1}: wrong tokenizer")
            file.write(np.asarray(ids).astype(token_type(vocabulary)).tobytes())


def read_tokens(path, vocabulary):
    """The ids of a token file, memory-mapped and read-only; `vocabulary` as when it was written.

    Raises ValueError where the file is empty or not a whole number of ids long.
    """
    kind = token_type(vocabulary)
    size = os.path.getsize(path)
    if size == 0 or size % kind.itemsize:
        raise ValueError(
            f"{str(path)!r} has {size:,} bytes, which is no whole number of {kind.itemsize}-byte"
            " tokens: write the file again"
        )
    return np.memmap(path, kind, mode="r")
