"""Lesson 1.2 · Threads: one owner of the cores

Needs memory. Used by kernel, every op.

Idea      Two libraries that each keep a pool of threads fight over the cores: after a matrix
          product the threads of BLAS (the library that multiplies NumPy's matrices) go on spinning
          for a while, in case another product follows, and the loops in between find every core
          busy. So one party owns the cores: this file. Every loop of the library is serial; an
          operation on many rows is cut into one piece of rows per thread here, and so is a matrix
          product, whose pieces call BLAS limited to one thread.
          Python runs one thread at a time, but compiled loops and NumPy's products let go of the
          lock that says so (the GIL) while they work: that is when the pieces run side by side.
Math      rows of piece i of p:  ⌊i·N/p⌋ … ⌊(i+1)·N/p⌋                                         (1)
          a sum over rows:  Σ over pieces, in order, of (sum over the rows of the piece)       (2)
Shapes    `split(f, args, cut)` cuts the arguments at the positions in `cut` along their first axis.
Pitfalls  Pieces must not share an output row. A sum over rows (a weight gradient) needs a part per
          piece and a last addition (`sums` below). Floating-point addition is not associative, so
          by (2) the result depends on the number of threads, never on which one was faster.
          A forked child has the memory of its parent but none of its threads, and would wait for
          them forever: the pool is made anew after a fork.
          Ctrl-C can strike while the caller waits and workers still write. Then those workers are
          left to finish by themselves, and the next call gets new ones.
Cost      Handing a piece over and waiting for it costs two locks and two switches of threads, more
          than a small array is worth: below GRAIN bytes everything stays on the calling thread.
          Product, then tanh, alternating; our pool against BLAS' own:
          python -m tinygrad_edu.threads
          Why this way, from a program that was written for the question and not kept (two cores of
          a Zen 4): a product (2048, 192) x (192, 768), then GELU in C, alternating, took 3.5 ms;
          with the loop on OpenMP's threads and the product on those of BLAS 8.0 ms. OpenMP that
          waits without spinning (OMP_WAIT_POLICY=passive) is as fast as we are, and so is BLAS that
          stops spinning early (OPENBLAS_THREAD_TIMEOUT=4); but both are read when the library is
          loaded, and NumPy may have been imported before us. It costs a little where rows are few
          and the weight is large, since each piece arranges the whole weight anew: 7.3 ms against
          6.8 for 256 rows and (768, 3072).
Try       build it    let the caller take small pieces from a queue until none is left. When does
                      it win?
          break it    cut a sum over rows without parts. Which test of tests/test_threads.py
                      notices?
          measure it  python -m tinygrad_edu.threads
See       OpenBLAS issue 3187, scikit-learn issue 28883 (alternating pools) · threadpoolctl
"""

import contextlib
import ctypes
import functools
import glob
import os
import threading

import numpy as np

from . import memory

GRAIN = 1 << 19  # bytes of cut arguments below which one thread does all
BLAS_GRAIN = 36 << 10  # bytes of a whole product below which OpenBLAS wakes no thread by itself


class Worker(threading.Thread):
    """One thread that waits for a piece of work, without spinning."""

    def __init__(self):
        super().__init__(daemon=True)
        # A lock that is held at the start is a door: the other side opens it by releasing.
        self.ready, self.done = threading.Lock(), threading.Lock()
        self.ready.acquire()
        self.done.acquire()
        self.start()

    def give(self, function, args):
        """Start function(*args) on this thread."""
        self.work, self.error = (function, args), None
        self.ready.release()

    def wait(self):
        """Wait until the work is done; returns its exception, or None."""
        self.done.acquire()
        error, self.error = self.error, None
        return error

    def run(self):
        """What the thread does, until the process ends."""
        while True:
            self.ready.acquire()
            function, args = self.work
            try:
                function(*args)
            except BaseException as error:  # whatever it was, it belongs to the caller
                self.error = error
            self.work = function = args = None  # an idle thread keeps no array alive
            self.done.release()


class Pool:
    """The calling thread and count − 1 workers; a second caller at the same time works alone."""

    def __init__(self, count):
        self.count = count
        self.workers = []
        self.busy = threading.Lock()

    def run(self, function, pieces):
        """Call function(*args) for each args of pieces, all at once.

        The first exception of a piece is raised here, after every piece has ended.
        """
        if len(pieces) == 1 or not self.busy.acquire(blocking=False):
            for args in pieces:
                function(*args)
            return
        try:
            self._run(function, pieces)
        finally:
            self.busy.release()

    def together(self, function):
        """Call function(number, count) on all threads at once, so that they can wait for each other.

        A second caller at the same time gets function(0, 1).
        """
        if self.count == 1 or not self.busy.acquire(blocking=False):
            function(0, 1)
            return
        try:
            self._run(function, [(number, self.count) for number in range(self.count)])
        finally:
            self.busy.release()

    def _run(self, function, pieces):
        while len(self.workers) < len(pieces) - 1:
            self.workers.append(Worker())
        workers, self.workers = self.workers, []  # back when all have answered, and only then
        given = list(zip(workers, pieces[1:], strict=False))
        for worker, args in given:
            worker.give(function, args)
        try:
            function(*pieces[0])
        finally:
            errors = [worker.wait() for worker, _ in given]
            self.workers = workers
        error = next(filter(None, errors), None)
        if error is not None:
            try:
                raise error
            finally:
                del error, errors  # the traceback holds this frame: no circle, no arrays in it


