"""Lesson 3.11: flags, presets, defaults and JSON say the same, and a mistake gets one sentence."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

import pytest

from tinygrad_edu.nn.config import (
    differences,
    errors_in_one_sentence,
    from_dict,
    option,
    parse,
    to_dict,
)


@dataclass(frozen=True)
class Config:
    """Settings of every type that a flag can have."""

    size: str = option("small", "how large")
    layers: int = option(2, "number of blocks", low=1, high=96)
    min_lr: float = option(1e-4, "100 % of the learning rate at the end", low=0)
    compile: bool = option(True, "compile the loops")
    seed: int | None = option(None, "seed of the generators")
    limit: Optional[float] = 2.5  # noqa: UP045 - the older spelling works as well
    order: Literal["half", "pair"] = option("half", "layout of the pairs")
    bits: Literal[4, 8] = 8
    data: Path = option(Path("pystdlib"), "a file or a folder")
    note: str = ""


@dataclass
class Command:
    """One word without dashes that has to be there, one that need not."""

    run: Path = option(help="folder of the run", positional=True)
    steps: int = option(help="how many")
    prompt: str = option("def ", "text to start from", positional=True)


SIZES = {"size": {"small": {"layers": 2}, "large": {"layers": 24, "min_lr": 1e-5}}}


def refusal(capsys, line, config_class=Config, presets=None):
    """The sentence on stderr for a command line, without its `error: `."""
    with pytest.raises(SystemExit) as caught:
        parse(config_class, line if isinstance(line, list) else line.split(), presets=presets)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err.removeprefix("error: ").strip()


def test_an_empty_command_line_gives_the_defaults():
    assert parse(Config, []) == (Config(), frozenset())


def test_every_type_of_field_can_be_set_by_its_flag():
    line = "--size x --layers 3 --min-lr 1e-5 --no-compile --seed 7 --limit none --order pair"
    words = [*line.split(), "--bits=4", "--data", "a/b", "--note", "two words"]
    config, given = parse(Config, words)
    assert config == Config("x", 3, 1e-5, False, 7, None, "pair", 4, Path("a/b"), "two words")
    assert type(config.min_lr) is float and type(config.bits) is int
    assert given == {field.name for field in dataclasses.fields(Config)}


def test_bounds_are_themselves_allowed():
    assert parse(Config, ["--layers", "1", "--min-lr", "0"])[0].layers == 1
    assert parse(Config, ["--layers", "96"])[0].layers == 96


def test_a_flag_wins_over_a_preset_and_a_preset_over_a_default():
    assert parse(Config, [], presets=SIZES)[0].layers == 2
    config, given = parse(Config, ["--size", "large"], presets=SIZES)
    assert (config.layers, config.min_lr, given) == (24, 1e-5, {"size"})
    config, given = parse(Config, ["--layers", "5", "--size", "large"], presets=SIZES)
    assert (config.layers, config.min_lr, given) == (5, 1e-5, {"size", "layers"})


def test_the_preset_of_the_default_applies_without_any_flag():
    config, given = parse(Config, [], presets={"size": {"small": {"layers": 7}}})
    assert config.layers == 7 and given == frozenset()


TASTE = {"note": {"taste": {"layers": 9}}}


def test_a_preset_of_a_given_word_wins_over_that_of_a_default():
    config, _ = parse(Config, ["--note", "taste"], presets={**TASTE, **SIZES})
    assert config.layers == 9
    config, _ = parse(Config, ["--note", "taste", "--size", "large"], presets={**TASTE, **SIZES})
    assert (config.layers, config.min_lr) == (24, 1e-5)


@pytest.mark.parametrize("word, layers", [("taste", 9), ("taster", 2), ("x", 2)])
def test_a_field_with_presets_for_some_words_takes_others_too(word, layers):
    config, _ = parse(Config, ["--note", word], presets=TASTE)
    assert (config.note, config.layers) == (word, layers)


@pytest.mark.parametrize("word, layers", [("taste", 9), ("taste, better", 9), ("taster", 2)])
def test_a_field_may_say_which_word_of_a_preset_a_value_stands_for(word, layers):
    @dataclass(frozen=True)
    class Spoken(Config):
        note: str = option("", "", word=lambda text: text.partition(",")[0])

    config, _ = parse(Spoken, ["--note", word], presets=TASTE)
    assert (config.note, config.layers) == (word, layers)


def test_a_flag_given_its_default_value_counts_as_given():
    assert parse(Config, ["--layers", "2"]) == (Config(), {"layers"})


def test_words_without_dashes_are_taken_in_order():
    config, given = parse(Command, ["--steps", "5", "runs/a", "hello"])
    assert config == Command(Path("runs/a"), 5, "hello")
    config, given = parse(Command, ["runs/a", "--steps", "5"])
    assert config == Command(Path("runs/a"), 5, "def ") and given == {"run", "steps"}


def test_a_text_may_begin_with_a_dash_or_be_empty():
    assert parse(Config, ["--note", "- a list"])[0].note == "- a list"
    assert parse(Config, ["--note=--size"])[0].note == "--size"
    assert parse(Config, ["--note", ""])[0].note == ""
    assert parse(Command, ["--steps", "1", "--", "a", "-b"])[0].prompt == "-b"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--lyers 3", "unknown flag --lyers; did you mean --layers?"),
        ("--layer 3", "unknown flag --layer; did you mean --layers?"),
        ("--no-compil", "unknown flag --no-compil; did you mean --no-compile?"),
        ("--zzz=1", "unknown flag --zzz"),
        ("-x", "unknown flag -x"),
        ("--layers", "--layers: expected one argument"),
        ("--layers x", "--layers takes a whole number, not 'x'"),
        ("--layers 1.5", "--layers takes a whole number, not '1.5'"),
        ("--layers 0", "--layers has to be at least 1, not 0"),
        ("--layers 97", "--layers has to be at most 96, not 97"),
        ("--min-lr -1", "--min-lr has to be at least 0, not -1.0"),
        ("--min-lr nan", "--min-lr takes a finite number, not nan"),
        ("--limit inf", "--limit takes a finite number, not inf"),
        ("--min-lr none", "--min-lr takes a number, not 'none'"),
        ("--seed ten", "--seed takes a whole number, not 'ten'"),
        ("--order pairs", "--order takes half or pair, not 'pairs'; did you mean pair?"),
        ("--bits 5", "--bits takes 4 or 8, not '5'"),
        ("--data=", "--data takes a path, not ''"),
        ("file.txt", "'file.txt' is one word too many; see --help"),
    ],
)
def test_a_mistake_on_the_command_line_gets_one_sentence(capsys, line, sentence):
    assert refusal(capsys, line) == sentence


def test_an_unknown_preset_names_those_that_exist(capsys):
    sentence = refusal(capsys, "--size larg", presets=SIZES)
    assert sentence == "--size takes small or large, not 'larg'; did you mean large?"


def test_what_has_to_be_given_is_named(capsys):
    assert refusal(capsys, "--steps 3", Command) == "RUN is missing: folder of the run"
    assert refusal(capsys, "runs/a", Command) == "--steps is missing: how many"
    # The misspelt flag is the cause and is named, not the missing word that follows from it.
    assert refusal(capsys, "--promt x", Command).startswith("unknown flag --promt")


def test_a_check_of_the_dataclass_itself_becomes_a_sentence(capsys):
    @dataclass
    class Divided:
        width: int = 64
        heads: int = 4

        def __post_init__(self):
            if self.width % self.heads:
                raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")

    assert refusal(capsys, "--heads 5", Divided) == "width 64 is not a multiple of 5 heads"


def test_help_shows_every_flag_with_its_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        parse(Config, ["--help"], prog="train", description="Trains a model.", presets=SIZES)
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "usage: train" in text and "Trains a model." in text
    assert "--size {small,large} how large (default: small)" in text
    assert "--layers N number of blocks (default: from --size)" in text
    assert "100 % of the learning rate" in text
    assert "--compile, --no-compile compile the loops (default: on)" in text
    assert "--seed N seed of the generators (default: none)" in text
    assert "--order {half,pair} layout of the pairs (default: half)" in text
    assert "--data PATH a file or a folder (default: pystdlib)" in text
    with pytest.raises(SystemExit):
        parse(Command, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "RUN folder of the run (required)" in text
    assert "PROMPT text to start from (default: def )" in text


def test_settings_survive_json():
    config = Config("x", 3, 1e-5, False, None, 0.1, "pair", 4, Path("a/b"), "ü")
    text = json.dumps(to_dict(config))
    assert from_dict(Config, json.loads(text)) == config
    assert from_dict(Config, {}) == Config()
    assert type(from_dict(Config, {"min_lr": 1}).min_lr) is float


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"lyers": 3}, "unknown setting 'lyers'; did you mean layers?"),
        ({"layers": "3"}, "setting 'layers' takes a whole number, not '3'"),
        ({"layers": True}, "setting 'layers' takes a whole number, not True"),
        ({"layers": 3.0}, "setting 'layers' takes a whole number, not 3.0"),
        ({"layers": None}, "setting 'layers' takes a whole number, not None"),
        ({"compile": 1}, "setting 'compile' takes on or off, not 1"),
        ({"min_lr": "a"}, "setting 'min_lr' takes a number, not 'a'"),
        ({"data": 3}, "setting 'data' takes a path, not 3"),
        ({"layers": 0}, "layers has to be at least 1, not 0"),
        ({"order": "pairs"}, "order takes half or pair, not 'pairs'; did you mean pair?"),
        ([], "the settings are not a JSON object"),
    ],
)
def test_settings_read_from_a_file_are_checked(values, sentence):
    with pytest.raises(ValueError) as caught:
        from_dict(Config, values)
    assert str(caught.value) == sentence


def test_a_setting_that_has_no_default_has_to_be_in_the_file():
    with pytest.raises(ValueError, match="run is missing"):
        from_dict(Command, {"steps": 3})


def test_only_flags_that_were_given_and_differ_are_reported_on_resume():
    old = Config(layers=2, min_lr=1e-4)
    new, given = parse(Config, ["--min-lr", "1e-3", "--size", "small", "--no-compile"])
    expected = [("--compile", True, False), ("--min-lr", 1e-4, 1e-3)]
    assert differences(old, new, given) == expected
    assert differences(dataclasses.replace(old, layers=9), new, given) == expected


def test_what_a_user_can_cause_is_printed_in_one_line_and_a_bug_keeps_its_traceback(capsys):
    for error, sentence in [
        (ValueError("the file\n  is empty"), "error: the file is empty\n"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), None),
        (FileNotFoundError("no checkpoint in a"), "error: no checkpoint in a\n"),
        (ImportError("install cupy"), "error: install cupy\n"),
    ]:
        with pytest.raises(SystemExit) as caught, errors_in_one_sentence():
            raise error
        assert caught.value.code == 2
        expected = sentence or "error: a.txt: No such file or directory\n"
        assert capsys.readouterr().err == expected
    with pytest.raises(KeyError), errors_in_one_sentence():
        raise KeyError("x")


def test_a_type_that_no_flag_can_have_is_refused_at_once():
    @dataclass
    class Odd:
        sizes: list = None

    with pytest.raises(TypeError, match="Odd.sizes: no flag can have type"):
        parse(Odd, [])
    with pytest.raises(TypeError, match="does not know hgih"):
        option(3, hgih=4)


def test_bounds_are_checked_before_the_settings_compute_with_each_other():
    @dataclass
    class Heads:
        width: int = 8
        heads: int = option(2, low=1)

        def __post_init__(self):
            self.rest = self.width % self.heads

    with pytest.raises(ValueError, match="'?heads'? has to be at least 1, not 0"):
        from_dict(Heads, {"heads": 0})


@pytest.mark.parametrize("value, said", [(10**400, "finite"), ("x" * 10**6, "xxx...xxx")],
                         ids=["number", "text"])
def test_a_monstrous_value_in_a_file_gets_a_short_sentence(value, said):
    with pytest.raises(ValueError, match=said) as caught:
        from_dict(Config, to_dict(Config()) | {"min_lr": value})
    assert len(str(caught.value)) < 200
