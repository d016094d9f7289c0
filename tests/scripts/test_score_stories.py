"""score_stories.py as a user runs it: on a run of a few steps, which gets everything wrong."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SMALL = ["--layers", "1", "--heads", "1", "--width", "8", "--vocab", "600", "--batch", "2"]


def run(script, *flags, cwd):
    command = [sys.executable, str(SCRIPTS / script), *map(str, flags)]
    return subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", check=False)


def test_stories_are_learnt_and_scored(tmp_path):
    trained = run("train_gpt.py", "--data", "stories:3", "--steps", 2, *SMALL, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "6-gram" in trained.stdout and "the grammar" in trained.stdout
    assert "runs/stories-3" in trained.stdout.replace("\\", "/")
    scored = run("score_stories.py", "runs/stories-3", "--seeds", 2, "--stories", 3, "--show", 1,
                 cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout.count("GPT") == 2
    last = dict(pair.split("=") for pair in scored.stdout.splitlines()[-1].split())
    assert last["gpt_all_lowest"] == "0.000" and last["stories"] == "3"


def test_a_run_that_learnt_something_else_is_refused(tmp_path):
    (tmp_path / "text.txt").write_text("a line of the text\n" * 200)
    flags = ["--data", "text.txt", "--tokenizer", "char", "--context", 12, *SMALL[:6]]
    trained = run("train_gpt.py", *flags, "--steps", 1, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    scored = run("score_stories.py", "runs/text", cwd=tmp_path)
    assert scored.returncode == 2
    assert scored.stderr.startswith("error: 'text.txt' is not stories")
