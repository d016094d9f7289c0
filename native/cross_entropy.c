/* Cross entropy: tinygrad_edu/ops/cross_entropy.py explains it and numbers the equations. */
#include "rows.h"

/* The sum of q[v]·(z[v] - top) over a row, in double: with the logarithm of the sum of
 * exponentials it makes (1), see the Pitfalls. */
static double row_target(const real *z, int64_t t, real top, double smoothing, int64_t V) {
    double at = (double)z[t] - top, sum = 0;
    if (smoothing > 0) {
        #pragma omp simd reduction(+ : sum)
        for (int64_t v = 0; v < V; v++) sum += (double)z[v] - top;
        at += smoothing * (sum / V - at);
    }
    return at;
}

void cross_entropy_forward(real *loss, real *lse, const real *z, const int64_t *targets,
                           int64_t ignore, double smoothing, int64_t N, int64_t V) {
    for (int64_t n = 0; n < N; n++, z += V) {
        const real top = row_shift(z, V), total = row_total(z, top, V);
        const int64_t t = targets[n];
        lse[n] = (real)(log((double)total) + top);
        loss[n] = 0;
        if (t == ignore) continue;
        loss[n] = (real)(log((double)total) - row_target(z, t, top, smoothing, V));     /* (1) */
    }
}

void cross_entropy_backward(real *dz, const real *dy, const real *z, const real *lse,
                            const int64_t *targets, int64_t ignore, double smoothing, int64_t N,
                            int64_t V) {
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

void cross_entropy_both(real *loss, real *z, const int64_t *targets, double scale, int64_t ignore,
                        double smoothing, int64_t N, int64_t V) {
    const real share = (real)(scale * smoothing / V);
    for (int64_t n = 0; n < N; n++, z += V) {
        const int64_t t = targets[n];
        if (t == ignore) {
            loss[n] = 0;
            for (int64_t v = 0; v < V; v++) z[v] = 0;
            continue;
        }
        const real top = row_shift(z, V);
        const double at = row_target(z, t, top, smoothing, V); /* before the logits are gone */
        const real total = row_exponentials(z, z, top, V), factor = (real)scale / total;
        loss[n] = (real)(log((double)total) - at);                                      /* (1) */
        for (int64_t v = 0; v < V; v++) z[v] = z[v] * factor - share;                   /* (2) */
        z[t] -= (real)(scale * (1 - smoothing));
    }
}
