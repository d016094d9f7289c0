/* Sums and variances: tinygrad_edu/ops/reduce.py explains them and numbers the equations.
 *
 * A sum of many float32 numbers loses digits if all are added to one total. Here blocks of BLOCK
 * numbers are added up in `real`, and the sums of the blocks in double.
 */
#include "kernels.h"

#define BLOCK 256
#define TILE 1024                      /* columns whose sums fit into the first-level cache */

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE double row_sum(const real *x, int64_t n) {
    double total = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t end = smaller(start + BLOCK, n);
        real part = 0;
        #pragma omp simd reduction(+ : part)
        for (int64_t i = start; i < end; i++) part += x[i];
        total += part;
    }
    return total;
}

INLINE double row_squares(const real *x, real mu, int64_t n) {
    double total = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t end = smaller(start + BLOCK, n);
        real part = 0;
        #pragma omp simd reduction(+ : part)
        for (int64_t i = start; i < end; i++) part += (x[i] - mu) * (x[i] - mu);
        total += part;
    }
    return total;
}

/* The sum of N rows of B numbers, TILE columns at a time: memory is read in the order in which it
 * lies, and the sums stay in the cache. */
INLINE void column_sums(real *y, const real *x, int64_t N, int64_t B) {
    real part[TILE];
    double total[TILE];
    for (int64_t left = 0; left < B; left += TILE) {
        const int64_t width = smaller(TILE, B - left);
        for (int64_t j = 0; j < width; j++) total[j] = 0;
        for (int64_t start = 0; start < N; start += BLOCK) {
            for (int64_t j = 0; j < width; j++) part[j] = 0;
            for (int64_t n = start; n < smaller(start + BLOCK, N); n++) {
                const real *row = x + n * B + left;
                for (int64_t j = 0; j < width; j++) part[j] += row[j];                  /* (1) */
            }
            for (int64_t j = 0; j < width; j++) total[j] += part[j];
        }
        for (int64_t j = 0; j < width; j++) y[left + j] = (real)total[j];
    }
}

KERNEL void sum_forward(real *y, const real *x, int64_t A, int64_t N, int64_t B) {
    for (int64_t a = 0; a < A; a++) {
        if (B == 1) y[a] = (real)row_sum(x + a * N, N);                                 /* (1) */
        else column_sums(y + a * B, x + a * N * B, N, B);
    }
}

/* The gradient of a bias, db of tinygrad_edu/ops/matmul.py, (4) there. */
KERNEL void sum_rows(real *db, const real *dy, int64_t N, int64_t F) {
    column_sums(db, dy, N, F);
}

KERNEL void var_forward(real *y, real *mean, const real *x, double ddof, int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++, x += N) {
        mean[r] = (real)(row_sum(x, N) / N);
        y[r] = (real)(row_squares(x, mean[r], N) / (N - ddof));                         /* (2) */
    }
}

KERNEL void var_backward(real *dx, const real *dy, const real *x, const real *mean, double ddof,
                         int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++, dx += N, x += N) {
        const real share = dy[r] * 2 / (real)(N - ddof), mu = mean[r];
        for (int64_t n = 0; n < N; n++) dx[n] = share * (x[n] - mu);                    /* (2) */
    }
}
