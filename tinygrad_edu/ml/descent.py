"""Lesson 4.65 · Descent: six ways down, by all rows or a few, on surfaces one can look at

Needs plots. Used by tests/ml/test_descent.py.

Idea      The gradient points uphill, so go the other way: that is the whole of it, and everything
          since is about the size of the step. Too long, and one jumps from wall to wall and out of
          the valley; too short, and one never arrives. Momentum adds up the steps: what alternates
          cancels, what stays grows. Nesterov looks where momentum is about to take it. AdaGrad,
          RMSProp and Adam give every direction a length of its own, from the slopes it has met
          there. And who has a million rows need not read all of them before taking a step: a few
          drawn at random point in about the right direction, for a thousandth of the price.
Math      x ← x + step,  g the slope at x, η the rate
          plain      step = −η·g;  in a bowl with curvature λ the distance shrinks by |1 − ηλ|   (1)
          momentum   v ← βv + g           step = −η·v                                           (2)
          Nesterov   v ← βv + g           step = −η·(g + βv)                                    (3)
          AdaGrad    s ← s + g²           step = −η·g/(√s + ε)                                  (4)
          RMSProp    s ← γs + (1 − γ)g²   step = −η·g/(√s + ε)                                  (5)
          Adam       m ← β₁m + (1 − β₁)g, s ← β₂s + (1 − β₂)g²
                     step = −η·m̂/(√ŝ + ε),  m̂ = m/(1 − β₁ᵗ), ŝ = s/(1 − β₂ᵗ)                  (6)
          a batch of B rows: E[g_B] = g, its scatter shrinks as 1/√B                            (7)
Shapes    x, g (2,), or any · a walk (steps + 1, 2) · X (N, C), y (N,)
Pitfalls  (1) wants η < 2/λ for the steepest direction, and then crawls along the flattest.
          At a constant rate a small batch never arrives: it dances around the minimum, at a
          distance that goes with √(η/B). With a rate that shrinks it does arrive.
          Rows sorted by anything make batches that point somewhere else: shuffle, every epoch.
          AdaGrad's s only grows: after a while it hardly moves. RMSProp forgets, Adam corrects the
          zeros it started from.
          A saddle is flat without being a minimum: plain descent may rest on it for long.
Cost      One gradient a step: all rows, or B of them. An epoch is N/B steps.
Try       build it    let the rate fall as 1/t. Does a batch of one arrive now?
          break it    leave out the hats of (6). How long is the first step then?
          measure it  python -m tinygrad_edu.ml.descent picture.png, and look
See       Robbins, Monro 1951 · Polyak 1964 · Nesterov 1983 · Duchi, Hazan, Singer 2011 (AdaGrad) ·
          Hinton 2012, lecture 6e (RMSProp) · Kingma, Ba 2015 (Adam)
"""

import sys
from collections import defaultdict

import numpy as np

from ..files.plots import plots

FAR = 1e6  # who is further out will not come back

# ---- surfaces: a point (2,) -> (height, slope) --------------------------------------------------


def bowl(x, steep=(1.0, 12.0)):
    """A bowl that is twelve times as steep in one direction as in the other, lowest at (0, 0)."""
    slope = np.array(steep) * x
    return slope @ x / 2, slope


def valley(x):
    """A valley with steep walls that bends, lowest at (1, 1): Rosenbrock's, a tenth as steep."""
    across = x[1] - x[0] ** 2
    along = 1 - x[0]
    height = 10 * across**2 + along**2
    slope = -40 * x[0] * across - 2 * along, 20 * across
    return height, np.array(slope)


def saddle(x):
    """Down along one axis, up along the other; beyond, two minima at (±1, 0)."""
    double = x[0] ** 2 - 1
    height = double**2 / 4 + x[1] ** 2 / 2
    return height, np.array([x[0] * double, x[1]])


def waves(x):
    """A bowl with ripples: many minima, the lowest at (0, 0)."""
    height = x @ x / 8 + np.sum(1 - np.cos(3 * x)) / 4
    return height, x / 4 + 0.75 * np.sin(3 * x)


