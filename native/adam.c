/* Adam and AdamW: tinygrad_edu/nn/adam.py explains them and numbers the equations.
 *
 * One pass over the four arrays: each number is read once, and w, m and v are written once. What is
 * the same for all parameters is computed in double before the loop, as the reference does.
 */
#include "kernels.h"

void adam_update(real *w, real *m, real *v, const real *g, double lr, double beta1, double beta2,
                 double eps, double penalty, double decay, double scale, double step, int64_t n) {
    const real b1 = (real)beta1, c1 = (real)(1 - beta1);
    const real b2 = (real)beta2, c2 = (real)(1 - beta2);
    const real rate = (real)(lr / (1 - pow(beta1, step)));                              /* (2) */
    const real undo = (real)(1 / (1 - pow(beta2, step)));
    const real keep = (real)(1 - lr * decay), small = (real)eps;
    const real factor = (real)scale, pull = (real)penalty;
    #pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const real d = factor * g[i] + pull * w[i];
        m[i] = b1 * m[i] + c1 * d;                                                      /* (1) */
        v[i] = b2 * v[i] + c2 * d * d;
        w[i] = keep * w[i] - rate * m[i] / (R(sqrt)(undo * v[i]) + small);         /* (3), (4) */
    }
}
