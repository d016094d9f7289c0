// One vector times a matrix of half bytes: tinygrad_edu/ops/gemv.py explains it.
#include "common.cuh"

// The sentence: one thread takes one row. Slow as in gemv_int8.cu: neighbours in a warp read what
// lies a row apart.
extern "C" __global__ void gemv_int4_forward_naive(real *y, const real *x, const unsigned char *q,
                                                   const real *scale, int F, int K, int G) {
    const int f = blockIdx.x * blockDim.x + threadIdx.x;
    if (f >= F) return;
    real sum = 0;
    for (int k = 0; k < K; k++) {
        const int number = q[(long long)f * (K / 2) + k / 2] >> k % 2 * 4 & 15;
        sum += x[k] * (number - 8) * scale[(long long)f * (K / G) + k / G];                // (2)
    }
    y[f] = sum;
}

// The one in use: a warp takes a row. A lane brings 4 bytes at a time, which are 8 numbers, and a
// group is a multiple of 8: so all of them have one scale, which multiplies their sum, not each.
// K a multiple of 8, and so is G. Rows that do not begin at a multiple of 4 bytes come in bytes.
// expect: regs<=64 spills=0
extern "C" __global__ void gemv_int4_forward(real *y, const real *x, const unsigned char *q,
                                             const real *scale, int F, int K, int G) {
    const int lane = threadIdx.x % 32, f = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (f >= F) return;                          // a whole warp at once
    q += (long long)f * (K / 2);
    scale += (long long)f * (K / G);
    const bool whole = (size_t)q % 4 == 0;
    real sum = 0;
    for (int k = lane * 8; k < K; k += 256) {
        unsigned eight = 0;
        if (whole) eight = *(const unsigned *)(q + k / 2);
        else
            for (int e = 0; e < 4; e++) eight |= (unsigned)q[k / 2 + e] << 8 * e;
        real part = 0;
#pragma unroll
        for (int e = 0; e < 8; e++) part += x[k + e] * ((int)(eight >> 4 * e & 15) - 8);
        sum += part * scale[k / G];                                                        // (2)
    }
    sum = warp_reduce<Sum>(sum);
    if (lane == 0) y[f] = sum;
}
