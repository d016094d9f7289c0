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
        if not BENCH.measured_elsewhere(kernel):
            args, _ = BENCH.call_of_size(kernel, "small", np.float64)
            assert len(args) == len(kernel.parameters), name
            kernel.bodies["numpy"].run(*args)
            floats = [a for a in args if getattr(a, "dtype", None) == np.float64]
            assert all(np.isfinite(a).all() for a in floats), name


def test_the_table_names_no_kernel_that_is_gone():
    known = registered_kernels(House()).keys()
    assert BENCH.CALLS.keys() | BENCH.OPERATIONS.keys() <= known


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
    took = {"copy": [4.0, 3.0], "copy on threads": [5.0, 2.0]}  # seconds; of all others nine
    monkeypatch.setattr(BENCH, "times", lambda runs, rounds: {
        name: took.get(name, [9.0, 9.0]) for name in runs})
    settings = BENCH.Settings(body="numpy")
    (row,) = BENCH.measure(BENCH.kernels["gelu_forward"], "small", settings)
    assert row["peak"] == BENCH.BYTES["small"] / 2.0 / 1e9
    assert row["share"] == pytest.approx(row["bytes"] / 9.0 / (BENCH.BYTES["small"] / 2.0))


def row(kernel, body, us, unit="GB/s", size="large"):
    return {"kernel": kernel, "body": body, "size": size, "bytes": 1 << 20, "us": us, "rate": 10.0,
            "unit": unit, "share": 0.5, "peak": 20.0, "operations_per_byte": 0.5}


ROWS = [row("exp_forward", "numpy", 60), row("exp_forward", "native", 20),
        row("adam_update", "numba", 30), row("exp_forward", "native", 1, size="small"),
        row("matmul_forward", "blas", 90, "GFLOP/s")]


def test_the_operations_of_a_call_are_those_of_its_reference():
    def operations(name):
        args, axes = BENCH.call_of_size(BENCH.kernels[name], "small", np.float32)
        kernel = BENCH.kernels[name]
        return BENCH.intensity(kernel, args, axes) * BENCH.moved(kernel, args), args
    found, (y, *_) = operations("exp_forward")
    assert found == pytest.approx(y.size, rel=1e-3)
    found, (_, g) = operations("sum_of_squares")
    assert found == pytest.approx(2 * g.size, rel=1e-3)
    found, (y, a, b) = operations("matmul_forward")
    assert found == 2 * y.size * len(b)


def test_what_is_updated_in_place_is_moved_twice():
    kernel = BENCH.kernels["adam_update"]
    args, _ = BENCH.call_of_size(kernel, "small", np.float32)
    assert BENCH.moved(kernel, args) == 28 * args[0].size  # reads w, g, m, v and writes w, m, v


def test_a_copy_beyond_the_cache_has_two_arrays_of_four_times_its_size_if_memory_allows():
    size = BENCH.beyond_the_cache(1 << 20)
    assert size == 8 << 20
    assert BENCH.beyond_the_cache(1 << 50) < 1 << 50
    assert BENCH.last_level_cache() is None or BENCH.last_level_cache() >= 1 << 16


def test_the_table_has_the_fastest_body_of_the_large_size_between_the_marks(tmp_path):
    settings = BENCH.Settings(markdown=tmp_path / "speed.md", sizes="large")
    settings.markdown.write_text(f"before\n{BENCH.BEGIN}\nold\n{BENCH.END}\nafter\n")
    BENCH.write(ROWS, settings, None)
    text = settings.markdown.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text
    assert "| exp_forward | native | 20 | 10.0 GB/s | 50% | 3.0 |" in text
    assert "| adam_update | numba | 30 | 10.0 GB/s | 50% |  |" in text
    settings.markdown.write_text("no marks\n")
    with pytest.raises(ValueError, match="needs these two lines"):
        BENCH.ready(settings)


def test_the_roofline_is_drawn_and_needs_matplotlib(tmp_path, monkeypatch):
    settings = BENCH.Settings(picture=tmp_path / "roofline.png", sizes="large")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pictures need matplotlib"):
        BENCH.ready(settings)
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    for rows in (ROWS[-1:], ROWS[:1]):             # with either roof alone
        BENCH.draw(BENCH.plots(), rows, settings)
        assert settings.picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("flags, said", [
    (["nothing_of_this_name"], "no kernel has 'nothing_of_this_name' in its name"),
    (["gelu", "--body", "blas"], "and the body 'blas'"),
    (["gelu", "--csv", "no/such/folder.csv"], "error: no"),
    (["gelu", "--sizes", "small", "--picture", "roofline.png"], "add it to --sizes"),
    (["--sizes", "small,huge"], "--sizes takes some of small,medium,large, not 'huge'"),
])
def test_a_mistake_gets_one_sentence(monkeypatch, capsys, flags, said):
    with pytest.raises(SystemExit) as ended:
        bench(monkeypatch, capsys, *flags)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
