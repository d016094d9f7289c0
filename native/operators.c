/* Operators with numbers and masks: tinygrad_edu/ops/operators.py explains them and numbers the
 * equations. An array has n elements, one after the other; a mask has a byte for each of them.
 */
#include "kernels.h"

/* Both sides are read, also the one that is not taken: a branch would be no vector loop. Nor would
 * a byte that the compiler knows to be a bool. */
void where_forward(real *y, const bool *condition, const real *a, const real *b, int64_t n) {
    const uint8_t *yes = (const uint8_t *)condition;
    for (int64_t i = 0; i < n; i++) {
        const real to_take = a[i], to_leave = b[i];
        y[i] = yes[i] != 0 ? to_take : to_leave;                                        /* (2) */
    }
}

void where_backward(real *da, real *db, const real *dy, const bool *condition, int64_t n) {
    const uint8_t *yes = (const uint8_t *)condition;
    #pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const real g = dy[i], to_a = yes[i] != 0 ? g : 0;                               /* (2) */
        da[i] = to_a;
        db[i] = yes[i] != 0 ? 0 : g;
    }
}

/* A NaN is neither below nor above a bound, and stays. */
void clip_forward(real *y, const real *x, real low, real high, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const real above = x[i] < low ? low : x[i];
        y[i] = above > high ? high : above;                                             /* (3) */
    }
}

void clip_backward(real *dx, const real *dy, const real *x, real low, real high, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const real g = dy[i];
        dx[i] = ((x[i] >= low) & (x[i] <= high)) ? g : 0;                               /* (3) */
    }
}
