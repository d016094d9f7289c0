/* GELU: tinygrad_edu/ops/activation.py explains it and numbers the equations. */
#include "exponential.h"
#include "kernels.h"

#define K (real)1.5957691216057308     /* 2 * sqrt(2 / pi), of (3) */
#define A (real)0.044715
#define FAR (real)30                   /* beyond, GELU is 0 or x to the last digit */
#ifdef REAL_IS_FLOAT                   /* beyond, its slope is 0 or 1, to 1e-35 (double: 1e-302), */
#define STEEP (real)9.98               /* and e to what is then in (3) is still a normal number */
#else
#define STEEP (real)21.1
#endif

/* ---- tanh form --------------------------------------------------------------------------- */

INLINE real gelu(real x) {
    const real near = x < -FAR ? -FAR : x;
    return near * logistic(K * (near + A * near * near * near));                        /* (3) */
}

INLINE real gelu_slope(real x) {
    const real above = x < -STEEP ? -STEEP : x, near = above > STEEP ? STEEP : above;
    const real cubic = A * near * near;
    const real s = 1 / (1 + exponential_within(-K * (near + near * cubic)));
    return s * (1 + near * (1 - s) * (K + 3 * K * cubic));                              /* (4) */
}

void gelu_forward(real *y, const real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = gelu(x[i]);
}

void gelu_backward(real *dx, const real *dy, const real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * gelu_slope(x[i]);
}

void bias_gelu_forward(real *y, const real *z, const real *b, int64_t N, int64_t F) {
    for (int64_t n = 0; n < N; n++) {
        for (int64_t f = 0; f < F; f++) y[n * F + f] = gelu(z[n * F + f] + b[f]);       /* (5) */
    }
}

void bias_gelu_backward(real *dz, real *db, const real *dy, const real *z, const real *b, int64_t N,
                        int64_t F) {
    for (int64_t f = 0; f < F; f++) db[f] = 0;
    for (int64_t n = 0; n < N; n++, dz += F, dy += F, z += F) {
        #pragma omp simd
        for (int64_t f = 0; f < F; f++) {
            dz[f] = dy[f] * gelu_slope(z[f] + b[f]);                                    /* (5) */
            db[f] += dz[f];
        }
    }
}

/* ---- exact ------------------------------------------------------------------------------- */

#define ROOT (real)0.70710678118654752 /* sqrt(1 / 2) */
#define UNIT (real)0.39894228040143268 /* 1 / sqrt(2 * pi) */

void gelu_erf_forward(real *y, const real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = (real)0.5 * x[i] * (1 + R(erf)(x[i] * ROOT));                            /* (1) */
    }
}

void gelu_erf_backward(real *dx, const real *dy, const real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const real below = (real)0.5 * (1 + R(erf)(x[i] * ROOT));
        const real density = UNIT * exponential((real)-0.5 * x[i] * x[i]);
        dx[i] = dy[i] * (below + x[i] * density);                                       /* (2) */
    }
}
