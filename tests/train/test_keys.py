"""Lesson 5.4: Ctrl-C ends a program although C code has swallowed it."""

import os
import signal
import time

import pytest

from harness import run_in_program

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
    code, _, errors = run_in_program(LOST + then)
    assert time.perf_counter() - began < 25
    assert (code, errors.count("\n")) == (128 + signal.SIGINT, 1)
    assert "interrupted" in errors


def test_other_exceptions_that_nobody_can_catch_are_shown_and_change_nothing():
    lines = "import ctypes\nctypes.CFUNCTYPE(None)(lambda: 1 // 0)()\nraise RuntimeError('ours')"
    code, _, errors = run_in_program(lines)
    assert code == 1 and "ZeroDivisionError" in errors and "RuntimeError: ours" in errors
