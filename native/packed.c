/* Products with packed weights: tinygrad_edu/ops/packed.py explains them and numbers the lines. */
#include "blocks.h"
#include "kernels.h"

enum { AT_ONCE = 4 }; /* rows of w: what is known of x is made once for all of them */

/* 32 numbers of x: integers, their scale, and their sum times the scale. */
typedef struct { numbers q; pair scale; } part;

INLINE part part_of(const int8_t *q, const float *scale, const int32_t *sum, int64_t b) {
    return (part){bytes(q + 32 * b), pair_of(scale[b], scale[b] * sum[b])};
}

/* What is added up for a row: products of integers times scales, and what minima bring. */
typedef struct { floats y; pair low; } sums;

INLINE totals product(int type, const uint8_t *w, int j, part x) {
    const totals start = less_middle(x.q, middle_of(type));
    const numbers q = rungs(type, w, j);
    return type == Q8_0 ? dot_signed(start, q, x.q) : dot(start, q, x.q);                  /* (3) */
}

/* A small block: its scale at its head, and its minimum behind it. */
INLINE void add_small(sums *to, int type, const uint8_t *w, part x) {
    const pair by = times(head(w), x.scale);
    to->y = add_scaled(to->y, product(type, w, 0, x), by);
    if (type == Q4_1 || type == Q5_1) to->low = plus(to->low, by);
}

/* A large block of `count` rows, with their minima by places: low. */
INLINE void add_large(sums *to, float (*low)[8], int count, int type, const uint8_t *w,
                      int64_t row_bytes, const int8_t *q, const float *scale, const int32_t *sum) {
    const int per = ladders_in_32(type);
    float step[AT_ONCE][16], begin[8];
    for (int i = 0; i < count; i++) {
        ladders(type, w + i * row_bytes, step[i], begin);
        if (type != Q6_K)
            for (int j = 0; j < 8; j++) low[i][j] += begin[j] * (scale[j] * sum[j]);
    }
    UNROLL for (int j = 0; j < 8; j++) {
        const part x = part_of(q, scale, sum, j);
        UNROLL for (int i = 0; i < count; i++) {
            const totals t = product(type, w + i * row_bytes, j, x);
            const float *by = step[i] + j * per;
            if (per == 1) to[i].y = add_times(to[i].y, t, by[0] * scale[j]);
            else to[i].y = add_halves(to[i].y, t, by[0] * scale[j], by[1] * scale[j]);
        }
    }
}

INLINE void some_rows(int count, int type, int64_t size, float *y, const uint8_t *w,
                      int64_t row_bytes, int64_t n, const int8_t *q, const float *scale,
                      const int32_t *sum) {
    const int64_t parts = is_large(type) ? 8 : 1;
    sums to[AT_ONCE];
    float low[AT_ONCE][8];
    memset(to, 0, sizeof to);
    memset(low, 0, sizeof low);
    for (int64_t b = 0; b < n / 32; b += parts, w += size) {
        /* Rows lie one behind the other: what comes next is fetched in that order, whatever the
         * order in which it is read. */
        fetch(w + count * row_bytes + (count - 1) * (b / parts) * size, count * size);
        if (is_large(type)) {
            add_large(to, low, count, type, w, row_bytes, q + 32 * b, scale + b, sum + b);
            continue;
        }
        const part x = part_of(q, scale, sum, b);
        UNROLL for (int i = 0; i < count; i++) add_small(to + i, type, w + i * row_bytes, x);
    }
    for (int i = 0; i < count; i++) {
        y[i] = total(to[i].y);
        if (type == Q4_1 || type == Q5_1) y[i] += second(to[i].low);
        if (type == Q4_K || type == Q5_K)
            for (int j = 0; j < 8; j++) y[i] += low[i][j];
    }
}

/* The loop over rows, for one type, which the compiler is to know. */
INLINE void rows_of(int type, int64_t size, float *y, int64_t first, int64_t last, const uint8_t *w,
                    int64_t row_bytes, int64_t n, const int8_t *q, const float *scale,
                    const int32_t *sum) {
    int64_t r = first;
    for (; r + AT_ONCE <= last; r += AT_ONCE)
        some_rows(AT_ONCE, type, size, y + r, w + r * row_bytes, row_bytes, n, q, scale, sum);
    for (; r < last; r++)
        some_rows(1, type, size, y + r, w + r * row_bytes, row_bytes, n, q, scale, sum);
}

/* Numbers that share no scale: as floats, with x itself. */
INLINE floats wide(int type, const uint8_t *w, int64_t k) {
    return type == F16 ? halves(w + 2 * k) : type == BF16 ? brains(w + 2 * k) : singles(w + 4 * k);
}