# name -> (surface, where to start, which part to draw: x from, x to, y from, y to)
SURFACES = {
    "bowl": (bowl, (-1.8, 1.0), (-2, 2, -1.5, 1.5)),
    "valley": (valley, (-1.2, 1.0), (-2, 2, -1, 3)),
    "saddle": (saddle, (0.01, 1.2), (-1.6, 1.6, -1.5, 1.5)),
    "waves": (waves, (-2.6, 1.9), (-3, 3, -3, 3)),
}


# ---- rules: what was remembered, a slope, a rate -> the step ------------------------------------
# A rule may write into `memory` what it likes; all that it has not written yet is 0.

KEEP, KEEP_SQUARES = 0.9, 0.95  # β and β₁; γ and β₂
TINY = 1e-8  # ε


def plain(memory, g, rate):
    """(1)"""
    return -rate * g                                                                          # (1)


def momentum(memory, g, rate):
    """(2)"""
    memory["v"] *= KEEP
    memory["v"] += g                                                                          # (2)
    return -rate * memory["v"]


def nesterov(memory, g, rate):
    """(3): the slope where momentum will have taken us, as if from there."""
    memory["v"] *= KEEP
    memory["v"] += g
    ahead = g + KEEP * memory["v"]                                                            # (3)
    return -rate * ahead


def adagrad(memory, g, rate):
    """(4)"""
    memory["s"] += g * g                                                                      # (4)
    return -rate * g / (np.sqrt(memory["s"]) + TINY)


def rmsprop(memory, g, rate):
    """(5)"""
    memory["s"] *= KEEP_SQUARES
    memory["s"] += (1 - KEEP_SQUARES) * g * g                                                 # (5)
    return -rate * g / (np.sqrt(memory["s"]) + TINY)


def adam(memory, g, rate):
    """(6)"""
    memory["t"] += 1
    memory["m"] *= KEEP
    memory["m"] += (1 - KEEP) * g
    memory["s"] *= KEEP_SQUARES
    memory["s"] += (1 - KEEP_SQUARES) * g * g
    m = memory["m"] / (1 - KEEP ** memory["t"])
    s = memory["s"] / (1 - KEEP_SQUARES ** memory["t"])
    return -rate * m / (np.sqrt(s) + TINY)                                                    # (6)


RULES = {
    "plain": plain,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
}
# Rates that go well on each surface, found by trying; for the picture and the measurement.
RATES = {
    "bowl": (0.14, 0.02, 0.02, 0.6, 0.08, 0.25),
    "valley": (0.015, 0.005, 0.005, 0.7, 0.05, 0.2),
    "saddle": (0.3, 0.1, 0.1, 0.4, 0.05, 0.1),
    "waves": (0.3, 0.1, 0.1, 1.0, 0.1, 0.3),
}


def walk(rule, surface, start, rate, steps):
    """The points (steps + 1, 2) of a way down; cut short where it leaves for infinity."""
    memory = defaultdict(float)
    x = np.array(start, dtype=np.float64)
    points = [x]
    for _ in range(steps):
        _, slope = surface(x)
        x = x + rule(memory, slope, rate)
        if not np.abs(x).max() < FAR:
            break
        points.append(x)
    return np.array(points)


# ---- rows: all of them, a few, or one ------------------------------------------------------------

def batches(N, size, random):
    """The numbers 0 … N − 1 in random order, cut into pieces of `size`; the last may be shorter."""
    order = random.permutation(N)
    return [order[i : i + size] for i in range(0, N, size)]


