"""cuda_lab.py: what a learner sees, of a kernel that is right and of one that is not."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from harness import need
from house import ROOT

ADD = """extern "C" __global__ void add(float *y, const float *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] + 1;
}
"""
SPIN = """extern "C" __global__ void spin(volatile float *y) {
    printf("spinning\\n");
    fflush(stdout);
    while (y[0] < 1000) {}
}
"""


def command(*words):
    return [sys.executable, str(ROOT / "scripts" / "cuda_lab.py"), *map(str, words)]


@pytest.fixture
def lab(tmp_path):
    """lab(text, words…) -> (exit code, what it printed, what it complained of)."""
    need("cuda")

    def run(text, *words):
        path = tmp_path / "mine.cu"
        path.write_text(text, encoding="utf-8")
        done = subprocess.run(command(path, *words), capture_output=True, text=True, timeout=60,
                              check=False)
        return done.returncode, done.stdout, done.stderr
    return run


def test_a_right_kernel_prints_its_array_and_that_nothing_was_found(lab, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(4, dtype=np.float32))
    code, out, _ = lab(ADD, "add", "--args", f"y=4 x={tmp_path / 'x.npy'} n=4", "--block", 32,
                       "--order", "random", "--seed", 3)
    assert code == 0
    assert out == "y = [1. 2. 3. 4.]\nkernel=add mode=check order=random found=nothing\n"


# name: (text, words of the command, exit code, what is said)
SAID = {
    "a step past the end": (ADD.replace("if (i < n) ", ""), ["add", "--size", 100], 1,
                            "mine.cu:3, thread (100,0,0) of block (0,0,0): out of bounds: reads "
                            "x[100], which has 100 elements"),
    "a mistake of grammar": (ADD.replace("x[i]", "x[i"), ["add"], 1, "mine.cu:3:"),
    "no such kernel": (ADD, ["sum"], 2, "sum"),
    "no such parameter": (ADD, ["add", "--args", "z=3"], 2, "add has no parameter 'z'"),
    "no number": (ADD, ["add", "--args", "n=many"], 2, "n is a number, not 'many'"),
    "no shape": (ADD, ["add", "--block", "4x4"], 2, "--block takes up to three numbers"),
    "too many threads": (ADD, ["add", "--block", 2048], 2, "2048 threads"),
    "no such array": (ADD, ["add", "--args", "x=nowhere.npy"], 2, "nowhere.npy"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_wrong_is_said_in_one_sentence_without_a_traceback(name, lab):
    text, words, code, said = SAID[name]
    got, _, complaint = lab(text, *words)
    assert said in complaint
    assert complaint.startswith("error: ")
    assert "Traceback" not in complaint
    assert got == code


def test_a_file_that_is_not_there_is_named():
    done = subprocess.run(command("nowhere.cu", "add"), capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 2
    assert "nowhere.cu" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mode", ["check", "fast"])
def test_ctrl_c_ends_a_kernel_that_never_would(mode, tmp_path):
    need("cuda")
    path = tmp_path / "mine.cu"
    path.write_text(SPIN, encoding="utf-8")
    words = command(path, "spin", "--mode", mode, "--args", "y=1", "--block", 1)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout.readline() == "spinning\n"
        os.kill(process.pid, signal.SIGINT)
        try:
            _, complaint = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode != 0
    assert "Traceback" not in complaint


@pytest.mark.parametrize("words, sentence", [
    ("n=1.5", "error: --args: n is a whole number, not 1.5"),
    ("n=1e12", "error: k, parameter n: 1000000000000 does not fit into int"),
    ("y=-3", "error: --args: y is a size, not -3"),
])
def test_numbers_that_do_not_fit_are_refused_in_a_sentence(lab, words, sentence):
    code, _, complaint = lab('extern "C" __global__ void k(float *y, int n) { y[0] = n; }', "k",
                             "--args", words)
    assert (code, complaint.strip()) == (2, sentence)
