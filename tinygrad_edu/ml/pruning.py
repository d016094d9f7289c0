"""Lesson 4.72 · A grown tree: walking down, and pruning

Needs growing, kernel, memory. Used by tree.

Idea      A grown tree is a table of questions. To predict, a row starts at the top, answers, goes
          left or right, and ends in a leaf. Left alone, a tree grows until it knows every training
          row by heart, noise included. Stopping early is no remedy: a question that gains nothing
          may lead to two that gain everything. So one lets it grow, and then takes back the
          questions that gained least for the leaves they cost, weakest first, until a gain of α a
          leaf is reached.
Math      leaf(x) = follow left if x[feature] ≤ cut, else right, until there is no child        (1)
          R(t) = weight(t)/weight(all) · impurity(t), the risk of node t if it were a leaf      (2)
          α(t) = (R(t) − Σ R of the leaves below t) / (number of leaves below t − 1)            (3)
          pruned for α: while the smallest α(t) is at most α, make that t a leaf                (4)
          importance[f] = Σ over nodes t asking for f of R(t) − R(left) − R(right), sum 1       (5)
Shapes    a tree of M nodes: feature, cut, left, right, impurity, rows, weight (M,) and value (M, K)
          in the order of a walk that goes left first, children after their parent
Pitfalls  After a step of (4) only the nodes above have another α(t): to compute all anew makes
          pruning a tree of 20,000 leaves hopeless.
          The trees for growing α are nested, so there are finitely many of them: choose α by
          cross-validation among the steps of the path, not on a grid.
          Importance (5) favours features with many values, since they offer more cuts, and it is
          found on the training rows: see permutation_importance in lesson inspection.
Cost      Walking: as many steps as the tree is deep. A step of pruning looks for the smallest of M
          numbers and goes up to the root.
Try       build it    prune with a second set of rows instead: while its error does not rise, make
                      a leaf (reduced-error pruning). Which tree is smaller?
          break it    let prune stop at < instead of <=. Which test notices?
          measure it  how does the score on held-out rows change along the path?
See       Breiman, Friedman, Olshen, Stone 1984, chapter 3 · Louppe 2014 "Understanding Random
          Forests", chapter 6
"""

import math
from typing import NamedTuple

import numpy as np

from ..kernel import Kernel
from ..memory import empty
from .growing import LEAF


@Kernel
def find_leaves(leaf, x, feature, cut, left, right):
    """(1) for all rows at once: a step down for each that is not at a leaf yet."""
    leaf[...] = 0
    walking = np.flatnonzero(left[leaf] != LEAF)
    while walking.size:
        node = leaf[walking]
        goes = x[walking, feature[node]] <= cut[node]
        leaf[walking] = np.where(goes, left[node], right[node])
        walking = walking[left[leaf[walking]] != LEAF]


@find_leaves.body("numba", rows="leaf x")
def find_leaves_numba(leaf, x, feature, cut, left, right):
    for n in range(len(x)):
        node = 0
        while left[node] != LEAF:                                                             # (1)
            node = left[node] if x[n, feature[node]] <= cut[node] else right[node]
        leaf[n] = node


class Tree(NamedTuple):
    """The nodes of a tree; left and right are LEAF at its leaves."""

    feature: np.ndarray
    cut: np.ndarray
    left: np.ndarray
    right: np.ndarray
    impurity: np.ndarray
    rows: np.ndarray
    weight: np.ndarray
    value: np.ndarray

    def leaves_of(self, x):
        """The number of the leaf where each row of x (N, F) float32 ends."""
        leaf = empty(len(x), np.int64)
        find_leaves(leaf, x, self.feature, self.cut, self.left, self.right)
        return leaf

    def inner(self):
        """The numbers of the nodes that ask."""
        return np.flatnonzero(self.left != LEAF)

    def depth(self):
        """How many questions the longest way down has."""
        depth = np.zeros(len(self.left), np.int64)
        for node in self.inner():  # children come after their parent
            depth[[self.left[node], self.right[node]]] = depth[node] + 1
        return int(depth.max())

    def importances(self, features):
        """(5), (features,); zeros where the tree is one leaf, or no cut gained anything."""
        t = self.inner()
        risk = self.weight * self.impurity / self.weight[0]                                   # (2)
        gain = risk[t] - risk[self.left[t]] - risk[self.right[t]]
        found = np.bincount(self.feature[t], gain, minlength=features)
        return found / found.sum() if found.sum() > 0 else found


# ---- pruning ------------------------------------------------------------------------------------


def prune(tree, alpha=math.inf):
    """(pruned Tree, path): (4); path lists (α, risk of the tree) before and after every step."""
    size = len(tree.left)
    risk = tree.weight * tree.impurity / tree.weight[0]                                       # (2)
    parent = np.full(size, LEAF)
    below, leaves = risk.copy(), np.ones(size)  # sums over the leaves below each node
    asks = tree.left != LEAF
    for node in tree.inner()[::-1]:
        children = [tree.left[node], tree.right[node]]
        parent[children] = node
        below[node], leaves[node] = below[children].sum(), leaves[children].sum()
    weakness = np.full(size, math.inf)
    weakness[asks] = (risk[asks] - below[asks]) / (leaves[asks] - 1)                          # (3)
    path = [(0.0, below[0])]
    while np.min(weakness) <= alpha and asks[0]:
        node = np.argmin(weakness)
        smallest = weakness[node]
        gone = subtree(tree, asks, node)
        asks[gone], weakness[gone] = False, math.inf
        rise, fewer = risk[node] - below[node], leaves[node] - 1
        while node != LEAF:
            below[node] += rise
            leaves[node] -= fewer
            if asks[node]:
                weakness[node] = (risk[node] - below[node]) / (leaves[node] - 1)
            node = parent[node]
        path.append((smallest, below[0]))
    return keep_nodes(tree, asks), path


def subtree(tree, asks, node):
    """The number of `node` and of every node that can still be reached from it."""
    todo, found = [node], []
    while todo:
        node = todo.pop()
        found.append(node)
        if asks[node]:
            todo += [tree.left[node], tree.right[node]]
    return found


def keep_nodes(tree, asks):
    """The tree in which only the nodes marked in `asks` have children."""
    kept = np.sort(subtree(tree, asks, 0))
    number = np.full(len(tree.left), LEAF)
    number[kept] = np.arange(len(kept))
    asks = asks[kept]
    pruned = Tree(*(array[kept] for array in tree))
    return pruned._replace(
        feature=np.where(asks, pruned.feature, 0), cut=np.where(asks, pruned.cut, 0),
        left=np.where(asks, number[pruned.left], LEAF),
        right=np.where(asks, number[pruned.right], LEAF))
