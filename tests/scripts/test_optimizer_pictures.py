"""compare_optimizers.py and draw_optimizers.py: the table, the last line, the pictures."""

import sys

import numpy as np
import pytest

from house import ROOT, load
from tinygrad_edu.nn.optimizers import OPTIMIZERS


def call(script, *flags):
    """Run a script's main function with these flags; returns its module."""
    module = load(ROOT / "scripts" / script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, flags)])
        module.main()
    return module


def test_the_comparison_prints_a_line_an_optimizer_best_first_and_draws(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "text.txt").write_text("abcdefgh" * 200)
    call("compare_optimizers.py", "--data", tmp_path / "text.txt", "--steps", 4, "--seeds", 2,
         "--layers", 1, "--width", 4, "--context", 8, "--out", tmp_path / "new" / "picture.png")
    lines = capsys.readouterr().out.splitlines()
    table = [line.split() for line in lines if line.split()[0] in OPTIMIZERS]
    assert {row[0] for row in table} == set(OPTIMIZERS)
    medians = [float(row[2]) for row in table]
    assert medians == sorted(medians)
    assert all(float(low) <= float(mid) <= float(high) for _, _, mid, low, high, _ in table)
    assert lines[-1].startswith(f"best={table[0][0]} loss={table[0][2]}")
    assert (tmp_path / "new" / "picture.png").read_bytes()[:4] == b"\x89PNG"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abcdefgh" * 200)
    return path


def test_a_comparison_in_which_every_run_diverges_is_drawn_too(text, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    call("compare_optimizers.py", "--data", text, "--steps", 2, "--seeds", 1, "--layers", 1,
         "--width", 4, "--context", 8, "--lr", 1e30, "--out", tmp_path / "picture.png")
    assert "loss=inf" in capsys.readouterr().out.splitlines()[-1]
    assert (tmp_path / "picture.png").exists()


@pytest.mark.parametrize("name", ["picture.txt", "picture"])
def test_a_name_that_no_picture_can_have_is_refused_before_training(text, tmp_path, capsys, name):
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit):
        call("compare_optimizers.py", "--data", text, "--out", tmp_path / name)
    out, err = capsys.readouterr()
    assert out == "" and "give a name that ends in .png" in err
    assert not (tmp_path / name).exists()


def test_missing_matplotlib_is_told_before_training(text, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for script in ("compare_optimizers.py", "draw_optimizers.py"):
        with pytest.raises(SystemExit):
            call(script)
        out, err = capsys.readouterr()
        assert out == "" and "pip install -e '.[pictures]'" in err and err.count("\n") == 1


def test_the_search_goes_on_as_long_as_the_best_rate_is_at_the_edge(monkeypatch):
    script = load(ROOT / "scripts" / "compare_optimizers.py")
    best = 0.004 * 8

    def train_once(name, rate, *_):
        return script.Run([], abs(np.log(rate / best)), 0.0)
    monkeypatch.setattr(script, "train_once", train_once)
    tried = script.search("adamw", None, script.Settings(), None, None)
    assert sorted(tried) == pytest.approx(0.004 * 2.0 ** np.arange(-1, 5))
    best = 0.004
    assert sorted(script.search("adamw", None, script.Settings(), None, None)) == pytest.approx(
        [0.002, 0.004, 0.008])


def test_the_learning_rate_of_a_comparison_grows_over_a_tenth_of_the_steps(monkeypatch):
    script = load(ROOT / "scripts" / "compare_optimizers.py")
    rates = []

    def take_step(model, optimizer, batches, step, rate, clip, seed):
        rates.append(rate)
        return 1.0, 1.0
    monkeypatch.setattr(script, "take_step", take_step)
    config = script.GPTConfig(256, context=4, layers=1, heads=1, width=4)
    settings = script.Settings(steps=40, context=4, batch=1)
    streams, bar = [np.arange(99)] * 2, script.tqdm(disable=True)
    script.train_once("sgd", 0.8, 1, config, settings, streams, bar)
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_a_way_that_another_optimizer_went_already_is_dashed(tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib").pyplot
    script = load(ROOT / "scripts" / "draw_optimizers.py")
    monkeypatch.setattr(pyplot, "close", lambda figure: None)
    way = script.walk("sgd", 0.01, 5)
    names = {name: (0.01, way if name in ("adam", "adamw") else k * way)
             for k, name in enumerate(OPTIMIZERS, start=2)}
    script.draw_paths(pyplot, names, tmp_path / "a.png")
    lines = {line.get_label(): line.get_linestyle() for line in pyplot.gcf().axes[-1].lines}
    assert [name for name in OPTIMIZERS if lines[name] == "--"] == ["adamw"]
    monkeypatch.undo()
    pyplot.close()


def test_ways_without_end_are_refused(capsys):
    with pytest.raises(SystemExit):
        call("draw_optimizers.py", "--steps", 10**9)
    assert "--steps has to be at most 10000" in capsys.readouterr().err


def test_the_pictures_of_ways_and_schedules_are_drawn(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    call("draw_optimizers.py", "--steps", 4, "--out", tmp_path)
    assert capsys.readouterr().out.splitlines()[-1].startswith("optimizers=7 schedules=4 steps=4")
    for name in ("optimizers.png", "schedules.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


def test_a_way_that_leaves_the_valley_is_cut_short():
    script = load(ROOT / "scripts" / "draw_optimizers.py")
    assert len(script.walk("sgd", 10.0, 50)) < 20
    assert len(script.walk("adamw", 0.05, 50)) == 51
