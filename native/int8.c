/* Integers of eight bits: tinygrad_edu/ops/int8.py explains them and numbers the equations. */
#include "kernels.h"

void int8_product(int32_t *y, const int8_t *a, const int8_t *b, int64_t N, int64_t F, int64_t K) {
    for (int64_t n = 0; n < N; n++, a += K) {
        for (int64_t f = 0; f < F; f++, y++) {
            const int8_t *row = b + f * K;
            int32_t total = 0;
            #pragma omp simd reduction(+ : total)
            for (int64_t k = 0; k < K; k++) total += (int32_t)a[k] * row[k];            /* (1) */
            *y = total;
        }
    }
}

/* A number this large has no digits behind the point: adding it rounds, halves to even. */
#define WHOLE ((real)(sizeof(real) == 4 ? 12582912.0 : 6755399441055744.0))

void int8_rows(real *scale, int8_t *q, const real *x, int64_t N, int64_t K) {
    for (int64_t n = 0; n < N; n++, q += K, x += K) {
        real most = 0, odd = 0;
        #pragma omp simd reduction(max : most) reduction(+ : odd)
        for (int64_t k = 0; k < K; k++) {
            const real size = x[k] < 0 ? -x[k] : x[k];
            most = size > most ? size : most;
            odd += x[k] * 0; /* not 0 where x is infinite or no number */
        }
        const real step = most / 127; /* 0 for the smallest numbers there are, too */
        const bool some = odd == 0 && step > 0;
        scale[n] = odd == 0 ? step : NAN;
        for (int64_t k = 0; k < K; k++)
            q[k] = some ? (int8_t)(int32_t)(x[k] / step + WHOLE - WHOLE) : 0;           /* (2) */
    }
}

void int8_widen(real *y, const int8_t *q, const real *scale, int64_t N, int64_t K) {
    for (int64_t n = 0; n < N; n++, q += K, y += K) {
        const real step = scale[n];
        #pragma omp simd
        for (int64_t k = 0; k < K; k++) y[k] = step * q[k];                             /* (3) */
    }
}
