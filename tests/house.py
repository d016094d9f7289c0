"""The rules of the house, as functions: each takes a House and returns what breaks it.

Every violation is one sentence that begins with the place, so that an editor can jump there. The
rules stand here; tests/test_house.py applies them to the repository, and first shows each one a
file that breaks it, since a rule that never speaks proves nothing.
"""

import ast
import functools
import importlib
import importlib.util
import io
import os
import re
import statistics
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Folders that are not the repository's own; hidden ones are not either, but for these.
SKIP = re.compile(r"venv|build|dist|runs|__pycache__|.*\.egg-info|\.(?!ci$|github$).*")

SLOTS = ("Idea", "Math", "Shapes", "Pitfalls", "Cost", "Try", "See")
TRIES = ("build it", "break it", "measure it")
INDENT = 10  # width of the slot column of a lesson's docstring

# The floor of a folder. A folder that is missing here has no floor yet: give it one.
FLOORS = {
    "native": 0,
    "cuda": 0,
    "cuda/emulator": 0,
    "tinygrad_edu": 1,
    "tinygrad_edu/gpu": 1,
    "tinygrad_edu/ops": 2,
    "tinygrad_edu/nn": 3,
    "tinygrad_edu/files": 3,
    "tinygrad_edu/data": 4,
    "tinygrad_edu/tokenizers": 4,
    "tinygrad_edu/ml": 4,
    "models": 4,
    "tinygrad_edu/train": 5,
    "tinygrad_edu/inference": 5,
    "tinygrad_edu/quant": 6,
    "tinygrad_edu/rlhf": 7,
    "tinygrad_edu/eval": 8,
    "tinygrad_edu/distributed": 8,
    "tinygrad_edu/debug": 8,
}

# "Used by every op" stands for some file of that folder.
EVERY = {
    "op": "tinygrad_edu/ops/",
    "layer": "tinygrad_edu/nn/",
    "tokenizer": "tinygrad_edu/tokenizers/",
    "model": "models/",
    "script": "scripts/",
    "test": "tests/",
}

COLUMNS = 100
FUNCTION_LINES = 40  # a function has fewer, its docstring aside
FILE_LINES = (25, 300)  # of a lesson; "about 60 to 250" is the aim

# Tokens a code line, over a file: the aim is 7 to 10. A mean says little about loops over elements
# (y[n, c] alone is six tokens), so its band is wide and the median has a bound of its own.
TOKENS_MEAN = (6.0, 14.0)
TOKENS_MEDIAN = 11
# Prose lines a code line: the aim is 0.5 to 0.9. A short file has more, since no lesson's docstring
# is short; a family of loops has less.
PROSE_PER_LINE = (0.35, 1.6)
FEW_LINES = 40  # of code: below, neither number means much, and neither is judged

VARIABLES = {"TG_BACKEND", "TG_TRACE", "TG_CHECK"}
# Read, but not ours: how many threads other libraries were asked for, where caches belong, and
# which C compiler is to be called.
FOREIGN_VARIABLES = {"OMP_NUM_THREADS", "XDG_CACHE_HOME", "CC"}


