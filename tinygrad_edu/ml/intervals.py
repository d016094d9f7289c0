"""Lesson 4.92 · Intervals: how far a score may be from the truth, and whether two differ

Needs inputs, table. Used by scripts/classical.py.

Idea      0.93 on 50 rows and 0.93 on 50,000 rows are different findings. An interval says which
          values would not be surprised by what was seen. It can be drawn out of the rows: act as if
          they were the whole world, and draw as many again and again. Two models are compared on
          the same rows: then it matters only where they differ. And folds of a cross-validation
          share most of what they learned from, so they agree more than chance would have it: a test
          that forgets this finds differences where there are none.
Math      bootstrap: the middle 95 % of score(rows drawn with replacement)                      (1)
          Wilson: (p̂ + z²/2n ± z·√(p̂(1 − p̂)/n + z²/4n²))/(1 + z²/n), p̂ the share among n rows,
          z = 1.96 for 95 %: a normal number is within ±z so often                              (2)
          McNemar: of b + c rows on which one is right, b ~ Binomial(b + c, ½) if equal         (3)
          corrected t = d̄/√((1/k + n_test/n_train)·s²), k − 1 degrees of freedom; d̄ the mean and
          s² the variance (over k − 1) of the differences d of k folds                          (4)
          permutation: the share of sign patterns with |Σ ±dᵢ| ≥ |Σ dᵢ|                         (5)
          Student's T with ν degrees of freedom: P(|T| > t) = I(ν/(ν + t²); ν/2, ½), I the
          incomplete beta function (regularised: I(1; …) = 1)                                   (6)
Shapes    y, guesses, losses (N,), one entry a row · differences (k,), one a fold · an interval is
          (low, high); a test gives p, the chance of such a difference or more if there is none
Pitfalls  An interval of one split knows nothing about another choice of training rows.
          p is not the chance that the models are equal; and one of twenty comparisons has
          p < 0.05 by chance alone.
          A bootstrap of few rows may draw one class only: a ROC area has no value there.
          Intervals that overlap do not mean that there is no difference: compare on the same rows.
Cost      The bootstrap scores `draws` times; the rest is nothing.
Try       build it    the interval of a difference of two scores, by drawing rows for both at once.
          break it    leave n_test/n_train out of (4) and compare a model with itself on other
                      folds: how often is p < 0.05?
          measure it  python scripts/classical.py classify --data iris
See       Efron 1979 · Wilson 1927 · McNemar 1947 · Nadeau, Bengio 2003 (4) · Dietterich 1998 ·
          Numerical Recipes, "Incomplete Beta Function"                                         (6)
"""

import math
from itertools import product
from statistics import NormalDist

import numpy as np

from .inputs import check_random_state
from .table import count_rows, take_rows


def bootstrap_interval(score, *columns, level=0.95, draws=1000, random_state=0):
    """(low, high) of score(*columns), (1). Draws on which the score has no value are left out.

    columns: arrays (N, …) whose rows belong together. Raises ValueError where no draw has a value.
    """
    random = check_random_state(random_state)
    rows = count_rows(columns[0])
    found = []
    for _ in range(draws):
        drawn = random.integers(0, rows, rows)
        try:
            value = score(*(take_rows(column, drawn) for column in columns))
        except ValueError:  # such as one class only
            continue
        if not math.isnan(value):
            found.append(value)
    if not found:
        raise ValueError(f"the score has no value on any of {draws} draws of these {rows} rows")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])                        # (1)
    return float(low), float(high)


def wilson_interval(hits, rows, level=0.95):
    """(low, high) of a share of which `hits` of `rows` were seen, (2). Good near 0 and 1 too."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / rows
    middle = share + z * z / (2 * rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    whole = 1 + z * z / rows
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)               # (2)


def mcnemar_test(y, guess_a, guess_b):
    """p of (3): are two classifiers right equally often? Exact, two-sided."""
    y, guess_a, guess_b = (np.asarray(v) for v in (y, guess_a, guess_b))
    right_a, right_b = guess_a == y, guess_b == y
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    differ = only_a + only_b
    tail = sum(math.comb(differ, i) for i in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**differ)                                                     # (3)


def corrected_t_test(differences, test_share):
    """(t, p) of (4): is the mean difference of two models over folds zero?

    differences: score of one minus score of the other, per fold. test_share: rows of a fold over
    all rows, 1/k in a k-fold cross-validation.
    """
    d = np.asarray(differences, float)
    spread = corrected_deviation(d, test_share)
    if spread == 0:
        return (0.0, 1.0) if d.mean() == 0 else (math.copysign(math.inf, d.mean()), 0.0)
    t = float(d.mean() / spread)                                                              # (4)
    return t, student_p(t, len(d) - 1)


def corrected_deviation(values, test_share):
    """The standard deviation of the mean of folds that share training rows, (4)."""
    values = np.asarray(values, float)
    if len(values) < 2:
        raise ValueError("two folds or more are needed to see how much they vary")
    more = 1 / len(values) + test_share / (1 - test_share)
    return float(np.sqrt(more * values.var(ddof=1)))


def fold_interval(scores, test_share, level=0.95):
    """(low, high) of the mean score of folds, by the deviation of (4)."""
    half = student_quantile(level, len(scores) - 1) * corrected_deviation(scores, test_share)
    return float(np.mean(scores) - half), float(np.mean(scores) + half)


def permutation_test(losses_a, losses_b, draws=10_000, random_state=0):
    """p of (5): is one loss smaller, row by row? All sign patterns of up to 12 rows, else draws."""
    d = np.asarray(losses_a, float) - np.asarray(losses_b, float)
    d = d[d != 0]  # no sign changes these
    seen = abs(d.sum()) * (1 - 1e-12)  # the same sum in another order may be off by rounding
    if len(d) <= 12:
        signs = np.array(list(product((-1, 1), repeat=len(d)))).reshape(2 ** len(d), len(d))
        return float(np.mean(np.abs(signs @ d) >= seen))                                      # (5)
    random = check_random_state(random_state)
    hits = 1  # the pattern that was seen is one of them
    for _ in range(draws):
        hits += abs(random.choice((-1.0, 1.0), len(d)) @ d) >= seen
    return float(hits / (draws + 1))


# ---- Student's t ------------------------------------------------------------------------------


def student_p(t, freedom):
    """P(|T| > |t|), (6)."""
    return incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def student_quantile(level, freedom):
    """The t with P(|T| > t) = 1 − level, by halving an interval."""
    low, high = 0.0, 1.0
    while student_p(high, freedom) > 1 - level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > 1 - level else (low, middle)
    return (low + high) / 2


def incomplete_beta(x, a, b):
    """I(x; a, b) = ∫₀ˣ tᵃ⁻¹(1 − t)ᵇ⁻¹ dt / B(a, b), by its continued fraction."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction would converge slowly
        return 1 - incomplete_beta(1 - x, b, a)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta) / a
    fraction, c, d = 1.0, 1.0, 0.0
    for i in range(300):
        m = i // 2
        if i == 0:
            term = 1.0
        elif i % 2:
            term = -(a + m) * (a + b + m) * x / ((a + i - 1) * (a + i))
        else:
            term = m * (b - m) * x / ((a + i - 1) * (a + i))
        d = 1 / (1 + term * d)
        c = 1 + term / c
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * (fraction - 1)
