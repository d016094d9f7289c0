"""Lesson 1.16 · A GPU on the CPU: running CUDA kernels where there is none

Needs compiler, elf, request, source, threads. Used by launch, scripts/bench_cuda.py.

Idea      The text of a .cu file is C++ with a few words more. cuda/emulator/cuda_emulator.h gives
          these words a meaning on a CPU, cuda/emulator/runtime.cpp plays the scheduler of a GPU,
          and this file brings them together: compile, load, launch. A CUDA thread becomes a fiber,
          a stack of its own that is switched to by a dozen instructions; a block runs on one core.
          Shared memory is thread-local memory of that core, and begins as NaN.
          Two constructs of CUDA cannot be had by macros and are rewritten: `extern __shared__ T
          name[];`, an array whose size the launch says, and several shared arrays in one line.
Math      time ≈ (threads × waits × 17 ns + arithmetic) / cores                                  (1)
Shapes    grid and block: up to three numbers each. Arguments: one for each parameter, arrays
          contiguous and of the parameter's type, numbers converted to it (lesson launch).
Pitfalls  This runs what a GPU runs, not as fast, and not in the same order: sums by atomics differ
          in the last digits, and so do __expf and its kind, which are exact here.
          Threads are not preempted. A thread that spins until another one writes spins for ever.
          Of many readers of one place two are remembered: another order may find a race more.
          Blocks share no barrier, so a block that waits for another one may wait for ever.
          A kernel that writes past its arrays overwrites memory of Python, as C does: mode "check"
          finds that first. It checks copies of the arrays, laid apart.
Cost      On two cores of an AMD EPYC a barrier costs a thread 17 ns and a shuffle 16 ns, a
          layernorm of 512 × 768 takes 44 ms, a product of 256³ by tiles in registers 6 ms, causal
          attention of 4 heads over 256 positions 7 ms (scripts/bench_cuda.py --device emulator).
          A launch costs about 50 µs. All tests of kernels and emulator, every build included, take
          68 s on these two cores; with pytest-xdist installed,
          XDG_CACHE_HOME=$(mktemp -d) python -m pytest -n 2 -m emulator tests/gpu tests/ops tests/nn
Try       build it    an order that goes to the next warp at every wait, as a GPU's scheduler may.
          break it    compile with -ftls-model=initial-exec. How much shared memory is there then?
          measure it  python -m tinygrad_edu.gpu.emulate: a barrier and a shuffle, per thread
See       CUDA C++ Programming Guide, "Hardware Implementation" · Diamos, Kerr, Yalamanchili, Clark
          2010 (Ocelot, blocks as loops) · cuda/emulator/fiber.h (the switch)
"""

import contextlib
import ctypes
import functools
import re
import sys
from dataclasses import dataclass

from .. import threads
from . import compiler, elf, source
from .request import Array, Count, Module, Request, SharedVariable

MODES = {"fast": 0, "check": 1, "count": 3, "debug": 0}
ORDERS = {"forward": 0, "reverse": 1, "random": 2}
FLAGS = {
    "fast": ["-O2", "-march=native"],  # -O3 compiles twice as long and runs no faster
    # One access of the source stays one access: nothing is vectorised or taken to registers.
    # A local variable that is read before it is set may never be in memory: that the compiler sees.
    "check": ["-O1", "-g1", "-gdwarf-4", "-fsanitize=thread", "-Werror=uninitialized",
              "-DEMULATOR_GAP=1024"],
    "debug": ["-O0", "-g", "-gdwarf-4"],
}
FLAGS["count"] = FLAGS["check"]
COMMON = ["-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing",
          "-ffp-contract=fast", "-fno-stack-protector", "-Wno-unknown-pragmas"]
RUNTIME = ["-O2", "-g1", "-fvisibility=hidden", "-fno-stack-protector"]
MOST_SHARED = 227 << 10  # of one block, on the GPUs that have most
MESSAGE = 8192


@dataclass
class Settings:
    """How kernels run in the emulator now; change it by `emulating`."""

    mode: str = "fast"
    order: str = "forward"
    seed: int = 0  # of the order "random"


settings = Settings()


@contextlib.contextmanager
def emulating(**changes):
    """Run kernels with mode="check" or order="random", seed=1 inside a `with` block."""
    for name, known in (("mode", MODES), ("order", ORDERS)):
        if changes.get(name, getattr(settings, name)) not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {changes[name]!r}")
    before = dict(vars(settings))
    try:
        vars(settings).update(changes)
        yield
    finally:
        vars(settings).update(before)


