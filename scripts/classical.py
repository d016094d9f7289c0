"""Classical machine learning on one table: train, cross-validate, compare, draw.

    python scripts/classical.py classify --data moons              which model, and how sure is it
    python scripts/classical.py classify --data wine --pictures runs/wine
    python scripts/classical.py regress --data people.csv --target income
    python scripts/classical.py curve --data digits --models logistic,forest
    python scripts/classical.py tree --data iris --depth 3          its questions, as text and drawn
    python scripts/classical.py search --data digits --models tree  grid, random draws, halving
    python scripts/classical.py cluster --data blobs                groups that nobody has named
    python scripts/classical.py map --data digits                   64 columns on a plane
    python scripts/classical.py leaks                               what each leak fakes

--data takes a set that is made here (blobs, moons, circles, spirals, planted, line, customers), one
of scikit-learn's wheel where that is installed (iris, digits, wine, breast_cancer, diabetes), or
the path of a CSV file with a header. Empty cells are filled in and words are encoded, within each
fold. An interval is that of the mean over folds which share training rows (lesson intervals).
"""

import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tinygrad_edu.files.plots import plots
from tinygrad_edu.ml import pictures, scores
from tinygrad_edu.ml.bayes import GaussianNB
from tinygrad_edu.ml.boosting import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from tinygrad_edu.ml.chain import Pipeline
from tinygrad_edu.ml.cluster import KMeans
from tinygrad_edu.ml.columns import usual_columns
from tinygrad_edu.ml.curves import calibration_error, roc_auc_score
from tinygrad_edu.ml.datasets import load
from tinygrad_edu.ml.dbscan import DBSCAN
from tinygrad_edu.ml.decompose import PCA
from tinygrad_edu.ml.features import PolynomialFeatures
from tinygrad_edu.ml.forest import RandomForestClassifier, RandomForestRegressor
from tinygrad_edu.ml.halving import HalvingGridSearchCV
from tinygrad_edu.ml.inspection import export_text
from tinygrad_edu.ml.intervals import fold_interval, mcnemar_test, permutation_test
from tinygrad_edu.ml.leaks import find_leaks
from tinygrad_edu.ml.linear import Lasso, LinearRegression, Ridge
from tinygrad_edu.ml.logistic import LogisticRegression
from tinygrad_edu.ml.mixture import GaussianMixture
from tinygrad_edu.ml.neighbours import KNeighborsClassifier, KNeighborsRegressor
from tinygrad_edu.ml.pruning import LEAF
from tinygrad_edu.ml.search import (
    GridSearchCV,
    LogUniform,
    RandomizedSearchCV,
)
from tinygrad_edu.ml.splits import (
    GroupKFold,
    KFold,
    StratifiedKFold,
    TimeSeriesSplit,
    train_test_split,
)
from tinygrad_edu.ml.svm import SVC, SVR
from tinygrad_edu.ml.table import Table, take_rows
from tinygrad_edu.ml.tree import DecisionTreeClassifier, DecisionTreeRegressor
from tinygrad_edu.ml.tree_pictures import draw_tree
from tinygrad_edu.ml.tsne import TSNE
from tinygrad_edu.ml.validate import cross_validate, learning_curve
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program

TASKS = ("classify", "regress", "curve", "tree", "search", "cluster", "map", "leaks")

