"""The tests' folder is on the path, so that `from harness import …` works in every one of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config):
    """pytest -m gpu: the tests that a machine with a GPU has beside all others."""
    config.addinivalue_line("markers", "gpu: CUDA bodies on the GPU itself, where there is one")
