"""Lesson 1.18 · NVIDIA's compiler, without a GPU

Needs elf, launch, source. Used by tests/gpu/test_compile.py.

Idea      The emulator shows that a kernel computes the right thing. Whether NVIDIA's compiler takes
          it, and how many registers it needs, is a question to that compiler, and it needs neither
          a GPU nor a driver: NVRTC is a shared library that turns text into machine code (and it is
          what CuPy calls). It comes from PyPI. Registers decide how many threads a multiprocessor
          can hold at once; a kernel that needs more than there are spills them to memory.
          The machine code itself says what became of the text: whether sixteen bytes are loaded at
          once, and whether the tensor cores are used. NVIDIA documents it nowhere, but it is
          regular: 16 bytes an instruction, in always the same bits what is done.
Math      threads at once on one multiprocessor ≤ ⌊65 536 / registers of a thread⌋               (1)
          operation = instruction mod 2⁹; bits 12 to 15 say when, 15 being never, and bits 73 to
          75 how wide, 5 being 8 bytes and 6 being 16                                            (2)
Shapes    a Source, an architecture ("sm_90") -> Compiled(machine code, resources of each kernel)
Pitfalls  NVRTC has the words of CUDA and no header of C: no <stdint.h>, no <math.h>, no INFINITY.
          Its second library, libnvrtc-builtins, is looked for by name: it has to be loaded before.
          An array in registers wants an index known at compile time; a size that is only known at
          run time puts it into memory, and compiling takes seconds instead of a tenth of one.
          (2) is what the code for sm_80 and sm_90 has in common: older and later GPUs may differ.
Cost      A tenth of a second a file and architecture; 220 MB of disk for the wheel.
Try       build it    print (1), as a share of the 2048 threads that a multiprocessor can hold.
          break it    declare `// expect: regs<=8` above a kernel. What does the test print?
          measure it  python -m tinygrad_edu.gpu.nvrtc softmax.cu
See       https://docs.nvidia.com/cuda/nvrtc · CUDA C++ Programming Guide, "Compute Capabilities"
          · CUDA Binary Utilities, "Instruction Set Reference" (the names) · nvdisasm prints them
"""

import ctypes
import functools
import importlib.util
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import elf, source
from .launch import NAMES

ARCHITECTURES = ("sm_80", "sm_90")  # A100; H100 and H200
MISSING = ("NVIDIA's run-time compiler is not installed: pip install \"nvidia-cuda-nvrtc==13.0.*\" "
           "\"nvidia-cuda-runtime==13.0.*\"")

# (2): what each operation is called, and the widths that are worth a word.
OPERATIONS = {0x03c: "HMMA",                     # tensor cores: halves, bfloat16, tf32
              0x03b: "LDSM",                     # ldmatrix
              0x1ae: "LDGSTS",                   # cp.async
              0x181: "LDG", 0x186: "STG",        # load from and store to global memory,
              0x184: "LDS", 0x188: "STS",        # shared memory,
              0x183: "LDL", 0x187: "STL",        # and local memory, a thread's own: spills too
              0x189: "SHFL", 0x11d: "BAR"}       # shuffles, __syncthreads
WIDTHS = {5: ".64", 6: ".128"}                   # in bits
NEVER = 15                                       # such instructions only fill time


@dataclass(frozen=True)
class Resources:
    """What one thread, or block, of a kernel takes."""

    registers: int
    spills: int  # bytes stored to memory for want of registers
    shared: int  # bytes of static shared memory


@dataclass(frozen=True)
class Compiled:
    """Machine code (an ELF file) and the resources of each kernel by name."""

    code: bytes
    resources: dict[str, Resources]


def _wheel_folders():
    """nvidia/*/ of site-packages, where NVIDIA's wheels unpack."""
    found = importlib.util.find_spec("nvidia")
    roots = list(found.submodule_search_locations) if found else []
    return [folder for root in roots for folder in sorted(Path(root).iterdir()) if folder.is_dir()]


