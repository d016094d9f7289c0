"""The house keeps its own rules (tests/house.py), and each rule can speak.

First every rule meets a small house that it has nothing to say about, then the same house with one
thing wrong in it; only then the repository itself.
"""

import ast
import inspect
import subprocess
import sys
import textwrap

import pytest

import house
from house import ROOT, RULES, House

LOW = '''\
"""Lesson 1.0 · Twice

Needs nothing. Used by high, scripts/run.py.

Idea      Two of a kind.
Math      y = 2·x                                                                             (1)
Shapes    x, y: numbers
Pitfalls  Twice a string is a longer string.
Cost      One addition.
Try       build it    thrice
          break it    return x. Which test notices?
          measure it  nothing to measure
See       arithmetic
"""

import os

BACKEND = os.environ.get("TG_BACKEND", "")


def twice(x):
    """2·x, eq. (1)."""
    y = x
    # A sum and not a product, because sums are taught first.
    y = y + x                                                                                 # (1)
    return y
'''

MORE = """

def _more{0}():
    # {0} times {0}, and more.
    x = twice({0})
    return x * x + {0} * (x - {0}) + {0}
"""
LOW += "".join(MORE.format(i) for i in range(12))  # enough code to be judged

HIGH = (
    LOW.replace("1.0 · Twice", "2.0 · Four times")
    .replace("Needs nothing. Used by high, scripts/run.py.", "Needs low. Used by every script.")
    .replace("import os\n", "from tinygrad_edu import low\n")
    .replace('os.environ.get("TG_BACKEND", "")', "low.BACKEND")
    .replace("    y = x\n", "    y = low.twice(x)\n")
)

SMALL_HOUSE = {
    "tinygrad_edu/__init__.py": '"""A library."""\n\nfrom .low import twice\n',
    "tinygrad_edu/low.py": LOW,
    "tinygrad_edu/ops/__init__.py": '"""Operations."""\n',
    "tinygrad_edu/ops/high.py": HIGH,
    "scripts/run.py": "from tinygrad_edu.ops.high import twice\n\nprint(twice(1))\n",
    "tests/test_low.py": "def test_twice():\n    assert True\n",
    "native/low.c": "/* y = 2·x, (1) */\nvoid low(double *y, const double *x, int n);\n",
    "README.md": "# A house\n",
}


