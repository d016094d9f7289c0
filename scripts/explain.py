"""What does a word mean here? The answer is quoted from the lessons, with file and line.

    python scripts/explain.py rstd                 a word, a letter, a symbol, several words
    python scripts/explain.py 2.8                  a lesson, by number or file
    python scripts/explain.py --glossary           all words of the glossary
    python scripts/explain.py --glossary --write   the same into docs/glossary.md
    python scripts/explain.py --glossary --check   exit code 1 if docs/glossary.md is stale

Everything printed stands in some file: a lesson, a docstring, the help of a flag.
"""

import argparse
import ast
import difflib
import re
import sys
from typing import NamedTuple

from tinygrad_edu.lessons import ROOT, read_lessons
from tinygrad_edu.train.program import program

# The words of the glossary. What they mean is quoted; a word that no lesson explains is an error.
# The lesson that explains a word best is found by rank_of, or stands here behind a colon.
WORDS = """
B: lessons, T: lessons, S: lessons, C: lessons, H: lessons, G: lessons, D: lessons, F: lessons,
V: lessons, L: lessons, N: lessons, dx: lessons, Adam, adjoint, attention, backward: tensor, BPE,
broadcasting, causal, checkpoint, cross entropy, dropout, embedding, finite differences: gradcheck,
GELU, gradient: lessons, head, held out, Hessian, kernel, key: attention_weights, layer, LayerNorm,
learning rate, lesson, logits: cross_entropy, logsumexp, loss: cross_entropy,
lse: attention_weights, mask: attention_weights, MLP, module, momentum, n-gram, NaN: hunt, nat,
optimizer: optim, pointwise, query: attention_weights, RMSNorm, RoPE, rstd: norm, Scalar, SiLU,
softmax, special token: characters, SwiGLU, tape, temperature, Tensor, tied: module,
token: characters, tokenizer: characters, top-k, top-p, value: attention_weights, vjp: tape,
vocabulary, warm-up, window
"""
GLOSSARY = ROOT / "docs" / "glossary.md"
HEAD = """\
# Glossary

Made by `python scripts/explain.py --glossary --write`: every sentence is quoted from the lesson \
behind it.

| word | quoted | from |
|---|---|---|
"""
QUOTES = 3                                         # lessons that are quoted for a word
GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η",
         "theta": "θ", "lambda": "λ", "mu": "μ", "sigma": "σ", "tau": "τ", "phi": "φ", "omega": "ω"}
# A lesson may write the word this way.
LONG_FORMS = {"vjp": "vector-Jacobian product", "logsumexp": "logarithm of a sum of exponentials"}
SLOT_RANK = {"Idea": 3, "Math": 4, "Shapes": 5, "Pitfalls": 6, "Cost": 7}
# What follows a word at the beginning of a sentence that tells what it is.
VERB = r"(?:is|are|means|stands for|turns|takes|has|makes|gives|zeroes|sets|asks|looks|computes)\b"

SUBJECT = re.compile(r"(?:^|[;:,] )(?:(?:an?|the|every|each) )?$", re.I)


class Quote(NamedTuple):
    """A piece of a lesson that has the word in it; the smallest explains it best."""

    rank: int
    number: tuple[int, int]
    line: int
    slot: str
    text: str
    path: str


def pattern_of(word):
    """A regular expression for a word: upper or lower case, one or many, "top p" for "top-p"."""
    exact = len(word) == 1 or word in ("dx", "NaN")
    stem = word if exact or len(word) < 4 else re.sub(r"(?<=[^s])s$", "", word)
    inside = "[-_ ]?".join(map(re.escape, re.split(r"[-_ ]+", stem)))
    if word.casefold() in LONG_FORMS:
        inside = f"(?:{inside}|{LONG_FORMS[word.casefold()]})"
    return re.compile(rf"(?<!\w){inside}{'' if exact else '(?:s|es)?'}(?!\w)", 0 if exact else re.I)


def pieces(slot, name):
    """(line, text): the sentences of a slot; the lines of Math, the entries of Shapes."""
    if name == "Math":
        for number, line in enumerate(slot.lines, start=slot.line):
            yield number, " ".join(line.split())
    elif name == "Shapes":
        for number, text in slot.sentences():
            yield from ((number, entry.strip()) for entry in text.split(" · "))
    else:
        yield from slot.sentences()


