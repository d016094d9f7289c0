"""What an install consists of. The tests marked `install` make virtual environments: minutes."""

import ast
import fnmatch
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


# ---- without installing ----------------------------------------------------------------------


@pytest.fixture
def builders():
    """What setup.py hands to cffi, by name: (name of the module, text, keywords of the build)."""
    pytest.importorskip("cffi")
    description = runpy.run_path(str(ROOT / "native" / "build.py"))
    built = {name: description[name]() for name in description["LIBRARIES"]}
    return {name: (b._assigned_source[0], b._assigned_source[1], b._assigned_source[3])
            for name, b in built.items()}


def test_every_c_file_and_header_is_among_the_dependencies_of_every_library(builders):
    files = {path.name for path in (ROOT / "native").iterdir() if path.is_file()}
    for _, _, options in builders.values():
        named = {Path(path).name for path in [*options["sources"], *options["depends"]]}
        assert named == files


def test_only_the_word_real_and_the_cpu_tell_the_libraries_apart(builders):
    for name, (module, text, options) in builders.items():
        assert module == f"tinygrad_edu._native_{name}"
        assert text == builders["float32"][1]
        wanted = [("REAL_IS_FLOAT", None)] if name.startswith("float32") else []
        assert options["define_macros"] == wanted
        plain = builders["float32"][2]["extra_compile_args"]
        assert options["extra_compile_args"][: len(plain)] == plain
    assert {"float32", "float64"} <= set(builders)


def test_a_failing_compiler_does_not_fail_the_install(builders):
    assert all(options["optional"] for _, _, options in builders.values())


def test_no_flag_changes_the_arithmetic_of_the_process_or_binds_the_build_to_one_cpu(builders):
    for _, _, options in builders.values():
        flags = " ".join(options["extra_compile_args"])
        assert "-O3" in flags or "/O2" in flags
        for word in ("fast-math", "Ofast", "unsafe-math", "/fp:fast", "march", "mcpu"):
            assert word not in flags
    for name in ("float32", "float64"):  # they ask which of the others the CPU can run
        assert " -m" not in " ".join(["", *builders[name][2]["extra_compile_args"]])


def test_the_stamp_depends_on_every_source_and_on_nothing_else(tmp_path):
    shutil.copytree(ROOT / "native", tmp_path / "native")

    def stamp():
        return runpy.run_path(str(tmp_path / "native" / "build.py"))["stamp"]()

    before = stamp()
    (tmp_path / "native" / "notes.txt").write_text("not a source")
    assert stamp() == before
    for path in (tmp_path / "native").glob("*.[ch]"):
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert stamp() != before
        path.write_bytes(content)
    assert stamp() == before


def setup_keywords():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    call = next(node for node in calls if getattr(node.func, "id", "") == "setup")
    return {keyword.arg: keyword.value for keyword in call.keywords}


def test_sources_of_c_and_cuda_travel_with_the_package():
    patterns = ast.literal_eval(setup_keywords()["package_data"])[""]
    files = [path for folder in ("native", "cuda") for path in (ROOT / folder).rglob("*.*")]
    assert any(path.suffix == ".c" for path in files)
    for path in files:
        if path.suffix not in (".py", ".pyc"):
            assert any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns), path


def test_data_files_of_the_library_travel_with_the_package():
    patterns = ast.literal_eval(setup_keywords()["package_data"])[""]
    for path in (ROOT / "tinygrad_edu").rglob("*.*"):
        built = path.name.startswith("_native_") or "__pycache__" in path.parts
        if path.is_file() and path.suffix != ".py" and not built:
            assert any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns), path


def test_folders_of_sources_are_not_importable_packages():
    assert (ROOT / "models" / "__init__.py").exists()
    assert not (ROOT / "native" / "__init__.py").exists()
    assert not (ROOT / "cuda" / "__init__.py").exists()  # it would hide CuPy's own package `cuda`


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize(
    "target, line",
    [
        ("story", "python scripts/train_gpt.py --data stories"),
        ("chat", "python scripts/chat.py smollm2"),
        ("train", "python scripts/train_gpt.py"),
        ("test", "python -m pytest -n auto --dist worksteal"),
    ],
)
def test_make_sets_up_and_then_runs_the_plain_line(target, line):
    command = ["make", "--no-print-directory", "-n", "-B", target]  # also within `make test`
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert any(line_.endswith("-m venv .venv") for line_ in lines)
    extras = "pictures,dev,cross" if target == "test" else "pictures,chat"
    assert any(f'pip install --quiet -e ".[{extras}]"' in line_ for line_ in lines)
    assert lines[-1].endswith(line)


