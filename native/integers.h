/* 32 small integers, and their products with 32 others: what a CPU has for it.
 *
 *     numbers   32 integers of 8 bits
 *     totals    sums of their products, of 32 bits; one half is of the first 16 numbers, the other
 *               of the last 16
 *     floats    as many floats
 *     pair      two floats
 *
 * Three texts: one for AVX2 (and for AVX-512's integer dot product, in the library that has it),
 * one for ARM64 (and for its dot product, where the compiler may use it), and loops for all else.
 * The first two define INTEGER_VECTORS: with them, many rows are multiplied by panels.
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

INLINE float from_word(uint32_t word) {
    float y;
    memcpy(&y, &word, 4);
    return y;
}

/* A brain float is the upper half of a float. */
INLINE float brain(uint16_t word) { return from_word((uint32_t)word << 16); }

#if defined(VECTORS) && defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>
#define INTEGER_VECTORS
#define SIDE_BY_SIDE 8 /* floats */

typedef __m256i numbers;
typedef __m256i totals;
typedef __m256 floats;
typedef __m128 pair; /* in its lower two lanes; nobody looks at the others */

INLINE numbers bytes(const void *w) { return _mm256_loadu_si256(w); }
INLINE numbers all_of(int value) { return _mm256_set1_epi8((char)value); }
INLINE numbers either(numbers a, numbers b) { return a | b; }

/* 16 bytes: their lower halves, then their upper halves. */
INLINE numbers nibbles(const uint8_t *w) {
    const __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)w));
    return _mm256_srlv_epi64(twice, _mm256_set_epi64x(4, 4, 0, 0)) & all_of(15);
}

/* Of each of 32 bytes some bits: x >> shift & mask. */
INLINE numbers bits_of(numbers x, int shift, int mask) {
    return _mm256_srli_epi16(x, shift) & all_of(mask);
}
INLINE numbers sixteen_times(numbers x) { return _mm256_slli_epi16(x, 4); } /* of 0 … 15 */

/* 32 bits: 16 where one is set, else 0. */
INLINE numbers fifth_bits(const uint8_t *w) {
    int32_t word;
    memcpy(&word, w, 4);
    const __m256i place = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202,
                                            0x0101010101010101, 0);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(word), place);
    return _mm256_cmpeq_epi8(spread & bit, bit) & all_of(16);
}

/* sum + w . x, for w from 0 to 127, or, under the second name, from -128 to 127: there plus what
 * MIDDLE times x adds up to. */
#ifdef __AVX512VNNI__
enum { MIDDLE = 128 };
INLINE totals dot(totals sum, numbers w, numbers x) { return _mm256_dpbusd_epi32(sum, w, x); }
INLINE totals dot_signed(totals sum, numbers w, numbers x) {
    return dot(sum, w ^ all_of(MIDDLE), x);
}
#else
enum { MIDDLE = 0 };
INLINE totals dot(totals sum, numbers w, numbers x) {
    const __m256i pairs = _mm256_maddubs_epi16(w, x);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INLINE totals dot_signed(totals sum, numbers w, numbers x) {
    return dot(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}
#endif

/* -middle * x: where a sum of products begins if w is counted from the middle. */
INLINE totals less_middle(numbers x, int middle) {
    const totals none = _mm256_setzero_si256();
#ifdef __AVX512VNNI__
    return _mm256_sub_epi32(none, dot(none, all_of(middle), x));
#else
    return middle ? _mm256_sub_epi32(none, dot(none, all_of(middle), x)) : none;
#endif
}

INLINE pair pair_of(float first, float second) { return _mm_set_ps(0, 0, second, first); }
INLINE pair times(pair a, pair b) { return a * b; }
INLINE pair plus(pair a, pair b) { return a + b; }
INLINE float second(pair a) { return a[1]; }

/* y + t * by: the first of a pair, a number, or one for each half of the numbers. */
INLINE floats add_scaled(floats y, totals t, pair by) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(t), _mm256_broadcastss_ps(by), y);
}
INLINE floats add_times(floats y, totals t, float by) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(t), _mm256_set1_ps(by), y);
}
INLINE floats add_halves(floats y, totals t, float first, float second) {
    const floats by = _mm256_set_m128(_mm_set1_ps(second), _mm_set1_ps(first));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(t), by, y);
}
INLINE floats add_product(floats y, floats a, floats b) { return _mm256_fmadd_ps(a, b, y); }

INLINE float total(floats y) {
    __m128 four = _mm256_castps256_ps128(y) + _mm256_extractf128_ps(y, 1);
    four += _mm_movehl_ps(four, four);
    return four[0] + four[1];
}

/* Numbers of 16 bits as floats: one, the two at the head of a block, SIDE_BY_SIDE. */
INLINE float half(const uint8_t *w) {
    uint16_t h;
    memcpy(&h, w, 2);
    return _cvtsh_ss(h);
}
INLINE pair head(const uint8_t *w) { return _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)w)); }
INLINE floats halves(const uint8_t *w) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)w));
}
INLINE floats brains(const uint8_t *w) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)w));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
INLINE floats singles(const void *w) { return _mm256_loadu_ps(w); }

