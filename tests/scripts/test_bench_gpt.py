"""bench_gpt.py measures training steps, and refuses to compare what is not the same."""

import sys

import numpy as np
import pytest

from house import ROOT, load

WORDS = ["tokens_per_s", "step_ms", "rss_mb", "gflops", "share_of_gemm_peak"]


@pytest.fixture
def bench(monkeypatch):
    """The script, with a model that takes no time to train."""
    script = load(ROOT / "scripts" / "bench_gpt.py")
    monkeypatch.setitem(script.CONFIGS, "S", (1, 2, 16, 8, 2, 50))
    monkeypatch.setattr(script, "peak_of_products", lambda clock: 100.0)
    return script


def run(script, monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["bench_gpt.py", "--config", "S", *flags])
    script.main()


def test_the_last_line_is_for_programs(bench, monkeypatch, capsys):
    run(bench, monkeypatch, "--steps", "2", "--warmup", "1")
    told = dict(pair.split("=") for pair in capsys.readouterr().out.splitlines()[-1].split())
    assert list(told) == WORDS
    ms, tokens = float(told["step_ms"]), float(told["tokens_per_s"])
    assert ms > 0
    assert tokens == pytest.approx(2 * 8 / ms * 1e3, rel=0.1)


def test_a_python_without_pytorch_gets_one_sentence(bench, monkeypatch, capsys, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('none here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        run(bench, monkeypatch, "--vs", "torch")
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {sys.executable} cannot")


class Other:
    name, peak, losses = "PyTorch 0 eager", None, np.full(9, 7.0)


def test_sides_with_other_losses_are_not_compared(bench, capsys):
    ours = type("Ours", (Other,), {"losses": np.full(9, 7.01)})
    config = bench.GPTConfig(50, 8, 1, 2, 16)
    bench.report(config, 16, [Other, Other], [[1.0], [2.0]], 100.0)
    assert "eager_ratio=2.000 losses_apart=0.0e+00" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.report(config, 16, [ours, Other], [[1.0], [2.0]], 100.0)
    assert "do not train the same model" in capsys.readouterr().err
