// One vector times a matrix of bytes: tinygrad_edu/ops/gemv.py explains it.
#include "common.cuh"

// The sentence: one thread takes one row.
//
// Why it is slow: a warp reads 32 bytes that lie K apart, and memory delivers 32 for each of them.
// For one vector there is nothing to compute twice: the time is that of reading q once.
extern "C" __global__ void gemv_int8_forward_naive(real *y, const real *x, const signed char *q,
                                                   const real *scale, int F, int K) {
    const int f = blockIdx.x * blockDim.x + threadIdx.x;
    if (f >= F) return;
    real sum = 0;
    for (int k = 0; k < K; k++) sum += x[k] * q[(long long)f * K + k];
    y[f] = sum * scale[f];                                                                 // (1)
}

struct __align__(16) Packed { signed char at[16]; };

// The one in use: a warp takes a row, and each lane 16 numbers at a time, which are 16 bytes, in
// one load: 512 neighbouring bytes a step of the warp. x is small and stays in the cache.
// Blocks are of whole warps, a row each. Rows that do not begin at a multiple of 16 are read byte
// by byte.
// expect: regs<=64 spills=0 sass=LDG.128
extern "C" __global__ void gemv_int8_forward(real *y, const real *x, const signed char *q,
                                             const real *scale, int F, int K) {
    const int lane = threadIdx.x % 32, f = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (f >= F) return;                          // a whole warp at once
    q += (long long)f * K;
    const bool packed = K % 16 == 0 && (size_t)q % 16 == 0;
    real sum = 0;
    if (packed)
        for (int k = lane * 16; k < K; k += 512) {
            const Packed some = *(const Packed *)(q + k);
#pragma unroll
            for (int e = 0; e < 16; e++) sum += x[k + e] * some.at[e];
        }
    else
        for (int k = lane; k < K; k += 32) sum += x[k] * q[k];
    sum = warp_reduce<Sum>(sum);
    if (lane == 0) y[f] = sum * scale[f];                                                  // (1)
}
