"""Lesson 4.82 · Datasets: clouds whose truth is known, and files whose truth is not

Needs table, inputs. Used by scripts/classical.py.

Idea      A method is understood on data that somebody made: then it is known which columns matter,
          how much of y is noise, and how well anybody could do. So the default is to make them:
          clouds of points, half moons, rings, spirals, and tables with a planted signal. The named
          sets that everybody compares on come from scikit-learn's wheel where that is installed,
          and one's own from a CSV file.
Math      moon 1 = (cos t, sin t)      moon 2 = (1 − cos t, ½ − sin t)      t ∈ [0, π]          (1)
          arm k of a spiral: r·(cos a, sin a)   a = 2.5·r + 2πk/K   r ∈ [0.2, 2]                (2)
          planted: y = X w + σ·ε, w ≠ 0 in the first `informative` columns only                 (3)
          of such a y at most R² = |w|²/(|w|² + σ²) can be explained                            (4)
Shapes    X (N, C) · y (N,) labels 0 … K − 1, or numbers · a Dataset holds both, with names
Pitfalls  Rows in the order of their classes make a K-fold without shuffling test classes it has
          never seen: our generators shuffle.
          Where all columns have the same scale, methods that care for scale look as good as others.
          A set that everybody has tuned on for thirty years says little about the next one.
Cost      Nothing that can be felt.
Try       build it    a chess board: y = (⌊x₁⌋ + ⌊x₂⌋) mod 2. Which methods fail?
          break it    leave out the shuffling. Which test notices?
          measure it  python scripts/classical.py classify --data spirals
See       Fisher 1936 (iris) · Guyon 2003 "Design of experiments of the NIPS 2003 variable
          selection benchmark" (planted signal)
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .inputs import check_random_state
from .table import Table, is_empty, is_text, read_csv

NAMED = ("iris", "digits", "wine", "breast_cancer", "diabetes")  # in scikit-learn's wheel


@dataclass
class Dataset:
    """What is learned from: X (N, C), an array or a Table, and y (N,)."""

    name: str
    X: object
    y: np.ndarray
    feature_names: list
    target_names: list = field(default_factory=list)  # of the classes; none for numbers
    target: str = "y"
    left_out: int = 0  # rows of a file that have no answer

    @property
    def is_regression(self):
        """Whether y is a number to come close to, and not a class to hit."""
        return not self.target_names


def cloud(X, y, seed):
    """X and y in one random order."""
    order = seed.permutation(len(X))
    return X[order], y[order]


def make_blobs(samples=300, seed=0, classes=3, features=2, spread=1.0):
    """Normal clouds around centres drawn from [−5, 5): X (N, C) and the number of the cloud."""
    random = check_random_state(seed)
    centres = random.uniform(-5, 5, (classes, features))
    y = np.arange(samples) % classes
    return cloud(centres[y] + spread * random.standard_normal((samples, features)), y, random)


def make_moons(samples=300, seed=0, noise=0.2):
    """Two half circles, each reaching into the other, (1)."""
    random = check_random_state(seed)
    y = np.arange(samples) % 2
    t = random.uniform(0, np.pi, samples)
    upper = np.column_stack([np.cos(t), np.sin(t)])
    X = np.where(y[:, None] == 0, upper, [1, 0.5] - upper)                                    # (1)
    return cloud(X + noise * random.standard_normal(X.shape), y, random)


def make_circles(samples=300, seed=0, noise=0.1, inner=0.5):
    """A ring around another: no line parts them, the radius alone does."""
    random = check_random_state(seed)
    y = np.arange(samples) % 2
    t = random.uniform(0, 2 * np.pi, samples)
    radius = np.where(y == 0, 1.0, inner)
    X = radius[:, None] * np.column_stack([np.cos(t), np.sin(t)])
    return cloud(X + noise * random.standard_normal(X.shape), y, random)


def make_spirals(samples=300, seed=0, noise=0.08, classes=3):
    """Arms that wind around one centre, (2)."""
    random = check_random_state(seed)
    y = np.arange(samples) % classes
    r = random.uniform(0.2, 2, samples)
    a = 2.5 * r + 2 * np.pi * y / classes                                                     # (2)
    X = r[:, None] * np.column_stack([np.cos(a), np.sin(a)])
    return cloud(X + noise * random.standard_normal(X.shape), y, random)


def make_regression(samples=300, seed=0, features=10, informative=5, noise=1.0):
    """(X, y, w): normal columns, y of the first `informative` ones alone, (3)."""
    random = check_random_state(seed)
    X = random.standard_normal((samples, features))
    w = np.zeros(features)
    w[:informative] = random.uniform(0.5, 2, informative) * random.choice([-1, 1], informative)
    return X, X @ w + noise * random.standard_normal(samples), w                              # (3)


def make_classification(samples=300, seed=0, features=10, informative=3, noise=1.0, classes=2):
    """(X, y, w): the planted number of (3), cut into classes of one size."""
    X, score, w = make_regression(samples, seed, features, informative, noise)
    edges = np.quantile(score, np.arange(1, classes) / classes)
    return X, np.searchsorted(edges, score, side="right"), w


def make_customers(samples=400, seed=0):
    """(Table, y): numbers, words and empty cells; does a customer leave? For pipelines."""
    random = check_random_state(seed)
    age = random.normal(45, 14, samples).clip(18, 90).round()
    months = random.exponential(30, samples).round()
    plan = random.choice(["basic", "family", "business"], samples, p=[0.5, 0.3, 0.2])
    town = random.choice([f"town {i}" for i in range(12)], samples)
    pull = {"basic": 1.0, "family": -1.2, "business": -0.4}
    score = 1.0 - 0.05 * months + np.array([pull[word] for word in plan]) + 0.02 * (45 - age)
    y = (score + random.logistic(size=samples) > 0).astype(int)
    age[random.random(samples) < 0.1] = np.nan
    plan = np.where(random.random(samples) < 0.05, np.nan, plan.astype(object))
    table = {"age": age, "months": months, "plan": plan, "town": town.astype(object)}
    return Table(table), y


# what a name makes: (maker, the names of the classes or none for numbers)
MADE = {
    "blobs": (make_blobs, ["0", "1", "2"]),
    "moons": (make_moons, ["upper", "lower"]),
    "circles": (make_circles, ["outer", "inner"]),
    "spirals": (make_spirals, ["0", "1", "2"]),
    "planted": (make_classification, ["low", "high"]),
    "line": (make_regression, []),
    "customers": (make_customers, ["stays", "leaves"]),
}


def load(name, samples=300, seed=0, target=None, classes=None):
    """The Dataset of a name: one of MADE, one of NAMED, or the path of a CSV file.

    samples, seed: of what is made. target: the column of a CSV file that is y, the last without;
    classes: whether its values are classes, None to go by their looks.
    Raises ValueError for a name that is none, ImportError where scikit-learn would be needed.
    """
    if name in MADE:
        make, classes = MADE[name]
        X, y = make(samples, seed)[:2]
        width = X.shape[1]
        names = X.columns if isinstance(X, Table) else [f"x{i}" for i in range(width)]
        return Dataset(name, X, y, names, classes)
    if name in NAMED:
        return named_set(name)
    if str(name).endswith((".csv", ".tsv")) or Path(name).is_file():
        return csv_set(name, target, classes)
    raise ValueError(f"there is no data set {str(name)!r}: take one of "
                     f"{', '.join([*MADE, *NAMED])}, or the path of a CSV file")


def named_set(name):
    """A set of scikit-learn's wheel."""
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError(f"{name} comes with scikit-learn: pip install scikit-learn, or take one "
                          f"that is made here: {', '.join(MADE)}") from None
    found = getattr(datasets, f"load_{name}")()
    classes = [str(word) for word in found.get("target_names", [])]
    return Dataset(name, found.data, found.target, [*map(str, found.feature_names)], classes)


