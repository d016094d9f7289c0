/* The norm of all gradients, and SGD: tinygrad_edu/nn/optim.py explains them and numbers the
 * equations. */
#include "kernels.h"
#include "sums.h"

#define BLOCK 4096                     /* numbers that are added up in `real`, blocks in double */

void sum_of_squares(real *total, const real *g, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int64_t length = n - i < BLOCK ? n - i : BLOCK;
        sum += row_dot(g + i, g + i, length);
    }
    *total = (real)sum;
}

void sgd_update(real *w, real *v, const real *g, double lr, double momentum, bool nesterov,
                double decay, double scale, int64_t n) {
    const real rate = (real)lr, mu = (real)momentum;
    const real factor = (real)scale, pull = (real)decay;
    #pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const real d = factor * g[i] + pull * w[i];
        v[i] = mu * v[i] + d;                                                           /* (2) */
        w[i] -= rate * (nesterov ? d + mu * v[i] : v[i]);
    }
}
