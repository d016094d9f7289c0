/* Indexing, backward: tinygrad_edu/ops/shape.py explains it and numbers the equations. */
#include <string.h>

#include "kernels.h"

/* M rows of dy are added to those rows of dx that they were taken from. One after the other: a row
 * may have been taken several times. */
void index_backward(real *dx, const real *dy, const int64_t *positions, int64_t R, int64_t C,
                    int64_t M) {
    memset(dx, 0, R * C * sizeof(real));
    for (int64_t m = 0; m < M; m++, dy += C) {
        real *row = dx + positions[m] * C;
        #pragma omp simd
        for (int64_t c = 0; c < C; c++) row[c] += dy[c];                                /* (2) */
    }
}
