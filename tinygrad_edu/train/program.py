"""Lesson 5.6 · Program: a script among pipes, keys and full disks

Needs config, kernel, keys. Used by scripts/train_gpt.py, scripts/generate.py,
scripts/score_python.py, scripts/show.py.

Idea      A library raises exceptions, a program ends: with a code that other programs read and a
          sentence that a person reads. Some ends are no bug of anybody's. The reader of a pipe has
          seen enough; a key was pressed; the disk or the memory is full; the terminal cannot show
          an ö. A traceback there would send the user looking for a mistake in the program. All
          other exceptions are bugs and keep theirs.
Math      exit code of a program that signal n has ended = 128 + n, as shells count              (1)
Shapes    0 done · 2 a mistake of the user or of the disk · 130 Ctrl-C (SIGINT = 2) ·
          141 a closed pipe (SIGPIPE = 13)
Pitfalls  BrokenPipeError is an OSError: the order of the except clauses decides.
          Python flushes standard output once more at its end. If that fails too, it complains after
          the program's last word; so what is still buffered is sent nowhere.
          sys.stdout is None where a program was started with its output closed.
          Where C code has swallowed Ctrl-C, the exception that comes of it is no bug either.
Cost      Nothing that can be felt.
Try       build it    turn SIGTERM into a KeyboardInterrupt too, with the code that (1) says.
          break it    catch ValueError as well. Which test notices?
          measure it  python scripts/show.py gelu | head -1; echo ${PIPESTATUS[0]}
See       Python's documentation of signal, "Note on SIGPIPE" · POSIX, "Exit Status for Commands"
"""

import os
import signal
import sys
from contextlib import contextmanager, suppress

from ..kernel import refuse_unknown_backend
from ..nn.config import complain, errors_in_one_sentence
from .keys import lost_keys


@contextmanager
def program():
    """Around all that a script does: ends that are no bug get one sentence and their exit code.

    Characters that the terminal's encoding lacks are printed as escapes such as \\xf6.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not None, nor a test's replacement
            stream.reconfigure(errors="backslashreplace")
    with errors_in_one_sentence():
        refuse_unknown_backend()
    try:
        with lost_keys() as lost:
            yield
        print(end="", flush=True)
    except BrokenPipeError:
        forget_output()
        raise SystemExit(128 + 13) from None  # (1); Windows has no signal.SIGPIPE
    except MemoryError as error:
        complain(f"not enough memory for what was asked: {error}")
    except OSError as error:
        forget_output()
        with errors_in_one_sentence():
            raise error
    except (KeyboardInterrupt, Exception) as error:
        if not lost and not isinstance(error, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the impatient press it more than once
        forget_output()
        print("interrupted; what was saved before is whole", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None                                        # (1)


def forget_output():
    """Send what waits in the buffer of standard output nowhere, if it can go nowhere else."""
    with suppress(AttributeError, ValueError):  # no output at all, or closed by now
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
