"""The scripts that learn from rewards, in miniature: they run, go on after a kill, and refuse."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from house import ROOT, load
from tinygrad_edu.files.checkpoint import load_checkpoint
from tinygrad_edu.models import run as runs
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.rlhf import gauges
from tinygrad_edu.rlhf.reward import HEAD
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer

GRPO = ["--batch", 2, "--group", 4, "--steps", 4, "--save-every", 2, "--evaluate-every", 3,
        "--examine", 5]
PPO = ["--batch", 4, "--steps", 4, "--save-every", 2, "--evaluate-every", 3, "--examine", 4,
       "--minibatch", 2, "--epochs", 1]


def script(name, *flags):
    """Run a script's main in this process; returns which steps of practice it took."""
    module, steps = load(ROOT / "scripts" / name), []
    usual = getattr(module, "practise_once", None)

    def noting(*arguments):
        steps.append(arguments[-2])
        return usual(*arguments)
    module.practise_once = noting
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, flags)])
        module.main()
    return steps


def killed(name, step, *flags):
    """Run a script that dies in the middle of a step."""
    module = load(ROOT / "scripts" / name)
    usual = module.practise_once

    def dying(*arguments):
        if arguments[-2] == step:
            raise MemoryError("a kill")
        return usual(*arguments)
    module.practise_once = dying
    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(sys, "argv", [name, *map(str, flags)])
        module.main()


def what_is_left(folder):
    """Weights, optimizer, critic, price of the leash, as bytes; the metrics, their times aside."""
    arrays, state = load_checkpoint(folder)
    lines = (folder / "metrics.csv").read_text().splitlines()
    seconds = lines[0].split(",").index("seconds")
    rows = [[text for k, text in enumerate(line.split(",")) if k != seconds] for line in lines]
    return {name: np.array(arrays[name]).tobytes() for name in arrays}, state["done"], rows


@pytest.fixture(autouse=True)
def no_lock(monkeypatch):
    """A lock ends with its process, and here all runs are in one."""
    monkeypatch.setattr(runs, "claim", lambda folder: None)


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Runs as train_sft.py and train_reward.py leave them, untrained: flags that name them.

    Pictures, which would take most of the time, are off.
    """
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    tokenizer = train_characters(["\n0123456789+"])
    for name in ("sft", "reward"):
        model = GPT(GPTConfig(tokenizer.vocab_size, 24, 1, 2, 8), np.random.default_rng(len(name)))
        (tmp_path / name).mkdir()
        head = np.random.default_rng(0).standard_normal((1, 8)).astype("f")
        save_tokenizer(tokenizer, tmp_path / name / "tokenizer.json")
        runs.save_run(tmp_path / name, model, AdamW(model.named_parameters()),
                      {"task": "addition", "level": 1, "slips": 0.9}, 0,
                      more={HEAD: head} if name == "reward" else None)
    return [tmp_path / "sft", "--reward", tmp_path / "reward"]


def test_practice_with_a_program_goes_on_after_a_kill_as_if_nothing_had_been(
    begin, tmp_path, capsys
):
    flags = [begin[0], *GRPO, "--no-control"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    script("train_grpo.py", *flags, "--out", whole)
    last = dict(pair.split("=") for pair in capsys.readouterr().out.splitlines()[-1].split())
    assert {"sft", "grpo", "generated"} <= last.keys()
    killed("train_grpo.py", 3, *flags, "--out", broken)
    assert script("train_grpo.py", "--out", broken, "--resume") == [2, 3]
    assert what_is_left(whole) == what_is_left(broken)
    with pytest.raises(SystemExit):
        script("train_grpo.py", *flags, "--out", whole)
    assert "holds a run already" in capsys.readouterr().err


def test_the_control_imitates_for_as_many_operations_as_the_practice_took(
    begin, tmp_path, monkeypatch, capsys
):
    module, asked = load(ROOT / "scripts" / "train_grpo.py"), []

    def imitate(folder, path, *flags):
        asked.extend(flags)
        return begin[0]
    monkeypatch.setattr(module, "run_before", imitate)
    monkeypatch.setattr(sys, "argv", ["", *map(str, [begin[0], *GRPO, "--out", tmp_path / "out"])])
    module.main()
    flags = dict(zip(asked[1::2], asked[2::2], strict=True))
    assert flags["--task"] == "addition" and flags["--level"] == 1 and flags["--slips"] == 0.9
    # Of a problem such as 3+4 and its answer, with the marks around them, are 8 tokens in a row.
    rows = 4 * 8                                   # steps and answers of a step
    at_most = rows * (8 * (1 / 4 + 3) + 3) / (3 * 256 * 7)
    assert 1 <= flags["--steps"] <= at_most + 1
    assert "control=" in capsys.readouterr().out


def test_practice_with_a_reward_model_ends_alike_after_a_kill_by_the_clock(begin, tmp_path, capsys):
    """SIGKILL, whatever it was doing: nothing is flushed, closed or cleaned up."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags = [*begin, *PPO, "--steps", 30]
    script("train_ppo.py", *flags, "--out", whole)
    out = capsys.readouterr().out
    assert "explained_variance" in out
    assert "exact_before=" in out.splitlines()[-1]
    command = [sys.executable, ROOT / "scripts" / "train_ppo.py", *flags, "--out", broken]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    metrics, deadline = broken / "metrics.csv", time.time() + 60
    while not (metrics.exists() and metrics.read_text().count("\n") > 4) and time.time() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (broken / "model.safetensors").exists() or os.name == "nt"
    steps = script("train_ppo.py", "--out", broken, "--resume")
    assert steps and steps[0] > 0
    assert what_is_left(whole) == what_is_left(broken)