class KernelError(RuntimeError):
    """A kernel went wrong while it ran; the message says which thread, at which line, and why."""


# ---- building and loading -----------------------------------------------------------------------

# An array whose size the launch says. The one line of CUDA that no macro can turn into C++.
DYNAMIC = re.compile(r"\bextern\s+__shared__\s+(?:(?:__align__|alignas)\s*\([^()]*\)\s*)?"
                     r"([\w:][\w: ]*?)\s*\b(\w+)\s*\[\s*\]\s*;")

# Several shared arrays in one declaration become several, each with a gap before it.
NAME = r"\w+(?:\s*\[[^\];]*\])*"
SEVERAL = re.compile(r"(?<!extern )\b__shared__\s+((?:__align__\s*\([^()]*\)\s*)?[\w:][\w: ]*?)\s+"
                     rf"({NAME}(?:\s*,\s*{NAME})+)\s*;")


def available():
    """Whether the emulator can run here: Linux, and a C++ compiler."""
    try:
        return bool(sys.platform.startswith("linux") and compiler.command_line())
    except OSError:
        return False


def why_not():
    """One sentence for where it cannot."""
    if not sys.platform.startswith("linux"):
        return "the CUDA emulator runs on Linux: on other systems use a container, or WSL"
    return compiler.NONE


