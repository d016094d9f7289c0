"""Lesson 1.4 · Kernel: one name, one signature, several bodies

Needs loops, memory, threads. Used by foreign, every op.

Idea      A kernel is a small piece of array arithmetic with a name. Its first body is plain NumPy and is
          the specification. Faster bodies (Numba loops, C, CUDA) are attached right under it and must
          compute the same. Whoever calls a kernel does not say which body runs: the kernel takes the
          first one in a visible list that can serve the call. Since every call passes through one place,
          tracing, checking and forcing a body are written once.
Math      body(call) = first b of the order for the device with  b available ∧ when_b(arguments)   (1)
Shapes    Outputs first, overwritten, never read; then upstream gradients, inputs, statistics, scalars.
          A kernel that updates in place names those parameters: @Kernel(inout=("w", "m", "v")).
Pitfalls  A body that reads its output works until memory is reused. TG_CHECK fills outputs with NaN first.
          A body may use fewer digits than the reference, never fewer than the type has.
          Python scalars arrive as they are: inside a loop, write real = x.dtype.type and real(eps).
Cost      A call through the kernel adds well under 1 µs to the body itself: python -m tinygrad_edu.kernel
Try       build it    attach a body of your own to any kernel: @gelu_forward.body("mine"), then run its tests with
                      TG_BACKEND=mine in the environment.
          break it    let layernorm_forward's Numba body add to y. TG_CHECK=1 and the tests both notice.
          measure it  TG_TRACE=1 python scripts/train_gpt.py --steps 3 …: which kernel takes the most time?
See       llm.c (op_forward, op_backward; outputs first) · Chainer PR 1486 (reference for all, fused where hot)
"""

import atexit
import contextlib
import functools
import inspect
import os
import sys
import time

import numpy as np

from . import loops, memory, threads

kernels = {}                                       # name -> Kernel: the kernel table
PACKAGE = os.path.dirname(__file__) + os.sep
ORDER = {"cpu": ("native", "blas", "numba", "numpy"), "gpu": ("cuda", "numpy")}


class Backend:
    """A way to run bodies: is it there (asked once, when first needed), and what makes a function ready?"""

    def __init__(self, name, available=lambda: True, prepare=lambda function: function):
        self.name = name
        self.available = functools.cache(available)
        self.prepare = prepare


backends = {
    "numpy": Backend("numpy"),
    "blas": Backend("blas"),                       # NumPy, on row blocks: one BLAS thread per block
    "numba": Backend("numba", lambda: loops.compiler() is not None, loops.Compiled),
}


class Body:
    """One implementation of a kernel."""

    def __init__(self, kernel, backend, function, when=None, rows="", sums="", jit=True, grain=threads.GRAIN):
        self.kernel, self.backend, self.function, self.when = kernel, backend, function, when
        self.cut, self.sums = kernel.positions(rows), kernel.positions(sums)
        self.jit, self.grain = jit, grain
        names = list(inspect.signature(function).parameters)
        if names != kernel.parameters:
            raise TypeError(f"{function.__name__}{tuple(names)} must have the parameters of "
                            f"{kernel.name}{tuple(kernel.parameters)}")

    @functools.cached_property
    def run(self):
        """The function, compiled where it is to be, and cut into pieces of rows where the body says so."""
        run = backends[self.backend].prepare(self.function) if self.jit else self.function
        if not self.cut:
            return run
        split = threads.split_product if self.backend == "blas" else threads.split
        options = {"grain": self.grain} | ({"sums": self.sums} if self.sums else {})
        return lambda *args: split(run, args, self.cut, **options)


