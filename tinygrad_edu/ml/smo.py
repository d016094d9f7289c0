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
          chooses the pair that promises most and solves for it by hand. The gradient says how much
          each weight would like to move, and is kept up to date, so a step needs two rows of K and
          never all of it.
Math      k(a, b) = a·b | (γ·a·b + c)ᵈ | exp(−γ‖a − b‖²) | tanh(γ·a·b + c)       K = k(xᵢ, xⱼ)  (1)
          maximise t·β − ½·βᵀKβ  where  Σβ = 0,  low ≤ β ≤ high       gradient g = t − Kβ      (2)
          i = argmax g over {β < high}     stop when g_i − min g over {β > low} < tolerance    (3)
          j = argmax (g_i − g_j)²/η,  η = Kᵢᵢ + Kⱼⱼ − 2Kᵢⱼ,  over {β > low, g_j < g_i}         (4)
          s = min((g_i − g_j)/η, high_i − β_i, β_j − low_j)      β_i += s     β_j −= s         (5)
          f(x) = Σβᵢ·k(xᵢ, x) + b, and b is the mean of g where low < β < high; where there is
          none, half way between the two ends of (3)                                           (6)
Shapes    x (n, p) · t, β, g, low, high (m,): m is n or 2n, and number i belongs to row i mod n
          like: the form of the kernel and its numbers, (form, γ, c, d)
Pitfalls  A weight that was cut at a bound by (5) must be set to the bound, not added up to it:
          otherwise rounding leaves it a hair inside, free for ever.
          tanh is no dot product of anything for most γ and c: η may be negative, and (2) has no
          single answer. A floor under η keeps the step finite.
          ‖a‖² + ‖b‖² − 2·a·b is negative by rounding where a = b.
          Two rows that are equal have η = 0; whichever of them gets the weight, f is the same. So
          β is not unique, and two programs may name different support vectors.
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


def gram(a, b, like):
    """k of (1) for each row of a with each row of b: (len(a), len(b)). like: (form, γ, c, d)."""
    form, gamma, coef0, degree = like
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
def row_of_gram(row, i, x, squares, like):
    # Row i of K. The dot products are one loop, what is made of them is another: a loop that asks
    # for the form at each element would be no vector loop.
    form, gamma, coef0, degree = like
    real = x.dtype.type
    if form == PRECOMPUTED:
        for t in range(row.size):
            row[t] = x[i, t]
        return
    for t in range(row.size):
        dot = real(0)
        for c in range(x.shape[1]):
            dot += x[i, c] * x[t, c]
        row[t] = dot
    if form == RBF:                                                                            # (1)
        for t in range(row.size):
            square = squares[i] + squares[t] - real(2) * row[t]
            row[t] = exp(-real(gamma) * max(square, real(0)))
    elif form == POLY:
        for t in range(row.size):
            row[t] = (gamma * row[t] + coef0) ** degree
    elif form == SIGMOID:
        for t in range(row.size):
            row[t] = np.tanh(gamma * row[t] + coef0)


@helper
def diagonal_of_gram(diagonal, squares, x, like):
    # Also the squared lengths of the rows, which are zeros before.
    form, gamma, coef0, degree = like
    for t in range(x.shape[0]):
        for c in range(x.shape[1]):
            squares[t] += x[t, c] * x[t, c]
        inside = gamma * squares[t] + coef0
        if form == RBF:
            diagonal[t] = 1
        elif form == POLY:
            diagonal[t] = inside**degree
        elif form == SIGMOID:
            diagonal[t] = np.tanh(inside)
        elif form == PRECOMPUTED:
            diagonal[t] = x[t, t]
        else:
            diagonal[t] = squares[t]


