import importlib.util
import subprocess
import sys
from pathlib import Path

import fake_cupy
import numpy as np
import pytest

from tinygrad_edu.gpu.emulate import available
from tinygrad_edu.gpu.launch import on_device
from tinygrad_edu.models.gpt import GPTConfig

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_cuda.py"


@pytest.mark.skipif(on_device(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_a_sentence():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "needs an NVIDIA GPU" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not available(), reason="no C++ compiler here")
def test_on_a_stand_in_for_a_gpu_every_line_is_printed(monkeypatch, capsys):
    fake_cupy.install(monkeypatch)
    spec = importlib.util.spec_from_file_location("bench_cuda", SCRIPT)
    bench = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_cuda", bench)  # where dataclasses look for it
    spec.loader.exec_module(bench)
    monkeypatch.setattr(bench, "attention_speed", lambda _, old=bench.attention_speed:
                        old(1, 1, 1, 16, 16))
    shares = bench.kernels(64, 1)
    assert set(shares) > {"adam_update", "matmul_bf16"} and all(np.array([*shares.values()]) > 0)
    settings = bench.Settings(batch=1, steps=1, dtype="fp16")
    assert bench.gpt2_step(settings, GPTConfig(64, 8, 1, 2, 16)) > 0
    assert "GPT-2 step" in capsys.readouterr().out


@pytest.mark.skipif(not available(), reason="no C++ compiler here")
def test_the_emulator_is_timed_without_a_gpu():
    done = subprocess.run([sys.executable, SCRIPT, "--device", "emulator", "--rounds", "1"],
                          capture_output=True, text=True, check=True)
    said = dict(pair.split("=") for pair in done.stdout.split())
    assert list(said) == ["layernorm_512x768_ms", "register_tile_256_ms", "attention_4x256_ms",
                          "barrier_ns", "shuffle_ns"]
    assert all(float(took) > 0 for took in said.values())
