"""The scripts of floor 7 on models that are made within a second: chain, kill, resume, refuse."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from house import ROOT, load
from tinygrad_edu.files.checkpoint import load_checkpoint
from tinygrad_edu.models import run as runs
from tinygrad_edu.models.export import save_published
from tinygrad_edu.models.gguf_model import load_gguf_model, save_gguf_model
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.opened import open_model
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.rlhf.reward import load_reward
from tinygrad_edu.rlhf.stage import Stage
from tinygrad_edu.rlhf.world import worksheet
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.gguf_tokenizer import to_fields
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.loop import Interrupt
from tinygrad_edu.train.metrics import COLUMNS, read_metrics

TEXT = "".join(f"the cat number {k} sat on mat {k * k % 17}, said the dog.\n" for k in range(300))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a base run that has learnt nothing, in which the scripts run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "claim", lambda folder: None)  # the lock ends with the process
    tokenizer = train_characters(worksheet(50, 0))
    config = GPTConfig(tokenizer.vocab_size, context=48, layers=1, heads=2, width=16)
    model = GPT(config, np.random.default_rng(0))
    runs.save_run("base", model, AdamW(model.named_parameters()), {}, 1)
    save_tokenizer(tokenizer, Path("base/tokenizer.json"))
    return tmp_path


def call(script, *flags):
    """The last line of what a script prints, as a dict."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, flags)])
        patch.setattr(sys, "stdout", out)
        load(ROOT / "scripts" / script).main()
    return dict(pair.split("=", 1) for pair in out.getvalue().splitlines()[-1].split())


def complaint(capsys, script, *flags):
    with pytest.raises(SystemExit) as end:
        call(script, *flags)
    assert end.value.code == 2
    return capsys.readouterr().err


SFT = ["base", "--task", "sort", "--examples", 200, "--ask", 20, "--steps", 12, "--batch", 8,
       "--save-every", 5, "--out", "sft"]
REWARD = ["sft", "--task", "sort", "--pairs", 100, "--held-out", 20, "--steps", 6, "--batch", 8,
          "--out", "reward"]
DPO = ["sft", "--task", "sort", "--problems", 60, "--rejected", "own", "--ask", 20, "--steps", 6,
       "--batch", 8]


def test_the_stages_chain_and_each_leaves_a_run_for_the_next(folder):
    told = call("train_sft.py", *SFT)
    assert 0 <= float(told["exact"]) <= 1 and float(told["val_loss"]) < 5
    told = call("train_reward.py", *REWARD)
    assert 0.45 < float(told["length_only"]) < 0.55 and told["pairs"] == "20"
    model, tokenizer = load_reward("reward", runs)
    assert model.head.weight.data.any() and tokenizer.vocab_size == model.config.vocabulary
    with pytest.raises(ValueError, match="no reward model"):
        load_reward("sft", runs)
    told = call("train_dpo.py", *DPO, "--loss", "kto", "--out", "kto")
    assert told["loss"] == "kto" and 0 <= float(told["wins"]) <= 1
    assert len(Path("kto/metrics.csv").read_text().splitlines()) == 7


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(folder, monkeypatch):
    call("train_sft.py", *SFT)
    whole, _ = load_checkpoint("sft")
    seen = iter([False] * 6 + [True] * 99)
    ctrl_c = property(lambda self: next(seen), lambda self, on: None)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(Interrupt, "seen", ctrl_c, raising=False)
        call("train_sft.py", *SFT[:-1], "again")
    assert end.value.code == 130
    assert load_checkpoint("again")[1]["done"] == 7
    call("train_sft.py", "--out", "again", "--resume")
    parts, _ = load_checkpoint("again")
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)
    losses = [[row["loss"] for row in read_metrics(f"{out}/metrics.csv")]
              for out in ("sft", "again")]
    assert losses[0] == losses[1]


def test_runs_are_not_replaced_and_not_resumed_with_other_settings(folder, capsys):
    call("train_sft.py", *SFT)
    assert "holds a run already" in complaint(capsys, "train_sft.py", *SFT)
    said = complaint(capsys, "train_sft.py", "--out", "sft", "--resume", "--batch", 9)
    assert "--resume goes on with --batch 8, not 9" in said
    (folder / "talks.jsonl").write_text('{"prompt": "a", "completion": ""}\n')
    said = complaint(capsys, "train_sft.py", "base", "--data", "talks.jsonl", "--out", "other")
    assert "talks.jsonl, line 1" in said and "empty" in said
    talk = json.dumps({"prompt": "a" * 60, "completion": "b"})
    more = json.dumps({"prompt": "b", "completion": "b"})
    (folder / "talks.jsonl").write_text(f"{talk}\n{more}\n")
    said = complaint(capsys, "train_sft.py", "base", "--data", "talks.jsonl", "--out", "other")
    assert "talks.jsonl, line 1: its prompt has" in said and "context of 48" in said


GOOD = {"prompt": "a", "chosen": "x", "rejected": "y"}


