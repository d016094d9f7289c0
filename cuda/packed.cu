// Products with weights that stay packed: tinygrad_edu/ops/packed_cuda.py explains the kernels,
// ladders.py the blocks, and packed.py numbers the equations.
#include <cuda_fp16.h>

#include "common.cuh"

typedef unsigned char byte;

// ---- reading blocks -----------------------------------------------------------------------------
//
// Everywhere below four lanes, i = 0 … 3, share 32 numbers. Lane i takes numbers 4 i to 4 i + 3 and
// 16 + 4 i to 16 + 4 i + 3: in blocks of 4 bits these are the lower and upper halves of the same
// four bytes. Four rungs are four bytes of one register, since __dp4a multiplies by four.
struct Rungs { unsigned first, second; };
struct Ladder { float first, second, low; };     // what a rung of each is worth, where they begin

__device__ __forceinline__ unsigned two(const byte *at) { return *(const unsigned short *)at; }

// Blocks of 18, 22, 34 and 210 bytes begin at even addresses, and not at every multiple of four.
template <int BYTES> __device__ __forceinline__ unsigned four(const byte *at) {
    if (BYTES % 4) return two(at) | two(at + 2) << 16;
    return *(const unsigned *)at;
}

__device__ __forceinline__ float half_at(const byte *at) {
    return __half2float(__ushort_as_half((unsigned short)two(at)));
}

// Four rungs counted from `middle`, all at once: with 128 more no byte borrows from the next.
__device__ __forceinline__ unsigned from(unsigned rungs, int middle) {
    return ((rungs | 0x80808080u) - middle * 0x01010101u) ^ 0x80808080u;
}

__device__ __forceinline__ unsigned nibbles(unsigned bytes) { return bytes & 0x0f0f0f0fu; }

// Four bits, each as the fifth bit of a byte of its own.
__device__ __forceinline__ unsigned fifth(unsigned bits) {
    return (bits & 1) << 4 | (bits & 2) << 11 | (bits & 4) << 18 | (bits & 8) << 25;
}

struct Q8_0 {
    static constexpr int PARTS = 1, BYTES = 34;  // parts of 32 numbers, bytes of a block
    __device__ static Rungs rungs(const byte *w, int, int i) {
        return {four<BYTES>(w + 2 + 4 * i), four<BYTES>(w + 18 + 4 * i)};
    }
    __device__ static Ladder ladder(const byte *w, int) { return {half_at(w), half_at(w), 0}; }
};

struct Q4_0 {
    static constexpr int PARTS = 1, BYTES = 18;
    __device__ static Rungs rungs(const byte *w, int, int i) {
        const unsigned pairs = four<BYTES>(w + 2 + 4 * i);
        return {from(nibbles(pairs), 8), from(nibbles(pairs >> 4), 8)};
    }
    __device__ static Ladder ladder(const byte *w, int) { return {half_at(w), half_at(w), 0}; }
};

struct Q4_1 {
    static constexpr int PARTS = 1, BYTES = 20;
    __device__ static Rungs rungs(const byte *w, int, int i) {
        const unsigned pairs = four<BYTES>(w + 4 + 4 * i);
        return {nibbles(pairs), nibbles(pairs >> 4)};
    }
    __device__ static Ladder ladder(const byte *w, int) {
        return {half_at(w), half_at(w), half_at(w + 2)};
    }
};

// Five bits: four as above, and of every number one in the four bytes `high`.
__device__ __forceinline__ Rungs of_five(unsigned pairs, unsigned high, int i) {
    const unsigned later = high >> 16;
    return {nibbles(pairs) | fifth(high >> 4 * i), nibbles(pairs >> 4) | fifth(later >> 4 * i)};
}

struct Q5_0 {
    static constexpr int PARTS = 1, BYTES = 22;
    __device__ static Rungs rungs(const byte *w, int, int i) {
        const Rungs r = of_five(four<BYTES>(w + 6 + 4 * i), four<BYTES>(w + 2), i);
        return {from(r.first, 16), from(r.second, 16)};
    }
    __device__ static Ladder ladder(const byte *w, int) { return {half_at(w), half_at(w), 0}; }
};

struct Q5_1 {
    static constexpr int PARTS = 1, BYTES = 24;
    __device__ static Rungs rungs(const byte *w, int, int i) {
        return of_five(four<BYTES>(w + 8 + 4 * i), four<BYTES>(w + 4), i);
    }
    __device__ static Ladder ladder(const byte *w, int) {
        return {half_at(w), half_at(w), half_at(w + 2)};
    }
};

