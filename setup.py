"""Which folders become which packages, and which C is compiled. All else is in pyproject.toml.

models/, native/ and cuda/ lie at the top of the repository and install inside the package, as
tinygrad_edu.models, .native and .cuda. The last two hold sources, not modules: they have no
__init__.py, and what is in them is found by its path.
"""

from pathlib import Path

from setuptools import find_packages, setup

INSIDE = "tinygrad_edu"
BESIDE = [folder for folder in ("models", "native", "cuda") if Path(folder).is_dir()]

setup(
    packages=[
        INSIDE,
        *(f"{INSIDE}.{name}" for name in find_packages(INSIDE)),
        *(f"{INSIDE}.{name}" for name in BESIDE),
    ],
    package_dir={f"{INSIDE}.{name}": name for name in BESIDE},
    # Sources travel with the package: they are read (the lessons), hashed (is the build stale?)
    # and compiled at run time (CUDA). The others are tables that lessons load.
    package_data={"": ["*.c", "*.h", "*.cu", "*.cuh", "*.txt", "*.json", "*.npz", "*.bin"]},
    cffi_modules=["native/build.py:float32", "native/build.py:float64"],
)
