"""Lesson 4.83 · Splits: rows to learn from, rows to be judged by

Needs inputs, table. Used by encoding, validate, scripts/classical.py.

Idea      What was learned by heart looks perfect on the rows it was learned from. So some rows are
          put aside and nothing is learned from them; in k folds every row is put aside once, so
          that all of them judge. Which rows go together is the question of honesty here: classes in
          the same shares everywhere, all rows of one patient on one side, the past on the side of
          learning and the future on that of judging.
Math      fold j of k tests N/k neighbouring rows; the first N mod k folds have one more        (1)
          stratified: fold j has counts of class c that differ by at most 1 between folds       (2)
          groups: the largest first, each into the fold with the fewest rows so far             (3)
          time: fold j tests the rows after all that it learns from                             (4)
Shapes    split(X, y, groups) yields (train, test), arrays of row numbers, sorted unless shuffled
          by train_test_split · y, groups (N,)
Pitfalls  Rows sorted by class and folds that are not shuffled: each fold tests what the others
          never saw. Duplicate rows on both sides: the test is a memory test.
          Folds share most of their training rows, so their scores are not independent: lesson
          intervals.
          A class with fewer rows than folds is missing in some fold.
Cost      A sort of y or of the groups.
Try       build it    leave-one-out, and the bias it has on a majority vote (labels half and half).
          break it    deal classes out one after the other, each beginning at fold 0. Which test
                      notices that fold 0 grows?
          measure it  scripts/classical.py leaks: what does one row on both sides cost?
See       Stone 1974 · Kohavi 1995 · scikit-learn user guide, "Cross-validation iterators" (whose
          folds these are, row for row, where nothing is shuffled)
"""

import warnings
from numbers import Integral

import numpy as np

from .inputs import check_column, check_random_state, encode_classes
from .table import count_rows, take_rows


class Folds:
    """k folds: `test_folds` of a subclass says which one tests each row."""

    def __init__(self, n_splits=5, shuffle=False, random_state=None):
        if not isinstance(n_splits, Integral) or n_splits < 2:
            raise ValueError(f"n_splits has to be a whole number, at least 2, not {n_splits!r}: "
                             "one fold learns while another one judges")
        if random_state is not None and not shuffle:
            raise ValueError("random_state has no effect without shuffle=True: set both or neither")
        self.n_splits, self.shuffle, self.random_state = int(n_splits), shuffle, random_state

    def __repr__(self):
        told = f"n_splits={self.n_splits}, shuffle={self.shuffle}"
        return f"{type(self).__name__}({told}, random_state={self.random_state!r})"

    def get_n_splits(self, X=None, y=None, groups=None):
        """How many (train, test) pairs there will be."""
        return self.n_splits

    def split(self, X, y=None, groups=None):
        """(rows to learn from, rows to test) for each fold."""
        samples = count_rows(X)
        if samples < self.n_splits:
            raise ValueError(f"Cannot have number of splits n_splits={self.n_splits} greater than "
                             f"the number of samples: n_samples={samples}")
        fold_of = self.test_folds(samples, y, groups)
        for fold in range(self.n_splits):
            yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


class KFold(Folds):
    """Runs of neighbouring rows, or rows at random."""

    def test_folds(self, samples, y, groups):
        """The fold of each row, (1)."""
        sizes = [len(part) for part in np.array_split(np.arange(samples), self.n_splits)]     # (1)
        fold_of = np.repeat(np.arange(self.n_splits), sizes)
        if self.shuffle:
            check_random_state(self.random_state).shuffle(fold_of)
        return fold_of


class StratifiedKFold(Folds):
    """Every fold has the classes in the same shares."""

    def test_folds(self, samples, y, groups):
        """The fold of each row, (2): the classes, laid end to end, are dealt out like cards."""
        y = check_column(y, samples, "StratifiedKFold")
        codes = in_order_of_appearance(encode_classes(y)[1])
        counts = np.bincount(codes)
        if self.n_splits > counts.max():
            raise ValueError(f"n_splits={self.n_splits} cannot be greater than the number of "
                             "members in each class: ask for fewer folds")
        if self.n_splits > counts.min():
            warnings.warn(f"The least populated class in y has only {counts.min()} members, which "
                          f"is less than n_splits={self.n_splits}.", UserWarning, stacklevel=3)
        random = check_random_state(self.random_state)
        fold_of = np.empty(samples, int)
        ends = counts.cumsum()
        for code, end in enumerate(ends):
            dealt = np.arange(end - counts[code], end) % self.n_splits                        # (2)
            dealt = np.sort(dealt)  # the first rows of a class into the first fold
            if self.shuffle:
                random.shuffle(dealt)
            fold_of[codes == code] = dealt
        return fold_of


