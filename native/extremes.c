/* Largest, smallest, log-sum-exp: tinygrad_edu/ops/extremes.py explains and numbers the equations.
 */
#include "rows.h"

/* Where the first element equal to `value` stands; a NaN is looked for where `value` is one. */
INLINE int64_t find(const real *x, real value, int64_t N) {
    for (int64_t n = 0; n < N; n++) {
        if (x[n] == value || (isnan(value) && isnan(x[n]))) return n;
    }
    return 0;
}

/* Two passes: the value by vectors, then the place, of which half a row is read on average. In one
 * pass every vector would have to carry the places of its maxima along. `nans` counts what the
 * maximum passes over. */
INLINE void extreme(real *y, int64_t *position, const real *x, real sign, int64_t N) {
    real top = -INFINITY;
    int64_t nans = 0;
    #pragma omp simd reduction(max : top) reduction(+ : nans)
    for (int64_t n = 0; n < N; n++) {
        top = sign * x[n] > top ? sign * x[n] : top;
        nans += isnan(x[n]) != 0;
    }
    const real value = nans ? (real)NAN : sign * top;
    *position = find(x, value, N);
    *y = x[*position];                                                                  /* (1) */
}

KERNEL void max_forward(real *y, int64_t *position, const real *x, int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++) extreme(y + r, position + r, x + r * N, 1, N);
}

KERNEL void min_forward(real *y, int64_t *position, const real *x, int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++) extreme(y + r, position + r, x + r * N, -1, N);
}

KERNEL void max_backward(real *dx, const real *dy, const int64_t *position, int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++, dx += N) {
        for (int64_t n = 0; n < N; n++) dx[n] = 0;
        dx[position[r]] = dy[r];                                                        /* (1) */
    }
}

KERNEL void logsumexp_forward(real *y, const real *x, int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++, x += N) {
        const real top = row_maximum(x, N), shift = isfinite(top) ? top : 0;
        y[r] = R(log)(row_total(x, shift, N)) + shift;                                  /* (3) */
    }
}

KERNEL void logsumexp_backward(real *dx, const real *dy, const real *x, const real *y,
                               int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++, dx += N, x += N) {
        const real level = y[r] == -INFINITY ? 0 : y[r], scale = dy[r];
        #pragma omp simd
        for (int64_t n = 0; n < N; n++) dx[n] = scale * exponential(x[n] - level);      /* (2) */
    }
}
