/* LayerNorm: tinygrad_edu/ops/norm.py explains it and numbers the equations.
 *
 * A row is taken through all its passes before the next one: after the first pass it is in the
 * cache, and the other passes cost arithmetic only.
 */
#include <stddef.h>

#include "kernels.h"
#include "sums.h"

#define ROWS 2                         /* whose gradients are taken at a time */

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

/* Some rows at a time, so that dw and db are read and written once for all of them. ds is the
 * gradient that comes down the residual stream and is added to dx; NULL: there is none. It and
 * `rows` are constants wherever this is called, so the compiler makes four functions of one text.
 */
INLINE void pull_rows(real *dx, real *dw, real *db, const real *dy, const real *ds, const real *s,
                      const real *w, const real *mean, const real *rstd, int64_t C, int rows) {
    real sum_g[ROWS], sum_gx[ROWS], mu[ROWS], rho[ROWS];
    for (int k = 0; k < rows; k++) {
        mu[k] = mean[k];
        rho[k] = rstd[k];
        sum_g[k] = row_dot(w, dy + k * C, C) / C;
        sum_gx[k] = row_pull(w, dy + k * C, s + k * C, mu[k], C) * rho[k] / C;
    }
    #pragma omp simd
    for (int64_t c = 0; c < C; c++) {
        real more_w = 0, more_b = 0;
        for (int k = 0; k < rows; k++) {
            const int64_t i = k * C + c;
            const real norm = (s[i] - mu[k]) * rho[k];
            const real pull = rho[k] * (w[c] * dy[i] - sum_g[k] - norm * sum_gx[k]);   /* (2) */
            dx[i] = ds ? pull + ds[i] : pull;
            more_w += dy[i] * norm;
            more_b += dy[i];
        }
        dw[c] += more_w;
        db[c] += more_b;
    }
}

void layernorm_backward(real *dx, real *dw, real *db, const real *dy, const real *x, const real *w,
                        const real *mean, const real *rstd, int64_t N, int64_t C) {
    int64_t n = 0;
    for (int64_t c = 0; c < C; c++) dw[c] = db[c] = 0;
    for (; n + ROWS <= N; n += ROWS) {
        const int64_t i = n * C;
        pull_rows(dx + i, dw, db, dy + i, NULL, x + i, w, mean + n, rstd + n, C, ROWS);
    }
    for (; n < N; n++) {
        const int64_t i = n * C;
        pull_rows(dx + i, dw, db, dy + i, NULL, x + i, w, mean + n, rstd + n, C, 1);
    }
}

void add_layernorm_backward(real *dx, real *dw, real *db, const real *dy, const real *ds,
                            const real *s, const real *w, const real *mean, const real *rstd,
                            int64_t N, int64_t C) {
    int64_t n = 0;
    for (int64_t c = 0; c < C; c++) dw[c] = db[c] = 0;
    for (; n + ROWS <= N; n += ROWS) {
        const int64_t i = n * C;
        pull_rows(dx + i, dw, db, dy + i, ds + i, s + i, w, mean + n, rstd + n, C, ROWS);
    }
    for (; n < N; n++) {
        const int64_t i = n * C;
        pull_rows(dx + i, dw, db, dy + i, ds + i, s + i, w, mean + n, rstd + n, C, 1);
    }
}
