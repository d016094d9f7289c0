"""A stand-in for CuPy on machines without a GPU: its arrays, its refusals, its RawModule.

Arrays live in ordinary memory but say that they do not: like CuPy's they refuse to become arrays of
NumPy silently, to meet them in an operation, and to be filled from them. RawModule runs the text it
is given in the emulator. Every copy to the host is written down in `copies`, in bytes.
"""

import ctypes
import sys
import types

import numpy as np

from tinygrad_edu.gpu import emulate, launch, source
from tinygrad_edu.gpu.request import Array

copies = []  # bytes of each copy to the host
METHODS = ("astype", "reshape", "swapaxes", "transpose", "copy", "sum", "max", "min", "mean", "any",
           "all", "argsort", "cumsum", "ravel", "repeat", "squeeze", "view", "fill", "argmax")
# What cupy has of the functions of numpy that may be asked for: looked up in CuPy 14.2.
FUNCTIONS = {"empty", "zeros", "asarray", "arange", "where", "clip", "concatenate", "split", "dot",
             "bincount", "cumsum", "argsort", "sum", "copyto", "broadcast_to", "moveaxis",
             "expand_dims", "swapaxes", "squeeze", "shares_memory", "matmul", "repeat", "shape",
             "ascontiguousarray", "empty_like", "zeros_like", "full_like", "prod", "stack"}


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that is not one of NumPy."""

    def __init__(self, host, base=None):
        self._host, self.base = host, base

    dtype = property(lambda self: self._host.dtype)
    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: self.transpose())
    data = property(lambda self: types.SimpleNamespace(ptr=self._host.ctypes.data))
    __cuda_array_interface__ = property(lambda self: {"shape": self.shape, "version": 3})

    def get(self):
        """The one way to the host."""
        copies.append(self.nbytes)
        return self._host.copy()

    def item(self):
        return self.get().item()

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __getattr__(self, name):
        if name not in METHODS:
            raise AttributeError(f"the stand-in for CuPy's arrays has no {name}")

        def method(*args, **options):
            return wrap(getattr(self._host, name)(*map(bare, args), **strict(options)), self)
        return method

    def __len__(self):
        return len(self._host)

    def __bool__(self):
        return bool(self.get())

    def __int__(self):
        return int(self.get())

    def __float__(self):
        return float(self.get())

    def __getitem__(self, where):
        parts = where if isinstance(where, tuple) else (where,)
        parts = tuple(p._host if isinstance(p, ndarray) else p for p in parts)
        return wrap(self._host[parts], self)

    def __setitem__(self, where, value):
        if isinstance(value, np.ndarray):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        parts = where if isinstance(where, tuple) else (where,)
        parts = tuple(p._host if isinstance(p, ndarray) else p for p in parts)
        self._host[parts] = bare(value)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        out = options.pop("out", None)
        if out is not None:
            options["out"] = tuple(strict(o) for o in out)
        result = getattr(ufunc, method)(*map(strict, inputs), **options)
        return out[0] if out is not None else wrap(result, self)

    def __array_function__(self, function, kinds, args, options):
        if function.__name__ not in FUNCTIONS:
            raise TypeError(f"CuPy has no {function.__name__}, or nobody has looked it up")
        if function.__name__ == "asarray":  # the one way from the host
            return wrap(np.array(args[0], *args[1:], **options))
        return wrap(function(*strict(args), **strict(options)), self)


def strict(value):
    """What is behind arrays, in lists too; an array of NumPy among them is refused, as by CuPy."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(strict, value))
    if isinstance(value, dict):
        return {name: strict(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return bare(value)


def bare(value):
    return value._host if isinstance(value, ndarray) else value


def wrap(value, parent=None):
    """What NumPy has returned as an array of this module: a number too, which is an array there."""
    if isinstance(value, (tuple, list)):
        return type(value)(wrap(one, parent) for one in value)
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    shared = parent is not None and np.shares_memory(value, parent._host)
    base = None if not shared else parent if parent.base is None else parent.base
    return ndarray(np.asarray(value), base)


def asarray(value, dtype=None):
    return value if isinstance(value, ndarray) else wrap(np.array(value, dtype))


def empty(shape, dtype=float):
    return wrap(np.empty(shape, dtype))


def as_strided(array, shape, strides):
    return wrap(np.lib.stride_tricks.as_strided(array._host, shape, strides), array)


class RawModule:
    """A text and options of the compiler, as CuPy takes them; it runs in the emulator."""

    def __init__(self, code, options=()):
        defines = (option[2:].split("=", 1) for option in options if option.startswith("-D"))
        self.defines = tuple((name, value) for name, value in defines)
        self.text = source.Source("on_device.cu", code)

    def get_function(self, name):
        return Function(self, name)


class Function:
    """A kernel of a RawModule."""

    def __init__(self, module, name):
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = 48 << 10

    def __call__(self, grid, block, arguments, shared_mem=0):
        assert shared_mem <= self.max_dynamic_shared_size_bytes, "ask for it first"
        compiled = emulate.emulated_file(self.module.text, self.module.defines, "fast")
        slots, places = (ctypes.c_uint64 * len(arguments))(), (ctypes.c_void_p * len(arguments))()
        for i, value in enumerate(arguments):
            assert not isinstance(value, np.ndarray), "an array of NumPy cannot be read by a GPU"
            assert isinstance(value, (ndarray, np.generic)), f"a number without a width: {value!r}"
            raw = np.uint64(value.data.ptr) if isinstance(value, ndarray) else value
            ctypes.memmove(ctypes.byref(slots, 8 * i), raw.tobytes(), raw.nbytes)
            places[i] = ctypes.addressof(slots) + 8 * i
        triple = ctypes.c_uint * 3
        compiled.launch(self.name, triple(*grid), triple(*block), places, (Array * 0)(), shared_mem)


ndarray.__module__ = "cupy"


def install(monkeypatch):
    """Let `import cupy` find this inside a test, and a GPU with it."""
    module = types.ModuleType("cupy")
    vars(module).update(
        ndarray=ndarray, asarray=asarray, empty=empty, RawModule=RawModule,
        is_available=lambda: True, matmul=np.matmul, copyto=np.copyto,
        cuda=types.SimpleNamespace(Device=lambda: types.SimpleNamespace(synchronize=int)),
        lib=types.SimpleNamespace(
            stride_tricks=types.SimpleNamespace(as_strided=as_strided)),
        get_default_memory_pool=lambda: types.SimpleNamespace(total_bytes=lambda: 0))
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(launch, "on_device", lambda: True)
    monkeypatch.setattr("tinygrad_edu.gpu.device.on_device", lambda: True)
    monkeypatch.setattr("tinygrad_edu.tape._kinds", type(sys.modules["tinygrad_edu.tape"]._kinds)())
    launch._library.cache_clear()
    copies.clear()