def test_a_reward_model_with_another_tokenizer_is_refused(begin, tmp_path, capsys):
    other = train_characters(["\n0123456789-"])
    save_tokenizer(other, tmp_path / "reward" / "tokenizer.json")
    with pytest.raises(SystemExit):
        script("train_ppo.py", *begin, *PPO, "--out", tmp_path / "out")
    assert "reads another tokenizer" in capsys.readouterr().err


def test_a_pole_is_balanced_a_little_longer_after_a_few_rounds(capsys):
    script("cartpole.py", "--rounds", 3, "--carts", 8, "--steps", 32, "--minibatch", 64,
           "--episodes", 5)
    last = capsys.readouterr().out.splitlines()[-1]
    assert float(last.split()[0].removeprefix("mean_return=")) > 5


@pytest.mark.parametrize("out, said", [("it.xyz", "ends in .png"), ("no/it.png", "No such file")])
def test_a_picture_that_cannot_be_written_is_refused_before_the_runs(out, said, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit):
        script("cartpole.py", "--out", tmp_path / out)
    told = capsys.readouterr()
    assert said in told.err and not told.out


@pytest.mark.parametrize("name, flags", [
    ("cartpole.py", ["--rounds", 2, "--carts", 4, "--steps", 16, "--minibatch", 16]),
    ("break_rlhf.py", ["--only", "leash", "--steps", 2, "--imitate", 1, "--batch", 8])])
def test_a_rate_at_which_numbers_explode_ends_in_one_sentence(name, flags, capsys):
    with pytest.raises(SystemExit) as end:
        script(name, *flags, "--lr", 1e30)
    assert end.value.code == 2
    assert "a smaller --lr may help" in capsys.readouterr().err


def test_the_pictures_of_the_mistakes_are_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gauges, "draw_gauges", lambda rows, path, title: None)  # test_gauges has it
    script("break_rlhf.py", "--only", "leash", "--steps", 3, "--imitate", 2, "--batch", 8,
           "--out", tmp_path)
    last = dict(pair.split("=") for pair in capsys.readouterr().out.splitlines()[-1].split())
    assert last.keys() == {"healthy", "leash"}
    assert {path.stem for path in tmp_path.iterdir()} == {"mistakes", "hacking"}
