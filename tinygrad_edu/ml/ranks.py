"""Lesson 4.69 · What a node of a tree looks at: rows in order, features by lot

Needs loops, memory. Used by cuts, growing, tree.

Idea      A tree does not care how far two values lie apart, only which is larger. So before it
          grows, every feature is sorted once, and each value replaced by its rank: 0 for the
          smallest, 1 for the next different one, and so on. The rows of a node are then sorted by
          whole numbers below N instead of floats, and whole numbers can be sorted without comparing
          any two: count how often each digit occurs, and every row knows where it belongs.
          The other question of a node is by which features: all of them in random order, or a few
          drawn by lot, so that the trees of a forest differ. Drawing a feature that has only one
          value left here would be a wasted look, and it has one value in all nodes below as well.
Math      levels[f, 0] < levels[f, 1] < …      levels[f, rank[f, n]] = x[n, f]                  (1)
          place of a key = how many keys have a smaller digit
                           + how many with the same digit stand before it                       (2)
          sorted = (2) by the lowest digit, then by the next one, … up to the highest
          Fisher-Yates: swap a random one of those left with the last of those left             (3)
Shapes    x (N, F) float32 → rank (F, N) int32, levels (F, U) float32, padded with zeros · keys
          int64, rank · 2³² + row · features (F,) a permutation
Pitfalls  (2) must keep the order of equal digits, or the second round destroys the first.
          Clearing and adding up 256 counters costs as much as sorting some forty keys by insertion:
          short lists are sorted that way.
          A node of a small forest may draw constant features only; it draws on until one is not.
          The draws are those of scikit-learn, one by one: the same seed then grows the same tree,
          ties included, which no comparison with a tolerance could promise.
Cost      A round is two passes over the keys; ranks below 65,536 take two rounds, the 17 levels of
          a pixel in the set of digits one. NumPy's argsort of floats compares log₂ N times a
          value: python -m tinygrad_edu.ml.ranks
Try       build it    digits of 11 bits. For which N are they faster?
          break it    let sort_keys put the last key of a digit first. Which test notices?
          measure it  python -m tinygrad_edu.ml.ranks, then with SHORT = 0 and SHORT = 1000
See       Knuth, "The Art of Computer Programming", volume 3, 5.2.5 (distribution sorting) and
          volume 2, 3.4.2 (shuffling) · Marsaglia 2003 "Xorshift RNGs"
"""

import numpy as np

from ..loops import helper
from ..memory import empty, zeros

SHORT = 40  # keys that insertion sorts sooner than counting
BITS = 8
DIGIT = 1 << BITS
LOW = 32  # bits of a key below the rank: the row
SAME = np.float32(1e-7)  # values that are no farther apart count as one


# ---- rows in order ------------------------------------------------------------------------------


def ranked(x):
    """(rank, levels) of x (N, F), as (1)."""
    columns = x.T
    order = np.argsort(columns, axis=1)
    ascending = np.take_along_axis(columns, order, axis=1)
    fresh = zeros(order.shape, np.int32)
    fresh[:, 1:] = ascending[:, 1:] > ascending[:, :-1]
    places = np.cumsum(fresh, axis=1, dtype=np.int32)
    rank = empty(order.shape, np.int32)
    np.put_along_axis(rank, order, places, axis=1)
    levels = zeros((len(columns), places[:, -1].max() + 1), columns.dtype)
    np.put_along_axis(levels, places.astype(np.int64), ascending, axis=1)
    return rank, levels


