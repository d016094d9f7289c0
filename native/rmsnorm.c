/* RMSNorm: tinygrad_edu/ops/rmsnorm.py explains it and numbers the equations. */
#include "kernels.h"
#include "sums.h"

KERNEL void rmsnorm_forward(real *y, real *rstd, const real *x, const real *w, real eps,
                            int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++, y += C, x += C) {
        const real rho = 1 / R(sqrt)(row_dot(x, x, C) / C + eps);
        #pragma omp simd
        for (int64_t c = 0; c < C; c++) y[c] = w[c] * (x[c] * rho);                     /* (1) */
        rstd[n] = rho;
    }
}

KERNEL void rmsnorm_backward(real *dx, real *dw, const real *dy, const real *x, const real *w,
                             const real *rstd, int64_t N, int64_t C) {
    for (int64_t c = 0; c < C; c++) dw[c] = 0;
    for (int64_t n = 0; n < N; n++, dx += C, dy += C, x += C) {
        const real rho = rstd[n], sum_gx = row_pull(w, dy, x, 0, C) * rho / C;
        #pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            const real norm = x[c] * rho;
            dx[c] = rho * (w[c] * dy[c] - norm * sum_gx);                               /* (2) */
            dw[c] += dy[c] * norm;
        }
    }
}
