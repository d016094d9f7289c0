"""Lesson 2.8 · LayerNorm, alone and fused with the residual

Needs foreign, kernel, launch, loops, memory, reduce, tensor. Used by rmsnorm, layers.

Idea      Deep networks train when the numbers that flow through them keep their size. LayerNorm
          gives every row mean 0 and variance 1; a learned scale and offset then say what size is
          wanted. In a transformer each norm follows a residual sum, so one pass over memory does
          both: add_layernorm returns the sum, which is the new residual, and its norm.
Math      s = x + r                                                   (0, in the fused forms)
          μ = mean(s)   σ² = mean((s − μ)²)   ρ = 1/√(σ² + ε)   x̂ = (s − μ)·ρ   y = w·x̂ + b    (1)
          g = w·dy      ds = ρ·(g − mean(g) − x̂·mean(g·x̂))   dw = Σ dy·x̂   db = Σ dy          (2)
          means run over a row, the sums Σ over all rows
Shapes    x, r, s, y (N, C) · w, b (C,) · saved (N,): mean = μ
          and rstd = ρ, one over the standard deviation of a row, ε under its root
Pitfalls  mean(x²) − mean(x)² cancels when |μ| ≫ σ: at μ = 10⁴, σ = 1 float32 keeps no digit. Two
          passes over a row that is in the cache anyway cost nothing.
          ε belongs under the root, inside the variance: outside it changes every published model's
          output. dw and db are sums over rows, so threads need an array each, added up at the end.
Cost      Reads s once from memory (a row stays in the cache for the second pass), writes y:
          bandwidth-bound. The reference makes six passes. Fused with the residual it saves writing
          and reading the sum again. Backward 16 µs in C, 17 in Numba (half a MB on one core, 3 µs
          of the 16 for crossing to C:
          OMP_NUM_THREADS=1 python scripts/bench_ops.py layernorm --sizes medium). Where C is a
          large power of two, the rows of all arrays want the same few places of the first-level
          cache, and dw and db are pushed out of it: beyond the caches backward is slower then.
Try       build it    write the body yourself: @layernorm_forward.body("mine"), then
                      TG_BACKEND=mine pytest tests/ops/test_norm.py
          break it    use mean(x²) − mean(x)². Which test notices, and at what offset?
          measure it  python scripts/trace_step.py:
                      the GB/s of add_layernorm_forward, beside those of the others
See       Ba, Kiros, Hinton 2016, eq. 3-4
"""

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, blocks, row_threads, serves
from ..kernel import Kernel
from ..loops import helper
from ..memory import contiguous, empty_like
from ..tensor import as_tensor, method, record, record_all
from .reduce import FULL, floating, sum_forward_cuda


def _rows(v):
    """A number a row (N,) as a column (N, 1), to meet (N, C)."""
    return v[:, None]


# ---- LayerNorm -----------------------------------------------------------------------------
#
# The reference writes the equations down with whole arrays, a pass over memory for each operation.
# The loop takes one row at a time through all of them: after its first pass the row is in the
# cache, and the passes that follow cost arithmetic only. What one row needs is a helper, because
# the fused forms below need the same.

@Kernel(outputs=3)
def layernorm_forward(y, mean, rstd, x, w, b, eps):
    mean[...] = x.mean(axis=1)
    rstd[...] = 1 / np.sqrt(((x - _rows(mean)) ** 2).mean(axis=1) + eps)
    y[...] = w * (x - _rows(mean)) * _rows(rstd) + b                                           # (1)


@helper
def normalise_row(y, s, w, b, eps):
    """Equation (1) for one row: fills y, returns its mean and 1/σ."""
    real = s.dtype.type
    C = s.size
    total = real(0)
    for c in range(C):
        total += s[c]
    mu = total / real(C)
    total = real(0)
    for c in range(C):
        total += (s[c] - mu) * (s[c] - mu)
    rho = real(1) / np.sqrt(total / real(C) + real(eps))
    for c in range(C):
        y[c] = w[c] * ((s[c] - mu) * rho) + b[c]                                               # (1)
    return mu, rho


@layernorm_forward.body("numba", rows="y mean rstd x")
def layernorm_forward_numba(y, mean, rstd, x, w, b, eps):
    for n in range(len(x)):
        mean[n], rstd[n] = normalise_row(y[n], x[n], w, b, eps)


@layernorm_forward.body("native", rows="y mean rstd x", when=fits)
def layernorm_forward_native(y, mean, rstd, x, w, b, eps):
    C(y).layernorm_forward(out(y), out(mean), out(rstd), ptr(x), ptr(w), ptr(b), eps, *x.shape)


@layernorm_forward.body("cuda", when=serves)
def layernorm_forward_cuda(y, mean, rstd, x, w, b, eps):
    N, C = x.shape
    eps = x.dtype.type(eps)
    G(y).layernorm_forward(N, row_threads(C), (y, mean, rstd, x, w, b, eps, C))