class GroupKFold(Folds):
    """All rows of a group (a patient, a customer) are in one fold."""

    def test_folds(self, samples, y, groups):
        """The fold of each row, (3)."""
        if groups is None:
            raise ValueError("The 'groups' parameter should not be None: it says which rows belong "
                             "together")
        names, codes = np.unique(check_column(groups, samples, name="groups"), return_inverse=True)
        if self.n_splits > len(names):
            raise ValueError(f"Cannot have number of splits n_splits={self.n_splits} greater than "
                             f"the number of groups: {len(names)}.")
        counts = np.bincount(codes)
        order = np.argsort(counts, kind="stable")[::-1]
        if self.shuffle:
            order = check_random_state(self.random_state).permutation(len(names))
        sizes, fold_of = np.zeros(self.n_splits, int), np.empty(len(names), int)
        for group in order:
            fold_of[group] = sizes.argmin()                                                   # (3)
            sizes[fold_of[group]] += counts[group]
        return fold_of[codes]


class TimeSeriesSplit:
    """The rows are in the order of time: learn from the past, test on what follows, (4)."""

    def __init__(self, n_splits=5, test_size=None, gap=0):
        self.n_splits, self.test_size, self.gap = n_splits, test_size, gap

    def __repr__(self):
        told = f"n_splits={self.n_splits}, test_size={self.test_size}, gap={self.gap}"
        return f"TimeSeriesSplit({told})"

    def get_n_splits(self, X=None, y=None, groups=None):
        """How many (train, test) pairs there will be."""
        return self.n_splits

    def split(self, X, y=None, groups=None):
        """(rows before, rows after) for each fold; `gap` rows between them are left out."""
        samples = count_rows(X)
        size = self.test_size or samples // (self.n_splits + 1)
        first = samples - self.n_splits * size
        if size < 1 or first - self.gap < 1:
            raise ValueError(f"Too many splits={self.n_splits} for number of samples={samples} with"
                             f" test_size={size} and gap={self.gap}.")
        rows = np.arange(samples)
        for start in range(first, samples, size):
            yield rows[:start - self.gap], rows[start:start + size]                           # (4)


def in_order_of_appearance(y):
    """Labels as 0, 1, 2 … in the order in which they first occur."""
    _, first, codes = np.unique(y, return_index=True, return_inverse=True)
    rank = np.empty(len(first), int)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[codes]


def train_test_split(*arrays, test_size=0.25, random_state=None, shuffle=True, stratify=None):
    """[train, test] of each array in turn: one split, the same rows of all.

    test_size: a share, rounded up, or a number of rows. stratify: labels whose shares both sides
    are to have, (2). Without shuffling the last rows test. Raises ValueError where a side is empty.
    """
    if not arrays:
        raise ValueError("At least one array required as input")
    samples = count_rows(arrays[0])
    for array in arrays:
        if count_rows(array) != samples:
            raise ValueError("Found input variables with inconsistent numbers of samples: "
                             f"{[count_rows(each) for each in arrays]}")
    whole = isinstance(test_size, Integral)
    held = int(test_size) if whole else int(np.ceil(test_size * samples))
    if not 0 < held < samples:
        raise ValueError(f"test_size={test_size} of {samples} rows leaves {samples - held} to learn"
                         f" from and {held} to test: both sides need one at least")
    rows = np.arange(samples)
    if stratify is not None:
        rows = stratified_order(check_column(stratify, samples, name="stratify"), held,
                                check_random_state(random_state))
    elif shuffle:
        rows = check_random_state(random_state).permutation(samples)
    sides = rows[:samples - held], rows[samples - held:]
    return [take_rows(array, side) for array in arrays for side in sides]


def stratified_order(y, held, random):
    """Row numbers, the last `held` of which have the classes in the shares of y."""
    codes = in_order_of_appearance(y)
    counts = np.bincount(codes)
    if counts.min() < 2 or held < len(counts):
        raise ValueError(f"The least populated class in y has {counts.min()} member(s) and "
                         f"{held} rows test: every class needs a row on both sides")
    exact = held * counts / len(y)
    quota = np.floor(exact).astype(int)
    for code in np.argsort(quota - exact, kind="stable")[:held - quota.sum()]:
        quota[code] += 1  # the largest remainders get what is left
    order = random.permutation(len(y))
    place = np.empty(len(y), int)  # of each shuffled row within its class
    for code in range(len(counts)):
        place[codes[order] == code] = np.arange(counts[code])
    tests = place < quota[codes[order]]
    return np.concatenate([order[~tests], order[tests]])


def check_cv(cv, y=None, classifier=False):
    """A splitter: cv itself if it can split, k folds for a number; stratified for classes.

    An iterable of (train, test) pairs is turned into a list of them.
    """
    if cv is None or isinstance(cv, Integral):
        kind = StratifiedKFold if classifier and y is not None else KFold
        return kind(5 if cv is None else cv)
    if hasattr(cv, "split"):
        return cv
    pairs = list(cv)
    if not all(len(pair) == 2 for pair in pairs):
        raise ValueError("cv takes a number of folds, a splitter, or (train, test) pairs of rows")
    return Given(pairs)


class Given:
    """Pairs of (train, test) that somebody else has made."""

    def __init__(self, pairs):
        self.pairs = pairs

    def get_n_splits(self, X=None, y=None, groups=None):
        """How many there are."""
        return len(self.pairs)

    def split(self, X=None, y=None, groups=None):
        """The pairs."""
        yield from self.pairs