def load(path):
    """A Python file as a module, wherever it lies."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


contents = load(ROOT / "scripts" / "contents.py")


class Source:
    """One Python file: its text, its tree and, where it is one, its lesson."""

    def __init__(self, path, root):
        self.path = path.relative_to(root).as_posix()
        self.folder = self.path.rpartition("/")[0]
        self.text = path.read_text(encoding="utf-8")
        self.lines = self.text.splitlines()
        self.tree = ast.parse(self.text)
        self.docstring = ast.get_docstring(self.tree, clean=False) or ""
        self.lesson = contents.read_lesson(path, root)

    @functools.cached_property
    def docstring_lines(self):
        """The numbers of the lines that belong to a docstring, also of a class or a function."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
                text = node.body[0]
                found.update(range(text.lineno, text.end_lineno + 1))
        return found

    @functools.cached_property
    def crossing_lines(self):
        """The numbers of the lines of bodies that only call C or CUDA, where the arithmetic is."""
        found = set()
        for node in ast.walk(self.tree):
            marks = map(ast.unparse, getattr(node, "decorator_list", ()))
            if any(re.search(r"\.body\('(native|cuda)'", mark) for mark in marks):
                found.update(range(node.decorator_list[0].lineno, node.end_lineno + 1))
        return found

    @functools.cached_property
    def strings(self):
        """Every string of the file that is not a docstring, as (line, text)."""
        nodes = (node for node in ast.walk(self.tree) if isinstance(node, ast.Constant))
        return [
            (node.lineno, node.value)
            for node in nodes
            if isinstance(node.value, str) and node.lineno not in self.docstring_lines
        ]


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def files(root):
    """Every file below a folder, without what SKIP names."""
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if not SKIP.fullmatch(name)]
        yield from (Path(folder, name) for name in names)


class House:
    """All files of a repository, and who imports whom."""

    def __init__(self, root=ROOT):
        self.root = Path(root)
        self.paths = {p.relative_to(self.root).as_posix(): p for p in sorted(files(self.root))}
        self.sources = {
            name: Source(p, self.root) for name, p in self.paths.items() if p.suffix == ".py"
        }
        lessons = {p.relative_to(self.root).as_posix() for p in contents.lesson_files(self.root)}
        self.lesson_files = [self.sources[name] for name in sorted(lessons & set(self.sources))]
        self.lessons = [source for source in self.lesson_files if source.lesson]

    def module(self, dotted):
        """The path of the file that `import dotted` runs, or None if it is none of ours."""
        inside = dotted.replace(".", "/")
        # models/ and native/ install inside the package; a script and a test see their neighbours.
        installed = inside.removeprefix("tinygrad_edu/")
        places = [inside, installed, f"scripts/{inside}", f"tests/{inside}"]
        for place in places:
            for name in (f"{place}.py", f"{place}/__init__.py"):
                if name in self.sources:
                    return name
        return None

    def exported(self, package, name):
        """The file that a name of a package comes from: its module, or what __init__.py says."""
        dotted = package.removesuffix("/__init__.py").replace("/", ".")
        found = self.module(f"{dotted}.{name}")
        if found:
            return found
        for node in self.sources[package].tree.body:
            imported = node.names if isinstance(node, ast.ImportFrom) else []
            if name in (alias.asname or alias.name for alias in imported):
                return next(iter(self.targets(self.sources[package], node, name)), package)
        return package

    def targets(self, source, node, only=None):
        """The files of the repository that one import statement names."""
        if isinstance(node, ast.Import):
            return {self.module(alias.name) for alias in node.names} - {None}
        base = node.module or ""
        if node.level:
            parts = source.path.split("/")[: -node.level]
            base = ".".join(parts + ([base] if base else []))
        found = self.module(base)
        if found is None:  # a folder without __init__.py
            return {self.module(f"{base}.{alias.name}") for alias in node.names} - {None}
        if not found.endswith("/__init__.py"):
            return {found}
        aliases = [a for a in node.names if only in (None, a.asname, a.name)]
        return {self.exported(found, alias.name) for alias in aliases}

    @functools.cached_property
    def imports(self):
        """path -> {path of an imported file: line}, also for imports inside functions."""
        found = {}
        for source in self.sources.values():
            found[source.path] = {}
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    for target in self.targets(source, node):
                        found[source.path].setdefault(target, node.lineno)
        return found

    def reached(self, path):
        """All files that running `path` imports, however far down."""
        found = set()
        todo = [path]
        while todo:
            for target in self.imports.get(todo.pop(), {}):
                if target not in found:
                    found.add(target)
                    todo.append(target)
        return found

    def named(self, name):
        """The paths of the lessons that a name means, or of the file with that path."""
        lessons = [s.path for s in self.lessons if s.lesson.answers_to(name)]
        return lessons or [path for path in self.paths if path == name]


# ---- lessons: numbers, slots, links -----------------------------------------------------------


