"""Every optimizer on a surface that one can look at, and every schedule of the learning rate.

    python scripts/draw_optimizers.py            writes docs/optimizers.png and docs/schedules.png

The surface is Rosenbrock's, a curved valley: f(x, y) = ((1 − x)² + 20·(y − x²)²)/20, lowest at
(1, 1). All start at the same point and take the same number of steps at a constant rate without
decay, so that Adam and AdamW are one. The rate is the one of those tried, each a third larger than
the one before, with which the way stays within the picture and the mean of ln f over its last
quarter is lowest. Muon sees (x, y) as a matrix of one row. Its only singular value is its length,
so Muon's steps all have nearly the same length: on a vector that is all it does.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_edu.files.plots import plots
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.optimizers import OPTIMIZERS, make_optimizer
from tinygrad_edu.nn.schedule import SCHEDULES
from tinygrad_edu.tensor import Tensor
from tinygrad_edu.train.program import program

START = (-1.2, 1.2)
RATES = 1e-3 * (4 / 3) ** np.arange(27)  # up to 1.8
FRAME = (-1.8, 1.8), (-0.9, 2.1)  # of x and of y: what the picture shows


@dataclass
class Settings:
    """How far each one goes, and where the pictures are to lie."""

    steps: int = option(150, "steps of each optimizer", low=4, high=10_000)
    out: Path = option(Path("docs"), "folder for the pictures")


def main():
    """Walk down the valley with each optimizer, then draw."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        pyplot = plots()
        settings.out.mkdir(parents=True, exist_ok=True)
    paths = {}
    with tqdm(total=len(OPTIMIZERS) * len(RATES), unit="walk", leave=False) as bar:
        for name in OPTIMIZERS:
            paths[name] = best_walk(name, settings.steps, bar)
    for name, (rate, path) in paths.items():
        print(f"{name:<8} rate {rate:<8.2g} f at the end {height(*path[-1]):.2g}")
    draw_paths(pyplot, paths, settings.out / "optimizers.png")
    draw_schedules(pyplot, settings.out / "schedules.png")
    print(f"optimizers={len(paths)} schedules={len(SCHEDULES)} steps={settings.steps} "
          f"out={settings.out}")


def height(x, y):
    """The surface, for numbers, arrays and tensors."""
    return ((1 - x) ** 2 + 20 * (y - x ** 2) ** 2) / 20


def walk(name, rate, steps):
    """The points (steps + 1, 2) of a way down from START; cut short where it leaves the frame."""
    w = Tensor(np.array([START]), requires_grad=True)
    options = {"hidden": lambda name, tensor: True} if name == "muon" else {}
    optimizer = make_optimizer(name, [("point", w)], decay=0.0, **options)
    points = [w.data[0].copy()]
    for _ in range(steps):
        loss = height(w[:, 0], w[:, 1]).sum()
        loss.backward()
        optimizer.step(rate)
        points.append(w.data[0].copy())
        if not all(low < at < high for at, (low, high) in zip(points[-1], FRAME, strict=True)):
            break
    return np.array(points)


def best_walk(name, steps, bar):
    """(rate, points) of the walk that is lowest over its last quarter."""
    best = (np.inf, None, None)
    for rate in RATES:
        path = walk(name, rate, steps)
        bar.update()
        if len(path) == steps + 1:
            score = np.mean(np.log(height(*path[-(steps // 4):].T) + 1e-12))
            best = min(best, (score, rate, path), key=lambda walk: walk[0])
    return best[1:]


def draw_paths(pyplot, paths, target):
    """A panel for each way, and one with all heights over the steps."""
    xs, ys = np.meshgrid(*(np.linspace(*ends, 300) for ends in FRAME))
    levels = np.log(height(xs, ys) + 1e-3)
    figure, axes = pyplot.subplots(2, 4, figsize=(13, 6.2), layout="constrained")
    *panels, last = axes.flat
    drawn = []
    for i, (panel, (name, (rate, path))) in enumerate(zip(panels, paths.items(), strict=True)):
        color = f"C{i}"
        panel.contourf(xs, ys, levels, 24, cmap="Greys", alpha=0.45)
        panel.plot(*path.T, "-", color=color, lw=1.1)
        panel.plot(*path.T, ".", color=color, ms=3.5)
        panel.plot(*START, "o", color="black", ms=5)
        panel.plot(1, 1, "*", color="black", ms=11)
        panel.set(title=f"{name}, rate {rate:.2g}", xticks=[], yticks=[], xlim=FRAME[0],
                  ylim=FRAME[1])
        # A way that another one went already is dashed, so that both are seen.
        again = any(np.array_equal(path, other) for other in drawn)
        last.plot(height(*path.T), color=color, label=name, lw=1.2, ls="--" if again else "-")
        drawn.append(path)
    last.set(yscale="log", ylim=(1e-8, 3), xlabel="step", title="height above the minimum")
    last.grid(alpha=0.3)
    last.legend(fontsize=7, ncols=2, loc="lower left")
    figure.savefig(target, dpi=110)
    pyplot.close(figure)


def draw_schedules(pyplot, target, steps=1000, warmup=100):
    """All schedules over a run of `steps`, from rate 1 down to 0.1 at least."""
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    for name, schedule in SCHEDULES.items():
        rates = [schedule(step, steps, 1.0, 0.1, warmup) for step in range(steps)]
        axes.plot(rates, label=name)
    axes.set(xlabel=f"step, the first {warmup} of them warm-up", ylim=(0, 1.06),
             ylabel="learning rate, share of the largest")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", bbox_to_anchor=(0.11, 0.02))
    figure.savefig(target, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    with program():
        main()