// Blocks of 256 numbers are eight parts, j = 0 … 7, each with a step and a minimum of six bits.
__device__ __forceinline__ Ladder of_six_bits(const byte *w, int j) {
    const int s = j < 4 ? w[4 + j] & 63 : (w[8 + j] & 15) | w[j] >> 6 << 4;
    const int m = j < 4 ? w[8 + j] & 63 : w[8 + j] >> 4 | w[4 + j] >> 6 << 4;
    const float step = half_at(w) * s;
    return {step, step, -(half_at(w + 2) * m)};
}

struct Q4_K {
    static constexpr int PARTS = 8, BYTES = 144;
    __device__ static Rungs rungs(const byte *w, int j, int i) {
        const byte *at = w + 16 + j / 2 * 32 + 4 * i;
        const int shift = j % 2 * 4;
        return {nibbles(four<BYTES>(at) >> shift), nibbles(four<BYTES>(at + 16) >> shift)};
    }
    __device__ static Ladder ladder(const byte *w, int j) { return of_six_bits(w, j); }
};

struct Q5_K {
    static constexpr int PARTS = 8, BYTES = 176;
    __device__ static unsigned rungs_at(const byte *low, const byte *high, int j) {
        const unsigned bit = four<BYTES>(high) >> j & 0x01010101u;
        return nibbles(four<BYTES>(low) >> j % 2 * 4) | bit << 4;
    }
    __device__ static Rungs rungs(const byte *w, int j, int i) {
        const byte *low = w + 48 + j / 2 * 32 + 4 * i, *high = w + 16 + 4 * i;
        return {rungs_at(low, high, j), rungs_at(low + 16, high + 16, j)};
    }
    __device__ static Ladder ladder(const byte *w, int j) { return of_six_bits(w, j); }
};

struct Q6_K {
    static constexpr int PARTS = 8, BYTES = 210;
    __device__ static unsigned rungs_at(const byte *low, const byte *high, int j) {
        const unsigned bits = four<BYTES>(high) >> j % 4 * 2 & 0x03030303u;
        return from(nibbles(four<BYTES>(low) >> j % 4 / 2 * 4) | bits << 4, 32);
    }
    __device__ static Rungs rungs(const byte *w, int j, int i) {
        const byte *low = w + j / 4 * 64 + j % 2 * 32 + 4 * i, *high = w + 128 + j / 4 * 32 + 4 * i;
        return {rungs_at(low, high, j), rungs_at(low + 16, high + 16, j)};
    }
    __device__ static Ladder ladder(const byte *w, int j) {
        const signed char *s = (const signed char *)w + 192 + 2 * j;
        return {half_at(w + 208) * s[0], half_at(w + 208) * s[1], 0};
    }
};

// The numbers that files give the kinds, and the work for the one that is meant. All threads of a
// launch take the same way, so it costs one comparison.
#define FOR_KIND(kind, WORK)                                                                       \
    switch (kind) {                                                                                \
        case 2: WORK(Q4_0); break;                                                                 \
        case 3: WORK(Q4_1); break;                                                                 \
        case 6: WORK(Q5_0); break;                                                                 \
        case 7: WORK(Q5_1); break;                                                                 \
        case 8: WORK(Q8_0); break;                                                                 \
        case 12: WORK(Q4_K); break;                                                                \
        case 13: WORK(Q5_K); break;                                                                \
        case 14: WORK(Q6_K); break;                                                                \
    }

// ---- x, as integers -----------------------------------------------------------------------------

// A warp takes 32 numbers of x, a lane each. Beside q it leaves their scale and the sum of q.
// expect: regs<=40 spills=0
extern "C" __global__ void quantize_rows(signed char *q, float *scale, int *sum, const float *x,
                                         int parts) {
    const int lane = threadIdx.x % 32, part = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (part >= parts) return;                   // a whole warp at once
    const long long k = (long long)part * 32 + lane;
    const float size = fabsf(x[k]), most = (float)warp_reduce<Max>(size);
    const bool finite = __all_sync(0xffffffffu, size < infinity());           // and not NaN
    const bool some = finite && most >= 0x1p-100f;
    const float nearest = some ? rintf(x[k] * (127 / most)) : 0;                         // (1)
    const int total = (int)warp_reduce<Sum>(nearest);
    q[k] = (signed char)nearest;
    if (lane) return;
    sum[part] = total;
    scale[part] = some ? most / 127 : finite ? 0 : nanf("");
}

// ---- the product --------------------------------------------------------------------------------

