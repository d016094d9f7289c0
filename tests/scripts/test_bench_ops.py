"""bench_ops.py times a call of every kernel, and says what is wrong where nothing can be timed."""

import csv
import sys

import numpy as np
import pytest

from house import ROOT, House, load, registered_kernels

BENCH = load(ROOT / "scripts" / "bench_ops.py")


def bench(monkeypatch, capsys, *flags):
    monkeypatch.setattr(sys, "argv", ["bench_ops.py", *flags])
    BENCH.main()
    return capsys.readouterr().out


def test_every_kernel_has_a_call_that_its_reference_can_serve():
    for name, kernel in registered_kernels(House()).items():
        if name not in BENCH.OF_TEXT:
            args, _ = BENCH.call_of_size(kernel, "small", np.float64)
            assert len(args) == len(kernel.parameters), name
            kernel.bodies["numpy"].run(*args)
            floats = [a for a in args if getattr(a, "dtype", None) == np.float64]
            assert all(np.isfinite(a).all() for a in floats), name


def test_the_table_names_no_kernel_that_is_gone():
    known = registered_kernels(House()).keys()
    assert BENCH.CALLS.keys() | BENCH.OPERATIONS.keys() | BENCH.OF_TEXT <= known


@pytest.mark.parametrize("size", ["small", "medium"])
def test_the_arrays_of_a_call_have_about_the_bytes_of_its_size(size):
    for name in ("layernorm_forward", "exp_backward", "softmax_backward", "dropout_forward"):
        args, _ = BENCH.call_of_size(BENCH.kernels[name], size, np.float32)
        assert 0.5 * BENCH.BYTES[size] < BENCH.size_of(args) <= BENCH.BYTES[size], name


def test_a_line_for_each_body_a_sum_at_the_end_and_the_same_as_a_file(
    monkeypatch, capsys, tmp_path
):
    path = tmp_path / "bench.csv"
    out = bench(monkeypatch, capsys, "sum_rows", "--sizes", "small", "--rounds", "1",
                "--csv", str(path))
    assert out.splitlines()[-1].startswith("kernels=1 rows=")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["body"] for row in rows} <= {"numpy", "numba", "native"}
    for row in rows:
        assert row["kernel"] == "sum_rows"
        rate = float(row["bytes"]) / float(row["us"]) / 1e3  # GB/s
        assert abs(float(row["rate"]) / rate - 1) < 1e-6
        assert abs(float(row["share"]) * float(row["peak"]) / rate - 1) < 1e-6


def test_a_product_is_counted_in_operations(monkeypatch, capsys):
    out = bench(monkeypatch, capsys, "batched_matmul", "--sizes", "small", "--rounds", "1",
                "--body", "numpy", "--dtype", "float64")
    assert "GFLOP/s" in out and "float64" in out


def test_the_peak_is_the_best_turn_of_the_fastest_reference(monkeypatch):
    took = {"copy": [4.0, 3.0], "sum": [5.0, 2.0]}  # seconds; of all others nine
    monkeypatch.setattr(BENCH, "times", lambda runs, rounds: {
        name: took.get(name, [9.0, 9.0]) for name in runs})
    settings = BENCH.Settings(body="numpy")
    (row,) = BENCH.measure(BENCH.kernels["gelu_forward"], "small", settings)
    assert row["peak"] == BENCH.BYTES["small"] / 2.0 / 1e9
    assert row["share"] == pytest.approx(row["bytes"] / 9.0 / (BENCH.BYTES["small"] / 2.0))


@pytest.mark.parametrize("flags, said", [
    (["nothing_of_this_name"], "no kernel has 'nothing_of_this_name' in its name"),
    (["gelu", "--body", "blas"], "and the body 'blas'"),
    (["gelu", "--csv", "no/such/folder.csv"], "error: no"),
    (["--sizes", "small,huge"], "--sizes takes some of small,medium,large, not 'huge'"),
])
def test_a_mistake_gets_one_sentence(monkeypatch, capsys, flags, said):
    with pytest.raises(SystemExit) as ended:
        bench(monkeypatch, capsys, *flags)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
