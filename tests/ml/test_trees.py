"""Ranks, cuts, growing, pruning, trees and forests: bodies against each other, and by hand."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ml.cuts import ENTROPY, GINI, SQUARED
from tinygrad_edu.ml.forest import RandomForestClassifier, RandomForestRegressor
from tinygrad_edu.ml.growing import empty_nodes, grow_tree
from tinygrad_edu.ml.inspection import export_text, permutation_importance
from tinygrad_edu.ml.pruning import LEAF, find_leaves, prune
from tinygrad_edu.ml.ranks import DIGIT, LOW, draw_features, ranked, sort_keys
from tinygrad_edu.ml.tree import DecisionTreeClassifier, DecisionTreeRegressor

CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)


def growth(n, features, classes, criterion, max_features=None, least=1, round_to=1, weights=False,
           depth=99):
    """A call of grow_tree on a random table, whose values tie if they are rounded."""
    def case(draw):
        x = np.round(draw.generator.standard_normal((n, features)), round_to).astype(np.float32)
        x[:, -1] = 3  # one value: never a cut
        y = draw.generator.integers(0, classes, n).astype(np.float64)
        if criterion == SQUARED:
            y = draw.generator.standard_normal(n)
        w = draw.generator.integers(0, 3, n).astype(np.float64) if weights else np.ones(n)
        nodes = empty_nodes(2 * n - 1, 1 if criterion == SQUARED else classes)
        limits = np.array([depth, 2, least, 0, 0], np.float64)
        return *nodes, *ranked(x), y, w, criterion, limits, max_features or features, 7
    return case


def walk(draw):
    feature, cut = np.array([0, 0, 1, 0, 0]), np.array([0.5, 0, -0.2, 0, 0])
    left, right = np.array([1, -1, 3, -1, -1]), np.array([2, -1, 4, -1, -1])
    x = draw.generator.standard_normal((31, 3)).astype(np.float32)
    return draw.out(31, dtype=np.int64), x, feature, cut, left, right


CASES = {
    grow_tree: [growth(60, 4, 2, GINI), growth(60, 5, 3, GINI, max_features=2, weights=True),
                growth(50, 4, 3, ENTROPY, round_to=6, depth=2), growth(1, 2, 2, GINI),
                growth(90, 4, 1, SQUARED, least=5, round_to=6), growth(300, 3, 4, GINI)],
    find_leaves: [walk],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


# ---- ranks --------------------------------------------------------------------------------------


def test_ranks_count_different_values_from_below():
    x = np.array([[3.0, 1], [-1, 1], [3, 1], [0, 1]], np.float32)
    rank, levels = ranked(x)
    assert rank.tolist() == [[2, 0, 2, 1], [0, 0, 0, 0]]
    assert levels[0].tolist() == [-1, 0, 3] and levels[1, 0] == 1


@pytest.mark.parametrize("size, levels", [(5, 9), (40, 3), (41, 3), (300, 17), (999, 70_000)])
def test_keys_sorted_by_digits_are_sorted_and_equal_ones_keep_their_order(size, levels):
    rank = np.random.default_rng(size).integers(0, levels, size)
    keys = rank << LOW | np.arange(size)
    expected = np.sort(keys)
    ordered = sort_keys(keys, keys.copy(), np.zeros(DIGIT, np.int64), levels)
    assert ordered.tolist() == expected.tolist()


def test_constant_features_are_drawn_past_and_remembered_for_the_nodes_below():
    x = np.stack([np.ones(6), np.arange(6), np.zeros(6)], axis=1).astype(np.float32)
    features, constants = np.arange(3), np.zeros(3, np.int64)
    rank, levels = ranked(x)
    begin, known, _ = draw_features(features, constants, 0, 5, 3, rank, levels, np.arange(6))
    assert features[begin:].tolist() == [1]
    assert known == 2 and sorted(constants[:2]) == [0, 2]


# ---- trees --------------------------------------------------------------------------------------


def test_a_tree_of_four_rows_by_hand():
    X, y = [[1.0], [2.0], [3.0], [6.0]], ["a", "a", "b", "b"]
    model = DecisionTreeClassifier().fit(X, y)
    assert model.tree_.cut[0] == 2.5 and model.tree_.impurity.tolist() == [0.5, 0, 0]
    assert model.predict([[2.4], [2.6]]).tolist() == ["a", "b"]
    assert export_text(model) == ("|--- feature_0 <= 2.50\n|   |--- class: a\n"
                                  "|--- feature_0 >  2.50\n|   |--- class: b\n")


def test_a_cut_that_gains_nothing_is_made_where_two_in_a_row_gain_all():
    model = DecisionTreeClassifier(random_state=0).fit(CORNERS, [0, 1, 1, 0])
    assert model.predict(CORNERS).tolist() == [0, 1, 1, 0] and model.get_depth() == 2


def test_the_first_of_equal_cuts_is_taken():
    X = np.array([[0.0], [1], [2], [3]])
    model = DecisionTreeClassifier(max_depth=1).fit(X, [0, 1, 1, 0])  # at 0.5 and 2.5 alike
    assert model.tree_.cut[0] == 0.5


def test_numbers_far_from_zero_are_cut_as_those_near_it():
    X, y = np.arange(40.0)[:, None], np.random.default_rng(0).standard_normal(40)
    near, far = (DecisionTreeRegressor(max_depth=4).fit(X, y + shift) for shift in (0, 1e9))
    assert near.tree_.cut.tolist() == far.tree_.cut.tolist()
    tiny = DecisionTreeRegressor(max_depth=4).fit(X, y * 1e-9)
    assert near.tree_.cut.tolist() == tiny.tree_.cut.tolist()


def test_a_row_of_weight_two_is_two_rows_and_one_of_weight_zero_is_none():
    random = np.random.default_rng(1)
    X, y, w = random.standard_normal((50, 3)), random.integers(0, 3, 50), random.integers(0, 3, 50)
    weighted = DecisionTreeClassifier(random_state=0).fit(X, y, w)
    copied = DecisionTreeClassifier(random_state=0).fit(np.repeat(X, w, 0), np.repeat(y, w))
    assert weighted.tree_.cut.tolist() == copied.tree_.cut.tolist()
    assert weighted.tree_.value.tolist() == copied.tree_.value.tolist()


def test_limits_are_kept():
    random = np.random.default_rng(2)
    X, y = random.standard_normal((200, 4)), random.standard_normal(200)
    assert DecisionTreeRegressor(max_depth=3).fit(X, y).get_depth() == 3
    tree = DecisionTreeRegressor(min_samples_leaf=0.1).fit(X, y).tree_
    assert tree.rows[tree.left == LEAF].min() >= 20
    tree = DecisionTreeRegressor(min_samples_split=50).fit(X, y).tree_
    assert tree.rows[tree.left != LEAF].min() >= 50
    classes = DecisionTreeClassifier(criterion="entropy", min_impurity_decrease=0.02)
    for model, labels in (DecisionTreeRegressor(min_impurity_decrease=0.02), y), (classes, y > 0):
        tree = model.fit(X, labels).tree_
        risk = tree.weight * tree.impurity / 200
        t = tree.inner()
        assert (risk[t] - risk[tree.left[t]] - risk[tree.right[t]]).min() >= 0.02


def test_the_least_decrease_of_entropy_is_in_bits():
    X, y = np.arange(4.0)[:, None], [0, 0, 1, 1]  # its cut takes one bit away, 0.69 nats
    for least, depth in (0.9, 1), (1.1, 0):
        tree = DecisionTreeClassifier(criterion="entropy", min_impurity_decrease=least).fit(X, y)
        assert tree.get_depth() == depth


def test_pruning_takes_the_weakest_question_first_and_ends_at_the_root():
    X, y = np.arange(6.0)[:, None], np.array([0.0, 0, 1, 1, 9, 9])
    tree = DecisionTreeRegressor().fit(X, y).tree_
    _, path = prune(tree)
    alpha, risk = np.array(path).T
    # Cutting 0 from 1 costs 4·0.25/6; the variance of all is 16.22.
    assert alpha == pytest.approx([0, 1 / 6, 16.055556], rel=1e-6)
    assert risk == pytest.approx([0, 1 / 6, y.var()])
    assert len(prune(tree, 1 / 6)[0].left) == 3  # at most α, so the limit itself counts
    assert len(prune(tree, 0.16)[0].left) == 5
    assert DecisionTreeRegressor(ccp_alpha=99.0).fit(X, y).get_n_leaves() == 1


def test_importance_belongs_to_the_feature_that_is_asked_for():
    random = np.random.default_rng(3)
    X = random.standard_normal((300, 3))
    model = RandomForestClassifier(10, random_state=0).fit(X, X[:, 1] > 0)
    assert model.feature_importances_[1] > 0.8
    assert model.feature_importances_.sum() == pytest.approx(1)
    before = X.copy()
    falls = permutation_importance(model, X, X[:, 1] > 0, random_state=0).mean(axis=1)
    assert falls[1] > 0.3 > 0.1 > max(falls[0], falls[2]) and np.array_equal(X, before)


# ---- forests ------------------------------------------------------------------------------------


def test_a_forest_is_the_same_however_many_threads_grow_it():
    random = np.random.default_rng(4)
    X, y = random.standard_normal((120, 5)), random.integers(0, 3, 120)
    one, three = (RandomForestClassifier(12, random_state=0, n_jobs=jobs).fit(X, y)
                  for jobs in (1, 3))
    assert np.array_equal(one.predict_proba(X), three.predict_proba(X))


def test_out_of_bag_answers_come_from_trees_that_have_not_seen_the_row():
    random = np.random.default_rng(5)
    X, y = random.standard_normal((200, 3)), random.integers(0, 2, 200)  # nothing to learn
    model = RandomForestClassifier(60, oob_score=True, random_state=0).fit(X, y)
    assert model.score(X, y) == 1 and abs(model.oob_score_ - 0.5) < 0.12


def test_a_row_that_every_tree_has_drawn_has_no_out_of_bag_answer():
    X, y = np.arange(12.0)[:, None], np.arange(12.0)
    with pytest.warns(UserWarning, match="grow more trees"):
        model = RandomForestRegressor(2, oob_score=True, random_state=0).fit(X, y)
    assert np.isnan(model.oob_prediction_).any() and not np.isnan(model.oob_score_)


@pytest.mark.parametrize("model, words", [
    (DecisionTreeClassifier(max_depth=0), "'max_depth' parameter"),
    (DecisionTreeClassifier(criterion="giny"), "'criterion' parameter"),
    (DecisionTreeClassifier(max_features="half"), "'max_features' parameter"),
    (DecisionTreeClassifier(min_samples_leaf=0), "'min_samples_leaf' parameter"),
    (RandomForestClassifier(n_jobs=0), "n_jobs == 0"),
    (RandomForestClassifier(bootstrap=False, oob_score=True), "only available if bootstrap"),
    (RandomForestClassifier(max_samples=99), "'max_samples' parameter")])
def test_a_setting_that_makes_no_sense_is_refused_by_name(model, words):
    with pytest.raises(ValueError, match=words):
        model.fit(CORNERS, [0, 1, 1, 0])


def test_names_of_features_stand_in_the_text_and_have_to_be_as_many():
    model = DecisionTreeRegressor(max_depth=1).fit(CORNERS, [0, 0, 1, 1])
    text = export_text(model, ["width", "height"], 1)
    assert text.startswith("|--- width <= 0.5\n|   |--- value: [0.0]\n")
    with pytest.raises(ValueError, match="must contain 2 elements"):
        export_text(model, ["width"])