// What lane i of 4 adds to a sum of (2), for part b of a row w: two integer products of 4 + 4.
template <class Kind>
__device__ __forceinline__ float part_of(const byte *w, int b, int i, const int *q,
                                         const float *scale, const int *sum) {
    const byte *block = w + (long long)(b / Kind::PARTS) * Kind::BYTES;
    const Rungs r = Kind::rungs(block, b % Kind::PARTS, i);
    const Ladder l = Kind::ladder(block, b % Kind::PARTS);
    const int first = __dp4a((int)r.first, q[8 * b + i], 0);
    const int second = __dp4a((int)r.second, q[8 * b + 4 + i], 0);                       // (3)
    const float products = scale[b] * (l.first * first + l.second * second);
    return i ? products : products + scale[b] * sum[b] * l.low;
}

// The sentence: one thread takes one number of y, a row of x and a row of w.
//
// Why it is slow: the lanes of a warp read what lies a row of w apart, and of each sector of 32
// bytes that arrives two or four bytes are used at a time.
extern "C" __global__ void packed_product_naive(float *y, const signed char *q, const float *scale,
                                                const int *sum, const byte *w, int N, int F,
                                                int parts, int row_bytes, int kind) {
    const int f = blockIdx.x * blockDim.x + threadIdx.x, n = blockIdx.y;
    if (f >= F) return;
    float total = 0;
#define ROW(Kind)                                                                                  \
    for (int b = 0; b < parts; b++)                                                                \
        for (int i = 0; i < 4; i++)                                                                \
            total += part_of<Kind>(w + (long long)f * row_bytes, b, i,                             \
                                   (const int *)q + (long long)n * parts * 8,                      \
                                   scale + (long long)n * parts, sum + (long long)n * parts)
    FOR_KIND(kind, ROW)
#undef ROW
    y[(long long)n * F + f] = total;                                                     // (2)
}

// Step 1, for one row of x or a few: a warp takes a row of w, four lanes each part of 32 numbers.
// So a step of the warp reads eight parts that lie side by side, 144 bytes of Q4_0, and what a load
// of rungs leaves of its sectors, the next load, of scales, finds in the cache. Every weight is
// read once and used once.
// expect: regs<=64 spills=0
extern "C" __global__ void packed_product_rows(float *y, const signed char *q, const float *scale,
                                               const int *sum, const byte *w, int F, int parts,
                                               int row_bytes, int kind) {
    const int lane = threadIdx.x % 32, n = blockIdx.y;
    const int f = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (f >= F) return;                          // a whole warp at once
    w += (long long)f * row_bytes;
    const int *x = (const int *)q + (long long)n * parts * 8;
    scale += (long long)n * parts;
    sum += (long long)n * parts;
    float total = 0;
#define ROW(Kind)                                                                                  \
    for (int b = lane / 4; b < parts; b += 8)                                                      \
        total += part_of<Kind>(w, b, lane % 4, x, scale, sum)
    FOR_KIND(kind, ROW)
#undef ROW
    total = (float)warp_reduce<Sum>(total);
    if (lane == 0) y[(long long)n * F + f] = total;                                      // (2)
}

// Step 2, for many rows of x: 64 rows of w meet 64 of x, 32 numbers at a time. A block unpacks its
// rungs once and uses them 64 times; a thread keeps 4 × 4 sums, so that eight words from shared
// memory are worth sixteen __dp4a. Lines of 64 words with 8 more: the four lanes that share a row
// then write into different banks.
#define SIDE 64
#define LINE (SIDE + 8)
struct Tile {
    unsigned w[8][LINE], x[8][LINE];
    Ladder ladder[SIDE];
    float scale[SIDE], sum[SIDE];
};

// Part b of row f, as lane i of 4 reads it into column `column` of the tile; no row, no weight.
template <class Kind>
__device__ __forceinline__ void load(Tile &tile, int column, bool there, const byte *row, int b,
                                     int i) {
    const byte *block = row + (long long)(b / Kind::PARTS) * Kind::BYTES;
    const Rungs r = there ? Kind::rungs(block, b % Kind::PARTS, i) : Rungs{0, 0};
    tile.w[i][column] = r.first;
    tile.w[4 + i][column] = r.second;
    if (i) return;
    tile.ladder[column] = there ? Kind::ladder(block, b % Kind::PARTS) : Ladder{0, 0, 0};
}

