"""The tests' folder is on the path, so that `from harness import …` works in every one of them."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# A shell that starts the suite in the background has it, and all that it starts, ignore Ctrl-C.
# Some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """pytest -m gpu: the tests that a machine with a GPU has beside all others."""
    config.addinivalue_line("markers", "gpu: CUDA bodies on the GPU itself, where there is one")
