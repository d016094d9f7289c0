"""Lesson 3.8 · Muon: a step in all directions of a matrix at once

Needs adam, kernel, launch, matmul, memory, optim, pointwise, product, threads. Used by optimizers.

Idea      The optimizers so far see a list of numbers. A weight matrix maps vectors to vectors, and
          its gradient is usually dominated by a few directions: seen as a map it stretches those
          and hardly touches the rest. Every matrix is a rotation, a stretch along each axis and
          another rotation: U·S·Vᵀ, its singular value decomposition; the stretches are the singular
          values. Muon replaces the averaged gradient U·S·Vᵀ by U·Vᵀ, the nearest matrix that
          stretches all directions alike, so that rare directions are learned too. The decomposition
          is never made: a few matrix products push all singular values towards 1.
          This makes sense for matrices that map hidden vectors; embeddings, which are tables, the
          head and all vectors are left to AdamW.
Math      m ← μ·m + g      u = g + μ·m      g: clipped already, since c is another number here   (1)
          X₀ = u/‖u‖      A = X·Xᵀ      X ← a·X + (b·A + c·A²)·X, five times                     (2)
          U and V stay as they are, since X·Xᵀ·X = U·S³·Vᵀ: a singular value σ becomes
          a·σ + b·σ³ + c·σ⁵. (a, b, c) = (3.4445, −4.7750, 2.0315) bring [0.01, 1] to between 0.68
          and 1.13 in five rounds, fast rather than exactly
          w ← w − η·λ·w − η·0.2·√max(rows, columns)·X                                            (3)
          A round of (2) is X ← Q·X with Q = a·1 + b·A + c·A², and then A ← Q·A·Q. So X need not
          be touched in each round: P ← Q·P, beginning with 1, and at the end X ← P·X            (4)
Shapes    w, g, m, u, X (rows, columns); A is the smaller of X·Xᵀ and Xᵀ·X
Pitfalls  The entries of U·Vᵀ are about 1/√max(rows, columns) large, those of AdamW's steps about
          0.2 (Liu et al. measured it). The factor of (3) makes the former as large as the latter,
          so one learning rate and one decay serve both parts. Without it every shape wants its own.
          Which parameters are hidden matrices cannot be seen from their shape. `in_a_block` goes by
          the name: a number on the path (h.3.mlp.c_fc.weight) means a layer among many. GPT's
          wte and wpe have none. A model with other names passes another predicate.
          By (4), what A has lost to rounding stays lost and grows a²-fold with each round: where
          some singular values are tiny, float32 is wrong by 4·10⁻⁴ after five of them. So A is
          made anew from X after two.
          The fused matrix of queries, keys and values is one matrix here; in its authors'
          experience three would be a little better.
Cost      State: one number a parameter instead of AdamW's two. (2) takes 5·(4·r²·s + 2·r³)
          operations for a matrix whose shorter side is r and longer side s, each step, however
          small the batch: next to nothing with many tokens a step, a large share with few. (4)
          in two spans takes 8·r²·s + 28·r³: for s = 4·r, as in an MLP, 60·r³ instead of 90·r³.
Try       build it    hand c_attn's three parts to (2) one by one. Is the loss lower?
          break it    leave out the division by ‖u‖. What does σ = 2 become after five rounds?
          measure it  python scripts/compare_optimizers.py: loss, and seconds a step
See       Jordan et al. 2024 (Muon) · Liu et al. 2025 "Muon is scalable for LLM training", eq. 4
          (the factor of (3), and decay) · Bernstein, Newhouse 2024 (why U·Vᵀ)
"""

import numpy as np

from .. import threads
from ..gpu.launch import G, blocks, serves
from ..gpu.product import launch_product
from ..kernel import Kernel
from ..memory import empty_like
from ..ops.matmul import matmul_forward
from ..ops.pointwise import OF_A_BLOCK, THREADS
from .adam import adam_update
from .optim import Optimizer, sum_of_squares

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
SPANS = (2, 3)  # rounds of (4) between two looks at X: see the Pitfalls
TINY = 1e-7  # added to the norm, for a gradient of zeros


@Kernel(outputs=1, inout="m")
def nesterov_average(u, m, g, momentum, scale):
    m[...] = momentum * m + scale * g                                                          # (1)
    u[...] = scale * g + momentum * m


@nesterov_average.body("numba", rows="u m g")
def nesterov_average_numba(u, m, g, momentum, scale):
    real = m.dtype.type
    momentum, scale = real(momentum), real(scale)
    for i in range(m.size):
        d = scale * g[i]
        m[i] = momentum * m[i] + d                                                             # (1)
        u[i] = d + momentum * m[i]


@nesterov_average.body("cuda", when=serves)
def nesterov_average_cuda(u, m, g, momentum, scale):
    arguments = u, m, g, *map(np.float64, (momentum, scale)), u.size
    G(u).nesterov_average(blocks(u.size, OF_A_BLOCK), THREADS, arguments)


@Kernel
def newton_schulz(x, u):
    a, b, c = COEFFICIENTS
    y = u / (np.linalg.norm(u) + TINY)
    for _ in range(ROUNDS):
        gram = y @ y.T
        y = a * y + (b * gram + c * gram @ gram) @ y                                           # (2)
    x[...] = y