#elif defined(VECTORS) && defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define INTEGER_VECTORS
#define SIDE_BY_SIDE 8

typedef int8x16x2_t numbers;
typedef int32x4x2_t totals;
typedef float32x4x2_t floats;
typedef float32x2_t pair;
enum { MIDDLE = 0 };

INLINE numbers bytes(const void *w) {
    numbers y;
    memcpy(&y, w, 32);
    return y;
}
INLINE numbers either(numbers a, numbers b) {
    return (numbers){{a.val[0] | b.val[0], a.val[1] | b.val[1]}};
}
INLINE int8x16_t lower_bits(uint8x16_t x, int mask) {
    return vreinterpretq_s8_u8(x & vdupq_n_u8((uint8_t)mask));
}

INLINE numbers nibbles(const uint8_t *w) {
    const uint8x16_t twice = vld1q_u8(w);
    return (numbers){{lower_bits(twice, 15), vreinterpretq_s8_u8(twice >> 4)}};
}
INLINE numbers bits_of(numbers x, int shift, int mask) {
    for (int i = 0; i < 2; i++)
        x.val[i] = lower_bits(vreinterpretq_u8_s8(x.val[i]) >> (uint8_t)shift, mask);
    return x;
}
INLINE numbers sixteen_times(numbers x) {
    return (numbers){{vshlq_n_s8(x.val[0], 4), vshlq_n_s8(x.val[1], 4)}};
}

/* A lane is set where it has a bit in common with its neighbour in `bit`. */
INLINE numbers fifth_bits(const uint8_t *w) {
    const uint8x16_t bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    numbers y;
    for (int i = 0; i < 2; i++) {
        const uint8x16_t spread = vcombine_u8(vdup_n_u8(w[2 * i]), vdup_n_u8(w[2 * i + 1]));
        y.val[i] = lower_bits(vtstq_u8(spread, bit), 16);
    }
    return y;
}

/* Products of 16 numbers, added up by fours into the four lanes of sum: of neighbours, or, under
 * the first name, of any. Two products of numbers from -128 to 127 with some from -127 to 127 add
 * up to 32512 at most, and fit into 16 bits. */
#ifdef __ARM_FEATURE_DOTPROD
INLINE int32x4_t dot_16(int32x4_t sum, int8x16_t w, int8x16_t x) { return vdotq_s32(sum, w, x); }
INLINE int32x4_t dot_words(int32x4_t sum, int8x16_t w, int8x16_t x) { return vdotq_s32(sum, w, x); }
#else
INLINE int32x4_t dot_16(int32x4_t sum, int8x16_t w, int8x16_t x) {
    const int16x8_t lower = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    return vpadalq_s16(sum, vmlal_s8(lower, vget_high_s8(w), vget_high_s8(x)));
}
INLINE int32x4_t dot_words(int32x4_t sum, int8x16_t w, int8x16_t x) {
    const int32x4_t lower = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
    const int32x4_t upper = vpaddlq_s16(vmull_s8(vget_high_s8(w), vget_high_s8(x)));
    return sum + vpaddq_s32(lower, upper);
}
#endif

INLINE totals dot(totals sum, numbers w, numbers x) {
    return (totals){{dot_16(sum.val[0], w.val[0], x.val[0]),
                     dot_16(sum.val[1], w.val[1], x.val[1])}};
}
INLINE totals dot_signed(totals sum, numbers w, numbers x) { return dot(sum, w, x); }
INLINE totals less_middle(numbers x, int middle) {
    const int8x16_t below = vdupq_n_s8((int8_t)-middle);
    const totals none = {{vdupq_n_s32(0), vdupq_n_s32(0)}};
    return middle ? dot(none, (numbers){{below, below}}, x) : none;
}

INLINE pair pair_of(float first, float second) { return (pair){first, second}; }
INLINE pair times(pair a, pair b) { return a * b; }
INLINE pair plus(pair a, pair b) { return a + b; }
INLINE float second(pair a) { return a[1]; }

INLINE floats add_halves(floats y, totals t, float first, float second) {
    return (floats){{vfmaq_n_f32(y.val[0], vcvtq_f32_s32(t.val[0]), first),
                     vfmaq_n_f32(y.val[1], vcvtq_f32_s32(t.val[1]), second)}};
}
INLINE floats add_scaled(floats y, totals t, pair by) { return add_halves(y, t, by[0], by[0]); }
INLINE floats add_times(floats y, totals t, float by) { return add_halves(y, t, by, by); }
INLINE floats add_product(floats y, floats a, floats b) {
    return (floats){{vfmaq_f32(y.val[0], a.val[0], b.val[0]),
                     vfmaq_f32(y.val[1], a.val[1], b.val[1])}};
}
INLINE float total(floats y) { return vaddvq_f32(y.val[0] + y.val[1]); }

