import re
import subprocess
import sys

import numpy as np
import pytest

from house import ROOT
from tinygrad_edu import memory
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.train.estimate import estimate_peak, readable, training_bytes


@pytest.mark.parametrize("B, T, C, L, V", [(4, 64, 96, 3, 300), (2, 128, 64, 6, 1000)])
def test_the_estimate_is_what_the_arrays_of_a_step_take(B, T, C, L, V):
    config = GPTConfig(V, context=T, layers=L, heads=4, width=C)
    random = np.random.default_rng(0)
    ids = random.integers(0, V, (B, T + 1))
    with memory.Meter() as meter:
        model = GPT(config, random)
        optimizer = AdamW(model.named_parameters())
        for _ in range(2):
            model.loss(ids[:, :-1], ids[:, 1:]).backward()
            optimizer.step(1e-3)
    assert abs(training_bytes(config, B * T) / meter.peak - 1) < 0.15


def test_the_estimate_counts_what_the_process_holds_already():
    peak = estimate_peak(GPTConfig(300, context=64, layers=1, heads=1, width=16), 64)
    if peak is not None:
        assert peak >= memory.peak_resident_bytes()


@pytest.mark.parametrize("tokenizer", [["char"], ["bpe", "--vocab", "300"]], ids=["char", "bpe"])
def test_what_is_said_beforehand_is_what_the_process_takes(tokenizer, tmp_path):
    """With C neither tokenizer loads Numba; without, it comes with the first step or before."""
    if memory.peak_resident_bytes() is None:
        pytest.skip("the system does not tell")
    (tmp_path / "text.txt").write_text("".join(f"line {i}: {i * i}\n" for i in range(1000)))
    command = [sys.executable, str(ROOT / "scripts" / "train_gpt.py"), "--data", "text.txt",
               "--width", "64", "--context", "64", "--steps", "3", "--tokenizer", *tokenizer]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    said, took = (float(re.search(pattern, run.stdout)[1].replace(",", "")) for pattern in (
        r"about ([\d,]+) MB of memory", r"memory at its peak: ([\d,]+) MB"))
    assert abs(said / took - 1) < 0.15, (said, took)


@pytest.mark.parametrize("seconds, text", [
    (4.6, "5 s"), (59.4, "59 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")])
def test_durations_read_as_people_say_them(seconds, text):
    assert readable(seconds) == text