def every_library_file_is_a_lesson(house):
    for source in house.lesson_files:
        if source.lesson is None:
            yield (
                f"{source.path}:1: the docstring must begin with 'Lesson F.P · Title', an empty "
                "line, and 'Needs a, b. Used by c, d.'"
            )


def lesson_numbers_are_unique_and_on_the_floor_of_their_folder(house):
    seen = {}
    for source in house.lessons:
        floor, position = source.lesson.number
        other = seen.setdefault((floor, position), source.path)
        if other != source.path:
            yield f"{source.path}:1: {floor}.{position} is the number of {other} too"
        if FLOORS.get(source.folder) != floor:
            wanted = FLOORS.get(source.folder, "given in tests/house.py")
            yield f"{source.path}:1: the floor of {source.folder}/ is {wanted}, not {floor}"


def imports_point_down(house):
    for source in house.lesson_files:
        for target, line in house.imports[source.path].items():
            lesson = house.sources[target].lesson
            place = f"{source.path}:{line}"
            if target.startswith(("scripts/", "tests/")):
                yield f"{place}: a lesson does not import {target}"
            elif target.startswith("models/") and not source.path.startswith("models/"):
                yield f"{place}: the library takes a model as an argument, it never imports one"
            elif target.endswith("/__init__.py"):
                yield f"{place}: import the lesson itself, not its package {target}"
            elif lesson and source.lesson and lesson.number >= source.lesson.number:
                yield f"{place}: imports {target}, whose number is not lower"


def scripts_do_not_import_each_other(house):
    for path, targets in house.imports.items():
        for target, line in targets.items():
            if path.startswith("scripts/") and target.startswith(("scripts/", "tests/")):
                yield f"{path}:{line}: a script imports lessons, not {target}"


def slots_are_complete_and_in_order(house):
    for source in house.lessons:
        lines = source.docstring.splitlines()
        starts = {}
        for i, line in enumerate(lines, start=1):
            word = line[:INDENT].strip()
            if word in SLOTS and line[:INDENT] == word.ljust(INDENT) and line[INDENT:].strip():
                starts.setdefault(word, i)
        if tuple(starts) != SLOTS:
            yield f"{source.path}:1: the slots must be {SLOTS}, found {tuple(starts)}"
            continue
        for i, line in enumerate(lines, start=1):
            if i > starts["Idea"] and i not in starts.values() and line[:INDENT].strip():
                yield f"{source.path}:{i}: text of a slot is indented by {INDENT} columns"
        attempts = [line[INDENT:] for line in lines[starts["Try"] - 1 : starts["See"] - 1]]
        found = [word for line in attempts for word in TRIES if line.startswith(f"{word:<10}  ")]
        if found != list(TRIES):
            yield f"{source.path}:{starts['Try']}: Try must have the entries {TRIES}"


def needs_is_what_the_file_imports(house):
    for source in house.lessons:
        needed = set()
        for name in source.lesson.needs:
            paths = house.named(name)
            needed.update(paths)
            if len(paths) != 1:
                yield f"{source.path}:3: needs {name!r}, which {meaning(paths)}"
        imported = {p for p in house.imports[source.path] if house.sources[p].lesson}
        # A file may also be needed by its name: run by path, read as text.
        mentioned = {p for p in needed if mentions(source, p)}
        for path in sorted(imported - needed):
            yield f"{source.path}:3: imports {path}, but Needs does not say so"
        for path in sorted(needed - imported - mentioned):
            yield f"{source.path}:3: Needs says {path}, but the file does not import it"


def used_by_names_files_that_use_the_lesson(house):
    for source in house.lessons:
        for name in source.lesson.used_by:
            if name.startswith("every "):
                folder = EVERY.get(name.split()[1])
                users = [p for p in house.paths if folder and p.startswith(folder)]
            else:
                users = house.named(name)
            if not name.startswith("every ") and len(users) != 1:
                yield f"{source.path}:3: used by {name!r}, which {meaning(users)}"
            elif not any(uses(house, user, source.path) for user in users):
                yield f"{source.path}:3: {name} does not use it"


