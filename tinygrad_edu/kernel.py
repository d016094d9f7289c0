"""Lesson 1.5 · Kernel: one name, one signature, several bodies

Needs loops, memory, threads, watch. Used by foreign, every op.

Idea      A kernel is a small piece of array arithmetic with a name. Its first body is plain NumPy
          and is the specification. Faster bodies (Numba loops, C, CUDA) are attached right under it
          and must compute the same. Whoever calls a kernel does not say which body runs: the kernel
          takes the first one in a visible list that can serve the call. Since every call passes
          through one place, tracing, checking and forcing a body are written once.
Math      body(call) = first b of the order for the device with  b is available and
                       when_b(arguments) holds                                                (1)
Shapes    Outputs first, overwritten, never read; then gradients that arrive (dy), inputs,
          statistics, scalars. A kernel that updates in place names those parameters:
          @Kernel(inout="w m v").
Pitfalls  A body that reads its output works until memory is reused. Nor may an output lie on the
          memory of an input: writing one destroys the other. TG_CHECK=1 notices both: lesson watch.
          A body may use fewer digits than the reference, never fewer than the type has.
          Python scalars arrive as they are: inside a loop, write real = x.dtype.type and real(eps).
          A forced body serves the kernels that have it; the others run as usual.
Cost      A call through the kernel adds a look at the types of its arguments to the time of the
          body, about a microsecond: python -m tinygrad_edu.kernel
Try       build it    attach a body of your own to any kernel: @gelu_forward.body("mine"), then run
                      its tests with TG_BACKEND=mine in the environment.
          break it    let layernorm_forward's Numba body add to y. TG_CHECK=1 and the tests notice.
          measure it  python -m tinygrad_edu.kernel: how long is a call of NumPy on eight numbers,
                      and how much longer through a kernel?
See       llm.c (op_forward, op_backward; outputs first) · Chainer pull request 1486 (a reference
          for all functions, fused where hot)
"""

import functools
import inspect

import numpy as np

from . import loops, memory, threads
from .watch import describe, run_watched, state
from .watch import mismatch as mismatch  # whoever has a kernel in hand finds these three here too
from .watch import poison as poison
from .watch import settings as settings

kernels = {}  # name -> Kernel: the kernel table
ORDER = {"cpu": ("native", "blas", "numba", "numpy"),
         "gpu": ("cuda", "numpy")}  # a reference serves arrays of CuPy, which answer NumPy's calls
MEANT = {"emulator": "cuda"}  # on NumPy arrays a CUDA body runs in the emulator: lesson launch


def refuse_unknown_backend():
    """Raise ValueError where TG_BACKEND forces a body that no kernel has."""
    known = {name for kernel in kernels.values() for name in kernel.bodies} | set(MEANT)
    if state.forced and state.forced not in known:
        raise ValueError(f"TG_BACKEND={state.forced}: no kernel has such a body; there are "
                         f"{', '.join(sorted(known))}")


class Backend:
    """A way to run bodies: is it there (asked once, when needed), what makes a function ready?"""

    def __init__(self, name, available=lambda: True, prepare=lambda function: function):
        self.name = name
        self.available = functools.cache(available)
        self.prepare = prepare


backends = {
    "numpy": Backend("numpy"),
    "blas": Backend("blas"),  # NumPy, on row blocks: one BLAS thread per block
    "numba": Backend("numba", lambda: loops.compiler() is not None, loops.Compiled),
}


def asked_once(predicate, each_time=None):
    """A predicate for `when` that looks at nothing but types and flags of the arguments.

    A kernel asks it once for every combination of those, and keeps the answer. each_time: what has
    to hold beside it, a predicate that is asked at every call.
    """
    def when(*args):
        return predicate(*args) and (each_time is None or each_time(*args))
    functools.update_wrapper(when, predicate)
    when.parts = predicate, each_time
    return when


def also(available, each_time):
    """A predicate on the arguments that holds where a backend is there and `each_time` holds."""
    return lambda *args: available() and (each_time is None or each_time(*args))


class Body:
    """One implementation of a kernel; the options are those of `Kernel.body`."""

    def __init__(self, kernel, backend, function, when=None, rows="", sums="", jit=True,
                 grain=threads.GRAIN):
        self.kernel, self.backend, self.function, self.when = kernel, backend, function, when
        self.cut, self.sums = kernel.positions(rows), kernel.positions(sums)
        self.jit, self.grain = jit, grain
        names = list(inspect.signature(function).parameters)
        if names != kernel.parameters:
            raise TypeError(f"{function.__name__}({', '.join(names)}) must have the parameters of "
                            f"{kernel.name}({', '.join(kernel.parameters)})")

    @functools.cached_property
    def run(self):
        """The function, compiled where it is to be, and cut into pieces of rows if it says so."""
        run = backends[self.backend].prepare(self.function) if self.jit else self.function
        if not self.cut:
            return run
        options = {"grain": self.grain} | ({"sums": self.sums} if self.sums else {})
        split, counted, few = threads.split, self.cut, self.grain
        if self.backend == "blas":
            split = threads.split_product
            counted, few = range(len(self.kernel.parameters)), min(few, threads.BLAS_GRAIN)

        def whole_or_in_pieces(*args):
            size = 0
            for i in counted:
                size += getattr(args[i], "nbytes", 0)
            if size < few:  # a short way to what `split` would do
                run(*args)
            else:
                split(run, args, self.cut, **options)
        return whole_or_in_pieces


