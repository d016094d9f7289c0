"""Lesson 1.15 · A GPU on the CPU: running CUDA kernels where there is none

Needs build, elf, source, threads. Used by launch.

Idea      The text of a .cu file is C++ with a few words more. cuda/emulator/cuda_emulator.h gives
          these words a meaning on a CPU, cuda/emulator/runtime.cpp plays the scheduler of a GPU,
          and this file brings them together: compile, load, launch. A CUDA thread becomes a fiber, a
          stack of its own that is switched to by a dozen instructions; a block runs on one core.
          Shared memory is thread-local memory of that core, and begins as NaN.
          One construct of CUDA cannot be had by macros: `extern __shared__ T name[];`, an array
          whose size the launch says. It is the only line that is rewritten.
Math      time ≈ (threads × waits × 11 ns + arithmetic) / cores                                  (1)
Shapes    grid and block: up to three numbers each. Arguments: one for each parameter, arrays
          contiguous and of the parameter's type, numbers converted to it (lesson launch).
Pitfalls  This runs what a GPU runs, not as fast, and not in the same order: sums by atomics differ
          in the last digits, and so do __expf and its kind, which are exact here.
          Threads are not preempted. A thread that spins until another one writes spins for ever.
          Blocks share no barrier, so a block that waits for another one may wait for ever.
          A kernel that writes past its arrays overwrites memory of Python, as C does: mode "check"
          finds that first. It checks copies of the arrays, laid apart.
Cost      By (1) a layernorm of 512 rows in some tens of milliseconds. A launch costs about 50 µs.
Try       build it    a third order: start the threads in a random order, given a seed.
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

import numpy as np

from .. import threads
from . import build, elf, source

MODES = {"fast": 0, "check": 1, "count": 3, "debug": 0}
ORDERS = {"forward": 0, "reverse": 1}
FLAGS = {
    "fast": ["-O3", "-march=native"],
    # One access of the source stays one access: nothing is vectorised or taken to registers.
    "check": ["-O1", "-g1", "-gdwarf-4", "-fsanitize=thread"],
    "debug": ["-O0", "-g", "-gdwarf-4"],
}
FLAGS["count"] = FLAGS["check"]
COMMON = ["-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing",
          "-ffp-contract=fast", "-fno-stack-protector", "-Wno-unknown-pragmas"]
MOST_SHARED = 227 << 10  # of one block, on the GPUs that have most
MESSAGE = 8192


@dataclass
class Settings:
    """How kernels run in the emulator now; change it by `emulating`."""

    mode: str = "fast"
    order: str = "forward"


settings = Settings()


@contextlib.contextmanager
def emulating(**changes):
    """Run kernels with mode="check" or order="reverse" inside a `with` block."""
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


# ---- the structs of cuda/emulator/runtime.h, field by field -------------------------------------

class Module(ctypes.Structure):
    """Where the code and the shared memory of a compiled kernel file are."""

    _fields_ = [("tls_number", ctypes.c_size_t), ("tls_bytes", ctypes.c_size_t),
                ("begin", ctypes.c_void_p), ("end", ctypes.c_void_p)]


class Array(ctypes.Structure):
    """An array that a kernel may touch."""

    _fields_ = [("base", ctypes.c_void_p), ("bytes", ctypes.c_size_t), ("itemsize", ctypes.c_int),
                ("read_only", ctypes.c_int), ("name", ctypes.c_char_p)]


class SharedVariable(ctypes.Structure):
    """A __shared__ variable: where it lies in the shared memory of its file."""

    _fields_ = [("offset", ctypes.c_size_t), ("bytes", ctypes.c_size_t),
                ("itemsize", ctypes.c_int), ("name", ctypes.c_char_p)]


class Request(ctypes.Structure):
    """All that the runtime is told about a launch."""

    _fields_ = [("enter", ctypes.c_void_p), ("arguments", ctypes.c_void_p),
                ("module", ctypes.POINTER(Module)), ("kernel", ctypes.c_char_p),
                ("arrays", ctypes.POINTER(Array)), ("shared", ctypes.POINTER(SharedVariable)),
                ("arrays_count", ctypes.c_int), ("shared_count", ctypes.c_int),
                ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3),
                ("dynamic_shared", ctypes.c_size_t), ("os_threads", ctypes.c_int),
                ("order", ctypes.c_int), ("mode", ctypes.c_int),
                ("message", ctypes.c_char_p), ("message_bytes", ctypes.c_size_t)]


@dataclass(frozen=True)
class Count:
    """What one line did to memory, summed over warps: requests, and what they cost.

    sectors: of 32 bytes, of global memory; ideal: what the same bytes side by side would need.
    turns: how often the banks of shared memory were asked, over shared_requests; ideal is once.
    """

    file: str
    line: int
    writes: int
    requests: int
    sectors: int
    ideal: int
    shared_requests: int
    turns: int


# ---- building and loading -----------------------------------------------------------------------

def available():
    """Whether the emulator can run here: Linux, and a C++ compiler."""
    try:
        return bool(sys.platform.startswith("linux") and build.compiler())
    except OSError:
        return False


def why_not():
    """One sentence for where it cannot."""
    if not sys.platform.startswith("linux"):
        return "the CUDA emulator runs on Linux: on other systems use a container, or WSL"
    return build.NONE


@functools.cache
def _files(*patterns):
    base = source.folder() / "emulator"
    paths = sorted(path for pattern in patterns for path in base.glob(pattern))
    return {path.relative_to(base).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@functools.cache
def runtime_path():
    """The emulator itself as a library, built when first needed."""
    if not available():
        raise OSError(why_not())
    flags = ["-O2", "-g1", "-fvisibility=hidden", "-fno-stack-protector"]
    return build.shared_library("runtime", _files("*.cpp"), _files("*.h"), flags)


@functools.cache
def runtime():
    """Its functions."""
    library = ctypes.CDLL(str(runtime_path()))
    library.emulator_count.restype = ctypes.c_char_p
    return library


DYNAMIC = re.compile(r"\bextern\s+__shared__\s+(?:(?:__align__|alignas)\s*\([^()]*\)\s*)?"
                     r"([\w:][\w: ]*?)\s*\b(\w+)\s*\[\s*\]\s*;")


def as_cpp(text, kernels):
    """The text of a .cu file as C++, with a way in for each of its kernels."""
    text = DYNAMIC.sub(r"\1* \2 = (\1*)emulator_dynamic_shared();", text)
    exports = "".join(f"EMULATOR_EXPORT({name})\n" for name in kernels)
    return f'#include "cuda_emulator.h"\n{text}\n#line 1 "emulator"\n{exports}'


class EmulatedFile:
    """A .cu file, compiled for the emulator with some #defines, in one mode."""

    def __init__(self, text, defines, mode):
        self.source, self.mode = text, mode
        flags = COMMON + FLAGS[mode] + [f"-D{name}={value}" for name, value in defines]
        if build.is_gcc():
            flags += ["-fno-gnu-unique"] + ["-fno-tree-sra"] * (mode in ("check", "count"))
        headers = _files("cuda_emulator.h", "include/*.h")
        sources = {f"{text.path.stem}.cpp": as_cpp(text.text, text.kernels)}
        self.path = build.shared_library(text.path.stem, sources, headers, flags, [runtime_path()])
        self.library = ctypes.CDLL(str(self.path))
        self.module = Module()
        anchor = getattr(self.library, f"emulator_enter_{next(iter(text.kernels))}")
        self.shared, self.lines = (SharedVariable * 0)(), None
        if mode in ("check", "count"):
            compiled = elf.Elf(self.path)
            self.lines = compiled.lines()
            variables = compiled.shared_variables()
            self.shared = (SharedVariable * len(variables))(
                *((offset, size, 1, name.encode()) for offset, size, name in variables))
        if not runtime().emulator_find(ctypes.cast(anchor, ctypes.c_void_p),
                                       ctypes.byref(self.module)):
            raise OSError(f"{self.path} was loaded, but it is not where its functions are")

    def launch(self, name, grid, block, addresses, arrays, dynamic_shared):
        """Run a kernel. addresses: of the arguments' values, a ctypes array; arrays: of Array."""
        static = self.module.tls_bytes
        if static + dynamic_shared > MOST_SHARED:
            raise ValueError(f"{name}: {static} bytes of shared memory and {dynamic_shared} more "
                             f"asked for at launch; a block has at most {MOST_SHARED}")
        message = ctypes.create_string_buffer(MESSAGE)
        enter = ctypes.cast(getattr(self.library, f"emulator_enter_{name}"), ctypes.c_void_p)
        one_core = self.mode in ("check", "count", "debug")
        request = Request(
            enter.value, ctypes.addressof(addresses), ctypes.pointer(self.module), name.encode(),
            arrays, self.shared, len(arrays), len(self.shared), grid, block, dynamic_shared,
            1 if one_core else min(threads.count(), grid[0] * grid[1] * grid[2]),
            ORDERS[settings.order], MODES[self.mode],
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


class Apart:
    """Copies of arrays that lie far apart, so that a step past the end of one meets no other."""

    GAP = 1 << 16

    def __init__(self):
        self.copies = {}  # (address, bytes) -> (the array, its copy)

    def address(self, array):
        """The address of the copy, at a multiple of 256 as on a GPU; one for each array."""
        key = array.ctypes.data, array.nbytes
        if key not in self.copies:
            room = np.empty(array.nbytes + 2 * self.GAP + 256, np.uint8)
            start = self.GAP + -(room.ctypes.data + self.GAP) % 256
            copy = room[start:start + array.nbytes].view(array.dtype).reshape(array.shape)
            copy[...] = array
            self.copies[key] = array, copy
        return self.copies[key][1].ctypes.data

    def give_back(self):
        """Bring home what was written."""
        for array, copy in self.copies.values():
            if array.flags.writeable:
                array[...] = copy


@functools.cache
def emulated_file(text, defines, mode):
    """The compiled file for a Source, a tuple of (name, value) and a mode; compiled once."""
    return EmulatedFile(text, defines, mode)
