/* Integers of eight bits: tinygrad_edu/ops/int8.py explains them and numbers the equations. */
#include "int8.h"
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

void int8_rows(real *scale, int8_t *q, const real *x, int64_t N, int64_t K) {
    for (int64_t n = 0; n < N; n++) scale[n] = round_row(q + n * K, x + n * K, K);
}

void int8_widen(real *y, const int8_t *q, const real *scale, int64_t N, int64_t K) {
    for (int64_t n = 0; n < N; n++) widen_row(y + n * K, q + n * K, scale[n], K);
}
