/* Many rows of x times packed weights: tinygrad_edu/ops/packed.py explains it and numbers the
 * lines. As many rows of w as a vector has lanes are laid out as a panel, once: four numbers of
 * each of them are one vector of 32-bit words, and an integer dot product multiplies it by four
 * numbers of x, which are the same in all lanes. A sum in the registers is thus of one row of w
 * and one row of x, and each panel serves all rows of x.
 */
#include <stdlib.h>

#include "blocks.h"
#include "kernels.h"

#ifdef INTEGER_VECTORS
#define SIDE (WIDTH / 4) /* rows of w in a panel */
typedef int32_t ints __attribute__((vector_size(WIDTH)));
typedef float reals __attribute__((vector_size(WIDTH)));
typedef float loose_reals __attribute__((vector_size(WIDTH), aligned(4), may_alias));

/* HIGH rows of x are taken at a time: their sums stay in registers. In a panel lie the rungs of
 * `laid`; `dots` adds up their products with x, four in each lane. */
#if defined(__AVX512VNNI__)
enum { HIGH = 8 };
INLINE ints dots(int type, ints sum, ints w, ints x) {
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
}
INLINE numbers laid(int type, numbers q) { return q ^ all_of(type == Q8_0 ? MIDDLE : 0); }
#elif defined(__AVX2__)
enum { HIGH = 4 };
INLINE ints dots(int type, ints sum, ints w, ints x) {
    if (type == Q8_0) return (ints)dot_signed((__m256i)sum, (__m256i)w, (__m256i)x);
    return (ints)dot((__m256i)sum, (__m256i)w, (__m256i)x);
}
INLINE numbers laid(int type, numbers q) { return q; }
#else
enum { HIGH = 8 };
INLINE ints dots(int type, ints sum, ints w, ints x) {
    return dot_words(sum, (int8x16_t)w, (int8x16_t)x);
}
INLINE numbers laid(int type, numbers q) { return q; }
#endif

/* SIDE rows of w: words[k] are numbers 4 k to 4 k + 3 of all of them; step for each ladder, and low
 * for each 32 numbers. */
typedef struct { ints *words; reals *step, *low; } panel;

/* What is known of all rows of x: the sum of each ladder's numbers times -middle, and that of 32
 * numbers times their scale. */
typedef struct { int32_t *start; float *sum; } known;

/* Row r of the panel, from one row of w. */
INLINE void lay(panel to, int r, int type, int64_t size, const uint8_t *w, int64_t n) {
    const int parts = is_large(type) ? 8 : 1, per = ladders_in_32(type);
    int32_t *words = (int32_t *)to.words + r;
    float *step = (float *)to.step + r, *low = (float *)to.low + r;
    for (int64_t b = 0; b < n / 32; b += parts, w += size) {
        float steps[16], lows[8] = {0};
        if (is_large(type)) ladders(type, w, steps, lows);
        else steps[0] = half(w), lows[0] = half(w + 2);
        for (int j = 0; j < parts; j++) {
            int32_t q[8];
            const numbers all = laid(type, rungs(type, w, j));
            memcpy(q, &all, 32);
            for (int k = 0; k < 8; k++) words[((b + j) * 8 + k) * SIDE] = q[k];
            low[(b + j) * SIDE] = lows[j];
            for (int k = 0; k < per; k++) step[((b + j) * per + k) * SIDE] = steps[j * per + k];
        }
    }
}

/* y[i * F + r] for `count` rows of x and the rows of a panel. */
INLINE void many_tile(int count, int type, float *y, int64_t F, int64_t rows, panel w, int64_t n,
                      const int8_t *q, const float *scale, known x) {
    enum { MOST = 8 };
    const int per = ladders_in_32(type), ladder = 32 / per, words = ladder / 4;
    const bool minima = type == Q4_1 || type == Q5_1 || type == Q4_K || type == Q5_K;
    const int64_t blocks = n / 32;
    reals sum[HIGH];
    UNROLL for (int i = 0; i < count; i++) sum[i] = (reals){0};
    for (int64_t g = 0; g < blocks * per; g++) {
        ints column[MOST];
        UNROLL for (int k = 0; k < words; k++) column[k] = w.words[g * words + k];
        const reals step = w.step[g], low = w.low[g / per];
        UNROLL for (int i = 0; i < count; i++) {
            ints t = (ints){0} + x.start[i * blocks * per + g];
            UNROLL for (int k = 0; k < words; k++) {
                int32_t four;
                memcpy(&four, q + i * n + g * ladder + 4 * k, 4);
                t = dots(type, t, column[k], (ints){0} + four);                            /* (3) */
            }
            sum[i] += __builtin_convertvector(t, reals) * (step * scale[i * blocks + g / per]);
            if (minima) sum[i] += low * x.sum[i * blocks + g];
        }
    }
    UNROLL for (int i = 0; i < count; i++) {
        if (rows == SIDE) *(loose_reals *)(y + i * F) = sum[i];
        else memcpy(y + i * F, sum + i, rows * sizeof(float));
    }
}

