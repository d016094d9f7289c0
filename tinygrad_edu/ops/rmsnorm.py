"""Lesson 2.17 · RMSNorm: LayerNorm without its mean, alone and fused with the residual

Needs foreign, kernel, launch, loops, memory, norm, tensor. Used by layers.

Idea      LayerNorm without the mean and without the offset: a row is divided by its root mean
          square, and a learned scale says what size is wanted. Zhang and Sennrich found models as
          good as with LayerNorm, in less time; Llama and its kin use it. As there, add_rmsnorm
          makes the residual sum and its norm in one pass over memory.
Math      s = x + r                                                   (0, in the fused forms)
          ρ = 1/√(mean(s²) + ε)   x̂ = s·ρ   y = w·x̂                                           (1)
          g = w·dy      ds = ρ·(g − x̂·mean(g·x̂))      dw = Σ dy·x̂                             (2)
          means run over a row, the sum Σ over all rows
Shapes    x, r, s, y (N, C) · w (C,) · saved: rstd (N,), called ρ above
Pitfalls  A constant added to a row changes the result, which LayerNorm would take away.
          x² overflows float32 from 2·10¹⁹ on, long before x does.
          dw is a sum over rows, so threads need an array each, added up at the end.
Cost      One sum less a row than LayerNorm in each direction. The squares are all positive and
          nothing cancels, so the loop passes over a row only twice. Forward
          10 µs in C, 11 in Numba (half a MB on one core, in its cache:
          OMP_NUM_THREADS=1 python scripts/bench_ops.py rmsnorm --sizes medium).
Try       build it    a norm without w, whose scale has been multiplied into the matrix after it.
          break it    leave the mean(g·x̂) out of (2). Which test notices?
          measure it  TG_TRACE=1 and rmsnorm beside layernorm on one array: the GB/s of both
See       Zhang, Sennrich 2019, eq. 4
"""

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, row_threads, serves
from ..kernel import Kernel
from ..loops import helper
from ..memory import contiguous, empty_like
from ..tensor import method, record, record_all
from .norm import check_norm, check_sum, statistics, weights_cuda


@Kernel(outputs=2)
def rmsnorm_forward(y, rstd, x, w, eps):
    rstd[...] = 1 / np.sqrt((x ** 2).mean(axis=1) + eps)
    y[...] = w * x * rstd[:, None]                                                             # (1)


# What one row needs is a helper here too, because the fused forms below need the same.

@helper
def normalise_row(y, s, w, eps):
    """Equation (1) for one row: fills y, returns ρ."""
    real = s.dtype.type
    C = s.size
    total = real(0)
    for c in range(C):
        total += s[c] * s[c]
    rho = real(1) / np.sqrt(total / real(C) + real(eps))
    for c in range(C):
        y[c] = w[c] * (s[c] * rho)                                                             # (1)
    return rho


@rmsnorm_forward.body("numba", rows="y rstd x")
def rmsnorm_forward_numba(y, rstd, x, w, eps):
    for n in range(len(x)):
        rstd[n] = normalise_row(y[n], x[n], w, eps)


@rmsnorm_forward.body("native", rows="y rstd x", when=fits)
def rmsnorm_forward_native(y, rstd, x, w, eps):
    C(y).rmsnorm_forward(out(y), out(rstd), ptr(x), ptr(w), eps, *x.shape)


@rmsnorm_forward.body("cuda", when=serves)
def rmsnorm_forward_cuda(y, rstd, x, w, eps):
    N, C = x.shape
    G(y).rmsnorm_forward(N, row_threads(C), (y, rstd, x, w, x.dtype.type(eps), C))


@Kernel(outputs=2)
def rmsnorm_backward(dx, dw, dy, x, w, rstd):
    norm = x * rstd[:, None]
    g = w * dy
    dx[...] = rstd[:, None] * (g - norm * (g * norm).mean(axis=1, keepdims=True))              # (2)
    dw[...] = (dy * norm).sum(axis=0)


@helper
def pull_row(dx, dw, dy, s, w, rho):
    """Equation (2) for one row: fills dx, adds this row's share to dw."""
    real = s.dtype.type
    C = s.size
    sum_gx = real(0)
    for c in range(C):
        sum_gx += w[c] * dy[c] * s[c]
    sum_gx *= rho / real(C)
    for c in range(C):
        norm = s[c] * rho
        dx[c] = rho * (w[c] * dy[c] - norm * sum_gx)                                           # (2)
        dw[c] += dy[c] * norm


@rmsnorm_backward.body("numba", rows="dx dy x rstd", sums="dw")
def rmsnorm_backward_numba(dx, dw, dy, x, w, rstd):
    dw[:] = 0
    for n in range(len(x)):
        pull_row(dx[n], dw, dy[n], x[n], w, rstd[n])


@rmsnorm_backward.body("native", rows="dx dy x rstd", sums="dw", when=fits)
def rmsnorm_backward_native(dx, dw, dy, x, w, rstd):
    C(dx).rmsnorm_backward(out(dx), out(dw), ptr(dy), ptr(x), ptr(w), ptr(rstd), *x.shape)


@rmsnorm_backward.body("cuda", when=serves)
def rmsnorm_backward_cuda(dx, dw, dy, x, w, rstd):
    add_rmsnorm_backward_cuda(dx, dw, dy, None, x, w, rstd)


