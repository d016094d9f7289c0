// Sums and variances: tinygrad_edu/ops/reduce.py explains them and numbers the equations.
#include "sums.cuh"

// The sentence that the fast kernels paraphrase: one thread makes one sum of x (A, N, B).
//
// Why it is slow: x.sum() has one result, and so one thread of a GPU works. And where B is 1, the
// threads of a warp read numbers that lie N apart, of each 32 bytes that arrive only one number.
extern "C" __global__ void sum_forward_naive(real *y, const real *x, int A, long long N, int B) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, a = i / B;
    if (a >= A) return;
    double total = 0;
    for (long long n = 0; n < N; n++) total += x[(a * N + n) * B + i % B];
    y[i] = (real)total;                                                                  // (1)
}

// Step 1: many threads make one sum. Each adds up a part, then they put the parts together.
//
// Step 2: where there are few sums, the N numbers of each are cut into slices as well, so that
// there are enough blocks to fill a GPU: y is then (A, slices, B), and a second launch adds up the
// slices. No atomics: they add in whatever order the blocks come, and no two runs would agree to
// the last digit. Block (i, s) makes what it has of slice s, of `size` numbers.

// B = 1: the numbers of a sum lie side by side, and a block takes them side by side.
// expect: regs<=48 spills=0
extern "C" __global__ void sum_of_rows(real *y, const real *x, long long N, long long size) {
    x += blockIdx.x * N;
    const long long first = blockIdx.y * size, end = min(N, first + size);
    const double mine =
        long_sum(first + threadIdx.x, end, blockDim.x, [=](long long n) { return x[n]; });
    const real total = block_sum((real)mine);
    if (threadIdx.x == 0) y[blockIdx.x * (long long)gridDim.y + blockIdx.y] = total;    // (1)
}

// B > 1: 32 neighbouring sums a block. A warp reads 32 neighbours of one n; the eight warps of the
// block take every eighth n, and put their parts together in shared memory. One column more than 32
// there would not help: neighbours in a row of it lie in different banks as it is.
// expect: regs<=48 spills=0
extern "C" __global__ void sum_of_columns(real *y, const real *x, long long N, long long B,
                                          long long size) {
    __shared__ real parts[8][32];
    const long long pieces = (B + 31) / 32, a = blockIdx.x / pieces;
    const long long b = blockIdx.x % pieces * 32 + threadIdx.x;
    const long long first = blockIdx.y * size, end = min(N, first + size);
    x += a * N * B + b;
    double total = 0;
    if (b < B)
        total = long_sum(first + threadIdx.y, end, blockDim.y,
                         [=](long long n) { return x[n * B]; });
    parts[threadIdx.y][threadIdx.x] = (real)total;
    __syncthreads();
    if (threadIdx.y > 0 || b >= B) return;
    for (int warp = 1; warp < 8; warp++) total += parts[warp][threadIdx.x];
    y[(a * gridDim.y + blockIdx.y) * B + b] = (real)total;                               // (1)
}

// ---- variance -----------------------------------------------------------------------------------

// Two passes over a row, the second one from the caches.
// expect: regs<=48 spills=0
extern "C" __global__ void var_forward(real *y, real *mean, const real *x, double ddof,
                                       long long N) {
    x += blockIdx.x * N;
    double mine = long_sum(threadIdx.x, N, blockDim.x, [=](long long n) { return x[n]; });
    const real mu = block_sum((real)mine) / N;
    mine = long_sum(threadIdx.x, N, blockDim.x,
                    [=](long long n) { return (x[n] - mu) * (x[n] - mu); });
    const real squares = block_sum((real)mine);
    if (threadIdx.x > 0) return;
    mean[blockIdx.x] = mu;
    y[blockIdx.x] = (real)(squares / (N - ddof));                                        // (2)
}

// expect: regs<=40 spills=0
extern "C" __global__ void var_backward(real *dx, const real *dy, const real *x, const real *mean,
                                        double ddof, long long N) {
    dx += blockIdx.x * N, x += blockIdx.x * N;
    const real share = dy[blockIdx.x] * 2 / (real)(N - ddof), mu = mean[blockIdx.x];
    for (long long n = threadIdx.x; n < N; n += blockDim.x) dx[n] = share * (x[n] - mu); // (2)
}
