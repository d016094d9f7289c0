"""Lesson 4.96 · Pictures: what a model believes, where it errs, whether more rows would help

Needs curves. Used by scripts/classical.py.

Idea      A table of scores says which model is better; a picture says why. The regions that a model
          cuts the plane into show its language: lines, steps, islands. The confusion matrix shows
          which classes it takes for one another. A learning curve shows what more rows would bring,
          a calibration curve whether its 70 % mean 70 %, and a tree can be drawn as it is.
Math      a region: predict on a grid of points; its shade: the probability of the class there  (1)
          a tree: leaves at 0, 1, 2 … from left to right, a node above the middle of its two    (2)
Shapes    X (N, 2) for regions · matrices (K, K) · every function draws into axes of matplotlib
Pitfalls  A picture of two columns of thirty shows a model of two columns.
          A band of one standard deviation over folds is no interval for the mean.
          Colours alone do not tell classes apart for everybody: so classes also have a marker, and
          cells their number.
Cost      (1) predicts at 40,000 points: slow for nearest neighbours, nothing for a line.
Try       build it    a picture of the errors alone: the rows that all models get wrong.
          break it    predict on a grid of raw columns where the model has seen scaled ones.
          measure it  python scripts/classical.py classify --data moons --pictures runs/moons
See       Tufte 1983 · Hastie, Tibshirani, Friedman 2009, ch. 2 (regions)
"""

import numpy as np

from .curves import calibration_bins, precision_recall_curve, roc_curve

MARKERS = "osD^vPX*<>"
COLORS = ["#3b6fb6", "#d9782d", "#4a9a5b", "#b5485d", "#7a5ca8", "#8c6d3f", "#c774b2", "#6f6f6f",
          "#a8a432", "#3aa5b5"]


def plots():
    """Matplotlib's pyplot, drawing into files; ImportError in one sentence where it is missing."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install -e '.[pictures]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def scatter(axes, X, y, names, size=14):
    """Rows as points of the plane, a colour and a marker for each class."""
    for k, name in enumerate(names):
        mine = y == k
        axes.scatter(*X[mine].T, s=size, c=COLORS[k % 10], marker=MARKERS[k % 10], linewidths=0.4,
                     edgecolors="white", label=name)


def frame(X, margin=0.08):
    """(low, high) of both columns, with some room around the points."""
    low, high = X.min(0), X.max(0)
    room = margin * (high - low) + 1e-9
    return low - room, high + room


def regions(axes, model, X, y, names, steps=200):
    """What a classifier, fitted on two columns, says everywhere, (1); y numbers 0 … K − 1."""
    low, high = frame(X)
    xs, ys = (np.linspace(a, b, steps) for a, b in zip(low, high, strict=True))
    points = np.array(np.meshgrid(xs, ys)).reshape(2, -1).T
    shade = np.full((steps * steps, 4), 0.45)
    label = np.searchsorted(model.classes_, model.predict(points))
    if hasattr(model, "predict_proba"):
        shade[:, 3] = 0.06 + 0.5 * model.predict_proba(points).max(1) ** 2
    rgb = np.array([[int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)] for color in COLORS])
    shade[:, :3] = rgb[model.classes_[label] % 10]
    axes.imshow(shade.reshape(steps, steps, 4), origin="lower", aspect="auto",
                extent=(low[0], high[0], low[1], high[1]), interpolation="nearest")
    scatter(axes, X, y, names)
    axes.set(xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def confusion(axes, matrix, names):
    """A confusion matrix: the shade is the share of the row, the number the count."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(matrix.shape):
        if matrix[i, j]:
            axes.text(j, i, f"{matrix[i, j]:g}", ha="center", va="center", fontsize=8,
                      color="white" if shares[i, j] > 0.5 else "black")
    ticks = range(len(names))
    axes.set(xticks=ticks, yticks=ticks, xlabel="called", ylabel="is")
    axes.set_xticklabels(names, rotation=45 if max(map(len, names)) > 3 else 0,
                         ha="right" if max(map(len, names)) > 3 else "center")
    axes.set_yticklabels(names)