def rank_of(found, slot, text, word):
    """How well this piece of a slot explains the word that it contains; less is better."""
    before, after = text[:found.start()], text[found.end():]
    first = SUBJECT.search(before)
    if slot == "Shapes" and len(word) == 1 and not before and re.match(r" [a-z]{2,}", after):
        return 1                                   # B sequences in a batch
    if first and re.match(
            rf"(?: \([^)]*\))?(?: of \w+)? {VERB}", after):
        return 1                                   # a nat is the unit of ...
    if slot == "Math" and len(word) > 1 and re.match(r":|\s*(?:\([^=]*\))?\s*=[^=]", after):
        return 2                                   # rstd = 1/√v, top-k: the k largest
    if slot == "Idea" and (re.match(r" \((?!lesson)", after) or re.search(r"\($|called $", before)):
        return 2                                   # the head (the last layer), (temperature)
    return SLOT_RANK[slot]


def quotes(word, lessons):
    """The best Quote of each lesson that has the word, the best lesson first."""
    pattern, found, homes = pattern_of(word), [], glossary_words()
    for lesson in lessons:
        own = []
        for slot in SLOT_RANK:
            for line, text in pieces(lesson.slots[slot], slot):
                match = pattern.search(text)
                if match:
                    rank = rank_of(match, slot, text, word)
                    own.append(Quote(rank, lesson.number, line, slot, text, lesson.path))
        if pattern.match(lesson.title) or pattern.fullmatch(lesson.name):
            # What a lesson is about is told by its first sentence, unless another one is better.
            line, text = next(lesson.slots["Idea"].sentences())
            idea = [quote for quote in own if quote.slot == "Idea"]
            own = [*idea, Quote(3, lesson.number, line, "Idea", text, lesson.path)]
            own = [min(own)._replace(rank=0)]
        elif own and len(word) > 1 and pattern.search(lesson.title):
            own = [min(own)._replace(rank=1)]
        if homes.get(word if len(word) == 1 else word.casefold()) == lesson.name:
            own = [quote._replace(rank=-1) for quote in sorted(own)[:1]]
        found += sorted(own)[:1]
    return sorted(found)


def definitions(word, root):
    """(place, text): functions, classes, kernels and flags that have the word for a name."""
    wanted = re.sub(r"[-\s]+", "_", word).strip("_").casefold()
    names = (wanted, f"{wanted}_forward", f"{wanted}_backward")
    for folder in ("native", "tinygrad_edu", "models", "scripts"):
        for path in sorted((root / folder).rglob("*.py")):
            place = path.relative_to(root).as_posix()
            for node in named_nodes(path):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    if node.name.casefold() in names:
                        yield f"{place}:{node.lineno}", described(node)
                elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == wanted:
                    help_text = help_of(node.value)
                    if help_text:
                        yield f"{place}:{node.lineno}", f"--{wanted.replace('_', '-')}: {help_text}"


