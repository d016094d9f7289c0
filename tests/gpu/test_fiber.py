"""The switch between fibers keeps what a function has in registers, on every processor it knows."""

import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_edu.gpu import compiler, emulate, source

TEXT = Path(__file__).with_name("fibers.cpp")


def run(tmp_path, command, *flags, under=()):
    """The output of the program, built by a compiler and run under another program, if given."""
    program = tmp_path / "fibers"
    options = ["-x", "c++", "-std=c++17", "-O2", f"-I{source.folder() / 'emulator'}", *flags]
    subprocess.run([*command, *options, str(TEXT), "-o", str(program)], check=True)
    return subprocess.run([*under, program], capture_output=True, text=True, check=False).stdout


@pytest.mark.skipif(not emulate.available(), reason="no C++ compiler here")
@pytest.mark.parametrize("flags", [[], ["-DFIBER_PORTABLE"]], ids=["own", "portable"])
def test_fibers_leave_one_another_undisturbed_here(tmp_path, flags):
    assert run(tmp_path, compiler.command_line(), *flags) == "every fiber is undisturbed\n"


@pytest.mark.long  # two minutes the first time: zig builds its C library for aarch64
@pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="pip install ziglang")
def test_fibers_leave_one_another_undisturbed_on_aarch64(tmp_path):
    """Compiled anywhere; run on such a processor, or where qemu-user plays one."""
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static"]
    here = platform.machine() == "aarch64"
    under = [] if here else [shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")]
    out = run(tmp_path, zig, under=filter(None, under) if here or under[0] else ["true"])
    if not here and not under[0]:
        pytest.skip("it compiles; to run it, install qemu-user")
    assert out == "every fiber is undisturbed\n"
