"""Lesson 4.108 · Barnes and Hut: what is far away acts as one

Needs kernel, loops. Used by tsne.

Idea      n points push each other apart, every pair of them. For a thousand points that is a
          million pushes, for a hundred thousand it is hopeless. But a group of points that is far
          away, seen from here, pushes almost as if all of it sat at its centre. Which groups are
          far is different for each point, so there must be groups of all sizes: the map is a
          square, cut into four, each cut into four, until every point has a square of its own. A
          point looks at the whole first; what is too near it opens, what is far it takes as one.
          Barnes and Hut meant stars; lesson tsne moves points on a map.
          The tree needs no pointers. Give each point the number that interlaces the binary digits
          of its coordinates (Morton's code): sorted by it, each square is a run of neighbours.
Math      t(a, b) = 1/(1 + ‖a − b‖²)
          Zᵢ = Σⱼ t(yᵢ, yⱼ)     Fᵢ = Σⱼ t(yᵢ, yⱼ)²·(yᵢ − yⱼ),     j ≠ i                        (1)
          a node with c points and their mean stands for all c of them if it does not contain yᵢ
          and width² < θ²·‖yᵢ − mean‖²; otherwise its parts are asked                          (2)
          code = the digits x₁y₁x₂y₂… of the cell (x, y)     two points share a square of
          2^b cells exactly if their codes agree in all but the last m·b digits                (3)
Shapes    y (n, 3), of which m = 1, 2 or 3 columns are used and the others zero: so the loops can
          write out their coordinates · code (n,) sorted · a node is a run of points begin … end − 1
          begins, ends, widths (2n,): the whole first, each node directly before its parts, zeros
          where there are no more · skip (nodes,): the next node that is no part of this one
Pitfalls  Squares with a single part are left out, or two points that nearly touch would make a
          chain of them: so there are fewer than 2n nodes, whatever the points do.
          Points in the same finest cell stay together in one node, which has the width 0.
          The mean of a run from differences of running sums: one pass for all nodes, and a few
          digits less than summing each.
          A square that contains the point itself must be opened, however large θ is.
Cost      Tree: a sort, and O(n). Forces: some hundred nodes a point at θ = 0.5, growing as log n;
          exactly, n of them: python -m tinygrad_edu.ml.barnes_hut
Try       build it    write a body of `squares` in C (a stack of runs), or draw the squares.
          break it    let a node stand for its points even where it contains yᵢ. Which θ is needed
                      until a test notices?
          measure it  python -m tinygrad_edu.ml.barnes_hut: error and time for growing θ
See       Barnes, Hut 1986 · Morton 1966 (the code) · van der Maaten 2014 (for t-SNE) · Karras 2012
          (trees from sorted codes)
"""

import numpy as np

from ..kernel import Kernel
from ..loops import helper

HALVINGS = {1: 52, 2: 30, 3: 20}  # m -> how often the map is halved down to the finest cells


@Kernel(outputs=2)
def repulsion(force, z, rows, y):
    for r, i in enumerate(rows):
        away = y[i] - y
        t = 1 / (1 + (away * away).sum(1))
        force[r], z[r] = (t * t) @ away, t.sum() - 1                                           # (1)


@repulsion.body("numba", rows="force z rows", grain=0)
def repulsion_numba(force, z, rows, y):
    one = y.dtype.type(1)
    for r in range(rows.size):
        i = rows[r]
        fx, fy, fz, sum_of_t = 0 * one, 0 * one, 0 * one, -one
        for j in range(y.shape[0]):
            dx, dy, dz = y[i, 0] - y[j, 0], y[i, 1] - y[j, 1], y[i, 2] - y[j, 2]
            t = one / (one + dx * dx + dy * dy + dz * dz)
            sum_of_t += t
            fx += t * t * dx                                                                   # (1)
            fy += t * t * dy
            fz += t * t * dz
        force[r, 0], force[r, 1], force[r, 2], z[r] = fx, fy, fz, sum_of_t


def morton(y):
    """(code, width): the interlaced digits of the cell of each point, and the width of a cell."""
    n, m = y.shape
    halvings = HALVINGS[m]
    low = y.min(0)
    width = (y.max(0) - low).max() / (2**halvings - 1) or 1.0
    cell = ((y - low) / width).astype(np.int64)
    code = np.zeros(n, np.int64)
    for digit in range(halvings):
        for c in range(m):
            code |= ((cell[:, c] >> digit) & 1) << (digit * m + c)                             # (3)
    return code, width


