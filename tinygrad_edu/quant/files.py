"""Lesson 6.4 · A model of fewer bits, as a file

Needs blocks. Used by scripts/quantize.py.

Idea      What lessons affine and int4_groups do to one matrix is done to a whole model, in the
          blocks of lesson blocks, and written as a GGUF file, which llama.cpp reads as well. The
          matrices become small; vectors, a thousandth of the numbers, stay as they are. Some
          layers suffer more from it than others, often the first, the last and those that feed the
          residual stream: they can be left out by name.
Math      bytes of a matrix (F, K) = F·K/(numbers of a block)·(bytes of a block)                (1)
          rise = perplexity after / perplexity before − 1                                       (2)
Shapes    a pattern such as "blk.0.*" or "output.weight" names tensors as they are called in a GGUF
Pitfalls  A model that is rounded already, rounded once more, keeps both errors: start from the
          floats that it was made of, if they are to be had.
          A tied head is the embedding: both are rounded, or neither.
          Rows that are no multiple of a block cannot be cut into blocks. One NaN takes the scale of
          31 others with it; llama.cpp does not look, and answers nonsense.
          (2) of a few thousand tokens is noise of some tenths of a percent.
Cost      One pass over the weights; two copies of the largest matrix.
Try       build it    choose for each matrix the smallest kind whose error is below a limit.
          break it    round the norms' vectors, too. What does (2) say?
          measure it  python scripts/quantize.py MODEL --to q4_0 --out FILE.gguf
See       ggml, examples/quantize · Dettmers, Zettlemoyer 2023 (which bits pay)
"""

from fnmatch import fnmatchcase

import numpy as np

from ..files.blocks import READ

ROUNDED = set(READ) - {"F32", "F16", "BF16"}


def kinds_of(weights, kind, keep=()):
    """{name: kind} for weights {name in the file: array}, checked.

    keep: patterns of names; what one of them fits stays F32, as vectors do. ValueError that names
    the tensor for rows that are no blocks, for NaN and infinity, and for a pattern that fits none.
    """
    kinds, unused = {}, list(keep)
    for name, array in weights.items():
        fits = [pattern for pattern in keep if fnmatchcase(name, pattern)]
        unused = [pattern for pattern in unused if pattern not in fits]
        kinds[name] = "F32" if fits or array.ndim < 2 else kind
        must_be_finite(name, array)
        size = READ[kinds[name]][0]
        if array.shape[-1] % size:
            raise ValueError(f"{name} has rows of {array.shape[-1]} numbers, and {kind} wants a "
                             f"multiple of {size}: leave it out with --keep {name}")
    if unused:
        raise ValueError(f"no weight is called {unused[0]!r}; there are {', '.join(kinds)[:200]}")
    return kinds


def must_be_finite(name, array):
    """ValueError that names the first place of a NaN or an infinity."""
    bad = ~np.isfinite(array)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name} has {array[place]} at {place}: a model with such a weight "
                         "answers nothing, so there is nothing to round")


def rounded_in(kinds):
    """Which kinds of a file are rounded already: for {name: kind}, a sorted list."""
    return sorted(set(kinds) & ROUNDED)
