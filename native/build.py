"""Lesson 0.0 · From C to Python

Needs nothing. Used by foreign.

Idea      A C compiler turns native/*.c into a shared library. cffi writes the piece between it
          and Python: an extension module that takes Python objects apart, lets go of Python's
          lock (the GIL), calls the C function, and returns. One text is built for float32 and for
          float64; on x86-64 each of them three times, for CPUs of 2003 (SSE2), 2013 (AVX2) and 2019
          (AVX-512 with integer dot products). `foreign` loads the one that is for the CPU it finds
          itself on.
Math      stamp = SHA-256 of the name, length and bytes of build.py, every .c and every .h      (1)
          The stamp is compiled in. When the library is loaded, `foreign` computes (1) again
          from the files that it finds: another value means that the build is stale.
Shapes    native/*.c + kernels.h -> tinygrad_edu/_native_float32, _native_float32_avx2 …
Pitfalls  -ffast-math links code that makes the whole process flush denormals to zero, NumPy
          included, and lets the compiler assume that there is no NaN. So it stays away. What loops
          need can be had by flags that do neither:
          -fno-math-errno       sqrt may be one instruction, since it need not set errno
          -fno-trapping-math    both sides of ?: may be computed, so the loop can be vectorised
          -ffp-contract=fast    a*b + c may be one instruction, rounded once
          -fopenmp-simd         a loop that says so may add up in another order: native/real.h
          -fno-thread-jumps     x < low ? low : x stays one minimum; GCC 12 would make two paths of
                                all that follows, and compute both for every vector
          -march=native is not among the flags: a build can meet an older CPU (in a container, on
          a shared disk, in a wheel) and dies there of an illegal instruction. GCC can also compile
          single functions for several CPUs (target_clones), on Linux alone; and a function that
          one of them shares with its neighbours must then be compiled in three versions as well.
          With a library for each CPU, any compiler serves, and no line of C speaks of it.
          On ARM64 there is one library, for what its compiler takes for granted. Linux runs on CPUs
          without a dot product of bytes, so there it is built without; Apple's compiler begins with
          the M1, which has one. For this CPU alone: CFLAGS=-mcpu=native pip install -e .
          A compiler that fails must not fail the install: `optional` below.
Cost      Seconds, once. Per call: python -m tinygrad_edu.foreign
Try       build it    CC=clang pip install -e . : the same libraries from another compiler.
          break it    add a space to native/pointwise.c, then run python -m tinygrad_edu.foreign
          measure it  python native/build.py: how much C does cffi write around ours?
See       https://cffi.readthedocs.io/en/stable/cdef.html · GCC manual, "Options That Control
          Optimization" · GCC bug 55522 (who flushes denormals) · GNU C library manual, libmvec
"""

import functools
import hashlib
import os
import platform
import sys
import tempfile
from pathlib import Path

# A relative path, because setuptools wants its sources so; `foreign` runs this file by its path.
FOLDER = Path(__file__).parent

FLAGS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fopenmp-simd",
    "-fno-thread-jumps",
]
FLAGS_MSVC = ["/O2"]
ONLY_GCC = ["-fno-thread-jumps"]  # Clang has no such mistake; ziglang refuses what it does not know

# What a library may use beyond what every CPU has. `foreign` and cpu.c know these names.
CPUS = {
    "": [],
    "_avx2": ["-mavx2", "-mfma", "-mbmi2", "-mf16c"],
    "_avx512": ["-mavx2", "-mfma", "-mbmi2", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq",
                "-mavx512vl", "-mavx512vnni"],
}


def sources(*patterns):
    """The files of this folder that match one of the patterns, in an order that never changes."""
    return sorted(path for pattern in patterns for path in FOLDER.glob(pattern))


def stamp():
    """Equation (1): 64 hexadecimal digits that stand for all sources and flags."""
    digest = hashlib.sha256()
    for path in sources("build.py", "*.c", "*.h"):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def prototypes():
    """What Python may call: kernels.h without the lines that are for the compiler alone."""
    lines = (FOLDER / "kernels.h").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def flags(cpu):
    """The flags for a key of CPUS."""
    if sys.platform == "win32":
        return FLAGS_MSVC
    extra = CPUS[cpu]
    if sys.platform == "darwin":  # one file may hold code for ARM64 too, which knows no AVX
        extra = [word for flag in extra for word in ("-Xarch_x86_64", flag)]
    left_out = ONLY_GCC if "ziglang" in os.environ.get("CC", "") else []
    return [flag for flag in FLAGS if flag not in left_out] + extra


def describe(real, name, cpu):
    """The extension module `tinygrad_edu._native_<name>`: for that C type, for that CPU."""
    from cffi import FFI  # needed to build, not to load: `foreign` gets by without it

    builder = FFI()
    builder.cdef(f"typedef {real} real;")
    builder.cdef(prototypes())
    builder.cdef("const char *build_stamp(void);")
    builder.set_source(
        f"tinygrad_edu._native_{name}",
        '#include "kernels.h"\n'
        f'static const char *build_stamp(void) {{ return "{stamp()}"; }}\n',
        sources=[path.as_posix() for path in sources("*.c")],
        depends=[path.as_posix() for path in sources("build.py", "*.h")],
        include_dirs=[FOLDER.as_posix()],
        define_macros=[("REAL_IS_FLOAT", None)] if real == "float" else [],
        extra_compile_args=flags(cpu),
        libraries=[] if sys.platform == "win32" else ["m"],
        optional=True,  # no compiler, no C: the install goes on, and NumPy and Numba serve
    )
    return builder


# What there is to build here, by name. setup.py has cffi call each of them by its name.
x86 = platform.machine() in ("x86_64", "AMD64") and sys.platform != "win32"
LIBRARIES = {
    f"{dtype}{cpu}": functools.partial(describe, real, f"{dtype}{cpu}", cpu)
    for dtype, real in (("float32", "float"), ("float64", "double"))
    for cpu in (CPUS if x86 else [""])
}
globals().update(LIBRARIES)

if __name__ == "__main__":
    ours = sum(path.read_text(encoding="utf-8").count("\n") for path in sources("*.[ch]"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "border.c"
        LIBRARIES["float32"]().emit_c_code(str(path))
        border = path.read_text(encoding="utf-8").count("\n")
    print(f"our_lines={ours} border_lines={border}")
