/* Products with packed weights: tinygrad_edu/ops/packed.py explains them and numbers the lines. */
#include "packed.h"

#include "integers.h"
#include "kernels.h"

/* A block of x: 32 integers, their scale, and their sum times the scale. */
typedef struct { numbers q; pair scale; } part;

/* What is added up for a row: integer products times scales, and what a minimum brings. */
typedef struct { floats y; pair low; } sums;

/* The block of 32 of a row of w, of that type: sum += step * q . x + low * (sum of x). */
INLINE void add_block(sums *to, int type, const uint8_t *w, part x) {
    const totals none = {0};
    const pair step = times(head(w), x.scale);
    if (type == Q4_1 || type == Q5_1) to->low = plus(to->low, step);
    totals t = none;
    if (type == Q8_0) t = dot_signed(less(none, dot(none, all_of(MIDDLE), x.q)), bytes(w + 2), x.q);
    if (type == Q4_0) t = dot(less(none, dot(none, all_of(8), x.q)), nibbles(w + 2), x.q);
    if (type == Q4_1) t = dot(none, nibbles(w + 4), x.q);
    if (type == Q5_0)
        t = dot(less(none, dot(none, all_of(16), x.q)), either(nibbles(w + 6), fifth_bits(w + 2)),
                x.q);
    if (type == Q5_1) t = dot(none, either(nibbles(w + 8), fifth_bits(w + 4)), x.q);
    to->y = add_scaled(to->y, t, step);
}

/* `count` rows side by side: what is known of x is made once for all of them. */
INLINE void some_rows(int count, int type, int64_t bytes_of_block, float *y, const uint8_t *w,
                      int64_t row_bytes, int64_t n, const int8_t *q, const float *scale,
                      const int32_t *sum) {
    sums to[4] = {0};
    for (int64_t b = 0; b < n / 32; b++) {
        const part x = {bytes(q + 32 * b), pair_of(scale[b], sum[b] * scale[b])};
        /* Rows lie one behind the other: what comes next is fetched in that order, whatever the
         * order of the loops. */
        fetch(w + count * (row_bytes + b * bytes_of_block), count * bytes_of_block);
        UNROLL for (int i = 0; i < count; i++)
            add_block(to + i, type, w + i * row_bytes + b * bytes_of_block, x);
    }
    for (int i = 0; i < count; i++) y[i] = total(to[i].y) + (type == Q4_1 || type == Q5_1 ? second(to[i].low) : 0);
}

INLINE void rows_of(int type, int64_t bytes_of_block, float *y, int64_t first, int64_t last,
                    const uint8_t *w, int64_t row_bytes, int64_t n, const int8_t *q,
                    const float *scale, const int32_t *sum) {
    int64_t r = first;
    for (; r + 4 <= last; r += 4)
        some_rows(4, type, bytes_of_block, y + r, w + r * row_bytes, row_bytes, n, q, scale, sum);
    for (; r < last; r++)
        some_rows(1, type, bytes_of_block, y + r, w + r * row_bytes, row_bytes, n, q, scale, sum);
}

void packed_rows(float *y, int64_t first, int64_t last, const uint8_t *w, int64_t row_bytes,
                 int type, int64_t n, const int8_t *q, const float *scale, const int32_t *sum,
                 const float *x) {
    #define CASE(kind, bytes)                                                                    \
        case kind: rows_of(kind, bytes, y, first, last, w, row_bytes, n, q, scale, sum); return;
    switch (type) {
        CASE(Q8_0, 34)
        CASE(Q4_0, 18)
        CASE(Q4_1, 20)
        CASE(Q5_0, 22)
        CASE(Q5_1, 24)
    }
    for (int64_t r = first; r < last; r++) {
        float all = type == F32 || type == F16 || type == BF16 ? 0 : NAN;
        for (int64_t k = 0; k < n && all == all; k++) {
            float value = 0;
            const uint8_t *at = w + r * row_bytes;
            if (type == F32) memcpy(&value, at + 4 * k, 4);
            
            if (type == BF16) memcpy((char *)&value + 2, at + 2 * k, 2);
            all += value * x[k];
        }
        y[r] = all;
    }
}

void packed_quantize(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t n) {
    for (int64_t b = 0; b < n / 32; b++, x += 32, q += 32) {
        float most = 0, check = 0;
        for (int i = 0; i < 32; i++) {
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
            check += x[i] - x[i];
        }
        const bool whole = check == 0, none = !whole || most < 0x1p-100f;
        const float inverse = none ? 0 : 127 / most;
        int32_t all = 0;
        for (int i = 0; i < 32; i++) {
            const float step = none ? 0 : x[i] * inverse;
            q[i] = (int8_t)(int32_t)rintf(step);
            all += q[i];
        }
        sum[b] = all;
        scale[b] = whole ? none ? 0 : most / 127 : NAN;
    }
}

void quantize_rows(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t N, int64_t K) {
    packed_quantize(q, scale, sum, x, N * K);
}

void packed_product(float *y, const float *x, const int8_t *q, const float *scale,
                    const int32_t *sum, const uint8_t *blocks, int64_t kind, int64_t N, int64_t K,
                    int64_t F, int64_t row_bytes, int64_t low, int64_t high) {
    for (int64_t i = 0, b = 0; i < N; i++, b += K / 32)
        packed_rows(y + i * F, low, high, blocks, row_bytes, (int)kind, K, q + i * K, scale + b,
                    sum + b, x + i * K);
}
