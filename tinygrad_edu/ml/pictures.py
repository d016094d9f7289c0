"""Lesson 4.97 · Pictures: what a model believes, where it errs, whether more rows would help

Needs curves. Used by tree_pictures, scripts/classical.py.

Idea      A table of scores says which model is better; a picture says why. The regions that a model
          cuts the plane into show its language: lines, steps, islands. The confusion matrix shows
          which classes it takes for one another. A learning curve shows what more rows would bring,
          a calibration curve whether its 70 % mean 70 %.
Math      a region: what is predicted on a grid of points; its shade: the probability there     (1)
          both ends of an axis: 8 % of the width beyond the outermost points                    (2)
Shapes    X (N, 2) for regions · y (N,) numbers of classes · matrices (K, K) · every function draws
          into axes of matplotlib, which the caller has made and will save
Pitfalls  A picture of two columns of thirty shows a model of two columns.
          A band of one standard deviation over folds is no interval for the mean.
          Colours alone do not tell classes apart for everybody: so classes have markers too, and
          cells their number.
          The steps of a PR curve go back from a point: at each recall the precision is that of the
          threshold which reaches it.
Cost      (1) predicts at 40,000 points: slow for nearest neighbours, nothing for a line.
Try       build it    a picture of the errors alone: the rows that all models get wrong.
          break it    predict on a grid of raw columns where the model has seen scaled ones.
          measure it  python scripts/classical.py classify --data moons --pictures runs/moons
See       Tufte 1983 · Hastie, Tibshirani, Friedman 2009, ch. 2 (regions)
"""

import numpy as np

from .curves import calibration_bins, precision_recall_curve, roc_curve

MARKERS = "osD^vPXp<>"
COLORS = [
    "#3b6fb6", "#d9782d", "#4a9a5b", "#b5485d", "#7a5ca8",
    "#8c6d3f", "#c774b2", "#6f6f6f", "#a8a432", "#3aa5b5",
]
CROWD = 10  # classes: beyond, colours and markers begin anew


def rgb(color):
    """The three shares of red, green and blue in a colour such as #3b6fb6."""
    return np.array([int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)])


def scatter(axes, X, y, names, size=14):
    """Rows as points of the plane, a colour and a marker for each class."""
    for k, name in enumerate(names):
        place = X[y == k]
        axes.scatter(
            *place.T,
            s=size,
            c=COLORS[k % CROWD],
            marker=MARKERS[k % CROWD],
            linewidths=0.4,
            edgecolors="white",
            label=name,
        )


def frame(X, margin=0.08):
    """(low, high) of both columns, with some room around the points, (2)."""
    low, high = X.min(0), X.max(0)
    room = margin * (high - low) + 1e-9  # where all points are one, there is room too
    return low - room, high + room


def regions(axes, model, X, y, names, steps=200):
    """What a classifier, fitted on two columns, says everywhere, (1)."""
    low, high = frame(X)
    xs = np.linspace(low[0], high[0], steps)
    ys = np.linspace(low[1], high[1], steps)
    points = np.array(np.meshgrid(xs, ys)).reshape(2, -1).T
    colors = np.array([rgb(color) for color in COLORS])
    answer = model.predict(points)                                                            # (1)
    shade = np.full((steps * steps, 4), 0.45)  # red, green, blue, and how thick
    shade[:, :3] = colors[answer % CROWD]
    if hasattr(model, "predict_proba"):
        sure = model.predict_proba(points).max(1)
        shade[:, 3] = 0.06 + 0.5 * sure**2
    # imshow counts rows of a picture from above, a plane counts y from below: "lower".
    axes.imshow(
        shade.reshape(steps, steps, 4),
        origin="lower",
        aspect="auto",
        extent=(low[0], high[0], low[1], high[1]),
        interpolation="nearest",
    )
    scatter(axes, X, y, names)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set(xticks=[], yticks=[])


def confusion(axes, matrix, names):
    """A confusion matrix: the shade is the share of the row, the number the count."""
    rows = matrix.sum(1, keepdims=True)
    shares = matrix / np.maximum(rows, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(matrix.shape):
        color = "white" if shares[i, j] > 0.5 else "black"
        text = str(matrix[i, j] or "")
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color=color)
    ticks = range(len(names))
    axes.set(xticks=ticks, yticks=ticks, xlabel="called", ylabel="is")
    axes.set_yticklabels(names)
    axes.set_xticklabels(names)
    if max(map(len, names)) > 3:
        axes.set_xticklabels(names, rotation=45, ha="right")


# ---- curves -----------------------------------------------------------------------------------


def operating_curves(axes, y, probabilities):
    """ROC, PR and calibration curves, three axes; probabilities: {name: (N,) of class 1}."""
    roc, pr, calibration = axes
    for i, (name, proba) in enumerate(probabilities.items()):
        color = COLORS[i % CROWD]
        fpr, tpr, _ = roc_curve(y, proba)
        roc.plot(fpr, tpr, color=color, lw=1.3, label=name)
        precision, recall, _ = precision_recall_curve(y, proba)
        pr.step(recall, precision, where="post", color=color, lw=1.3)
        share, mean, rows = calibration_bins(y, proba)
        size = 6 + 120 * rows / rows.sum()
        calibration.plot(mean, share, color=color, lw=1)
        calibration.scatter(mean, share, s=size, color=color)
    for panel in (roc, calibration):  # by guessing; where what is said comes true
        panel.plot([0, 1], [0, 1], ":", color="grey", lw=1)
    pr.axhline(np.mean(y), ls=":", color="grey", lw=1)
    pr.set_ylim(0, 1.03)
    label(roc, "ROC", "false alarms, share of the others", "found, share of the cases")
    label(pr, "precision and recall", "found, share of the cases", "right, share of the alarms")
    label(calibration, "calibration (dot: rows)", "what it said", "what happened")
    roc.legend(fontsize=8, loc="lower right")


def label(axes, title, x, y):
    """The words around a panel."""
    axes.set(title=title, xlabel=x, ylabel=y)


def learning(axes, sizes, train, test, name, quantity):
    """Scores on rows learned from and on others over the number of rows; band: one deviation."""
    lines = [(train, "rows learned from", COLORS[1]), (test, "other rows", COLORS[0])]
    for scores, words, color in lines:
        mean, spread = scores.mean(1), scores.std(1)
        low = mean - spread
        high = mean + spread
        high = np.minimum(high, 1)  # neither R² nor a share can be more
        axes.plot(sizes, mean, "o-", color=color, ms=3.5, lw=1.3, label=words)
        axes.fill_between(sizes, low, high, color=color, alpha=0.18, lw=0)
    label(axes, name, "rows to learn from", quantity)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")


def against_truth(axes, y, guess, name):
    """Numbers as they are and as they were foreseen; on the diagonal they are the same."""
    both = np.append(y, guess)
    ends = [both.min(), both.max()]
    axes.plot(ends, ends, ":", color="grey", lw=1)
    axes.scatter(y, guess, s=12, color=COLORS[0], alpha=0.6, linewidths=0)
    label(axes, name, "is", "foreseen")
