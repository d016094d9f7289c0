"""Run a kernel of your own .cu file in the emulator, and hear what is wrong or slow in it.

    python scripts/cuda_lab.py mine.cu add                     races, bounds, barriers: the first
    python scripts/cuda_lab.py mine.cu add --mode count        what each line asks of memory
    python scripts/cuda_lab.py mine.cu add --mode debug        a build to step through in gdb
    python scripts/cuda_lab.py mine.cu add --grid 4 --block 8,8 --args "y=100 x=numbers.npy n=100"

In --args an array is its number of elements, and gets random numbers, the same in every run, or it
is a file, .npy; a number is a number. What is not named there gets --size.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.gpu import emulate, source
from tinygrad_edu.gpu.compiler import CompileError
from tinygrad_edu.gpu.launch import NAMES, Launcher
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program


@dataclass
class Settings:
    """What to run, and how."""

    file: Path = option(help="a .cu file", positional=True)
    kernel: str = option(help="the name of a kernel in it", positional=True)
    mode: str = option("check", "how to run it", choices=tuple(emulate.MODES))
    grid: str = option("1", "blocks: up to three numbers, as 4 or 4,2")
    block: str = option("128", "threads of a block: up to three numbers, as 256 or 16,16")
    args: str = option("", "arguments, as name=value, a space between")
    size: int = option(1024, "of arguments that are not named", low=0)
    shared: int = option(0, "bytes of dynamic shared memory", low=0)
    order: str = option("forward", "of the threads", choices=tuple(emulate.ORDERS))
    real: str = option("float", "the type that `real` stands for", choices=tuple(NAMES.values()))
    seed: int = option(0, "of the random numbers, and of --order random", low=0)


def numbers(text, flag):
    """(4, 2) for "4,2"."""
    parts = text.split(",")
    if not 1 <= len(parts) <= 3 or not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"--{flag} takes up to three numbers, as 4 or 4,2, not {text!r}")
    return tuple(map(int, parts))


def named(text, kernel):
    """{"n": "100"} for "n=100", if the kernel has these parameters."""
    pairs = dict(word.partition("=")[::2] for word in text.split())
    for name in pairs:
        if name not in [parameter.name for parameter in kernel.parameters]:
            raise ValueError(f"--args: {kernel.name} has no parameter {name!r}")
    return pairs


def argument(parameter, dtype, said, random):
    """What a parameter is given: an array from a file or a size, or a number."""
    if parameter.is_pointer and said.endswith(".npy"):
        return np.load(said, allow_pickle=False)
    if dtype is None:
        raise ValueError(f"parameter {parameter.name} is a {parameter.type}: no type of NumPy")
    try:
        value = float(said)
    except ValueError:
        wanted = "a size or a .npy file" if parameter.is_pointer else "a number"
        raise ValueError(f"--args: {parameter.name} is {wanted}, not {said!r}") from None
    kind = np.dtype(dtype).kind
    if not parameter.is_pointer and kind == "f":
        return np.dtype(dtype).type(value)
    if not value.is_integer() or (parameter.is_pointer and value < 0):
        wanted = "a size" if parameter.is_pointer else "a whole number"
        raise ValueError(f"--args: {parameter.name} is {wanted}, not {said}")
    if not parameter.is_pointer:
        return int(value)  # the launch refuses what does not fit
    if kind == "f":
        return random.standard_normal(int(value)).astype(dtype)
    return random.integers(0, 2, int(value)).astype(dtype)


def print_counts(counts):
    """A table: a line of the kernel, what its warps asked for, and what it would be at best."""
    print(f"{'line':24} {'access':6} {'requests':>9}  {'each took':>10}  {'at best':>8}")
    for count in counts:
        access, place = ("read", "write")[count.writes], f"{count.file}:{count.line}"
        if count.requests:
            took, best = count.sectors / count.requests, count.ideal / count.requests
            print(f"{place:24} {access:6} {count.requests:9}  {took:10.2f}  {best:8.2f}  sectors")
        if count.shared_requests:
            took = count.turns / count.shared_requests
            print(f"{place:24} {access:6} {count.shared_requests:9}  {took:10.2f}  {1:8.2f}  turns "
                  "of the banks")


def run(settings):
    """Launch the kernel as the settings say."""
    launcher = Launcher(settings.file, settings.kernel, defines=(("REAL", settings.real),))
    said, random = named(settings.args, launcher.kernel), np.random.default_rng(settings.seed)
    parameters = launcher.kernel.parameters
    arguments = tuple(argument(p, dtype, said.get(p.name, str(settings.size)), random)
                      for p, dtype in zip(parameters, launcher.types, strict=True))
    grid, block = numbers(settings.grid, "grid"), numbers(settings.block, "block")
    with emulate.emulating(mode=settings.mode, order=settings.order, seed=settings.seed):
        launcher(grid, block, arguments, settings.shared)
    for parameter, value in zip(parameters, arguments, strict=True):
        if parameter.is_pointer and not parameter.is_read_only:
            print(f"{parameter.name} = {np.array2string(value, threshold=12, precision=5)}")
    if settings.mode == "count":
        print_counts(emulate.emulated_file(launcher.source, launcher.defines, "count").counted())
    if settings.mode == "debug":
        line = launcher.kernel.line
        print(f"to step through it: gdb --args python {shlex.join(sys.argv)}\n"
              "(gdb) set breakpoint pending on\n"
              f"(gdb) break {source.shown(settings.file)}:{line + 1} if threadIdx.x == 5")


def main():
    """Run the kernel; what it or its text does wrong is reported, with exit code 1."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        try:
            run(settings)
        except (emulate.KernelError, CompileError) as error:
            raise SystemExit(f"error: {error}") from None
    print(f"kernel={settings.kernel} mode={settings.mode} order={settings.order} found=nothing")


if __name__ == "__main__":
    with program():
        main()