@pytest.mark.parametrize("script", ["train_reward.py", "train_dpo.py"])
@pytest.mark.parametrize("fault, sentence", [
    ({"rejected": "x"}, "chosen and rejected are equal"),
    ({"rejected": " "}, "the field 'rejected' is empty"),
    ({"prompt": "a" * 60}, "leaves no room for an answer in the model's context of 48"),
    ({"chosen": "b" * 60 + "c", "rejected": "b" * 60}, "equal as far as the model's context"),
    ({"chosen": "é"}, "the character 'é' (U+00E9) is not among"),
])
def test_a_pair_that_cannot_teach_is_named_by_its_line(script, fault, sentence, folder, capsys):
    lines = [json.dumps(fields) for fields in (GOOD, GOOD | fault)]
    (folder / "pairs.jsonl").write_text("\n\n".join(lines))
    said = complaint(capsys, script, "base", "--data", "pairs.jsonl", "--out", "other")
    assert "pairs.jsonl, line 3: " in said and sentence in said and said.count("\n") == 1


@pytest.mark.parametrize("script", ["train_reward.py", "train_dpo.py"])
def test_transcripts_in_the_form_of_hh_are_learnt_from_and_judged(script, folder):
    texts = [(f"\n\nHuman: say {k}\n\nAssistant: ", k) for k in range(60)]
    (folder / "hh.jsonl").write_text("".join(
        json.dumps({"chosen": f"{ask}{k} yes", "rejected": f"{ask}no"}) + "\n"
        for ask, k in texts))
    told = call(script, "base", "--data", "hh.jsonl", "--out", "hh", "--steps", 2, "--batch", 4)
    assert 0 <= float(told["low"]) <= float(told["accuracy"]) <= float(told["high"]) <= 1
    assert float(told["length_only"]) == 1.0       # here the longer answer is always the chosen one


def test_six_ways_are_compared_on_the_same_questions(folder, monkeypatch, capsys):
    call("train_sft.py", *SFT)
    call("train_reward.py", *REWARD)
    module = load(ROOT / "scripts" / "align_compare.py")
    folders = dict.fromkeys(("SFT", "DPO", "PPO", "GRPO"), "sft") | {"base": "base",
                                                                     "reward": "reward"}
    monkeypatch.setattr(module, "made", lambda settings, seed: folders)
    monkeypatch.setattr(sys, "argv", ["align_compare.py", "--examine", "40", "--seeds", "2",
                                      "--tokens", "5000", "--out", "compare"])
    module.main()
    *_, last = capsys.readouterr().out.splitlines()
    told = dict(pair.split("=") for pair in last.split())
    # The same model four times, and the same draws.
    assert told["sft"] == told["dpo"] == told["ppo"] == told["grpo"]
    with open("compare/table.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows if row["seed"] == "2"][-3:] == [
        "best of 4", "best of 8", "best of n"]      # n = 5000 tokens / (40 · 12)
    assert all(abs(float(row["kl"])) < 1e-4 for row in rows if row["method"] in ("SFT", "PPO"))
    assert Path("compare/compare.png").exists()
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-4], "--tokens", "6000", "--out", "compare"])
    with pytest.raises(SystemExit):
        module.main()
    assert "holds runs of other --tokens" in capsys.readouterr().err


def test_a_stage_made_from_another_model_is_not_gone_on_with():
    stage = Stage(None, runs, arrays={}, made_from="one")
    stage.settings = type("Settings", (), {"out": "run"})
    with pytest.raises(ValueError, match="made from another model or other data"):
        stage.check("another")


# ---- fine-tuning on one's own text --------------------------------------------------------------


