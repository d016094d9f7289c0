/* Rotary position embedding: tinygrad_edu/ops/rope.py explains it and numbers the equations. */
#include <string.h>

#include "kernels.h"

/* One head of one token: R/2 = W pairs. The layouts differ in where the two numbers of pair i lie:
 * (i, i + W) or (2i, 2i + 1), (3). */
INLINE void rotate(real *y, const real *x, const real *cos, const real *sin, real turn,
                   int64_t W, bool halves) {
    const int64_t step = halves ? 1 : 2, other = halves ? W : 1;
    #pragma omp simd
    for (int64_t i = 0; i < W; i++) {
        const real a = x[step * i], b = x[step * i + other], s = sin[i] * turn;
        y[step * i] = a * cos[i] - b * s;                                               /* (2) */
        y[step * i + other] = a * s + b * cos[i];                                       /* (2) */
    }
}

void rope_rotate(real *y, const real *x, const int64_t *positions, const real *cos, const real *sin,
                 bool halves, real direction, int64_t B, int64_t H, int64_t T, int64_t D,
                 int64_t W) {
    for (int64_t row = 0; row < B * H * T; row++, y += D, x += D) {
        const int64_t b = row / (H * T), t = row % T, p = positions[b * T + t];
        if (halves) rotate(y, x, cos + p * W, sin + p * W, direction, W, true);
        else rotate(y, x, cos + p * W, sin + p * W, direction, W, false);
        if (2 * W < D) memcpy(y + 2 * W, x + 2 * W, (D - 2 * W) * sizeof(real));
    }
}
