/* Lion: tinygrad_edu/nn/lion.py explains it and numbers the equations. */
#include "kernels.h"

void lion_update(real *w, real *m, const real *g, double lr, double beta1, double beta2,
                 double decay, double scale, int64_t n) {
    const real rate = (real)lr, shrink = (real)(lr * decay), factor = (real)scale;
    const real b1 = (real)beta1, c1 = (real)(1 - beta1);
    const real b2 = (real)beta2, c2 = (real)(1 - beta2);
    #pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const real d = factor * g[i], u = b1 * m[i] + c1 * d;
        const real step = u > 0 ? rate : u < 0 ? -rate : rate * u;                      /* (1) */
        w[i] -= shrink * w[i] + step;                                                   /* (2) */
        m[i] = b2 * m[i] + c2 * d;                                                      /* (3) */
    }
}