# word of --models -> what it makes, given the seed
CLASSIFIERS = {
    "logistic": lambda seed: LogisticRegression(),
    "bayes": lambda seed: GaussianNB(),
    "neighbours": lambda seed: KNeighborsClassifier(),
    "svc": lambda seed: SVC(),
    "tree": lambda seed: DecisionTreeClassifier(random_state=seed),
    "forest": lambda seed: RandomForestClassifier(random_state=seed),
    "boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
}
REGRESSORS = {
    "linear": lambda seed: LinearRegression(),
    "ridge": lambda seed: Ridge(),
    "lasso": lambda seed: Lasso(alpha=0.1),
    "neighbours": lambda seed: KNeighborsRegressor(),
    "svr": lambda seed: SVR(),
    "tree": lambda seed: DecisionTreeRegressor(random_state=seed),
    "forest": lambda seed: RandomForestRegressor(random_state=seed),
    "boosting": lambda seed: HistGradientBoostingRegressor(random_state=seed),
}
# word of --models -> what a search tries: a grid, and distributions of as many draws
GRIDS = {
    "logistic": ({"C": [0.01, 0.1, 1, 10, 100]}, {"C": LogUniform(1e-3, 1e3)}),
    "svc": ({"C": [0.1, 1, 10], "gamma": [0.001, 0.01, 0.1]},
            {"C": LogUniform(0.03, 30), "gamma": LogUniform(3e-4, 0.3)}),
    "svr": ({"C": [0.1, 1, 10], "gamma": [0.001, 0.01, 0.1]},
            {"C": LogUniform(0.03, 30), "gamma": LogUniform(3e-4, 0.3)}),
    "ridge": ({"alpha": [0.01, 0.1, 1, 10, 100]}, {"alpha": LogUniform(1e-3, 1e3)}),
    "lasso": ({"alpha": [0.001, 0.01, 0.1, 1]}, {"alpha": LogUniform(1e-4, 10)}),
    "neighbours": ({"n_neighbors": [1, 3, 5, 9, 15]}, {"n_neighbors": list(range(1, 20))}),
    "tree": ({"max_depth": [2, 4, 8, 16], "min_samples_leaf": [1, 3, 10]},
             {"max_depth": list(range(2, 17)), "min_samples_leaf": list(range(1, 11))}),
    "boosting": ({"learning_rate": [0.03, 0.1, 0.3], "max_leaf_nodes": [7, 31]},
                 {"learning_rate": LogUniform(0.01, 0.5), "max_leaf_nodes": list(range(4, 40))}),
    "forest": ({"max_features": [0.1, 0.3, 0.6], "min_samples_leaf": [1, 3, 10]},
               {"max_features": LogUniform(0.05, 1), "min_samples_leaf": list(range(1, 11))}),
}


@dataclass
class Settings:
    """What to do, and on which table."""

    task: str = option(help="what to do", positional=True, choices=TASKS)
    data: str = option("moons", "a set by name, or the path of a CSV file with a header")
    target: str | None = option(None, "column of a CSV file to be foreseen (default: the last)")
    groups: str | None = option(None, "column of a CSV file whose rows stay on one side of a split")
    time: bool = option(False, "rows are in the order of time: learn from the past alone")
    models: str = option("all", "words with commas between them: " + ", ".join(
        dict.fromkeys([*CLASSIFIERS, *REGRESSORS])))
    folds: int = option(5, "of the cross-validation", low=2, high=50)
    samples: int = option(300, "rows of a set that is made", low=20, high=100_000)
    degree: int = option(1, "of products of columns that are added, 1 adds none", low=1, high=4)
    scale: bool = option(True, "bring number columns to mean 0 and deviation 1")
    depth: int = option(3, "of the tree of the task tree", low=1, high=20)
    clusters: int | None = option(None, "groups to look for (default: as many as classes)", low=1)
    seed: int = option(0, "of all that is drawn", low=0)
    pictures: Path | None = option(None, "folder for pictures; none draws none")


class Result(NamedTuple):
    """What cross-validation says about one model."""

    name: str
    scores: np.ndarray  # of the folds
    rows: np.ndarray  # those that were tested
    guess: np.ndarray  # for these rows
    proba: np.ndarray | None
    seconds: float  # to fit once


