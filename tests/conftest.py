"""The tests' folder is on the path, so that `from harness import …` works in every one of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