// expect: regs<=112 spills=0
extern "C" __global__ void __launch_bounds__(256) packed_product_tiles(
        float *__restrict__ y, const signed char *__restrict__ q, const float *__restrict__ scale,
        const int *__restrict__ sum, const byte *__restrict__ w, int N, int F, int parts,
        int row_bytes, int kind) {
    __shared__ Tile tile;
    const int t = threadIdx.x, column = t / 4, i = t % 4, across = t % 16, down = t / 16;
    const int f = blockIdx.x * SIDE + column, n = blockIdx.y * SIDE + column;
    const byte *row = w + (long long)f * row_bytes;
    const int *x = (const int *)q + (long long)n * parts * 8;
    float sums[4][4] = {};
    for (int b = 0; b < parts; b++) {
#define LOAD(Kind) load<Kind>(tile, column, f < F, row, b, i)
        FOR_KIND(kind, LOAD)
#undef LOAD
        tile.x[i][column] = n < N ? x[8 * b + i] : 0;
        tile.x[4 + i][column] = n < N ? x[8 * b + 4 + i] : 0;
        if (i == 0) {
            const float by = n < N ? scale[(long long)n * parts + b] : 0;
            tile.scale[column] = by;
            tile.sum[column] = n < N ? by * sum[(long long)n * parts + b] : 0;
        }
        __syncthreads();
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int here = across + 16 * c, there = down + 16 * r;
                int first = 0, second = 0;
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    first = __dp4a((int)tile.w[k][here], (int)tile.x[k][there], first);
                    second = __dp4a((int)tile.w[4 + k][here], (int)tile.x[4 + k][there], second);
                }                                                                        // (3)
                const Ladder l = tile.ladder[here];
                sums[r][c] += tile.scale[there] * (l.first * first + l.second * second) +
                              tile.sum[there] * l.low;
            }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const int to_f = blockIdx.x * SIDE + across + 16 * c;
            const int to_n = blockIdx.y * SIDE + down + 16 * r;
            if (to_f < F && to_n < N) y[(long long)to_n * F + to_f] = sums[r][c];        // (2)
        }
}

// ---- kinds without a ladder ---------------------------------------------------------------------

// Number k of a row of F32 (0), F16 (1) or BF16 (30).
__device__ __forceinline__ float number(const byte *w, long long k, int kind) {
    if (kind == 0) return ((const float *)w)[k];
    if (kind == 1) return half_at(w + 2 * k);
    return __int_as_float((int)(two(w + 2 * k) << 16));
}

// A warp takes a row of w, and neighbouring lanes neighbouring numbers.
// expect: regs<=48 spills=0
extern "C" __global__ void plain_product(float *y, const float *x, const byte *w, int F, int K,
                                         int row_bytes, int kind) {
    const int lane = threadIdx.x % 32, n = blockIdx.y;
    const int f = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (f >= F) return;                          // a whole warp at once
    w += (long long)f * row_bytes;
    x += (long long)n * K;
    float total = 0;
#pragma unroll 4
    for (int k = lane; k < K; k += 32) total += number(w, k, kind) * x[k];
    total = (float)warp_reduce<Sum>(total);
    if (lane == 0) y[(long long)n * F + f] = total;
}

// ---- rows as floats -----------------------------------------------------------------------------

// Lane i of the four of part b writes its eight numbers: step·rung + low.
template <class Kind>
__device__ __forceinline__ void unpack_part(float *y, const byte *w, int b, int i) {
    const byte *block = w + (long long)(b / Kind::PARTS) * Kind::BYTES;
    const Rungs r = Kind::rungs(block, b % Kind::PARTS, i);
    const Ladder l = Kind::ladder(block, b % Kind::PARTS);
    y += 32LL * b + 4 * i;
#pragma unroll
    for (int e = 0; e < 4; e++) {
        y[e] = l.first * (signed char)(r.first >> 8 * e) + l.low;
        y[16 + e] = l.second * (signed char)(r.second >> 8 * e) + l.low;
    }
}

// expect: regs<=48 spills=0
extern "C" __global__ void unpack_rows(float *y, const byte *blocks, int rows, int parts,
                                       int row_bytes, int kind) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long part = at / 4;
    if (part >= (long long)rows * parts) return;
    const long long row = part / parts;
    const int b = (int)(part - row * parts), i = (int)(at % 4);
#define PART(Kind) unpack_part<Kind>(y + row * parts * 32, blocks + row * row_bytes, b, i)
    FOR_KIND(kind, PART)
#undef PART
}

// expect: regs<=40 spills=0
extern "C" __global__ void unpack_plain(float *y, const byte *w, long long n, int kind) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = number(w, i, kind);
}
