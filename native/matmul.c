/* Matrix products: tinygrad_edu/ops/matmul.py explains them. One text, three ways to compute
 *
 *     y[i][j] = sum over k of a[i][k] * b[k][j]                                               (1)
 *
 * matmul_naive is the equation. matmul_tiled does the same in blocks that stay in the cache.
 * matmul_forward keeps sums in registers as well (tile.h), and copies b, a block at a time, into
 * the order in which it is going to be read: this is how BLAS multiplies. The first two are there
 * to be read and measured: python -m tinygrad_edu.ops.matmul
 */
#include <stdlib.h>

#include "kernels.h"
#include "tile.h"

/* Sums over DEPTH terms at a time, for a block of BREADTH columns of b (three quarters of a mega-
 * byte of floats, for the second-level cache) and HEIGHT rows of a. */
enum { DEPTH = 384, BREADTH = 512, HEIGHT = 64, TILED = 64 };

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* A matrix: element (i, j) is at[i * row + j * column], and one of the two steps is 1. */
typedef struct { const real *at; int64_t row, column; } matrix;

void matmul_naive(real *y, const real *a, const real *b, int64_t N, int64_t K, int64_t M) {
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < M; j++) {
            real sum = 0;
            for (int64_t k = 0; k < K; k++) sum += a[i * K + k] * b[k * M + j];            /* (1) */
            y[i * M + j] = sum;
        }
}

/* The innermost loop runs along rows of y and b, so that the compiler can take them by vectors. */
void matmul_tiled(real *y, const real *a, const real *b, int64_t N, int64_t K, int64_t M) {
    for (int64_t i = 0; i < N * M; i++) y[i] = 0;
    for (int64_t k0 = 0; k0 < K; k0 += TILED)
        for (int64_t j0 = 0; j0 < M; j0 += 4 * TILED)
            for (int64_t i = 0; i < N; i++)
                for (int64_t k = k0; k < least(k0 + TILED, K); k++)
                    for (int64_t j = j0; j < least(j0 + 4 * TILED, M); j++)
                        y[i * M + j] += a[i * K + k] * b[k * M + j];                       /* (1) */
}

enum { PANEL = 2 * LANES }; /* columns of a tile */

/* A panel, to[k][j] = x[j][k], of a matrix whose columns lie without gaps; width numbers j. */
INLINE void pack_turned(real *to, const real *x, int64_t row, int64_t column, int64_t n,
                        int64_t width) {
    int64_t k = 0;
    if (row == 1 && width % LANES == 0)
        for (; k + LANES <= n; k += LANES)
            for (int64_t j = 0; j < width; j += LANES)
                turn_square(to + k * width + j, width, x + j * column + k, column);
    for (; k < n; k++)
        for (int64_t j = 0; j < width; j++) to[k * width + j] = x[j * column + k * row];
}

/* Copies x (n, count) into panels of `width` columns, each of them (n, width) without gaps; zeros
 * fill the last one. Inline, so that the compiler knows the width. */
INLINE void pack(real *to, matrix x, int64_t n, int64_t count, int64_t width) {
    enum { SOME = 8 }; /* rows at a time, since a cache line of x goes to more than one panel */
    const int64_t whole = count / width * width;
    if (x.column == 1)
        for (int64_t low = 0; low < n; low += SOME)
            for (int64_t j = 0; j < whole; j += width)
                for (int64_t k = low; k < least(low + SOME, n); k++)
                    memcpy(to + j * n + k * width, x.at + k * x.row + j, width * sizeof(real));
    else
        for (int64_t j = 0; j < whole; j += width)
            pack_turned(to + j * n, x.at + j * x.column, x.row, x.column, n, width);
    for (int64_t k = 0; whole < count && k < n; k++)
        for (int64_t j = 0; j < width; j++)
            to[whole * n + k * width + j] =
                whole + j < count ? x.at[k * x.row + (whole + j) * x.column] : 0;
}

