"""Every body of a kernel, one under another: what it means, and what makes it fast.

    python scripts/show.py                  all kernels and the bodies they have
    python scripts/show.py gelu_forward     the reference, the loops, the C, the CUDA
    python scripts/show.py gelu             gelu_forward and gelu_backward
"""

import argparse
import difflib
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path

import tinygrad_edu
from tinygrad_edu.kernel import backends, kernels
from tinygrad_edu.train.program import program

PACKAGE = Path(tinygrad_edu.__file__).resolve().parent
SOURCES = {"native": "*.c", "cuda": "*.cu"}


def import_lessons():
    """Import every module of the library, since a kernel is known once its lesson has run."""
    for module in pkgutil.walk_packages(tinygrad_edu.__path__, "tinygrad_edu."):
        if not module.name.rpartition(".")[2].startswith("_"):
            try:
                importlib.import_module(module.name)
            except ImportError as error:  # an extra that is not installed
                print(f"left out: {module.name} ({error})", file=sys.stderr)


def place(path, line):
    """file:line, short where the file belongs to this repository."""
    path = Path(path)
    inside = path.is_relative_to(PACKAGE.parent)
    return f"{path.relative_to(PACKAGE.parent) if inside else path}:{line}"


def find(name):
    """The kernels that a name means: itself, or its _forward and _backward. ValueError: none."""
    meant = (name, f"{name}_forward", f"{name}_backward")
    if any(kernel in kernels for kernel in meant):
        return [kernel for kernel in meant if kernel in kernels]
    close = difflib.get_close_matches(name, kernels, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(close)}?" if close else "without a name, all are listed"
    raise ValueError(f"there is no kernel {name!r}: {advice}")


def python_text(function):
    """(file:line, text) of a body written in Python."""
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return "made by a table, it has no text of its own", ""
    return place(inspect.getsourcefile(function), first), inspect.cleandoc("\n" + "".join(lines))


def from_bracket_to_bracket(text, start, brackets):
    """Where the bracket that opens at or after `start` is closed."""
    depth = 0
    for i in range(text.index(brackets[0], start), len(text)):
        depth += (text[i] == brackets[0]) - (text[i] == brackets[1])
        if depth == 0:
            return i + 1
    return len(text)


COMMENT = re.compile(r"(?:/\*(?:(?!\*/).)*\*/[ \t]*\n|(?://[^\n]*\n)+)\Z", re.S)  # right above


def definition(text, name):
    """(start, end) of the C function `name` with the comment above it, or None."""
    head = re.search(rf"^(?![ \t]*(?:#|//|\*))[^\n;]*\b{name}\s*\([^;{{}}]*\)\s*\{{", text, re.M)
    if head is None:
        return None
    above = COMMENT.search(text, 0, head.start())
    start = above.start() if above else head.start()
    return start, from_bracket_to_bracket(text, head.start(), "{}")


def macro_row(text, name):
    """[(start, end), ...]: a macro, and the line that makes `name` with it; or nothing.

    A row such as UNARY(gelu, ...) makes gelu_forward and gelu_backward.
    """
    stem = re.sub(r"_(forward|backward)$", "", name)
    for row in re.finditer(rf"^(\w+)\(\s*{stem}\b", text, re.M):
        macro = re.search(rf"^#define {row[1]}\((?:[^\n]*\\\n)*[^\n]*", text, re.M)
        if macro:
            return [macro.span(), (row.start(), from_bracket_to_bracket(text, row.start(), "()"))]
    return []


def compiled_texts(name, folder):
    """[(file:line, text), ...] of what native/ or cuda/ has for a kernel."""
    found = []
    # In the repository the folder lies beside the package, where it is installed, inside it.
    for base in (PACKAGE.parent / folder, PACKAGE / folder):
        for path in sorted(base.glob(SOURCES[folder])):
            text = path.read_text(encoding="utf-8")
            span = definition(text, name)
            for start, end in [span] if span else macro_row(text, name):
                found.append((place(path, text.count("\n", 0, start) + 1), text[start:end]))
    return found


def show(name):
    """Print all bodies of one kernel."""
    kernel = kernels[name]
    for backend, body in kernel.bodies.items():
        where, text = python_text(body.function)
        missing = "" if backends[backend].available() else ", not available here"
        print(f"==== {name} · {backend}{missing} · {where}\n\n{text.rstrip()}\n")
        for where, text in compiled_texts(name, backend) if backend in SOURCES else []:
            print(f"---- {where}\n\n{text.rstrip()}\n")


def list_all():
    """Print every kernel with its parameters and its bodies."""
    for name, kernel in sorted(kernels.items()):
        call = f"{name}({', '.join(kernel.parameters)})"
        print(f"{call:<76} {' '.join(kernel.bodies)}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kernel", nargs="?", help="a name, with or without _forward or _backward")
    args = parser.parse_args(argv)
    import_lessons()
    if args.kernel is None:
        list_all()
        print(f"kernels={len(kernels)}")
        return 0
    try:
        names = find(args.kernel)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in names:
        show(name)
    bodies = sorted({body for name in names for body in kernels[name].bodies})
    print(f"kernels={','.join(names)} bodies={','.join(bodies)}")
    return 0


if __name__ == "__main__":
    with program():
        code = main()
    sys.exit(code)
