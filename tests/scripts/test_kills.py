"""A training run is killed at a drawn moment, goes on with --resume, and nobody can tell.

    python tests/scripts/test_kills.py MOMENT NUMBER SHARE train_gpt.py --steps 40 …

runs the script and ends it with SIGKILL at the moment: nothing is flushed, closed or cleaned up.
Run as a test, it compares what a resumed run leaves with what an undisturbed one left, bit for bit:
all losses, the weights, the optimizer.
"""

import builtins
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edu.files import atomic
from tinygrad_edu.files.checkpoint import load_checkpoint
from tinygrad_edu.models.gpt import GPT
from tinygrad_edu.tensor import Tensor
from tinygrad_edu.train.metrics import Metrics, read_metrics

TRAIN = Path(__file__).resolve().parents[2] / "scripts" / "train_gpt.py"
TEXT = "".join(f"line {i} of the text says {i * i % 97}\n" for i in range(600))
STEPS, EVERY = 40, 6
SMALL = ["--data", "text.txt", "--tokenizer", "char", "--layers", "1", "--heads", "2", "--width",
         "16", "--context", "12", "--batch", "4", "--lr", "1e-2", "--dropout", "0.1"]
FLAGS = [*SMALL, "--steps", STEPS, "--save-every", EVERY, "--evaluate-every", 10, "--out", "run"]
MOMENTS = {                                        # and how often each comes up in a run
    "in a forward pass": STEPS,
    "in an optimizer step": 10 * STEPS,            # after the update of one of the parameters
    "in a line of metrics.csv": STEPS,
    "in the bytes of a checkpoint": STEPS // EVERY + 2,
    "before the checkpoint is synced": STEPS // EVERY + 2,
    "before the checkpoint is renamed": STEPS // EVERY + 2,
    "after the checkpoint is renamed": STEPS // EVERY + 2,
    "in the bytes of the model": 1,
}


# ---- the process that ends itself ----------------------------------------------------------------


