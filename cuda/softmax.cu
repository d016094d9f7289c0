// Softmax and its logarithm: tinygrad_edu/ops/softmax.py explains them and numbers the equations.
#include "common.cuh"

// The sentence that the fast kernel paraphrases: one thread takes one row.
//
// Why it is slow: at every moment the 32 threads of a warp read 32 numbers that lie C apart. Memory
// is fetched 32 bytes at a time, so seven of every eight floats that arrive are thrown away, and a
// row is walked by one thread while a GPU could hold tens of thousands.
extern "C" __global__ void softmax_forward_naive(real *y, const real *x, int N, int C) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    x += (long long)n * C;
    y += (long long)n * C;
    real top = -infinity(), total = 0;
    for (int c = 0; c < C; c++) top = max(top, x[c]);
    if (top == -infinity()) top = 0;
    for (int c = 0; c < C; c++) total += exp(x[c] - top);
    for (int c = 0; c < C; c++) y[c] = total == 0 ? 0 : exp(x[c] - top) / total;      // (1), (5)
}

// Step 1: one block takes one row, its threads neighbouring numbers. A warp then reads 32 numbers
// that lie side by side: every byte that arrives is used. The row is read three times, once from
// memory and then from the caches. Two values go through the block: the maximum and the sum.

// m of (1), and 0 for a row of nothing but -infinity.
__device__ real row_shift(const real *x, int C) {
    real top = -infinity();
    for (int c = threadIdx.x; c < C; c += blockDim.x) top = max(top, x[c]);
    top = block_max(top);
    return top == -infinity() ? 0 : top;
}

// expect: regs<=32 spills=0
extern "C" __global__ void softmax_forward(real *y, const real *x, int C) {
    x += (long long)blockIdx.x * C;
    y += (long long)blockIdx.x * C;
    const real top = row_shift(x, C);
    real total = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        y[c] = exp(x[c] - top);
        total += y[c];
    }
    total = block_sum(total);
    const real scale = total == 0 ? 1 : 1 / total;
    for (int c = threadIdx.x; c < C; c += blockDim.x) y[c] *= scale;                     // (1)
}

// expect: regs<=32 spills=0
extern "C" __global__ void softmax_backward(real *dx, const real *dy, const real *y, int C) {
    const long long row = (long long)blockIdx.x * C;
    dx += row, dy += row, y += row;
    real dot = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) dot += dy[c] * y[c];
    dot = block_sum(dot);
    for (int c = threadIdx.x; c < C; c += blockDim.x) dx[c] = y[c] * (dy[c] - dot);      // (2)
}

// expect: regs<=32 spills=0
extern "C" __global__ void log_softmax_forward(real *y, const real *x, int C) {
    x += (long long)blockIdx.x * C;
    y += (long long)blockIdx.x * C;
    const real top = row_shift(x, C);
    real total = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) total += exp(x[c] - top);
    total = block_sum(total);
    const real shift = total == 0 ? 0 : log(total);
    for (int c = threadIdx.x; c < C; c += blockDim.x) y[c] = (x[c] - top) - shift;       // (3)
}

// expect: regs<=32 spills=0
extern "C" __global__ void log_softmax_backward(real *dx, const real *dy, const real *y, int C) {
    const long long row = (long long)blockIdx.x * C;
    dx += row, dy += row, y += row;
    real total = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) total += dy[c];
    total = block_sum(total);
    for (int c = threadIdx.x; c < C; c += blockDim.x) dx[c] = dy[c] - exp(y[c]) * total; // (4)
}
