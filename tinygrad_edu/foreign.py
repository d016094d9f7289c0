"""Lesson 1.6 · The border to C

Needs kernel. Used by pointwise.

Idea      A C function knows nothing of arrays: it gets an address, believes what the caller says
          about type and length, and reads. Whoever is wrong at this border gets no exception but
          another array's bytes, or a dead process. So a body written in C crosses it through three
          words that check. C(y) is the library built for the type of y. ptr(x) is the address of x
          together with its type, and out(y) the same for an array that C writes into. A layout that
          C would misread is refused: a silent copy would hide its cost, and for an output the
          result would land in the copy.
          The other question is whether there is any C at all. It is asked once, when a kernel that
          has a body in C is first called: without a compiler, Numba and NumPy serve.
Math      built = the stamp inside the library      here = the stamp of native/ as it is now     (1)
          use the library  ⇔  its file is whole  ∧  built = here  ∧  it loads                    (2)
Shapes    Any shape: C order, aligned, native byte order. float32 float64 · int8 int32 int64 uint8
          uint16 uint64 bool. C gets the address of the first element; lengths travel beside the pointers.
Pitfalls  A view such as x[:, 1:] or x.T has gaps or another order: use memory.contiguous first.
          Weights mapped from a file are read-only, and writing through their bare address kills
          the process: hence `out`.
          A piece of a file can start at any byte. A float there is not aligned, which NumPy bears
          and C forbids.
          A library cut short by a full disk may load, and die at the first touch of a page that is
          missing: its length is compared with what its own header announces, before it is loaded.
          A stale library may have other parameters in the same places: it is not loaded either.
Cost      A bit over a microsecond for a call with three arrays, 0.3 of it for each pointer; the
          address alone by NumPy's x.ctypes.data takes 0.9: python -m tinygrad_edu.foreign
Try       build it    write strided_ptr(x), which also takes rows with gaps between them and returns
                      the pointer and the gap. Which kernels could then do without a copy?
          break it    let `out` return ptr(array). Which test in tests/test_foreign.py fails?
          measure it  python -m tinygrad_edu.foreign
See       https://cffi.readthedocs.io/en/stable/ref.html (from_buffer) · System V ABI, "ELF header"
"""

import functools
import importlib
import importlib.util
import runpy
import struct
import warnings
from pathlib import Path

import numpy as np

from . import kernel

HERE = Path(__file__).parent
REALS = (np.dtype("float32"), np.dtype("float64"))
POINTERS = {
    np.dtype("float32"): "float[]",
    np.dtype("float64"): "double[]",
    np.dtype("int32"): "int32_t[]",
    np.dtype("int64"): "int64_t[]",
    np.dtype("uint64"): "uint64_t[]",
    np.dtype("int8"): "int8_t[]",
    np.dtype("uint8"): "uint8_t[]",
    np.dtype("uint16"): "uint16_t[]",
    np.dtype("bool"): "_Bool[]",
}
CPUS = {64: "_avx512", 32: "_avx2"}  # bytes in a vector: the libraries of native/build.py
ADDRESSES = {np.dtype("float32"): "float *", np.dtype("float64"): "double *"}
C_ORDER, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400  # bits of flags.num: one look instead of three
READABLE = C_ORDER | ALIGNED
WRITABLE = READABLE | WRITEABLE


# ---- arrays ----------------------------------------------------------------------------------


def C(array):
    """The library whose `real` is the type of this array: C(y).add_forward(out(y), ...).

    Raises TypeError for a type that C is not built for, OSError where there is no C.
    """
    try:
        return libraries()[array.dtype]
    except KeyError:
        message = f"C kernels are built for float32 and float64, not for {array.dtype}: use astype"
        raise TypeError(message) from None


def any_C():
    """A library for kernels without a float among their arguments: it is the same in all."""
    return next(iter(libraries().values()))


def ptr(array):
    """The typed address of an array that C reads; it keeps the array alive.

    Raises ValueError where elements do not lie in C order without gaps, TypeError for other types.
    """
    if array.flags.num & READABLE != READABLE:
        raise ValueError(_refusal(array))
    return _pointers[array.dtype](array)


def out(array):
    """The typed address of an array that C writes into: as ptr, but not a read-only one."""
    if array.flags.num & WRITABLE != WRITABLE:
        raise ValueError(_refusal(array))
    return _pointers[array.dtype](array)


class _Pointers(dict):
    """type -> what makes an array of it a typed address; found when it is first asked for."""

    def __missing__(self, dtype):
        if dtype not in POINTERS:
            raise TypeError(f"no C type stands for {dtype}: use astype")
        cffi = border()
        self[dtype] = functools.partial(cffi.from_buffer, cffi.typeof(POINTERS[dtype]))
        return self[dtype]


_pointers = _Pointers()


def address(array):
    """The typed address of an array of reals with any strides, which then travel beside it.

    Unlike ptr, it neither checks the layout nor keeps the array alive.
    """
    return border().cast(ADDRESSES[array.dtype], array.ctypes.data)


