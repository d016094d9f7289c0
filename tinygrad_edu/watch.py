"""Lesson 1.4 · Watch: force, trace, check and overhear what runs

Needs memory. Used by kernel, tape, module, growth, hunt.

Idea      Every piece of array arithmetic of this library runs as a kernel: one name for several
          bodies (in NumPy, Numba, C) that compute the same. The body in NumPy is the reference. All
          kernels are called in one place, the next lesson. So four wishes need no line in any
          kernel. Which body is to run? TG_BACKEND=numba forces one. What runs, from which line of
          mine, and where does the time go? TG_TRACE=1 prints a line a call and a table at the end.
          Is a fast body right, here, in my program? TG_CHECK=1 lets the reference compute every
          call as well and compares. And a program that wants to know by itself what happens, such
          as one that looks for the first NaN, hands in a Listener: it is told of every kernel that
          has run, and of the modules and the gradients around it.
Math      right:  |got − want| ≤ 10⁻⁴·max|want|      float64: 10⁻¹⁰      float16: 10⁻²         (1)
          GB/s of a call = bytes of all its arrays / seconds / 10⁹                             (2)
Shapes    A line of the trace: kernel, body, file:line of the caller, type and shape of each
          argument, µs, GB/s.
Pitfalls  A body that reads its output works until memory is reused. So TG_CHECK fills outputs with
          NaN before a body runs; what is updated in place is handed to the reference as a copy.
          Where an output lies on the memory of an input, that NaN would destroy the input: refused.
          An error relative to each element would condemn every sum that nearly cancels; (1) is
          relative to the largest element. A wrong element far below the largest is not noticed by
          (1) alone: tests use several magnitudes.
          Bytes of (2) count each array once; a body that reads one twice moves more than that.
Cost      Off: three looks at a flag. TG_CHECK: the time of the reference and copies of the outputs.
Try       build it    a TG_TRACE that adds up by line of your code and not by kernel.
          break it    leave out `poison`. Which test of tests/test_watch.py notices?
          measure it  python scripts/trace_step.py: which kernel takes the most time?
See       McKeeman 1998, Differential Testing for Software (two programs judge each other) ·
          gfortran -finit-real=snan (memory filled with NaN, so that reading it shows)
"""

import atexit
import contextlib
import functools
import os
import sys
import time

import numpy as np

from .memory import on_host

PACKAGE = os.path.dirname(__file__) + os.sep
NUMPY = os.path.dirname(np.__file__) + os.sep
MODELS = PACKAGE + "models" + os.sep               # where a regular install puts them


class State:
    """What the environment asks for."""

    forced = os.environ.get("TG_BACKEND", "")
    trace = os.environ.get("TG_TRACE", "0") not in ("", "0")
    check = os.environ.get("TG_CHECK", "0") not in ("", "0")
    listeners = ()


state = State()
_totals = {}  # (kernel, body) -> [calls, seconds, bytes]


@contextlib.contextmanager
def settings(**changes):
    """Change forced="numba", trace=True or check=True inside a `with` block, as TG_… would."""
    before = {name: getattr(state, name) for name in changes}
    try:
        vars(state).update(changes)
        yield
    finally:
        vars(state).update(before)


def checking():
    """Is TG_CHECK on?"""
    return state.check


class Listener:
    """Somebody who wants to know what happens; a subclass overrides what it wants to hear.

    Arrays are shown, not given: a listener looks at them at once, and writes into none.
    """

    def kernel_ran(self, body, args):
        """A kernel has run; its outputs, args[i] for i in body.kernel.outputs, are filled in."""

    def numpy_ran(self, function, args, writes):
        """NumPy has worked outside of all kernels: function(*args), which wrote args[writes]."""

    def number_grew(self, owner, name):
        """A whole number that Python keeps, the attribute of that name, has become one larger."""

    def value_read(self, what):
        """Python has looked at a number of an array, and may decide by it; `what` says where."""

    def module_called(self, module, inputs):
        """The forward of a module is about to run."""

    def module_returned(self, module, inputs, output):
        """The forward of a module has run."""

    def node_recorded(self, node):
        """An operation has left a node on the tape."""

    def gradient_arrived(self, node, grad):
        """The whole gradient of a node's result is there, and its vjp is about to run."""

    def gradient_sent(self, node, grads):
        """The vjp of a node has returned the gradients of the node's parents."""


def listening(listener):
    """Tell a Listener what happens inside a `with` block, beside those who listen already."""
    return settings(listeners=(*state.listeners, listener))


def tell(event, *what):
    """Call the method `event` of everybody who listens."""
    for listener in state.listeners:
        getattr(listener, event)(*what)


def told(function, *args, writes=0):
    """function(*args), a piece of NumPy outside of all kernels, and tell who listens of it.

    writes: the position of the array that it writes into, None where it only looks.
    """
    result = function(*args)
    if state.listeners:
        tell("numpy_ran", function, args, writes)
    return result


def looks(what):
    """Say that Python looks at a number of an array here."""
    if state.listeners:
        tell("value_read", what)


def caller():
    """(file, line) of the innermost frame outside this package: whose code called the library.

    A model is such code, wherever it is installed. NumPy, which calls us back, is not.
    """
    frame = sys._getframe(1)
    while frame.f_back:
        if not _is_ours(frame.f_code.co_filename):
            break
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


