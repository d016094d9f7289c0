"""Lesson 4.73 · Decision trees: questions that one can read

Needs cuts, estimator, growing, inputs, pruning, ranks. Used by forest, neighbours, boosting.

Idea      A decision tree for classes says what share of the training rows in its leaf had which
          class; a tree for numbers says their mean. Nothing has to be scaled, no two features are
          ever added, a monotone change of a feature changes nothing, and the whole model can be
          printed and argued about. This file puts growing (where to cut) and pruning (where to
          stop) behind fit and predict.
Math      predict_proba(x) = shares of the classes in leaf(x)      predict = the largest        (1)
          predict(x) = mean of y in leaf(x), for numbers                                        (2)
Shapes    X (N, F) float32 · y (N,) labels or numbers · predict_proba (N, K)
Pitfalls  A tree that is not limited fits noise: its depth, rows a leaf or ccp_alpha want to be
          chosen by cross-validation.
          A few rows more, and the first question may change, and all below it: read a tree as one
          of many that would do (lesson forest).
          Values are compared in float32, as in scikit-learn: two that differ less are one.
          Beyond the range of the training rows a tree goes on with the mean of its last leaf: a
          trend does not continue.
          random_state matters although nothing is drawn at max_features=None: the order of the
          features decides ties.
Cost      20,000 rows, 40 features: python scripts/bench_ml.py tree --vs sklearn
Try       build it    surrogate cuts: where the value is missing, ask the feature whose cut agrees
                      best with this one.
          break it    feed ranks of X instead of X to fit and predict. Which predictions change?
          measure it  python scripts/bench_ml.py tree --vs sklearn
See       Breiman, Friedman, Olshen, Stone 1984 · scikit-learn's DecisionTreeClassifier, whose
          settings and trees these are
"""

import math
from numbers import Integral

import numpy as np

from .cuts import CRITERIA, DEPTH, ENTROPY, LEAST, SQUARED
from .estimator import Classifier, Regressor
from .growing import LEAF, empty_nodes, grow_tree
from .inputs import check_random_state
from .pruning import Tree, prune
from .ranks import ranked

SEEDS = 2**31 - 1  # where the generator of lesson ranks may start: 0 … SEEDS − 1


def grow(rank, levels, y, w, classes, criterion, limits, max_features, seed):
    """A Tree on ranked features; limits: what `limits_of` returns. classes: 1 for numbers."""
    most = 2 * max(1, int(np.count_nonzero(w) / limits[LEAST])) - 1
    if limits[DEPTH] < 30:
        most = min(most, 2 ** (int(limits[DEPTH]) + 1) - 1)
    nodes = empty_nodes(most, classes)
    grow_tree(*nodes, rank, levels, y, w, criterion, limits, max_features, seed)
    count = np.count_nonzero(nodes[5])
    return Tree(*(array[:count].copy() for array in nodes))


def old_generator(seed):
    """A RandomState: NumPy promises that its draws never change, and scikit-learn takes it too."""
    if isinstance(seed, np.random.RandomState):
        return seed
    generator = check_random_state(seed)  # refuses what is no seed
    if seed is None or generator is seed:
        return np.random.RandomState(generator.integers(2**31))
    return np.random.RandomState(seed)


def limits_of(model, w, criterion):
    """The limits of lesson cuts, (5,), from the settings of a tree or a forest."""
    n = len(w)
    depth = n if model.max_depth is None else model.number("max_depth", 1, whole=True)
    least = share_or_count(model, "min_samples_leaf", n, 1)
    split = max(2, share_or_count(model, "min_samples_split", n, 2))
    lightest = model.number("min_weight_fraction_leaf", 0, 0.5) * w.sum()
    gain = model.number("min_impurity_decrease", 0)
    if criterion == ENTROPY:  # impurities are in bits, scores have natural logarithms
        gain *= math.log(2)
    return np.array([min(depth, n), split, least, lightest, gain], np.float64)


def share_or_count(model, name, n, low):
    """A setting that is a number of rows, or as a float the share of n rows."""
    if isinstance(getattr(model, name), Integral):
        return int(model.number(name, low, whole=True))
    return math.ceil(model.number(name, 0, 1, open_low=True) * n)