def heads(array):
    """Address and strides of a view (B, H, T, D) that C may read with gaps between its rows.

    The D numbers of a row lie side by side, as heads do in a packed array. None becomes NULL.
    Raises ValueError where they do not. Keeps the array alive no more than `address` does.
    """
    if array is None:
        return border().NULL, 0, 0, 0
    if not lies_in_rows(array):
        raise ValueError(f"a view {array.shape} with strides {array.strides} cannot cross to C: "
                         "its last axis has gaps, use memory.contiguous")
    return address(array), *(stride // array.itemsize for stride in array.strides[:3])


def lies_in_rows(array):
    """Whether `heads` takes an array: real, aligned, and its last axis without gaps."""
    whole = array.strides[-1] == array.itemsize or array.shape[-1] == 1
    return array.ndim == 4 and array.dtype in REALS and array.flags.aligned and whole


@kernel.asked_once
def fits(*args):
    """Whether C can serve a kernel call as it is, for @kernel.body("native", when=fits).

    All arrays lie as C reads them, and the floats among them have one type that C is built for.
    """
    real = args[0].dtype
    if real not in REALS:
        return False
    for array in args:
        if isinstance(array, np.ndarray):
            if array.flags.num & READABLE != READABLE:
                return False
            if array.dtype is not real and array.dtype.kind == "f" and array.dtype != real:
                return False
    return True


@kernel.asked_once
def fits_any(*args):
    """`fits` for kernels without a float among their arguments: all arrays lie as C reads them."""
    arrays = (array for array in args if isinstance(array, np.ndarray))
    return all(array.flags.num & READABLE == READABLE for array in arrays)


def _refusal(array):
    if not array.flags.c_contiguous:
        problem = f"strides {array.strides} leave gaps or run backwards: use memory.contiguous"
    elif not array.flags.aligned:
        problem = "its first element is not aligned: use copy"
    else:
        problem = "it is read-only, and C would write into it: use copy"
    return f"an array {array.shape} of {array.dtype} cannot cross to C, {problem}"


# ---- libraries -------------------------------------------------------------------------------


@functools.cache
def border():
    """cffi's own functions: the part of it that needs no parser and no compiler."""
    from _cffi_backend import FFI  # what built libraries import; `import cffi` costs far more

    return FFI()


@functools.cache
def libraries():
    """The two libraries by dtype. Raises OSError, in one sentence, where (2) does not hold."""
    here = sources_stamp()
    return {dtype: load_for_cpu(dtype.name, here) for dtype in REALS}


def load_for_cpu(name, here):
    """The library for one dtype and this CPU, which the library for every CPU can ask."""
    plain = load(name, here)
    wide = CPUS.get(plain.cpu_vector_bytes())
    return load(name + wide, here) if wide else plain


def available():
    """Whether there is C to call; where there is not, a warning says why and what to do."""
    try:
        libraries()
    except OSError as error:
        warnings.warn(f"NumPy and Numba serve: {error}", RuntimeWarning, stacklevel=2)
        return False
    return True


kernel.backends["native"] = kernel.Backend("native", available)


def sources_folder():
    """native/: inside the package in a regular install, beside it in a repository."""
    inside = HERE / "native"
    return inside if inside.is_dir() else HERE.parent / "native"


def sources_stamp():
    """`here` of (1), computed by the same lines that computed `built`. OSError without sources."""
    path = sources_folder() / "build.py"
    if not path.exists():
        raise OSError(f"the C kernels have lost their sources in {path.parent}; {remedy()}")
    return runpy.run_path(str(path))["stamp"]()


def load(name, here):
    """The functions of the library of that name, after the three questions of (2)."""
    module = f"tinygrad_edu._native_{name}"
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise OSError(f"the C kernels are not built; {remedy()}")
    content = Path(spec.origin).read_bytes()
    if is_cut_short(content):
        raise OSError(f"the C kernels in {spec.origin} are damaged; {remedy()}")
    if here.encode() not in content:
        raise OSError(f"the C kernels are older than their sources; {remedy()}")
    try:
        return importlib.import_module(module).lib
    except ImportError as error:
        raise OSError(f"the C kernels do not load ({error}); {remedy()}") from error


def remedy():
    """What to do, for this kind of install."""
    have = "to get them, have a C compiler (without one: pip install ziglang) and "
    if sources_folder().parent == HERE:
        return have + "install again: pip install --force-reinstall"
    return have + f"run in {HERE.parent}: pip install -e ."


def is_cut_short(content):
    """Whether a library of Linux (ELF) ends before its last table, which its header announces."""
    if len(content) < 64:
        return True
    if content[:5] != b"\x7fELF\x02":  # other systems check this themselves
        return False
    start, size, count = struct.unpack_from("=40xQ10xHH", content)
    return start + size * count > len(content)


def _measure(repeat=5, number=100_000):
    from timeit import repeat as time

    y, x = np.zeros((2, 8), np.float32)
    statements = {
        "numpy": "np.add(x, x, out=y)",
        "native": "C(y).add_forward(out(y), ptr(x), ptr(x), x.size)",
        "ptr": "ptr(x)",
        "ctypes": "x.ctypes.data",
    }
    scope = {**globals(), "x": x, "y": y}
    rounds = {name: time(line, globals=scope, repeat=repeat, number=number)
              for name, line in statements.items()}
    return {name: sorted(times)[repeat // 2] / number * 1e6 for name, times in rounds.items()}


if __name__ == "__main__" and available():
    print(" ".join(f"{name}_us={took:.2f}" for name, took in _measure().items()))
