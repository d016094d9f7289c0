"""Lesson 5.0 · Metrics: what a run writes down, and the picture of it

Needs atomic, plots. Used by scripts/train_gpt.py.

Idea      A run that has ended is only as good as its records. One row a step goes into a CSV file
          as soon as it is known, so that a crash loses nothing and any program can plot it. The
          picture at the end shows at a glance what a column of numbers hides: whether the loss
          still falls, and whether the held-out loss falls with it.
Math      smoothed loss: e₀ = ℓ₀,  eₜ = α·eₜ₋₁ + (1 − α)·ℓₜ, drawn over the raw one              (1)
          a line that falls is followed α/(1 − α) steps late; α = 1 − 1/w with w = n/20 of n steps
          and from 1 to 20, so at most a twentieth of the picture                                (2)
Shapes    A row: step, tokens (seen so far), seconds (in training), learning_rate, loss (nats per
          token), gradient_norm, val_loss (nats per token; empty where none was measured at this
          step)
          A sample, a text that the model wrote on the way: [steps taken, text]; a JSON file has the
          list of them
Pitfalls  Rows written after the last checkpoint belong to steps that a resumed run takes again:
          they are dropped first. A smoothed curve lags behind: with the same α for all, that of a
          short run ends far too high.
Cost      One short line a step.
Try       build it    a second panel with the gradient norm on a logarithmic axis.
          break it    keep the later rows on --resume: what does the curve look like where they
                      overlap?
          measure it  how far do the last 100 losses of a run (`read_metrics`) lie from the
                      `smoothed` curve, on average?
See       RFC 4180 (CSV)
"""

import csv
import io
import json
import math
from pathlib import Path

from tinygrad_edu.files.atomic import remove_leftovers, write_text
from tinygrad_edu.files.plots import plots

COLUMNS = ("step", "tokens", "seconds", "learning_rate", "loss", "gradient_norm", "val_loss")


class Metrics:
    """The rows of a run: kept in memory, and appended to a CSV file line by line.

    path: the file. steps: rows of step < steps are kept from an earlier part of the run, later ones
    dropped. more: names of columns behind the usual ones. ValueError where the file ends before
    that step; a run whose file is gone altogether goes on with a new one.
    """

    def __init__(self, path, steps=0, more=()):
        self.path, self.columns = Path(path), (*COLUMNS, *more)
        before = read_metrics(path, self.columns) if steps else []
        self.rows = [row for row in before if row["step"] < steps]
        end = max((row["step"] + 1 for row in self.rows), default=0)
        if end < steps and self.path.exists():
            raise ValueError(f"{path} ends at step {end}, the checkpoint at {steps}: bring back "
                             "what is missing, remove the file to go on without a record of the "
                             "steps before, or begin anew with --overwrite")
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(map(_texts, self.rows))
        remove_leftovers(self.path)
        write_text(self.path, text.getvalue())  # a full disk or a kill leaves the old rows

    def add(self, **row):
        """Append one row; columns that are not given stay empty."""
        row = {name: row.get(name) for name in self.columns}
        self.rows.append(row)
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(_texts(row))

    def last(self, name):
        """The newest value of a column, or None."""
        return next((row[name] for row in reversed(self.rows) if row[name] is not None), None)


class Samples:
    """Texts that the model wrote on the way, as (steps taken, text), kept in a JSON file.

    path: the file. steps: samples from after so many steps are dropped, as with Metrics. Raises
    ValueError where the file is not one of samples.
    """

    def __init__(self, path, steps=0):
        self.path = Path(path)
        self.texts = [one for one in read_samples(path) if one[0] <= steps] if steps else []

    def add(self, step, text):
        """Keep one more text."""
        self.texts.append((step, text))
        write_text(self.path, json.dumps(self.texts, indent=1, ensure_ascii=False) + "\n")


def read_samples(path):
    """The (steps, text) pairs of a file of samples; [] without a file."""
    if not Path(path).exists():
        return []
    try:
        pairs = json.loads(Path(path).read_text(encoding="utf-8"))
        samples = [(step, text) for step, text in pairs]
        if not all(type(step) is int and type(text) is str for step, text in samples):
            raise ValueError
        json.dumps(samples, ensure_ascii=False).encode("utf-8")  # half a character cannot be
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{path} is not a file of samples: mend it or remove it") from None
    return samples


def _texts(row):
    return {name: "" if value is None else f"{value:.9g}" for name, value in row.items()}


def read_metrics(path, columns=COLUMNS):
    """The rows of a metrics file as dicts of numbers, None for empty fields; [] without a file.

    Raises ValueError that names the line where the file was damaged.
    """
    if not Path(path).exists():
        return []
    text = Path(path).read_bytes().decode("utf-8", "replace")
    whole = text[: text.rfind("\n") + 1]  # a full disk or a kill can cut the last line short
    with io.StringIO(whole, newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or tuple(reader.fieldnames) != columns:
            raise ValueError(f"{path} is no metrics file of this program: its first line is not "
                             f"{','.join(columns)}")
        rows = []
        for row in reader:
            try:
                numbers = {name: float(text) if text else None for name, text in row.items()}
                if not all(math.isfinite(number or 0) for number in numbers.values()):
                    raise ValueError
                rows.append(numbers | {"step": int(numbers["step"])})
            except (TypeError, ValueError, AttributeError):
                raise ValueError(f"{path}, line {reader.line_num}: a field is not a number; "
                                 "mend or remove that line") from None
    return rows


def smoothed(values, alpha=None):
    """The running average (1) of a list of numbers; without `alpha` that of (2)."""
    if alpha is None:
        alpha = 1 - 1 / min(max(len(values) / 20, 1), 20)                                      # (2)
    result = []
    for value in values:
        result.append(value if not result else alpha * result[-1] + (1 - alpha) * value)
    return result


def draw_losses(rows, path, title):
    """Write a PNG of both losses over the tokens seen. Raises ImportError without matplotlib."""
    pyplot = plots("no picture of the losses, it needs")
    rows = [row for row in rows if None not in (row["tokens"], row["loss"])]
    tokens = [row["tokens"] / 1e6 for row in rows]
    losses = [row["loss"] for row in rows]
    looked = [row for row in rows if row["val_loss"] is not None]
    held_out = [(row["tokens"] / 1e6, row["val_loss"]) for row in looked]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(tokens, losses, color="tab:blue", alpha=0.25, lw=0.8, label="training, each step")
    axes.plot(tokens, smoothed(losses), color="tab:blue", label="training, smoothed")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "o-", color="tab:orange", label="held out")
    axes.set(xlabel="tokens seen, millions", ylabel="loss, nats per token")
    title = title.encode("utf-8", "replace").decode("utf-8")  # a file's name can be any bytes,
    axes.set_title(title, parse_math=False)                   # and any $ in it is no formula
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
