"""Packed products on an ARM64 CPU: its own, or one that qemu-user plays."""

import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_builds import BUILD, NATIVE

from harness import Draw
from house import load
from tinygrad_edu.kernel import mismatch
from tinygrad_edu.ops.packed import packed_product, unpack_rows

TEXT = Path(__file__).with_name("packed_cases.c")
CALLS = load(Path(__file__).with_name("test_packed.py")).CASES[packed_product]
CPUS = {"baseline": "cortex-a53", "baseline+dotprod": "max"}  # for zig, and for qemu


def build(program, cpu):
    flags = [flag for flag in BUILD["FLAGS"] if flag not in BUILD["ONLY_GCC"]]
    files = [TEXT, NATIVE / "packed.c", NATIVE / "packed_many.c"]
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static"]
    subprocess.run([*zig, f"-mcpu={cpu}", *flags, "-Wno-pass-failed", "-DREAL_IS_FLOAT",
                    f"-I{NATIVE}", *map(str, files), "-o", str(program)], check=True)


@pytest.mark.long  # two minutes the first time: zig builds its C library for aarch64
@pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="pip install ziglang")
@pytest.mark.parametrize("cpu", CPUS)
def test_products_and_rows_on_arm_are_those_of_the_reference(cpu, tmp_path):
    program, given, found = (tmp_path / name for name in ("program", "given", "found"))
    build(program, cpu)
    here = platform.machine() == "aarch64"
    qemu = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if not here and not qemu:
        pytest.skip("it compiles; to run it, install qemu-user")
    calls = [case(Draw(np.float32, seed)) for seed, case in enumerate(CALLS)]
    with open(given, "wb") as file:
        for _, x, _, _, _, blocks, kind in calls:
            file.write(np.int64([kind, *x.shape, *blocks.shape]).tobytes())
            file.write(x.tobytes() + blocks.tobytes())
    under = [] if here else [qemu, "-cpu", CPUS[cpu]]
    subprocess.run([*under, program, given, found], check=True)
    got = np.fromfile(found, np.float32)
    for y, x, *rest in calls:
        wide = np.empty((len(rest[-2]), x.shape[1]), np.float32)
        packed_product.__wrapped__(y, x, *rest)
        unpack_rows.__wrapped__(wide, *rest[-2:])
        parts, got = np.split(got[: y.size + wide.size], [y.size]), got[y.size + wide.size :]
        assert not mismatch(parts[0].reshape(y.shape), y), rest[-1]
        assert np.array_equal(parts[1].reshape(wide.shape), wide), rest[-1]
    assert not got.size
