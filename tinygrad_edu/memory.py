"""Lesson 1.1 · Memory: where arrays come from

Needs nothing. Used by threads, kernel, tensor, every op.

Idea      Every array of this library is made here, so that counting bytes, choosing the device and
          noticing overwritten data have one place. Two things about memory decide how fast and how
          safe a training step is. First, a page of memory that the operating system has just
          handed out costs a page fault (a detour through the system) when it is first touched, and
          the C library likes to hand large blocks back and ask for them again, every step. Second,
          an array that a later backward pass still needs must not be overwritten in between: each
          piece of storage has a version number, and whoever writes in place raises it.
Math      version(a) = how often wrote(b) was called for any array b on the storage of a       (1)
          live bytes = Σ bytes of the arrays made and not yet freed     peak = max over time   (2)
Shapes    Any. `like` is an array of the device where the new one is to live (NumPy, or CuPy
          by NEP 35).
Pitfalls  A pool of reusable buffers looks tempting and is a trap: NumPy collapses chains of views
          (the base of a view of a view is the owner), so a pool cannot tell when the last view is
          gone and hands out memory that is still in use.
          Only writes that go through the library raise a version. A raw `t.data[0] = 1` does not;
          it is noticed under TG_CHECK (lesson watch), which compares checksums instead.
          A version belongs to the whole storage: where many arrays are views of one (parameters
          laid out flat), a write into one of them counts as a write into each.
          Two arrays made over one foreign buffer (np.frombuffer twice) have two owners in NumPy's
          eyes: a write into one is not seen in the other.
Cost      np.empty of a large array is nearly free, its first touch is not: one fault per page,
          commonly 4 KiB. With the two thresholds below, freed blocks stay with the process. The
          effect on your machine: python -m tinygrad_edu.memory
Try       build it    write a `live_bytes()` that lists the ten largest live arrays and where they
                      were made.
          break it    return 0 from `version`. Which tests of tests/test_tensor.py notice?
          measure it  python -m tinygrad_edu.memory, then again with the call of
                      keep_freed_memory removed.
See       mallopt(3) of the Linux manual: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD · NumPy NEP 35 (like=)
"""

import ctypes
import gc
import os
import subprocess
import sys
import weakref

import numpy as np

M_TRIM_THRESHOLD = -1  # names and values from glibc's malloc.h
M_MMAP_THRESHOLD = -3
ONE_GIBIBYTE = 1 << 30
LARGEST_OF_OLD_GLIBC = 32 << 20  # it refuses a larger mmap threshold; new ones take any


def keep_freed_memory():
    """Ask glibc to keep freed blocks for the next step. Returns whether it agreed."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None or not mallopt(M_TRIM_THRESHOLD, ONE_GIBIBYTE):
        return False
    sizes = ONE_GIBIBYTE, LARGEST_OF_OLD_GLIBC
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in sizes)


# ---- making arrays ------------------------------------------------------------------------------

def empty(shape, dtype, like=None):
    """An array of undefined content on the device of `like` (default: the CPU)."""
    array = np.empty(shape, dtype) if like is None else np.empty(shape, dtype, like=like)
    return _counted(array) if _meters else array


def zeros(shape, dtype, like=None):
    """An array of zeros on the device of `like` (default: the CPU)."""
    return _counted(np.zeros(shape, dtype) if like is None else np.zeros(shape, dtype, like=like))


def empty_like(array, shape=None, dtype=None):
    """An array of undefined content, in row order, on the device of `array`.

    It has the shape and the type of `array` where no others are given.
    """
    shape, dtype = _shape_and_type(array, shape, dtype)
    return empty(shape, dtype, _device(array))


def zeros_like(array, shape=None, dtype=None):
    """`empty_like`, filled with zeros."""
    return zeros(*_shape_and_type(array, shape, dtype), _device(array))


def contiguous(array):
    """The array itself where its elements lie in row order without gaps, else a copy that does."""
    if array.flags.c_contiguous:
        return array
    copy = empty_like(array)
    if not any(route(copy, array) for route in routes):
        copy[...] = array
    return copy


routes = []  # functions that fill a copy of what they know, and say whether: lesson transpose


def beside(array, like):
    """The array on the device of `like`: itself where it is there, a copy for a GPU where not."""
    there = _device(like)
    if there is None or not isinstance(array, (np.ndarray, np.generic)):
        return array
    return np.asarray(array, like=there)


def on_host(array):
    """The array as one of NumPy: itself, or a copy of what lies on a GPU, which takes a wait."""
    return array if isinstance(array, (np.ndarray, np.generic)) else array.get()


def kinds():
    """The classes of arrays: NumPy's, and CuPy's where somebody has imported it."""
    cupy = sys.modules.get("cupy")
    return (np.ndarray, cupy.ndarray) if cupy else (np.ndarray,)


def _shape_and_type(array, shape, dtype):
    return array.shape if shape is None else shape, array.dtype if dtype is None else dtype


def _device(array):
    """What to pass on as `like`: nothing for NumPy's own arrays and scalars."""
    return None if isinstance(array, (np.ndarray, np.generic)) else array