@functools.cache
def library():
    """NVRTC. Raises OSError, in one sentence, where it is not installed."""
    for folder in _wheel_folders():
        for path in sorted((folder / "lib").glob("libnvrtc.so*")):
            for builtins in sorted(path.parent.glob("libnvrtc-builtins.so.*")):
                ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(str(path))
    raise OSError(MISSING)


def available():
    """Whether NVRTC is installed."""
    try:
        return bool(library())
    except OSError:
        return False


def compile_source(text, architecture="sm_90", defines=()):
    """A Source as machine code. Raises ValueError with the compiler's message where it refuses."""
    nvrtc = library()
    program = ctypes.c_void_p()
    includes = [f"-I{folder / 'include'}" for folder in _wheel_folders()]
    options = [f"-arch={architecture}", "-std=c++17", "--ptxas-options=-v", *includes,
               *(f"-D{name}={value}" for name, value in defines)]
    encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.text.encode(),
                             text.path.name.encode(), 0, None, None)
    try:
        failed = nvrtc.nvrtcCompileProgram(program, len(options), encoded)
        log = _read(nvrtc, program, "ProgramLog").decode().rstrip("\0")
        if failed:
            raise ValueError(f"{text.path.name} does not compile for {architecture}:\n{log}")
        return Compiled(_read(nvrtc, program, "CUBIN"), _resources(log))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(nvrtc, program, what):
    """What nvrtcGet… has to say: its size first, then its bytes."""
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    content = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, content)
    return content.raw


def _resources(log):
    """The log says for each kernel in turn: its name, its spills, its registers.

    Functions that are not inlined have entries of their own, which name no kernel: left out.
    """
    found = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        name = part[:part.index("'")]
        spills = re.search(r"(\d+) bytes spill stores", part)
        registers = re.search(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        found[name] = Resources(*(int(m[1]) if m else 0 for m in (registers, spills, shared)))
    return found


def instructions(code):
    """kernel -> how many instructions of each kind it has, {"LDG.128": 4, …}, by (2).

    Only those of OPERATIONS are counted.
    """
    binary, found = elf.Elf(code), {}
    for section, (offset, length, _) in binary.sections.items():
        if section.startswith(".text."):
            words = np.frombuffer(code, "<u8", length // 8, offset).reshape(-1, 2).tolist()
            names = ((OPERATIONS.get(low & 511), WIDTHS.get(high >> 9 & 7, ""))
                     for low, high in words if low >> 12 & 15 != NEVER)
            found[section.removeprefix(".text.")] = Counter(
                name + width * (name[:2] in ("LD", "ST")) for name, width in names if name)
    return found


def broken_promises(text, compiled, place):
    """What a file declares by `// expect:` and its machine code does not keep, as sentences."""
    has_instructions = instructions(compiled.code)
    for name, kernel in text.kernels.items():
        for wanted in filter(None, kernel.expect.get("sass", "").split(",")):
            if not has_instructions[name][wanted]:
                yield f"{place}: {name} has no {wanted} in its machine code, and declares it"
        has = compiled.resources[name]
        limits = {"regs": has.registers, "spills": has.spills, "smem": has.shared}
        for key, wanted in kernel.expect.items():
            if key in limits and limits[key] > int(wanted):
                yield f"{place}: {name} has {key}={limits[key]}, declared is {wanted}"


def main(name="softmax.cu"):
    text = source.read(source.folder() / name)
    for architecture in ARCHITECTURES:
        for real in NAMES.values():
            compiled = compile_source(text, architecture, (("REAL", real),))
            counted = instructions(compiled.code)
            for kernel, used in compiled.resources.items():
                print(f"{architecture} {real:6} {kernel:32} registers={used.registers:<4}"
                      f"spills={used.spills:<4}shared={used.shared:<6}",
                      *(f"{name}={n}" for name, n in sorted(counted[kernel].items())))


if __name__ == "__main__":
    main(*sys.argv[1:2])
