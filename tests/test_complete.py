"""Nothing goes untested by being forgotten: every kernel that a lesson registers has CASES.

CASES are the calls that a test file declares for the bodies of its kernels (tests/harness.py).
"""

import ast
import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

from house import House, registered_kernels


def declares_cases(source):
    """Whether a test file has CASES at its top."""
    targets = [t for node in source.tree.body if isinstance(node, ast.Assign) for t in node.targets]
    return any(isinstance(target, ast.Name) and target.id == "CASES" for target in targets)


def all_cases(house):
    """kernel name -> its calls, from every test file."""
    found = {}
    for source in house.sources.values():
        if source.path.startswith("tests/") and declares_cases(source):
            path = house.paths[source.path]
            spec = importlib.util.spec_from_file_location(f"cases_of_{path.stem}", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            for kernel, calls in module.CASES.items():
                found.setdefault(kernel.name, []).extend(calls)
    return found


def without_cases(kernels, cases):
    """A sentence for every kernel that has no calls."""
    for name, kernel in sorted(kernels.items()):
        if not cases.get(name):
            yield f"{name}, registered in {kernel.__module__}: no test file has CASES for it"


def test_every_kernel_of_every_lesson_has_cases():
    house = House()
    missing = list(without_cases(registered_kernels(house), all_cases(house)))
    assert not missing, "\n" + "\n".join(missing)


@pytest.mark.parametrize("cases", [{}, {"sum_forward": [], "mean_forward": [1]}])
def test_a_kernel_without_cases_is_noticed(cases):
    kernels = {"sum_forward": SimpleNamespace(__module__="tinygrad_edu.ops.reduce")}
    assert len(list(without_cases(kernels, cases))) == 1


def test_a_kernel_with_cases_is_left_alone():
    kernels = {"sum_forward": SimpleNamespace(__module__="tinygrad_edu.ops.reduce")}
    assert not list(without_cases(kernels, {"sum_forward": [1]}))


def test_cases_are_read_from_a_test_file(tmp_path):
    folder = tmp_path / "tests" / "ops"
    folder.mkdir(parents=True)
    text = "class Twice:\n    name = 'twice'\n\n\nCASES = {Twice: [1, 2]}\n"
    (folder / "test_twice.py").write_text(text, encoding="utf-8")
    (folder / "test_none.py").write_text("X = {}\n", encoding="utf-8")
    assert all_cases(House(tmp_path)) == {"twice": [1, 2]}


def test_importing_the_package_imports_every_op():
    code = "import sys, tinygrad_edu; print(*[n for n in sys.modules if '.ops.' in n])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ops = [s.path for s in House().lesson_files if s.path.startswith("tinygrad_edu/ops/")]
    wanted = {path.removesuffix(".py").replace("/", ".") for path in ops}
    missing = sorted(wanted - set(run.stdout.split()))
    assert not missing, f"tinygrad_edu/ops/__init__.py does not import {', '.join(missing)}"
