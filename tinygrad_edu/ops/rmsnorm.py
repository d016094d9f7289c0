"""Lesson 2.17 · RMSNorm: LayerNorm without its mean

Needs foreign, kernel, memory, norm, tensor. Used by layers.

Idea      LayerNorm without the mean and without the offset: a row is divided by its root mean
          square, and a learned scale says what size is wanted. Zhang and Sennrich found models as
          good as with LayerNorm, in less time; Llama and its kin use it.
Math      ρ = 1/√(mean(x²) + ε)   x̂ = x·ρ   y = w·x̂                                           (1)
          g = w·dy      dx = ρ·(g − x̂·mean(g·x̂))      dw = Σ dy·x̂                             (2)
          means run over a row, the sum Σ over all rows
Shapes    x, y (N, C) · w (C,) · saved: rstd (N,), called ρ above
Pitfalls  A constant added to a row changes the result, which LayerNorm would take away.
          x² overflows float32 from 2·10¹⁹ on, long before x does.
          dw is a sum over rows, so threads need an array each, added up at the end.
Cost      One sum less a row than LayerNorm in each direction. The squares are all positive and
          nothing cancels, so the loop passes over a row only twice. Forward
          11 µs in C, 9 in Numba (half a MB on one core, in its cache, where C is not yet as fast:
          python scripts/bench_ops.py rmsnorm --sizes medium).
Try       build it    add_rmsnorm, fused with the residual sum as add_layernorm is.
          break it    leave the mean(g·x̂) out of (2). Which test notices?
          measure it  TG_TRACE=1 and rmsnorm beside layernorm on one array: the GB/s of both
See       Zhang, Sennrich 2019, eq. 4
"""

import numpy as np

from ..foreign import C, fits, out, ptr
from ..kernel import Kernel
from ..memory import contiguous, empty_like
from ..tensor import method, record
from .norm import check_norm, statistics


@Kernel(outputs=2)
def rmsnorm_forward(y, rstd, x, w, eps):
    rstd[...] = 1 / np.sqrt((x ** 2).mean(axis=1) + eps)
    y[...] = w * x * rstd[:, None]                                                             # (1)


@rmsnorm_forward.body("numba", rows="y rstd x")
def rmsnorm_forward_numba(y, rstd, x, w, eps):
    real = x.dtype.type
    N, C = x.shape
    for n in range(N):
        total = real(0)
        for c in range(C):
            total += x[n, c] * x[n, c]
        rho = real(1) / np.sqrt(total / real(C) + real(eps))
        for c in range(C):
            y[n, c] = w[c] * (x[n, c] * rho)                                                   # (1)
        rstd[n] = rho


@rmsnorm_forward.body("native", rows="y rstd x", when=fits)
def rmsnorm_forward_native(y, rstd, x, w, eps):
    C(y).rmsnorm_forward(out(y), out(rstd), ptr(x), ptr(w), eps, *x.shape)


@Kernel(outputs=2)
def rmsnorm_backward(dx, dw, dy, x, w, rstd):
    norm = x * rstd[:, None]
    g = w * dy
    dx[...] = rstd[:, None] * (g - norm * (g * norm).mean(axis=1, keepdims=True))              # (2)
    dw[...] = (dy * norm).sum(axis=0)


@rmsnorm_backward.body("numba", rows="dx dy x rstd", sums="dw")
def rmsnorm_backward_numba(dx, dw, dy, x, w, rstd):
    real = x.dtype.type
    N, C = x.shape
    dw[:] = real(0)
    for n in range(N):
        rho = rstd[n]
        sum_gx = real(0)
        for c in range(C):
            sum_gx += w[c] * dy[n, c] * x[n, c]
        sum_gx *= rho / real(C)
        for c in range(C):
            norm = x[n, c] * rho
            dx[n, c] = rho * (w[c] * dy[n, c] - norm * sum_gx)                                 # (2)
            dw[c] += dy[n, c] * norm


@rmsnorm_backward.body("native", rows="dx dy x rstd", sums="dw", when=fits)
def rmsnorm_backward_native(dx, dw, dy, x, w, rstd):
    C(dx).rmsnorm_backward(out(dx), out(dw), ptr(dy), ptr(x), ptr(w), ptr(rstd), *x.shape)


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