def default_count():
    """OMP_NUM_THREADS where it is set, as elsewhere in numerical computing, else the cores."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # those this process may use
    return os.cpu_count() or 1


pool = Pool(default_count())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: pool.__init__(pool.count))


def count():
    """How many threads the library uses."""
    return pool.count


def use(threads):
    """Use this many threads from now on."""
    pool.count = threads


@contextlib.contextmanager
def limit(threads):
    """Use this many threads inside the `with` block, whichever thread of the program calls."""
    before, pool.count = pool.count, threads
    try:
        yield
    finally:
        pool.count = before


def split(function, args, cut, sums=(), grain=GRAIN):
    """Call function on pieces of rows, one piece a thread.

    cut: positions of the arguments that are cut along axis 0, all of the same length N: (1).
    sums: positions of outputs that are sums over the rows: each piece fills an array of its own,
    and those are added up in order at the end, (2). grain: bytes below which the call is not cut.
    Raises ValueError where the arguments to be cut differ in length.
    """
    rows = len(args[cut[0]])
    pieces = min(pool.count, rows)
    if pieces < 2 or sum(args[i].nbytes for i in cut) < grain:
        function(*args)
        return
    if any(len(args[i]) != rows for i in cut):
        raise ValueError(f"arguments to be cut by rows have {[len(args[i]) for i in cut]} of them")
    bounds = [i * rows // pieces for i in range(pieces + 1)]                                  # (1)
    calls = []
    for low, high in zip(bounds, bounds[1:], strict=False):
        call = list(args)
        for i in cut:
            call[i] = args[i][low:high]
        for i in sums:
            call[i] = args[i] if low == 0 else memory.empty_like(args[i])
        calls.append(call)
    pool.run(function, calls)
    for call in calls[1:]:
        for i in sums:
            args[i][...] += call[i]                                                           # (2)


# ---- BLAS, limited to the calling thread --------------------------------------------------------


def _blas_files():
    """Paths of what may be the OpenBLAS that NumPy has loaded: bundled with it, or mapped by it."""
    folder = os.path.dirname(np.__file__)
    yield from glob.glob(os.path.join(folder, os.pardir, "numpy.libs", "*openblas*"))
    yield from glob.glob(os.path.join(folder, ".dylibs", "*openblas*"))
    if os.path.exists("/proc/self/maps"):
        with open("/proc/self/maps", encoding="utf-8") as maps:
            lines = [line.rstrip("\n").split(maxsplit=5) for line in maps]
        yield from sorted({line[5] for line in lines if len(line) == 6 and "openblas" in line[5]})


@functools.cache
def _blas_setters():
    """(get, set) of the number of BLAS threads in the library NumPy has loaded, None if unknown."""
    for path in _blas_files():
        try:
            library = ctypes.CDLL(path)  # loaded already: this finds it, and reads nothing
        except OSError:
            continue
        # Names differ by who built it (the wheels of NumPy add scipy_) and by the size of integers.
        for name in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_",
                     "scipy_openblas_{}_num_threads", "openblas_{}_num_threads"):
            if hasattr(library, name.format("set")):
                return tuple(getattr(library, name.format(verb)) for verb in ("get", "set"))
    return None


@contextlib.contextmanager
def one_blas_thread():
    """Limit BLAS to the calling thread inside the block; yields False where none can be told."""
    setters = _blas_setters()
    if setters is None:
        yield False
        return
    get, put = setters
    before = get()
    if before != 1:
        put(1)
    try:
        yield True
    finally:
        if before != 1:
            put(before)


def split_product(product, args, cut, grain=GRAIN):
    """`split` for a function that calls np.matmul: its pieces use one BLAS thread each.

    Where the number of BLAS threads cannot be set, BLAS gets the whole product and its own pool.
    """
    with one_blas_thread() as alone:
        if alone:
            split(product, args, cut, grain=grain)
        else:
            product(*args)


def _measure(blocks=5, rounds=40):
    from statistics import median
    from time import perf_counter, sleep

    x = np.random.default_rng(0).standard_normal((2048, 192), np.float32)
    w = np.random.default_rng(1).standard_normal((768, 192), np.float32)
    y, z = np.empty((2, 2048, 768), np.float32)

    def product(y, x):
        np.matmul(x, w.T, out=y)

    def loop(z, y):
        np.tanh(y, out=z)

    times = {"ours": [], "two_pools": []}
    for name in [*times] * blocks:  # in blocks: the threads of BLAS spin on into what follows
        sleep(0.2)
        for _ in range(rounds):
            start = perf_counter()
            split_product(product, (y, x), (0, 1)) if name == "ours" else product(y, x)
            split(loop, (z, y), (0, 1))
            times[name].append(perf_counter() - start)
    return {name: median(values) * 1e3 for name, values in times.items()}


if __name__ == "__main__":
    took = _measure()
    print(f"threads={count()} " + " ".join(f"{name}_ms={ms:.2f}" for name, ms in took.items()))
