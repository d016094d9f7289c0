"""Which folders become which packages, and which C is compiled. All else is in pyproject.toml.

models/, native/ and cuda/ lie at the top of the repository and install inside the package, as
tinygrad_edu.models, .native and .cuda. The last two hold sources, not modules: they have no
__init__.py, and what is in them is found by its path.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup

INSIDE = "tinygrad_edu"
FOLDERS = ("models", "native", "cuda", "cuda/emulator", "cuda/emulator/include")
BESIDE = [folder for folder in FOLDERS if Path(folder).is_dir()]
LIBRARIES = run_path("native/build.py")["LIBRARIES"]


def has_compiler():
    """Whether there is the C compiler that an install would call. Windows has its own search."""
    named = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return os.name == "nt" or shutil.which(shlex.split(named)[0]) is not None


def zig():
    """The command of the C compiler that is in the package ziglang, None where that is missing.

    pip builds in an environment of its own. With -I, Python looks into the one that is installed
    into, where `pip install ziglang` has put it. Left alone, zig compiles for this very CPU.
    """
    ask = [sys.executable, "-I", "-m", "ziglang", "version"]
    if subprocess.run(ask, capture_output=True, check=False).returncode:
        return None
    return shlex.join(ask[:-1]) + " cc -mcpu=baseline"


if not has_compiler() and (command := zig()):
    os.environ["CC"] = command

setup(
    packages=[
        INSIDE,
        *(f"{INSIDE}.{name}" for name in find_packages(INSIDE)),
        *(f"{INSIDE}.{folder.replace('/', '.')}" for folder in BESIDE),
    ],
    package_dir={f"{INSIDE}.{folder.replace('/', '.')}": folder for folder in BESIDE},
    # Sources travel with the package: they are read (the lessons), hashed (is the build stale?)
    # and compiled at run time (CUDA). The others are tables that lessons load.
    package_data={
        "": ["*.c", "*.h", "*.cpp", "*.cu", "*.cuh", "*.txt", "*.json", "*.npz", "*.bin"],
    },
    cffi_modules=[f"native/build.py:{name}" for name in LIBRARIES],
)
