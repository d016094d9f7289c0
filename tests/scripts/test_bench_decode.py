"""bench_decode.py reads and writes with a model, and compares with what others do."""

import sys

import numpy as np
import pytest

from house import ROOT, load
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.packed_llama import packed

WORDS = ["prefill_tokens_per_s", "decode_tokens_per_s", "rss_mb", "load_s", "floor_tokens_per_s",
         "share_of_floor", "python_share"]


class Opened:
    """What open_model finds."""

    def __init__(self, model):
        self.model = model


@pytest.fixture
def run(monkeypatch, capsys):
    """main() with some flags: the lines it prints."""
    script = load(ROOT / "scripts" / "bench_decode.py")
    model = Llama(LlamaConfig(50, 128, 1, 2, 1, 32, 32), np.random.default_rng(0)).eval()

    def open_model(path, widen=False):
        return Opened(model if widen else packed(model, "Q4_0"))
    monkeypatch.setattr(script, "open_model", open_model)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["bench_decode.py", "model.gguf", *flags])
        script.main()
        return capsys.readouterr().out.splitlines()
    return run


def values_of(line):
    return {name: float(value) for name, value in (pair.split("=") for pair in line.split())}


def test_the_last_line_is_for_programs(run):
    *_, last = run("--prompt-tokens", "8", "--new", "8")
    told = values_of(last)
    assert list(told) == WORDS
    assert min(told.values()) >= 0  # nothing was loaded
    assert told["decode_tokens_per_s"] > 0
    assert told["python_share"] < 1


def test_the_ladder_has_a_number_for_every_rung(run):
    *rungs, last = run("--ladder")
    assert len(rungs) == len(values_of(last)) == 7
    assert rungs[1].startswith("cache")


@pytest.mark.parametrize("flags, sentence", [
    (("--prompt-tokens", "120", "--new", "8"), "137 tokens do not fit this model's context of 128"),
    (("--prompt-tokens", "8", "--new", "8", "--vs", "llama.cpp"), "cannot run llama.cpp"),
])
def test_what_cannot_be_measured_is_said_in_a_sentence(run, capsys, flags, sentence, tmp_path,
                                                       monkeypatch):
    (tmp_path / "llama_cpp.py").write_text("raise ImportError('none here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        run(*flags)
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err
