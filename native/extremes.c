/* The largest, the smallest, and log-sum-exp: tinygrad_edu/ops/extremes.py explains them and
 * numbers the equations.
 */
#include "rows.h"

#define BLOCK 64                       /* numbers that are compared before one is looked for */

/* The place of the first number of a row that equals `wanted`, or of the first NaN where `wanted`
 * is one. A block at a time: whether it is in there is asked of all its numbers at once. */
INLINE int64_t place_of(real wanted, const real *x, int64_t N) {
    int64_t n = 0;
    for (; n + BLOCK <= N; n += BLOCK) {
        int found = 0;
        #pragma omp simd reduction(| : found)
        for (int64_t k = 0; k < BLOCK; k++) {
            found |= (x[n + k] == wanted) | ((x[n + k] != x[n + k]) & (wanted != wanted));
        }
        if (found) break;
    }
    while (x[n] != wanted && (x[n] == x[n] || wanted == wanted)) n++;
    return n;
}

/* The largest number of each row, or, with sign = -1, the smallest. Two passes: the second finds
 * the row in the cache. A comparison with NaN is false, so the first pass goes by it and only notes
 * that there was one. */
INLINE void extremes(real *y, int64_t *position, const real *x, real sign, int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++, x += N) {
        real best = -INFINITY;
        int unknown = 0;
        #pragma omp simd reduction(max : best) reduction(| : unknown)
        for (int64_t n = 0; n < N; n++) {
            best = sign * x[n] > best ? sign * x[n] : best;
            unknown |= x[n] != x[n];
        }
        position[r] = place_of(unknown ? NAN : sign * best, x, N);                      /* (1) */
        y[r] = x[position[r]];
    }
}

void max_forward(real *y, int64_t *position, const real *x, int64_t R, int64_t N) {
    extremes(y, position, x, 1, R, N);
}

void min_forward(real *y, int64_t *position, const real *x, int64_t R, int64_t N) {
    extremes(y, position, x, -1, R, N);
}

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