def main():
    """Do the task."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence(), warnings.catch_warnings():
        warnings.showwarning = say
        if settings.task == "leaks":
            lines = show_leaks(settings)
        else:
            dataset, groups = read(settings, given)
            pyplot = plots() if settings.pictures else None
            if settings.pictures:
                settings.pictures.mkdir(parents=True, exist_ok=True)
            lines = DO[settings.task](settings, dataset, groups, pyplot)
    print(" ".join(f"{name}={value}" for name, value in lines.items()))


def say(message, *_):
    """A warning as a sentence, without the line of the library that it points at."""
    tqdm.write(f"warning: {message}", file=sys.stderr)


def read(settings, given):
    """(the data set, the groups of its rows or None); says what was read."""
    classes = {"regress": False, "classify": True}.get(settings.task)
    name = "line" if settings.task == "regress" and "data" not in given else settings.data
    dataset = load(name, settings.samples, settings.seed, settings.target, classes)
    if settings.task == "classify" and dataset.is_regression:
        raise ValueError(f"{name} has no classes: the task for it is regress")
    if settings.task == "regress" and not dataset.is_regression:
        raise ValueError(f"{name} has classes: the task for it is classify")
    if settings.task in ("classify", "curve", "search") and len(dataset.target_names) == 1:
        raise ValueError(f"all rows of {name} have the {dataset.target} {dataset.target_names[0]}: "
                         "there is nothing to tell apart, so name another column with --target")
    groups = None
    if settings.groups is not None:
        if not isinstance(dataset.X, Table):
            raise ValueError("--groups names a column of a CSV file")
        groups = np.asarray(dataset.X[settings.groups]).astype(str)
        dataset.X = dataset.X.without(settings.groups)
        dataset.feature_names = dataset.X.columns
    reasons = getattr(dataset.X, "reasons", {})
    if reasons:  # one cell makes a column of numbers a column of text
        print("read as text:", ", ".join(f"{name} ({cell!r})" for name, cell in reasons.items()))
    if dataset.left_out:
        print(f"left out: {dataset.left_out} rows whose {dataset.target} is empty")
    about = f"{dataset.name}: {len(dataset.y)} rows, {len(dataset.feature_names)} columns"
    counts = np.bincount(dataset.y) if dataset.target_names else []
    told = ", ".join(f"{n} {word}" for word, n in zip(dataset.target_names, counts, strict=True))
    print(f"{about}; {dataset.target}: {told or 'a number'}")
    return dataset, groups


def folds_of(settings, dataset, groups):
    """The splitter that the flags and the data ask for."""
    if settings.time:
        return TimeSeriesSplit(settings.folds)
    if groups is not None:
        return GroupKFold(settings.folds)
    kind = KFold if dataset.is_regression else StratifiedKFold
    return kind(settings.folds, shuffle=True, random_state=settings.seed)


def models_of(settings, dataset):
    """{word: model}, those that were asked for."""
    known = REGRESSORS if dataset.is_regression else CLASSIFIERS
    words = list(known) if settings.models == "all" else settings.models.split(",")
    for word in words:
        if word not in known:
            raise ValueError(f"--models takes {', '.join(known)} here, not {word!r}")
    return {word: known[word](settings.seed) for word in words}


def whole(settings, model, *between):
    """The pipeline that everything is fitted in: columns, products, what else, the model."""
    steps = [("columns", usual_columns(settings.scale))]
    if settings.degree > 1:
        steps.append(("products", PolynomialFeatures(settings.degree, include_bias=False)))
    steps += [(f"step{i}", step) for i, step in enumerate(between)]
    return Pipeline([*steps, ("model", model)])


def cross_validated(settings, dataset, groups):
    """A Result for each model, all on the same folds."""
    models, found = models_of(settings, dataset), []
    splitter = folds_of(settings, dataset, groups)
    with tqdm(total=len(models) * settings.folds, unit="fit", leave=False) as bar:
        def counted(folds):
            for fold in folds:
                yield fold
                bar.update()

        for name, model in models.items():
            bar.set_description(name)
            report = cross_validate(whole(settings, model), dataset.X, dataset.y, splitter,
                                    groups=groups, progress=counted)
            pairs = list(zip(report["estimator"], report["test_rows"], strict=True))
            guess = [fitted.predict(take_rows(dataset.X, rows)) for fitted, rows in pairs]
            proba = None
            if hasattr(pairs[0][0], "predict_proba"):
                proba = np.concatenate([full_proba(fitted, take_rows(dataset.X, rows), dataset)
                                        for fitted, rows in pairs])
            found.append(Result(name, report["test_score"], np.concatenate(report["test_rows"]),
                                np.concatenate(guess), proba, np.median(report["fit_time"])))
    return sorted(found, key=lambda result: -result.scores.mean())


def full_proba(fitted, X, dataset):
    """Probabilities (N, K) of all classes, also where a fold has not learned from some."""
    proba = np.zeros((len(X), len(dataset.target_names)))
    proba[:, fitted.classes_] = fitted.predict_proba(X)
    return proba


def table(heads, rows):
    """Print rows of text below their heads, the first column to the left."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:],
                                                                       strict=True))]
        print("  ".join(cells).rstrip())


