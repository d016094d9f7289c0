"""The tests' folder is on the path, so that `from harness import …` works in every one of them."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# A shell that starts the suite in the background has it, and all that it starts, ignore Ctrl-C.
# Some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
