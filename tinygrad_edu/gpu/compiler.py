"""Lesson 1.13 · A C++ compiler at run time

Needs nothing. Used by emulate.

Idea      The emulator turns a kernel into machine code on the machine where it runs, the first time
          it is called. Whatever that code depends on is hashed, the hash is the name of the file in
          a cache, and so there is no question whether a build is stale: another text, another
          flag, another compiler or processor is another name.
Math      name = SHA-256(texts of all sources and headers, flags, compiler, processor)           (1)
Shapes    (texts, flags) -> a shared library in $XDG_CACHE_HOME or ~/.cache, tinygrad_edu/emulator
Pitfalls  A hash without the headers runs yesterday's code after a header has changed.
          -march=native ties a build to one kind of processor, and a home folder may be shared by
          many: so the processor's features are hashed too.
          Two processes may build the same file at once. Each writes a name of its own and renames
          it when it is whole; renaming replaces a file in one step.
Cost      About a second a kernel file, once; a look into the cache afterwards.
Try       build it    delete what has not been used for a month. What says when it was used?
          break it    leave the texts of the headers out of (1). Which test notices?
          measure it  python -m tinygrad_edu.gpu.compiler
See       https://ccache.dev/manual/latest.html (the same idea, for any program)
"""

import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NONE = ("there is no C++ compiler for the CUDA emulator: install g++ or clang++, or, without "
        "administrator rights, pip install ziglang")


@functools.cache
def command_line():
    """The command of a C++ compiler as a list. Raises OSError, in one sentence, without one."""
    for name in ("g++", "clang++", "c++"):
        if path := shutil.which(name):
            return [path]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]  # a clang that comes as a Python package
    raise OSError(NONE)


@functools.cache
def version():
    """What the compiler says about itself."""
    command = [*command_line(), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def is_gcc():
    """Whether it is GCC, which knows a few flags that clang does not."""
    return "Free Software Foundation" in version()


@functools.cache
def processor():
    """The kind of processor and its features, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    told = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(told)}))


def cache_folder():
    """Where builds stay."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return home / "tinygrad_edu" / "emulator"


class CompileError(ValueError):
    """A kernel does not compile; the message is the compiler's, at the line of the kernel file."""


def shared_library(name, sources, headers, flags, libraries=()):
    """The path of a library built from sources {file name: text}, which may include `headers`.

    libraries: paths of others that it calls. Raises CompileError with the compiler's message,
    OSError without a compiler.
    """
    command = [*command_line(), "-std=c++17", "-fPIC", *flags]
    digest = hashlib.sha256()
    used = [str(library) for library in libraries]
    for part in (*sources.items(), *headers.items(), command, used, [version(), processor()]):
        for text in part:
            digest.update(f"{len(text.encode())} {text}".encode())
    path = cache_folder() / f"{name}-{digest.hexdigest()[:20]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            built = _compile(Path(scratch), command, sources, headers, used)
            os.replace(built, path)
    return path


def _compile(scratch, command, sources, headers, used):
    """Two steps, since -fsanitize=thread is wanted when compiling and unwanted when linking."""
    for name, text in headers.items():
        place = scratch / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    for name, text in sources.items():
        (scratch / name).write_text(text, encoding="utf-8")
    with ThreadPoolExecutor() as at_once:
        list(at_once.map(lambda name: _run([*command, "-I.", "-Iinclude", "-c", name, "-o",
                                            f"{name}.o"], scratch), sources))
    objects = [f"{name}.o" for name in sources]
    _run([*command_line(), "-shared", *objects, *used, "-pthread", "-o", "built.so"], scratch)
    return scratch / "built.so"


def _run(command, scratch):
    result = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    if result.returncode:
        raise CompileError(f"the kernel does not compile:\n{result.stderr.strip()}")


if __name__ == "__main__":
    from timeit import default_timer

    start = default_timer()
    text = {"empty.cpp": f"const double when = {start!r};"}
    shared_library("empty", text, {}, ["-O0"]).unlink()
    print(f"compiler={Path(command_line()[-1]).name} s={default_timer() - start:.2f}")
