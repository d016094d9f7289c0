"""Lesson 2.22 · Stretching the rotary context

Needs rope. Used by models/llama.py.

Idea      A model that was trained on texts of S₀ positions meets angles beyond S₀ that it has never
          seen, and falls apart there. Fine-tuned on a few long texts it goes on, if the angles of
          the longer text are brought back to known ground first. Fast hands of the clock tell
          neighbours apart and have gone round many times in training: they may stay as they are.
          Slow ones have never gone round: they are slowed down further. The published ways differ
          in where they draw that line.
Math      turns of pair i in training          nᵢ = S₀·ωᵢ / 2π                                 (1)
          linear     ωᵢ/s                                                                      (2)
          ntk        another base, base·s^(R/(R−2)): the slowest pair turns s times slower,
                     the fastest as before                                                     (3)
          llama3     gᵢ = clip((nᵢ − low)/(high − low), 0, 1)     ωᵢ·(gᵢ + (1 − gᵢ)/s)           (4)
          yarn       pair number of n turns  p(n) = R·ln(S₀/(2πn)) / (2·ln base);
                     rᵢ = clip((i − p(fast))/(p(slow) − p(fast)), 0, 1)
                     ωᵢ·((1 − rᵢ) + rᵢ/s), and cos and sin times 0.1·ln s + 1                  (5)
          divided    ωᵢ/bᵢ, each by a number of its own that comes with the weights            (6)
Shapes    frequencies (R/2,) in float64 -> (R/2,) · s: how many times longer the context is to be
Pitfalls  The published settings speak of the same things by other names, and a model whose file
          asks for a way that is not known must be refused: without it, it answers short questions
          well and long ones badly.
          (5) cuts p(fast) down and p(slow) up to whole pair numbers; at p = p a thousandth keeps
          the division alive. Its factor scales q and k alike, so scores grow by its square.
Cost      A few numbers, once a model.
Try       build it    dynamic stretching: (3) with the s that the text at hand needs, as it grows.
          break it    exchange low and high in (4). Which test notices?
          measure it  perplexity of a long text with and without, by position.
See       Chen et al. 2023 (linear) · Peng et al. 2024 (YaRN), section 3 · Meta 2024, Llama 3.1
          (model code, frequencies by wavelength)
"""

import math

import numpy as np

from .rope import rope_frequencies


def stretched_frequencies(width, base=10000.0, kind="default", **settings):
    """(frequencies (R/2,), factor of cos and sin) of a rotary context that may be stretched.

    width: R. kind: "default", "linear", "ntk", "llama3", "yarn" or "divided"; settings: those of
    its function below. Raises ValueError for a kind or a setting that is not known.
    """
    if not base > 1:
        raise ValueError(f"a base of {base} leaves no hand slower than the first: more than 1 is "
                         "needed")
    plain = rope_frequencies(width, base)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"the rotary context can be stretched by {', '.join(KINDS)}, "
                         f"not by {kind!r}")
    try:
        return KINDS[kind](plain, base, **settings)
    except TypeError:
        raise ValueError(f"{kind} stretching does not take exactly these settings: "
                         f"{', '.join(sorted(settings)) or 'none'}") from None


def default(plain, base):
    """As they are."""
    return plain, 1.0


def linear(plain, base, factor):
    """All of them slower, (2). Chen et al. 2023, eq. 3."""
    return plain / factor, 1.0


def ntk(plain, base, factor):
    """The slow ones slower, by another base, (3). Peng et al. 2024, eq. 16."""
    width = 2 * len(plain)
    return rope_frequencies(width, base * factor ** (width / max(1, width - 2))), 1.0


def llama3(plain, base, factor, low, high, context):
    """By how often a hand went round in training, (4). context: S₀, low and high: turns."""
    if not low < high:
        raise ValueError(f"llama3 stretching goes over from {low} turns to {high}: upwards only")
    turns = context * plain / (2 * math.pi)                                                    # (1)
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return plain * (keep + (1 - keep) / factor), 1.0                                           # (4)


def yarn(plain, base, factor, context, fast=32.0, slow=1.0, scale=None):
    """By pair number, (5). scale: the factor of cos and sin, where the settings name one."""
    width = 2 * len(plain)

    def pair(turns):
        return width * math.log(context / (2 * math.pi * turns)) / (2 * math.log(base))

    first = max(math.floor(pair(fast)), 0)
    last = min(math.ceil(pair(slow)), width - 1)
    span = max(last - first, 1e-3)
    slower = np.clip((np.arange(len(plain)) - first) / span, 0, 1)
    scale = 0.1 * math.log(factor) + 1 if scale is None and factor > 1 else scale or 1.0
    return plain * (1 - slower + slower / factor), scale                                       # (5)


def divided(plain, base, by):
    """Each by its own number, (6): how a GGUF file says what (4) would give. by: R/2 numbers."""
    by = np.asarray(by, np.float64)
    if by.shape != plain.shape or not (by > 0).all():
        raise ValueError(f"{len(plain)} frequencies are divided by as many numbers above 0, not by "
                         f"{by.size}")
    return plain / by, 1.0


KINDS = {"default": default, "linear": linear, "ntk": ntk, "llama3": llama3, "yarn": yarn,
         "divided": divided}
