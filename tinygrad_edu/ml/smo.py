"""Lesson 4.101 · Kernels and SMO: solving for two numbers at a time

Needs kernel, loops. Used by svm.

Idea      Lesson linear_svm found the widest street between two classes. Its answer is a weighted
          sum of training rows, and the rows are only ever seen through dot products. So replace
          the dot product by another measure of how alike two rows are, a kernel: it is the dot
          product of some longer descriptions of the rows, which nobody has to write down. A flat
          street in that longer space is a curved one in ours. (These kernels are functions of two
          rows; lesson kernel means something else by the word.) What is left is to find a weight
          for each row. Platt's sequential minimal optimisation, SMO, takes the smallest step there
          is: the weights must sum to zero, so it changes two of them, one up and one down. It
          chooses the pair that promises most and solves for it by hand.
Math      k(a, b) = a·b | (γ·a·b + c)ᵈ | exp(−γ‖a − b‖²) | tanh(γ·a·b + c)       K = k(xᵢ, xⱼ)  (1)
          maximise t·β − ½·βᵀKβ  where  Σβ = 0,  low ≤ β ≤ high       gradient g = t − Kβ      (2)
          i = argmax g over {β < high}     stop when g_i − min g over {β > low} < tolerance    (3)
          j = argmax (g_i − g_j)²/η,  η = Kᵢᵢ + Kⱼⱼ − 2Kᵢⱼ,  over {β > low, g_j < g_i}         (4)
          s = min((g_i − g_j)/η, high_i − β_i, β_j − low_j)      β_i += s     β_j −= s         (5)
          f(x) = Σβᵢ·k(xᵢ, x) + b, and b is the mean of g where low < β < high; where there is
          none, half way between the two ends of (3)                                           (6)
Shapes    x (n, p) · t, β, g, low, high (m,): m is n or 2n, and number i belongs to row i mod n
Pitfalls  A weight that was cut at a bound by (5) must be set to the bound, not added up to it:
          otherwise rounding leaves it a hair inside, free for ever.
          tanh is no dot product of anything for most γ and c: η may be negative, and (2) has no
          single answer. A floor under η keeps the step finite.
          ‖a‖² + ‖b‖² − 2·a·b is negative by rounding where a = b.
Cost      A step reads two rows of K and the gradient: O(n), or O(n·p) for a row that has to be
          computed. Rows that were used lately stay in a cache of `slots` rows. Steps: about as many
          as support vectors at first, several times that to a small tolerance or with a large C.
Try       build it    leave out rows that stay at a bound for long (shrinking), and look at them
                      again at the end. From how many rows on does it pay?
          break it    choose j by the smallest g alone (first order) in place of (4). How many more
                      steps are counted?
          measure it  python -m tinygrad_edu.ml.smo: microseconds a step, and how many
See       Platt 1998 (SMO) · Fan, Chen, Lin 2005, eq. 4 to 8 (choosing the pair by second order)
          · Chang, Lin 2011 (libsvm) · Bottou, Lin 2007, section 2 (signed weights)
"""

import numpy as np

from ..kernel import Kernel
from ..loops import exp, helper

LINEAR, POLY, RBF, SIGMOID, PRECOMPUTED = range(5)
FORMS = {"linear": LINEAR, "poly": POLY, "rbf": RBF, "sigmoid": SIGMOID,
         "precomputed": PRECOMPUTED}
TINY = 1e-12  # the floor under η


def gram(a, b, form, gamma, coef0, degree):
    """k of (1) for each row of a with each row of b: (len(a), len(b))."""
    if form == PRECOMPUTED:
        return a
    dots = a @ b.T
    if form == LINEAR:
        return dots
    if form == RBF:
        squares = (a * a).sum(1)[:, None] + (b * b).sum(1)
        return np.exp(-gamma * np.maximum(squares - 2 * dots, 0))
    inside = gamma * dots + coef0
    return np.tanh(inside) if form == SIGMOID else inside**degree


@helper
def row_of_gram(row, i, x, squares, form, gamma, coef0, degree):
    for t in range(x.shape[0]):
        dot = row.dtype.type(0)
        for c in range(x.shape[1]):
            dot += x[i, c] * x[t, c]
        row[t] = dot
    for t in range(x.shape[0]):                                                                # (1)
        if form == RBF:
            row[t] = exp(-gamma * max(squares[i] + squares[t] - 2 * row[t], row.dtype.type(0)))
        elif form == POLY:
            row[t] = (gamma * row[t] + coef0) ** degree
        elif form == SIGMOID:
            row[t] = np.tanh(gamma * row[t] + coef0)
        elif form == PRECOMPUTED:
            row[t] = x[i, t]


