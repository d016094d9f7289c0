"""The border to C: what may cross, and what happens where there is no C, old C or broken C."""

import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edu import foreign, kernel
from tinygrad_edu.foreign import C, out, ptr

ROOT = Path(__file__).parents[1]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    HAS_C = foreign.available()
needs_c = pytest.mark.skipif(not HAS_C, reason="the C kernels are not built here")


# ---- arrays ----------------------------------------------------------------------------------


@needs_c
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_c_adds_two_arrays_of_either_type(dtype):
    a = np.arange(6, dtype=dtype).reshape(2, 3)
    b, y = np.full_like(a, 0.5), np.full_like(a, np.nan)
    C(y).add_forward(out(y), ptr(a), ptr(b), y.size)
    np.testing.assert_array_equal(y, [[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]])


@needs_c
def test_an_array_of_the_wrong_float_type_is_refused_by_the_function():
    y, wide = np.zeros(3, np.float32), np.zeros(3)
    with pytest.raises(TypeError, match="float.*double"):
        C(y).add_forward(out(y), ptr(y), ptr(wide), 3)


@needs_c
@pytest.mark.parametrize("dtype", ["float16", "int64", ">f4"])
def test_a_type_that_c_is_not_built_for_is_told_in_one_sentence(dtype):
    with pytest.raises(TypeError, match="built for float32 and float64, not for"):
        C(np.zeros(3, dtype))


@pytest.mark.parametrize("dtype", ["float16", "complex64", ">f4", "int16", "U1"])
def test_a_type_without_a_c_name_gets_no_pointer(dtype):
    with pytest.raises(TypeError, match="no C type stands for"):
        ptr(np.zeros(3, dtype))


@pytest.mark.parametrize("dtype", list(foreign.POINTERS))
def test_a_pointer_shows_c_the_elements_of_the_array(dtype):
    array = np.array([0, 1, 1, 0]).astype(dtype)
    pointer = ptr(array)
    assert [pointer[i] for i in range(4)] == [0, 1, 1, 0]
    assert foreign.border().sizeof(pointer) == array.nbytes


@pytest.mark.parametrize("cross", [ptr, out])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[:, 1:],
        lambda x: x[::2],
        lambda x: x[::-1],
        lambda x: np.broadcast_to(x[0], (2, 8)).view(),
    ],
    ids=["transposed", "narrowed", "every second row", "backwards", "broadcast"],
)
def test_a_view_with_gaps_is_refused_and_never_copied(cross, view):
    with pytest.raises(ValueError, match=r"cannot cross to C, (strides|it is read-only)"):
        cross(view(np.zeros((4, 8), np.float32)))


@pytest.mark.parametrize("cross", [ptr, out])
def test_an_array_that_starts_inside_a_float_is_refused(cross):
    array = np.zeros(33, np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="not aligned"):
        cross(array)


def test_c_may_read_a_read_only_array_but_not_write_it():
    array = np.ones(4, np.float32)
    array.flags.writeable = False
    assert ptr(array)[3] == 1
    with pytest.raises(ValueError, match="read-only"):
        out(array)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1, 1, 5)])
def test_scalars_and_empty_arrays_cross(shape):
    array = np.zeros(shape, np.float32)
    assert foreign.border().sizeof(out(array)) == array.nbytes


def test_a_pointer_keeps_its_array_alive():
    pointer = ptr(np.full(100_000, 7, np.float64))
    np.zeros(100_000)  # would take the freed place
    assert pointer[99_999] == 7


@needs_c
def test_every_line_of_the_header_is_a_function_of_both_libraries():
    header = (foreign.sources_folder() / "kernels.h").read_text(encoding="utf-8")
    names = set(re.findall(r"^\w+ (\w+)\(", header, re.MULTILINE))
    assert "add_forward" in names
    for lib in foreign.libraries().values():
        assert names == set(dir(lib)) - {"build_stamp"}


@needs_c
def test_both_libraries_carry_the_stamp_of_the_sources():
    for lib in foreign.libraries().values():
        assert foreign.border().string(lib.build_stamp()).decode() == foreign.sources_stamp()


@needs_c
def test_denormal_numbers_survive_in_a_process_that_has_loaded_c():
    tiny, half = np.full(1000, 1e-40, np.float32), np.full(1000, 0.5, np.float32)
    y = np.empty_like(tiny)
    C(y).mul_forward(out(y), ptr(tiny), ptr(half), y.size)
    assert np.all(y > 0)
    assert np.all(tiny * half > 0)


def test_a_native_body_serves_only_calls_that_can_cross():
    y, x = np.zeros((2, 4, 4), np.float32)
    assert foreign.fits(y, x, np.arange(4), 0.5, None)
    assert foreign.fits(y.astype(np.float64), x.astype(np.float64))
    assert not foreign.fits(y.astype(np.float16), x.astype(np.float16))
    assert not foreign.fits(y, x.astype(np.float64))
    assert not foreign.fits(y, x.T)
    assert not foreign.fits(y[:, 1:], x)
    assert not foreign.fits(y, np.zeros(65, np.uint8)[1:].view(np.float32).reshape(4, 4))


# ---- installs in which C is missing, old or broken -------------------------------------------

