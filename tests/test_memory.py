import gc
import subprocess
import sys

import numpy as np
import pytest

from tinygrad_edu import memory
from tinygrad_edu.memory import (
    Meter,
    contiguous,
    empty,
    empty_like,
    version,
    wrote,
    zeros,
    zeros_like,
)


def test_arrays_are_made_in_the_shape_and_type_asked_for():
    assert empty((2, 3), np.float32).shape == (2, 3)
    assert zeros(4, np.int64).tolist() == [0, 0, 0, 0]
    x = np.ones((3, 2), np.float64)
    assert empty_like(x).shape == (3, 2)
    assert empty_like(x, shape=()).shape == ()
    assert empty_like(x, dtype=np.dtype("float32")).dtype == np.float32
    assert zeros_like(x, shape=(2,), dtype=np.int8).tolist() == [0, 0]


def test_an_array_like_a_view_has_no_gaps():
    view = np.ones((4, 6))[:, ::2].T
    for make in (empty_like, zeros_like):
        assert make(view).flags.c_contiguous
        assert make(view).shape == (3, 4)


def test_an_array_like_a_scalar_or_a_file_is_an_ordinary_array(tmp_path):
    mapped = np.memmap(tmp_path / "file", np.float32, mode="w+", shape=(3,))
    for given in (np.float32(1), np.sum(np.ones(3, np.float32)), mapped):
        made = empty_like(given)
        assert type(made) is np.ndarray
        assert made.dtype == np.float32


def test_contiguous_returns_the_array_itself_or_a_copy():
    x = np.arange(6.0).reshape(2, 3)
    assert contiguous(x) is x
    turned = contiguous(x.T)
    assert turned.flags.c_contiguous
    assert np.array_equal(turned, x.T)
    assert not np.shares_memory(turned, x)


# ---- versions -----------------------------------------------------------------------------------


def test_a_write_raises_the_version_of_every_view_of_the_storage():
    x = np.zeros((4, 4))
    row, part = x[1], x.reshape(-1)[3:7].reshape(2, 2)
    before = version(x)
    wrote(part)
    assert version(x) == version(row) == version(part) == version(x[::2].T) == before + 1
    wrote(x)
    assert version(row) == before + 2


def test_a_write_does_not_touch_the_version_of_other_arrays():
    x, y = np.zeros(3), np.zeros(3)
    before = version(y)
    wrote(x)
    assert version(y) == before
    assert version(x.copy()) == 0


def test_the_storage_of_a_mapped_file_has_one_version(tmp_path):
    mapped = np.memmap(tmp_path / "file", np.uint8, mode="w+", shape=(8,))
    wrote(mapped[2:4])
    assert version(np.asarray(mapped)[4:].view(np.float32)) == 1


def test_an_array_at_the_place_of_a_freed_one_starts_at_version_zero():
    for _ in range(100):  # CPython gives an id, and NumPy a small block, to the next that asks
        x = np.zeros(3)
        assert version(x) == 0
        wrote(x)
        del x


def test_versions_of_freed_arrays_are_forgotten():
    gc.collect()
    before = len(memory._versions)
    kept = [np.zeros(3) for _ in range(50)]
    for x in kept:
        wrote(x)
    assert len(memory._versions) == before + 50
    del kept, x
    assert len(memory._versions) == before


# ---- counting -----------------------------------------------------------------------------------


def test_a_meter_counts_live_and_peak_bytes():
    with Meter() as meter:
        x = empty(1000, np.float32)
        y = zeros_like(x)
        assert meter.live == 8000
        del x
        assert meter.live == 4000
        z = empty(500, np.float64)
        assert (meter.live, meter.peak) == (8000, 8000)
        del y, z
    assert (meter.live, meter.peak) == (0, 8000)


def test_a_meter_counts_an_array_as_long_as_a_view_of_it_lives():
    with Meter() as meter:
        view = empty(1000, np.float32).reshape(10, 100)[3]
        assert meter.live == 4000
        del view
        assert meter.live == 0


def test_a_meter_counts_what_is_freed_after_its_block_but_not_what_is_made_there():
    with Meter() as meter:
        x = empty(10, np.float32)
    y = empty(10, np.float32)
    assert meter.live == 40
    del x
    assert meter.live == 0
    assert y.nbytes == 40


def test_meters_can_be_nested():
    with Meter() as outer:
        x = empty(10, np.float32)
        with Meter() as inner:
            y = empty(20, np.float32)
    assert (outer.peak, inner.peak) == (120, 80)
    assert x.size + y.size == 30


def test_the_process_tells_how_much_memory_it_holds():
    now, peak = memory.resident_bytes(), memory.peak_resident_bytes()
    if now is None or peak is None:
        pytest.skip("this system does not tell")
    assert 1 << 20 < now <= peak + (1 << 20) < 1 << 40


def test_freed_memory_is_kept_where_the_system_is_glibc():
    taken = memory.keep_freed_memory()
    if not sys.platform.startswith("linux") or "musl" in str(sys.version):
        assert taken in (True, False)
    else:
        assert taken


def test_the_measurement_of_the_lesson_runs_without_a_warning():
    command = [sys.executable, "-m", "tinygrad_edu.memory"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    values = dict(pair.split("=") for pair in result.stdout.splitlines()[-1].split())
    assert set(values) == {"before_ms", "after_ms", "taken"}
