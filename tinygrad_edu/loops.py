"""Lesson 1.3 · Loops: what makes a Numba loop fast

Needs nothing. Used by kernel, every op.

Idea      Numba compiles a Python loop to machine code when it is first called. The compiler (LLVM)
          turns it into vector instructions, which work on four to sixteen numbers at a time, if
          nothing stands in its way: a division that could raise, a sum whose order it must keep, a
          call to the C library's exp. This file sets the options that clear the way, and has an
          exp that is plain arithmetic, hence a vector loop.
Math      exp(x) = 2ⁿ · exp(r)      n = ⌊x/ln 2 + ½⌋      r = x − n·ln 2, |r| ≤ ½ ln 2         (1)
          exp(r) ≈ 1 + r + r²·P(r), a polynomial with as many terms as the type has digits     (2)
          2ⁿ: n + 127 (float64: 1023), moved into the exponent bits                            (3)
          σ(x) = 1/(1 + exp(−x))      tanh(x) = 2σ(2x) − 1                                     (4)
Shapes    Scalars, inside loops; the type of the argument chooses the polynomial.
Pitfalls  A Python literal is a float64: 0.5 * x turns a float32 loop into a slow float64 one.
          Write `real = x.dtype.type` and real(0.5).
          ln 2 is taken away in two parts, the first short enough that n·part is exact: otherwise
          the error grows with n. A compiler that may reorder sums undoes it: so exp has options
          of its own.
          exp ends where its 2ⁿ would leave the normal numbers: 0 below, and above a constant near
          the largest number where the true value soon overflows to infinity.
          tanh by (4) has an absolute error near 1e-7, no relative one near 0: fine inside GELU
          (lesson activation), wrong for tanh.
          Never `fastmath=True`: it also promises that no NaN occurs, and then a NaN passes every
          test.
          Numba keeps compiled code beside the file it belongs to, and looks only at that file for
          changes: after editing a @helper of another file, delete __pycache__/*.nb*.
Cost      One exp: about 20 arithmetic instructions for a whole vector. With it a float32 loop of
          x·σ(x) runs several times faster than with the C library's exp:
          python -m tinygrad_edu.loops
Try       build it    a log in the same manner: split the exponent off, a polynomial for the rest.
          break it    leave error_model at its default. How much slower does the measurement get,
                      and why?
          measure it  python -m tinygrad_edu.loops
See       Cody, Waite 1980 (argument reduction) · IEEE 754 · Numba manual, "Performance tips"
"""

import functools
import math
import sys
import time
import warnings

# reassoc: a sum may be added up in another order; contract: a·b + c in one instruction; nsz: the
# sign of a zero result does not matter; arcp: x/c may be x·(1/c). NaN and infinity keep their
# meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}
OPTIONS = {"error_model": "numpy", "fastmath": FAST}  # numpy: 1/0 is infinity, not an exception
# Without reassoc, which would add the two parts of ln 2 in (1) together again.
OPTIONS_OF_EXP = {"error_model": "numpy", "fastmath": {"contract"}}


def exp(x):
    """eˣ. In a compiled loop the polynomial (1)-(3), which is 0 below −87.3 (float64: −708) and
    the constant exp(88.37) (float64: exp(709.4)) above that number."""
    return math.exp(x)


def sigmoid(x):
    """1/(1 + e⁻ˣ), (4)."""
    return 1 / (1 + exp(-x))


@functools.cache
def compiler():
    """numba.njit with the options of this library; None where Numba cannot be imported."""
    try:
        import numba
    except ImportError as error:
        message = f"NumPy alone serves, which is slow: Numba cannot be imported ({error})"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return None
    _teach(numba)
    return functools.partial(numba.njit, nogil=True, **OPTIONS)


def compiles_for(dtype):
    """Can a compiled loop read this type? Not half or extended floats, nor bytes swapped round."""
    return dtype.isnative and (dtype.kind in "biu" or dtype.name in ("float32", "float64"))


def _teach(numba):
    """Tell Numba what `exp` and `sigmoid` of this file mean in a compiled loop."""
    from numba.extending import overload
    from numpy import float32

    by_type = {numba.float32: _exp_float32(), numba.float64: _exp_float64()}

    @overload(exp, jit_options=OPTIONS_OF_EXP)
    def _(x):
        return by_type.get(x, by_type[numba.float64])

    @overload(sigmoid, jit_options=OPTIONS)
    def _(x):
        one = float32(1) if x == numba.float32 else 1.0
        return lambda x: one / (one + exp(-x))                                                # (4)