def test_importing_the_package_takes_numpy_at_most():
    code = "import sys, tinygrad_edu; print(*{'numba', 'cffi', 'tqdm'}.intersection(sys.modules))"
    assert output_of(code) == ""


def test_importing_the_package_takes_less_than_three_tenths_of_a_second():
    code = (
        "from time import process_time\n"
        "start = process_time()\n"
        "import tinygrad_edu\n"
        "print(process_time() - start)"
    )
    assert min(float(output_of(code)) for _ in range(5)) < 0.3


def output_of(code):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


# ---- installing ------------------------------------------------------------------------------

SMOKE = """
import sys, warnings
from pathlib import Path
import numpy as np
import tinygrad_edu.models
from tinygrad_edu import foreign
from tinygrad_edu.ops.norm import layernorm
from tinygrad_edu.tensor import Tensor

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    there = foreign.available()
assert len(told) == (0 if there else 1), told
assert (foreign.sources_folder() / "pointwise.c").exists()
for dtype in (np.float32, np.float64) if there else ():
    y = np.ones(3, dtype)
    foreign.C(y).add_forward(foreign.out(y), foreign.ptr(y), foreign.ptr(y), 3)
    assert (y == 2).all()
x = Tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
y = layernorm(x, Tensor(np.ones(4)), Tensor(np.zeros(4)))
y.backward(np.ones((3, 4)))
assert np.allclose(y.data.mean(axis=1), 0, atol=1e-6) and np.allclose(x.grad, 0, atol=1e-5)
print(there, Path(foreign.__file__).parent, *(str(warning.message) for warning in told))
"""


def has_compiler():
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(os.environ.get("CC", compiler)) is not None


@pytest.fixture
def clean_copy(tmp_path):
    """The repository without what was built in it, as after a clone."""
    skip = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "runs", "__pycache__", ".*_cache", "*.egg-info",
        "_native_*",
    )
    shutil.copytree(ROOT, tmp_path / "copy", ignore=skip)
    return tmp_path / "copy"


class Environment:
    """A new virtual environment that pip installs into."""

    def __init__(self, folder):
        venv.create(folder, with_pip=True)
        self.python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    def pip(self, *arguments, **variables):
        command = [self.python, "-m", "pip", "install", "--quiet", *arguments]
        run = subprocess.run(
            command, env=os.environ | variables, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr

    def lend_dependencies(self):
        """Let it find NumPy and the others where this process finds them: saves downloading."""
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        out = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True)
        lent = Path(importlib.util.find_spec("numpy").origin).parents[1]
        (Path(out.stdout.strip()) / "lent.pth").write_text(f"{lent}\n")

    def smoke(self, folder):
        """(is there C, where the package is, what was said) of a process in an empty folder."""
        folder.mkdir()
        command = [self.python, "-c", SMOKE]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        there, place, *told = run.stdout.strip().split(" ", 2)
        return there == "True", Path(place), " ".join(told)


@pytest.mark.install
@pytest.mark.skipif(os.name == "nt" or importlib.util.find_spec("ziglang") is None,
                    reason="there is no ziglang here: pip install ziglang")
def test_ziglang_serves_where_there_is_no_other_compiler(clean_copy, tmp_path):
    environment = Environment(tmp_path / "venv")
    environment.lend_dependencies()  # ziglang is among them
    (tmp_path / "empty").mkdir()
    environment.pip("--no-deps", str(clean_copy), PATH=str(tmp_path / "empty"))
    there, _, told = environment.smoke(tmp_path / "elsewhere")
    assert there and not told


@pytest.mark.install
@pytest.mark.parametrize("how", ["regular", "editable"])
def test_it_installs_without_a_compiler(how, clean_copy, tmp_path):
    # With one: regular in the next test, editable before the suite began (make, README).
    environment = Environment(tmp_path / "venv")
    options = ["-e"] if how == "editable" else []
    environment.pip("--no-deps", *options, str(clean_copy), CC="/bin/false")
    environment.lend_dependencies()
    there, place, told = environment.smoke(tmp_path / "elsewhere")
    assert not there
    assert (place == clean_copy / "tinygrad_edu") == (how == "editable")
    assert "the C kernels are not built" in told
    assert (f"run in {clean_copy}: pip install -e ." in told) == (how == "editable")


@pytest.mark.install
def test_a_regular_install_brings_what_it_needs_and_works_without_the_repository(
    clean_copy, tmp_path
):
    environment = Environment(tmp_path / "venv")
    environment.pip(str(clean_copy))
    shutil.rmtree(clean_copy)
    there, place, _ = environment.smoke(tmp_path / "elsewhere")
    assert there == has_compiler()
    assert place.is_relative_to(tmp_path / "venv")