class Kernel:
    """A callable with one name and one signature; the decorated function is its NumPy reference.

    @Kernel                        the first parameter is the output
    @Kernel(outputs=3)             the first three are
    @Kernel(inout=("w", "m"))      these parameters are updated in place
    """

    def __new__(cls, reference=None, **options):
        if reference is None:                      # @Kernel(outputs=3) is a call that returns the decorator
            return functools.partial(cls, **options)
        return super().__new__(cls)

    def __init__(self, reference, outputs=1, inout=()):
        functools.update_wrapper(self, reference)
        self.name = reference.__name__
        if self.name in kernels:
            raise ValueError(f"there is a kernel called {self.name} already, in {kernels[self.name].__module__}")
        self.parameters = list(inspect.signature(reference).parameters)
        self.inout = self.positions(inout)
        self.outputs = self.inout or tuple(range(outputs))
        self.bodies = {"numpy": Body(self, "numpy", reference)}
        self._plans = {}                           # types of a call -> the bodies that may serve it, best first
        kernels[self.name] = self

    def positions(self, names):
        """Positions of parameters, from a string or sequence of their names."""
        return tuple(self.parameters.index(name) for name in (names.split() if isinstance(names, str) else names))

    def body(self, backend, **options):
        """Attach a body: @kernel.body("numba", rows="y x").

        rows: arguments that may be cut along axis 0 into one piece a thread. sums: outputs that are sums
        over those rows. grain: bytes of rows below which one thread does all. when: a predicate on the
        arguments, where the body cannot serve every call. jit=False: a Numba body that calls compiled
        functions itself.
        """
        def attach(function):
            backends.setdefault(backend, Backend(backend))                     # a learner's own: "mine"
            self.bodies[backend] = Body(self, backend, function, **options)
            self._plans.clear()
            return function
        return attach

    def __call__(self, *args):
        if _watching:
            _watched(self, args)
        else:
            self.choose(args).run(*args)
        for i in self.inout:
            memory.wrote(args[i])

    def choose(self, args):
        """The body that serves a call with these arguments: (1)."""
        key = (_state.forced, *[a.dtype if isinstance(a, np.ndarray) else a.__class__ for a in args])
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._plan(args)
        for body in plan:
            if body.when is None or body.when(*args):
                return body
        raise TypeError(f"no body of {self.name} serves {_describe(args)}")

    def _plan(self, args):
        device = "cpu" if isinstance(args[0], np.ndarray) else "gpu"
        forced = _state.forced
        if forced and not any(forced in kernel.bodies for kernel in kernels.values()):
            known = sorted({name for kernel in kernels.values() for name in kernel.bodies})
            raise ValueError(f"TG_BACKEND={forced}: no kernel has such a body; there are {', '.join(known)}")
        if forced in self.bodies and not backends[forced].available():
            raise ValueError(f"TG_BACKEND={forced}: this backend is not available here")
        order = ((forced,) if forced else ()) + ORDER[device]
        return [self.bodies[name] for name in order if name in self.bodies and backends[name].available()]

    def __repr__(self):
        return f"<kernel {self.name}({', '.join(self.parameters)}): {', '.join(self.bodies)}>"


# ---- force, trace, check: the three environment variables --------------------------------------------

class _State:
    forced = os.environ.get("TG_BACKEND", "")
    trace = os.environ.get("TG_TRACE", "0") not in ("", "0")
    check = os.environ.get("TG_CHECK", "0") not in ("", "0")


_state = _State()
_watching = _state.trace or _state.check
_totals = {}                                       # (kernel, body) -> [calls, seconds, bytes]


@contextlib.contextmanager
def settings(**changes):
    """Change forced="numba", trace=True or check=True inside a `with` block, as the environment does."""
    global _watching
    before = {name: getattr(_state, name) for name in changes}
    try:
        for name, value in changes.items():
            setattr(_state, name, value)
        _watching = _state.trace or _state.check
        yield
    finally:
        for name, value in before.items():
            setattr(_state, name, value)
        _watching = _state.trace or _state.check


def checking():
    """Is TG_CHECK on?"""
    return _state.check