def refuse_infinite(table, path):
    """ValueError that names the row of the file: the rows of a fold have other numbers."""
    for name in table.columns:
        column = table[name]
        if not is_text(column) and np.isinf(column).any():
            row = np.isinf(column).argmax() + 1
            raise ValueError(f"{path}: column {name!r} is infinite in row {row} below the header: "
                             "correct it, or empty the cell")


def csv_set(path, target=None, classes=None):
    """A CSV file as a Dataset. A target of text, or of at most 20 whole numbers, means classes.

    classes: True or False to decide it. Rows without an answer are left out, and counted.
    """
    table = read_csv(path)
    target = table.columns[-1] if target is None else target
    if table.shape[1] < 2:
        raise ValueError(f"{path} has one column: a target needs others to be learned from")
    refuse_infinite(table, path)
    y = table[target]
    known = ~is_empty(y)
    X, y = table.without(target).take(known), y[known]
    if not len(y):
        raise ValueError(f"{path}: column {target!r} is empty, so there is nothing to learn")
    if classes is False and is_text(y):
        raise ValueError(f"{path}: column {target!r} has {table.reasons[target]!r} in it, which is "
                         "no number, so it cannot be the target of a regression")
    left_out = int((~known).sum())
    values, codes = np.unique(y.astype(str) if is_text(y) else y, return_inverse=True)
    if classes is None:
        classes = is_text(y) or len(values) <= 20 and np.all(values == np.floor(values))
    if not classes:
        return Dataset(Path(path).stem, X, y, X.columns, [], target, left_out)
    labels = [str(v) if is_text(y) else f"{v:g}" for v in values]
    return Dataset(Path(path).stem, X, codes, X.columns, labels, target, left_out)
