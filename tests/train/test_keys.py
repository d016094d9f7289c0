"""Lesson 5.4: Ctrl-C ends a program although C code has swallowed it."""

import os
import signal
import subprocess
import sys
import time

import pytest


def run(code, **options):
    """A process that runs `code` inside program(): (exit code, output, errors)."""
    lines = "\n    ".join(code.splitlines())
    text = ("import os, signal, sys, time\nfrom tinygrad_edu.train.program import program\n"
            f"with program():\n    {lines}\n")
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    process = subprocess.Popen([sys.executable, "-c", text], **streams)
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors.decode()


LOST = """\
signal.signal(signal.SIGINT, signal.default_int_handler)
import ctypes
def press():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
ctypes.CFUNCTYPE(None)(press)()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent in another way there")
@pytest.mark.parametrize("then", ["time.sleep(30)", "raise RuntimeError('no compiled object')"])
def test_ctrl_c_that_c_code_swallows_as_numba_does_ends_with_one_sentence_too(then):
    began = time.perf_counter()
    code, _, errors = run(LOST + then)
    assert time.perf_counter() - began < 25
    assert (code, errors.count("\n")) == (128 + signal.SIGINT, 1)
    assert "interrupted" in errors


def test_other_exceptions_that_nobody_can_catch_are_shown_and_change_nothing():
    lines = "import ctypes\nctypes.CFUNCTYPE(None)(lambda: 1 // 0)()\nraise RuntimeError('ours')"
    code, _, errors = run(lines)
    assert code == 1 and "ZeroDivisionError" in errors and "RuntimeError: ours" in errors