def _exp_float32():
    import numpy as np

    f4, i4 = np.float32, np.int32

    def exp_float32(x):
        c = min(max(x, f4(-87.3)), f4(88.37))  # so that 2ⁿ is a normal number
        n = np.floor(c * f4(1.44269504) + f4(0.5))                                            # (1)
        r = c - n * f4(0.693359375) + n * f4(2.12194440e-4)
        p = f4(1 / 5040)
        p = p * r + f4(1 / 720)
        p = p * r + f4(1 / 120)
        p = p * r + f4(1 / 24)
        p = p * r + f4(1 / 6)
        p = p * r + f4(1 / 2)
        p = p * r * r + r + f4(1)                                                             # (2)
        scale = i4((n + f4(127)) * f4(1 << 23)).view(f4)                                      # (3)
        return f4(0) if x < f4(-87.3) else p * scale

    return exp_float32


def _exp_float64():
    import numpy as np

    f8, i8 = np.float64, np.int64
    terms = tuple(1 / math.factorial(k) for k in range(13, 1, -1))

    def exp_float64(x):
        c = min(max(x, -708.0), 709.4)
        n = np.floor(c * 1.4426950408889634 + 0.5)                                            # (1)
        r = c - n * 0.693145751953125 - n * 1.42860682030941723212e-6
        p = 0.0
        for term in terms:
            p = p * r + term
        p = p * r * r + r + 1.0                                                               # (2)
        scale = i8(i8(n + 1023.0) << i8(52)).view(f8)                                         # (3)
        return 0.0 if x < -708.0 else p * scale

    return exp_float64


_helpers = []


def helper(function):
    """Mark a plain function so that compiled loops may call it; it is compiled into them."""
    _helpers.append(function)
    return function


class Compiled:
    """A loop that is compiled when it is first called with a new combination of types.

    Compiling takes a noticeable time: a line on the terminal says so. The code is kept in a file
    for the next run; a loop that was typed in, and has no file, is compiled in every run.
    """

    def __init__(self, function):
        njit = compiler()
        while _helpers:
            from numba.extending import register_jitable
            register_jitable(**OPTIONS)(_helpers.pop())
        try:
            self.dispatcher = njit(cache=True)(function)
        except RuntimeError:  # no place to keep it
            self.dispatcher = njit(function)
        self.name = function.__name__
        self.known = 0  # combinations of types
        self.compiled = 0  # of those, how many were not found on the disk

    def __call__(self, *args):
        start = time.perf_counter()
        self.dispatcher(*args)
        known = len(self.dispatcher.overloads)
        if known > self.known:
            self.known = known
            # Threads that waited for the same compilation come here too; the first one tells.
            compiled = sum(self.dispatcher.stats.cache_misses.values())
            before, self.compiled = self.compiled, compiled
            if compiled > before:
                _report(self.name, time.perf_counter() - start)


_compiled = [0, 0.0]  # loops, seconds


def _report(name, seconds):
    """One line on a terminal that is overwritten: what has been compiled so far."""
    _compiled[0] += 1
    _compiled[1] += seconds
    if sys.stderr.isatty():
        text = f"compiled {_compiled[0]} loops in {_compiled[1]:.1f} s (kept for next time): {name}"
        print(f"\r{text[:99]:<99}", end="\r", file=sys.stderr, flush=True)


def _measure(rounds=30):
    from statistics import median

    import numpy as np

    def by_polynomial(y, x):
        for i in range(x.size):
            y[i] = x[i] * sigmoid(x[i])

    def by_library(y, x):
        for i in range(x.size):
            y[i] = x[i] / (x.dtype.type(1) + math.exp(-x[i]))

    x = np.random.default_rng(0).standard_normal(1 << 20, np.float32)
    y = np.empty_like(x)
    loops = {f.__name__: compiler()(f) for f in (by_polynomial, by_library)}
    times = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop(y, x)
            times[name].append(time.perf_counter() - start)
    return {name: median(values) * 1e9 / x.size for name, values in times.items()}


if __name__ == "__main__":
    print(" ".join(f"{name}_ns={ns:.2f}" for name, ns in _measure().items()))