# ---- the residual sum and its norm in one pass --------------------------------------------------
#
# As in lesson norm: s is the stream that the next branch is added to, so it is written in any case.
# Made here, it is still in the cache when its squares are added up, and separate operations would
# read it from memory again. On the way back the stream's own gradient is added while that of the
# norm is in a register.

@Kernel(outputs=3)
def add_rmsnorm_forward(s, y, rstd, x, r, w, eps):
    s[...] = x + r                                                                             # (0)
    rmsnorm_forward.__wrapped__(y, rstd, s, w, eps)


@add_rmsnorm_forward.body("numba", rows="s y rstd x r")
def add_rmsnorm_forward_numba(s, y, rstd, x, r, w, eps):
    N, C = x.shape
    for n in range(N):
        for c in range(C):
            s[n, c] = x[n, c] + r[n, c]                                                        # (0)
        rstd[n] = normalise_row(y[n], s[n], w, eps)


@add_rmsnorm_forward.body("native", rows="s y rstd x r", when=fits)
def add_rmsnorm_forward_native(s, y, rstd, x, r, w, eps):
    C(s).add_rmsnorm_forward(out(s), out(y), out(rstd), ptr(x), ptr(r), ptr(w), eps, *x.shape)


@add_rmsnorm_forward.body("cuda", when=serves)
def add_rmsnorm_forward_cuda(s, y, rstd, x, r, w, eps):
    N, C = x.shape
    G(s).add_rmsnorm_forward(N, row_threads(C), (s, y, rstd, x, r, w, x.dtype.type(eps), C))


@Kernel(outputs=2)
def add_rmsnorm_backward(dx, dw, dy, ds, s, w, rstd):
    rmsnorm_backward.__wrapped__(dx, dw, dy, s, w, rstd)
    dx += ds                                       # the residual's own gradient passes by the norm


@add_rmsnorm_backward.body("numba", rows="dx dy ds s rstd", sums="dw")
def add_rmsnorm_backward_numba(dx, dw, dy, ds, s, w, rstd):
    dw[:] = 0
    N, C = s.shape
    for n in range(N):
        pull_row(dx[n], dw, dy[n], s[n], w, rstd[n])
        for c in range(C):
            dx[n, c] += ds[n, c]


@add_rmsnorm_backward.body("native", rows="dx dy ds s rstd", sums="dw", when=fits)
def add_rmsnorm_backward_native(dx, dw, dy, ds, s, w, rstd):
    C(dx).add_rmsnorm_backward(out(dx), out(dw), ptr(dy), ptr(ds), ptr(s), ptr(w), ptr(rstd),
                               *s.shape)


@add_rmsnorm_backward.body("cuda", when=serves)
def add_rmsnorm_backward_cuda(dx, dw, dy, ds, s, w, rstd):
    N, C = s.shape
    G(dx).rmsnorm_rows(N, row_threads(C), (dx, dy, ds, s, w, rstd, C))
    weights_cuda(dw, None, dy, s, None, rstd)


@method
def rmsnorm(x, w, eps=1e-5):
    """Divide the last axis by its root mean square, then scale. Zhang, Sennrich 2019, eq. 4.

    x (…, C), w (C,) -> (…, C). Errors as for layernorm.
    """
    check_norm(x, w)
    rows = contiguous(x.data).reshape(-1, x.shape[-1])          # (N, C)
    y, (rstd,) = empty_like(rows), statistics(rows, 1)
    rmsnorm_forward(y, rstd, rows, w.data, eps)

    def vjp(dy):
        dx, dw = empty_like(rows), empty_like(w.data)
        rmsnorm_backward(dx, dw, contiguous(dy).reshape(rows.shape), rows, w.data, rstd)
        return dx.reshape(dy.shape), dw
    return record(y.reshape(x.shape), (x, w), vjp)


def add_rmsnorm(x, r, w, eps=1e-5):
    """x + r, and its rmsnorm, in one pass: two tensors (…, C).

    x, r (…, C), w (C,). The first result is the stream to add the next branch to. Errors as for
    add_layernorm.
    """
    check_sum(x, r)
    check_norm(x, w)
    rows, others = (contiguous(t.data).reshape(-1, x.shape[-1]) for t in (x, r))  # (N, C)
    s, y, (rstd,) = empty_like(rows), empty_like(rows), statistics(rows, 1)
    add_rmsnorm_forward(s, y, rstd, rows, others, w.data, eps)
    shape = x.shape  # and not x itself: neither summand is needed again, so neither is kept

    # As for add_layernorm: two gradients come, of which either may be None.
    def vjp(ds, dy):
        if dy is None:
            return ds, ds, None
        dx, dw = empty_like(s), empty_like(w.data)
        dy = contiguous(dy).reshape(s.shape)
        if ds is None:
            rmsnorm_backward(dx, dw, dy, s, w.data, rstd)
        else:
            add_rmsnorm_backward(dx, dw, dy, contiguous(ds).reshape(s.shape), s, w.data, rstd)
        dx = dx.reshape(shape)
        return dx, dx, dw  # borrowed twice: the engine does not write into it
    return record_all((s.reshape(x.shape), y.reshape(x.shape)), (x, r, w), vjp)