def meaning(paths):
    return f"could be {' or '.join(paths)}" if paths else "is no lesson and no file"


def uses(house, user, path):
    if user not in house.sources:
        return True  # C or text: nothing to follow
    return path in house.reached(user) or mentions(house.sources[user], path)


def mentions(source, path):
    file = path.rpartition("/")[2]
    return any(file in text for _, text in source.strings)


def cited_equations_exist(house):
    for source in house.lessons:
        known = set(re.findall(r"\((\d+)[,)]", source.docstring))
        for i, line in comments(source):
            for number in set(re.findall(r"(?<!\w)\((\d+)\)(?!\w)", line)) - known:
                yield f"{source.path}:{i}: cites equation ({number}), which the docstring lacks"


def comments(source):
    tokens = tokenize.generate_tokens(io.StringIO(source.text).readline)
    return [(t.start[0], t.string) for t in tokens if t.type == tokenize.COMMENT]


def what_a_docstring_tells_the_reader_to_run_or_open_is_there(house):
    for source in house.lesson_files:
        for i, line in enumerate(source.lines, start=1):
            if i in source.docstring_lines:
                for path in PATH.findall(line):
                    if path not in house.paths:
                        yield f"{source.path}:{i}: there is no {path}"
                for dotted in MODULE.findall(line):
                    path = house.module(dotted)
                    if path is None or "__main__" not in dict(house.sources[path].strings).values():
                        yield f"{source.path}:{i}: python -m {dotted} runs nothing"


PATH = re.compile(r"\b(?:tests|scripts|native|cuda|models|tinygrad_edu)/[\w/]+\.(?:py|c|h|cu)\b")
MODULE = re.compile(r"python -m (tinygrad_edu[\w.]*\w)")


# ---- style ------------------------------------------------------------------------------------


def lines_are_at_most_100_columns(house):
    for name, path in house.paths.items():
        if path.suffix in (".py", ".c", ".h", ".cu", ".cuh"):
            for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if len(line) > COLUMNS:
                    yield f"{name}:{i}: {len(line)} columns, at most {COLUMNS}"


def one_statement_a_line(house):
    for source in house.sources.values():
        first = {}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.stmt) and first.setdefault(node.lineno, node) is not node:
                yield f"{source.path}:{node.lineno}: more than one statement on the line"


def functions_are_short(house):
    for source in house.sources.values():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                own = set(range(node.lineno, node.end_lineno + 1)) - source.docstring_lines
                if len(own) >= FUNCTION_LINES:
                    yield f"{source.path}:{node.lineno}: {node.name} has {len(own)} lines"


def lessons_are_about_60_to_250_lines(house):
    low, high = FILE_LINES
    for source in house.lesson_files:
        lines = len(source.lines) - len(source.crossing_lines)
        if not low <= lines <= high:
            yield (f"{source.path}:1: {lines} lines beside the calls of C and CUDA, "
                   f"a lesson has {low} to {high}")


LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
F_START = getattr(tokenize, "FSTRING_START", None)  # from Python 3.12 on, f-strings are taken apart
F_END = getattr(tokenize, "FSTRING_END", None)


def tokens_of_lines(source):
    """line -> tokens of code on it, calls of C and CUDA aside. An f-string counts as one token."""
    found, depth = {}, 0
    skipped = source.docstring_lines | source.crossing_lines
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        row = token.start[0]
        is_code = token.type not in (*LAYOUT, tokenize.COMMENT)
        if is_code and row not in skipped:
            depth -= token.type == F_END
            if depth == 0 and token.type != F_END:
                found[row] = found.get(row, 0) + 1
            depth += token.type == F_START
    return found


def prose_lines(source):
    """Lines of docstrings, and lines with a comment of words: not "# (B, T, C)", not "# (1)"."""
    wordy = {row for row, text in comments(source) if len(re.findall(r"[^\W\d]{2,}", text)) > 1}
    return {row for row in wordy | source.docstring_lines if source.lines[row - 1].strip()}