def operating_curves(axes, y, probabilities):
    """ROC, PR and calibration curves, three axes; probabilities: {name: (N,) of the case 1}."""
    roc, pr, calibration = axes
    for i, (name, proba) in enumerate(probabilities.items()):
        roc.plot(*roc_curve(y, proba)[:2], color=f"C{i}", lw=1.3, label=name)
        precision, recall, _ = precision_recall_curve(y, proba)
        pr.step(recall, precision, where="post", color=f"C{i}", lw=1.3)
        share, mean, rows = calibration_bins(y, proba)
        calibration.plot(mean, share, "-", color=f"C{i}", lw=1)
        calibration.scatter(mean, share, s=6 + 120 * rows / rows.sum(), color=f"C{i}")
    roc.plot([0, 1], [0, 1], ":", color="grey", lw=1)
    calibration.plot([0, 1], [0, 1], ":", color="grey", lw=1)
    pr.axhline(np.mean(y), ls=":", color="grey", lw=1)
    roc.set(xlabel="false alarms, share of the others", ylabel="found, share of the cases",
            title="ROC")
    pr.set(xlabel="found, share of the cases", ylabel="right, share of the alarms", ylim=(0, 1.03),
           title="precision and recall")
    calibration.set(xlabel="what it said", ylabel="what happened", title="calibration (dot: rows)")
    roc.legend(fontsize=8, loc="lower right")


def learning(axes, sizes, train, test, name, quantity):
    """Scores on rows learned from and on others over the number of rows; band: one deviation."""
    for scores, label, color in [(train, "rows learned from", COLORS[1]),
                                 (test, "other rows", COLORS[0])]:
        mean, spread = scores.mean(1), scores.std(1)
        axes.plot(sizes, mean, "o-", color=color, ms=3.5, lw=1.3, label=label)
        axes.fill_between(sizes, mean - spread, mean + spread, color=color, alpha=0.18, lw=0)
    axes.set(xlabel="rows to learn from", ylabel=quantity, title=name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")


def against_truth(axes, y, guess, name):
    """Numbers as they are and as they were foreseen; on the diagonal they are the same."""
    both = np.array([min(y.min(), guess.min()), max(y.max(), guess.max())])
    axes.plot(both, both, ":", color="grey", lw=1)
    axes.scatter(y, guess, s=12, color=COLORS[0], alpha=0.6, linewidths=0)
    axes.set(xlabel="is", ylabel="foreseen", title=name)


# ---- trees ------------------------------------------------------------------------------------


def tree(axes, nodes, feature_names, target_names, depth=4):
    """A grown tree (its nodes) down to a depth; below, an ellipsis. No target_names: of numbers."""
    places = {}
    place_nodes(nodes, 0, 0, depth, places, [0])
    for node, (x, level) in places.items():
        asks = nodes.left[node] in places
        for child in (nodes.left[node], nodes.right[node]) if asks else ():
            axes.plot([x, places[child][0]], [-level, -places[child][1]], color="#999999", lw=0.9,
                      zorder=1)
        text, color = describe(nodes, node, asks, feature_names, target_names)
        axes.text(x, -level, text, ha="center", va="center", fontsize=7, zorder=2,
                  bbox={"boxstyle": "round,pad=0.35", "fc": color, "ec": "#666666", "lw": 0.6})
    deepest = max(level for _, level in places.values())
    right = max(x for x, _ in places.values())
    axes.set(xlim=(-0.6, right + 0.6), ylim=(-deepest - 0.5, 0.5))
    axes.axis("off")
    return right, deepest


def place_nodes(nodes, node, level, depth, places, free):
    """The place of a node and of those below it, (2); free[0] is the next place for a leaf."""
    left, right = nodes.left[node], nodes.right[node]
    if left < 0 or level == depth:
        places[node] = (free[0], level)
        free[0] += 1
        return
    for child in (left, right):
        place_nodes(nodes, child, level + 1, depth, places, free)
    places[node] = ((places[left][0] + places[right][0]) / 2, level)


def describe(nodes, node, asks, feature_names, target_names):
    """(text, colour) of a node: its question or its answer, and how many rows came to it."""
    value, rows = nodes.value[node], nodes.rows[node]
    cut_off = nodes.left[node] >= 0 and not asks
    if target_names:
        k = int(np.argmax(value))
        answer, color = target_names[k], COLORS[k % 10]
        whiteness = 1 - 0.65 * max(0.0, (value[k] - 1 / len(value)) * len(value)
                                   / max(1, len(value) - 1))
        parts = (int(color[i:i + 2], 16) / 255 for i in (1, 3, 5))
        color = tuple(whiteness + (1 - whiteness) * part for part in parts)
    else:
        answer, color = f"{value[0]:.3g}", "#eef3fa"
    if asks:
        answer = f"{feature_names[nodes.feature[node]]} ≤ {nodes.cut[node]:.3g}?"
    return f"{answer}\n{rows} rows" + ("\n…" if cut_off else ""), color