/* All of it, for one type. */
INLINE void many_rows(int type, int64_t size, float *y, const int8_t *q, const float *scale,
                      known x, const uint8_t *w, panel to, int64_t N, int64_t n, int64_t F,
                      int64_t row_bytes, int64_t low, int64_t high) {
    const int64_t blocks = n / 32, ladders_of_row = blocks * ladders_in_32(type);
    for (int64_t r = low; r < high; r += SIDE) {
        const int64_t rows = high - r < SIDE ? high - r : SIDE;
        for (int i = 0; i < rows; i++) lay(to, i, type, size, w + (r + i) * row_bytes, n);
        int64_t i = 0;
        for (; i + HIGH <= N; i += HIGH) {
            const known part = {x.start + i * ladders_of_row, x.sum + i * blocks};
            many_tile(HIGH, type, y + i * F + r, F, rows, to, n, q + i * n, scale + i * blocks,
                      part);
        }
        for (; i < N; i++) {
            const known part = {x.start + i * ladders_of_row, x.sum + i * blocks};
            many_tile(1, type, y + i * F + r, F, rows, to, n, q + i * n, scale + i * blocks, part);
        }
    }
}

static void know(known to, int type, const int8_t *q, const float *scale, const int32_t *sum,
                 int64_t count) {
    const int middle = middle_of(type), per = ladders_in_32(type);
    for (int64_t b = 0; b < count; b++) {
        int32_t first = 0;
        for (int k = 0; k < 16; k++) first += q[32 * b + k];
        to.start[b * per] = -middle * (per == 2 ? first : sum[b]);
        if (per == 2) to.start[b * per + 1] = -middle * (sum[b] - first);
        to.sum[b] = scale[b] * sum[b];
    }
}
#endif

enum { FEW_ROWS = 4 }; /* of x, for which no panel is worth its time */

void packed_product(float *y, const float *x, const int8_t *q, const float *scale,
                    const int32_t *sum, const uint8_t *blocks, int64_t kind, int64_t N, int64_t K,
                    int64_t F, int64_t row_bytes, int64_t low, int64_t high) {
#ifdef SIDE
    const int64_t count = N * (K / 32);
    const bool many = N >= FEW_ROWS && kind != F32 && kind != F16 && kind != BF16;
    const int64_t of_panel = ALIGNED + SIDE * (K + K / 16 * 4 + K / 32 * 4);
    void *memory = many ? malloc(of_panel + count * 12) : NULL;
    if (memory) {
        ints *words = (ints *)(((uintptr_t)memory + ALIGNED - 1) / ALIGNED * ALIGNED);
        const panel to = {words, (reals *)(words + K / 4), (reals *)(words + K / 4 + K / 16)};
        int32_t *start = (int32_t *)(to.low + K / 32);
        const known of_x = {start, (float *)(start + 2 * count)};
        memset(memory, 0, of_panel); /* rows of the last panel that are none */
        know(of_x, (int)kind, q, scale, sum, count);
        #define MANY(type, size)                                                                 \
            case type:                                                                           \
                many_rows(type, size, y, q, scale, of_x, blocks, to, N, K, F, row_bytes, low,    \
                          high);                                                                 \
                break;
        switch (kind) {
            MANY(Q8_0, 34)
            MANY(Q4_0, 18)
            MANY(Q4_1, 20)
            MANY(Q5_0, 22)
            MANY(Q5_1, 24)
            MANY(Q4_K, 144)
            MANY(Q5_K, 176)
            MANY(Q6_K, 210)
        }
        free(memory);
        return;
    }
#endif
    for (int64_t i = 0, b = 0; i < N; i++, b += K / 32)
        packed_rows(y + i * F, low, high, blocks, row_bytes, (int)kind, K, q + i * K, scale + b,
                    sum + b, x + i * K);
}