@newton_schulz.body("blas", jit=False)
def newton_schulz_blas(x, u):
    # By (4), from our products, with the smaller of X·Xᵀ and Xᵀ·X: with the matrix turned the
    # result is the turned result, up to rounding.
    wide = u.shape[0] <= u.shape[1]
    y = (u if wide else u.T) / (np.linalg.norm(u) + x.dtype.type(TINY))
    for rounds in SPANS:
        y = _product(_factor(_product(y, y.T), rounds, _product, _polynomial), y)
    x[...] = y if wide else y.T


def _factor(gram, rounds, product, polynomial):
    """P of (4) after some rounds."""
    q = p = polynomial(gram)
    for _ in range(rounds - 1):
        gram = product(product(q, gram), q)
        q = polynomial(gram)
        p = product(q, p)                                                                      # (4)
    return p


def _polynomial(gram):
    """Q of (4)."""
    a, b, c = (gram.dtype.type(number) for number in COEFFICIENTS)
    q = b * gram + c * _product(gram, gram)
    q.ravel()[:: len(q) + 1] += a                  # the diagonal
    return q


def _product(a, b):
    y = empty_like(a, shape=(len(a), b.shape[1]))
    matmul_forward(y, a, b)
    return y


@newton_schulz.body("cuda", when=serves)
def newton_schulz_cuda(x, u):
    # P is symmetric: so a tall X is multiplied from the right, and nothing is ever turned.
    kernels, wide = G(u), u.shape[0] <= u.shape[1]
    total, y = empty_like(u, shape=1), empty_like(u)
    sum_of_squares(total, u.reshape(-1))
    grid = blocks(u.size, OF_A_BLOCK)
    kernels.divided_by_norm(grid, THREADS, (y, u, total, np.float64(TINY), u.size))
    for rounds in SPANS:
        gram = _product_cuda(y, y.T) if wide else _product_cuda(y.T, y)
        p = _factor(gram, rounds, _product_cuda, _polynomial_cuda)
        y, before = x if rounds == SPANS[-1] else empty_like(u), y
        launch_product("matmul_forward", y, *((p, before) if wide else (before, p)))


def _polynomial_cuda(gram):
    """Q of (4)."""
    q, square = empty_like(gram), _product_cuda(gram, gram)
    arguments = q, gram, square, *map(np.float64, COEFFICIENTS), len(gram)
    G(gram).newton_schulz_round(blocks(gram.size, OF_A_BLOCK), THREADS, arguments)
    return q


def _product_cuda(a, b):
    y = empty_like(a, shape=(len(a), b.shape[1]))
    launch_product("matmul_forward", y, a, b)
    return y


def in_a_block(name, tensor):
    """Whether a parameter is a hidden matrix: two axes, and a number on its dotted path."""
    return tensor.ndim == 2 and any(part.isdigit() for part in name.split("."))


class Muon(Optimizer):
    """(1) to (3) for the matrices that `hidden` chooses, AdamW for all other parameters.

    hidden: a predicate (name, tensor) -> bool. Raises ValueError where it chooses nothing, or
    something that is no matrix. beta1, beta2, eps: of AdamW.
    """

    slots = ("m", "v")  # of AdamW's part

    def __init__(self, named, momentum=0.95, beta1=0.9, beta2=0.95, eps=1e-8, decay=0.1,
                 hidden=in_a_block):
        self.momentum, self.hidden = momentum, hidden
        self.numbers = beta1, beta2, eps           # of AdamW
        super().__init__(named, decay)

    def arrange(self, pairs, decay):
        """The hidden matrices are a group of their own; the others are grouped as ever."""
        matrices = [pair for pair in pairs if self.hidden(*pair)]
        if not matrices:
            raise ValueError("no parameter is a hidden matrix, which is what Muon is for; "
                             "use AdamW, or say with hidden=… which ones are")
        for name, tensor in matrices:
            if tensor.ndim != 2:
                raise ValueError(f"Muon updates matrices; {name} has the shape {tensor.shape}")
        self.add_group(matrices, decay, ("m",), self.update_matrices)
        super().arrange([pair for pair in pairs if not self.hidden(*pair)], decay)

    def update_matrices(self, w, g, group, lr, scale):
        """One step of (1) to (3), matrix by matrix."""
        u = empty_like(g)
        nesterov_average(u, group.state["m"], g, self.momentum, scale)
        w *= 1 - lr * group.decay
        matrices, averages = group.flat.views(w), group.flat.views(u)

        def several(numbers):
            for k in numbers.tolist():
                x = empty_like(averages[k])
                newton_schulz(x, averages[k])
                matrices[k][...] -= lr * 0.2 * max(x.shape) ** 0.5 * x                         # (3)

        # A thread a matrix: products of small ones are over before a second thread has begun. By
        # size and dealt out in turn, so that all threads have as much to do.
        order = np.argsort([-matrix.size for matrix in matrices], kind="stable")
        dealt = np.concatenate([order[k :: threads.count()] for k in range(threads.count())])
        threads.split_product(several, (dealt,), (0,), grain=0)

    def update(self, w, g, group, lr, scale):
        """One step of AdamW (lesson adam) for what is no hidden matrix."""
        m, v = group.state["m"], group.state["v"]
        adam_update(w, m, v, g, lr, *self.numbers, 0.0, group.decay, scale, self.steps)