def code_is_neither_dense_nor_thin(house):
    low, high = TOKENS_MEAN
    for source in house.lesson_files:
        tokens = tokens_of_lines(source).values()
        if len(tokens) < FEW_LINES:
            continue
        mean, median = statistics.mean(tokens), statistics.median(tokens)
        if not low <= mean <= high or median > TOKENS_MEDIAN:
            yield (
                f"{source.path}:1: tokens a code line: mean {mean:.1f}, band {low} to {high}, "
                f"median {median:g}, at most {TOKENS_MEDIAN}"
            )


def lessons_explain_and_do_not_lecture(house):
    low, high = PROSE_PER_LINE
    for source in house.lesson_files:
        code = len(tokens_of_lines(source))
        prose = len(prose_lines(source)) / max(code, 1)
        if code >= FEW_LINES and not low <= prose <= high:
            yield f"{source.path}:1: {prose:.2f} prose lines a code line, band {low} to {high}"


# ---- the rest ---------------------------------------------------------------------------------


def public_functions_have_docstrings(house):
    for source in house.lesson_files:
        for node in source.tree.body:
            if isinstance(node, DOCUMENTED) and not node.name.startswith("_"):
                # What a kernel computes is said by the equations; its bodies are cited lines.
                marks = {ast.unparse(mark).partition("(")[0] for mark in node.decorator_list}
                is_body = any(m in ("Kernel", "helper") or m.endswith(".body") for m in marks)
                if ast.get_docstring(node) is None and not is_body and node.name != "main":
                    yield f"{source.path}:{node.lineno}: {node.name} has no docstring"


def lessons_import_at_the_top_what_is_always_there(house):
    """Python's own modules, NumPy, other lessons; all else is imported where it is used."""
    for source in house.lesson_files:
        for node in statements_run_on_import(source.tree):
            if isinstance(node, ast.Import):
                tops = [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                tops = [node.module.partition(".")[0]]
            else:
                continue
            for top in tops:
                if top not in {*sys.stdlib_module_names, "numpy", "tinygrad_edu"}:
                    yield f"{source.path}:{node.lineno}: import {top} where it is used"


def statements_run_on_import(tree):
    """Every statement of a file but those inside functions."""
    todo = [tree]
    while todo:
        node = todo.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))
            yield node


def test_names_are_not_given_twice(house):
    for source in house.sources.values():
        for scope in ast.walk(source.tree):
            if isinstance(scope, ast.Module | ast.ClassDef):
                seen = set()
                for node in scope.body:
                    if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                        if node.name in seen:
                            yield f"{source.path}:{node.lineno}: there is a {node.name} already"
                        seen.add(node.name)


def test_file_names_are_not_given_twice(house):
    seen = {}
    for path in house.paths:
        name = path.rpartition("/")[2]
        if name.startswith("test_") and seen.setdefault(name, path) != path:
            yield f"{path}:1: {seen[name]} has the same name"


def test_folders_are_not_packages(house):
    for path in house.paths:
        if path.startswith("tests/") and path.endswith("/__init__.py"):
            yield f"{path}:1: tests/ has no __init__.py"


def environment_variables_are_the_three(house):
    allowed = VARIABLES | FOREIGN_VARIABLES
    for source in house.sources.values():
        if source.path.startswith("tests/"):
            continue
        for line, text in source.strings:
            for name in set(re.findall(r"\bTG_[A-Z_]+", text)) - VARIABLES:
                yield f"{source.path}:{line}: {name} is not one of {sorted(VARIABLES)}"
        for node in ast.walk(source.tree):
            name = read_from_environment(node)
            if name is not None and name not in allowed:
                yield f"{source.path}:{node.lineno}: reads {name!r} from the environment"


