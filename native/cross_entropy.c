/* Cross entropy: tinygrad_edu/ops/cross_entropy.py explains it and numbers the equations. */
#include "rows.h"

/* (1) of a row from its maximum and its sum of exponentials, in double: see the Pitfalls. */
static real row_loss(const real *z, int64_t t, real top, real total, double smoothing, int64_t V) {
    const double at = (double)z[t] - top;
    double loss = log((double)total) - at, sum = 0;
    if (smoothing > 0) {
        #pragma omp simd reduction(+ : sum)
        for (int64_t v = 0; v < V; v++) sum += (double)z[v] - top;
        loss += smoothing * (at - sum / V);
    }
    return (real)loss;                                                                  /* (1) */
}

KERNEL void cross_entropy_forward(real *loss, real *lse, const real *z, const int64_t *targets,
                                  int64_t ignore, double smoothing, int64_t N, int64_t V) {
    for (int64_t n = 0; n < N; n++, z += V) {
        const real top = row_shift(z, V), total = row_total(z, top, V);
        const int64_t t = targets[n];
        lse[n] = (real)(log((double)total) + top);
        loss[n] = t == ignore ? 0 : row_loss(z, t, top, total, smoothing, V);
    }
}

KERNEL void cross_entropy_backward(real *dz, const real *dy, const real *z, const real *lse,
                                   const int64_t *targets, int64_t ignore, double smoothing,
                                   int64_t N, int64_t V) {
    const real share = (real)(smoothing / V);
    for (int64_t n = 0; n < N; n++, dz += V, z += V) {
        const int64_t t = targets[n];
        const real level = lse[n], scale = t == ignore ? 0 : dy[n];
        #pragma omp simd
        for (int64_t v = 0; v < V; v++) {
            dz[v] = scale * (exponential(z[v] - level) - share);                        /* (2) */
        }
        if (t != ignore) dz[t] -= scale * (real)(1 - smoothing);
    }
}

KERNEL void cross_entropy_both(real *loss, real *dz, const real *z, const int64_t *targets,
                               double scale, int64_t ignore, double smoothing,
                               int64_t N, int64_t V) {
    const real share = (real)(scale * smoothing / V);
    for (int64_t n = 0; n < N; n++, dz += V, z += V) {
        const int64_t t = targets[n];
        if (t == ignore) {
            loss[n] = 0;
            for (int64_t v = 0; v < V; v++) dz[v] = 0;
            continue;
        }
        const real top = row_shift(z, V), total = row_exponentials(dz, z, top, V);
        const real factor = (real)scale / total;
        loss[n] = row_loss(z, t, top, total, smoothing, V);
        for (int64_t v = 0; v < V; v++) dz[v] = dz[v] * factor - share;                 /* (2) */
        dz[t] -= (real)(scale * (1 - smoothing));
    }
}
