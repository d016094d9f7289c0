/* Products with weights that stay in the blocks of a GGUF file: tinygrad_edu/ops/packed.py explains
 * them and numbers the equations. What other C files may call.
 */
#ifndef TINYGRAD_EDU_PACKED_H
#define TINYGRAD_EDU_PACKED_H

#include <stdbool.h>
#include <stdint.h>

/* The kinds of blocks, by the numbers that GGUF has for them. */
enum {
    F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q4_K = 12, Q5_K = 13,
    Q6_K = 14, BF16 = 30
};
enum { BLOCK_OF_X = 32 }; /* numbers of x that share a scale */
#define LEAST_OF_X 0x1p-100f /* a block of x whose numbers are all below counts as zeros */

/* x as 8-bit numbers: q (n,), and for each 32 of them: scale and sum of the numbers. Where one of
 * the 32 is infinite or no number, the scale is NaN. n is a multiple of 32. */
void packed_quantize(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t n);

/* y[r] = (row r of w) . x for r in [first, last): w has rows of row_bytes bytes, n numbers of ggml
 * type `type`. F32, F16 and BF16 read x itself and nothing of q, scale and sum; all others read
 * these and nothing of x. n is a multiple of a block of that type; another type: NaN. */
void packed_rows(float *y, int64_t first, int64_t last, const uint8_t *w, int64_t row_bytes,
                 int type, int64_t n, const int8_t *q, const float *scale, const int32_t *sum,
                 const float *x);

#endif
