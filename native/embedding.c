/* Embedding: tinygrad_edu/ops/embedding.py explains it and numbers the equations. */
#include <string.h>

#include "kernels.h"

void embedding_forward(real *y, const int64_t *ids, const real *w, int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++) memcpy(y + n * C, w + ids[n] * C, C * sizeof(real)); /* (1) */
}

void embedding_add_forward(real *y, const int64_t *ids, const real *w, const real *p, int64_t B,
                           int64_t T, int64_t C) {
    for (int64_t n = 0; n < B * T; n++, y += C) {
        const real *row = w + ids[n] * C, *place = p + n % T * C;
        #pragma omp simd
        for (int64_t c = 0; c < C; c++) y[c] = row[c] + place[c];                       /* (2) */
    }
}

void embedding_backward(real *dw, const real *dy, const int64_t *order, const int64_t *first,
                        const int64_t *last, int64_t V, int64_t C) {
    for (int64_t v = 0; v < V; v++, dw += C) {
        memset(dw, 0, C * sizeof(real));
        for (int64_t i = first[v]; i < last[v]; i++) {
            const real *row = dy + order[i] * C;
            #pragma omp simd
            for (int64_t c = 0; c < C; c++) dw[c] += row[c];                            /* (3) */
        }
    }
}

/* Some numbers of all rows at a time: their sums stay in the second-level cache, and each row is
 * read for long enough that what fetches memory ahead of its use gets going. */
#define TILE 65536

void sum_batch(real *dp, const real *dy, int64_t B, int64_t T, int64_t C) {
    for (int64_t start = 0; start < T * C; start += TILE) {
        const int64_t end = start + TILE < T * C ? start + TILE : T * C;
        memset(dp + start, 0, (end - start) * sizeof(real));
        for (int64_t b = 0; b < B; b++) {
            const real *row = dy + b * T * C;
            #pragma omp simd
            for (int64_t i = start; i < end; i++) dp[i] += row[i];                      /* (3) */
        }
    }
}