@Kernel(outputs=1, inout="beta g")
def smo(steps, beta, g, x, low, high, form, gamma, coef0, degree, tolerance, limit, slots):
    k = gram(x, x, form, gamma, coef0, degree)
    k = np.tile(k, (len(beta) // len(x),) * 2)
    diagonal = k.diagonal()
    for steps[0] in range(limit + 1):
        up = np.where(beta < high, g, -np.inf)
        down = np.where(beta > low, g, np.inf)
        i = up.argmax()                                                                        # (3)
        if up[i] - down.min() < tolerance or steps[0] == limit:
            break
        gap = np.maximum(up[i] - down, 0)
        curve = np.maximum(diagonal[i] + diagonal - 2 * k[i], TINY)
        j = np.where(np.isfinite(gap), gap * gap / curve, -np.inf).argmax()                    # (4)
        step = min(gap[j] / curve[j], high[i] - beta[i], beta[j] - low[j])                     # (5)
        beta[i] = high[i] if step == high[i] - beta[i] else beta[i] + step
        beta[j] = low[j] if step == beta[j] - low[j] else beta[j] - step
        g -= step * (k[i] - k[j])


@smo.body("numba")
def smo_numba(steps, beta, g, x, low, high, form, gamma, coef0, degree, tolerance, limit, slots):
    real, n = x.dtype.type, x.shape[0]
    gamma, coef0 = real(gamma), real(coef0)
    squares = (x * x).sum(axis=1)
    diagonal = np.empty(n, x.dtype)
    diagonal_of_gram(diagonal, x, squares, form, gamma, coef0, degree)
    rows = np.empty((slots, n), x.dtype)           # the cache: row owner[s] of K lies in rows[s]
    owner, place = np.full(slots, -1), np.full(n, -1)
    used = np.zeros(slots, np.int64)               # the step that last read the slot
    steps[0] = 0
    while steps[0] < limit:
        i, top = highest(beta, g, high)                                                        # (3)
        if i < 0:
            break
        s = slot_of(i % n, steps[0] + 1, rows, owner, place, used, x, squares, form, gamma, coef0,
                    degree)
        j, bottom = partner(beta, g, low, top, i % n, rows[s], diagonal)                       # (4)
        if j < 0 or top - bottom < tolerance:
            break
        r = slot_of(j % n, steps[0] + 1, rows, owner, place, used, x, squares, form, gamma, coef0,
                    degree)
        curve = max(diagonal[i % n] + diagonal[j % n] - 2 * rows[s, j % n], real(TINY))
        up, down = high[i] - beta[i], beta[j] - low[j]
        step = min((top - g[j]) / curve, up, down)                                             # (5)
        beta[i] = high[i] if step == up else beta[i] + step
        beta[j] = low[j] if step == down else beta[j] - step
        for half in range(0, beta.size, n):
            for t in range(n):
                g[half + t] -= step * (rows[s, t] - rows[r, t])
        steps[0] += 1


@helper
def diagonal_of_gram(diagonal, x, squares, form, gamma, coef0, degree):
    for t in range(x.shape[0]):
        inside = gamma * squares[t] + coef0
        if form == RBF:
            diagonal[t] = 1
        elif form == POLY:
            diagonal[t] = inside**degree
        elif form == SIGMOID:
            diagonal[t] = np.tanh(inside)
        else:
            diagonal[t] = x[t, t] if form == PRECOMPUTED else squares[t]


@helper
def highest(beta, g, high):
    best, top = -1, -np.inf
    for t in range(beta.size):
        if beta[t] < high[t] and g[t] > top:
            best, top = t, g[t]
    return best, top


@helper
def partner(beta, g, low, top, i, row, diagonal):
    best, most, bottom, n = -1, -1.0, np.inf, row.size
    for half in range(0, beta.size, n):
        for t in range(n):
            if beta[half + t] > low[half + t]:
                bottom = min(bottom, g[half + t])
                gap = top - g[half + t]
                curve = max(diagonal[i] + diagonal[t] - 2 * row[t], TINY)
                if gap > 0 and gap * gap > most * curve:
                    best, most = half + t, gap * gap / curve
    return best, bottom


@helper
def slot_of(i, now, rows, owner, place, used, x, squares, form, gamma, coef0, degree):
    if place[i] < 0:
        s = np.argmin(used)                        # the slot that was not read for the longest
        if owner[s] >= 0:
            place[owner[s]] = -1
        owner[s], place[i] = i, s
        row_of_gram(rows[s], i, x, squares, form, gamma, coef0, degree)
    used[place[i]] = now
    return place[i]


def solve(x, t, low, high, tolerance, limit, megabytes, form, gamma=1.0, coef0=0.0, degree=3):
    """(β, b, steps) of (2) and (6). steps = limit: it was stopped before (3) was met.

    x (n, p) float64, or K itself where form is PRECOMPUTED; t, low, high (n,) or (2n,), with
    low ≤ 0 ≤ high. megabytes: of the cache.
    """
    beta, g, steps = np.zeros_like(t), t.copy(), np.zeros(1, np.int64)
    slots = min(len(x), max(2, int(megabytes * 2**20 / (x.itemsize * len(x)))))
    smo(steps, beta, g, x, low, high, form, float(gamma), float(coef0), degree, tolerance, limit,
        slots)
    free = (low < beta) & (beta < high)
    if free.any():
        return beta, g[free].mean(), int(steps[0])
    top = g[beta < high].max(initial=-np.inf)
    bottom = g[beta > low].min(initial=np.inf)
    return beta, (top + bottom) / 2, int(steps[0])                                             # (6)


if __name__ == "__main__":
    from time import perf_counter

    x = np.random.default_rng(0).standard_normal((2000, 10))
    t = np.sign(x[:, 0] * x[:, 1])
    bounds = np.minimum(t, 0), np.maximum(t, 0)
    solve(x, t, *bounds, 1e-3, 1, 200, RBF, 0.1)  # compile
    start = perf_counter()
    beta, _, steps = solve(x, t, *bounds, 1e-3, 10**6, 200, RBF, 0.1)
    took = perf_counter() - start
    print(f"rows=2000 support={np.count_nonzero(beta)} steps={steps} us={took / steps * 1e6:.1f}")
