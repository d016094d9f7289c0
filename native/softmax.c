/* Softmax and its logarithm: tinygrad_edu/ops/softmax.py explains them and numbers the equations.
 *
 * NaN is not looked for: a maximum that passes over it leaves an exponential of NaN in the sum, and
 * with it the whole row becomes NaN.
 */
#include "rows.h"
#include "sums.h"

void softmax_forward(real *y, const real *x, int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++, y += C, x += C) {
        const real top = row_shift(x, C), total = row_exponentials(y, x, top, C);
        const real scale = total == 0 ? 1 : 1 / total;
        for (int64_t c = 0; c < C; c++) y[c] *= scale;                                  /* (1) */
    }
}

void softmax_backward(real *dx, const real *dy, const real *y, int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++, dx += C, dy += C, y += C) {
        const real dot = row_dot(dy, y, C);
        #pragma omp simd
        for (int64_t c = 0; c < C; c++) dx[c] = y[c] * (dy[c] - dot);                   /* (2) */
    }
}

void log_softmax_forward(real *y, const real *x, int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++, y += C, x += C) {
        const real top = row_shift(x, C), total = row_total(x, top, C);
        const real shift = total == 0 ? 0 : R(log)(total);
        #pragma omp simd
        for (int64_t c = 0; c < C; c++) y[c] = (x[c] - top) - shift;                    /* (3) */
    }
}

void log_softmax_backward(real *dx, const real *dy, const real *y, int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++, dx += C, dy += C, y += C) {
        const real total = row_sum(dy, C);
        #pragma omp simd
        for (int64_t c = 0; c < C; c++) dx[c] = dy[c] - exponential(y[c]) * total;      /* (4) */
    }
}
