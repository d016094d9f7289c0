/* Products with packed weights: tinygrad_edu/ops/packed.py explains them and numbers the lines. */
#include "packed.h"

#include "integers.h"
#include "kernels.h"

/* A block of x: 32 integers, their scale, and their sum times the scale. */
typedef struct { numbers q; float scale, sum; } part;

/* What is added up for a row: integer products times scales, and what a minimum brings. */
typedef struct { floats y; float low; } sums;

/* The block of 32 of a row of w, of that type: sum += step * q . x + low * (sum of x). */
INLINE void add_block(sums *to, int type, const uint8_t *w, part x) {
    const totals none = {0};
    float step = half(w) * x.scale;
    if (type == Q4_1 || type == Q5_1) to->low += half(w + 2) * x.sum;
    totals t = none;
    if (type == Q8_0) t = dot(none, bytes(w + 2), x.q);
    if (type == Q4_0) t = dot(minus(dot(none, all_of(8), x.q)), nibbles(w + 2), x.q);
    if (type == Q4_1) t = dot(none, nibbles(w + 4), x.q);
    if (type == Q5_0)
        t = dot(minus(dot(none, all_of(16), x.q)), either(nibbles(w + 6), fifth_bits(w + 2)), x.q);
    if (type == Q5_1) t = dot(none, either(nibbles(w + 8), fifth_bits(w + 4)), x.q);
    to->y = add_scaled(to->y, t, step, step);
}

INLINE void rows_of(int type, int64_t bytes_of_block, float *y, int64_t first, int64_t last,
                    const uint8_t *w, int64_t row_bytes, int64_t n, const int8_t *q,
                    const float *scale, const int32_t *sum) {
    for (int64_t r = first; r < last; r++) {
        sums to = {0};
        for (int64_t b = 0; b < n / 32; b++) {
            const part x = {bytes((const uint8_t *)q + 32 * b), scale[b], sum[b] * scale[b]};
            add_block(&to, type, w + r * row_bytes + b * bytes_of_block, x);
        }
        y[r] = total(to.y) + to.low;
    }
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
            if (type == F16) value = half(at + 2 * k);
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
