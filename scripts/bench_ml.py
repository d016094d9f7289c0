"""How long fitting takes in the lessons of classical learning, beside scikit-learn in the same run.

    python scripts/bench_ml.py                                   every model
    python scripts/bench_ml.py --vs sklearn                      and scikit-learn's, taking turns
    python scripts/bench_ml.py forest --vs sklearn --rows 5000

Both sides fit the same rows with the same settings, in turns, with a pause in between: the threads
of the one before are still spinning for a moment. The medians are compared, and what each found is
printed beside: accuracy on the training rows, within-cluster sum of squares, explained variance.
"""

import importlib
import time
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from tqdm import tqdm

from tinygrad_edu import threads
from tinygrad_edu.ml.boosting import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from tinygrad_edu.ml.cluster import KMeans
from tinygrad_edu.ml.decompose import PCA
from tinygrad_edu.ml.forest import RandomForestClassifier
from tinygrad_edu.ml.logistic import LogisticRegression
from tinygrad_edu.ml.neighbours import KNeighborsClassifier
from tinygrad_edu.ml.tree import DecisionTreeClassifier, DecisionTreeRegressor
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program

PAUSE = 0.3  # seconds between two fits
SEEDED = {"random_state": 0}
WHOLE = SEEDED | {"early_stopping": False}
# name -> (our class, where scikit-learn has its own of that name, settings of both)
MODELS = {
    "tree": (DecisionTreeClassifier, "tree", SEEDED),
    "tree_numbers": (DecisionTreeRegressor, "tree", SEEDED),
    "forest": (RandomForestClassifier, "ensemble", SEEDED | {"n_estimators": 50}),
    "boosting": (HistGradientBoostingClassifier, "ensemble", WHOLE),
    "boosting_numbers": (HistGradientBoostingRegressor, "ensemble", WHOLE),
    "neighbours": (KNeighborsClassifier, "neighbors", {}),
    "logistic": (LogisticRegression, "linear_model", {}),
    "kmeans": (KMeans, "cluster", {"n_clusters": 8, "n_init": 1}),
    "pca": (PCA, "decomposition", {"n_components": 10}),
}


@dataclass
class Settings:
    """What to fit, on how many rows, beside whom."""

    model: str = option("all", "which of them", choices=("all", *MODELS), positional=True)
    vs: Literal["none", "sklearn"] = option("none", "scikit-learn beside it")
    rows: int = option(20_000, "rows of the table", low=100)
    features: int = option(40, "columns of the table", low=2)
    rounds: int = option(3, "timed fits of each side", low=1)
    threads: int = option(threads.count(), "threads of our loops", low=1, high=1024)
    seed: int = option(0, "of the table", low=0)


def table(rows, features, seed):
    """(X scaled, y): sixteen clouds around random centres, eight of each class, and 1 % wrong."""
    random = np.random.default_rng(seed)
    cloud = random.integers(0, 16, rows)
    stretch = random.standard_normal((features, features))
    X = random.standard_normal((16, features))[cloud] * 3
    X += random.standard_normal((rows, features)) @ stretch / np.sqrt(features / 4)
    y = (cloud + (random.random(rows) < 0.01)) % 2
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def fits(name, vs, X):
    """[(side, function that makes a model)] of one name; the forest once more with two jobs."""
    ours, module, settings = MODELS[name.partition("@")[0]]
    if name == "kmeans":
        settings = settings | {"init": X[:8]}
    if "@" in name:
        settings = settings | {"n_jobs": int(name.partition("@")[2])}
    sides = [("ours", lambda: ours(**settings))]
    if vs == "sklearn":
        theirs = getattr(importlib.import_module(f"sklearn.{module}"), ours.__name__)
        sides.append(("sklearn", lambda: theirs(**settings)))
    return sides


def found(model, X, y):
    """One number that says what the model learned."""
    if hasattr(model, "inertia_"):
        return model.inertia_
    if hasattr(model, "explained_variance_"):
        return float(np.sum(model.explained_variance_))
    rows = slice(1000)
    return float(model.score(X[rows], y[rows]))


def main():
    """Each model in turn; a table, and a line of ratios."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    names = [*MODELS] if settings.model == "all" else [settings.model]
    names = [n for name in names for n in ([name, f"{name}@2"] if name == "forest" else [name])]
    X, y = table(settings.rows, settings.features, settings.seed)
    pairs = {}
    print(f"{'model':<18}{'ours':>9}{'sklearn':>9}{'ratio':>7}   what each found")
    bar = tqdm(total=len(names) * (settings.rounds + 1), unit="round", leave=False)
    with threads.limit(settings.threads), errors_in_one_sentence(), bar:
        for name in names:
            try:
                sides = fits(name, settings.vs, X)
            except ImportError:
                raise ValueError("scikit-learn is not installed: pip install scikit-learn, or "
                                 "leave --vs out") from None
            times, answers = measure(sides, X, y, settings.rounds, bar)
            pairs |= report(name, times, answers)
    print(" ".join(f"{name}={value}" for name, value in pairs.items()))


def measure(sides, X, y, rounds, bar):
    """(seconds, what was found) by side; the first fit of each compiles and does not count."""
    times, answers = {}, {}
    for number in range(rounds + 1):
        for side, make in sides:
            time.sleep(PAUSE)
            start = time.perf_counter()
            model = make().fit(X, y)
            took = time.perf_counter() - start
            if number:
                times.setdefault(side, []).append(took)
            else:
                answers[side] = found(model, X, y)
        bar.update()
    return {side: median(values) for side, values in times.items()}, answers


def report(name, times, answers):
    """Print a row of the table; returns what the last line says of it."""
    cells = [f"{times[side]:.3f} s" if side in times else "" for side in ("ours", "sklearn")]
    ratio = f"{times['ours'] / times['sklearn']:.2f}" if "sklearn" in times else ""
    text = "  ".join(f"{value:.6g}" for value in answers.values())
    tqdm.write(f"{name:<18}{cells[0]:>9}{cells[1]:>9}{ratio:>7}   {text}")
    if ratio:
        return {f"{name}_ratio": ratio}
    return {f"{name}_seconds": f"{times['ours']:.3f}"}


if __name__ == "__main__":
    with program():
        main()