INLINE void float_rows(int type, float *y, int64_t first, int64_t last, const uint8_t *w,
                       int64_t row_bytes, int64_t n, const float *x) {
    enum { SOME = 4, STEP = SOME * SIDE_BY_SIDE };
    for (int64_t r = first; r < last; r++) {
        const uint8_t *row = w + r * row_bytes;
        floats sum[SOME];
        memset(sum, 0, sizeof sum);
        int64_t k = 0;
        for (; k + STEP <= n; k += STEP)
            UNROLL for (int i = 0; i < SOME; i++)
                sum[i] = add_product(sum[i], wide(type, row, k + i * SIDE_BY_SIDE),
                                     singles(x + k + i * SIDE_BY_SIDE));
        uint8_t rest[4 * STEP] = {0};
        float of_x[STEP] = {0};
        const int64_t size = type == F32 ? 4 : 2;
        memcpy(rest, row + k * size, (n - k) * size);
        memcpy(of_x, x + k, (n - k) * sizeof(float));
        for (int i = 0; i < SOME; i++)
            sum[i] = add_product(sum[i], wide(type, rest, i * SIDE_BY_SIDE),
                                 singles(of_x + i * SIDE_BY_SIDE));
        y[r] = (total(sum[0]) + total(sum[1])) + (total(sum[2]) + total(sum[3]));
    }
}

void packed_rows(float *y, int64_t first, int64_t last, const uint8_t *w, int64_t row_bytes,
                 int type, int64_t n, const int8_t *q, const float *scale, const int32_t *sum,
                 const float *x) {
    #define INTEGERS(kind, size)                                                                 \
        case kind: rows_of(kind, size, y, first, last, w, row_bytes, n, q, scale, sum); return;
    #define FLOATS(kind)                                                                         \
        case kind: float_rows(kind, y, first, last, w, row_bytes, n, x); return;
    switch (type) {
        INTEGERS(Q8_0, 34)
        INTEGERS(Q4_0, 18)
        INTEGERS(Q4_1, 20)
        INTEGERS(Q5_0, 22)
        INTEGERS(Q5_1, 24)
        INTEGERS(Q4_K, 144)
        INTEGERS(Q5_K, 176)
        INTEGERS(Q6_K, 210)
        FLOATS(F16)
        FLOATS(BF16)
        FLOATS(F32)
    }
    for (int64_t r = first; r < last; r++) y[r] = NAN;
}

void packed_quantize(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t n) {
    for (int64_t b = 0; b < n / 32; b++, x += 32, q += 32) {
        float most = 0, check = 0;
        #pragma omp simd reduction(max : most) reduction(+ : check)
        for (int i = 0; i < 32; i++) {
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
            check += x[i] - x[i]; /* NaN for infinity, too */
        }
        const bool whole = check == 0, some = whole && most >= LEAST_OF_X;
        const float inverse = some ? 127 / most : 0;
        int32_t all = 0;
        #pragma omp simd reduction(+ : all)
        for (int i = 0; i < 32; i++) {
            const float exact = some ? x[i] * inverse : 0;
            const int32_t nearest = (int32_t)rintf(exact);                                 /* (1) */
            q[i] = (int8_t)nearest;
            all += nearest;
        }
        sum[b] = all;
        scale[b] = some ? most / 127 : whole ? 0 : NAN;
    }
}

void quantize_rows(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t N, int64_t K) {
    packed_quantize(q, scale, sum, x, N * K);
}

/* 32 numbers of a block, as floats. */
INLINE void widen(int type, float *y, const uint8_t *w, int j, const float *steps, float low) {
    int8_t q[32];
    const numbers all = rungs(type, w, j);
    const int middle = type == Q8_0 ? 0 : middle_of(type);
    memcpy(q, &all, 32);
    for (int k = 0; k < 32; k++) {
        const float exact = steps[ladders_in_32(type) == 2 ? k / 16 : 0] * (q[k] - middle);
        y[k] = exact + low;
    }
}

INLINE void widen_rows(int type, int64_t size, float *y, const uint8_t *w, int64_t count) {
    const int parts = is_large(type) ? 8 : 1;
    float step[16], low[8];
    for (int j = 0; j < 8; j++) low[j] = -0.0f; /* which leaves even the sign of a zero as it is */
    for (int64_t b = 0; b < count; b += 32 * parts, w += size) {
        if (is_large(type)) ladders(type, w, step, low);
        else step[0] = half(w);
        if (type == Q4_1 || type == Q5_1) low[0] = half(w + 2);
        for (int j = 0; j < parts; j++)
            widen(type, y + b + 32 * j, w, j, step + j * ladders_in_32(type), low[j]);
    }
}

void unpack_rows(float *y, const uint8_t *blocks, int64_t kind, int64_t N, int64_t K,
                 int64_t row_bytes) {
    const int64_t count = N * K;
    #define WIDEN(type, size) case type: widen_rows(type, size, y, blocks, count); return;
    switch (kind) {
        WIDEN(Q8_0, 34)
        WIDEN(Q4_0, 18)
        WIDEN(Q4_1, 20)
        WIDEN(Q5_0, 22)
        WIDEN(Q5_1, 24)
        WIDEN(Q4_K, 144)
        WIDEN(Q5_K, 176)
        WIDEN(Q6_K, 210)
        case F32: memcpy(y, blocks, N * row_bytes); return;
    }
    for (int64_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, blocks + 2 * i, 2);
        y[i] = kind == F16 ? half(blocks + 2 * i) : brain(h);
    }
}
