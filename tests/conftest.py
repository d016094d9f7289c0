"""The tests' folder is on the path, so that `from harness import …` works in every one of them."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# A shell that starts the suite in the background has it, and all that it starts, ignore Ctrl-C.
# Some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


# `pytest -m emulator`: all that runs CUDA kernels on the CPU, out of every folder, but for what is
# `long` already: another CPU's code in an emulator of that CPU.
EMULATED = ("tests/gpu/", "tests/scripts/test_cuda_lab.py", "tests/scripts/test_bench_cuda.py")


def pytest_collection_modifyitems(config, items):
    for item in items:
        where = item.path.relative_to(config.rootpath).as_posix()
        given = getattr(item, "callspec", None)
        if item.get_closest_marker("long"):
            continue
        if ((where.startswith(EMULATED) and item.path.stem != "test_compile")
                or (given and given.params.get("body") == "cuda")):
            item.add_marker("emulator")
