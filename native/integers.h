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

/* Has the cache fetch these bytes, which need not be there. */
INLINE void fetch(const uint8_t *at, int64_t count) {
#ifdef VECTORS
    for (int64_t i = 0; i < count; i += 64) __builtin_prefetch(at + i);
#endif
}

#if defined(VECTORS) && defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>

typedef __m256i numbers;
typedef __m256i totals;
typedef __m256 floats;
typedef __m128 pair;

INLINE numbers bytes(const void *w) { return _mm256_loadu_si256(w); }

INLINE numbers all_of(int8_t value) { return _mm256_set1_epi8(value); }

INLINE numbers either(numbers a, numbers b) { return a | b; }

/* 16 bytes: their lower halves, then their upper halves. */
INLINE numbers nibbles(const uint8_t *w) {
    const __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)w));
    return _mm256_srlv_epi64(twice, _mm256_set_epi64x(4, 4, 0, 0)) & all_of(15);
}

/* 32 bits: 16 where one is set, else 0. */
INLINE numbers fifth_bits(const uint8_t *w) {
    int32_t bits;
    memcpy(&bits, w, 4);
    const __m256i place = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202,
                                            0x0101010101010101, 0);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), place);
    return _mm256_cmpeq_epi8(spread & bit, bit) & all_of(16);
}

/* sum + w . x, for w from 0 to 127. */
INLINE totals dot(totals sum, numbers w, numbers x) {
#ifdef __AVX512VNNI__
    return _mm256_dpbusd_epi32(sum, w, x);
#else
    const __m256i pairs = _mm256_maddubs_epi16(w, x);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

/* The same for w from -128 to 127, but not yet less what `from_middle` says of x. */
#ifdef __AVX512VNNI__
INLINE totals dot_signed(totals sum, numbers w, numbers x) { return dot(sum, w ^ all_of(-128), x); }
enum { MIDDLE = -128 };
#else
INLINE totals dot_signed(totals sum, numbers w, numbers x) {
    return dot(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}
enum { MIDDLE = 0 };
#endif

INLINE totals less(totals a, totals b) { return _mm256_sub_epi32(a, b); }

INLINE float total(floats y) {
    __m128 four = _mm256_castps256_ps128(y) + _mm256_extractf128_ps(y, 1);
    four += _mm_movehl_ps(four, four);
    return four[0] + four[1];
}

/* The two halves at the head of a block, as floats; in the other two lanes, whatever follows. */
INLINE pair head(const uint8_t *w) { return _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)w)); }
INLINE pair pair_of(float first, float second) { return _mm_set_ps(0, 0, second, first); }
INLINE pair times(pair a, pair b) { return a * b; }
INLINE pair plus(pair a, pair b) { return a + b; }
INLINE float second(pair a) { return a[1]; }
/* y + t * the first of a pair */
INLINE floats add_scaled(floats y, totals t, pair by) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(t), _mm256_broadcastss_ps(by), y);
}

#else

typedef struct { int8_t at[32]; } numbers;
typedef struct { int32_t at[2]; } totals;
typedef struct { float at[2]; } floats, pair;

INLINE numbers bytes(const void *w) {
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

INLINE totals dot_signed(totals sum, numbers w, numbers x) { return dot(sum, w, x); }
enum { MIDDLE = 0 };

INLINE totals less(totals a, totals b) { return (totals){{a.at[0] - b.at[0], a.at[1] - b.at[1]}}; }

/* y + t * the first of a pair */
INLINE floats add_scaled(floats y, totals t, pair by) {
    return (floats){{y.at[0] + t.at[0] * by.at[0], y.at[1] + t.at[1] * by.at[0]}};
}
INLINE pair pair_of(float first, float second) { return (pair){{first, second}}; }
INLINE pair times(pair a, pair b) { return pair_of(a.at[0] * b.at[0], a.at[1] * b.at[1]); }
INLINE pair plus(pair a, pair b) { return pair_of(a.at[0] + b.at[0], a.at[1] + b.at[1]); }
INLINE float second(pair a) { return a.at[1]; }

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
INLINE pair head(const uint8_t *w) { return pair_of(half(w), half(w + 2)); }

#endif

#endif