@Kernel(outputs=3)
def squares(begins, ends, widths, code, m):
    n = len(code)
    found = {}
    for level in range(63 // m, -1, -1):  # from the largest square down; the smallest one stays
        edges = np.flatnonzero(np.diff(code >> (level * m), prepend=-1))                       # (3)
        runs = zip(edges.tolist(), [*edges[1:].tolist(), n], strict=True)
        found.update(dict.fromkeys(runs, 2**level if level else 0))
    found.update({(i, j): 0 for i, j in found if j == i + 1})
    runs = sorted(found, key=lambda run: (run[0], -run[1]))
    begins[:], ends[:], widths[:] = 0, 0, 0
    begins[: len(runs)], ends[: len(runs)] = np.array(runs).T
    widths[: len(runs)] = [found[run] for run in runs]


@squares.body("numba")
def squares_numba(begins, ends, widths, code, m):
    # The whole is a run; a run is cut where the first digits differ in which its codes do. Parts
    # wait on a stack, the first one on top: so nodes come in the order of Shapes.
    begins[:], ends[:], widths[:] = 0, 0, 0
    waiting = np.empty((64 << m, 2), np.int64)  # runs whose nodes are still to be made
    waiting[0] = 0, code.size
    left, node = 1, 0
    while left:
        left -= 1
        begin, end = waiting[left]
        begins[node], ends[node] = begin, end
        level = highest_digit(code[begin] ^ code[end - 1]) // m
        if level >= 0:  # else its points share their cell, or there is one alone
            widths[node] = 2.0 ** (level + 1)                                                  # (3)
            while end > begin:  # the parts, the last one first: at most 2^m of them
                part = code[end - 1] >> (level * m)
                start = end - 1
                while start > begin and code[start - 1] >> (level * m) == part:
                    start -= 1
                waiting[left] = start, end
                left, end = left + 1, start
        node += 1


@helper
def highest_digit(number):
    # The place of the first binary digit that is 1, −1 for zero.
    digit = -1
    while number:
        number >>= 1
        digit += 1
    return digit


# A node either stands for its points, and the walk goes on behind all its parts, or is opened, and
# the walk goes on with the first of them. Nobody needs a stack for that.
@Kernel(outputs=2)
def repulsion_of_tree(force, z, rows, y, begins, ends, sizes, skip, means, theta):
    for r, i in enumerate(rows):
        force[r], z[r], node = 0, 0, 0
        while node < len(skip):
            away, count = y[i] - means[node], ends[node] - begins[node]
            square, inside = away @ away, begins[node] <= i < ends[node]
            if sizes[node] == 0 or not inside and sizes[node] ** 2 < theta**2 * square:        # (2)
                t = 1 / (1 + square)  # once for all points of the node but the own
                z[r] += (count - inside) * t
                force[r] += (count - inside) * t * t * away
                node = skip[node]
            else:
                node += 1  # the first part of this one


@repulsion_of_tree.body("numba", rows="force z rows", grain=0)
def repulsion_of_tree_numba(force, z, rows, y, begins, ends, sizes, skip, means, theta):
    one = y.dtype.type(1)
    limit = y.dtype.type(theta) ** 2
    for r in range(rows.size):
        i, node = rows[r], 0
        fx, fy, fz, sum_of_t = 0 * one, 0 * one, 0 * one, 0 * one
        while node < skip.size:
            dx, dy = y[i, 0] - means[node, 0], y[i, 1] - means[node, 1]
            dz = y[i, 2] - means[node, 2]
            square = dx * dx + dy * dy + dz * dz
            inside = begins[node] <= i < ends[node]
            if sizes[node] == 0 or not inside and sizes[node] * sizes[node] < limit * square:  # (2)
                t = one / (one + square)
                many = t * (ends[node] - begins[node] - inside)
                sum_of_t += many
                fx += many * t * dx                                                            # (1)
                fy += many * t * dy
                fz += many * t * dz
                node = skip[node]
            else:
                node += 1
        force[r, 0], force[r, 1], force[r, 2], z[r] = fx, fy, fz, sum_of_t


def plant(code, y, width, m):
    """(begins, ends, sizes, skip, means) of the nodes for points y in the order of their codes."""
    n = len(y)
    begins, ends = np.empty((2, 2 * n), np.int64)
    widths = np.empty(2 * n)
    squares(begins, ends, widths, code, m)
    nodes = np.count_nonzero(ends)
    begins, ends, widths = begins[:nodes], ends[:nodes], widths[:nodes]
    first = np.full(n + 1, nodes)
    np.minimum.at(first, begins, np.arange(nodes))  # the largest node that begins at a point
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(y, axis=0)])
    means = (sums[ends] - sums[begins]) / (ends - begins)[:, None]
    return begins, ends, widths * width, first[ends], means


def repel(y, m, theta):
    """(F, Z) of (1) for all points: exactly where theta is 0, else by (2). y (n, 3) float64."""
    force, z, rows = np.empty_like(y), np.empty(len(y)), np.arange(len(y))
    if theta == 0:
        repulsion(force, z, rows, y)
        return force, z
    code, width = morton(y[:, :m])
    order = np.argsort(code, kind="stable")
    y = y[order]  # points side by side in memory are near each other: they open the same nodes
    repulsion_of_tree(force, z, rows, y, *plant(code[order], y, width, m), float(theta))
    place = np.empty_like(order)  # where each point went
    place[order] = rows
    return force[place], z[place]


if __name__ == "__main__":
    from time import perf_counter

    y = np.random.default_rng(0).standard_normal((10_000, 3)) * (20, 20, 0)
    exact, _ = repel(y, 2, 0)
    repel(y, 2, 1.0)  # compile
    for theta in (0, 0.2, 0.5, 0.8):
        start = perf_counter()
        force, _ = repel(y, 2, theta)
        took = perf_counter() - start
        error = np.linalg.norm(force - exact) / np.linalg.norm(exact)
        print(f"points={len(y)} theta={theta} ms={took * 1e3:.1f} error={error:.1e}")
