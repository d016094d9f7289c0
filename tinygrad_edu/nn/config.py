"""Lesson 3.11 · A dataclass is its own command line

Needs nothing. Used by models/gpt.py, models/run.py, scripts/train_gpt.py, scripts/generate.py.

Idea      The settings of a run are written down once, as the fields of a dataclass: name, type,
          default, one line of help. From that table come the flags, --help, the checks, and the
          JSON that a checkpoint keeps, so they cannot disagree. A mistake gets one sentence.
Math      A setting is decided by the first of these that speaks of it:
              flag on the command line  >  preset that a flag chooses  >  preset that a default
              chooses  >  default of the field                                                 (1)
Shapes    layers: int → --layers 4 · min_lr: float → --min-lr 1e-4 · bool → --flag / --no-flag ·
          X | None → takes the word none too · Literal["a", "b"] or choices → one of the words ·
          Path → a path · positional=True → no dashes · JSON {"layers": 4, "min_lr": 0.0001, …}
Pitfalls  · bool("False") is True: a flag of type bool that takes a value is a trap.
          · True is an int: read from JSON it would pass for the number 1.
          · argparse accepts --step for --steps; a flag added later then breaks old commands.
          · nan is a float, and every comparison with it is False: bounds do not catch it.
          · a default and nothing said differ when a run is resumed: the set `given` knows.
Cost      Nothing that can be felt: it runs once.
Try       build it    a dataclass of three fields, parse() below it: four lines, and try --help.
          break it    let the preset win over the flag in (1). Which test notices?
          measure it  python -X importtime -c "import tinygrad_edu.nn.config": what costs most?
See       PEP 557 for dataclasses, PEP 586 for Literal, Python's documentation of argparse
"""

import argparse
import dataclasses
import difflib
import math
import re
import sys
import types
import typing
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from reprlib import repr as short  # a damaged file may hold a long text

NEEDS = {int: "a whole number", float: "a number", str: "text", bool: "on or off", Path: "a path"}
LETTER = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


class Kind(typing.NamedTuple):
    """What a field takes: values of `type`, of `choices` alone if there are any, perhaps None."""

    type: type
    choices: tuple
    optional: bool


def option(default=MISSING, help="", **limits):
    """A dataclass field with one line of help.

    `limits`: choices=(…), low= and high= (both included), positional=True for no dashes, word= a
    function: which word of a preset a value stands for. Without a default the user has to give it.
    """
    unknown = limits.keys() - {"choices", "low", "high", "positional", "word"}
    if unknown:
        raise TypeError(f"option() does not know {', '.join(sorted(unknown))}")
    return dataclasses.field(default=default, metadata={"help": help, **limits})


def parse(config_class, argv=None, prog=None, description=None, presets=None):
    """Read a command line (that of the program without `argv`): (config, given).

    `given` is the set of field names that the user wrote down. `presets` maps the name of a field
    to {word: {field: value}}: a value that stands for the word sets those fields where no flag does
    (1). A field whose default is none of the words takes other words too. Prints help and exits
    with 0 for --help; prints `error: …` and exits with 2 for a mistake.
    """
    presets, argv = presets or {}, sys.argv[1:] if argv is None else list(argv)
    kinds = kinds_of(config_class, presets)
    parser = build_parser(config_class, kinds, presets, prog, description)
    flags = flags_of(config_class)
    with errors_in_one_sentence():
        # Before argparse, which would complain of a consequence: RUN missing, a word too many.
        refuse_unknown_flags(argv, flags, kinds)
        texts, rest = parser.parse_known_args(argv)
        if rest:
            raise ValueError(f"{rest[0]!r} is one word too many; see --help")
        given = {name: from_text(t, flags[name], kinds[name]) for name, t in vars(texts).items()}
        values = {**preset_values(config_class, presets, given), **given}                      # (1)
        return build(config_class, values, kinds, flags), frozenset(given)


def to_dict(config):
    """The settings as a dict of JSON's types; a Path becomes text."""
    values = {field.name: getattr(config, field.name) for field in fields(type(config))}
    return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}