def kill():
    """What kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


class Countdown:
    """Something happens for the `number`-th time: kill."""

    def __init__(self, number):
        self.left = number

    def is_due(self):
        self.left -= 1
        return self.left == 0


def before(owner, name, due, act=kill):
    """Let a function of a module or a class call act(its arguments) first, when it is due."""
    original = getattr(owner, name)

    def function(*args, **options):
        if due():
            act(*(args if act is not kill else ()))
        return original(*args, **options)
    setattr(owner, name, function)


class Cut:
    """A file whose writer is killed when one of its writes is half done."""

    def __init__(self, file, share):
        self.file = file
        self.is_due = Countdown(1 + int(16 * share)).is_due  # the header, then arrays

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        """All of the data, or its first half and the end of the process."""
        if self.is_due():
            self.file.write(bytes(data)[:len(data) // 2])
            self.file.flush()
            kill()
        self.file.write(data)


def half_a_line(metrics, **row):
    """The line of a row, cut off."""
    with builtins.open(metrics.path, "a") as file:
        file.write("17,81")
        file.flush()
        kill()


def end_at(moment, number, share):
    """Arrange for this process to be killed when the moment has come for the number-th time."""
    due = Countdown(number).is_due
    if moment == "in a forward pass":
        before(GPT, "loss", due)
    elif moment == "in an optimizer step":
        before(Tensor, "zero_grad", due)
    elif moment == "in a line of metrics.csv":
        before(Metrics, "add", due, half_a_line)
    else:
        watch_writes(moment, due, share)


def watch_writes(moment, due, share):
    """The moments inside `atomic_write`, of the file that the moment speaks of."""
    wanted = ".model.safetensors" if "the model" in moment else ".checkpoint.safetensors"
    now = [False]                                  # is it that file, and its turn?

    def opened(path, mode):
        now[0] = Path(path).name.startswith(wanted) and due()
        file = builtins.open(path, mode)           # noqa: SIM115 - its caller closes it
        return Cut(file, share) if now[0] and "bytes" in moment else file

    atomic.open = opened
    if "synced" in moment:
        before(atomic.os, "fsync", lambda: now[0])
    if "before the checkpoint is renamed" in moment:
        before(atomic, "replace", lambda: now[0])
    if "after the checkpoint is renamed" in moment:
        before(atomic, "sync_folder", lambda: now[0])


if __name__ == "__main__":
    end_at(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    sys.argv = sys.argv[4:]
    runpy.run_path(sys.argv[0], run_name="__main__")


# ---- the tests -----------------------------------------------------------------------------------

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")


def run(command, folder):
    process = subprocess.run([sys.executable, *map(str, command)], cwd=folder, timeout=120,
                             check=False, capture_output=True, text=True)
    return process.returncode, process.stderr


def what_is_left(folder):
    """All that a finished run leaves, its times aside."""
    arrays, state = load_checkpoint(folder / "run")
    rows = read_metrics(folder / "run" / "metrics.csv")
    return {
        "arrays": {name: np.array(arrays[name]).tobytes() for name in arrays},
        "state": state,
        "rows": [{name: row[name] for name in row if name != "seconds"} for row in rows],
        "model": (folder / "run" / "model.safetensors").read_bytes(),
        "files": sorted(path.name for path in (folder / "run").iterdir()),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "text.txt").write_text(TEXT)
    code, err = run([TRAIN, *FLAGS], folder)
    assert code == 0, err
    left = what_is_left(folder)
    assert len(left["rows"]) == STEPS
    return left


def draw(count, seed=0):
    """(moment, number, share): every moment in turn, the rest by seed."""
    generator = random.Random(seed)
    names = list(MOMENTS)
    for i in range(count):
        moment = names[(3 * i + 3) % len(names)]   # the first three: inside writes and a step
        yield moment, generator.randint(1, MOMENTS[moment]), round(generator.random(), 2)


def kill_and_resume(folder, plan):
    """Run to the planned end, then go on with --resume; returns what is left."""
    (folder / "text.txt").write_text(TEXT)
    code, err = run([__file__, *plan, TRAIN, *FLAGS], folder)
    assert code == -signal.SIGKILL, f"{plan}: it was not killed: {err}"
    if (folder / "run" / "checkpoint.safetensors").exists():
        code, err = run([TRAIN, "--out", "run", "--resume"], folder)
    else:                                          # killed before or in the very first one
        assert plan[1] == 1
        code, err = run([TRAIN, *FLAGS], folder)
    assert code == 0, f"{plan}: {err}"
    return what_is_left(folder)


def differences(left, undisturbed):
    return [part for part in undisturbed if left[part] != undisturbed[part]]


@pytest.mark.parametrize("plan", list(draw(3)), ids=lambda plan: plan[0])
def test_a_run_killed_at_a_drawn_moment_goes_on_as_if_nothing_had_happened(
    plan, undisturbed, tmp_path
):
    assert differences(kill_and_resume(tmp_path, plan), undisturbed) == []


@pytest.mark.long
def test_twenty_kills_of_twenty_leave_no_trace(undisturbed, tmp_path, capsys):
    whole = 0
    for i, plan in enumerate(draw(20, seed=1)):
        folder = tmp_path / str(i)
        folder.mkdir()
        wrong = differences(kill_and_resume(folder, plan), undisturbed)
        whole += not wrong
        with capsys.disabled():
            print(f"killed {plan[0]}, number {plan[1]}: {wrong or 'equal bit for bit'}", flush=True)
    with capsys.disabled():
        print(f"kills=20 equal={whole}")
    assert whole == 20


def test_a_run_killed_by_the_clock_goes_on_as_if_nothing_had_happened(undisturbed, tmp_path):
    """Whatever it was doing: the moments above are those that somebody thought of."""
    (tmp_path / "text.txt").write_text(TEXT)
    command = [sys.executable, TRAIN, *map(str, FLAGS)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    path, deadline = tmp_path / "run" / "metrics.csv", time.time() + 60
    while not (path.exists() and path.read_text().count("\n") > 3) and time.time() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    code, err = run([TRAIN, "--out", "run", "--resume"], tmp_path)
    assert code == 0, err
    assert differences(what_is_left(tmp_path), undisturbed) == []