@pytest.fixture
def llama(tmp_path, monkeypatch):
    """A small Llama as a .gguf file and a folder, and a text to learn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "claim", lambda folder: None)
    tokenizer = train_bpe([TEXT.encode()], 280)
    config = LlamaConfig(vocabulary=tokenizer.vocab_size, context=64, layers=1, heads=2, groups=1,
                         width=32, hidden=32)
    model = Llama(config, np.random.default_rng(0))
    end = tokenizer.special["<|endoftext|>"]
    save_gguf_model("it.gguf", model, to_fields(tokenizer) | {"tokenizer.ggml.eos_token_id": end})
    save_published("it", model)
    save_tokenizer(tokenizer, Path("it/tokenizer.json"))
    Path("text.txt").write_text(TEXT)
    Path("talks.jsonl").write_text("".join(
        json.dumps({"prompt": f"who is number {k}?", "completion": "the cat"}) + "\n"
        for k in range(40)))


TUNE = ["--general", "text.txt", "--steps", 4, "--context", 32, "--look", 2, "--max-new", 4,
        "--lr", 0.02, "--rank", 4]


def test_an_adapter_is_trained_saved_and_merged_into_what_is_exported(llama):
    told = call("finetune.py", "it.gguf", "--data", "text.txt", *TUNE, "--export", "tuned.gguf")
    assert float(told["val_loss"]) < float(told["val_loss_before"]) - 0.1
    assert 0 < float(told["trained_share"]) < 0.5
    assert json.loads(Path("runs/finetune/adapter/adapter_config.json").read_text())["r"] == 4
    before, after = (load_gguf_model(name)[0].find("layers.0.mlp.up_proj").weight.data
                     for name in ("it.gguf", "tuned.gguf"))
    assert np.abs(before - after).max() > 1e-3


@pytest.mark.parametrize("model, data, flags", [
    ("it", "talks.jsonl", ["--four-bit"]), ("it", "text.txt", ["--full"])])
def test_conversations_four_bits_and_all_weights(model, data, flags, llama):
    told = call("finetune.py", model, "--data", data, *TUNE, *flags)
    assert float(told["val_loss"]) < float(told["val_loss_before"])
    assert (float(told["trained_share"]) == 1) == (flags == ["--full"])


def test_the_merged_folder_and_the_exported_file_are_the_same_model(llama):
    call("finetune.py", "it.gguf", "--data", "talks.jsonl", *TUNE, "--export", "tuned.gguf")
    found = []
    for name in ("runs/finetune/merged", "tuned.gguf"):
        opened = open_model(name, widen=True)
        ids = opened.tokenizer.encode("the cat number 12")
        found.append((opened.ends, ids.tolist(), opened.model(ids[None]).numpy()))
    assert found[0][:2] == found[1][:2] and np.abs(found[0][2] - found[1][2]).max() <= 1e-5


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_fine_tuning_that_was_killed_ends_as_one_that_was_not(llama):
    flags = ["it", "--data", "text.txt", *TUNE, "--steps", 6, "--save-every", 2, "--out"]
    call("finetune.py", *flags, "whole")
    kills = Path(__file__).with_name("test_kills.py")
    command = [kills, "in an optimizer step", 50, 0, ROOT / "scripts" / "finetune.py", *flags]
    killed = subprocess.run([sys.executable, *map(str, command), "parts"], timeout=120, check=False,
                            capture_output=True)
    assert killed.returncode == -signal.SIGKILL and not Path("parts/adapter").exists()
    assert 0 < load_checkpoint("parts")[1]["done"] < 6
    call("finetune.py", "--out", "parts", "--resume")
    for name in ("adapter/adapter_model.safetensors", "merged/model.safetensors"):
        assert Path("whole", name).read_bytes() == Path("parts", name).read_bytes()
    columns = (*COLUMNS, "general_loss")
    losses = [[row["loss"] for row in read_metrics(Path(out, "metrics.csv"), columns)]
              for out in ("whole", "parts")]
    assert losses[0] == losses[1] and len(losses[0]) == 6


@pytest.mark.parametrize("name, text, flags, said", [
    ("a.txt", b"", [], "has 0 bytes, too few"),
    ("a.txt", b"a line of text, alone", [], "the text has .* tokens, a context of 32 needs 33"),
    ("a.txt", TEXT.encode(), ["--context", 65], "--context 65 is more than the 64 tokens"),
    ("a.txt", b"\0\1\2" * 99, [], "is not plain text"),
    ("a.jsonl", b'{"prompt": "a", "completion": "b"}\n{"prompt": 1}\n', [], "a.jsonl, line 2"),
    ("a.jsonl", b"", [], "a.jsonl"),
    ("a.txt", TEXT.encode(), ["--export", "no/it.gguf"], "no/it.gguf: there is no such folder"),
    ("a.txt", TEXT.encode(), ["--export", "it"], "it: Is a directory"),
    ("a.jsonl", b"".join(b'{"prompt": "%d", "completion": "%s"}\n' % (k, b"no " * 99)
                         for k in range(9)), [],
     r"a.jsonl: no conversation .* with a --context of 32; example \d has \d+ tokens"),
    ("a.txt", TEXT.encode(), ["--general", "a.md"], "there is no file or folder 'a.md'"),
])
def test_data_that_nothing_can_be_learnt_from_is_refused(name, text, flags, said, llama, capsys):
    Path(name).write_bytes(text)
    found = complaint(capsys, "finetune.py", "it", "--data", name, *TUNE, *flags)
    assert found.count("\n") == 1 and re.search(said, found), found


def test_a_tokenizer_that_a_text_or_a_file_cannot_have_is_refused_before_training(llama, capsys):
    save_tokenizer(train_characters([TEXT]), Path("it/tokenizer.json"))
    flags = ["it", "--data", "text.txt", *TUNE]
    said = complaint(capsys, "finetune.py", *flags, "--export", "it2.gguf")
    assert "this tokenizer is of another kind" in said
    Path("other.txt").write_text("Ω" * 999)
    said = complaint(capsys, "finetune.py", *flags, "--general", "other.txt")
    assert "the general text (choose another with --general): the character 'Ω'" in said
    assert not Path("runs/finetune/checkpoint.safetensors").exists()


def test_what_finetune_cannot_do_is_said(llama, capsys):
    said = complaint(capsys, "finetune.py", "it", "--data", "text.txt", "--lora", "--full")
    assert "exclude each other" in said
    assert "name a MODEL" in complaint(capsys, "finetune.py", "it")
    said = complaint(capsys, "finetune.py", "it", "--data", "text.txt", *TUNE[:-1], 400)
    assert "a rank of 400 is no saving" in said