def build(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return House(folder)


LONG_FUNCTION = "\n\ndef long():\n" + "    print(1, 2)\n" * 39
DENSE = "\n\nx = [\n" + "    a + b * c - d / e % f,\n" * 60 + "]\n"
LOW_PY, HIGH_PY, RUN_PY = "tinygrad_edu/low.py", "tinygrad_edu/ops/high.py", "scripts/run.py"

# (rule, file, what is replaced, by what, what the rule says). None: the file is new or grows.
PLANTED = [
    ("every_library_file_is_a_lesson", LOW_PY, "Lesson 1.0 ·", "Chapter 1:", "must begin with"),
    ("every_library_file_is_a_lesson", "models/gpt.py", None, "x = 1\n", "must begin with"),
    ("lesson_numbers_are", "tinygrad_edu/more.py", None, LOW, "the number of"),
    ("lesson_numbers_are", HIGH_PY, "2.0 ·", "3.0 ·", "floor of tinygrad_edu/ops/ is 2, not 3"),
    ("lesson_numbers_are", "tinygrad_edu/new/a.py", None, LOW, "given in tests/house.py"),
    ("imports_point_down", LOW_PY, "import os\n", "from .ops import high\n", "not lower"),
    ("imports_point_down", LOW_PY, "    y = x\n", "    from .ops.high import z\n", "not lower"),
    ("imports_point_down", LOW_PY, "import os\n", "import tinygrad_edu.ops.high\n", "not lower"),
    ("imports_point_down", LOW_PY, "import os\n", "import tinygrad_edu\n", "not its package"),
    ("imports_point_down", LOW_PY, "import os\n", "from tinygrad_edu import nil\n", "not its pack"),
    ("imports_point_down", LOW_PY, "import os\n", "import test_low\n", "does not import tests/"),
    ("scripts_do_not_import", "scripts/b.py", None, "from scripts import run\n", "imports lessons"),
    ("slots_are", LOW_PY, "Cost      One addition.\n", "", "found ('Idea',"),
    ("slots_are", LOW_PY, "Cost      One", "Cost One", "the slots must be"),
    ("slots_are", LOW_PY, "Math      y = 2·x", "Shapes    y = 2·x", "the slots must be"),
    ("slots_are", LOW_PY, "Shapes    x, y: numbers", "Shapes    ", "the slots must be"),
    ("slots_are", LOW_PY, "One addition.\n", "One addition.\nAnother.\n", ":10: text of a slot"),
    ("slots_are", LOW_PY, "          break it    return", "          return", "must have the"),
    ("slots_are", LOW_PY, "measure it  nothing", "measure nothing", "must have the entries"),
    ("needs_is", HIGH_PY, "Needs low", "Needs nothing", "but Needs does not say so"),
    ("needs_is", HIGH_PY, "Needs low", "Needs low, middle", "'middle', which is no lesson"),
    ("needs_is", LOW_PY, "Needs nothing", "Needs high", "the file does not import it"),
    ("used_by", LOW_PY, "scripts/run.py.", "scripts/gone.py.", "no lesson and no file"),
    ("used_by", LOW_PY, "scripts/run.py.", "tests/test_low.py.", "does not use it"),
    ("used_by", HIGH_PY, "every script", "every model", "every model does not use it"),
    ("cited_equations_exist", LOW_PY, "      # (1)", "      # (2)", "cites equation (2)"),
    ("what_a_docstring_tells", LOW_PY, "arithmetic", "tests/test_gone.py", "no tests/test_gone"),
    ("what_a_docstring", LOW_PY, "arithmetic", "python -m tinygrad_edu.low", "runs nothing"),
    ("lines_are_at_most", "native/low.c", None, "// " + "x" * 98 + "\n", ":3: 101 columns"),
    ("lines_are_at_most", LOW_PY, "Idea      Two of a kind", "x" * 100, ":5: 101 columns"),
    ("one_statement_a_line", LOW_PY, "    y = x\n", "    y = x; z = y\n", "more than one"),
    ("one_statement_a_line", LOW_PY, "    y = x\n", "    if x: y = x\n", "more than one"),
    ("functions_are_short", "tests/test_low.py", None, LONG_FUNCTION, "long has 40 lines"),
    ("lessons_are_about", LOW_PY, None, "# so much to say\n" * 300, "lines beside"),
    ("lessons_are_about", LOW_PY, LOW[LOW.index("\n\nBACKEND") :], "", "lines beside"),
    ("code_is_neither", LOW_PY, None, DENSE, "median"),
    ("code_is_neither", LOW_PY, None, "\n\nx = (\n" + "    1,\n" * 60 + ")\n", "mean 4"),
    ("lessons_explain", LOW_PY, None, "x = 1 + 2 + 3\n" * 150, "prose lines a code line"),
    ("lessons_explain", LOW_PY, None, "# so much to say\n" * 90, "prose lines a code line"),
    ("public_functions", LOW_PY, '    """2·x, eq. (1)."""\n', "", "twice has no docstring"),
    ("lessons_import_at_the_top", LOW_PY, "import os\n", "import numba\n", "import numba where"),
    ("lessons_import", LOW_PY, "import os\n", "if 1:\n    from cffi import FFI\n", "import cffi"),
    ("test_names", "tests/test_low.py", None, "\n\ndef test_twice():\n    pass\n", "already"),
    ("test_file_names", "tests/zoo/test_low.py", None, "x = 1\n", "has the same name"),
    ("test_folders", "tests/ops/__init__.py", None, "x = 1\n", "has no __init__.py"),
    ("environment_var", LOW_PY, '"TG_BACKEND", ""', '"TG_SPEED", ""', "TG_SPEED is not one of"),
    ("environment_var", RUN_PY, None, 'import os\n\nx = os.environ["HOME"]\n', "reads 'HOME'"),
    ("environment_var", RUN_PY, None, 'import os\n\nx = os.getenv("A" + "B")\n', "reads"),
    ("no_path_of", "README.md", None, "Look into /" + "home/me/house.\n", "one machine only"),
    ("no_path_of", RUN_PY, None, 'x = "C:\\\\' + 'Users\\\\me"\n', "one machine only"),
]


def rule_named(start):
    (rule,) = [rule for rule in RULES if rule.__name__.startswith(start)]
    return rule


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_has_nothing_to_say_about_a_house_that_keeps_it(rule, tmp_path):
    assert list(rule(build(tmp_path, SMALL_HOUSE))) == []


@pytest.mark.parametrize(("start", "file", "old", "new", "said"), PLANTED)
def test_a_rule_notices_what_breaks_it(start, file, old, new, said, tmp_path):
    files = dict(SMALL_HOUSE)
    text = files.get(file, "")
    assert old is None or text.count(old) == 1, "the planted error must take"
    files[file] = text + new if old is None else text.replace(old, new)
    found = list(rule_named(start)(build(tmp_path, files)))
    assert any(line.startswith(f"{file}:") and said in line for line in found), found


def test_every_rule_is_in_the_list_and_has_a_planted_violation():
    functions = inspect.getmembers(house, inspect.isgeneratorfunction)
    takes_a_house = [f for _, f in functions if list(inspect.signature(f).parameters) == ["house"]]
    assert set(takes_a_house) == set(RULES)
    assert {rule_named(start) for start, *_ in PLANTED} == set(RULES)


@pytest.fixture(scope="module")
def repository():
    return House()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule, repository):
    found = list(rule(repository))
    assert not found, "\n" + "\n".join(found)


