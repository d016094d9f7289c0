// Transposes that are to lie in rows: tinygrad_edu/ops/transpose.py explains them and numbers the
// equations. y (P, B, A, D), x (P, A, B, D), both without gaps.
#include "common.cuh"

// The sentence that the fast kernels paraphrase: one thread for each number of y.
//
// Why it is slow for D = 1: the 32 lanes of a warp write 32 neighbours, 4 sectors of 32 bytes, and
// read 32 numbers that are B apart, which are 32 sectors: of each, 4 bytes are used. And for any D
// a thread divides three times to find one number.
extern "C" __global__ void transpose_forward_naive(real *y, const real *x, int A, int B, int D,
                                                   int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const int row = i / D, a = row % A, b = row / A % B, p = row / A / B;
    y[i] = x[((p * A + a) * B + b) * D + i % D];                                         // (1)
}

// Step 1, for D = 1: by way of shared memory, whose 32 banks serve any 32 words at once, whatever
// lies between them, as long as no two are in one bank. A block reads 32 × 32 numbers in rows of x
// and writes them in rows of y; in between it walks down the columns of its tile.
//
// Why the tile has a column more: in rows of 32 words a column lies in one bank, and the bank would
// serve one lane after the other, 32 turns in place of one. In rows of 33 each row begins one bank
// further. The numbers of the extra column are never touched.
#define TILE 32
#ifndef PADDING
#define PADDING 1
#endif

// expect: regs<=32 spills=0
extern "C" __global__ void transpose_forward_tiled(real *__restrict__ y, const real *__restrict__ x,
                                                   int A, int B) {
    __shared__ real tile[TILE][TILE + PADDING];
    const int down = ceil_div(A, TILE), across = ceil_div(B, TILE);
    const int p = blockIdx.x / (down * across), inside = blockIdx.x % (down * across);
    const int first_a = inside / across * TILE, first_b = inside % across * TILE;
    const int lane = threadIdx.x;
    x += p * A * B;
    y += p * A * B;
#pragma unroll 4
    for (int k = threadIdx.y; k < TILE; k += blockDim.y) {
        const int a = first_a + k, b = first_b + lane;
        if (a < A && b < B) tile[k][lane] = x[a * B + b];
    }
    __syncthreads();
#pragma unroll 4
    for (int k = threadIdx.y; k < TILE; k += blockDim.y) {
        const int b = first_b + k, a = first_a + lane;
        if (a < A && b < B) y[b * A + a] = tile[lane][k];                                // (1)
    }
}

// Step 2, for D > 1: D neighbours stay neighbours, so that a warp reads and writes whole sectors
// without a tile, from D = 8 on. What is left is to find the place once for a row of D numbers, not
// once for each. blockDim.x lanes share a row, blockDim.y rows are in a block.
// expect: regs<=32 spills=0
extern "C" __global__ void transpose_forward_rows(real *__restrict__ y, const real *__restrict__ x,
                                                  int A, int B, int D, int rows) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    const int a = row % A, b = row / A % B, p = row / A / B;
    const real *from = x + ((p * A + a) * B + b) * D;
    real *to = y + row * D;
    for (int d = threadIdx.x; d < D; d += blockDim.x) to[d] = from[d];                   // (1)
}