def interval_texts(scores, settings, dataset):
    """The mean of the folds, and its interval, as far as such a score can go."""
    low, high = fold_interval(scores, 1 / settings.folds)
    least = -np.inf if dataset.is_regression else 0
    return f"{scores.mean():.3f}", f"{max(low, least):.3f} … {min(high, 1):.3f}"


def classify(settings, dataset, groups, pyplot):
    """Compare classifiers."""
    results = cross_validated(settings, dataset, groups)
    best, rows = results[0], []
    for result in results:
        y, guess = dataset.y[result.rows], result.guess
        surprise = area = "–"
        if result.proba is not None:
            surprise = f"{scores.log_loss(y, result.proba, range(result.proba.shape[1])):.3f}"
            values = result.proba if result.proba.shape[1] > 2 else result.proba[:, 1]
            area = f"{roc_auc_score(y, values, 'ovr', labels=range(result.proba.shape[1])):.3f}"
        p = "" if result is best else f"{mcnemar_test(y, guess, best.guess):.2g}"
        rows.append([result.name, *interval_texts(result.scores, settings, dataset),
                     f"{scores.balanced_accuracy_score(y, guess):.3f}",
                     f"{scores.f1_score(y, guess, average='macro'):.3f}", area, surprise,
                     f"{result.seconds * 1e3:.1f}", p])
    table(["model", "accuracy", "95 % interval", "balanced", "F1", "ROC area", "log loss",
           "fit ms", "p, against the best"], rows)
    y = dataset.y[best.rows]
    matrix = scores.confusion_matrix(y, best.guess, range(len(dataset.target_names)))
    print(f"\n{best.name}: rows are what is, columns what was said")
    table(["", *dataset.target_names], [[name, *map(str, row)] for name, row in
                                        zip(dataset.target_names, matrix, strict=True)])
    if len(matrix) == 2 and best.proba is not None:
        print(f"calibration error {calibration_error(y, best.proba[:, 1]):.3f}, Brier score "
              f"{scores.brier_score_loss(y, best.proba[:, 1], labels=[0, 1]):.3f}")
    if pyplot:
        draw_classifiers(settings, dataset, results, matrix, pyplot)
    return {"best": best.name, "accuracy": f"{best.scores.mean():.4f}", "folds": settings.folds,
            "rows": len(dataset.y)}


def draw_classifiers(settings, dataset, results, matrix, pyplot):
    """Regions of all models, the confusion matrix of the best, curves where there are two."""
    plane = on_a_plane(settings, dataset)
    models = models_of(settings, dataset)
    figure, axes = grid(pyplot, len(models), 3.6)
    for axis, result in zip(axes, results, strict=False):
        fitted = models[result.name].fit(plane.points, dataset.y)
        pictures.regions(axis, fitted, plane.points, dataset.y, dataset.target_names)
        axis.set_title(f"{result.name}: {result.scores.mean():.3f}", fontsize=10)
    figure.suptitle(plane.title, fontsize=9)
    if len(dataset.target_names) <= 10:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center",
                      ncols=10, fontsize=8)
    save(figure, settings, "regions")
    size = max(3.4, 0.55 * len(matrix) + 1.6)
    figure, axis = pyplot.subplots(figsize=(size, size), layout="constrained")
    pictures.confusion(axis, matrix, dataset.target_names)
    axis.set_title(f"{dataset.name}, {results[0].name}", fontsize=10)
    save(figure, settings, "confusion")
    if len(matrix) == 2:
        probabilities = {r.name: r.proba[:, 1] for r in results if r.proba is not None}
        figure, axes = pyplot.subplots(1, 3, figsize=(12.5, 4.1), layout="constrained")
        same = results[0].rows  # all models were tested on the same rows in the same order
        pictures.operating_curves(axes, dataset.y[same], probabilities)
        figure.suptitle(f"{dataset.name}: the case is “{dataset.target_names[1]}”", fontsize=10)
        save(figure, settings, "operating_curves")


class Plane(NamedTuple):
    """Two numbers a row, and what they are."""

    points: np.ndarray
    title: str


