// Rotary position embedding: tinygrad_edu/ops/rope.py explains it and numbers the equations.
#include "common.cuh"

// One row (b, h, t) of x: pair i is turned, or number i behind the pairs is copied.
struct Turn {
    int pairs, halves;
    real direction;
    const real *cos, *sin;

    __device__ void operator()(real *y, const real *x, int i) const {
        const int a = halves ? i : 2 * i, b = halves ? i + pairs : 2 * i + 1;            // (3)
        const real c = cos[i], s = sin[i] * direction, first = x[a], second = x[b];
        y[a] = first * c - second * s;                                                   // (2)
        y[b] = first * s + second * c;
    }
};

// The sentence that the fast kernel paraphrases: one thread turns one row.
//
// Why it is slow: the threads of a warp read numbers that lie D apart, so that of each 32 bytes
// that arrive one number is used at a time.
extern "C" __global__ void rope_rotate_naive(real *y, const real *x, const long long *positions,
                                             const real *cos, const real *sin, int halves,
                                             int direction, int B, int H, int T, int D, int W) {
    const long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= (long long)B * H * T) return;
    const long long at = positions[row / T / H * T + row % T] * W;
    const Turn turn = {W, halves, (real)direction, cos + at, sin + at};
    for (int i = 0; i < W; i++) turn(y + row * D, x + row * D, i);
    for (int i = 2 * W; i < D; i++) y[row * D + i] = x[row * D + i];
}

// Step 1: one warp turns one row, eight rows a block of (32, 8), a thread every 32nd pair. In the
// layout "halves" a warp reads 32 neighbours twice; in "neighbours" every second of 64 numbers, and
// then the others, which have come along with the first and are in the cache.
// expect: regs<=48 spills=0
extern "C" __global__ void rope_rotate(real *y, const real *x, const long long *positions,
                                       const real *cos, const real *sin, int halves, int direction,
                                       int B, int H, int T, int D, int W) {
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= (long long)B * H * T) return;
    const long long at = positions[row / T / H * T + row % T] * W;
    const Turn turn = {W, halves, (real)direction, cos + at, sin + at};
    for (int i = threadIdx.x; i < W; i += 32) turn(y + row * D, x + row * D, i);
    for (int i = 2 * W + threadIdx.x; i < D; i += 32) y[row * D + i] = x[row * D + i];
}
