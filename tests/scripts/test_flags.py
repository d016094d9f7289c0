"""Flags do what they say: the main functions of the scripts, called within this process."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from house import ROOT, load
from tinygrad_edu.data.loader import evaluation_batches, token_stream
from tinygrad_edu.data.sources import read_corpus
from tinygrad_edu.inference.decoding import generate
from tinygrad_edu.models.run import load_run, read_run
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.train.loop import evaluate
from tinygrad_edu.train.metrics import read_metrics

SMALL = ["--data", "text.txt", "--tokenizer", "char", "--layers", "2", "--heads", "2", "--width",
         "16", "--context", "12", "--batch", "4", "--lr", "1e-2", "--warmup", "0", "--out", "run"]
# The held-out tenth is the other way round: who learns the first part gets worse at it.
TEXT = "\n\n\ndefg" * 450 + "gfed\n\n\n" * 50


def call(script, *flags):
    """Run a script's main function with these flags."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, flags)])
        load(ROOT / "scripts" / script).main()


def last_line(out):
    return dict(pair.split("=", 1) for pair in out.splitlines()[-1].split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a text in it; pictures, which take most of the time, are off."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run of 60 steps in run/."""
    folder = tmp_path_factory.mktemp("flags")
    (folder / "text.txt").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(sys.modules, "matplotlib", None)
        call("train_gpt.py", *SMALL, "--steps", 60, "--evaluate-every", 20)
    return folder


@pytest.fixture
def there(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def losses_with(*flags):
    """Of four steps in a folder of their own: a process keeps the run it has begun to itself."""
    out = Path(f"run{len(list(Path().iterdir()))}")
    quiet = ["--sample-every", 99, "--save-every", 99, "--evaluate-every", 99]
    call("train_gpt.py", *SMALL, *quiet, "--steps", 4, *flags, "--out", out)
    return [row["loss"] for row in read_metrics(out / "metrics.csv")]


CHANGES = ["--dropout 0.5", "--beta1 0.5", "--beta2 0.5", "--decay 9", "--clip 0.01", "--warmup 3",
           "--min-lr 8e-3", "--lr 1e-3", "--seed 2", "--batch 3", "--accumulate 2", "--context 8",
           "--layers 1", "--heads 1", "--width 32", "--tokenizer bpe --vocab 260", "--steps 9"]


def test_every_flag_of_the_model_and_of_the_training_changes_the_losses(folder):
    plain = losses_with()
    assert losses_with() == plain
    without_effect = [flags for flags in CHANGES if losses_with(*flags.split())[:4] == plain]
    assert not without_effect


def test_the_last_line_tells_the_loss_of_the_saved_model_over_all_held_out_text(folder, capsys):
    call("train_gpt.py", *SMALL, "--steps", 5, "--dropout", 0.5)
    model, tokenizer = load_run("run")
    held_out = token_stream(read_corpus("text.txt").held_out, tokenizer.encode,
                            tokenizer.special[END_OF_TEXT])
    loss, count = evaluate(model, evaluation_batches(held_out, 4, 12))
    assert count == 350
    told = last_line(capsys.readouterr().out)
    assert float(told["val_loss"]) == pytest.approx(loss, abs=1e-4)
    assert float(told["bits_per_byte"]) == pytest.approx(loss / np.log(2), abs=2e-4)


def test_looks_during_training_are_at_text_that_is_not_trained_on(there):
    rows = read_metrics("run/metrics.csv")
    looks = [row for row in rows if row["val_loss"] is not None]
    assert [row["step"] for row in looks] == [19, 39, 59]
    assert looks[-1]["val_loss"] > looks[-1]["loss"] + 1


def test_samples_are_printed_at_their_interval(folder, capsys):
    call("train_gpt.py", *SMALL, "--steps", 6, "--sample-every", 2)
    out, err = capsys.readouterr()
    assert [f"sample at step {step} " in out + err for step in range(1, 7)] == 3 * [False, True]


def test_a_run_is_replaced_where_that_is_asked_for(trained, folder):
    shutil.copytree(trained / "run", folder / "run")
    call("train_gpt.py", *SMALL, "--steps", 2, "--overwrite")
    assert len(read_metrics("run/metrics.csv")) == 2 == read_run("run")[1]["done"]


def test_without_matplotlib_a_sentence_stands_for_the_picture_and_the_run_goes_on(folder, capsys):
    call("train_gpt.py", *SMALL, "--steps", 2)
    out = capsys.readouterr().out
    assert out.count("it needs matplotlib: pip install") == 1
    assert last_line(out)["steps"] == "2"
    assert not (folder / "run" / "loss.png").exists()


def written(capsys, *flags):
    call("generate.py", "run", "--prompt", "de", "--max-new", 30, *flags)
    return capsys.readouterr().out.rsplit("\n", 2)[0]


def test_greedy_text_is_the_likeliest_token_each_time_after_the_start_of_a_document(there, capsys):
    model, tokenizer = load_run("run")
    end = tokenizer.special[END_OF_TEXT]
    ids = generate(model, [end, *tokenizer.encode("de")], 30, None, (end,), greedy=True)
    assert written(capsys, "--greedy") == "de" + tokenizer.decode(list(ids))


def test_without_a_prompt_text_begins_as_documents_do(there, capsys):
    model, tokenizer = load_run("run")
    end = tokenizer.special[END_OF_TEXT]
    call("generate.py", "run", "--greedy", "--max-new", 6)
    expected = tokenizer.decode(list(generate(model, [end], 6, None, (end,), greedy=True)))
    assert capsys.readouterr().out.rsplit("\n", 2)[0] == expected


def test_every_way_to_cut_down_to_the_likeliest_token_is_greedy(there, capsys):
    greedy = written(capsys, "--greedy")
    wild = ["--temperature", "50"]
    assert written(capsys, *wild) != greedy
    assert written(capsys, *wild, "--seed", 2) != written(capsys, *wild)
    assert written(capsys, *wild, "--top-k", 1) == greedy
    assert written(capsys, *wild, "--top-p", 1e-9) == greedy
    assert written(capsys, "--temperature", 0.01) == greedy


def test_what_a_run_writes_is_scored_beside_an_ngram_model_of_its_text(there, capsys):
    call("score_python.py", "run", "--blocks", 3, "--max-new", 5, "--order", 2, "--show", 1)
    out = capsys.readouterr().out
    told = last_line(out)
    assert list(told) == ["gpt_share", "2gram_share", "ratio", "blocks", "temperature", "python"]
    assert told["blocks"] == "3"
    assert told["temperature"] == "0.5"
    assert "2gram: " in out.splitlines()[0]
    assert out.count(" of 3 blocks parse (95 % interval") == 2
    assert out.count("----- ") == 2


def test_a_tokenizer_that_cannot_write_the_prompt_of_the_score_gets_one_sentence(folder, capsys):
    (folder / "text.txt").write_text("no such letters " * 99)
    call("train_gpt.py", *SMALL, "--steps", 1)
    with pytest.raises(SystemExit) as caught:
        call("score_python.py", "run", "--blocks", 3)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: the character")
