/* LayerNorm: tinygrad_edu/ops/norm.py explains it and numbers the equations.
 *
 * A row is taken through all its passes before the next one: after the first pass it is in the
 * cache, and the other passes cost arithmetic only.
 */
#include <stddef.h>

#include "kernels.h"
#include "sums.h"

INLINE void normalise_row(real *y, real *mean, real *rstd, const real *s, const real *w,
                          const real *b, real eps, int64_t C) {
    const real mu = row_sum(s, C) / C;
    const real rho = 1 / R(sqrt)(row_squares(s, mu, C) / C + eps);
    #pragma omp simd
    for (int64_t c = 0; c < C; c++) y[c] = w[c] * ((s[c] - mu) * rho) + b[c];           /* (1) */
    *mean = mu;
    *rstd = rho;
}

void layernorm_forward(real *y, real *mean, real *rstd, const real *x, const real *w, const real *b,
                       real eps, int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++) {
        normalise_row(y + n * C, mean + n, rstd + n, x + n * C, w, b, eps, C);
    }
}

void add_layernorm_forward(real *s, real *y, real *mean, real *rstd, const real *x, const real *r,
                           const real *w, const real *b, real eps, int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++) {
        #pragma omp simd
        for (int64_t c = 0; c < C; c++) s[n * C + c] = x[n * C + c] + r[n * C + c];     /* (0) */
        normalise_row(y + n * C, mean + n, rstd + n, s + n * C, w, b, eps, C);
    }
}

/* One row. ds is the gradient that comes down the residual stream and is added to dx; NULL: there
 * is none. It is a constant wherever this is called, so the compiler makes two functions of one
 * text. Two rows at a time would read and write dw and db half as often, 12 % faster in the caches
 * and up to a third slower beyond them, where C is a power of two: all rows then want the same few
 * places of the cache. */
INLINE void pull_row(real *dx, real *dw, real *db, const real *dy, const real *ds, const real *s,
                     const real *w, real mu, real rho, int64_t C) {
    const real mean_g = row_dot(w, dy, C) / C;
    const real mean_gx = row_pull(w, dy, s, mu, C) * rho / C;
    #pragma omp simd
    for (int64_t c = 0; c < C; c++) {
        const real norm = (s[c] - mu) * rho;
        const real pull = rho * (w[c] * dy[c] - mean_g - norm * mean_gx);               /* (2) */
        dx[c] = ds ? pull + ds[c] : pull;
        dw[c] += dy[c] * norm;
        db[c] += dy[c];
    }
}

void layernorm_backward(real *dx, real *dw, real *db, const real *dy, const real *x, const real *w,
                        const real *mean, const real *rstd, int64_t N, int64_t C) {
    for (int64_t c = 0; c < C; c++) dw[c] = db[c] = 0;
    for (int64_t n = 0, i = 0; n < N; n++, i += C) {
        pull_row(dx + i, dw, db, dy + i, NULL, x + i, w, mean[n], rstd[n], C);
    }
}

void add_layernorm_backward(real *dx, real *dw, real *db, const real *dy, const real *ds,
                            const real *s, const real *w, const real *mean, const real *rstd,
                            int64_t N, int64_t C) {
    for (int64_t c = 0; c < C; c++) dw[c] = db[c] = 0;
    for (int64_t n = 0, i = 0; n < N; n++, i += C) {
        pull_row(dx + i, dw, db, dy + i, ds + i, s + i, w, mean[n], rstd[n], C);
    }
}