@functools.cache
def _files(*patterns):
    """name -> text of the emulator's own files."""
    base = source.folder() / "emulator"
    paths = sorted(path for pattern in patterns for path in base.glob(pattern))
    return {path.relative_to(base).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@functools.cache
def runtime_path():
    """The emulator itself as a library, built when first needed."""
    if not available():
        raise OSError(why_not())
    return compiler.shared_library("runtime", _files("*.cpp"), _files("*.h"), RUNTIME)


@functools.cache
def runtime():
    """Its functions."""
    library = ctypes.CDLL(str(runtime_path()))
    library.emulator_count.restype = ctypes.c_char_p
    return library


def _one_by_one(match):
    """`__shared__ float a[8], b[8];` as two declarations, on as many lines as before."""
    names = re.split(r",(?![^\[]*\])", match[2])
    return " ".join(f"__shared__ {match[1]} {name.strip(' ')};" for name in names)


def as_cpp(text, kernels):
    """The text of a .cu file as C++, with a way in for each of its kernels."""
    text = SEVERAL.sub(_one_by_one, text)
    text = DYNAMIC.sub(r"\1* \2 = (\1*)emulator_dynamic_shared();", text)
    exports = "".join(f"EMULATOR_EXPORT({name})\n" for name in kernels)
    return f'#include "cuda_emulator.h"\n{text}\n#line 1 "emulator"\n{exports}'


class EmulatedFile:
    """A .cu file, compiled for the emulator with some #defines, in one mode.

    The modes that watch memory know the shared variables and the lines from the compiled file.
    """

    def __init__(self, text, defines, mode):
        self.source, self.mode = text, mode
        flags = COMMON + FLAGS[mode] + [f"-D{name}={value}" for name, value in defines]
        if compiler.is_gcc():
            flags += ["-fno-gnu-unique"]
            if mode in ("check", "count"):
                flags += ["-fno-tree-sra", "-fno-toplevel-reorder"]
        headers = _files("cuda_emulator.h", "include/*.h")
        sources = {f"{text.path.stem}.cpp": as_cpp(text.text, text.kernels)}
        self.path = compiler.shared_library(text.path.stem, sources, headers, flags,
                                            [runtime_path()])
        self.library = ctypes.CDLL(str(self.path))
        self.module = Module()
        anchor = getattr(self.library, f"emulator_enter_{next(iter(text.kernels))}")
        self.shared, self.lines, self.gaps = (SharedVariable * 0)(), None, 0  # of no use to "fast"
        if mode in ("check", "count"):
            compiled = elf.Elf(self.path.read_bytes())
            self.lines = compiled.lines()
            found = compiled.shared_variables()
            variables = [v for v in found if "emulator_gap_" not in v[2]]
            self.gaps = sum(size for _, size, name in found if "emulator_gap_" in name)
            self.shared = (SharedVariable * len(variables))(
                *((offset, size, 1, name.encode()) for offset, size, name in variables))
        if not runtime().emulator_find(ctypes.cast(anchor, ctypes.c_void_p),
                                       ctypes.byref(self.module)):
            raise OSError(f"{self.path} was loaded, but it is not where its functions are")

    def launch(self, name, grid, block, addresses, arrays, dynamic_shared):
        """Run a kernel.

        addresses: of the arguments' values, a ctypes array; arrays: of Array, what it may touch.
        Raises KernelError for what the kernel did wrong, ValueError for too much shared memory,
        KeyboardInterrupt after Ctrl-C, which the runtime hears while Python waits for it.
        """
        static = self.module.tls_bytes - self.gaps
        if static + dynamic_shared > MOST_SHARED:
            raise ValueError(f"{name}: {static} bytes of shared memory and {dynamic_shared} more "
                             f"asked for at launch; a block has at most {MOST_SHARED}")
        message = ctypes.create_string_buffer(MESSAGE)
        enter = ctypes.cast(getattr(self.library, f"emulator_enter_{name}"), ctypes.c_void_p)
        one_core = self.mode in ("check", "count", "debug")
        request = Request(
            enter.value, ctypes.addressof(addresses), ctypes.pointer(self.module),
            arrays, self.shared, len(arrays), len(self.shared), grid, block, dynamic_shared,
            1 if one_core else min(threads.count(), grid[0] * grid[1] * grid[2]),
            ORDERS[settings.order], MODES[self.mode], settings.seed,
            ctypes.cast(message, ctypes.c_char_p), MESSAGE)
        result = runtime().emulator_launch(ctypes.byref(request))
        if result == 2:
            raise KeyboardInterrupt
        if result:
            raise KernelError(f"{name}: {self.with_lines(message.value.decode())}")

    def with_lines(self, message):
        """The message with <+offset> replaced by what the compiler remembers of it: file:line."""
        def place(match):
            found = self.lines.find(int(match[1], 16)) if self.lines else None
            return f"{self.shown(found[0])}:{found[1]}" if found else "an unknown line"
        return re.sub(r"<\+([0-9a-f]+)>", place, message)

    def shown(self, name):
        """A file by the path that messages use; the compiler keeps names without folders."""
        beside = self.source.path.parent / name
        return source.shown(beside if beside.is_file() else source.folder() / name)

    def counted(self):
        """Of the last launch in mode "count": a Count for each place that touched memory."""
        counts = []
        for line in runtime().emulator_count().decode().splitlines():
            offset, *numbers = line.split()
            found = self.lines.find(int(offset, 16)) or ("?", 0)
            counts.append(Count(self.shown(found[0]), found[1], *map(int, numbers)))
        return sorted(counts, key=lambda count: (count.file, count.line, count.writes))


@functools.cache
def emulated_file(text, defines, mode):
    """The compiled file for a Source, a tuple of (name, value) and a mode; compiled once."""
    return EmulatedFile(text, defines, mode)


WAITS = """
extern "C" __global__ void barrier(int *y, int n) {
    for (int i = 0; i < n; i++) __syncthreads();
    *y = n;
}
extern "C" __global__ void shuffle(int *y, int n) {
    int v = threadIdx.x;
    for (int i = 0; i < n; i++) v = __shfl_xor_sync(0xffffffffu, v, 1);
    *y = v;
}
"""


def nanoseconds_of_waits(block=256, waits=2000):
    """What one wait costs a thread, by its kind; no launch layer lies between."""
    from timeit import repeat

    file = EmulatedFile(source.Source("waits.cu", WAITS), (), "fast")
    y, n = ctypes.c_int(), ctypes.c_int(waits)
    pointer = ctypes.c_void_p(ctypes.addressof(y))
    values = (ctypes.c_void_p * 2)(ctypes.addressof(pointer), ctypes.addressof(n))
    shape = ctypes.c_uint * 3
    found = {}
    for name in file.source.kernels:
        times = repeat(lambda name=name: file.launch(name, shape(1, 1, 1), shape(block, 1, 1),
                                                     values, (Array * 0)(), 0),
                       repeat=5, number=1)
        found[name] = sorted(times)[2] / block / waits * 1e9
    return found


if __name__ == "__main__" and available():
    print(" ".join(f"{name}_ns={took:.1f}" for name, took in nanoseconds_of_waits().items()))
