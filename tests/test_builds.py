"""native/ built in other ways: for each CPU, without vectors, with sanitizers, for other systems.

The tests marked `builds` compile all of native/ anew: pytest -m builds takes a minute or two.
"""

import functools
import importlib.util
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from test_complete import all_cases

from harness import check_body
from house import House, registered_kernels
from tinygrad_edu import foreign

ROOT = Path(__file__).parents[1]
NATIVE = ROOT / "native"
BUILD = runpy.run_path(str(NATIVE / "build.py"))
WARNINGS = ["-Wall", "-Wmissing-prototypes", "-Werror", "-Wno-unknown-pragmas"]
SYSTEMS = ["x86_64-windows-gnu", "aarch64-macos", "aarch64-linux-gnu"]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    HAS_C = foreign.available()
needs_c = pytest.mark.skipif(not HAS_C, reason="the C kernels are not built here")
HAS_GCC = sys.platform == "linux" and shutil.which("gcc") is not None
needs_gcc = pytest.mark.skipif(not HAS_GCC, reason="asks GCC on Linux")


def widest():
    """The key of build.CPUS for this CPU."""
    return foreign.CPUS.get(foreign.C(np.zeros(1)).cpu_vector_bytes(), "") if HAS_C else ""


def compile_plain(target, real, *flags, files=None, cpu=""):
    """native/ (or files of it) as a plain library, without the border that cffi writes."""
    kind = ["-DREAL_IS_FLOAT"] if real == "float32" else []
    files = [str(path) for path in files or sorted(NATIVE.glob("*.c"))]
    command = ["gcc", "-I", str(NATIVE), "-shared", "-fPIC", "-g", *BUILD["FLAGS"],
               *BUILD["CPUS"][cpu], *flags, *kind, *files, "-lm", "-o", str(target)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    return target


def open_plain(path, real, more=""):
    """The functions of such a library, called by address; more: prototypes of others in it."""
    cffi = pytest.importorskip("cffi")
    border = cffi.FFI()
    border.cdef(f"typedef {'float' if real == 'float32' else 'double'} real;")
    border.cdef(BUILD["prototypes"]() + more)
    return border.dlopen(str(path))


@functools.cache
def kernels_and_cases():
    """(name -> kernel, name -> calls), of all lessons and all test files."""
    house = House()
    return registered_kernels(house), all_cases(house)


def check_kernels(library, real, word=""):
    """Bodies in C (with `word` in the name) on the calls of CASES; returns how many agreed."""
    dtype, calls = np.dtype(real), 0
    kernels, cases = kernels_and_cases()  # with the usual library: some files compute their cases
    before, foreign.libraries = foreign.libraries, lambda: {dtype: library}
    try:
        for name, judged in kernels.items():
            for case in cases[name] if word in name and "native" in judged.bodies else ():
                try:
                    check_body(judged, case, "native", dtype.type)
                    calls += 1
                except pytest.skip.Exception:
                    pass  # a call that this body does not serve
    finally:
        foreign.libraries = before
    return calls


# ---- each CPU --------------------------------------------------------------------------------


@needs_c
def test_the_library_in_use_is_the_widest_that_this_cpu_can_run():
    for library in foreign.libraries().values():
        assert library.vector_bytes() == library.cpu_vector_bytes()


@needs_c
@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("cpu", ["", "_avx2"])
def test_libraries_for_older_cpus_agree_with_the_reference(cpu, real):
    if cpu not in ("", widest()) and widest() != "_avx512":
        pytest.skip("this CPU cannot run it")
    library = foreign.load(real + cpu, foreign.sources_stamp())
    if cpu != widest():
        assert library.vector_bytes() < library.cpu_vector_bytes()
    assert check_kernels(library, real) > 100


# A process on a CPU that qemu plays: which vectors it finds, and a product by what they are for.
ON_ANOTHER_CPU = """
import numpy as np
from tinygrad_edu import foreign
from tinygrad_edu.files.blocks import to_blocks
from tinygrad_edu.ops.packed import Packed, product_of
w = Packed(to_blocks(np.ones((3, 64), np.float32), "Q8_0"), "Q8_0")
y = product_of(np.ones((1, 64), np.float32), w)
print(foreign.C(y).vector_bytes(), bool(np.allclose(y, 64, rtol=1e-3)))
"""


@needs_c
@pytest.mark.long
@pytest.mark.parametrize("cpu, width", [("Nehalem", 16), ("Haswell-noTSX", 32)])
def test_a_cpu_without_the_instructions_of_this_one_gets_a_library_that_it_can_run(cpu, width):
    qemu = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if platform.machine() != "x86_64" or not qemu:
        pytest.skip("plays an older x86-64: apt install qemu-user")
    run = subprocess.run([qemu, "-cpu", cpu, sys.executable, "-c", ON_ANOTHER_CPU], text=True,
                         capture_output=True, timeout=600, check=False)
    assert run.stdout.split() == [str(width), "True"], run.stderr


@needs_gcc
@pytest.mark.builds
@pytest.mark.parametrize("real", ["float32", "float64"])
def test_plain_loops_without_vectors_agree_with_the_reference(real, tmp_path):
    path = compile_plain(tmp_path / "plain.so", real, "-DPORTABLE", "-O1", *WARNINGS)
    library = open_plain(path, real)
    assert library.vector_bytes() == np.dtype(real).itemsize
    assert check_kernels(library, real) > 100


# ---- vectors ---------------------------------------------------------------------------------

# Loops over elements that are no vector loops, by a piece of them; and why.
ONE_BY_ONE = {
    "sum += a[i * K + k] * b[k * M + j]": "matmul_naive is there to be slow",
    "block.seen[i] =": "64 numbers for a block of queries",
    "w->lse[r] = w->delta[r] = 0": "the same",
    "y[j * y_row + i] = x[i * x_row + j]": "serves where a compiler has no vectors",
    "to[k * width + j] = x[j * column + k * row]": "numbers far apart: the rest of a square",
    "row_target(z, t,": "a loop over rows, as the next ones",
    "rstd[n] = normalise_row(": "",
    "scale[n] = round_row(": "",
    "sum_g[k] = row_dot(": "",
    "row_total(x, shift": "",
    "column_sums(y + a": "",
    "long_row_squares(x, mean": "",
}
ONLY_WIDER = ["dropout.c"]  # SSE2 does not compare integers of 64 bits
OF_TEXT = ["unicode.c", "presplit.c", "patterns.c", "bpe_training.c", "bpe_encoding.c"]  # no rows
BY_HAND = ["packed.c", "packed_many.c", "integers.h", "blocks.h"]  # vectors of 32 numbers, named
ROW = re.compile(r"^(UNARY|BINARY|FORWARD)\(\w+,", re.MULTILINE)  # pointwise.c: loops by a macro
LOOPS = {"UNARY": 2, "BINARY": 2, "FORWARD": 1}


def loops_for_vectors(text):
    """(first line, last line, how many) of the loops of a C file that are to be vector loops.

    These are the loops under `#pragma omp simd`, and the innermost ones that write x[i], or add up
    terms with x[i], where i is what they count; unless they write zeros.
    """
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        loop = re.match(r"( *)for \(\w* ?(\w+) = .*\+\+", line)
        if loop is None or line.endswith("\\"):
            continue
        indent = len(loop[1])
        rest = [len(other) - len(other.lstrip()) <= indent for other in lines[number:]]
        last = number + (rest.index(True) if "{" in line or line.endswith(")") else 0)
        inside = "\n".join(lines[number - 1:last])
        told = "#pragma omp simd" in lines[number - 2]
        element = rf"\w\[([^]]*\W)?{loop[2]}\]"
        writes = re.search(rf"{element} [+-]?= (?!.*\b0;)|\w \+= .*{element}", inside)
        known = any(piece in inside for piece in ONE_BY_ONE)
        if told or (writes and inside.count("for (") == 1 and not known):
            yield number, max(last, number + 1), 1  # what GCC says of the line above is less
    for row in ROW.finditer(text):
        number = text.count("\n", 0, row.start()) + 1
        yield number, number, LOOPS[row[1]]


def vector_loops(real, cpu, folder=NATIVE):
    """file -> the lines of which GCC says that it made a vector loop of full width there."""
    width = {"": 16, "_avx2": 32, "_avx512": 64}[cpu]
    kind = ["-DREAL_IS_FLOAT"] if real == "float32" else []
    flags = [*BUILD["FLAGS"], *BUILD["CPUS"][cpu], *kind, "-fopt-info-vec-optimized"]
    files = [path.name for path in sorted(folder.glob("*.c"))]
    found = {}
    for name in files:
        run = subprocess.run(["gcc", "-S", "-o", os.devnull, *flags, name], cwd=folder,
                             capture_output=True, text=True, timeout=120, check=True)
        report = rf"^(\w+\.[ch]):(\d+):\d+: .*loop vectorized using {width} byte vectors"
        for file, line in re.findall(report, run.stderr, re.MULTILINE):
            found.setdefault(file, []).append(int(line))
    return found


def missing_vectors(real, cpu, folder=NATIVE):
    """A line for every loop that should be a vector loop and is none."""
    found = vector_loops(real, cpu, folder)
    for path in sorted(folder.glob("*.[ch]")):
        if path.name in OF_TEXT + BY_HAND or path.name in ONLY_WIDER and not cpu:
            continue
        text = path.read_text(encoding="utf-8")
        for first, last, count in loops_for_vectors(text):
            if sum(first <= line <= last for line in found.get(path.name, ())) < count:
                yield f"{path.name}:{first}: no vector loop {cpu}"


@needs_gcc
@pytest.mark.builds
@pytest.mark.parametrize("cpu", BUILD["CPUS"])
def test_every_loop_that_is_to_be_a_vector_loop_is_one(cpu):
    if platform.machine() != "x86_64" and cpu:
        pytest.skip("a CPU of another kind")
    assert list(missing_vectors("float32", cpu)) == []


@needs_gcc
@pytest.mark.builds
@pytest.mark.skipif(platform.machine() != "x86_64", reason="asks for AVX2")
def test_a_loop_that_is_no_vector_loop_any_more_is_noticed(tmp_path):
    folder = shutil.copytree(NATIVE, tmp_path / "native")
    for name, line, worse in [
        ("rows.h", "total += exponential(", "total += R(lgamma)("),
        ("pointwise.c", "1 / x,                          -y * y", "exp(log(x)) - 1, cbrt(y)"),
        ("swiglu.c", "y[i] = silu(x[i]);", "y[i] = silu(x[i]) + (i ? y[i - 1] : 0);"),
    ]:
        text = (folder / name).read_text(encoding="utf-8")
        assert line in text
        (folder / name).write_text(text.replace(line, worse), encoding="utf-8")
    told = {line.split(":")[0] for line in missing_vectors("float32", "_avx2", folder)}
    assert told == {"rows.h", "pointwise.c", "swiglu.c"}


# ---- sanitizers ------------------------------------------------------------------------------

# A process that begins with a sanitizer's library loaded; it prints how many calls it made.
CHECKED = """
import sys, warnings
sys.path.insert(0, sys.argv[3])
warnings.simplefilter("ignore")
import test_builds, harness
from tinygrad_edu import threads

how, word = sys.argv[4:]
more = "void meet(int pieces); int met(void);" if how else ""
library = test_builds.open_plain(*sys.argv[1:3], more)
split, run = threads.split, threads.pool.run
def pieces(function, args, cut, sums=(), grain=0):
    split(function, args, cut, sums, 0)
def together(function, pieces):
    library.meet(len(pieces))
    run(function, pieces)
    library.meet(1)
if how:  # every call is cut, however small
    threads.use(2)
    threads.split, threads.pool.run = pieces, together
    for kernel in test_builds.kernels_and_cases()[0].values():
        for body in kernel.bodies.values():
            body.grain = 0
            if how == "race":  # the pieces of a sum have one place; the result is wrong, too
                body.sums, harness.mismatch = (), lambda *given: None
print(test_builds.check_kernels(library, sys.argv[2], word), library.met() if how else 0)
"""

# ThreadSanitizer asks whether anything orders two accesses, and small pieces that run one after the
# other are in order: Python's lock went from hand to hand between them. So a function in C that
# Python called ends when its twin in the other piece is about to end. Nobody is told of it:
# `relaxed` orders nothing.
MEETING = """
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#define SILENT __attribute__((no_instrument_function))
static _Thread_local int depth;
static atomic_int size, came, pairs;

SILENT void meet(int pieces) { size = pieces, came = 0; }
SILENT int met(void) { return pairs; }
SILENT void __cyg_profile_func_enter(void *function, void *caller) { depth++; }
SILENT void __cyg_profile_func_exit(void *function, void *caller) {
    if (--depth || atomic_load_explicit(&size, memory_order_relaxed) != 2) return;
    const int all = atomic_fetch_add_explicit(&came, 1, memory_order_relaxed) / 2 * 2 + 2;
    const time_t start = time(NULL);
    while (atomic_load_explicit(&came, memory_order_relaxed) < all)
        if (sched_yield(), time(NULL) > start + 1) return;  // there is no twin
    atomic_fetch_add_explicit(&pairs, 1, memory_order_relaxed);
}
"""


def run_with(sanitizer, path, real, how="", word=""):
    """A process in which `check_kernels` is watched by a sanitizer of GCC."""
    library = subprocess.run(["gcc", f"-print-file-name=lib{sanitizer}.so"], capture_output=True,
                             text=True, check=True).stdout.strip()
    variables = {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1",
                 "TSAN_OPTIONS": "halt_on_error=1", "NUMBA_DISABLE_JIT": "1", "TG_BACKEND": ""}
    command = [sys.executable, "-c", CHECKED, str(path), real, str(ROOT / "tests"), how, word]
    if sanitizer == "tsan" and shutil.which("setarch"):
        command = ["setarch", "-R", *command]  # it wants memory where it always was
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True,
                          timeout=300, check=False)