def test_each_of_the_three_environment_variables_is_read_somewhere(repository):
    library = [s for s in repository.lesson_files if s.path.startswith("tinygrad_edu/")]
    read = {house.read_from_environment(node) for s in library for node in ast.walk(s.tree)}
    assert read >= house.VARIABLES


# ---- what the reading itself must get right -----------------------------------------------------


def test_a_name_that_a_package_passes_on_is_traced_to_its_lesson(tmp_path):
    text = HIGH.replace("from tinygrad_edu import low\n", "from tinygrad_edu import twice as low\n")
    small = build(tmp_path, SMALL_HOUSE | {HIGH_PY: text})
    assert set(small.imports[HIGH_PY]) == {LOW_PY}


def test_relative_and_absolute_imports_name_the_same_file(tmp_path):
    for line in ("from .. import low", "from ..low import twice", "import tinygrad_edu.low"):
        text = HIGH.replace("from tinygrad_edu import low\n", line + "\n")
        small = build(tmp_path, SMALL_HOUSE | {HIGH_PY: text})
        assert set(small.imports[HIGH_PY]) == {LOW_PY}, line


def test_models_are_imported_by_their_installed_name(tmp_path):
    files = {"models/__init__.py": "", "models/gpt.py": LOW.replace("1.0", "4.0")}
    run = "from tinygrad_edu.models import gpt\n"
    small = build(tmp_path, SMALL_HOUSE | files | {RUN_PY: run})
    assert set(small.imports[RUN_PY]) == {"models/gpt.py"}


def test_an_f_string_is_one_token_and_a_docstring_none(tmp_path):
    text = '"""A\nB."""\n\nx = f"{a + b} and {c:>{d}}" + "e"  # why it is so\ny = f"""\n{x}\n"""\n'
    small = build(tmp_path, {"a.py": text})
    source = small.sources["a.py"]
    assert house.tokens_of_lines(source) == {4: 5, 5: 3}
    assert house.prose_lines(source) == {1, 2, 4}


def test_hidden_and_built_folders_are_not_read(tmp_path):
    files = {".venv/a.py": "(", "x.egg-info/a.py": "(", "build/a.py": "(", ".ci/run": "pytest\n"}
    assert set(build(tmp_path, files).paths) == {".ci/run"}


# ---- kernels: the same parameters in every language ----------------------------------------------

NORM = {"norm_forward": ["y", "rstd", "x", "w", "eps"]}


def differences(signature):
    return list(house.parameters_differ(NORM, "norm.c", f"void norm_forward({signature}) {{\n}}\n"))


def test_c_may_have_lengths_and_strides_between_the_parameters_of_the_kernel():
    assert not differences("real *y, real *rstd, const real *x, const real *w, real eps, int64_t N")
    assert not differences("real *y, real *rstd, const real *x, long n, const real *w, double eps")


