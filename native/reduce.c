/* Sums and variances: tinygrad_edu/ops/reduce.py explains them and numbers the equations.
 *
 * A sum of many float32 numbers loses digits if all are added to one total. Here blocks of BLOCK
 * numbers are added up in `real`, and the sums of the blocks in double.
 */
#include "kernels.h"
#include "sums.h"

#define ROW_BLOCK 4096                 /* row_sum has chains of its own, each then adds up 64 */
#define BLOCK 256
#define TILE 1024                      /* columns whose sums fit into the first-level cache */
#define LONG 2048                      /* bytes: half a page of memory */

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE double long_row_sum(const real *x, int64_t n) {
    double total = 0;
    for (int64_t i = 0; i < n; i += ROW_BLOCK) total += row_sum(x + i, smaller(ROW_BLOCK, n - i));
    return total;
}

INLINE double long_row_squares(const real *x, real mu, int64_t n) {
    double total = 0;
    for (int64_t i = 0; i < n; i += ROW_BLOCK) {
        total += row_squares(x + i, mu, smaller(ROW_BLOCK, n - i));
    }
    return total;
}

/* The sums of `width` columns over N rows that lie B numbers apart. Short rows come four at a time:
 * the sums are read and written once for all four. Of LONG bytes on, what fetches memory
 * ahead of its use follows one row better than four. */
INLINE void add_rows(real *part, const real *x, int64_t N, int64_t B, int64_t width) {
    for (int64_t j = 0; j < width; j++) part[j] = 0;
    int64_t n = 0;
    for (; n + 4 <= N && width * (int64_t)sizeof(real) < LONG; n += 4, x += 4 * B) {
        const real *second = x + B, *third = x + 2 * B, *fourth = x + 3 * B;
        for (int64_t j = 0; j < width; j++) part[j] += (x[j] + second[j]) + (third[j] + fourth[j]);
    }
    for (; n < N; n++, x += B) {
        for (int64_t j = 0; j < width; j++) part[j] += x[j];                            /* (1) */
    }
}

/* The sums of all columns of N rows, TILE columns and BLOCK rows at a time. */
INLINE void column_sums(real *y, const real *x, int64_t N, int64_t B) {
    real part[TILE];
    double total[TILE];
    for (int64_t left = 0; left < B; left += TILE) {
        const int64_t width = smaller(TILE, B - left);
        for (int64_t j = 0; j < width; j++) total[j] = 0;
        for (int64_t n = 0; n < N; n += BLOCK) {
            add_rows(part, x + n * B + left, smaller(BLOCK, N - n), B, width);
            for (int64_t j = 0; j < width; j++) total[j] += part[j];
        }
        for (int64_t j = 0; j < width; j++) y[left + j] = (real)total[j];
    }
}

void sum_forward(real *y, const real *x, int64_t A, int64_t N, int64_t B) {
    for (int64_t a = 0; a < A; a++) {
        if (B == 1) y[a] = (real)long_row_sum(x + a * N, N);                            /* (1) */
        else column_sums(y + a * B, x + a * N * B, N, B);
    }
}

/* The gradient of a bias, db of tinygrad_edu/ops/matmul.py, (4) there. */
void sum_rows(real *db, const real *dy, int64_t N, int64_t F) {
    column_sums(db, dy, N, F);
}

void var_forward(real *y, real *mean, const real *x, double ddof, int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++, x += N) {
        mean[r] = (real)(long_row_sum(x, N) / N);
        y[r] = (real)(long_row_squares(x, mean[r], N) / (N - ddof));                    /* (2) */
    }
}

void var_backward(real *dx, const real *dy, const real *x, const real *mean, double ddof, int64_t R,
                  int64_t N) {
    for (int64_t r = 0; r < R; r++, dx += N, x += N) {
        const real share = dy[r] * 2 / (real)(N - ddof), mu = mean[r];
        for (int64_t n = 0; n < N; n++) dx[n] = share * (x[n] - mu);                    /* (2) */
    }
}
