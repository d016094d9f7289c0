import csv

import numpy as np
import pytest

from tinygrad_edu.train.metrics import (
    COLUMNS,
    Metrics,
    Samples,
    draw_losses,
    read_metrics,
    smoothed,
)


def row(step, **more):
    return {"step": step, "tokens": 10 * (step + 1), "seconds": 0.5, "learning_rate": 1e-3,
            "loss": 4.0 - step, "gradient_norm": 1.25} | more


def test_every_row_is_in_the_file_as_soon_as_it_is_added(tmp_path):
    metrics = Metrics(tmp_path / "metrics.csv")
    metrics.add(**row(0))
    metrics.add(**row(1, val_loss=3.5))
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["val_loss"] == ""
    assert rows[1]["val_loss"] == "3.5"
    assert read_metrics(tmp_path / "metrics.csv") == metrics.rows


def test_rows_written_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    metrics = Metrics(tmp_path / "metrics.csv")
    for step in range(5):
        metrics.add(**row(step))
    resumed = Metrics(tmp_path / "metrics.csv", steps=3)
    resumed.add(**row(3))
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.csv")] == [0, 1, 2, 3]


@pytest.mark.parametrize("kept", [0, 2])
def test_a_file_that_ends_before_the_checkpoint_is_refused_and_a_missing_one_is_not(tmp_path, kept):
    path = tmp_path / "metrics.csv"
    metrics = Metrics(path)
    for step in range(kept):
        metrics.add(**row(step))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"ends at step {kept}, the checkpoint at 3: bring back"):
        Metrics(path, steps=3)
    assert path.read_bytes() == before
    path.unlink()
    assert Metrics(path, steps=3).rows == []


def test_a_full_disk_during_a_resume_costs_no_row(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "metrics.csv"
    metrics = Metrics(path)
    for step in range(5):
        metrics.add(**row(step))
    before = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("os.fsync", full)
        Metrics(path, steps=3)
    assert path.read_bytes() == before
    assert [r["step"] for r in Metrics(path, steps=3).rows] == [0, 1, 2]


def test_the_newest_value_of_a_column_skips_empty_fields(tmp_path):
    metrics = Metrics(tmp_path / "metrics.csv")
    assert metrics.last("loss") is None
    metrics.add(**row(0, val_loss=3.5))
    metrics.add(**row(1))
    assert metrics.last("val_loss") == 3.5
    assert metrics.last("loss") == 3.0


@pytest.mark.parametrize("text, sentence", [
    ("a,b\n1,2\n", "is no metrics file"),
    (",".join(COLUMNS) + "\n0,1,2,3,x,5,\n", "line 2: a field is not a number"),
    (",".join(COLUMNS) + "\n0,1\n,,,,,,\n", "line 3"),
])
def test_a_damaged_file_is_refused_by_line(tmp_path, text, sentence):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_metrics(tmp_path / "metrics.csv")


def test_the_smoothed_curve_starts_at_the_first_value_and_follows():
    assert smoothed([2.0, 4.0], alpha=0.5) == [2.0, 3.0]


@pytest.mark.parametrize("steps", [1, 5, 40, 100, 2000])
def test_the_smoothed_curve_of_a_short_run_is_hardly_late_and_of_a_long_one_smooth(steps):
    line = np.linspace(10, 0, steps)
    assert abs(smoothed(line)[-1] - line[-1]) <= 10 / 20
    noise = np.random.default_rng(0).standard_normal(steps)
    assert steps < 2000 or np.std(smoothed(noise)) < 0.2


def test_the_picture_shows_both_losses(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [row(i, val_loss=5.0 if i == 2 else None) for i in range(4)]
    draw_losses(rows, tmp_path / "loss.png", "a title")
    image = (tmp_path / "loss.png").read_bytes()
    assert image[:4] == b"\x89PNG"
    from matplotlib import image as images
    assert len(np.unique(images.imread(tmp_path / "loss.png").reshape(-1, 4), axis=0)) > 10


@pytest.mark.parametrize("rest", [b"3,12", b"3,12,1e-", b"3,\xff"])
def test_a_last_line_cut_short_by_a_full_disk_is_passed_over(tmp_path, rest):
    path = tmp_path / "metrics.csv"
    metrics = Metrics(path)
    for step in range(3):
        metrics.add(step=step, loss=1.0)
    path.write_bytes(path.read_bytes() + rest)
    assert [row["step"] for row in read_metrics(path)] == [0, 1, 2]


@pytest.mark.parametrize("number", ["inf", "nan", "-1e999"])
@pytest.mark.parametrize("column", range(len(COLUMNS)))
def test_a_number_that_is_not_finite_is_refused_by_line(tmp_path, number, column):
    fields = ["0", "1", "2", "3", "4", "5", "6"]
    fields[column] = number
    (tmp_path / "metrics.csv").write_text(",".join(COLUMNS) + "\n" + ",".join(fields) + "\n")
    with pytest.raises(ValueError, match="line 2: a field is not a number"):
        read_metrics(tmp_path / "metrics.csv")


def test_the_picture_bears_rows_with_empty_fields(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [row(i, val_loss=None) for i in range(3)]
    draw_losses([rows[0], rows[1] | {"loss": None}, {**rows[2], "tokens": None}],
                tmp_path / "a.png", "")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_the_picture_bears_a_title_that_is_no_text_and_no_formula(tmp_path):
    pytest.importorskip("matplotlib")
    draw_losses([row(0, val_loss=None)], tmp_path / "a.png", "caf\udce9 $^$")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_samples_from_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    samples = Samples(tmp_path / "samples.json")
    for step in (0, 5, 10):
        samples.add(step, f"at {step}: \u00f6")
    resumed = Samples(tmp_path / "samples.json", 5)
    resumed.add(8, "new")
    assert [step for step, _ in Samples(tmp_path / "samples.json", 99).texts] == [0, 5, 8]
    assert Samples(tmp_path / "samples.json", 0).texts == []


@pytest.mark.parametrize("text", ['[[0, "\\ud800"]]', "5", '["ab"]', '[["0", "a"]]', ""])
def test_a_file_that_has_no_samples_is_refused(tmp_path, text):
    path = tmp_path / "samples.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is not a file of samples: mend it or remove it"):
        Samples(path, 1)
