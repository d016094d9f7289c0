import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from tinygrad_edu import loops
from tinygrad_edu.loops import Compiled, exp, helper, sigmoid

pytest.importorskip("numba")
njit = loops.compiler()


@njit
def exp_of_all(y, x):
    for i in range(x.size):
        y[i] = exp(x[i])


@njit
def sigmoid_of_all(y, x):
    for i in range(x.size):
        y[i] = sigmoid(x[i])


def result(loop, x):
    y = np.empty_like(x)
    loop(y, x)
    return y


def largest_error(got, true):
    """In units of the relative spacing of the type."""
    return float((np.abs(got - true) / true).max()) / np.finfo(got.dtype).eps


LIMITS = {np.float32: (-87.3, 88.37), np.float64: (-708.0, 709.4)}
REALS = list(LIMITS)
wide = np.longdouble  # on some machines no more than float64: then the bounds below hold as well


@pytest.mark.parametrize("real", REALS)
def test_exp_is_right_to_the_last_digit_over_its_whole_range(real):
    low, high = map(real, LIMITS[real])
    x = np.clip(np.linspace(low, high, 400_001).astype(real), low, high)
    assert largest_error(result(exp_of_all, x), np.exp(x.astype(wide))) < 1.5


@pytest.mark.parametrize("real", REALS)
def test_exp_is_right_near_zero_and_at_the_borders_of_its_pieces(real):
    n = np.arange(-120, 120)
    centres = np.concatenate([(n + 0.5) * np.log(2), n * np.log(2), [0.0]])
    x = (centres[:, None] + np.linspace(-1e-4, 1e-4, 101)).astype(real).ravel()
    x = x[(x >= LIMITS[real][0]) & (x <= LIMITS[real][1])]
    assert largest_error(result(exp_of_all, x), np.exp(x.astype(wide))) < 1.5


@pytest.mark.parametrize("real", REALS)
def test_exp_ends_in_zero_and_in_a_large_number_and_hands_on_nan(real):
    low, high = map(real, LIMITS[real])
    below = np.array([np.nextafter(low, real(-np.inf)), -1e3, np.finfo(real).min, -np.inf], real)
    assert np.array_equal(result(exp_of_all, below), np.zeros(4))
    above = np.array([high, 1e3, np.finfo(real).max, np.inf], real)
    assert np.array_equal(result(exp_of_all, above), np.full(4, result(exp_of_all, above[:1])[0]))
    assert result(exp_of_all, above)[0] == pytest.approx(float(np.exp(high)), rel=1e-5)
    assert np.isnan(result(exp_of_all, np.array([np.nan], real))).all()
    assert np.array_equal(result(exp_of_all, np.array([0.0, -0.0], real)), [1, 1])


@pytest.mark.parametrize("real", REALS)
def test_sigmoid_is_right_to_two_units_of_the_last_digit(real):
    x = np.linspace(-40, 40, 100_001).astype(real)
    true = 1 / (1 + np.exp(-x.astype(wide)))
    assert largest_error(result(sigmoid_of_all, x), true) < 2


@pytest.mark.parametrize("real", REALS)
def test_sigmoid_stays_between_zero_and_one_and_hands_on_nan(real):
    x = np.array([-np.inf, -1e6, 0, 1e6, np.inf, np.nan], real)
    assert result(sigmoid_of_all, x)[:5] == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-30)
    assert np.isnan(result(sigmoid_of_all, x)[5])


def test_in_plain_python_both_are_the_functions_of_math():
    assert exp(1.0) == pytest.approx(2.718281828459045)
    assert sigmoid(0.0) == 0.5