@Kernel(outputs=3)
def layernorm_backward(dx, dw, db, dy, x, w, mean, rstd):
    norm = (x - _rows(mean)) * _rows(rstd)
    g = w * dy
    pull = g - _rows(g.mean(axis=1)) - norm * _rows((g * norm).mean(axis=1))
    dx[...] = _rows(rstd) * pull                                                               # (2)
    dw[...] = (dy * norm).sum(axis=0)
    db[...] = dy.sum(axis=0)


@helper
def pull_row(dx, dw, db, dy, s, w, mu, rho):
    """Equation (2) for one row: fills dx, adds this row's share to dw and db."""
    real = s.dtype.type
    C = s.size
    sum_g = real(0)
    sum_gx = real(0)
    for c in range(C):
        g = w[c] * dy[c]
        sum_g += g
        sum_gx += g * ((s[c] - mu) * rho)
    sum_g /= real(C)
    sum_gx /= real(C)
    for c in range(C):
        norm = (s[c] - mu) * rho
        dx[c] = rho * (w[c] * dy[c] - sum_g - norm * sum_gx)                                   # (2)
        dw[c] += dy[c] * norm
        db[c] += dy[c]


@layernorm_backward.body("numba", rows="dx dy x mean rstd", sums="dw db")
def layernorm_backward_numba(dx, dw, db, dy, x, w, mean, rstd):
    dw[:] = 0
    db[:] = 0
    for n in range(len(x)):
        pull_row(dx[n], dw, db, dy[n], x[n], w, mean[n], rstd[n])


@layernorm_backward.body("native", rows="dx dy x mean rstd", sums="dw db", when=fits)
def layernorm_backward_native(dx, dw, db, dy, x, w, mean, rstd):
    C(dx).layernorm_backward(out(dx), out(dw), out(db), ptr(dy), ptr(x), ptr(w), ptr(mean),
                             ptr(rstd), *x.shape)


@layernorm_backward.body("cuda", when=serves)
def layernorm_backward_cuda(dx, dw, db, dy, x, w, mean, rstd):
    add_layernorm_backward_cuda(dx, dw, db, dy, None, x, w, mean, rstd)