@pytest.mark.parametrize(
    "signature",
    [
        "real *rstd, real *y, const real *x, const real *w, double eps, int64_t N",
        "real *y, real *rstd, const real *w, const real *x, double eps, int64_t N",
        "real *y, real *rstd, const real *x, const real *w, const real *b, double eps, int64_t N",
        "real *y, real *rstd, const real *x, const real *w, double epsilon, int64_t N",
        "int64_t N, const real *x",
    ],
)
def test_c_parameters_in_another_order_or_with_another_name_are_noticed(signature):
    assert differences(signature)


def test_comments_in_c_are_not_read_as_parameters():
    assert not differences("real *y, // the output, (N, C)\n real *rstd, const real *x /* , z */")


@pytest.fixture(scope="module")
def kernels(repository):
    """name -> parameters of every kernel that the lessons register."""
    table = house.registered_kernels(repository)
    return {name: list(kernel.parameters) for name, kernel in table.items()}


def c_files(repository):
    suffixes = (".c", ".h", ".cu", ".cuh")
    found = [name for name in repository.paths if name.endswith(suffixes)]
    return {n: repository.paths[n].read_text("utf-8") for n in found if "emulator" not in n}


def test_a_kernel_has_the_same_parameters_in_c_and_cuda_as_in_python(repository, kernels):
    found = []
    for name, text in c_files(repository).items():
        found += house.parameters_differ(kernels, name, text)
    assert not found, "\n" + "\n".join(found)


def test_every_function_of_kernels_h_is_a_kernel(repository, kernels):
    declared = house.prototypes(c_files(repository).get("native/kernels.h", ""))
    steps = {"matmul_naive", "matmul_tiled"}  # towards a fast product: to be read and measured
    assert {name for name, _ in declared} - steps <= set(kernels)


# ---- what importing the library costs ------------------------------------------------------------


def python(code):
    """What a fresh interpreter prints that runs `code` in the root of the repository."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


WITHOUT_EXTRAS = """
import sys

for name in ("numba", "cffi", "_cffi_backend", "tqdm", "cupy", "matplotlib", "mpi4py"):
    sys.modules[name] = None  # importing it raises ImportError
"""


def test_importing_the_library_needs_numpy_alone():
    python(WITHOUT_EXTRAS + "import tinygrad_edu\n")


def test_every_lesson_can_be_imported_and_its_kernels_run_with_numpy_alone():
    printed = python(
        WITHOUT_EXTRAS
        + """
sys.path.insert(0, "tests")
import numpy as np
from house import House, registered_kernels

registered_kernels(House())
from tinygrad_edu.ops.norm import layernorm
from tinygrad_edu.tensor import Tensor

x = Tensor(np.array([[3.0, 7.0]]))
print(*layernorm(x, Tensor(np.ones(2)), Tensor(np.zeros(2)), eps=0.0).data.ravel())
"""
    )
    assert printed.split() == ["-1.0", "1.0"]


def test_importing_the_library_does_not_import_what_is_slow():
    loaded = python("""
        import sys

        import tinygrad_edu

        print(*sys.modules)
    """)
    assert not {"numba", "cffi", "tqdm", "cupy", "matplotlib"} & set(loaded.split())


def test_importing_the_library_takes_less_than_a_third_of_a_second_after_numpy():
    code = """
        import time

        import numpy

        start = time.process_time()  # of this process: others may be at work as well
        import tinygrad_edu

        print(time.process_time() - start)
    """
    assert min(float(python(code)) for _ in range(3)) < 0.3


def test_a_body_that_only_calls_c_or_cuda_does_not_count_as_text_or_code(tmp_path):
    text = '@f.body("native", when=fits)\ndef f_native(y):\n    C(y).f(out(y))\n\n\nx = 1\n'
    small = build(tmp_path, {"a.py": text, "b.py": text.replace("native", "numba")})
    assert small.sources["a.py"].crossing_lines == {1, 2, 3}
    assert house.tokens_of_lines(small.sources["a.py"]) == {6: 3}
    assert small.sources["b.py"].crossing_lines == set()