def fit_line(X, y, size, epochs, rate, rule=plain, seed=0):
    """Least squares by descent: the weights after each step (steps + 1, C).

    size: rows that a step sees: N (batch), a few (mini-batch), 1 (stochastic). The cost is the mean
    of (x·w − y)²/2, whose slope is estimated from those rows: (7).
    """
    random = np.random.default_rng(seed)
    memory = defaultdict(float)
    w = np.zeros(X.shape[1])
    path = [w]
    for _ in range(epochs):
        for rows in batches(len(X), size, random):
            some = X[rows]
            error = some @ w - y[rows]
            slope = error @ some / len(rows)                                                  # (7)
            w = w + rule(memory, slope, rate)
            path.append(w)
    return np.array(path)


# ---- pictures -----------------------------------------------------------------------------------

def draw_walks(target, steps=60):
    """Write a picture: each rule on each surface, and batches of some sizes on one line."""
    pyplot = plots()
    shape = len(SURFACES) + 1, len(RULES)
    figure, axes = pyplot.subplots(*shape, figsize=(15, 12.5))
    figure.subplots_adjust(0.025, 0.01, 0.995, 0.975, wspace=0.04, hspace=0.13)
    for row, name in zip(axes, SURFACES, strict=False):
        surface, start, frame = SURFACES[name]
        heights = heights_of(surface, frame)
        row[0].set_ylabel(name)
        for panel, rule, rate in zip(row, RULES, RATES[name], strict=True):
            path = walk(RULES[rule], surface, start, rate, steps)
            draw_panel(panel, heights, frame, path)
            panel.set_title(f"{rule}, rate {rate}", fontsize=9)
    draw_batches(axes[-1], steps)
    figure.savefig(target, dpi=90)
    pyplot.close(figure)


def draw_batches(panels, steps):
    """The plain rule on one cost, by batches of different size at different rates."""
    X, y = line_data()
    best, *_ = np.linalg.lstsq(X, y, rcond=None)
    frame = -0.5, 2.5, -2, 1
    heights = heights_of(lambda w: (np.mean((X @ w - y) ** 2), None), frame)
    panels[0].set_ylabel("a line, by batches")
    choices = [(len(X), 0.5), (32, 0.5), (8, 0.5), (8, 0.05), (1, 0.2), (1, 0.05)]
    for panel, (size, rate) in zip(panels, choices, strict=True):
        epochs = 1 + steps * size // len(X)
        path = fit_line(X, y, size, epochs, rate)
        draw_panel(panel, heights, frame, path[: steps + 1])
        panel.plot(*best, "*", color="black", ms=9)
        panel.set_title(f"rows a step: {size}, rate {rate}", fontsize=9)


def heights_of(surface, frame, points=60):
    """(points, points) heights of a surface over a frame; a row has one y."""
    left, right, low, high = frame
    xs = np.linspace(left, right, points)
    ys = np.linspace(low, high, points)
    return np.array([[surface(np.array([x, y]))[0] for x in xs] for y in ys])


def draw_panel(panel, heights, frame, path):
    """One walk on the contour lines of its surface."""
    shades = np.log(heights - heights.min() + 0.02)
    panel.contourf(shades, 20, extent=frame, cmap="Greys", alpha=0.5)
    panel.plot(*path.T, ".-", color="C3", lw=1, ms=3)
    panel.plot(*path[0], "o", color="black", ms=4)
    panel.set(xlim=frame[:2], ylim=frame[2:])
    panel.set(xticks=[], yticks=[])


def line_data(N=200, seed=1):
    """Points around y = 1.5·x₀ − x₁: X (N, 2), its second column less spread, and y."""
    random = np.random.default_rng(seed)
    X = random.standard_normal((N, 2)) * [1.0, 0.6]
    return X, X @ [1.5, -1.0] + 0.5 * random.standard_normal(N)


def _measure(steps=60):
    if len(sys.argv) > 1:
        draw_walks(sys.argv[1], steps)
    for name, (surface, start, _) in SURFACES.items():
        print(f"{name:<8}", end="")
        for rule, rate in zip(RULES, RATES[name], strict=True):
            path = walk(RULES[rule], surface, start, rate, steps)
            height, _ = surface(path[-1])
            print(f" {rule}={height:.2g}", end="")
        print()


if __name__ == "__main__":
    _measure()