def caller():
    """(file, line) of the innermost frame outside this package: whose code called the library."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _watched(kernel, args):
    body = kernel.choose(args)
    expected = _reference_result(kernel, args) if _state.check else None
    start = time.perf_counter()
    body.run(*args)
    seconds = time.perf_counter() - start
    if _state.trace:
        _trace(kernel, body, args, seconds)
    if _state.check:
        _compare(kernel, body, args, expected)


def _trace(kernel, body, args, seconds):
    size = sum(a.nbytes for a in args if hasattr(a, "nbytes"))
    totals = _totals.setdefault((kernel.name, body.backend), [0, 0.0, 0])
    for i, amount in enumerate((1, seconds, size)):
        totals[i] += amount
    file, line = caller()
    print(f"{kernel.name:<28} {body.backend:<7} {os.path.basename(file)}:{line:<5} {_describe(args)}  "
          f"{seconds * 1e6:.0f} µs  {size / seconds / 1e9:.1f} GB/s", file=sys.stderr)


@atexit.register
def _trace_table():
    if not _totals:
        return
    whole = sum(seconds for _, seconds, _ in _totals.values())
    print(f"\n{'kernel':<28} {'body':<7} {'calls':>8} {'ms':>10} {'share':>6} {'GB/s':>6}", file=sys.stderr)
    for (name, backend), (calls, seconds, size) in sorted(_totals.items(), key=lambda row: -row[1][1]):
        print(f"{name:<28} {backend:<7} {calls:>8} {seconds * 1e3:>10.1f} {seconds / whole:>6.1%} "
              f"{size / seconds / 1e9:>6.1f}", file=sys.stderr)


def _describe(args):
    return " ".join(f"{a.dtype}{list(a.shape)}" if hasattr(a, "shape") else repr(a) for a in args)


def poison(array):
    """Fill with a value that no correct result has: NaN, or the largest number of an integer type."""
    is_float = np.issubdtype(array.dtype, np.floating)
    array[...] = np.nan if is_float else True if array.dtype == bool else np.iinfo(array.dtype).max


def _reference_result(kernel, args):
    """What the reference makes of the call; poisons the outputs that the body is going to overwrite."""
    copies = list(args)
    for i in kernel.outputs:
        copies[i] = args[i].copy()
        if i not in kernel.inout:
            poison(args[i])
            poison(copies[i])
    kernel.bodies["numpy"].run(*copies)
    return [copies[i] for i in kernel.outputs]


def _compare(kernel, body, args, expected):
    for i, want in zip(kernel.outputs, expected, strict=True):
        error = mismatch(args[i], want)
        if error:
            raise AssertionError(f"TG_CHECK: body {body.backend!r} of {kernel.name}, output "
                                 f"{kernel.parameters[i]}: {error} ({_describe(args)})")


def mismatch(got, want, digits=None):
    """A sentence that says where two results differ by more than rounding, or None.

    The error is measured against the largest magnitude of the whole result, as sums of many terms
    demand: 10⁻⁴ of it in float32, 10⁻¹⁰ in float64, nothing for integers. digits: another exponent.
    """
    exponent = digits or {2: 2, 4: 4}.get(got.dtype.itemsize, 10)
    if not np.issubdtype(got.dtype, np.floating):
        wrong = got != want
    else:
        finite = np.isfinite(want)
        scale = np.abs(want[finite]).max(initial=0.0)
        with np.errstate(invalid="ignore"):
            error = np.abs(got.astype(np.float64) - want)
            wrong = np.where(finite, ~(error <= scale * 10.0 ** -exponent), ~((got == want) | np.isnan(got) & np.isnan(want)))
    if not wrong.any():
        return None
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{int(wrong.sum())} of {wrong.size} elements differ, first at {place}: {got[place]} instead of {want[place]}"


if __name__ == "__main__":
    import timeit

    @Kernel
    def plus_one(y, x):
        np.add(x, 1, out=y)

    x = np.zeros(8, np.float32)
    y = np.zeros_like(x)
    direct = min(timeit.repeat(lambda: plus_one.__wrapped__(y, x), number=20000, repeat=7)) / 20000
    through = min(timeit.repeat(lambda: plus_one(y, x), number=20000, repeat=7)) / 20000
    print(f"direct_us={direct * 1e6:.2f} kernel_us={through * 1e6:.2f}")
