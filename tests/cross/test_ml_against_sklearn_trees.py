"""Trees, forests, boosting and neighbours against scikit-learn's, and its own checks of them."""

import numpy as np
import pytest

from tinygrad_edu.ml import boosting, forest, inspection, neighbours, tree
from tinygrad_edu.ml.pruning import LEAF

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install scikit-learn")
datasets = pytest.importorskip("sklearn.datasets")
ensemble = pytest.importorskip("sklearn.ensemble")
selection = pytest.importorskip("sklearn.model_selection")
their_neighbours = pytest.importorskip("sklearn.neighbors")
their_tree = pytest.importorskip("sklearn.tree")
checks = pytest.importorskip("sklearn.utils.estimator_checks")

# scikit-learn's forests are excused from this one too: rows are drawn, so a row of weight two is
# not drawn as two rows would be.
DRAWN = {"check_sample_weight_equivalence_on_dense_data": "bootstrap draws rows by chance"}
ALL = [(tree.DecisionTreeClassifier(), {}), (tree.DecisionTreeRegressor(), {}),
       (forest.RandomForestClassifier(5), DRAWN), (forest.RandomForestRegressor(5), DRAWN),
       (boosting.HistGradientBoostingClassifier(max_iter=5), {}),
       (boosting.HistGradientBoostingRegressor(max_iter=5), {}),
       (neighbours.KNeighborsClassifier(), {}), (neighbours.KNeighborsRegressor(), {})]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator, excused", ALL, ids=lambda value: type(value).__name__)
def test_scikit_learns_own_checks_of_an_estimator_all_pass(estimator, excused):
    found = checks.check_estimator(estimator, on_fail=None, on_skip=None,
                                   expected_failed_checks=excused)
    bad = {r["check_name"]: repr(r["exception"]) for r in found if r["status"] == "failed"}
    skipped = {r["check_name"] for r in found if r["status"] == "skipped"}
    assert not bad
    assert skipped <= {"check_array_api_input"}  # needs SCIPY_ARRAY_API in the environment


