/* Rows of integers of eight bits with a scale each: tinygrad_edu/ops/int8.py explains them and
 * numbers the equations.
 */
#ifndef TINYGRAD_EDU_INT8_H
#define TINYGRAD_EDU_INT8_H

#include "real.h"

/* A number this large has no digits behind the point: adding it rounds, halves to even. */
#define WHOLE ((real)(sizeof(real) == 4 ? 12582912.0 : 6755399441055744.0))

/* q = the K numbers of x in steps of the scale that is returned: (2). */
INLINE real round_row(int8_t *q, const real *x, int64_t K) {
    real most = 0, odd = 0;
    #pragma omp simd reduction(max : most) reduction(+ : odd)
    for (int64_t k = 0; k < K; k++) {
        const real size = x[k] < 0 ? -x[k] : x[k];
        most = size > most ? size : most;
        odd += x[k] * 0; /* not 0 where x is infinite or no number */
    }
    const real step = most / 127; /* 0 for the smallest numbers there are, too */
    const bool some = odd == 0 && step > 0;
    for (int64_t k = 0; k < K; k++)
        q[k] = some ? (int8_t)(int32_t)(x[k] / step + WHOLE - WHOLE) : 0;               /* (2) */
    return odd == 0 ? step : NAN;
}

INLINE void widen_row(real *y, const int8_t *q, real step, int64_t K) {
    #pragma omp simd
    for (int64_t k = 0; k < K; k++) y[k] = step * q[k];                                 /* (3) */
}

#endif
