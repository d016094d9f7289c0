"""make_data.py makes files that are read back, and says what is wrong with a file."""

import sys

import pytest

from house import ROOT, load
from tinygrad_edu.data.conversations import read_conversations, read_preferences
from tinygrad_edu.data.jsonl import write_objects


@pytest.fixture
def call(monkeypatch, capsys):
    script = load(ROOT / "scripts" / "make_data.py")

    def call(*flags):
        monkeypatch.setattr(sys, "argv", ["make_data.py", *map(str, flags)])
        script.main()
        out = capsys.readouterr().out.splitlines()
        return out, dict(word.split("=") for word in out[-1].split())

    return call


def test_problems_are_shown_written_and_checked(call, tmp_path):
    path = tmp_path / "sums.jsonl.gz"
    out, told = call("addition", "--level", 3, "--count", 50, "--show", 2, "--out", path)
    talks = read_conversations(path)
    assert out[:2] == [talks[0].prompt[0][1], f"  -> {talks[0].answer}"] and len(out) == 5
    assert int(told["made"]) == len(talks) == 50
    assert sum(map(int, talks[7].prompt[0][1].split("+"))) == int(talks[7].answer)
    _, told = call("--check", path)
    assert (told["conversations"], told["faults"], told["copies"]) == ("50", "0", "0")
    before = path.read_bytes()
    call("addition", "--level", 3, "--count", 50, "--out", path)
    assert path.read_bytes() == before
    call("addition", "--level", 3, "--count", 50, "--out", path, "--held-out")
    assert not {*read_conversations(path)} & {*talks}


def test_preferences_are_balanced_unless_a_loophole_is_asked_for(call, tmp_path):
    path = tmp_path / "pairs.jsonl"
    out, told = call("preferences", "--count", 100, "--show", 1, "--out", path)
    assert out[1].startswith("  +  ") and out[2].startswith("  -  ")
    assert told["length_only"] == "0.500" and len(read_preferences(path)) == 100
    out, told = call("--check", path)
    assert told["preferences"] == "100" and told["contradictions"] == "0"
    assert "is right in 50.0 %" in out[-2]
    _, told = call("preferences", "--count", 200, "--loophole", 0.5)
    assert float(told["length_only"]) > 0.65


def test_instructions_are_all_three_kinds(call):
    out, told = call("instructions", "--count", 30, "--show", 30, "--seed", 3)
    text = "\n".join(out)
    assert told["made"] == "30"
    assert "egin" in text and "hole story" in text and "now?" in text


def test_a_check_prints_the_faults_of_a_file_and_goes_on(call, tmp_path):
    path = tmp_path / "mine.jsonl"
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    write_objects(path, [good, good, good | {"chosen": "c"}, {"prompt": "x"},
                         good | {"chosen": "c", "rejected": "b"}, *([{}] * 20)])
    out, told = call("--check", path)
    assert out[0].endswith("line 3: chosen and rejected are equal: nothing is preferred "
                           "to anything")
    assert "line 4: the field 'chosen' is missing" in out[1]
    assert "… and 12 more" in out
    assert told == {"preferences": "3", "faults": "22", "copies": "1", "prompts": "1",
                    "contradictions": "1", "length_only": "0.500"}


@pytest.mark.parametrize("flags, said", [
    ([], "say what to make"),
    (["sort", "--check", "x"], "say what to make"),
    (["walk"], "WHAT takes addition or"),
    (["sort", "--level", "20"], "levels of sort are 2 to 9: there is no 20"),
    (["--check", "none.jsonl"], "none.jsonl"),
    (["sort", "--count", "0"], "--count has to be at least 1"),
])
def test_mistakes_get_one_sentence(call, capsys, flags, said):
    with pytest.raises(SystemExit) as end:
        call(*flags)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


@pytest.mark.parametrize("flags, said", [
    (["--check", "it.jsonl", "--out", "other.jsonl", "--held-out"], "leave out --held-out, --out"),
    (["--check", "it.jsonl", "--count", 5], "leave out --count"),
    (["sort", "--loophole", 0.5], "--loophole is for preferences"),
    (["preferences", "--level", 2], "preferences have none")])
def test_a_flag_that_would_do_nothing_is_refused(call, flags, said, capsys):
    with pytest.raises(SystemExit):
        call(*flags)
    assert said in capsys.readouterr().err
