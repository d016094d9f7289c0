"""Lesson 1.17 · The border to the GPU

Needs emulate, foreign, kernel, request, source. Used by softmax.

Idea      A body in CUDA crosses to the GPU as a body in C crosses to C: G(y) is the library built
          for the type of y, and G(y).softmax_forward(grid, block, arguments) launches a kernel of
          it. Where y lives decides who runs it: an array of CuPy lives on a GPU, and CuPy's
          RawModule compiles and launches; an array of NumPy lives in ordinary memory, and the
          emulator does. Both get the same file, unchanged, and the same checks first. A GPU does
          not check anything: it takes eight bytes where four were meant, and reads the wrong ones.
Math      blocks(n, b) = ⌈n / b⌉                                                                (1)
Shapes    grid, block: a number, or up to three. arguments: a tuple in the order of the parameters.
Pitfalls  A number of Python has no width. An int is converted to the parameter's integer type where
          it fits; a float is refused, for it would be rounded silently: write y.dtype.type(eps).
          A grid has at most 65 535 blocks along y and z: let long axes lie along x.
          `block` threads per block, a multiple of 32 wherever a whole warp shuffles.
          A kernel that reads float4 needs arrays that begin at a multiple of 16 bytes, which a
          slice may not: add `aligned` to its `when`.
          On NumPy arrays a CUDA body is never chosen by itself: TG_BACKEND=emulator asks for it.
Cost      Some 20 µs of checks a launch, unnoticed as long as the GPU has work queued.
Try       build it    count bytes read and written for each launch, from the array arguments.
          break it    take the float out of `_number`. What does layernorm with eps=1e-5 compute?
          measure it  python -m tinygrad_edu.gpu.launch
See       https://docs.cupy.dev/en/stable/user_guide/kernel.html#raw-modules
"""

import ctypes
import functools
import warnings

import numpy as np

from .. import kernel
from ..foreign import REALS

NAMES = {np.dtype("float32"): "float", np.dtype("float64"): "double"}
WHOLE = tuple(map(np.dtype, ("bool", "uint8", "int8", "int32", "uint32", "int64", "uint64")))
MOST_BLOCKS = (2**31 - 1, 65_535, 65_535)
MOST_THREADS = (1024, 1024, 64)


