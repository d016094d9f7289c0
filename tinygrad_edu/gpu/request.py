"""Lesson 1.15 · What the emulator is told about a launch

Needs nothing. Used by emulate, launch.

Idea      Python and the emulator's C++ share a few structs, written down twice: here, and in
          cuda/emulator/runtime.h. A launch says which function to call for every thread, how many
          threads there are, and, for the modes that watch memory, which arrays there are and how
          they are called: so that a report says x[250] and not an address.
Math      a copy begins at the first multiple of 256 that is ≥ the start of its room + GAP, plus
          what the array's own address is above a multiple of 16                                 (1)
Shapes    grid, block (3,) · arguments: an array of addresses, as cuLaunchKernel of CUDA wants it
Pitfalls  Two descriptions of one struct must agree in order and size; nobody checks them. A field
          more on one side shifts all that follow, and the first launch dies.
          Watching memory tells arrays apart by address. A step past the end of one may land in
          another, and look right: so watched arrays are copied to places far apart.
          NumPy's arrays begin anywhere, a GPU's at multiples of 256 bytes. Its memory moves in
          sectors of 32 bytes, and how many of them a warp touches depends on that: hence (1). But
          x[1:] begins at 4 above a multiple of 16 on a GPU too, where a load of a float4 faults.
Cost      Copying in and out, in the modes that watch: nothing beside the watching.
Try       build it    fill the gaps with a pattern, and find writes into them in mode "fast" too.
          break it    make GAP 0. Which tests of tests/gpu/test_seeded_bugs.py notice?
          measure it  TG_BACKEND=emulator python -m pytest tests/ops/test_softmax.py --durations 3
See       https://docs.python.org/3/library/ctypes.html#structures-and-unions
"""

import ctypes
from dataclasses import dataclass

import numpy as np


class Module(ctypes.Structure):
    """Where the code and the shared memory of a compiled kernel file are."""

    _fields_ = [("tls_number", ctypes.c_size_t), ("tls_bytes", ctypes.c_size_t),
                ("begin", ctypes.c_void_p), ("end", ctypes.c_void_p)]


class Array(ctypes.Structure):
    """An array that a kernel may touch."""

    _fields_ = [("base", ctypes.c_void_p), ("bytes", ctypes.c_size_t), ("itemsize", ctypes.c_int),
                ("name", ctypes.c_char_p)]


class SharedVariable(ctypes.Structure):
    """A __shared__ variable: where it lies in the shared memory of its file."""

    _fields_ = [("offset", ctypes.c_size_t), ("bytes", ctypes.c_size_t),
                ("itemsize", ctypes.c_int), ("name", ctypes.c_char_p)]


class Request(ctypes.Structure):
    """All that the runtime is told about a launch."""

    _fields_ = [("enter", ctypes.c_void_p), ("arguments", ctypes.c_void_p),
                ("module", ctypes.POINTER(Module)),
                ("arrays", ctypes.POINTER(Array)), ("shared", ctypes.POINTER(SharedVariable)),
                ("arrays_count", ctypes.c_int), ("shared_count", ctypes.c_int),
                ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3),
                ("dynamic_shared", ctypes.c_size_t), ("os_threads", ctypes.c_int),
                ("order", ctypes.c_int), ("mode", ctypes.c_int), ("seed", ctypes.c_uint),
                ("message", ctypes.c_char_p), ("message_bytes", ctypes.c_size_t)]


@dataclass(frozen=True)
class Count:
    """What one line did to memory, summed over warps: requests, and what they cost.

    sectors: of 32 bytes, of global memory; ideal: what the same bytes side by side would need.
    turns: how often the 32 banks of shared memory, each a word wide, had to be asked for all
    shared_requests; ideal is once for each.
    """

    file: str
    line: int
    writes: int
    requests: int
    sectors: int
    ideal: int
    shared_requests: int
    turns: int


class Apart:
    """Copies of arrays that lie far apart, so that a step past the end of one meets no other."""

    GAP = 1 << 16

    def __init__(self):
        self.copies = {}  # (address, bytes) -> (the array, its copy, how the copy began)

    def address(self, array):
        """The address of the copy, by (1); one for each array."""
        key = array.ctypes.data, array.nbytes
        if key not in self.copies:
            room = np.empty(array.nbytes + 2 * self.GAP + 272, np.uint8)
            start = self.GAP + -(room.ctypes.data + self.GAP) % 256 + array.ctypes.data % 16
            copy = room[start:start + array.nbytes].view(array.dtype).reshape(array.shape)
            copy[...] = array
            self.copies[key] = array, copy, copy.tobytes()
        return self.copies[key][1].ctypes.data

    def give_back(self):
        """Bring home what was written, and nothing else: views of one array may overlap."""
        for array, copy, before in self.copies.values():
            if array.flags.writeable:
                now, home = copy.view(np.uint8).ravel(), array.reshape(-1).view(np.uint8)
                np.copyto(home, now, where=now != np.frombuffer(before, np.uint8))
