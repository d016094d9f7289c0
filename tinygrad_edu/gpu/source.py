"""Lesson 1.12 · The text of a CUDA kernel

Needs nothing. Used by emulate, launch.

Idea      CUDA is C++ for GPUs. A kernel is a function that many threads run at once: 32 of them, a
          warp, step by step together; up to 1024, a block, on one multiprocessor (a core of the
          GPU), where they have a small fast memory in common, the shared memory; all blocks are the
          grid. In most of our files a kernel with _naive in its name says the plain thing first,
          "the sentence", and the fast kernels below paraphrase it.
          A .cu file is given to two compilers that know nothing of this library: NVIDIA's, at run
          time, and a C++ compiler, for the emulator. Both get one text without any #include of
          ours left: then the text alone says whether an old build is still the right one. What the
          compilers will not tell is read here: which kernels the file has, the names and types of
          their parameters, and what it promises about itself in comments (`// expect: regs<=64`).
Math      one text(f) = f with each #include "g" replaced by one text(g), the first time, and by
                        nothing afterwards                                                     (1)
          type(p) = the declared type, with the #defines of the build and the typedefs of the
                    text applied until nothing changes                                         (2)
Shapes    softmax.cu -> Source(text, kernels) · kernels["softmax_forward"].parameters: y, x, C
Pitfalls  CuPy keeps compiled kernels by the text it was given, not by what that text includes: a
          changed header would go unnoticed. With (1) there is nothing to include.
          After an inlined file the compiler would count lines wrongly: #line sets it right, so that
          messages name the file and the line that the author knows.
          This is a reader of our dialect, not of C++: kernels are `extern "C" __global__ void`,
          their parameters pointers and plain numbers. A template has no name to be called by.
Cost      A millisecond for a file; read once a process.
Try       build it    `// expect: threads>=32`, refused at launch. Where does launch.py find it?
          break it    leave the #line out. Which test of tests/gpu/test_source.py fails?
          measure it  python -m tinygrad_edu.gpu.source
See       https://docs.nvidia.com/cuda/nvrtc (why no header of the system is there)
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
NUMBERS = {
    "char": np.int8, "signed char": np.int8, "unsigned char": np.uint8, "bool": np.bool_,
    "short": np.int16, "unsigned short": np.uint16,
    "int": np.int32, "unsigned": np.uint32, "unsigned int": np.uint32,
    "long long": np.int64, "unsigned long long": np.uint64, "size_t": np.uint64,
    "int8_t": np.int8, "uint8_t": np.uint8, "int16_t": np.int16, "uint16_t": np.uint16,
    "int32_t": np.int32, "uint32_t": np.uint32, "int64_t": np.int64, "uint64_t": np.uint64,
    "float": np.float32, "double": np.float64, "__half": np.float16, "half": np.float16,
    "__nv_bfloat16": np.uint16,  # NumPy has no bfloat16: its bits travel as integers
}
WIDE = re.compile(r"\b(?:u?int4|float4|double[24]|u?longlong[24])\s*(?:const\s*)?\*")
QUALIFIERS = re.compile(r"\b(?:const|volatile|__restrict__|__restrict|__grid_constant__)\b|[*&]")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: `const real *x` is Parameter("x", "real", True, True)."""

    name: str
    type: str
    is_pointer: bool
    is_read_only: bool


@dataclass(frozen=True)
class KernelText:
    """What a file says about one of its kernels."""

    name: str
    parameters: tuple[Parameter, ...]
    line: int
    most_threads: int  # of __launch_bounds__, or what every GPU allows
    expect: dict[str, str]  # of the comment `// expect: key<=value …` above it

    @property
    def aligned(self):
        """Names of the parameters that must begin at a multiple of 16 bytes, as it declares."""
        return self.expect.get("aligned", "").split(",")


class Source:
    """A .cu file as one text, with what it says about its kernels."""

    def __init__(self, path, text=None):
        self.path = Path(path)
        self.text = _inline(self.path, set()) if text is None else text
        plain = _without_comments(self.text)
        self.types = dict(_typedefs(plain))
        self.kernels = {kernel.name: kernel for kernel in _kernels(self.text, plain)}
        # Loads of 16 bytes at once must start at a multiple of 16; a slice may not. Where they do
        # not show in a pointer's type, the kernel says so: `// expect: aligned=a,b`.
        self.wants_16_bytes = bool(WIDE.search(plain))

    def dtype(self, parameter, defines):
        """The NumPy type that stands for a parameter's type, or None: (2)."""
        name, seen = parameter.type, set()
        while name not in NUMBERS and name not in seen:
            seen.add(name)
            name = str(defines.get(name, self.types.get(name, name)))
        return NUMBERS.get(name)