@functools.cache
def _is_ours(file):
    return file.startswith((PACKAGE, NUMPY)) and not file.startswith(MODELS)


def run_watched(body, args):
    """body.run(*args), traced, checked and told of as the settings say."""
    kernel = body.kernel
    expected = _reference_result(kernel, args) if state.check else None
    start = time.perf_counter()
    body.run(*args)
    if state.trace and not isinstance(args[0], np.ndarray):
        on_host(args[0].reshape(-1)[:1])  # a launch returns at once: wait until it has run
    seconds = max(time.perf_counter() - start, 1e-9)  # a coarse clock may see no time pass
    if state.trace:
        _trace(kernel, body, args, seconds)
    if state.check:
        _compare(kernel, body, args, expected)
    tell("kernel_ran", body, args)


def _trace(kernel, body, args, seconds):
    size = sum(a.nbytes for a in args if hasattr(a, "nbytes"))
    calls, before, moved = _totals.get((kernel.name, body.backend), (0, 0.0, 0))
    _totals[kernel.name, body.backend] = calls + 1, before + seconds, moved + size
    file, line = caller()
    place = f"{os.path.basename(file)}:{line:<5}"
    print(f"{kernel.name:<28} {body.backend:<7} {place} {describe(args)}  "
          f"{seconds * 1e6:.0f} µs  {size / seconds / 1e9:.1f} GB/s", file=sys.stderr)


@atexit.register
def _trace_table():
    if not _totals:
        return
    whole = sum(seconds for _, seconds, _ in _totals.values())
    print(f"\n{'kernel':<28} {'body':<7} {'calls':>8} {'ms':>10} {'share':>6} {'GB/s':>6}",
          file=sys.stderr)
    rows = sorted(_totals.items(), key=lambda row: -row[1][1])
    for (name, backend), (calls, seconds, size) in rows:
        print(f"{name:<28} {backend:<7} {calls:>8} {seconds * 1e3:>10.1f} {seconds / whole:>6.1%} "
              f"{size / seconds / 1e9:>6.1f}", file=sys.stderr)


def describe(args):
    """Types and shapes of the arguments of a call, in a line."""
    return " ".join(f"{a.dtype}{list(a.shape)}" if hasattr(a, "shape") else repr(a) for a in args)


def poison(array):
    """Fill with a value that no correct result has: NaN, or the largest of an integer type."""
    if np.issubdtype(array.dtype, np.floating):
        array[...] = np.nan
    else:
        array[...] = True if array.dtype == bool else np.iinfo(array.dtype).max


def _reference_result(kernel, args):
    """What the reference makes of the call; poisons the outputs that are to be overwritten."""
    copies = [on_host(a) if hasattr(a, "strides") else a for a in args]
    for i in kernel.outputs:
        _must_lie_alone(kernel, args, i)
        copies[i] = copies[i].copy()
        if i not in kernel.inout:
            poison(args[i])
            poison(copies[i])
    kernel.bodies["numpy"].run(*copies)
    return [copies[i] for i in kernel.outputs]


def _must_lie_alone(kernel, args, i):
    for k, other in enumerate(args):
        if k not in kernel.outputs and hasattr(other, "shape") and np.shares_memory(args[i], other):
            raise AssertionError(f"TG_CHECK: {kernel.name} would overwrite its input "
                                 f"{kernel.parameters[k]}, on which {kernel.parameters[i]} lies")


def _compare(kernel, body, args, expected):
    for i, want in zip(kernel.outputs, expected, strict=True):
        floor = _rounding_of_a_sum(kernel, args) if i in body.sums else 0.0
        error = mismatch(on_host(args[i]), want, floor=floor)
        if error:
            raise AssertionError(f"TG_CHECK: body {body.backend!r} of {kernel.name}, output "
                                 f"{kernel.parameters[i]}: {error} ({describe(args)})")


def _rounding_of_a_sum(kernel, args):
    """How far two orders of adding the inputs of a call may lead apart, where they cancel."""
    inputs = [a for i, a in enumerate(args) if i not in kernel.outputs and hasattr(a, "dtype")]
    floats = [on_host(a) for a in inputs if a.dtype.kind == "f"]
    return max(float(32 * np.finfo(a.dtype).eps * np.abs(a).max(initial=0.0)) for a in floats)


def mismatch(got, want, digits=None, floor=0.0):
    """A sentence that says where two results differ by more than rounding, (1), or None.

    The error is measured against the largest magnitude of the whole result, as sums of many terms
    demand. Integers must be equal. digits: another exponent than that of (1). floor: an error that
    is allowed in any case, for sums whose terms cancel to almost nothing.
    """
    exponent = digits or {2: 2, 4: 4}.get(got.dtype.itemsize, 10)
    wrong = got != want
    if np.issubdtype(got.dtype, np.floating):
        finite = np.isfinite(want)
        limit = max(floor, np.abs(want[finite]).max(initial=0.0) * 10.0 ** -exponent)
        with np.errstate(invalid="ignore"):
            near = finite & (np.abs(got.astype(np.float64) - want) <= limit)
        wrong &= ~near & ~(np.isnan(got) & np.isnan(want))
    if not wrong.any():
        return None
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (f"{int(wrong.sum())} of {wrong.size} elements differ, first at {place}: {got[place]} "
            f"instead of {want[place]}")