# ---- versions: has somebody written into it since? ----------------------------------------------

_versions = {}  # id of the owning array -> [weak reference, count]


def owner_of(array):
    """The array whose storage this one is a view of, or itself."""
    base = array.base
    while base is not None and hasattr(base, "dtype"):
        array, base = base, base.base
    return array


def version(array):
    """How often the library has written in place into the storage of this array, (1)."""
    if not _versions:
        return 0
    entry = _versions.get(id(owner_of(array)))
    return entry[1] if entry else 0


def wrote(array):
    """Say that the storage under this array was written in place."""
    owner = owner_of(array)
    key = id(owner)
    entry = _versions.get(key)
    if entry is None:  # it leaves with the array, whose id another one may get
        entry = [weakref.ref(owner, lambda _: _versions.pop(key, None)), 0]
        _versions[key] = entry
    entry[1] += 1


# ---- counting -----------------------------------------------------------------------------------

class Meter:
    """Counts live and peak bytes of the arrays made here while the `with` block runs: (2)."""

    def __init__(self):
        self.live = 0
        self.peak = 0

    def __enter__(self):
        _meters.append(self)
        return self

    def __exit__(self, *_):
        _meters.remove(self)

    def add(self, array):
        """Count one array until it is freed."""
        size = array.nbytes
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(array, self._free, size).atexit = False

    def _free(self, size):
        self.live -= size


_meters = []  # empty in normal use: then counting costs nothing


def _counted(array):
    for meter in _meters:
        meter.add(array)
    return array


def give_back():
    """Hand memory that was freed to the system again (glibc; elsewhere nothing happens)."""
    gc.collect()
    if sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def peak_resident_bytes():
    """The most physical memory the process has held so far, None where no one tells."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # others count in KiB


def resident_bytes():
    """The physical memory the process holds now, None where the system does not tell."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):
        return None


def _measure(rounds=20, arrays=40, megabytes=4):
    from time import perf_counter

    times = []
    for _ in range(rounds):
        start = perf_counter()
        kept = [empty(megabytes << 18, np.float32) for _ in range(arrays)]
        for array in kept:
            array.fill(1)
        del kept, array
        times.append(perf_counter() - start)
    return sorted(times)[rounds // 2]


if __name__ == "__main__":
    if __package__:  # python -m: the package has set the thresholds already, so once more without
        raise SystemExit(subprocess.call([sys.executable, __file__]))
    before = _measure()
    taken = keep_freed_memory()
    after = _measure()
    print("filling 40 live arrays of 4 MB, then freeing them; medians of 20 rounds")
    print(f"before_ms={before * 1e3:.1f} after_ms={after * 1e3:.1f} taken={taken}")
else:
    keep_freed_memory()