def drawn_features(model, features):
    """How many features a node draws: max_features as a number, a share, a rule, or all."""
    wanted = model.max_features
    if wanted is None:
        return features
    if isinstance(wanted, str):
        rule = {"sqrt": math.sqrt, "log2": math.log2}[model.choice("max_features", "sqrt", "log2")]
        return max(1, int(rule(features)))
    if isinstance(wanted, Integral):
        return int(model.number("max_features", 1, whole=True))
    return max(1, int(model.number("max_features", 0, 1, open_low=True) * features))


class OneTree:
    """What a tree for classes and a tree for numbers share: growing, pruning, looking inside."""

    def grow(self, X, y, w, classes, criterion):
        """Fit the tree to checked data, and prune it."""
        alpha = self.number("ccp_alpha", 0)
        seed = old_generator(self.random_state).randint(SEEDS)
        self.max_features_ = drawn_features(self, X.shape[1])
        limits = limits_of(self, w, criterion)
        tree = grow(*ranked(X), y.astype(np.float64), w, classes, criterion, limits,
                    self.max_features_, seed)
        self.tree_ = prune(tree, alpha)[0] if alpha else tree
        return self

    def cost_complexity_pruning_path(self, X, y, sample_weight=None):
        """(α, risk of the tree pruned for it) for every step of pruning, two arrays."""
        whole = type(self)(**self.get_params() | {"ccp_alpha": 0.0}).fit(X, y, sample_weight)
        return tuple(np.array(prune(whole.tree_)[1]).T)

    def apply(self, X):
        """(N,) the number of the leaf where each row ends."""
        X = self.check_X(X, dtype=np.float32)
        return self.tree_.leaves_of(X)

    def get_depth(self):
        """How many questions the longest way down has."""
        self.check_fitted()
        return self.tree_.depth()

    def get_n_leaves(self):
        """How many leaves there are."""
        self.check_fitted()
        return int(np.sum(self.tree_.left == LEAF))

    @property
    def feature_importances_(self):
        """How much of the impurity each feature took away."""
        self.check_fitted()
        return self.tree_.importances(self.n_features_in_)


class DecisionTreeClassifier(OneTree, Classifier):
    """A tree for classes. criterion: "gini" or "entropy"; settings as in scikit-learn.

    max_features: features a node draws: a number, a share, "sqrt", "log2", or None for all.
    min_samples_split, min_samples_leaf: rows, or a share of them. ccp_alpha: α of lesson pruning.
    """

    def __init__(self, *, criterion="gini", max_depth=None, min_samples_split=2,
                 min_samples_leaf=1, min_weight_fraction_leaf=0.0, max_features=None,
                 random_state=None, min_impurity_decrease=0.0, ccp_alpha=0.0):
        keep_settings(self, locals())

    def fit(self, X, y, sample_weight=None):
        """Grow on X (N, F) and labels y (N,). Rows without weight do not count."""
        criterion = CRITERIA[self.choice("criterion", "gini", "entropy")]
        X, y, w = self.check_fit(X, y, sample_weight, dtype=np.float32)
        self.n_classes_ = len(self.classes_)
        return self.grow(X, y, w, self.n_classes_, criterion)

    def predict_proba(self, X):
        """(N, K) the shares of the classes in the leaf of each row."""
        leaf = self.apply(X)
        return self.tree_.value[leaf]                                                         # (1)

    def predict_log_proba(self, X):
        """The logarithm of predict_proba."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))


class DecisionTreeRegressor(OneTree, Regressor):
    """A tree for numbers, by squared error; settings as those of DecisionTreeClassifier."""

    def __init__(self, *, criterion="squared_error", max_depth=None, min_samples_split=2,
                 min_samples_leaf=1, min_weight_fraction_leaf=0.0, max_features=None,
                 random_state=None, min_impurity_decrease=0.0, ccp_alpha=0.0):
        keep_settings(self, locals())

    def fit(self, X, y, sample_weight=None):
        """Grow on X (N, F) and numbers y (N,). Rows without weight do not count."""
        self.choice("criterion", "squared_error")
        X, y, w = self.check_fit(X, y, sample_weight, dtype=np.float32)
        return self.grow(X, y, w, 1, SQUARED)

    def predict(self, X):
        """(N,) the mean of each row's leaf."""
        leaf = self.apply(X)
        return self.tree_.value[leaf, 0]                                                      # (2)


def keep_settings(model, arguments):
    """Store the arguments of __init__, given as its locals(), under their own names."""
    for name, value in arguments.items():
        if name not in ("self", "__class__"):
            setattr(model, name, value)