def on_a_plane(settings, dataset):
    """The two columns of the data, or their first two principal components."""
    X = usual_columns(scale=True).fit_transform(dataset.X, dataset.y)
    if X.shape[1] == 2:
        return Plane(X, f"{dataset.name}: accuracy over folds; shade: how sure the model is")
    pca = PCA(n_components=2).fit(X)
    kept = pca.explained_variance_ratio_.sum()
    return Plane(pca.transform(X), f"{dataset.name}: accuracy over folds on all columns; regions "
                 f"of models of two principal components alone ({kept:.0%} of the variance)")


def regress(settings, dataset, groups, pyplot):
    """Compare regressors."""
    results = cross_validated(settings, dataset, groups)
    best, rows = results[0], []
    for result in results:
        y = dataset.y[result.rows]
        errors = [np.abs(y - guess) for guess in (result.guess, best.guess)]
        p = "" if result is best else f"{permutation_test(*errors, draws=2000):.2g}"
        rows.append([result.name, *interval_texts(result.scores, settings, dataset),
                     f"{errors[0].mean():.4g}", f"{np.sqrt(np.mean(errors[0] ** 2)):.4g}",
                     f"{result.seconds * 1e3:.1f}", p])
    table(["model", "R²", "95 % interval", "mean |error|", "root mean square", "fit ms",
           "p, against the best"], rows)
    if pyplot:
        figure, axes = grid(pyplot, len(results), 3.2, sharex=True, sharey=True)
        for axis, result in zip(axes, results, strict=False):
            pictures.against_truth(axis, dataset.y[result.rows], result.guess,
                                   f"{result.name}: R² {result.scores.mean():.3f}")
        without_repeats(axes)
        save(figure, settings, "against_truth")
    return {"best": best.name, "r2": f"{best.scores.mean():.4f}", "folds": settings.folds,
            "rows": len(dataset.y)}


def curve(settings, dataset, groups, pyplot):
    """Learning curves."""
    models = models_of(settings, dataset)
    splitter, found = folds_of(settings, dataset, groups), {}
    if groups is not None:
        splitter = list(splitter.split(dataset.X, dataset.y, groups))
    quantity = "R²" if dataset.is_regression else "accuracy"
    for name, model in models.items():
        bar = partial(tqdm, desc=name, unit="fit", leave=False)
        found[name] = learning_curve(whole(settings, model), dataset.X, dataset.y, cv=splitter,
                                     random_state=settings.seed, progress=bar)
    sizes = next(iter(found.values()))[0]
    table(["model", *(f"{size} rows" for size in sizes), "then on its own rows"],
          [[name, *(f"{mean:.3f}" for mean in test.mean(1)), f"{train[-1].mean():.3f}"]
           for name, (_, train, test) in found.items()])
    if pyplot:
        figure, axes = grid(pyplot, len(found), 3.4, sharey=True)
        for axis, (name, parts) in zip(axes, found.items(), strict=False):
            pictures.learning(axis, *parts, name, quantity)
        without_repeats(axes)
        save(figure, settings, "learning_curves")
    best = max(found, key=lambda name: found[name][2][-1].mean())
    gap = found[best][1][-1].mean() - found[best][2][-1].mean()
    return {"best": best, "score": f"{found[best][2][-1].mean():.4f}", "gap": f"{gap:.4f}"}


def tree(settings, dataset, groups, pyplot):
    """One tree: its questions, and how its score depends on the depth."""
    kind = DecisionTreeRegressor if dataset.is_regression else DecisionTreeClassifier
    columns = usual_columns(scale=False)
    X = columns.fit_transform(dataset.X, dataset.y)
    names = [name.split("__", 1)[1] for name in columns.get_feature_names_out()]
    if not isinstance(dataset.X, Table):
        names = dataset.feature_names
    fitted = kind(max_depth=settings.depth, random_state=settings.seed).fit(X, dataset.y)
    if dataset.target_names:
        fitted.classes_ = np.array(dataset.target_names)
    cuts = np.abs(fitted.tree_.cut[fitted.tree_.left != LEAF])
    small = np.median(cuts[cuts > 0]) if cuts.any() else 1.0
    decimals = int(np.clip(2 - np.floor(np.log10(small)), 2, 8))  # three digits of most cuts
    print(export_text(fitted, names, decimals))
    splitter, rows = folds_of(settings, dataset, groups), []
    for depth in (1, 2, 3, 4, 6, 8, None):
        model = whole(settings, kind(max_depth=depth, random_state=settings.seed))
        report = cross_validate(model, dataset.X, dataset.y, splitter, groups=groups,
                                train_score=True)
        rows.append([str(depth or "grown out"), f"{report['train_score'].mean():.3f}",
                     *interval_texts(report["test_score"], settings, dataset)])
    table(["depth", "on its own rows", "on others", "95 % interval"], rows)
    if pyplot:
        figure, axis = pyplot.subplots(layout="constrained")
        width, height = draw_tree(axis, fitted.tree_, names, dataset.target_names, settings.depth)
        figure.set_size_inches(max(5, 1.25 * width), max(3, 0.95 * height))
        save(figure, settings, "tree")
    best = max(rows, key=lambda row: float(row[2]))
    return {"best_depth": best[0].replace(" ", "_"), "score": best[2],
            "leaves": fitted.get_n_leaves()}


