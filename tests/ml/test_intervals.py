"""Intervals cover as often as they say, and tests cry wolf as rarely."""

import numpy as np
import pytest

from tinygrad_edu.ml import intervals


def test_an_interval_of_95_percent_has_the_truth_in_it_about_95_times_in_100():
    random = np.random.default_rng(0)
    wilson = bootstrap = 0
    for _ in range(200):
        seen = random.random(80) < 0.85
        low, high = intervals.wilson_interval(seen.sum(), 80)
        wilson += low <= 0.85 <= high
        low, high = intervals.bootstrap_interval(np.mean, seen, draws=80, random_state=random)
        bootstrap += low <= 0.85 <= high
    assert 0.92 < wilson / 200 < 0.99 and 0.88 < bootstrap / 200 < 0.98


def test_draws_without_a_value_are_left_out_and_none_left_is_told():
    def two_classes(y):
        if y.min() == y.max():
            raise ValueError("one class")
        return y.mean()

    low, high = intervals.bootstrap_interval(two_classes, np.array([0, 1, 1]), random_state=0)
    assert 1 / 3 <= low < high <= 2 / 3
    with pytest.raises(ValueError, match="no value on any of 1000 draws"):
        intervals.bootstrap_interval(two_classes, np.ones(4))


def test_mcnemar_counts_only_where_they_differ():
    y = np.zeros(30)
    a, b = np.zeros(30), np.zeros(30)
    b[:6] = 1  # six times only a is right
    assert intervals.mcnemar_test(y, a, b) == 2 * 0.5**6
    a[10:20] = b[10:20] = 1  # both wrong: no matter
    assert intervals.mcnemar_test(y, a, b) == 2 * 0.5**6
    assert intervals.mcnemar_test(y, a, a) == 1


def test_the_corrected_test_is_slower_to_believe_than_the_plain_one():
    d = np.array([0.02, 0.01, 0.03, 0.0, 0.02])
    t, p = intervals.corrected_t_test(d, 0.2)
    plain = d.mean() / (d.std(ddof=1) / np.sqrt(5))
    assert t == pytest.approx(plain * np.sqrt((1 / 5) / (1 / 5 + 1 / 4)))
    assert p == pytest.approx(intervals.student_p(t, 4)) and p > intervals.student_p(plain, 4)
    assert intervals.corrected_t_test(np.zeros(3), 0.3) == (0, 1)
    assert intervals.corrected_t_test(np.full(3, 0.25), 0.3)[1] == 0
    with pytest.raises(ValueError, match="two folds or more"):
        intervals.corrected_t_test([0.1], 0.5)


def test_an_interval_of_folds_has_the_mean_in_its_middle():
    low, high = intervals.fold_interval([0.8, 0.9, 0.85], 1 / 3)
    assert (low + high) / 2 == pytest.approx(0.85) and high - low > 0.1


def test_sign_patterns_are_counted_exactly_or_drawn():
    assert intervals.permutation_test([1, 1, 1, 1], [0, 0, 0, 0]) == 2 / 16
    assert intervals.permutation_test([1, 2], [1, 2]) == 1
    random = np.random.default_rng(0)
    small = [intervals.permutation_test(random.normal(size=30), random.normal(size=30), 100, 0)
             for _ in range(100)]
    assert 0 <= np.mean(np.array(small) < 0.05) < 0.13  # nothing differs here


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (4, 2.776), (30, 2.042)])
def test_students_t_is_that_of_the_tables(freedom, quantile):
    assert intervals.student_quantile(0.95, freedom) == pytest.approx(quantile, abs=5e-4)
    assert intervals.student_p(0, freedom) == pytest.approx(1)


def test_the_incomplete_beta_function_in_closed_form():
    for x in (0.1, 0.5, 0.93):
        assert intervals.incomplete_beta(x, 3, 1) == pytest.approx(x**3, rel=1e-13)
        assert intervals.incomplete_beta(x, 1, 2.5) == pytest.approx(1 - (1 - x) ** 2.5, rel=1e-13)
    assert intervals.incomplete_beta(0, 2, 2) == 0 and intervals.incomplete_beta(1, 2, 2) == 1
