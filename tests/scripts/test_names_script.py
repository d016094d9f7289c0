"""names.py climbs its ladder on a file of names, or says in one sentence why it cannot."""

import sys

import pytest

from house import ROOT, load
from tinygrad_edu.data.names import split_names


def call(*flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["names.py", *map(str, flags)])
        load(ROOT / "scripts" / "names.py").main()


SYLLABLES = ("ba", "ko", "li", "mun", "dö")
NAMES = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n\n".join(NAMES), encoding="utf-8")
    return path


def test_four_models_are_trained_and_compared_and_each_invents_names(names, capsys):
    flags = ["--data", names, "--steps", 60, "--batch", 16, "--invent", 6, "--show", 2]
    call(*flags)
    out = capsys.readouterr().out
    assert "(124 empty lines and 0 copies passed over)" in out.splitlines()[0]
    assert out.count("of 6 not among those it learned from:") == 4
    told = dict(pair.split("=") for pair in out.splitlines()[-1].split())
    assert list(told)[:4] == ["bigram", "mlp", "attention", "gpt"]
    # Syllables are longer than a letter: whoever sees one letter alone cannot know where it is.
    assert float(told["bigram"]) > float(told["mlp"]) + 0.05
    call(*flags)
    again = capsys.readouterr().out
    assert again.splitlines()[-1] == out.splitlines()[-1]
    call(*flags, "--seed", 2)
    assert capsys.readouterr().out.splitlines()[-1] != out.splitlines()[-1]


def test_what_a_model_has_learnt_by_heart_is_no_invention(names, capsys, monkeypatch):
    script = load(ROOT / "scripts" / "names.py")
    learnt = split_names(NAMES)[0]
    monkeypatch.setattr(script, "invent", lambda *_: [*learnt[:3], "", "new", "newer"])
    monkeypatch.setattr(sys, "argv", ["names.py", "--data", str(names), "--steps", "1"])
    script.main()
    out = capsys.readouterr().out
    assert out.count("invents, 2 of 6 not among those it learned from:\n   new    newer\n") == 4


def test_names_stand_in_columns_as_many_as_there_is_room_for():
    columns = load(ROOT / "scripts" / "names.py").columns
    assert columns(["a", "bcd", "ef", "g"], 10) == "a    bcd\n   ef   g"
    assert columns(["longer than a line", "b"], 10) == "longer than a line\n   b"
    assert columns([]) == ""


def test_a_seed_that_no_generator_takes_is_refused(names, capsys):
    with pytest.raises(SystemExit):
        call("--data", names, "--seed", 2**64)
    assert "--seed has to be at most" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "said"), [("one\n", "holds 1 names"), ("", "holds 0 names")])
def test_a_file_without_two_names_gets_one_sentence(tmp_path, capsys, text, said):
    path = tmp_path / "names.txt"
    path.write_text(text)
    with pytest.raises(SystemExit) as caught:
        call("--data", path)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call("--data", tmp_path / "none.txt")
    assert capsys.readouterr().err.startswith("error: ")