class Kernel:
    """A callable with one name and one signature; the decorated function is its NumPy reference.

    @Kernel                        the first parameter is the output
    @Kernel(outputs=3)             the first three are
    @Kernel(inout="w m")           these are updated in place, and there is no other output
    @Kernel(outputs=1, inout="m")  both

    Raises ValueError where there is a kernel of this name. Only in __main__ it may be defined once
    more: by a learner, or by python -m, which runs a lesson that the package has imported before.
    """

    def __new__(cls, reference=None, **options):
        if reference is None:  # @Kernel(outputs=3) is a call that returns the decorator
            return functools.partial(cls, **options)
        return super().__new__(cls)

    def __init__(self, reference, outputs=None, inout=()):
        functools.update_wrapper(self, reference)
        self.name = reference.__name__
        other = kernels.get(self.name)
        if other and "__main__" not in (self.__module__, other.__module__):
            raise ValueError(f"there is a kernel called {self.name} already, in {other.__module__}")
        self.parameters = list(inspect.signature(reference).parameters)
        self.inout = self.positions(inout)
        overwritten = (0 if inout else 1) if outputs is None else outputs
        self.outputs = (*range(overwritten), *self.inout)
        self.bodies = {"numpy": Body(self, "numpy", reference)}
        self._plans = {}  # types and flags of a call -> [(body, what to ask each time)]
        kernels[self.name] = self

    def positions(self, names):
        """Positions of parameters, from a string or a sequence of their names."""
        names = names.split() if isinstance(names, str) else names
        for name in names:
            if name not in self.parameters:
                raise ValueError(f"{self.name} has no parameter {name!r}")
        return tuple(self.parameters.index(name) for name in names)

    def body(self, backend, **options):
        """Attach a body: @kernel.body("numba", rows="y x").

        rows: arguments that may be cut along axis 0 into one piece a thread. sums: outputs that
        are sums over those rows. grain: bytes of rows below which one thread does all. when: a
        predicate on the arguments, where the body cannot serve every call (see asked_once).
        jit=False: a Numba body that is not compiled, because it calls compiled functions, or NumPy
        on a piece of rows.
        Raises TypeError if its parameters are others.
        """
        def attach(function):
            self.bodies[backend] = Body(self, backend, function, **options)
            backends.setdefault(backend, Backend(backend))  # a learner's own: "mine"
            self._plans.clear()
            return function
        return attach

    def __call__(self, *args):
        body = self.choose(args)
        if state.trace or state.check or state.listeners:
            run_watched(body, args)
        else:
            body.run(*args)
        for i in self.inout:
            memory.wrote(args[i])

    def choose(self, args):
        """The body that serves a call with these arguments: (1)."""
        key = [state.forced]
        for a in args:
            key += (a.dtype, a.flags.num) if isinstance(a, np.ndarray) else (a.__class__,)
        key = tuple(key)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._plan(args)
        for body, serves in plan:
            if serves is None or serves(*args):
                return body
        raise TypeError(f"no body of {self.name} serves {describe(args)}")

    def _plan(self, args):
        device = "cpu" if isinstance(args[0], np.ndarray) else "gpu"
        loops_serve = all(loops.compiles_for(a.dtype) for a in args if isinstance(a, np.ndarray))
        refuse_unknown_backend()
        forced = MEANT.get(state.forced, state.forced)
        if device == "gpu" and forced in ORDER["cpu"][:-1]:
            forced = ""  # what runs on the CPU alone cannot be asked for arrays of a GPU
        if forced in self.bodies and not backends[forced].available():
            raise ValueError(f"TG_BACKEND={state.forced}: this backend is not available here")
        plan = []
        for name in ((forced,) if forced else ()) + ORDER[device]:
            if name not in self.bodies or (name == "numba" and not loops_serve):
                continue
            body, backend = self.bodies[name], backends[name]
            once, each_time = getattr(body.when, "parts", (None, body.when))
            if once is not None and not once(*args):
                continue
            if plan:  # whether it is there is asked once the others have refused a call, no sooner:
                each_time = also(backend.available, each_time)  # importing Numba takes its time
            elif not backend.available():
                continue
            plan.append((body, each_time))
            if each_time is None:
                break
        return plan

    def __repr__(self):
        return f"<kernel {self.name}({', '.join(self.parameters)}): {', '.join(self.bodies)}>"


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
