/* RMSNorm: tinygrad_edu/ops/rmsnorm.py explains it and numbers the equations. */
#include <stddef.h>

#include "kernels.h"
#include "sums.h"

INLINE real normalise_row(real *y, const real *s, const real *w, real eps, int64_t C) {
    const real rho = 1 / R(sqrt)(row_dot(s, s, C) / C + eps);
    #pragma omp simd
    for (int64_t c = 0; c < C; c++) y[c] = w[c] * (s[c] * rho);                         /* (1) */
    return rho;
}

void rmsnorm_forward(real *y, real *rstd, const real *x, const real *w, real eps, int64_t N,
                     int64_t C) {
    for (int64_t n = 0; n < N; n++) rstd[n] = normalise_row(y + n * C, x + n * C, w, eps, C);
}

void add_rmsnorm_forward(real *s, real *y, real *rstd, const real *x, const real *r, const real *w,
                         real eps, int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++) {
        #pragma omp simd
        for (int64_t c = 0; c < C; c++) s[n * C + c] = x[n * C + c] + r[n * C + c];     /* (0) */
        rstd[n] = normalise_row(y + n * C, s + n * C, w, eps, C);
    }
}

/* ds is the gradient that comes down the residual stream and is added to dx; NULL: there is none.
 * It is a constant wherever this is called, so the compiler makes two functions of one text. */
INLINE void pull_row(real *dx, real *dw, const real *dy, const real *ds, const real *s,
                     const real *w, real rho, int64_t C) {
    const real sum_gx = row_pull(w, dy, s, 0, C) * rho / C;
    #pragma omp simd
    for (int64_t c = 0; c < C; c++) {
        const real norm = s[c] * rho, pull = rho * (w[c] * dy[c] - norm * sum_gx);      /* (2) */
        dx[c] = ds ? pull + ds[c] : pull;
        dw[c] += dy[c] * norm;
    }
}

void rmsnorm_backward(real *dx, real *dw, const real *dy, const real *x, const real *w,
                      const real *rstd, int64_t N, int64_t C) {
    for (int64_t c = 0; c < C; c++) dw[c] = 0;
    for (int64_t n = 0; n < N; n++) {
        pull_row(dx + n * C, dw, dy + n * C, NULL, x + n * C, w, rstd[n], C);
    }
}

void add_rmsnorm_backward(real *dx, real *dw, const real *dy, const real *ds, const real *s,
                          const real *w, const real *rstd, int64_t N, int64_t C) {
    for (int64_t c = 0; c < C; c++) dw[c] = 0;
    for (int64_t n = 0; n < N; n++) {
        pull_row(dx + n * C, dw, dy + n * C, ds + n * C, s + n * C, w, rstd[n], C);
    }
}