def search(settings, dataset, groups, pyplot):
    """Grid, random draws and halving, each judged on a quarter of the rows that none has seen."""
    stratify = None if dataset.is_regression else dataset.y
    X, X_test, y, y_test = train_test_split(dataset.X, dataset.y, random_state=settings.seed,
                                            stratify=stratify)
    rows, best = [], None
    for word, model in models_of(settings, dataset).items():
        if word not in GRIDS:
            continue
        lists, draws = ({f"model__{k}": v for k, v in grid.items()} for grid in GRIDS[word])
        count = int(np.prod([len(values) for values in lists.values()]))
        pipeline, common = whole(settings, model), {"cv": settings.folds, "verbose": True}
        seeded = {**common, "random_state": settings.seed}
        for kind in (GridSearchCV(pipeline, lists, **common),
                     RandomizedSearchCV(pipeline, draws, count, **seeded),
                     HalvingGridSearchCV(pipeline, lists, **seeded)):
            start = time.perf_counter()
            kind.fit(X, y)
            found = ", ".join(f"{name.removeprefix('model__')}={short(value)}"
                              for name, value in kind.best_params_.items())
            score = kind.score(X_test, y_test)
            rows.append([f"{word}, {type(kind).__name__}", str(len(kind.results_)),
                         f"{time.perf_counter() - start:.1f}", f"{kind.best_score_:.3f}",
                         f"{score:.3f}", found])
            best = max(best or (-np.inf,), (score, word, found.replace(", ", ",")))
    if best is None:
        raise ValueError(f"a search knows what to try for {', '.join(GRIDS)}")
    table(["search", "candidates", "seconds", "on its folds", "on new rows", "found"], rows)
    return {"best": best[1], "score": f"{best[0]:.4f}", "settings": best[2]}


