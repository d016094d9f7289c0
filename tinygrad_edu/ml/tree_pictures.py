"""Lesson 4.98 · Tree pictures: a decision tree, drawn

Needs pictures, pruning. Used by scripts/classical.py.

Idea      A tree is the one model that can be shown to somebody who has to decide by it. The
          questions stand where they are asked, the answers at the bottom. A box has the colour of
          the class that most of its rows belong to, the stronger the fewer others there are: so one
          sees at a glance which branch has settled the matter and which has not.
Math      leaves at 0, 1, 2 … from left to right; a node above the middle of its two children   (1)
          strength of a colour = (p − 1/K)/(1 − 1/K), p the share of the main class among K     (2)
Shapes    nodes: a Tree of lesson pruning · places: node → (from left, depth)
Pitfalls  A tree of depth 10 has up to 1,024 leaves and no picture: it is cut off at a depth, with
          an ellipsis where something is left out.
          In children made of one class both answers are the same: the question was asked since it
          makes one of them purer.
Cost      As many boxes as are drawn.
Try       build it    lines as thick as the rows that go along them.
          break it    let (1) put a node above its left child. Which test notices?
          measure it  python scripts/classical.py tree --data iris --pictures runs/iris
See       Breiman, Friedman, Olshen, Stone 1984 · Reingold, Tilford 1981 (tidier trees)
"""

import numpy as np

from .pictures import COLORS, CROWD, rgb
from .pruning import LEAF

BOX = {"boxstyle": "round,pad=0.35", "edgecolor": "#666666", "linewidth": 0.6}


def draw_tree(axes, nodes, feature_names, target_names, depth=4):
    """Draw a tree down to a depth: (width, height) in boxes.

    target_names: of the classes; none where the leaves are numbers.
    """
    places = places_of(nodes, depth)
    for node, (x, level) in places.items():
        for child in children_of(nodes, node):
            if child in places:
                end, below = places[child]
                axes.plot([x, end], [-level, -below], color="#999999", lw=0.9, zorder=1)
        text = text_of(nodes, node, level == depth, feature_names, target_names)
        box = {**BOX, "facecolor": color_of(nodes.value[node], target_names)}
        axes.text(x, -level, text, ha="center", va="center", fontsize=7, zorder=2, bbox=box)
    width = max(x for x, _ in places.values()) + 1
    height = max(level for _, level in places.values()) + 1
    axes.set_xlim(-0.6, width - 0.4)
    axes.set_ylim(0.5 - height, 0.5)
    axes.axis("off")
    return width, height


def children_of(nodes, node):
    """The two nodes below, none below a leaf."""
    if nodes.left[node] == LEAF:
        return []
    return [int(nodes.left[node]), int(nodes.right[node])]


def places_of(nodes, depth):
    """{node: (from left, depth)} of all nodes down to a depth, (1)."""
    places, free = {}, 0

    def put(node, level):
        nonlocal free
        children = children_of(nodes, node) if level < depth else []
        for child in children:
            put(child, level + 1)
        if children:
            x = np.mean([places[child][0] for child in children])                             # (1)
        else:
            x, free = free, free + 1
        places[node] = (x, level)

    put(0, 0)
    return places


def text_of(nodes, node, is_last_row, feature_names, target_names):
    """What stands in a box: a question or an answer, and how many rows came here."""
    value, rows = nodes.value[node], f"{nodes.rows[node]} rows"
    is_leaf = nodes.left[node] == LEAF
    if is_leaf or is_last_row:
        answer = target_names[np.argmax(value)] if target_names else short(value[0])
        more = "" if is_leaf else "\n…"
        return f"{answer}\n{rows}{more}"
    name = feature_names[nodes.feature[node]]
    return f"{name} ≤ {short(nodes.cut[node])}?\n{rows}"


def short(number):
    """Three digits, but all in front of the point."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def color_of(value, target_names):
    """The colour of the main class, mixed with white by (2); one colour where there are none."""
    if not target_names:
        return "#eef3fa"
    k, even = np.argmax(value), 1 / len(target_names)
    strength = (value[k] - even) / max(1 - even, 1e-9)                                        # (2)
    thickness = 0.65 * max(strength, 0.0)
    return tuple(1 - thickness + thickness * rgb(COLORS[k % CROWD]))