@helper
def sort_keys(keys, spare, tally, levels):
    """Sort keys by rank, which is below `levels`; returns the one of keys and spare they end up in.

    spare: as long as keys. tally (DIGIT,): counters. For compiled loops; plain Python is slow.
    """
    if keys.size <= SHORT:
        for i in range(1, keys.size):
            key = keys[i]
            j = i
            while j > 0 and keys[j - 1] > key:
                keys[j] = keys[j - 1]
                j -= 1
            keys[j] = key
        return keys
    shift = LOW
    while (levels - 1) >> (shift - LOW) > 0:
        for digit in range(DIGIT):
            tally[digit] = 0
        for key in keys:
            tally[(key >> shift) % DIGIT] += 1
        before = 0
        for digit in range(DIGIT):
            before, tally[digit] = before + tally[digit], before
        for key in keys:
            digit = (key >> shift) % DIGIT
            spare[tally[digit]] = key                                                         # (2)
            tally[digit] += 1
        keys, spare = spare, keys
        shift += BITS
    return keys


@helper
def cut_in_two(order, spare, ranks, last):
    """Rows of rank at most `last` first, each side in its order; returns how many those are."""
    count = later = 0
    for n in order:
        if ranks[n] <= last:
            order[count] = n
            count += 1
        else:
            spare[later] = n
            later += 1
    for i in range(later):
        order[count + i] = spare[i]
    return count


# ---- features by lot ----------------------------------------------------------------------------


@helper
def xorshift(state):
    """The next of 2³² − 1 numbers that look random, by three shifts (Marsaglia)."""
    state ^= (state << 13) & 0xFFFFFFFF
    state ^= state >> 17
    return state ^ ((state << 5) & 0xFFFFFFFF)


@helper
def is_constant(ranks, levels, rows):
    """Whether a feature has one value in these rows. Mostly the second row says no."""
    low = high = levels[ranks[rows[0]]]
    for n in rows:
        x = levels[ranks[n]]
        low = min(low, x)
        high = max(high, x)
        if high > low + SAME:
            return False
    return True


@helper
def draw_features(features, constants, known, state, wanted, rank, levels, rows):
    """Draw `wanted` features without replacement, more while all of them are constant.

    features is a permutation; its first `known` entries are constant in an ancestor. Drawn ones go
    to its end, the first drawn last; returns (where they begin, how many are constant now, state).
    """
    end, drawn, found, visited = len(features), 0, 0, 0
    while end > known + found and (visited < wanted or visited <= found + drawn):
        visited += 1
        state = xorshift(state)
        at = drawn + (state & 0x7FFFFFFF) % (end - found - drawn)
        if at < known:  # constant, as an ancestor has seen
            features[drawn], features[at] = features[at], features[drawn]
            drawn += 1
            continue
        at += found                                                                           # (3)
        feature = features[at]
        if is_constant(rank[feature], levels[feature], rows):
            goal = known + found
            found += 1
        else:
            end -= 1
            goal = end
        features[at], features[goal] = features[goal], feature
    for i in range(known):
        features[i] = constants[i]  # in the order in which the sibling will meet them
    for i in range(known, known + found):
        constants[i] = features[i]
    return end, known + found, state


def _measure(rounds=20):
    from statistics import median
    from time import perf_counter

    from ..loops import Compiled

    def by_digits(keys, spare, tally, levels):
        sort_keys(keys, spare, tally, levels)

    def by_comparing(keys, spare, tally, levels):
        np.argsort(keys)

    loops = {"digits": Compiled(by_digits), "argsort": Compiled(by_comparing),
             "numpy_argsort": by_comparing}
    for size in (20_000, 500, 30):
        many = 20_000 // size
        x = np.random.default_rng(0).standard_normal((size, 1), np.float32)
        rank, levels = ranked(x)
        keys = rank[0].astype(np.int64) << LOW | np.arange(size)
        spare, tally, times = np.empty_like(keys), np.empty(DIGIT, np.int64), {}
        for name in [*loops] * rounds:
            copies = [keys.copy() for _ in range(many)]
            start = perf_counter()
            for copy in copies:
                loops[name](copy, spare, tally, levels.shape[1])
            times.setdefault(name, []).append(perf_counter() - start)
        yield size, {name: median(t[1:]) * 1e9 / (many * size) for name, t in times.items()}


if __name__ == "__main__":
    for size, took in _measure():
        print(f"rows={size} " + " ".join(f"{name}_ns={ns:.1f}" for name, ns in took.items()))