def short(value):
    """A setting as text."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def cluster(settings, dataset, groups, pyplot):
    """Three ways to find groups, beside the classes that are known."""
    X = varied(usual_columns(scale=True).fit_transform(dataset.X, dataset.y), dataset)
    count = settings.clusters or max(2, len(dataset.target_names))
    far = np.sort(np.linalg.norm(X[:, None] - X[None, :500], axis=2), axis=0)[min(4, len(X) - 1)]
    models = {"k-means": KMeans(count, n_init=10, random_state=settings.seed),
              "mixture": GaussianMixture(count, random_state=settings.seed),
              "DBSCAN": DBSCAN(float(np.quantile(far, 0.95)))}  # so wide that 19 in 20 have 5 near
    labels = {name: model.fit_predict(X) for name, model in models.items()}
    rows = [[name, str(len(np.unique(found[found >= 0]))), str(int((found < 0).sum())),
             f"{purity(dataset.y, found):.3f}" if dataset.target_names else "–"]
            for name, found in labels.items()]
    table(["method", "groups", "noise rows", "share of the main class"], rows)
    if pyplot:
        plane = on_a_plane(settings, dataset)
        figure, axes = grid(pyplot, 3, 3.8)
        for axis, (name, found) in zip(axes, labels.items(), strict=True):
            noise = found < 0
            axis.scatter(*plane.points[noise].T, s=6, color="#bbbbbb")
            names = [str(k) for k in range(found.max() + 1)]
            pictures.scatter(axis, plane.points[~noise], found[~noise], names)
            told = f"{name}: {noise.sum()} rows of noise in grey" if noise.any() else name
            axis.set(title=told, xticks=[], yticks=[])
        save(figure, settings, "clusters")
    best = max(rows, key=lambda row: row[3])
    return {"best": best[0], "purity": best[3], "groups": best[1]}


def varied(X, dataset):
    """X itself; ValueError where its rows are all the same, so that nothing lies apart."""
    if np.ptp(X, axis=0).max() == 0:
        raise ValueError(f"all rows of {dataset.name} are the same: there is nothing to group or "
                         "to lay out")
    return X


def purity(y, labels):
    """The share of rows that belong to the main class of their group; noise belongs to none."""
    return sum(np.bincount(y[labels == k]).max() for k in np.unique(labels[labels >= 0])) / len(y)


def show_map(settings, dataset, groups, pyplot):
    """All columns on a plane, by two ways."""
    X = varied(usual_columns(settings.scale).fit_transform(dataset.X, dataset.y), dataset)
    pca = PCA().fit(X)
    share = np.cumsum(pca.explained_variance_ratio_)
    for part in (0.5, 0.9, 0.99):
        need = int(np.searchsorted(share, part - 1e-12)) + 1
        print(f"{need} of {X.shape[1]} principal components hold {part:.0%} of the variance")
    perplexity = min(30.0, (len(X) - 1) / 3)
    maps = {"principal components": pca.transform(X)[:, :2],
            "t-SNE": TSNE(perplexity=perplexity, random_state=settings.seed,
                          verbose=True).fit_transform(X)}
    agree = {}
    for name, points in maps.items():
        apart = np.sum((points[:, None] - points[None]) ** 2, axis=2) + np.diag(
            np.full(len(points), np.inf))
        nearest = dataset.y[apart.argmin(1)]
        agree[name] = np.mean(nearest == dataset.y)
        if dataset.target_names:
            print(f"{name}: the nearest row on the map is of the same class for {agree[name]:.1%}")
    if pyplot:
        figure, axes = grid(pyplot, 2, 5)
        for axis, (name, points) in zip(axes, maps.items(), strict=True):
            names = dataset.target_names or ["rows"]
            y = dataset.y if dataset.target_names else np.zeros(len(points), int)
            pictures.scatter(axis, points, y, names, size=10)
            axis.set(title=name, xticks=[], yticks=[])
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=10,
                      fontsize=8)
        save(figure, settings, "map")
    return {"components": X.shape[1], "two_hold": f"{share[min(1, len(share) - 1)]:.4f}"}


def show_leaks(settings):
    """The leak lab: what each leak fakes."""
    findings = find_leaks(progress=partial(tqdm, desc="leaks", unit="run", leave=False))
    table(["leak", "leaky", "honest", "on new rows", "faked", "what removes it"],
          [[found.name, f"{found.leaky:.3f}", f"{found.honest:.3f}", f"{found.fresh:.3f}",
            f"{found.faked:+.3f}", found.remedy] for found in findings])
    worst = max(findings, key=lambda found: found.faked)
    return {"leaks": len(findings), "worst": worst.name.replace(" ", "_"),
            "faked": f"{worst.faked:.3f}"}


DO = {"classify": classify, "regress": regress, "curve": curve, "tree": tree, "search": search,
      "cluster": cluster, "map": show_map}


# ---- files ------------------------------------------------------------------------------------


def grid(pyplot, count, size, **shared):
    """(figure, axes) of that many panels, at most four in a row; what is left over stays empty."""
    rows = -(-count // 4)
    columns = -(-count // rows)
    figure, axes = pyplot.subplots(rows, columns, figsize=(size * columns, size * rows + 0.3),
                                   layout="constrained", squeeze=False, **shared)
    for axis in axes.flat[count:]:
        axis.axis("off")
    return figure, list(axes.flat)


def without_repeats(axes):
    """Panels that share an axis tell its name once, at the left."""
    for axis in axes:
        if not axis.get_subplotspec().is_first_col():
            axis.set_ylabel("")


def save(figure, settings, name):
    """Write a picture, and say so."""
    target = settings.pictures / f"{name}.png"
    figure.savefig(target, dpi=110)
    print(f"wrote {target}")


if __name__ == "__main__":
    with program():
        main()
