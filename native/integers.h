/* Blocks of 32 small integers, and their products with 32 others: what a CPU has for it.
 *
 *     numbers   32 integers of 8 bits
 *     totals    sums of their products, 32 bits each: one half of them is of the first 16 numbers,
 *               the other half of the last 16
 *
 * Three texts: for AVX2 (with AVX-512's integer dot product where a library is built for it), for
 * ARM64 with its dot product, and plain loops for all else.
 */
#ifndef TINYGRAD_EDU_INTEGERS_H
#define TINYGRAD_EDU_INTEGERS_H

#include "vector.h"

enum { EIGHT_BIT_MIDDLE = 0 };

typedef struct { int8_t at[32]; } numbers;
typedef struct { int32_t at[2]; } totals;
typedef struct { float at[2]; } floats;

INLINE numbers bytes(const uint8_t *w) {
    numbers y;
    memcpy(y.at, w, 32);
    return y;
}

/* 16 bytes: their lower halves, then their upper halves. */
INLINE numbers nibbles(const uint8_t *w) {
    numbers y;
    for (int i = 0; i < 16; i++) y.at[i] = w[i] & 15, y.at[i + 16] = w[i] >> 4;
    return y;
}

/* 32 bits: 16 where one is set, else 0. */
INLINE numbers fifth_bits(const uint8_t *w) {
    numbers y;
    for (int i = 0; i < 32; i++) y.at[i] = (w[i / 8] >> i % 8 & 1) << 4;
    return y;
}

INLINE numbers either(numbers a, numbers b) {
    for (int i = 0; i < 32; i++) a.at[i] |= b.at[i];
    return a;
}

INLINE numbers all_of(int8_t value) {
    numbers y;
    for (int i = 0; i < 32; i++) y.at[i] = value;
    return y;
}

/* sum + w . x */
INLINE totals dot(totals sum, numbers w, numbers x) {
    for (int i = 0; i < 32; i++) sum.at[i / 16] += w.at[i] * x.at[i];
    return sum;
}

INLINE totals minus(totals t) { return (totals){{-t.at[0], -t.at[1]}}; }

/* y + t * (first, second), a factor for each half of the block. */
INLINE floats add_scaled(floats y, totals t, float first, float second) {
    return (floats){{y.at[0] + t.at[0] * first, y.at[1] + t.at[1] * second}};
}

INLINE float total(floats y) { return y.at[0] + y.at[1]; }

/* A number of 16 bits, as a float. */
INLINE float half(const uint8_t *w) {
    uint16_t h;
    memcpy(&h, w, 2);
    /* The exponent of a half begins 112 steps above that of a float; the product moves it, also
     * that of numbers below 2^-14. */
    const uint32_t small = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t factor = 0x77800000;
    float value, by;
    memcpy(&value, &small, 4);
    memcpy(&by, &factor, 4);
    value *= by;
    if ((h & 0x7c00) == 0x7c00) value = h & 0x3ff ? NAN : INFINITY;
    return sign ? -value : value;
}

#endif
