"""bench_mlp.py measures steps of small networks, and refuses to compare what is not the same."""

import sys

import numpy as np
import pytest

from house import ROOT, load


@pytest.fixture
def bench():
    return load(ROOT / "scripts" / "bench_mlp.py")


def test_the_last_line_is_for_programs(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_mlp.py", "--steps", "3"])
    bench.main()
    told = dict(pair.split("=") for pair in capsys.readouterr().out.splitlines()[-1].split())
    assert list(told) == ["tiny_us", "tiny_replay_us", "batch_us", "batch_replay_us"]
    assert all(float(value) > 0 for value in told.values())


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("name", ["tiny", "batch"])
def test_what_is_timed_is_training(bench, name, replayed):
    side = bench.Ours(name, 1, replayed)
    assert len(side.ask(200)) == 200
    assert side.losses[-1] < 0.9 * side.losses[0]


def test_a_python_without_pytorch_gets_one_sentence(bench, monkeypatch, capsys, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('none here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["bench_mlp.py", "--vs", "torch"])
    with pytest.raises(SystemExit) as caught:
        bench.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {sys.executable} cannot")


def test_sides_with_other_losses_are_not_compared(bench):
    def side(loss):
        return type("Side", (), {"name": "a side", "losses": np.full(60, loss)})

    times = [[2e-4], [1e-4], [4e-4]]
    pairs = bench.report("tiny", [side(7.0), side(7.0), side(7.00001)], times)
    assert pairs["tiny_ratio"] == "2.00" and pairs["tiny_replay_ratio"] == "4.00"
    for losses in ((7.0, 7.00001, 7.0), (7.0, 7.0, 7.01)):
        with pytest.raises(ValueError, match="do not train the same network"):
            bench.report("tiny", list(map(side, losses)), times)