/* One tile, also where y has fewer rows or columns left than a tile has: then by way of `whole`. */
static void place(real *y, int64_t M, const real *start, int64_t start_row, const real *a,
                  int64_t a_row, const real *b, int64_t n, int64_t rows, int64_t columns) {
    enum { WIDE = PANEL };
    if (rows == ROWS && columns == WIDE) {
        if (a_row == 1) /* packed; an address that is a known step away costs no register */
            tile_2(y, M, start, start_row, a, 1, ROWS, b, WIDE, n);
        else
            tile_2(y, M, start, start_row, a, a_row, 1, b, WIDE, n);
        return;
    }
    real whole[ROWS * WIDE] = {0};
    for (int64_t r = 0; start && r < rows; r++)
        memcpy(whole + r * WIDE, start + r * start_row, columns * sizeof(real));
    tile_2(whole, WIDE, whole, WIDE, a, a_row, a_row == 1 ? ROWS : 1, b, WIDE, n);
    for (int64_t r = 0; r < rows; r++)
        memcpy(y + r * M, whole + r * WIDE, columns * sizeof(real));
}

/* (1) for y (height, breadth), row length M, n terms, from rows of a and packed columns of b. */
static void block(real *y, int64_t M, const real *start, int64_t start_row, matrix a, const real *b,
                  real *packed_a, int64_t height, int64_t breadth, int64_t n) {
    /* Rows of a are read where they are, if they are rows; the last few go through a copy that
     * zeros make a whole tile. */
    const int64_t there = a.column == 1 ? height / ROWS * ROWS : 0;
    const matrix turned = {a.at + there * a.row, a.column, a.row};
    pack(packed_a, turned, n, height - there, ROWS);
    for (int64_t j = 0; j < breadth; j += PANEL) {
        const int64_t columns = least(PANEL, breadth - j);
        const real *from = start ? start + j : NULL;
        for (int64_t i = 0; i < height; i += ROWS) {
            const real *rows = i < there ? a.at + i * a.row : packed_a + (i - there) * n;
            place(y + i * M + j, M, from ? from + i * start_row : NULL, start_row, rows,
                  i < there ? a.row : 1, b + j * n, n, least(ROWS, height - i), columns);
        }
    }
}

/* y = a b, the sums of each row beginning with bias if there is one. Whether there was memory. */
static bool product(real *y, matrix a, matrix b, const real *bias, int64_t N, int64_t K,
                    int64_t M) {
    void *memory = malloc((BREADTH + HEIGHT) * DEPTH * sizeof(real) + ALIGNED);
    if (!memory) return false;
    real *packed_b = aligned(memory), *packed_a = packed_b + BREADTH * DEPTH;
    for (int64_t j = 0; j < M; j += BREADTH)
        for (int64_t k = 0; k < K; k += DEPTH) {
            const int64_t n = least(DEPTH, K - k), breadth = least(BREADTH, M - j);
            const matrix part = {b.at + k * b.row + j * b.column, b.row, b.column};
            pack(packed_b, part, n, breadth, PANEL);
            for (int64_t i = 0; i < N; i += HEIGHT) {
                real *to = y + i * M + j;
                const matrix rows = {a.at + i * a.row + k * a.column, a.row, a.column};
                const real *start = k ? to : bias ? bias + j : NULL;
                block(to, M, start, k ? M : 0, rows, packed_b, packed_a, least(HEIGHT, N - i),
                      breadth, n);
            }
        }
    free(memory);
    return true;
}

/* NaN everywhere, where there was no memory for the copies: a result that nobody mistakes. */
static void give_up(real *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = NAN;
}

void matmul_forward(real *y, const real *a, const real *b, int64_t N, int64_t K, int64_t M,
                    int64_t a_row, int64_t a_column, int64_t b_row, int64_t b_column) {
    const matrix left = {a, a_row, a_column}, right = {b, b_row, b_column};
    if (!product(y, left, right, NULL, N, K, M)) give_up(y, N * M);
}

void linear_forward(real *y, const real *x, const real *w, const real *b, int64_t N, int64_t K,
                    int64_t M) {
    const matrix left = {x, K, 1}, right = {w, 1, K};                                     /* (3) */
    if (!product(y, left, right, b, N, K, M)) give_up(y, N * M);
}
