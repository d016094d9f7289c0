/* Log-sum-exp: tinygrad_edu/ops/extremes.py explains it and numbers the equations.
 *
 * The largest and the smallest element are left to NumPy, whose search uses vectors already.
 */
#include "rows.h"

void logsumexp_forward(real *y, const real *x, int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++, x += N) {
        const real top = row_maximum(x, N), shift = isfinite(top) ? top : 0;
        y[r] = R(log)(row_total(x, shift, N)) + shift;                                  /* (3) */
    }
}

void logsumexp_backward(real *dx, const real *dy, const real *x, const real *y, int64_t R,
                        int64_t N) {
    for (int64_t r = 0; r < R; r++, dx += N, x += N) {
        const real level = y[r] == -INFINITY ? 0 : y[r], scale = dy[r];
        #pragma omp simd
        for (int64_t n = 0; n < N; n++) dx[n] = scale * exponential(x[n] - level);      /* (2) */
    }
}
