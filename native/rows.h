/* What the loops over rows of logits share: softmax, cross entropy, logsumexp.
 *
 * The equations are those of tinygrad_edu/ops/softmax.py.
 */
#ifndef TINYGRAD_EDU_ROWS_H
#define TINYGRAD_EDU_ROWS_H

#include "exponential.h"
#include "kernels.h"

/* The largest number of a row; NaN is passed over. */
INLINE real row_maximum(const real *x, int64_t C) {
    real top = -INFINITY;
    #pragma omp simd reduction(max : top)
    for (int64_t c = 0; c < C; c++) top = x[c] > top ? x[c] : top;
    return top;
}

/* m of (1), and 0 for a row of -inf: x - m is then -inf, never NaN. */
INLINE real row_shift(const real *x, int64_t C) {
    const real top = row_maximum(x, C);
    return top == -INFINITY ? 0 : top;
}

/* The sum of e^(x - m) over a row. */
INLINE real row_total(const real *x, real top, int64_t C) {
    real total = 0;
    #pragma omp simd reduction(+ : total)
    for (int64_t c = 0; c < C; c++) total += exponential(x[c] - top);
    return total;
}

/* The same sum, its terms kept in y. */
INLINE real row_exponentials(real *y, const real *x, real top, int64_t C) {
    real total = 0;
    #pragma omp simd reduction(+ : total)
    for (int64_t c = 0; c < C; c++) {
        y[c] = exponential(x[c] - top);
        total += y[c];
    }
    return total;
}

#endif