@Kernel(outputs=1, inout="beta g")
def smo(steps, beta, g, x, low, high, like, tolerance, limit, slots):
    k = gram(x, x, like)
    k = np.tile(k, (len(beta) // len(x),) * 2)  # of each pair of weights, where m is 2n
    diagonal = k.diagonal()
    for steps[0] in range(limit + 1):
        up = np.where(beta < high, g, -np.inf)
        down = np.where(beta > low, g, np.inf)
        i = up.argmax()                                                                        # (3)
        if up[i] - down.min() < tolerance or steps[0] == limit:
            break
        gap = np.maximum(up[i] - down, 0)
        curve = np.maximum(diagonal[i] + diagonal - 2 * k[i], TINY)
        gain = np.where(np.isfinite(gap), gap * gap / curve, -1)
        j = gain.argmax()                                                                      # (4)
        room, depth = high[i] - beta[i], beta[j] - low[j]
        step = min(gap[j] / curve[j], room, depth)                                             # (5)
        beta[i] = high[i] if step == room else beta[i] + step
        beta[j] = low[j] if step == depth else beta[j] - step
        g -= step * (k[i] - k[j])


@smo.body("numba")
def smo_numba(steps, beta, g, x, low, high, like, tolerance, limit, slots):
    real, n = x.dtype.type, x.shape[0]
    squares, diagonal = np.zeros(n, x.dtype), np.empty(n, x.dtype)
    diagonal_of_gram(diagonal, squares, x, like)
    # The cache: slot s holds row owner[s] of K, last read at step used[s]; it is found by place.
    rows = np.empty((slots, n), x.dtype)
    owner, place = np.full(slots, -1), np.full(n, -1)
    used = np.zeros(slots, np.int64)
    for steps[0] in range(limit + 1):
        # Who grows, who shrinks; their rows of K, computed if they are not in the cache; the step.
        i, top = highest(beta, g, high)                                                        # (3)
        if i < 0 or steps[0] == limit:
            break
        now = steps[0] + 1
        s = slot_of(i % n, now, owner, place, used)
        if owner[s] != i % n:
            owner[s] = i % n
            row_of_gram(rows[s], i % n, x, squares, like)
        j, bottom = partner(beta, g, low, top, i % n, rows[s], diagonal)                       # (4)
        if j < 0 or top - bottom < tolerance:
            break
        r = slot_of(j % n, now, owner, place, used)
        if owner[r] != j % n:
            owner[r] = j % n
            row_of_gram(rows[r], j % n, x, squares, like)
        curve = diagonal[i % n] + diagonal[j % n] - 2 * rows[s, j % n]
        room, depth = high[i] - beta[i], beta[j] - low[j]
        step = min((top - g[j]) / max(curve, real(TINY)), room, depth)                         # (5)
        beta[i] = high[i] if step == room else beta[i] + step
        beta[j] = low[j] if step == depth else beta[j] - step
        for half in range(0, beta.size, n):  # twice where m is 2n
            for t in range(n):
                g[half + t] -= step * (rows[s, t] - rows[r, t])


@helper
def highest(beta, g, high):
    # The weight that gains most by growing, and its gradient; −1 where none can grow: (3).
    best, top = -1, -np.inf
    for t in range(beta.size):
        if beta[t] < high[t] and g[t] > top:
            best, top = t, g[t]
    return best, top


@helper
def partner(beta, g, low, top, i, row, diagonal):
    # The weight whose shrinking gains most together with that of row i, (4), and the smallest
    # gradient of all that can shrink, for the stop in (3).
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
def slot_of(i, now, owner, place, used):
    # Where row i lies in the cache; or the slot that was not read for the longest, which the
    # caller is to fill. It is never the slot of the other row of this step, whose `used` is now.
    s = place[i]
    if s < 0:
        s = 0
        for other in range(used.size):
            if used[other] < used[s]:
                s = other
        if owner[s] >= 0:
            place[owner[s]] = -1
        place[i] = s
    used[s] = now
    return s


def solve(x, t, low, high, tolerance, limit, megabytes, like):
    """(β, b, steps) of (2) and (6). steps = limit: it was stopped before (3) was met.

    x (n, p) float64, or K itself where its form is PRECOMPUTED; t, low, high (n,) or (2n,), with
    low ≤ 0 ≤ high. megabytes: of the cache. like: (form, γ, c, d) of (1).
    """
    beta, g, steps = np.zeros_like(t), t.copy(), np.zeros(1, np.int64)
    slots = min(len(x), max(2, int(megabytes * 2**20 / (x.itemsize * len(x)))))
    smo(steps, beta, g, x, low, high, like, tolerance, limit, slots)
    free = (low < beta) & (beta < high)
    if free.any():
        return beta, g[free].mean(), int(steps[0])
    ends = g[beta < high].max(initial=-np.inf), g[beta > low].min(initial=np.inf)
    return beta, sum(ends) / 2, int(steps[0])                                                  # (6)


if __name__ == "__main__":
    from time import perf_counter

    x = np.random.default_rng(0).standard_normal((2000, 10))
    t = np.sign(x[:, 0] * x[:, 1])
    bounds = np.minimum(t, 0), np.maximum(t, 0)
    like = RBF, 0.1, 0.0, 3
    solve(x, t, *bounds, 1e-3, 1, 200, like)  # compile
    start = perf_counter()
    beta, _, steps = solve(x, t, *bounds, 1e-3, 10**6, 200, like)
    took = perf_counter() - start
    print(f"rows=2000 support={np.count_nonzero(beta)} steps={steps} us={took / steps * 1e6:.1f}")
