"""Which rows learn and which judge."""

import numpy as np
import pytest

from tinygrad_edu.ml.splits import (
    GroupKFold,
    KFold,
    StratifiedKFold,
    TimeSeriesSplit,
    check_cv,
    train_test_split,
)
from tinygrad_edu.ml.table import Table

ROWS = np.arange(23)
LABELS = np.array(list("aaaabbbbbbbbbbccccccccc"))


@pytest.mark.parametrize("splitter", [KFold(5), KFold(5, True, 0), StratifiedKFold(4),
                                      StratifiedKFold(4, True, 1), GroupKFold(3)])
def test_every_row_judges_once_and_never_where_it_was_learned_from(splitter):
    pairs = list(splitter.split(ROWS, LABELS, groups=ROWS // 4))
    assert len(pairs) == splitter.get_n_splits()
    assert sorted(np.concatenate([test for _, test in pairs])) == ROWS.tolist()
    for train, test in pairs:
        assert sorted([*train, *test]) == ROWS.tolist()


def test_strata_have_counts_that_differ_by_one_at_most_and_so_have_the_folds():
    for shuffle in (False, True):
        splitter = StratifiedKFold(4, shuffle, 0 if shuffle else None)
        counts = np.array([[np.sum(LABELS[test] == c) for c in "abc"]
                           for _, test in splitter.split(ROWS, LABELS)])
        assert np.ptp(counts, axis=0).max() <= 1 and np.ptp(counts.sum(1)) <= 1


def test_a_group_is_never_on_both_sides_and_folds_are_even():
    groups = np.repeat(np.arange(7), [1, 9, 2, 3, 4, 2, 2])
    sizes = []
    for train, test in GroupKFold(3).split(ROWS, groups=groups):
        assert not set(groups[train]) & set(groups[test])
        sizes.append(len(test))
    assert sorted(sizes) == [7, 7, 9]


def test_time_goes_forward():
    pairs = list(TimeSeriesSplit(4, gap=2).split(ROWS))
    assert [test.tolist() for _, test in pairs][-1] == [19, 20, 21, 22]
    for train, test in pairs:
        assert train.max() + 2 < test.min()


def test_one_split_takes_the_same_rows_of_everything():
    X, table = np.column_stack([ROWS, ROWS]), Table({"row": ROWS})
    out = train_test_split(X, LABELS, table, list(ROWS), test_size=6, random_state=0)
    X_train, X_test, y_train, y_test, t_train, t_test, l_train, l_test = out
    assert len(X_test) == 6 and sorted([*X_train[:, 0], *X_test[:, 0]]) == ROWS.tolist()
    assert (LABELS[X_test[:, 0]] == y_test).all() and (LABELS[X_train[:, 0]] == y_train).all()
    assert (t_test["row"] == X_test[:, 0]).all() and (l_train == X_train[:, 0]).all()
    assert train_test_split(ROWS, test_size=0.2, shuffle=False)[1].tolist() == [18, 19, 20, 21, 22]


def test_a_stratified_split_keeps_the_shares():
    _, _, train, test = train_test_split(ROWS, LABELS, test_size=0.5, stratify=LABELS,
                                         random_state=1)
    assert [np.sum(test == c) for c in "abc"] in ([2, 5, 5], [2, 6, 4], [3, 5, 4])
    assert len(train) + len(test) == 23


@pytest.mark.parametrize(("call", "said"), [
    (lambda: KFold(1), "at least 2"), (lambda: KFold(3, random_state=0), "without shuffle=True"),
    (lambda: list(KFold(30).split(ROWS)), "n_splits=30 greater than the number of samples"),
    (lambda: list(StratifiedKFold(12).split(ROWS, LABELS)), "members in each class"),
    (lambda: list(StratifiedKFold(2).split(ROWS, ROWS + 0.5)), "continuous"),
    (lambda: list(GroupKFold(3).split(ROWS)), "'groups' parameter should not be None"),
    (lambda: list(GroupKFold(3).split(ROWS, groups=ROWS * 0)), "number of groups: 1"),
    (lambda: list(TimeSeriesSplit(30).split(ROWS)), "Too many splits"),
    (lambda: train_test_split(ROWS, LABELS[1:]), "inconsistent numbers of samples"),
    (lambda: train_test_split(ROWS, test_size=23), "leaves 0 to learn from and 23 to test"),
    (lambda: train_test_split(ROWS, stratify=ROWS), "least populated class")])
def test_a_split_that_cannot_be_is_told_in_one_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_folds_are_given_as_a_number_a_splitter_or_pairs():
    assert isinstance(check_cv(3, LABELS, classifier=True), StratifiedKFold)
    assert isinstance(check_cv(3, LABELS), KFold)
    pairs = [([0, 1], [2]), ([1, 2], [0])]
    assert list(check_cv(pairs).split(ROWS)) == pairs