def read_from_environment(node):
    """The variable that os.environ.get(…), os.environ[…] or os.getenv(…) reads, or None."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in READERS and node.args:
        key = node.args[0]
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
        key = node.slice
    else:
        return None
    return key.value if isinstance(key, ast.Constant) else ast.unparse(key)


READERS = ("os.environ.get", "os.environ.setdefault", "os.getenv")

TEXT = {".py", ".c", ".h", ".cu", ".cuh", ".md", ".toml", ".txt", ".cfg", ".yml", ".yaml", ""}
PRIVATE = re.compile(r"(?<![\w.~])/(?:home|Users|root|work|mnt|tmp)/\w|\b[A-Z]:\\\\?Users\b")


def no_path_of_one_machine(house):
    for name, path in house.paths.items():
        if path.suffix in TEXT:
            text = path.read_text(encoding="utf-8", errors="replace")
            for i, line in enumerate(text.splitlines(), start=1):
                if PRIVATE.search(line):
                    yield f"{name}:{i}: a path that exists on one machine only"


RULES = [
    every_library_file_is_a_lesson,
    lesson_numbers_are_unique_and_on_the_floor_of_their_folder,
    imports_point_down,
    scripts_do_not_import_each_other,
    slots_are_complete_and_in_order,
    needs_is_what_the_file_imports,
    used_by_names_files_that_use_the_lesson,
    cited_equations_exist,
    what_a_docstring_tells_the_reader_to_run_or_open_is_there,
    lines_are_at_most_100_columns,
    one_statement_a_line,
    functions_are_short,
    lessons_are_about_60_to_250_lines,
    code_is_neither_dense_nor_thin,
    lessons_explain_and_do_not_lecture,
    public_functions_have_docstrings,
    lessons_import_at_the_top_what_is_always_there,
    test_names_are_not_given_twice,
    test_file_names_are_not_given_twice,
    test_folders_are_not_packages,
    environment_variables_are_the_three,
    no_path_of_one_machine,
]


# ---- kernels: the same parameters in C and CUDA ----------------------------------------


def registered_kernels(house):
    """name -> Kernel, once every lesson is imported. Kernels that tests register are left out."""
    for source in house.lesson_files:
        if source.path.startswith(("tinygrad_edu/", "models/")):
            inside = source.path.removeprefix("tinygrad_edu/").removesuffix(".py")
            importlib.import_module("tinygrad_edu." + inside.replace("/", "."))
    table = importlib.import_module("tinygrad_edu.kernel").kernels
    return {n: k for n, k in table.items() if k.__module__.startswith("tinygrad_edu.")}


PROTOTYPE = re.compile(r"\bvoid\s+(\w+)\s*\(([^()]*)\)")
INTEGER = re.compile(r"\b(?:int|long|short|size_t|ssize_t|u?int\d+_t)\b")


def prototypes(text):
    """(function, [(type, parameter)]) for every C function of `text` that returns nothing."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    for name, inside in PROTOTYPE.findall(text):
        parameters = [p.strip() for p in inside.split(",") if p.strip() not in ("", "void")]
        yield name, [(p, re.findall(r"\w+", p)[-1]) for p in parameters]


def parameters_differ(kernels, place, text):
    """Where a C or CUDA function of a kernel's name has other parameters than the kernel.

    kernels: name -> its parameters in Python. The C function has the same ones in the same order;
    lengths and strides, which a NumPy array knows by itself, may stand anywhere between: integers.
    A parameter that the C body has no use for may be missing only if it is not an array.
    """
    for name, parameters in prototypes(text):
        if name not in kernels:
            continue
        found = [word for _, word in parameters if word in kernels[name]]
        if found != [word for word in kernels[name] if word in found]:
            yield f"{place}: {name} takes {found}, in Python {kernels[name]}"
        for declaration, word in parameters:
            is_length = "*" not in declaration and INTEGER.search(declaration)
            if word not in kernels[name] and not is_length:
                yield f"{place}: {name} takes {declaration!r}, which the kernel does not have"
        if found[:1] != kernels[name][:1]:
            yield f"{place}: {name} must take the output {kernels[name][0]!r} first"
