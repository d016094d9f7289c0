/* SiLU and SwiGLU: tinygrad_edu/ops/swiglu.py explains them and numbers the equations. */
#include "exponential.h"
#include "kernels.h"

#define LOW (real)-88                  /* there x * sigma(x) is as good as 0; -inf * 0 is NaN */

INLINE real silu(real x) {
    const real near = x < LOW ? LOW : x;
    return near * logistic(near);                                                       /* (1) */
}

INLINE real silu_slope(real x) {
    const real near = x < LOW ? LOW : x, s = logistic(near);
    return s * (1 + near * (1 - s));                                                    /* (1) */
}

KERNEL void silu_forward(real *y, const real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = silu(x[i]);
}

KERNEL void silu_backward(real *dx, const real *dy, const real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * silu_slope(x[i]);
}

KERNEL void swiglu_forward(real *y, const real *gate, const real *up, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = silu(gate[i]) * up[i];                       /* (2) */
}

KERNEL void swiglu_backward(real *dgate, real *dup, const real *dy, const real *gate,
                            const real *up, int64_t n) {
    #pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        dgate[i] = dy[i] * up[i] * silu_slope(gate[i]);                                 /* (2) */
        dup[i] = dy[i] * silu(gate[i]);
    }
}