def weights_cuda(dw, db, dy, s, mean, rstd):
    """dw of (2), and db where there is one: slices of rows first, then the sum of the slices."""
    N, C = s.shape
    groups = blocks(C, 32)
    size = blocks(N, max(1, min(blocks(N, 64), FULL // groups)))
    parts = [None if w is None else empty_like(s, shape=(1, blocks(N, size), C)) for w in (dw, db)]
    grid = groups, blocks(N, size)
    G(dw).norm_weights(grid, (32, 8), (*parts, dy, s, mean, rstd, N, C, size))
    for w, part in zip((dw, db), parts, strict=True):
        if w is not None:
            sum_forward_cuda(w[None], part)


# ---- the residual sum and its norm in one pass ------------------------------------------------
#
# s is kept for the backward pass and is the stream that the next layer adds to: it has to be
# written once in any case. Separate operations would write it and read it again from memory.

@Kernel(outputs=4)
def add_layernorm_forward(s, y, mean, rstd, x, r, w, b, eps):
    s[...] = x + r                                                                             # (0)
    layernorm_forward.__wrapped__(y, mean, rstd, s, w, b, eps)


@add_layernorm_forward.body("numba", rows="s y mean rstd x r")
def add_layernorm_forward_numba(s, y, mean, rstd, x, r, w, b, eps):
    N, C = x.shape
    for n in range(N):
        for c in range(C):
            s[n, c] = x[n, c] + r[n, c]                                                        # (0)
        mean[n], rstd[n] = normalise_row(y[n], s[n], w, b, eps)


@add_layernorm_forward.body("native", rows="s y mean rstd x r", when=fits)
def add_layernorm_forward_native(s, y, mean, rstd, x, r, w, b, eps):
    C(s).add_layernorm_forward(out(s), out(y), out(mean), out(rstd), ptr(x), ptr(r), ptr(w),
                               ptr(b), eps, *x.shape)


@add_layernorm_forward.body("cuda", when=serves)
def add_layernorm_forward_cuda(s, y, mean, rstd, x, r, w, b, eps):
    N, C = x.shape
    eps = x.dtype.type(eps)
    G(s).add_layernorm_forward(N, row_threads(C), (s, y, mean, rstd, x, r, w, b, eps, C))


@Kernel(outputs=3)
def add_layernorm_backward(dx, dw, db, dy, ds, s, w, mean, rstd):
    layernorm_backward.__wrapped__(dx, dw, db, dy, s, w, mean, rstd)
    dx += ds                                       # the residual's own gradient passes by the norm


@add_layernorm_backward.body("numba", rows="dx dy ds s mean rstd", sums="dw db")
def add_layernorm_backward_numba(dx, dw, db, dy, ds, s, w, mean, rstd):
    dw[:] = 0
    db[:] = 0
    N, C = s.shape
    for n in range(N):
        pull_row(dx[n], dw, db, dy[n], s[n], w, mean[n], rstd[n])
        for c in range(C):
            dx[n, c] += ds[n, c]


@add_layernorm_backward.body("native", rows="dx dy ds s mean rstd", sums="dw db", when=fits)
def add_layernorm_backward_native(dx, dw, db, dy, ds, s, w, mean, rstd):
    C(dx).add_layernorm_backward(out(dx), out(dw), out(db), ptr(dy), ptr(ds), ptr(s), ptr(w),
                                 ptr(mean), ptr(rstd), *s.shape)


@add_layernorm_backward.body("cuda", when=serves)
def add_layernorm_backward_cuda(dx, dw, db, dy, ds, s, w, mean, rstd):
    N, C = s.shape
    G(dx).norm_rows(N, row_threads(C), (dx, dy, ds, s, w, mean, rstd, C))
    weights_cuda(dw, db, dy, s, mean, rstd)


@method
def layernorm(x, w, b, eps=1e-5):
    """Normalise the last axis to mean 0 and variance 1, then scale and shift.

    Ba et al. 2016, eq. 3-4.

    x (…, C), w and b (C,) -> (…, C). ValueError for other shapes, TypeError for mixed types.
    """
    check_norm(x, w, b)
    rows = contiguous(x.data).reshape(-1, x.shape[-1])          # (N, C)
    y, mean, rstd = empty_like(rows), *statistics(rows, 2)
    layernorm_forward(y, mean, rstd, rows, w.data, b.data, eps)

    # x̂ is not kept: (2) makes it again from x, μ and ρ, for a subtraction and a product a number.
    def vjp(dy):
        dx, dw, db = empty_like(rows), empty_like(w.data), empty_like(b.data)
        layernorm_backward(dx, dw, db, contiguous(dy).reshape(rows.shape), rows, w.data, mean, rstd)
        return dx.reshape(dy.shape), dw, db
    return record(y.reshape(x.shape), (x, w, b), vjp)


def add_layernorm(x, r, w, b, eps=1e-5):
    """x + r, and its layernorm, in one pass: two tensors (…, C).

    x, r (…, C), w and b (C,). The first result is the stream to add the next branch to.
    Errors as for layernorm.
    """
    check_sum(x, r)
    check_norm(x, w, b)
    rows, others = (contiguous(t.data).reshape(-1, x.shape[-1]) for t in (x, r))  # (N, C)
    s, y, mean, rstd = empty_like(rows), empty_like(rows), *statistics(rows, 2)
    add_layernorm_forward(s, y, mean, rstd, rows, others, w.data, b.data, eps)
    shape = x.shape  # and not x itself: neither summand is needed again, so neither is kept

    # Two results, two gradients: ds comes down the stream, dy through the norm. Either may be None,
    # where the loss does not depend on that result.
    def vjp(ds, dy):
        if dy is None:
            return ds, ds, None, None
        dx, dw, db = empty_like(s), empty_like(w.data), empty_like(b.data)
        dy = contiguous(dy).reshape(s.shape)
        if ds is None:
            layernorm_backward(dx, dw, db, dy, s, w.data, mean, rstd)
        else:
            ds = contiguous(ds).reshape(s.shape)
            add_layernorm_backward(dx, dw, db, dy, ds, s, w.data, mean, rstd)
        dx = dx.reshape(shape)
        return dx, dx, dw, db  # borrowed twice: the engine does not write into it
    return record_all((s.reshape(x.shape), y.reshape(x.shape)), (x, r, w, b), vjp)


# A loop believes the shapes it is told: with weights that are too short it would read what lies
# behind them in memory.

def check_norm(x, *weights):
    """Raises ValueError or TypeError where weights are not (C,) of x's type, C its last size."""
    floating(x, "a norm")
    for weight in weights:
        if not x.ndim or weight.shape != x.shape[-1:]:
            raise ValueError(f"a norm of x {x.shape} needs weights {x.shape[-1:]}, not "
                             f"{weight.shape}")
        as_tensor(weight, like=x)


def check_sum(x, r):
    """Raises ValueError or TypeError where a branch r has another shape or type than the stream."""
    if x.shape != r.shape:
        raise ValueError(f"a fused norm adds two tensors of one shape, not {x.shape} and {r.shape}")
    as_tensor(r, like=x)


def statistics(rows, count):
    """Places for so many numbers a row: a list of arrays (N,)."""
    return [empty_like(rows, shape=rows.shape[:1]) for _ in range(count)]