def from_dict(config_class, values):
    """The inverse of `to_dict`, for a dict that was read from a file.

    Fields that are absent get their defaults. Raises ValueError, in one sentence, for an unknown
    or missing setting, a value of another type, or one that is out of bounds.
    """
    kinds = kinds_of(config_class)
    if not isinstance(values, dict):
        raise ValueError("the settings are not a JSON object")
    for name in values:
        if name not in kinds:
            raise ValueError(f"unknown setting {short(name)}{did_you_mean(name, kinds)}")
    values = {name: from_json(value, name, kinds[name]) for name, value in values.items()}
    return build(config_class, values, kinds, {name: name for name in kinds})


def differences(old, new, given):
    """[(flag, old value, new value)] of the settings in `given` whose values differ."""
    flags = flags_of(type(new))
    pairs = [(flags[name], getattr(old, name), getattr(new, name)) for name in sorted(given)]
    return [(flag, was, now) for flag, was, now in pairs if was != now]


@contextmanager
def errors_in_one_sentence():
    """Turn what a user can cause (ValueError, OSError, a missing extra) into `error: …`, exit 2.

    For the main function of a script. Other exceptions are bugs of ours and keep their traceback.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of our output has seen enough: no mistake
        raise
    except OSError as error:
        known = error.filename is not None and error.strerror
        complain(f"{error.filename}: {error.strerror}" if known else error)
    except (ValueError, ImportError) as error:
        complain(error)


def complain(message):
    """Print one line and leave with the exit code of a wrong command line."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """argparse without its usage text before every error, as for a flag without its value."""

    def error(self, message):
        complain(message.removeprefix("argument "))


def flags_of(config_class):
    """How the command line spells each field: {"min_lr": "--min-lr", "run": "RUN"}."""
    flags = {}
    for field in fields(config_class):
        flag = "--" + field.name.replace("_", "-")
        flags[field.name] = field.name.upper() if field.metadata.get("positional") else flag
    return flags


def kinds_of(config_class, presets=types.MappingProxyType({})):
    """{field name: Kind}, read from the annotations; the words of a preset may be choices."""
    hints = typing.get_type_hints(config_class)  # also where annotations are kept as text
    kinds = {}
    for field in fields(config_class):
        hint = hints[field.name]
        optional = typing.get_origin(hint) in (typing.Union, types.UnionType)
        if optional:
            (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
        choices = tuple(field.metadata.get("choices", ()))
        if typing.get_origin(hint) is typing.Literal:
            choices = typing.get_args(hint)
            hint = type(choices[0])
        if hint not in NEEDS:
            raise TypeError(f"{config_class.__name__}.{field.name}: no flag can have type {hint}")
        if field.default in presets.get(field.name, ()):
            choices = choices or tuple(presets[field.name])
        kinds[field.name] = Kind(hint, choices, optional)
    return kinds


def build_parser(config_class, kinds, presets, prog, description):
    """A parser with one argument per field.

    argparse only splits the line and prints the help. Every value stays text, so that the
    sentences about bad ones are ours, and SUPPRESS leaves out what was not given: that is `given`.
    """
    parser = Parser(prog=prog, description=description, allow_abbrev=False)
    flags = flags_of(config_class)
    defaults = {field.name: field.default for field in fields(config_class)}
    origin = {target: flags[name] for name, preset in presets.items()
              for target in preset.get(defaults[name], ())}
    for field in fields(config_class):
        kind = kinds[field.name]
        settings = {"help": help_of(field, origin), "default": argparse.SUPPRESS}
        if kind.type is bool:
            settings["action"] = argparse.BooleanOptionalAction
        else:
            words = "{" + ",".join(map(str, kind.choices)) + "}"
            settings["metavar"] = words if kind.choices else LETTER[kind.type]
        if field.metadata.get("positional"):
            settings |= {"nargs": "?", "metavar": flags[field.name]}
            parser.add_argument(field.name, **settings)
        else:
            parser.add_argument(flags[field.name], dest=field.name, **settings)
    return parser


def help_of(field, origin):
    """The help line of a field, with its default or the flag in `origin` that decides it."""
    words = {None: "none", True: "on", False: "off"}
    value = field.default
    default = words[value] if value is None or isinstance(value, bool) else value
    default = f"from {origin[field.name]}" if field.name in origin else default
    end = "(required)" if value is MISSING else f"(default: {default})"
    text = field.metadata.get("help", "")
    if "(default: " in text:  # the text says itself what happens where nothing is given
        end = ""
    return f"{text} {end}".replace("%", "%%").strip()


def refuse_unknown_flags(argv, flags, kinds):
    """Raise ValueError for a word that looks like a flag and is none."""
    known = {"-h", "--help", *flags.values()}
    known |= {"--no-" + flags[name][2:] for name, kind in kinds.items() if kind.type is bool}
    for word in argv:
        flag = word.split("=")[0]
        if word == "--":  # what follows is no flag, whatever it looks like
            return
        if re.match(r"-[^\s\d.]\S*$", flag) and flag not in known:  # -1 and "- a" are values
            raise ValueError(f"unknown flag {flag}{did_you_mean(flag, known)}")


def did_you_mean(word, known):
    """The end of a sentence about an unknown word; nobody mistypes a very long one."""
    close = difflib.get_close_matches(word, sorted(known), n=1) if len(word) < 99 else []
    return f"; did you mean {close[0]}?" if close else ""


def from_text(text, where, kind):
    """The value that a word of the command line means."""
    if isinstance(text, bool):  # argparse has read --flag or --no-flag
        return text
    if kind.optional and text == "none":
        return None
    if kind.choices:
        return next((choice for choice in kind.choices if str(choice) == text), text)
    try:
        if kind.type is Path and not text:  # Path("") would be the current folder
            raise ValueError
        return kind.type(text)
    except ValueError:
        raise ValueError(f"{where} takes {NEEDS[kind.type]}, not {text!r}") from None


def from_json(value, name, kind):
    """The value of a setting from JSON, where its type is that of the field."""
    if value is None and kind.optional:
        return None
    if kind.type is float and type(value) is int:
        return float(value) if abs(value) < 2**1023 else math.inf  # which `check` refuses
    if kind.type is Path and isinstance(value, str):
        return Path(value)
    if type(value) is not kind.type:  # not isinstance: True would pass for an int
        raise ValueError(f"setting {name!r} takes {NEEDS[kind.type]}, not {short(value)}")
    return value


def preset_values(config_class, presets, given):
    """What the presets say that a flag or a default chooses; unknown words are left to `check`."""
    defaults = {field.name: field.default for field in fields(config_class)}
    word_of = {field.name: field.metadata.get("word", str) for field in fields(config_class)}
    result = {}
    for values in (defaults, given):  # a value that was given wins over one that was not: (1)
        for name, value in values.items():
            result |= presets.get(name, {}).get(word_of[name](value), {})
    return result


def build(config_class, values, kinds, names):
    """The dataclass from `values`, with every setting checked; `names` are for the sentences."""
    for field in fields(config_class):
        if field.default is MISSING and field.name not in values:
            raise ValueError(f"{names[field.name]} is missing: {field.metadata.get('help', '')}")
        if field.name in values:  # before __post_init__ computes with it
            check(values[field.name], names[field.name], kinds[field.name], field.metadata)
    config = config_class(**values)
    for field in fields(config_class):
        check(getattr(config, field.name), names[field.name], kinds[field.name], field.metadata)
    return config


def check(value, where, kind, metadata):
    """Refuse a value that is not among the choices, not finite, or out of bounds."""
    if value is None:
        return
    if kind.choices and value not in kind.choices:
        words = [str(choice) for choice in kind.choices]
        hint = did_you_mean(str(value), words)
        raise ValueError(f"{where} takes {' or '.join(words)}, not {short(value)}{hint}")
    if kind.type is float and not math.isfinite(value):
        raise ValueError(f"{where} takes a finite number, not {value}")
    low, high = metadata.get("low"), metadata.get("high")
    if low is not None and value < low:
        raise ValueError(f"{where} has to be at least {low}, not {value}")
    if high is not None and value > high:
        raise ValueError(f"{where} has to be at most {high}, not {value}")