def same_tree(ours, theirs):
    """Node for node: questions, sizes, impurities, values."""
    inner = ours.left != LEAF
    assert np.array_equal(ours.left, theirs.children_left)
    assert np.array_equal(ours.right, theirs.children_right)
    assert np.array_equal(ours.feature[inner], theirs.feature[inner])
    assert np.array_equal(ours.cut[inner], theirs.threshold[inner])
    assert np.array_equal(ours.rows, theirs.n_node_samples)
    assert np.allclose(ours.impurity, theirs.impurity, rtol=1e-9, atol=1e-12)
    assert np.allclose(ours.value, theirs.value[:, 0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
@pytest.mark.parametrize("settings", [{}, {"max_depth": 4}, {"max_features": "sqrt"},
                                      {"min_samples_leaf": 7, "ccp_alpha": 0.005},
                                      {"criterion": "entropy", "max_depth": 3}])
def test_trees_are_the_same_ties_included(name, settings):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    settings = settings | {"random_state": 1}
    ours = tree.DecisionTreeClassifier(**settings).fit(X, y)
    theirs = their_tree.DecisionTreeClassifier(**settings).fit(X, y)
    same_tree(ours.tree_, theirs.tree_)
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    assert np.allclose(ours.feature_importances_, theirs.feature_importances_, atol=1e-12)
    assert inspection.export_text(ours) == their_tree.export_text(theirs, max_depth=99)


def test_trees_of_numbers_predict_the_same():
    X, y = datasets.load_diabetes(return_X_y=True)
    for more in ({}, {"max_depth": 5}, {"ccp_alpha": 20.0}, {"min_samples_leaf": 0.02}):
        settings = more | {"random_state": 0}
        ours = tree.DecisionTreeRegressor(**settings).fit(X, y)
        theirs = their_tree.DecisionTreeRegressor(**settings).fit(X, y)
        assert np.abs(ours.predict(X) - theirs.predict(X)).max() <= 1e-9
    path = their_tree.DecisionTreeClassifier(random_state=0).cost_complexity_pruning_path
    X, y = datasets.load_wine(return_X_y=True)
    alpha, risk = tree.DecisionTreeClassifier(random_state=0).cost_complexity_pruning_path(X, y)
    assert np.allclose(alpha, path(X, y).ccp_alphas, atol=1e-12)
    assert np.allclose(risk, path(X, y).impurities, atol=1e-12)


def differ_by_a_tie(ours, theirs):
    """False where the trees are the same; True where the first other cut gains the same."""
    for node in range(len(ours.left)):
        children = theirs.children_left[node], theirs.children_right[node]
        assert (ours.left[node] == LEAF) == (children[0] == LEAF)
        if ours.left[node] == LEAF:
            continue
        if (ours.feature[node], ours.cut[node]) != (theirs.feature[node], theirs.threshold[node]):
            mine = ours.left[node], ours.right[node]
            left = sum(ours.weight[i] * ours.impurity[i] for i in mine)
            right = sum(theirs.weighted_n_node_samples[i] * theirs.impurity[i] for i in children)
            assert left == pytest.approx(right, rel=1e-12)
            return True
    same_tree(ours, theirs)
    return False


def share_of_other_trees(first, last):
    """Tables with ties, constant columns, one class, weights of whole numbers and zeros."""
    others = 0
    for seed in range(first, last):
        random = np.random.default_rng(seed)
        N, F, K = random.integers(1, 80), random.integers(1, 8), random.integers(1, 5)
        X = np.round(random.standard_normal((N, F)), random.integers(0, 3))
        X[:, random.integers(F)] = 0.1
        y = random.integers(0, K, N)
        w = random.integers(0, 3, N) + (np.arange(N) == 0) if seed % 2 else None
        settings = {"random_state": seed, "max_features": [None, 1, 0.5][seed % 3],
                    "min_samples_leaf": 1 + seed % 2, "max_depth": [None, 3][seed // 2 % 2]}
        ours = tree.DecisionTreeClassifier(**settings).fit(X, y, w)
        theirs = their_tree.DecisionTreeClassifier(**settings).fit(X, y, w)
        others += differ_by_a_tie(ours.tree_, theirs.tree_)
    return others / (last - first)


def test_random_tables_grow_trees_that_differ_by_a_rare_tie_only():
    assert share_of_other_trees(0, 12) <= 0.1


@pytest.mark.long
def test_many_random_tables_grow_trees_that_differ_by_a_rare_tie_only():
    assert share_of_other_trees(12, 212) <= 0.1


@pytest.mark.parametrize("settings", [{"oob_score": True}, {"max_samples": 0.3},
                                      {"bootstrap": False}])
@pytest.mark.filterwarnings("ignore:.*(OOB|out-of-bag)", "ignore:invalid value")
def test_forests_are_those_of_the_same_seed(settings):
    X, y = datasets.load_breast_cancer(return_X_y=True)
    settings = settings | {"n_estimators": 15, "random_state": 3}
    ours = forest.RandomForestClassifier(**settings).fit(X, y)
    theirs = ensemble.RandomForestClassifier(**settings).fit(X, y)
    assert np.abs(ours.predict_proba(X) - theirs.predict_proba(X)).max() <= 1e-9
    assert np.abs(ours.feature_importances_ - theirs.feature_importances_).max() <= 1e-9
    if "oob_score" in settings:
        assert abs(ours.oob_score_ - theirs.oob_score_) <= 1 / len(y)


@pytest.mark.long
def test_a_forest_reads_digits_as_well():
    X, y = datasets.load_digits(return_X_y=True)
    parts = selection.StratifiedKFold(5, shuffle=True, random_state=0)
    ours, theirs = (np.mean(selection.cross_val_score(model(random_state=0), X, y, cv=parts))
                    for model in (forest.RandomForestClassifier, ensemble.RandomForestClassifier))
    assert ours >= 0.96 and abs(ours - theirs) <= 0.01


def test_boosting_is_the_same_where_no_two_cuts_tie():
    random = np.random.default_rng(0)
    X = random.standard_normal((400, 5))
    X[random.random(X.shape) < 0.1] = np.nan
    signal = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 1]) ** 2
    y = signal + random.standard_normal(400)
    settings = {"max_iter": 10, "max_leaf_nodes": 8, "l2_regularization": 0.5, "random_state": 0}
    three = np.digitize(y, [0, 2])
    for kind, target in (("Regressor", y), ("Classifier", y > 1), ("Classifier", three)):
        name = f"HistGradientBoosting{kind}"
        ours = getattr(boosting, name)(**settings).fit(X, target)
        theirs = getattr(ensemble, name)(**settings).fit(X, target)
        answer = "predict" if kind == "Regressor" else "predict_proba"
        apart = getattr(ours, answer)(X) - getattr(theirs, answer)(X)
        assert np.abs(apart).max() <= 1e-6


@pytest.mark.parametrize("settings", [{}, {"weights": "distance", "n_neighbors": 7},
                                      {"p": 1, "algorithm": "kd_tree"}, {"leaf_size": 2}])
def test_neighbours_are_the_same(settings):
    X, y = datasets.load_diabetes(return_X_y=True)
    ours = neighbours.KNeighborsRegressor(**settings).fit(X[::2], y[::2])
    theirs = their_neighbours.KNeighborsRegressor(**settings).fit(X[::2], y[::2])
    assert np.abs(ours.predict(X) - theirs.predict(X)).max() <= 1e-6
    assert np.array_equal(ours.kneighbors(X)[1], theirs.kneighbors(X)[1])