MEMORY = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1"]
RACES = ["-fsanitize=thread", "-O1", "-finstrument-functions",
         "-Wl,-Bsymbolic"]  # libc has functions of MEETING's names, too, which do nothing


@needs_gcc
@pytest.mark.builds
@pytest.mark.parametrize("real, wide", [("float32", True), ("float64", False)])
def test_no_kernel_touches_foreign_memory_or_does_what_c_leaves_undefined(real, wide, tmp_path):
    path = compile_plain(tmp_path / "asan.so", real, *MEMORY, cpu=widest() if wide else "")
    run = run_with("asan", path, real)
    assert run.returncode == 0, run.stderr[-4000:]
    assert int(run.stdout.split()[0]) > 100


@needs_gcc
@pytest.mark.builds
@pytest.mark.parametrize(
    "loop, word",
    [("for (int64_t i = 0; i < n; i++) y[i] = x[i] * x[i];", ""),
     ("for (int64_t i = 0; i < n + 100; i++) y[i] = x[i] * x[i];", "heap-buffer-overflow"),
     ("for (int64_t i = 0; i < n; i++) y[i] = x[i] * x[i] + 0 * (1 << (n + 32));",
      "shift exponent")],
)
def test_the_sanitizers_see_a_mistake(loop, word, tmp_path):
    function = f"void square_forward(real *y, const real *x, int64_t n) {{ {loop} }}\n"
    (tmp_path / "square.c").write_text(f'#include "kernels.h"\n{function}')
    files = [tmp_path / "square.c", NATIVE / "cpu.c"]
    path = compile_plain(tmp_path / "asan.so", "float32", *MEMORY, files=files)
    run = run_with("asan", path, "float32", word="square_forward")
    assert (run.returncode == 0) == (word == "")
    assert word in run.stderr


