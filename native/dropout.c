/* Dropout: tinygrad_edu/ops/dropout.py explains it and numbers the equations. */
#include "kernels.h"

/* Two words of 32 random bits for a counter (a, b), (3). Products of 32 by 32 bits are written as
 * products of 64-bit numbers whose upper halves are empty, for which vector units have one
 * instruction. */
INLINE void philox(uint64_t *a, uint64_t *b, uint64_t key) {
    const uint64_t multiplier = 0xD256D193, weyl = 0x9E3779B9, low = 0xFFFFFFFF;
    for (int round = 0; round < 10; round++) {
        const uint64_t product = multiplier * (*a & low);
        *a = (product >> 32) ^ key ^ *b;                                                /* (3) */
        *b = product & low;
        key = (key + weyl) & low;
    }
}

void dropout_forward(real *y, const real *x, const uint64_t *start, uint64_t stream, uint64_t key,
                     uint64_t threshold, real scale, int64_t R, int64_t C) {
    const int64_t half = (C + 1) / 2;
    for (int64_t r = 0; r < R; r++, y += C, x += C) {
        #pragma omp simd
        for (int64_t c = 0; c < C - half; c++) {
            uint64_t first = start[r] + c, second = stream;
            philox(&first, &second, key);                                               /* (4) */
            y[c] = first >= threshold ? x[c] * scale : 0;                               /* (1) */
            y[half + c] = second >= threshold ? x[half + c] * scale : 0;
        }
        if (C % 2) {
            uint64_t first = start[r] + half - 1, second = stream;
            philox(&first, &second, key);
            y[half - 1] = first >= threshold ? x[half - 1] * scale : 0;
        }
    }
}
