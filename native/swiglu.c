/* SiLU and SwiGLU: tinygrad_edu/ops/swiglu.py explains them and numbers the equations. */
#include "exponential.h"
#include "kernels.h"

#define LOW (real)-88                  /* there x * sigma(x) is as good as 0; -inf * 0 is NaN */

INLINE real silu(real x) {
    const real near = x < LOW ? LOW : x;
    return near * logistic(near);                                                       /* (1) */
}

void silu_forward(real *y, const real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = silu(x[i]);
}

void silu_backward(real *dx, const real *dy, const real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const real near = x[i] < LOW ? LOW : x[i], s = logistic(near);
        dx[i] = dy[i] * s * (1 + near * (1 - s));                                       /* (1) */
    }
}

void swiglu_forward(real *y, const real *gate, const real *up, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = silu(gate[i]) * up[i];                       /* (2) */
}

void swiglu_backward(real *dgate, real *dup, const real *dy, const real *gate, const real *up,
                     int64_t n) {
    #pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const real near = gate[i] < LOW ? LOW : gate[i], s = logistic(near);
        dgate[i] = dy[i] * up[i] * s * (1 + near * (1 - s));                            /* (2) */
        dup[i] = dy[i] * near * s;
    }
}
