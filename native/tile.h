/* The innermost part of a matrix product; in the vectors of vector.h.
 *
 * The naive loop, for r < ROWS and j < columns * LANES:
 *
 *     c[r * c_row + j] = start[r * start_row + j] + sum over k < n of
 *                        a[r * a_row + k * a_step] * b[k * b_row + j]
 *
 * All sums stay in registers, ROWS * columns vectors of them, so that a step of k costs as many
 * multiply-adds, but only ROWS numbers of a and `columns` vectors of b from the cache. a is read
 * number by number, so it may lie in any direction. No start: from zero. c may be the start.
 */
#ifndef TINYGRAD_EDU_TILE_H
#define TINYGRAD_EDU_TILE_H

#include <stddef.h>

#include "vector.h"

/* The height of a tile, so that the sums of two columns and what they are made of fit in the
 * registers: there are 32 with AVX-512 and on ARM64, else 16. */
#if WIDTH == 64 || defined(__aarch64__)
#define ROWS 8
#else
#define ROWS 4
#endif

#define TILE(columns)                                                                            \
    INLINE void tile_##columns(                                                                  \
        real *c, int64_t c_row, const real *start, int64_t start_row, const real *a,             \
        int64_t a_row, int64_t a_step, const real *b, int64_t b_row, int64_t n) {                \
        vec sum[ROWS][columns];                                                                  \
        UNROLL for (int r = 0; r < ROWS; r++)                                                    \
            UNROLL for (int j = 0; j < columns; j++)                                             \
                sum[r][j] = start ? load(start + r * start_row + j * LANES) : (vec){0};          \
        for (int64_t k = 0; k < n; k++) {                                                        \
            vec x[columns];                                                                      \
            const real *row = b + k * b_row;                                                     \
            UNROLL for (int j = 0; j < columns; j++) x[j] = load(row + j * LANES);               \
            UNROLL for (int r = 0; r < ROWS; r++) {                                              \
                const real factor = a[r * a_row + k * a_step];                                   \
                UNROLL for (int j = 0; j < columns; j++) sum[r][j] += factor * x[j];             \
            }                                                                                    \
        }                                                                                        \
        UNROLL for (int r = 0; r < ROWS; r++)                                                    \
            UNROLL for (int j = 0; j < columns; j++)                                             \
                store(c + r * c_row + j * LANES, sum[r][j]);                                     \
    }
TILE(1)
TILE(2)
#undef TILE

#endif