INLINE float half(const uint8_t *w) {
    __fp16 h;
    memcpy(&h, w, 2);
    return h;
}
INLINE pair head(const uint8_t *w) { return pair_of(half(w), half(w + 2)); }
INLINE floats halves(const uint8_t *w) {
    const float16x8_t h = vreinterpretq_f16_u8(vld1q_u8(w));
    return (floats){{vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)}};
}
INLINE floats brains(const uint8_t *w) {
    const uint16x8_t h = vreinterpretq_u16_u8(vld1q_u8(w));
    return (floats){{vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)),
                     vreinterpretq_f32_u32(vshll_high_n_u16(h, 16))}};
}
INLINE floats singles(const void *w) {
    floats y;
    memcpy(&y, w, 32);
    return y;
}

#else
/* Loops in loops, unrolled: GCC would work on them for half a minute. */
#undef UNROLL
#define UNROLL
#define SIDE_BY_SIDE 2

typedef struct { int8_t at[32]; } numbers;
typedef struct { int32_t at[2]; } totals;
typedef struct { float at[2]; } floats, pair;
enum { MIDDLE = 0 };

INLINE numbers bytes(const void *w) {
    numbers y;
    memcpy(y.at, w, 32);
    return y;
}

INLINE numbers either(numbers a, numbers b) {
    for (int i = 0; i < 32; i++) a.at[i] |= b.at[i];
    return a;
}

INLINE numbers nibbles(const uint8_t *w) {
    numbers y;
    for (int i = 0; i < 16; i++) y.at[i] = w[i] & 15;
    for (int i = 0; i < 16; i++) y.at[i + 16] = w[i] >> 4;
    return y;
}

INLINE numbers bits_of(numbers x, int shift, int mask) {
    for (int i = 0; i < 32; i++) x.at[i] = (int8_t)((uint8_t)x.at[i] >> shift & mask);
    return x;
}

INLINE numbers sixteen_times(numbers x) {
    for (int i = 0; i < 32; i++) x.at[i] = (int8_t)(x.at[i] * 16);
    return x;
}

INLINE numbers fifth_bits(const uint8_t *w) {
    numbers y;
    for (int i = 0; i < 32; i++) y.at[i] = (int8_t)((w[i / 8] >> i % 8 & 1) * 16);
    return y;
}

INLINE totals dot(totals sum, numbers w, numbers x) {
    int32_t first = 0, last = 0;
    for (int i = 0; i < 16; i++) first += w.at[i] * x.at[i];
    for (int i = 16; i < 32; i++) last += w.at[i] * x.at[i];
    return (totals){{sum.at[0] + first, sum.at[1] + last}};
}
INLINE totals dot_signed(totals sum, numbers w, numbers x) { return dot(sum, w, x); }

INLINE totals less_middle(numbers x, int middle) {
    int32_t first = 0, last = 0;
    for (int i = 0; i < 16; i++) first += x.at[i];
    for (int i = 16; i < 32; i++) last += x.at[i];
    return (totals){{-middle * first, -middle * last}};
}

INLINE pair pair_of(float first, float second) { return (pair){{first, second}}; }
INLINE pair times(pair a, pair b) { return pair_of(a.at[0] * b.at[0], a.at[1] * b.at[1]); }
INLINE pair plus(pair a, pair b) { return pair_of(a.at[0] + b.at[0], a.at[1] + b.at[1]); }
INLINE float second(pair a) { return a.at[1]; }

INLINE floats add_halves(floats y, totals t, float first, float second) {
    return pair_of(y.at[0] + t.at[0] * first, y.at[1] + t.at[1] * second);
}
INLINE floats add_scaled(floats y, totals t, pair by) {
    return add_halves(y, t, by.at[0], by.at[0]);
}
INLINE floats add_times(floats y, totals t, float by) { return add_halves(y, t, by, by); }
INLINE floats add_product(floats y, floats a, floats b) { return plus(y, times(a, b)); }
INLINE float total(floats y) { return y.at[0] + y.at[1]; }

/* The exponent of a half begins 112 steps above that of a float: a product moves it, also that of
 * numbers below 2^-14, which have none. */
INLINE float half(const uint8_t *w) {
    uint16_t h;
    memcpy(&h, w, 2);
    const float size = from_word((uint32_t)(h & 0x7fff) << 13) * 0x1p112f;
    const float value = size < 65536 ? size : h & 0x3ff ? NAN : INFINITY;
    return h & 0x8000 ? -value : value;
}
INLINE pair head(const uint8_t *w) { return pair_of(half(w), half(w + 2)); }
INLINE floats halves(const uint8_t *w) { return head(w); }
INLINE floats brains(const uint8_t *w) {
    uint16_t h[2];
    memcpy(h, w, 4);
    return pair_of(brain(h[0]), brain(h[1]));
}
INLINE floats singles(const void *w) {
    floats y;
    memcpy(y.at, w, 8);
    return y;
}

#endif

#endif
