"""Lesson 5.4 · Keys: Ctrl-C that C code has swallowed

Needs nothing. Used by program.

Idea      Ctrl-C raises KeyboardInterrupt wherever Python is just then. In a function that C called,
          as LLVM calls Numba while it compiles, it cannot travel on: C knows no exceptions. Python
          prints that it was ignored, and C goes on without what the function should have brought,
          to an error of its own or to none. The user sees a traceback that nobody caused, or a
          program that does not stop. Python prints such an exception through a hook that may be
          replaced: ours notes the key that was lost, and presses it once more.
Math      none
Shapes    a list with one entry for every key that was lost
Pitfalls  A signal wakes the main thread only if it is sent to that thread: one that sleeps goes on
          sleeping, although Python has noted it. Windows has no such signals: there the key waits.
          At once would be too early: the key would hit the hook itself. It waits a moment.
          Other exceptions that nobody can catch are none of our business: they are printed as ever.
Cost      Nothing until a key is lost.
Try       build it    let the sentence of lesson program say that the compiler was at work.
          break it    do not press again. Which test waits for thirty seconds?
          measure it  NUMBA_CACHE_DIR=$(mktemp -d) python scripts/train_gpt.py --steps 9: press
                      Ctrl-C in its first seconds, with the hook and without. How often is it lost?
See       Python's documentation of sys.unraisablehook, and of signal, "Signals and threads"
"""

import _thread
import signal
import sys
import threading
from contextlib import contextmanager

AGAIN = 0.05  # seconds until a key that was lost is pressed again


@contextmanager
def lost_keys():
    """Yield a list with an entry for each Ctrl-C lost in C; each is sent again a moment later."""
    lost, usual = [], sys.unraisablehook

    def hook(unraisable):
        if unraisable.exc_type is not KeyboardInterrupt:
            usual(unraisable)
            return
        lost.append(unraisable.exc_type)
        again = threading.Timer(AGAIN, press)
        again.daemon = True  # nobody waits for it
        again.start()

    sys.unraisablehook = hook
    try:
        yield lost
    finally:
        sys.unraisablehook = usual


def press():
    """Ctrl-C for the main thread."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:  # Windows
        _thread.interrupt_main()