PROBE = """
import sys, warnings
# The finder of an editable install would look for what is missing here in another folder.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
warnings.simplefilter("always")
import numpy as np
from tinygrad_edu import foreign, kernel

@kernel.Kernel
def probe_forward(y, a, b):
    np.add(a, b, out=y)

@probe_forward.body("native")
def probe_forward_native(y, a, b):
    foreign.C(y).add_forward(foreign.out(y), foreign.ptr(a), foreign.ptr(b), y.size)

for dtype in (np.float32, np.float64):
    a = np.ones(5, dtype)
    y = np.empty_like(a)
    probe_forward(y, a, a)
    assert (y == 2).all()
    print(probe_forward.choose((y, a, a)).backend, end=" ")
"""


@pytest.fixture
def repository(tmp_path):
    """A copy of what the package and the build need, to be damaged at will."""
    shutil.copytree(ROOT / "native", tmp_path / "native")
    for folder in ("ops", "gpu"):
        shutil.copytree(ROOT / "tinygrad_edu" / folder, tmp_path / "tinygrad_edu" / folder,
                        ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*(ROOT / "tinygrad_edu").glob("*.py"), *binaries(ROOT)]:
        shutil.copy(path, tmp_path / "tinygrad_edu")
    return tmp_path


def binaries(root):
    """Those that serve on this CPU, the widest last; others may lie beside them."""
    wide = foreign.CPUS.get(C(np.zeros(1)).vector_bytes(), "") if HAS_C else ""
    names = [f"_native_{real}{cpu}" for real in ("float32", "float64") for cpu in {"": 0, wide: 0}]
    found = [path for name in names for path in (root / "tinygrad_edu").glob(f"{name}.*")]
    return [path for path in found if path.suffix in (".so", ".pyd")]


def probe(repository):
    """(the bodies that served, what was written to stderr) in a process of its own."""
    command = [sys.executable, "-c", PROBE]
    run = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split(), run.stderr


def assert_numpy_serves_and_says(repository, words):
    bodies, told = probe(repository)
    assert bodies == ["numpy", "numpy"]
    assert told.count("RuntimeWarning") == 1
    assert words in told
    assert f"run in {repository}: pip install -e ." in told


@needs_c
def test_a_whole_and_fresh_build_serves_in_silence(repository):
    assert probe(repository) == (["native", "native"], "")


def test_without_a_build_numpy_serves_and_one_warning_says_what_to_do(repository):
    for path in binaries(repository):
        path.unlink()
    assert_numpy_serves_and_says(repository, "the C kernels are not built")


@needs_c
@pytest.mark.parametrize("name", ["pointwise.c", "kernels.h", "real.h", "build.py"])
def test_a_build_older_than_its_sources_is_not_used(repository, name):
    with open(repository / "native" / name, "a") as file:
        file.write("\n")
    assert_numpy_serves_and_says(repository, "the C kernels are older than their sources")


@needs_c
def test_a_new_source_file_makes_the_build_stale(repository):
    (repository / "native" / "another.c").write_text("")
    assert_numpy_serves_and_says(repository, "older than their sources")


@needs_c
@pytest.mark.skipif(sys.platform != "linux", reason="other systems check the length themselves")
@pytest.mark.parametrize("kept", [0, 0.1, 0.5, 0.99])
def test_a_library_cut_short_is_told_not_loaded(repository, kept):
    path = binaries(repository)[-1]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert_numpy_serves_and_says(repository, "damaged")


@needs_c
@pytest.mark.skipif(sys.platform != "linux", reason="knows where ELF names the CPU")
def test_a_library_for_another_kind_of_cpu_is_told_not_loaded(repository):
    path = binaries(repository)[-1]
    content = bytearray(path.read_bytes())
    content[18:20] = (0xF3).to_bytes(2, "little")  # e_machine: RISC-V
    path.write_bytes(content)
    assert_numpy_serves_and_says(repository, "do not load")


@needs_c
def test_a_library_of_another_version_is_told_not_loaded(repository):
    path = binaries(repository)[-1]
    stamp = foreign.sources_stamp().encode()
    path.write_bytes(path.read_bytes().replace(stamp, stamp[::-1]))
    assert_numpy_serves_and_says(repository, "older than their sources")


@needs_c
def test_a_missing_library_is_told_and_no_slower_one_takes_its_place(repository):
    binaries(repository)[-1].unlink()
    assert_numpy_serves_and_says(repository, "the C kernels are not built")


@needs_c
def test_a_library_that_is_something_else_is_told_not_loaded(repository):
    stamp = foreign.sources_stamp()  # so that it gets past the question of age
    binaries(repository)[0].write_text(f"not a library {stamp}\n" * 100)
    assert_numpy_serves_and_says(repository, "do not load")


@needs_c
def test_lost_sources_are_told(repository):
    (repository / "native" / "build.py").unlink()
    assert_numpy_serves_and_says(repository, "lost their sources")


def test_importing_the_border_imports_no_cffi():
    code = (
        "import sys, tinygrad_edu.foreign\n"
        "print([name for name in sys.modules if 'cffi' in name or name.startswith('numba')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@needs_c
def test_without_cffi_numpy_serves_and_the_warning_names_it(repository):
    (repository / "_cffi_backend.py").write_text("raise ImportError('no module _cffi_backend')\n")
    assert_numpy_serves_and_says(repository, "_cffi_backend")


def test_the_kernel_asks_this_file_whether_there_is_c():
    assert kernel.backends["native"].available() == HAS_C