def named_nodes(path):
    """What a file defines at its top and in its classes, in the order of its lines."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        yield node
        if isinstance(node, ast.ClassDef):
            yield from node.body


def described(node):
    """The head of a function or class, and the first paragraph of its docstring."""
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    if any(mark.startswith("Kernel") for mark in marks):
        return f"a kernel; all its bodies: python scripts/show.py {node.name}"
    kind = "class" if isinstance(node, ast.ClassDef) else "def"
    arguments = f"({ast.unparse(node.args)})" if kind == "def" else ""
    text = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
    return f"{kind} {node.name}{arguments}" + (f": {text}" if text else "")


def help_of(call):
    """The help text of `option(default, help, …)`, or None for another value of a field."""
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != "option":
        return None
    texts = [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "help")]
    return texts[0].value if texts and isinstance(texts[0], ast.Constant) else None


def print_lesson(lesson):
    """The title of a lesson, what it needs, and its slots up to Shapes."""
    print(f"{lesson.path} · lesson {lesson.shown_number} · {lesson.title}")
    print(f"needs {', '.join(lesson.needs) or 'nothing'} · used by {', '.join(lesson.used_by)}")
    for name in ("Idea", "Math", "Shapes"):
        print(f"\n{name}, line {lesson.slots[name].line}")
        print("\n".join(f"    {line}".rstrip() for line in lesson.slots[name].lines))


def meant_lesson(word, lessons):
    """The lesson with this number, path or file name with .py; None if that is not what it is."""
    for lesson in lessons:
        path = word.endswith(".py") and lesson.answers_to(word)
        if word == lesson.shown_number or path:
            return lesson
    return None


def explain(word, lessons, root):
    """Print what the files say about a word. ValueError, with what may be meant, for none."""
    lesson = meant_lesson(word, lessons)
    if lesson:
        print_lesson(lesson)
        return f"lesson={lesson.shown_number}"
    word = GREEK.get(word.casefold(), word)
    found, named = quotes(word, lessons), list(definitions(word, root))
    if not found and not named:
        raise ValueError(f"no lesson speaks of {word!r}{did_you_mean(word, lessons)}")
    for quote in found[:QUOTES]:
        number = ".".join(map(str, quote.number))
        print(f"{quote.path}:{quote.line} · lesson {number} · {quote.slot}\n    {quote.text}\n")
    for place, text in named:
        print(f"{place}\n    {text}\n")
    if len(found) > QUOTES:
        others = ", ".join(f"{q.path}:{q.line}" for q in found[QUOTES:QUOTES + 6])
        print(f"also in {others}{' …' if len(found) > QUOTES + 6 else ''}\n")
    return f"lessons={len(found)} names={len(named)}"


def did_you_mean(word, lessons):
    """The end of a sentence about a word that nothing is known of."""
    known = {w.casefold(): w for w in spelled_words()}
    for lesson in lessons:
        for slot in ("Idea", "Shapes", "Pitfalls"):
            text = " ".join([lesson.title, *lesson.slots[slot].lines])
            known |= {w.casefold(): w for w in re.findall(r"[^\W\d_]{4,}", text)}
    close = difflib.get_close_matches(word.casefold(), known, n=3, cutoff=0.7)
    words = " or ".join(known[each] for each in close)
    return f"; did you mean {words}?" if close else "; --glossary lists words that are explained"


def glossary_words():
    """{word in lower case: name of the lesson that explains it, or None}; a letter as it is."""
    entries = (" ".join(entry.split()).partition(": ") for entry in WORDS.split(","))
    return {word if len(word) == 1 else word.casefold(): home or None for word, _, home in entries}


def spelled_words():
    """The words of the glossary as they are written, letters first, then by the alphabet."""
    words = [" ".join(entry.split()).partition(": ")[0] for entry in WORDS.split(",")]
    return sorted(words, key=lambda word: (len(word) > 1, word.casefold()))


def glossary(lessons):
    """The glossary as Markdown. ValueError for a word that no lesson explains."""
    rows = []
    for word in spelled_words():
        found = quotes(word, lessons)
        if not found:
            raise ValueError(f"no lesson explains {word!r} of the glossary: explain it in one, or "
                             "take it out of WORDS")
        quote = found[0]
        text = quote.text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
        number = ".".join(map(str, quote.number))
        rows.append(f"| {word} | {text} | [{number}](../{quote.path}) |\n")
    return HEAD + "".join(rows)


def write_or_check(text, path, check):
    """Write the glossary, or with `check` only compare; the exit code."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if check and old != text:
        print(f"error: {path.name} is stale: run python scripts/explain.py --glossary --write",
              file=sys.stderr)
        return 1
    if old != text:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    print(f"words={len(spelled_words())} changed={int(old != text)}")
    return 0


def main(argv=None, root=ROOT, path=GLOSSARY):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("word", nargs="*", help="a word or several, a letter, a lesson's number")
    parser.add_argument("--glossary", action="store_true", help="print the glossary")
    parser.add_argument("--write", action="store_true", help="put it into docs/glossary.md")
    parser.add_argument("--check", action="store_true", help="exit code 1 if that file is stale")
    args = parser.parse_args(argv)
    lessons = read_lessons(root)
    word = " ".join(" ".join(args.word).split())
    try:
        if args.write or args.check:
            return write_or_check(glossary(lessons), path, args.check)
        if args.glossary:
            print(glossary(lessons), end="")
            return 0
        if not word:
            raise ValueError("which word? python scripts/explain.py softmax, or --glossary for all")
        print(explain(word, lessons, root))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    with program():
        code = main()
    sys.exit(code)