def blocks(n, size):
    """How many blocks of `size` cover n elements: (1)."""
    return -(-n // size)


def row_threads(n, most=256):
    """Threads for a block that walks a row of n numbers: a multiple of 32, for whole warps."""
    return min(most, 32 * blocks(n, 32))


def serves(*args):
    """Whether a CUDA body can serve a kernel call, for @kernel.body("cuda", when=serves).

    All arrays are contiguous, none is empty, and the floats have one type, float32 or float64.
    A kernel that stores in another type than it computes in has a predicate of its own.
    """
    real = args[0].dtype
    return real in REALS and all(
        array.size and array.flags.c_contiguous and array.dtype in (real, *WHOLE)
        for array in args if _is_array(array))


def aligned(*args, to=16):
    """Whether all arrays begin at a multiple of 16 bytes, as loads of a float4 need it."""
    return all(_address(array) % to == 0 for array in args if _is_array(array))


def G(array, **defines):
    """The CUDA kernels built for the type of an array, where that array lives.

    G(y).softmax_forward(grid, block, (y, x, C)) launches one of them. defines are given to the
    compiler, such as the width that sizes an array of registers: G(y, D=64). REAL, the type of the
    computation, follows from the array unless it is given. Raises TypeError where it cannot.
    """
    if "REAL" not in defines:
        if array.dtype not in NAMES:
            raise TypeError(f"CUDA kernels compute in float32 and float64, not in {array.dtype}: "
                            'use astype, or say G(y, REAL="float")')
        defines["REAL"] = NAMES[array.dtype]
    return _library(isinstance(array, np.ndarray), tuple(sorted(defines.items())))


@functools.cache
def _library(on_cpu, defines):
    """One Library for each device and set of #defines, so that nothing is compiled twice."""
    return Library(on_cpu, defines)


class Library:
    """All kernels of cuda/*.cu as attributes, for one device and one set of #defines.

    A file is compiled when the first of its kernels is launched, not when it is named.
    """

    def __init__(self, on_cpu, defines):
        self._on_cpu, self._defines = on_cpu, defines

    def __getattr__(self, name):
        """The kernel of this name, found in whichever file has it."""
        from . import source  # here, and so below: who runs no CUDA does not wait for it

        path = source.lesson_kernels().get(name)
        if path is None:
            raise AttributeError(f"no file of {source.folder()} has a kernel {name}")
        found = Launcher(path, name, self._on_cpu, self._defines)
        setattr(self, name, found)
        return found


class Launcher:
    """A kernel of a .cu file: launcher(grid, block, arguments, shared_mem=0).

    This is how a kernel of your own is called, which lies anywhere: Launcher(Path("my.cu"), "add").
    Raises OSError where there is no such file, ValueError where it has no such kernel.
    """

    def __init__(self, path, name, on_cpu=True, defines=()):
        from . import source

        self.path, self.on_cpu, self.defines = path, on_cpu, tuple(defines)
        self.source = source.read(path)
        if name not in self.source.kernels:
            raise ValueError(f"{path} has no kernel {name}: it has "
                             f"{', '.join(self.source.kernels) or 'none'}")
        self.kernel = self.source.kernels[name]
        self.types = [self.source.dtype(p, dict(defines)) for p in self.kernel.parameters]

    def __call__(self, grid, block, arguments, shared_mem=0):
        """Launch. Raises TypeError or ValueError for what cannot work, KernelError for what went
        wrong in the emulator; a GPU reports errors later, or never."""
        grid, block = self._shape(grid, block)
        wanted = self.kernel.parameters
        if len(arguments) != len(wanted):
            names = ", ".join(p.name for p in wanted)
            raise TypeError(f"{self.kernel.name}({names}) got {len(arguments)} arguments")
        ready = tuple(map(self._argument, wanted, self.types, arguments))
        if 0 in grid:
            return  # no block, nothing to do; CUDA would call it an error
        launch = self._emulate if self.on_cpu else self._on_device
        launch(grid, block, ready, shared_mem)

    def _shape(self, grid, block):
        """Both as three numbers, if a GPU would take them."""
        grid, block = ((*np.atleast_1d(size).tolist(), 1, 1)[:3] for size in (grid, block))
        threads = block[0] * block[1] * block[2]
        most, problem = self.kernel.most_threads, ""
        if not 1 <= threads <= most:
            problem = f"{threads} threads a block, between 1 and {most} are possible"
        elif any(map(int.__gt__, block, MOST_THREADS)):
            problem = f"a block of {block}, at most {MOST_THREADS} are possible"
        elif any(map(int.__gt__, grid, MOST_BLOCKS)):
            problem = f"a grid of {grid}, at most {MOST_BLOCKS} are possible"
        if problem:
            raise ValueError(f"{self.kernel.name}: {problem}")
        return grid, block

    # What crosses. A GPU would take anything, and read the wrong bytes: so each is looked at.

    def _argument(self, parameter, dtype, value):
        """The value as it will be passed; a refusal names the parameter."""
        convert = self._array if parameter.is_pointer else self._number
        try:
            return convert(parameter, dtype, value)
        except (TypeError, ValueError) as error:
            place = f"{self.kernel.name}, parameter {parameter.name}"
            raise type(error)(f"{place}: {error}") from None

    def _array(self, parameter, dtype, value):
        """An array as it is: what does not fit is refused, never copied."""
        if value is None:
            return None  # a null pointer, for what may be left out
        if not _is_array(value) or isinstance(value, np.ndarray) != self.on_cpu:
            here = "of NumPy" if self.on_cpu else "of CuPy"
            raise TypeError(f"an array {here} is wanted, not {type(value).__name__}")
        if dtype is not None and not _same_bits(value.dtype, np.dtype(dtype)):
            raise TypeError(f"{parameter.type}* is an array of {np.dtype(dtype)}, "
                            f"not of {value.dtype}: use astype")
        if not value.flags.c_contiguous:
            raise ValueError(f"strides {value.strides} leave gaps: use memory.contiguous")
        if self.on_cpu and not (parameter.is_read_only or value.flags.writeable):
            raise ValueError("the kernel writes into it, and it is read-only: use copy")
        wide = self.source.wants_16_bytes or parameter.name in self.kernel.aligned
        most = 16 if wide else value.dtype.itemsize
        if _address(value) % most:
            raise ValueError(f"it does not begin at a multiple of {most} bytes: use copy")
        return value

    def _number(self, parameter, dtype, value):
        """A number of exactly the parameter's type."""
        if dtype is None:
            raise TypeError(f"no number of NumPy is a {parameter.type}")
        if isinstance(value, bool | int) and np.dtype(dtype).kind in "iub":
            if not np.array(value).astype(dtype) == value:
                raise ValueError(f"{value} does not fit into {parameter.type}")
            return np.dtype(dtype).type(value)
        if getattr(value, "dtype", None) != dtype or np.ndim(value):
            raise TypeError(f"{parameter.type} is wanted, not {type(value).__name__}: "
                            f"use np.{np.dtype(dtype)}(…)")
        return value

    # The two ways to run. Both get the same text, and the arguments as they were checked.

    def _emulate(self, grid, block, arguments, shared_mem):
        """As cuLaunchKernel takes arguments: an array of the addresses of their values."""
        from . import emulate
        from .request import Apart, Array

        compiled = emulate.emulated_file(self.source, self.defines, emulate.settings.mode)
        watched = emulate.settings.mode in ("check", "count")
        lent = Apart() if watched else None
        slots, arrays = (ctypes.c_uint64 * len(arguments))(), []
        for i, (parameter, value) in enumerate(zip(self.kernel.parameters, arguments, strict=True)):
            if not parameter.is_pointer:
                raw = value.tobytes()
                ctypes.memmove(ctypes.byref(slots, 8 * i), raw, len(raw))
            elif value is not None:
                slots[i] = lent.address(value) if watched else value.ctypes.data
                arrays.append(Array(slots[i], value.nbytes, value.itemsize,
                                    parameter.name.encode()))
        arrays.append(Array(ctypes.addressof(slots), ctypes.sizeof(slots), 0, b""))
        places = (ctypes.c_void_p * len(arguments))(
            *(ctypes.addressof(slots) + 8 * i for i in range(len(arguments))))
        arrays.append(Array(ctypes.addressof(places), ctypes.sizeof(places), 0, b""))
        triple = ctypes.c_uint * 3
        try:
            compiled.launch(self.kernel.name, triple(*grid), triple(*block), places,
                            (Array * len(arrays))(*arrays), shared_mem)
        finally:
            if watched:
                lent.give_back()

    @functools.cached_property
    def _compiled_by_cupy(self):
        """CuPy's kernel; CuPy keeps compiled files in a cache of its own."""
        import cupy

        options = ("-std=c++17", *(f"-D{name}={value}" for name, value in self.defines))
        module = cupy.RawModule(code=self.source.text, options=options)
        return module.get_function(self.kernel.name)

    def _on_device(self, grid, block, arguments, shared_mem):
        """Through CuPy; more than 48 KB of dynamic shared memory have to be asked for first."""
        function = self._compiled_by_cupy
        if shared_mem > function.max_dynamic_shared_size_bytes:
            function.max_dynamic_shared_size_bytes = shared_mem
        pointers = tuple(np.uint64(0) if value is None else value for value in arguments)
        function(grid, block, pointers, shared_mem=shared_mem)


def _same_bits(one, other):
    """Whether elements mean the same: one type, or integers of one size, signed or not."""
    return one == other or (one.itemsize == other.itemsize and "f" not in (one.kind, other.kind))


def _is_array(value):
    """Whether it is an array of NumPy or CuPy, and not a number of NumPy."""
    return hasattr(value, "strides") and not isinstance(value, np.generic)


def _address(array):
    """Where an array begins, in ordinary memory or on the GPU."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


@functools.cache
def on_device():
    """Whether CuPy is installed and finds a GPU."""
    try:
        import cupy

        return bool(cupy.is_available())
    except ImportError:
        return False


def available():
    """Whether CUDA bodies can run here, on a GPU or in the emulator; a warning says why not."""
    from . import emulate

    if emulate.available() or on_device():
        return True
    warnings.warn(emulate.why_not(), RuntimeWarning, stacklevel=2)
    return False


kernel.backends["cuda"] = kernel.Backend("cuda", available)


def _measure(repeat=5, number=200):
    from timeit import repeat as time

    y, x = np.ones((2, 1, 32), np.float32)
    run = lambda: G(y).softmax_forward(1, 32, (y, x, 32))  # noqa: E731
    run()
    return sorted(time(run, repeat=repeat, number=number))[repeat // 2] / number


if __name__ == "__main__" and available():
    print(f"emulated_launch_us={_measure() * 1e6:.0f}")
