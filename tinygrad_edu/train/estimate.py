"""Lesson 5.1 · Estimate: where the memory of training goes

Needs kernel, memory. Used by scripts/train_gpt.py.

Idea      A run that dies after an hour for want of memory was knowable beforehand. Training holds
          two numbers for every parameter (weight, gradient), those of the optimizer (of AdamW two
          averages) and, between the forward and the backward pass, what every closure on the tape
          has kept: that part grows with batch × context.
Math      parameters   (2 + K)·P numbers, K = 2 for AdamW, 1 for Lion                            (1)
          a block keeps, per token: two sums C each, two norms C each, qkv 3C, attention C, hidden
          4C before GELU and 4C after = 16·C numbers, and 4 + H statistics: a mean and an rstd
          for either norm, an lse for each of H heads                                            (2)
          outside: the first sum C, the last sum and norm 2C, the head's gradient C              (3)
          backward holds on top of that the gradients in flight, 8·C a token at the widest place,
          and the V·C that the head sends to the embedding (lesson cross_entropy)                (4)
Shapes    tokens N = batch · context of one pass; P parameters; L blocks of width C
Pitfalls  Peak memory is not the sum of all that was ever allocated: a closure is dropped when it
          has run, so the backward pass frees block by block what the forward pass kept.
          The interpreter, NumPy, the compiled loops and the text itself are there too: they are
          measured, or guessed where they come later, as Numba does where there is no C: with C a
          step of training has no loop of Numba's. For a small model that is a good part of it.
          A gradient that two tensors share (a tied embedding) is still one array.
Cost      Arithmetic only.
Try       build it    the largest batch that fits a given number of gigabytes.
          break it    forget (4) and compare with the measured peak at width 768.
          measure it  the line `memory` that train_gpt.py prints at the start, and the one at the
                      end.
See       Rajbhandari et al. 2020, section 3 (where memory goes)
"""

import sys

from ..kernel import backends
from ..memory import give_back, peak_resident_bytes, resident_bytes

COMPILER = 48 << 20  # bytes for the rest of the loops: more to compile them, less to load them
FIRST_LOOP = 150 << 20  # the same where Numba is not in memory yet
FIRST_CALLS = 16 << 20  # for C kernels and BLAS, until each has run once


def training_bytes(config, tokens, slots=2, itemsize=4):
    """Bytes that training adds at its peak to a process that has its data, for `tokens` a pass.

    slots: numbers that the optimizer keeps of each parameter, its K.
    """
    C, L, V = config.width, config.layers, config.vocabulary
    parameters = (2 + slots) * config.parameter_count()                                        # (1)
    kept = tokens * (16 * C * L + 4 * C + (4 + config.heads) * L)              # (2), (3)
    in_flight = tokens * 8 * C + V * C                                                         # (4)
    return itemsize * (parameters + kept + in_flight)


def estimate_peak(config, tokens, slots=2):
    """The peak of the process's physical memory in bytes, or None where the system tells none."""
    give_back()  # what reading the text has left over would be counted twice
    before, peak = resident_bytes(), peak_resident_bytes()
    if before is None:
        return None
    loops = FIRST_LOOP
    if backends["native"].available():
        loops = FIRST_CALLS
    elif "numba" in sys.modules:
        loops = COMPILER
    return max(peak, before + loops + training_bytes(config, tokens, slots))


def readable(seconds):
    """A duration as people say it: 48 s, 4 min 10 s, 2 h 5 min."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
