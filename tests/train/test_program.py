"""Lesson 5.6: what is no bug ends with one sentence and a code, what is one keeps its traceback."""

import os
import signal
import time

import pytest

from harness import run_in_program
from tinygrad_edu.train.program import program


def test_a_pipe_whose_reader_has_gone_ends_the_program_in_silence():
    reader, writer = os.pipe()
    os.close(reader)
    code, _, errors = run_in_program("for i in range(10_000):\n    print(i)", stdout=writer)
    os.close(writer)
    assert (code, errors) == (141, "")


def test_a_short_output_into_a_closed_pipe_is_silent_too():
    reader, writer = os.pipe()
    os.close(reader)
    code, _, errors = run_in_program("print('waits in the buffer until the end')", stdout=writer)
    os.close(writer)
    assert (code, errors) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_one_sentence_although_the_buffer_cannot_be_emptied():
    with open("/dev/full", "w") as full:
        code, _, errors = run_in_program("print('x' * 100_000)", stdout=full)
    assert code == 2
    assert errors.startswith("error: ") and "space" in errors and errors.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="signals are sent in another way there")
def test_ctrl_c_ends_with_130_and_one_sentence():
    # A shell that starts the tests in the background has them ignore Ctrl-C, and Python keeps that.
    lines = ("signal.signal(signal.SIGINT, signal.default_int_handler)\n"
             "print('before')\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)")
    began = time.perf_counter()
    code, out, errors = run_in_program(lines)
    assert time.perf_counter() - began < 25
    assert (code, out) == (128 + signal.SIGINT, b"before\n")
    assert "interrupted" in errors and errors.count("\n") == 1


def test_no_memory_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as caught, program():
        raise MemoryError
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: not enough memory")


def test_an_error_of_the_disk_names_the_file(capsys):
    with pytest.raises(SystemExit) as caught, program():
        raise OSError(28, "No space left on device", "run/metrics.csv")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: run/metrics.csv: No space left on device\n"


@pytest.mark.parametrize("bug", [ValueError, TypeError, KeyError, FloatingPointError])
def test_a_bug_keeps_its_traceback(bug):
    with pytest.raises(bug), program():
        raise bug("ours")


def test_a_terminal_without_the_letter_shows_an_escape():
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    code, out, errors = run_in_program("print('größe')", env=env)
    assert (code, errors) == (0, "")
    assert out.strip() == rb"gr\xf6\xdfe"


def test_a_program_without_any_output_runs():
    assert run_in_program("sys.stdout = None\nprint('nobody hears this')")[0] == 0


def test_a_backend_that_does_not_exist_is_a_mistake_of_the_user():
    code, _, errors = run_in_program("import tinygrad_edu", env=os.environ | {"TG_BACKEND": "nmpy"})
    assert code == 2
    assert errors.startswith("error: TG_BACKEND=nmpy") and errors.count("\n") == 1
