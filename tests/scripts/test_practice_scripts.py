"""The scripts that learn from rewards, in miniature: they run, go on after a kill, and refuse."""

import sys

import numpy as np
import pytest

from house import ROOT, load
from tinygrad_edu.models import run as runs
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.rlhf.reward import HEAD
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer

GRPO = ["--layers", 1, "--width", 8, "--demonstrations", 20, "--sft-steps", 2, "--sft-batch", 4,
        "--prompts", 2, "--group", 4, "--steps", 4, "--save-every", 2, "--evaluate-every", 3,
        "--examine", 5]
PPO = ["--task", "addition", "--batch", 4, "--steps", 4, "--save-every", 2, "--evaluate-every", 3,
       "--examine", 4, "--max-new", 4, "--minibatch", 2, "--epochs", 1]


def script(name, *flags):
    """Run a script's main in this process; returns which steps of practice it took."""
    module, steps = load(ROOT / "scripts" / name), []
    usual = getattr(module, "practise_once", None)

    def noting(*arguments):
        steps.append(arguments[-1])
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
        if arguments[-1] == step:
            raise MemoryError("a kill")
        return usual(*arguments)
    module.practise_once = dying
    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(sys, "argv", [name, *map(str, flags)])
        module.main()


def weights(folder):
    return runs.load_run(folder)[0].state()


def same(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.fixture(autouse=True)
def no_lock(monkeypatch):
    """A lock ends with its process, and here all runs are in one."""
    monkeypatch.setattr(runs, "claim", lambda folder: None)


def test_practice_goes_on_after_a_kill_as_if_nothing_had_been(tmp_path, capsys):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    script("train_grpo.py", "--task", "brackets", *GRPO, "--out", whole)
    last = dict(pair.split("=") for pair in capsys.readouterr().out.splitlines()[-1].split())
    assert {"sft", "control", "grpo"} <= last.keys()
    killed("train_grpo.py", 3, "--task", "brackets", *GRPO, "--out", broken)
    imitated = (broken / "sft" / "model.safetensors").stat().st_mtime_ns
    assert script("train_grpo.py", "--out", broken, "--resume") == [2, 3]
    assert (broken / "sft" / "model.safetensors").stat().st_mtime_ns == imitated
    assert same(weights(whole), weights(broken))
    assert same(weights(whole / "control"), weights(broken / "control"))
    with pytest.raises(SystemExit):
        script("train_grpo.py", *GRPO, "--out", whole)
    assert "holds a run already" in capsys.readouterr().err


def reward_and_sft(folder):
    """Runs as train_sft.py and train_reward.py leave them, untrained."""
    tokenizer = train_characters(["\n0123456789+"])
    for name in ("sft", "reward"):
        model = GPT(GPTConfig(tokenizer.vocab_size, 24, 1, 2, 8), np.random.default_rng(len(name)))
        (folder / name).mkdir()
        head = np.random.default_rng(0).standard_normal((1, 8)).astype("f")
        save_tokenizer(tokenizer, folder / name / "tokenizer.json")
        runs.save_run(folder / name, model, AdamW(model.named_parameters()), {}, 0,
                      more={HEAD: head} if name == "reward" else None)
    return [folder / "sft", "--reward", folder / "reward"]


def test_ppo_goes_on_after_a_kill_and_writes_its_gauges(tmp_path, capsys):
    begin = reward_and_sft(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    script("train_ppo.py", *begin, *PPO, "--out", whole)
    out = capsys.readouterr().out
    assert "explained_variance" in out
    assert "exact_before=" in out.splitlines()[-1]
    killed("train_ppo.py", 3, *begin, *PPO, "--out", broken)
    assert script("train_ppo.py", "--out", broken, "--resume") == [2, 3]
    assert same(weights(whole), weights(broken))


def test_a_reward_model_with_another_tokenizer_is_refused(tmp_path, capsys):
    begin = reward_and_sft(tmp_path)
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


def test_each_mistake_lights_its_gauge(capsys):
    script("break_rlhf.py", "--only", "stale", "--steps", 12, "--imitate", 5, "--batch", 16)
    last = dict(pair.split("=") for pair in capsys.readouterr().out.splitlines()[-1].split())
    assert "first_ratio" in last["stale"]
    assert "first_ratio" not in last["healthy"]