def is_packed(instructions, kinds):
    wide_ones = [line for line in instructions.splitlines() if "%ymm" in line or "%zmm" in line]
    return any(kind in line for line in wide_ones for kind in kinds)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="another CPU")
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("loop", [exp_of_all, sigmoid_of_all])
def test_a_loop_with_exp_is_made_of_vector_instructions(loop, real):
    import numba

    if "+avx2" not in numba.core.codegen.get_host_cpu_features():
        pytest.skip("this CPU has no wide vectors")
    result(loop, np.zeros(8, real))
    array = numba.types.Array(numba.from_dtype(np.dtype(real)), 1, "C")
    instructions = loop.inspect_asm((array, array))
    letter = "s" if real is np.float32 else "d"
    assert is_packed(instructions, ["vmulp" + letter, f"132p{letter}", f"213p{letter}"])


def test_a_sum_is_made_of_vector_instructions_and_keeps_nan_and_infinity():
    @njit
    def total(x):
        s = x.dtype.type(0)
        for i in range(x.size):
            s += x[i]
        return s

    assert np.isnan(total(np.array([1, np.nan, 2], np.float32)))
    assert total(np.array([1, np.inf], np.float32)) == np.inf
    assert total(np.ones(1000, np.float32)) == 1000
    if platform.machine() == "x86_64":
        assert "addps" in next(iter(total.inspect_asm().values()))


def test_a_division_by_zero_in_a_loop_is_infinity_as_in_numpy():
    @njit
    def divide(y, x):
        for i in range(x.size):
            y[i] = x[i] / (x[i] - x[i])

    with np.errstate(all="raise"):
        assert not np.isfinite(result(divide, np.ones(3))).any()


# ---- compiled when first called -----------------------------------------------------------------


@helper
def times_two(x):
    return x * 2


def doubled(y, x):
    for i in range(x.size):
        y[i] = times_two(x[i])


def test_a_loop_may_call_a_helper():
    assert np.array_equal(result(Compiled(doubled), np.arange(3.0)), [0, 2, 4])


def test_a_compilation_is_reported_once_for_each_combination_of_types(monkeypatch, tmp_path):
    reports = []
    monkeypatch.setattr(loops, "_report", lambda name, seconds: reports.append(name))
    path = tmp_path / "fresh.py"
    path.write_text("def plus(y, x):\n    for i in range(x.size):\n        y[i] = x[i] + 1\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import fresh
    finally:
        sys.path.remove(str(tmp_path))
    loop = Compiled(fresh.plus)
    for _ in range(3):
        assert np.array_equal(result(loop, np.zeros(2)), [1, 1])
    assert reports == ["plus"]
    result(loop, np.zeros(2, np.float32))
    assert reports == ["plus", "plus"]
    again = Compiled(fresh.plus)                   # as a new process would: it is on the disk
    result(again, np.zeros(2))
    assert reports == ["plus", "plus"]
    result(again, np.zeros(2, np.int64))
    assert reports == ["plus", "plus", "plus"]
    result(again, np.zeros(2, np.float32))         # from the disk, after one that was not
    assert reports == ["plus", "plus", "plus"]


def test_a_loop_without_a_file_is_compiled_all_the_same():
    scope = {}
    exec("def typed_in(y, x):\n    for i in range(x.size):\n        y[i] = -x[i]\n", scope)
    assert np.array_equal(result(Compiled(scope["typed_in"]), np.ones(2)), [-1, -1])


def test_the_report_is_silent_where_nobody_looks(capsys):
    loops._report("some_loop", 0.5)
    assert capsys.readouterr().err == ""


def test_the_report_is_one_line_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    loops._report("some_loop", 0.5)
    said = capsys.readouterr().err
    assert "some_loop" in said
    assert "\n" not in said


def test_without_numba_one_sentence_says_what_serves():
    code = ("import sys; sys.modules['numba'] = None\n"
            "from tinygrad_edu import loops\n"
            "assert loops.compiler() is None and loops.compiler() is None\n")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            env={**os.environ, "PYTHONWARNINGS": "default"}, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("NumPy alone serves") == 1


def test_the_measurement_of_the_lesson_runs_and_names_both_ways():
    command = [sys.executable, "-m", "tinygrad_edu.loops"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    took = dict(pair.split("=") for pair in result.stdout.split())
    assert took.keys() == {"by_polynomial_ns", "by_library_ns"}
    assert all(float(ns) > 0 for ns in took.values())