def folder():
    """cuda/: inside the package in a regular install, beside it in a repository."""
    inside = HERE / "cuda"
    return inside if inside.is_dir() else HERE.parent / "cuda"


def read(path):
    """The Source at a path, read again when it has changed. Raises OSError without a file."""
    status = Path(path).stat()
    return _read(Path(path), status.st_mtime_ns, status.st_size)


@functools.cache
def _read(path, *_):
    return Source(path)


@functools.cache
def lesson_kernels():
    """name -> path, for every kernel of cuda/*.cu. Raises ValueError where two share a name."""
    found = {}
    for path in sorted(folder().glob("*.cu")):
        for name in read(path).kernels:
            if found.setdefault(name, path) != path:
                raise ValueError(f"{path.name} and {found[name].name} both have a kernel {name}")
    return found


def shown(path):
    """How messages call a file: cuda/softmax.cu wherever the library is installed."""
    path = Path(path).resolve()
    base = folder().resolve()
    return f"cuda/{path.relative_to(base).as_posix()}" if path.is_relative_to(base) else path.name


INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"[^\n]*$', re.M)
ONCE = re.compile(r"^[ \t]*#[ \t]*pragma[ \t]+once\b[^\n]*$", re.M)


def _inline(path, seen):
    """One text: (1). Each piece says by #line where it comes from."""
    seen.add(path.resolve())
    name = shown(path)
    text = ONCE.sub("", path.read_text(encoding="utf-8"))

    def replace(match):
        places = [base / match[1] for base in (path.parent, folder())]
        inner = next((place for place in places if place.is_file()), None)
        line = text.count("\n", 0, match.start()) + 1
        if inner is None:
            raise OSError(f"{name}:{line} includes {match[1]}, which is not in {path.parent}")
        inlined = "" if inner.resolve() in seen else _inline(inner, seen)
        return f'{inlined}\n#line {line + 1} "{name}"'
    return f'#line 1 "{name}"\n' + INCLUDE.sub(replace, text)


def _without_comments(text):
    """The text with comments blanked out; every line stays on its line."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda match: re.sub(r"[^\n]", " ", match[0]), text,
                  flags=re.S)


def _typedefs(plain):
    """(new name, old name) of what a text declares in either of the two ways."""
    for old, new in re.findall(r"\btypedef\s+([\w ]+?)\s+(\w+)\s*;", plain):
        yield new, old
    for new, old in re.findall(r"\busing\s+(\w+)\s*=\s*([\w ]+?)\s*;", plain):
        yield new, old


KERNEL = re.compile(
    r"__global__\s+(?P<marks>(?:void|static|inline|__launch_bounds__\s*\([^()]*\)|\s)+)"
    r"\b(?P<name>\w+)\s*\((?P<inside>[^()]*)\)\s*\{")
EXPECT = re.compile(r"//\s*expect:([^\n]*)\n(?:[ \t]*//[^\n]*\n)*[^\n;{}]*\Z")


def _kernels(text, plain):
    """Every KernelText. Comments are looked for in the text, code in what is left without them."""
    for match in KERNEL.finditer(plain):
        before = plain[:match.start()].rstrip()
        if re.search(r"template\s*<[^<>]*>\s*(?:extern\s+\"C\"\s*)?\Z", before):
            continue
        bounds = re.search(r"__launch_bounds__\s*\(\s*(\d+)", match["marks"])
        tags = EXPECT.search(text, 0, match.start())
        pairs = re.findall(r"(\w+)\s*(?:<=|=|>=)\s*([\w.,]+)", tags[1]) if tags else ()
        inside = [p for p in match["inside"].split(",") if p.strip() not in ("", "void")]
        yield KernelText(match["name"], tuple(map(_parameter, inside)),
                         _line(text, match.start()), int(bounds[1]) if bounds else 1024,
                         dict(pairs))


def _parameter(declaration):
    """`const real *__restrict__ x` taken apart: the last word is the name, the rest the type."""
    words = QUALIFIERS.sub(" ", declaration).split()
    is_pointer = "*" in declaration or "[" in declaration
    is_read_only = bool(re.match(r"\s*(?:\w+\s+)*?const\b", declaration))
    return Parameter(words[-1].rstrip("[]"), " ".join(words[:-1]), is_pointer, is_read_only)


def _line(text, position):
    """The line of the file itself, as the last #line above a position counts it."""
    above = text[:position]
    marks = list(re.finditer(r"^#line (\d+)[^\n]*\n", above, re.M))
    start, first = (marks[-1].end(), int(marks[-1][1])) if marks else (0, 1)
    return first + above.count("\n", start)


if __name__ == "__main__":
    import time

    start = time.perf_counter()
    number = len(lesson_kernels())
    print(f"kernels={number} ms={(time.perf_counter() - start) * 1e3:.1f}")
