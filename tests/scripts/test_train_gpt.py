"""train_gpt.py and generate.py as a user runs them: processes of their own, on a small text."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edu import threads
from tinygrad_edu.data.corpus import HELD_OUT_SHARE, hashed
from tinygrad_edu.files.checkpoint import load_checkpoint, save_checkpoint
from tinygrad_edu.gpu.emulate import available
from tinygrad_edu.models.run import claim
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
TEXT = "".join(f"line {i} of the text says {i * i % 97}\n" for i in range(600))
SMALL = ["--tokenizer", "char", "--layers", "1", "--heads", "2", "--width", "16", "--context", "12",
         "--batch", "4", "--lr", "1e-2"]


def start(script, *flags, cwd, **options):
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, flags)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, encoding="utf-8", **options)


def call(script, *flags, cwd, **options):
    process = start(script, *flags, cwd=cwd, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def train(folder, *flags):
    code, out, err = call("train_gpt.py", "--data", "text.txt", *SMALL, *flags, cwd=folder)
    assert code == 0, err
    return out


def losses(folder):
    return [row["loss"] for row in read_metrics(folder / "metrics.csv")]


def weights(folder):
    arrays, _ = load_checkpoint(folder)
    return {name: np.array(arrays[name]) for name in arrays}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run of 30 steps in runs/text, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    return folder, train(folder, "--steps", 30, "--evaluate-every", 10, "--save-every", 10)


def last_line(out):
    return dict(pair.split("=") for pair in out.splitlines()[-1].split())


def test_a_run_ends_with_its_figures_and_leaves_a_folder(trained):
    folder, out = trained
    values = last_line(out)
    assert values.keys() == {"val_loss", "bits_per_byte", "tokens_per_s", "params", "steps", "out"}
    assert values["steps"] == "30"
    assert re.search(r"ms a step: about \d+ s to go", out)
    assert 0.5 < float(values["val_loss"]) < 3.3  # below ln V = 3.4: it has learnt something
    assert "estimated" in out or "about" in out
    run = folder / "runs" / "text"
    files = {"tokenizer.json", "checkpoint.safetensors", "model.safetensors", "metrics.csv",
             "train.tokens", "held_out.tokens", "tokens.json"}
    assert files <= {path.name for path in run.iterdir()}
    assert len(losses(run)) == 30
    assert sum(row["val_loss"] is not None for row in read_metrics(run / "metrics.csv")) == 3


@pytest.mark.skipif(not available(), reason="no C++ compiler here")
def test_the_emulator_trains_as_the_cpu_does(folder):
    flags = ["--steps", "4", "--warmup", "0", "--last-look", "40", "--sample-every", "9"]
    train(folder, *flags, "--out", "cpu")
    train(folder, *flags, "--out", "emulated", "--device", "emulator")
    np.testing.assert_allclose(losses(folder / "emulated"), losses(folder / "cpu"), rtol=2e-5)


def test_the_bits_per_byte_are_the_loss_in_other_units(trained):
    values = last_line(trained[1])
    held_out = len(TEXT) - (len(TEXT) - len(TEXT) // 10)  # one character is one byte is one token
    expected = float(values["val_loss"]) * held_out / held_out / np.log(2)
    assert abs(float(values["bits_per_byte"]) - expected) < 1e-3


def test_the_same_seed_gives_the_same_losses_bit_for_bit_and_another_seed_others(trained):
    folder, _ = trained
    train(folder, "--steps", 30, "--out", "again")
    train(folder, "--steps", 30, "--out", "other", "--seed", 2)
    assert losses(folder / "again") == losses(folder / "runs" / "text")
    assert losses(folder / "other") != losses(folder / "again")
    first, second = weights(folder / "again"), weights(folder / "runs" / "text")
    assert all(np.array_equal(first[name], second[name]) for name in first)


def read_rows(path):
    return path.read_text().splitlines()[1:] if path.exists() else []


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to another process there")
def test_ctrl_c_saves_and_says_how_to_go_on(folder):
    flags = ["--data", "text.txt", *SMALL, "--steps", 100000, "--out", "stopped"]
    process = start("train_gpt.py", *flags, cwd=folder)
    deadline = time.time() + 60
    while len(read_rows(folder / "stopped" / "metrics.csv")) < 5 and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--out stopped --resume" in out
    assert "Traceback" not in err
    _, state = load_checkpoint(folder / "stopped")
    assert state["done"] == len(losses(folder / "stopped"))


def test_minutes_fix_a_number_of_steps_that_is_stored(folder):
    out = train(folder, "--minutes", 0.25)
    steps = int(re.search(r"ms a step: ([\d,]+) steps", out)[1].replace(",", ""))
    assert last_line(out)["steps"] == str(steps)
    _, state = load_checkpoint(folder / "runs" / "text")
    assert state["settings"]["steps"] == steps == state["done"]


def test_accumulated_passes_are_one_large_batch(folder):
    train(folder, "--steps", 5, "--out", "one", "--dropout", 0)
    train(folder, "--steps", 5, "--out", "two", "--batch", 2, "--accumulate", 2)
    assert np.allclose(losses(folder / "one"), losses(folder / "two"), rtol=1e-5)


def test_byte_pairs_work_as_well_as_characters(folder):
    code, out, err = call("train_gpt.py", "--data", "text.txt", "--steps", 3, "--vocab", 300,
                          *SMALL[2:], cwd=folder)
    assert code == 0, err
    values = last_line(out)
    assert float(values["bits_per_byte"]) > 0
    path = folder / "runs" / "text" / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    assert tokenizer["model"]["type"] == "BPE"


def test_generate_continues_a_prompt_and_repeats_itself_by_seed(trained):
    def write(*flags):
        code, out, err = call("generate.py", "runs/text", *flags, cwd=trained[0])
        assert code == 0, err
        return out

    out = write("--prompt", "line 1", "--max-new", 20)
    assert out.startswith("line 1")
    assert last_line(out)["tokens"] == "20"
    text = out.rsplit("\n", 2)[0]
    assert write("--prompt", "line 1", "--max-new", 20).rsplit("\n", 2)[0] == text
    greedy = [write("--prompt", "li", "--greedy", "--max-new", 9, "--seed", seed) for seed in "12"]
    assert greedy[0].rsplit("\n", 2)[0] == greedy[1].rsplit("\n", 2)[0]
    if available():
        emulated = write("--prompt", "line 1", "--max-new", 20, "--device", "emulator")
        assert emulated.rsplit("\n", 2)[0] == text


MISTAKES = [
    (["--stepps", "3"], "unknown flag --stepps; did you mean --steps?"),
    (["--steps", "many"], "--steps takes a whole number, not 'many'"),
    (["--steps", "3", "--minutes", "1"], "exclude each other"),
    (["--data", "missing.txt", "--steps", "3"], "there is no file or folder 'missing.txt'"),
    (["--data", "empty.txt", "--steps", "3"], "too few to hold a tenth"),
    (["--data", "latin1.txt", "--tokenizer", "char", "--steps", "3"], "UTF-8"),
    (["--context", "20000", "--steps", "3"], "give a longer text or a shorter context"),
    (["--tokenizer", "bpe", "--vocab", "50000", "--steps", "3"], "more than this text can give"),
    (["--width", "15", "--steps", "3"], "not a multiple of heads"),
    (["--device", "cuda", "--steps", "3"], "--device cuda"),
    (["--out", "nowhere", "--resume"], "there is no run in nowhere"),
    (["--lr", "nan", "--steps", "3"], "finite"),
]


@pytest.mark.parametrize("flags, sentence", MISTAKES, ids=[" ".join(one) for one, _ in MISTAKES])
def test_a_mistake_gets_one_sentence_and_leaves_nothing_behind(folder, flags, sentence):
    (folder / "empty.txt").write_text("")
    (folder / "latin1.txt").write_bytes(b"caf\xe9 " * 1000)
    before = {path.name for path in folder.iterdir()}
    data = [] if "--data" in flags else ["--data", "text.txt"]
    defaults = [] if "--tokenizer" in flags else SMALL[:2]
    code, out, err = call("train_gpt.py", *data, *defaults, *SMALL[2:], *flags, cwd=folder)
    assert code == 2
    *_, line = [text for text in err.replace("\r", "\n").splitlines() if text.strip()]
    assert line.startswith("error: ")
    assert sentence in line
    assert "Traceback" not in err
    assert {path.name for path in folder.iterdir()} - {"runs"} == before


def test_a_folder_that_holds_a_run_is_not_overwritten_unless_asked(trained):
    folder, _ = trained
    before = weights(folder / "runs" / "text")
    code, _, err = call("train_gpt.py", "--data", "text.txt", *SMALL, "--steps", 3, cwd=folder)
    assert code == 2
    assert "holds a run already" in err
    after = weights(folder / "runs" / "text")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_resuming_with_other_settings_is_refused_by_flag_and_values(trained):
    flags = ["--out", "runs/text", "--resume", "--lr", "0.5"]
    code, _, err = call("train_gpt.py", *flags, cwd=trained[0])
    assert code == 2
    assert "--lr 0.01, not 0.5" in err


@pytest.mark.parametrize("damage", ["cut", "foreign", "changed"])
def test_a_damaged_or_foreign_checkpoint_is_refused(trained, tmp_path, damage):
    run = tmp_path / "run"
    run.mkdir()
    whole = (trained[0] / "runs" / "text" / "checkpoint.safetensors").read_bytes()
    changed = bytearray(whole)
    changed[-100] ^= 1
    content = {"cut": whole[:5000], "foreign": b"not a checkpoint", "changed": bytes(changed)}
    (run / "checkpoint.safetensors").write_bytes(content[damage])
    for script, flags in (("generate.py", [run]), ("train_gpt.py", ["--out", run, "--resume"])):
        code, _, err = call(script, *flags, cwd=tmp_path)
        assert code == 2
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1


def test_a_text_without_line_ends_trains_although_samples_begin_with_one(tmp_path):
    (tmp_path / "text.txt").write_text("all of it stands in one line " * 40)
    train(tmp_path, "--steps", 2, "--sample-every", 1)


def test_a_sample_that_the_tokenizer_cannot_write_is_refused_before_training(folder):
    code, _, err = call("train_gpt.py", "--data", "text.txt", *SMALL, "--sample", "€", cwd=folder)
    assert code == 2
    assert err.startswith("error: --sample: ") and "Traceback" not in err
    assert not (folder / "runs" / "text" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("flag", ["layers", "width", "batch", "accumulate", "steps"])
def test_a_number_beyond_all_machines_is_refused(folder, flag):
    code, _, err = call("train_gpt.py", "--data", "text.txt", f"--{flag}={10**22}", cwd=folder)
    assert code == 2
    assert err.startswith(f"error: --{flag} has to be at most")


@pytest.mark.skipif(os.name == "nt", reason="pipes differ")
def test_a_script_whose_reader_has_seen_enough_ends_in_silence(trained):
    for script, flags in (("generate.py", ["runs/text"]), ("show.py", ["gelu"])):
        process = start(script, *flags, cwd=trained[0])
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 141
        assert err == ""


@pytest.fixture
def again(trained, tmp_path):
    """A copy of the run that `trained` left, beside the same text."""
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def resume(folder):
    return call("train_gpt.py", "--out", "runs/text", "--resume", cwd=folder)


def test_a_mistake_beside_overwrite_leaves_the_old_run_whole(again):
    code, _, err = call("train_gpt.py", "--data", "text.txt", *SMALL, "--heads", 3, "--overwrite",
                        cwd=again)
    assert code == 2 and "error: width 16" in err
    assert resume(again)[0] == 0


def test_a_run_goes_on_without_its_text(again):
    (again / "text.txt").unlink()
    assert resume(again)[0] == 0


@pytest.mark.parametrize("damage, sentence", [
    (lambda data: data[:-2], "says 15,476"),
    (lambda data: b"\1\0" + data[2:], "its checksum is not the one"),
])
def test_a_run_does_not_go_on_with_damaged_tokens(again, damage, sentence):
    path = again / "runs" / "text" / "train.tokens"
    path.write_bytes(damage(path.read_bytes()))
    code, _, err = resume(again)
    assert code == 2 and err.count("\n") == 1
    assert sentence in err


def test_a_run_does_not_go_on_with_the_tokens_of_another_text(again):
    (again / "text.txt").write_text(TEXT[:-200] + TEXT[:200])
    train(again, "--steps", 1, "--out", "changed")
    for name in ("train.tokens", "held_out.tokens", "tokens.json"):
        shutil.copy(again / "changed" / name, again / "runs" / "text" / name)
    code, _, err = resume(again)
    assert code == 2 and "are not those that the run" in err


def test_a_run_trains_on_the_tokens_of_another_run_and_goes_on_with_them(again):
    flags = ["--data", "runs/text", *SMALL[2:], "--out", "second", "--seed", 1]
    code, out, err = call("train_gpt.py", *flags, "--steps", 30, cwd=again)
    assert code == 0, err
    assert losses(again / "second") == losses(again / "runs" / "text")
    assert not (again / "second" / "train.tokens").exists()
    assert call("train_gpt.py", "--out", "second", "--resume", cwd=again)[0] == 0
    shutil.rmtree(again / "runs")
    code, _, err = call("train_gpt.py", "--out", "second", "--resume", cwd=again)
    assert code == 2 and "runs/text holds no encoded text" in err


def test_a_run_that_is_replaced_may_train_on_the_tokens_it_has(again):
    flags = ["--data", "runs/text", *SMALL[2:], "--out", "runs/text", "--seed", 1, "--steps", 30]
    before = losses(again / "runs" / "text")
    code, _, err = call("train_gpt.py", *flags, "--overwrite", cwd=again)
    assert code == 0, err
    assert losses(again / "runs" / "text") == before
    assert resume(again)[0] == 0


def test_files_of_somebody_else_are_not_replaced_unless_asked(folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "tokenizer.json").write_text("mine")
    flags = ["--data", "text.txt", *SMALL, "--steps", 1, "--out", "mine"]
    code, _, err = call("train_gpt.py", *flags, cwd=folder)
    assert code == 2 and "mine holds tokenizer.json, which a run would replace" in err
    assert (folder / "mine" / "tokenizer.json").read_text() == "mine"
    assert call("train_gpt.py", *flags, "--overwrite", cwd=folder)[0] == 0


def test_a_run_that_was_killed_before_its_first_step_begins_again_and_no_other(again):
    run = again / "runs" / "text"
    kept = {"tokenizer.json", "train.tokens", "held_out.tokens", "tokens.json", "metrics.csv"}
    for path in run.iterdir():
        if path.name not in kept:
            path.unlink()
    flags = ["--data", "text.txt", *SMALL, "--steps", 1]
    code, _, err = call("train_gpt.py", *flags, cwd=again)
    assert code == 2 and "allow that (--overwrite)" in err  # its steps are written down
    lines = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text(lines[0] + "\n")
    (run / "mine.txt").write_text("mine")
    assert call("train_gpt.py", *flags, cwd=again)[0] == 2
    (run / "mine.txt").unlink()
    train(again, "--steps", 1)


@pytest.mark.parametrize("flag, word", [("--tokenizer", "bpe"), ("--vocab", "300")])
def test_encoded_text_has_its_tokenizer_already(trained, flag, word):
    flags = ["--data", "runs/text", *SMALL[2:], flag, word, "--out", "second", "--steps", 1]
    code, _, err = call("train_gpt.py", *flags, cwd=trained[0])
    assert code == 2 and f"leave {flag} away" in err
    assert not (trained[0] / "second").exists()


def test_a_character_that_only_the_held_out_text_has_gets_a_number_too(folder):
    (folder / "text.txt").write_text(TEXT + "end\u00e9\n", encoding="utf-8")
    assert float(last_line(train(folder, "--steps", 1))["val_loss"]) > 0


@pytest.mark.parametrize("size, is_little", [(40, True), (4000, False)])
def test_a_folder_whose_held_out_part_is_tiny_is_told_what_to_do(tmp_path, size, is_little):
    (tmp_path / "notes").mkdir()
    for i in range(40):
        is_train = hashed(f"{i}.md") >= HELD_OUT_SHARE
        (tmp_path / "notes" / f"{i}.md").write_text(f"{i}{TEXT[:4000 if is_train else size]}")
    code, out, err = call("train_gpt.py", "--data", "notes", *SMALL, "--steps", 1, cwd=tmp_path)
    assert code == 0, err
    assert out.count("or join them into one") == is_little


def test_what_a_killed_process_left_half_made_is_removed(folder):
    half = folder / "runs" / "text" / ".new-abc"
    half.mkdir(parents=True)
    train(folder, "--steps", 1)
    assert not half.exists()


def test_one_batch_is_learnt_by_heart_and_leaves_no_run(folder):
    out = train(folder, "--overfit-one-batch")
    assert float(last_line(out)["loss"]) < 0.01 and "LOOK" not in out
    assert {path.name for path in folder.iterdir()} == {"text.txt", "runs"}
    assert not any((folder / "runs").iterdir())


def test_a_batch_that_cannot_be_learnt_by_heart_fails_with_a_checklist(folder):
    flags = ["--data", "text.txt", *SMALL, "--dropout", 0.5, "--overfit-one-batch"]
    code, out, _ = call("train_gpt.py", *flags, cwd=folder)
    assert code == 1
    assert "LOOK  dropout is on" in out and float(last_line(out)["loss"]) >= 0.01


def test_a_loss_that_explodes_names_step_and_layer_and_keeps_the_checkpoint(folder):
    flags = ["--data", "text.txt", *SMALL, "--clip", 1e9, "--out", "run"]
    code, out, err = call("train_gpt.py", *flags, "--steps", 9, "--lr", 1e6, cwd=folder)
    assert code == 2
    *_, line = err.splitlines()
    assert re.search(r"error: step \d is not taken, no parameter has changed: the loss is", line)
    assert re.search(r"the output of [\w.]+ \(\S+ times\)", line)
    assert "h.0.mlp.c_proj" in out
    assert load_checkpoint(folder / "run")[1]["done"] < 9


def test_a_resumed_run_bears_that_its_records_are_gone(again):
    (again / "runs" / "text" / "metrics.csv").unlink()
    code, out, err = resume(again)
    assert code == 0, err
    assert last_line(out)["tokens_per_s"] == "0"


@pytest.mark.parametrize("row", [None, "11,48,0,,,,"])
def test_a_run_that_goes_on_bears_that_its_records_are_spoiled(folder, row):
    """A run of 30 steps, stopped after 12; the forecast after step 20 looks at earlier rows."""
    train(folder, "--steps", 30, "--save-every", 12, "--out", "run", "--sample-every", 99)
    run = folder / "run"
    arrays, state = load_checkpoint(run)
    save_checkpoint(run, {name: arrays[name] for name in arrays}, state | {"done": 12})
    lines = (run / "metrics.csv").read_text().splitlines()[:13]
    (run / "metrics.csv").write_text("\n".join([*lines[:-1], row, ""]) if row else "")
    if row is None:
        (run / "metrics.csv").unlink()
    code, out, err = call("train_gpt.py", "--out", "run", "--resume", cwd=folder)
    assert code == 0, err
    assert "to go" not in out and last_line(out)["steps"] == "30"


def test_a_resumed_run_keeps_its_number_of_threads_unless_asked_for_another(folder):
    def environment(**changes):
        kept = {name: text for name, text in os.environ.items() if name != "OMP_NUM_THREADS"}
        return {**kept, **changes}

    flags = ["--data", "text.txt", *SMALL, "--steps", 6, "--out", "run"]
    more = threads.default_count() + 1
    own = environment(OMP_NUM_THREADS=str(more))
    code, _, err = call("train_gpt.py", *flags, cwd=folder, env=own)
    assert code == 0, err
    again = ["--out", "run", "--resume"]
    for env, sentence in ((environment(), f"{more} threads, as this run began"), (own, ""),
                          (environment(OMP_NUM_THREADS="1"), "goes on with 1;")):
        code, out, err = call("train_gpt.py", *again, cwd=folder, env=env)
        assert code == 0, err
        assert sentence in out
        assert bool(sentence) == ("this run began" in out)


def test_the_tokenizer_of_another_run_is_refused(again):
    save_tokenizer(train_characters([b"abc"]), again / "runs" / "text" / "tokenizer.json")
    for code, _, err in (resume(again), call("generate.py", "runs/text", cwd=again)):
        assert code == 2
        assert "belongs to another run" in err and err.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks there")
def test_two_processes_do_not_train_in_one_folder(again):
    lock = claim(again / "runs" / "text")
    code, _, err = resume(again)
    assert code == 2
    assert err.startswith("error: another process is training in")
    os.close(lock)
    assert resume(again)[0] == 0