@needs_gcc
@pytest.mark.builds
def test_two_threads_never_touch_the_same_number_and_would_be_seen(tmp_path):
    (tmp_path / "meeting.c").write_text(MEETING)
    files = [*sorted(NATIVE.glob("*.c")), tmp_path / "meeting.c"]
    path = compile_plain(tmp_path / "tsan.so", "float32", *RACES, files=files)
    right = run_with("tsan", path, "float32", "right")
    assert right.returncode == 0, right.stderr[-4000:]
    assert all(int(count) > 100 for count in right.stdout.split())  # calls, and pairs that met
    race = run_with("tsan", path, "float32", "race", "sum_rows")  # without a part per piece
    assert race.returncode != 0
    assert "data race" in race.stderr


# ---- other systems ---------------------------------------------------------------------------


@pytest.mark.builds
@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_c_file_compiles_for_other_systems(system, real, tmp_path):
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("there is no ziglang here: pip install ziglang")
    flags = [flag for flag in BUILD["FLAGS"] if flag not in BUILD["ONLY_GCC"]]
    kind = ["-DREAL_IS_FLOAT"] if real == "float32" else []
    for path in sorted(NATIVE.glob("*.c")):
        if not kind and not re.search(r"\breal\b", path.read_text(encoding="utf-8")):
            continue  # the same in both builds
        command = [sys.executable, "-m", "ziglang", "cc", "-target", system, "-mcpu=baseline",
                   *flags, *kind, "-Wall", "-Werror", "-Wno-pass-failed",
                   "-c", str(path), "-o", str(tmp_path / "one.o")]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert run.returncode == 0, run.stderr
