// LayerNorm: tinygrad_edu/ops/norm.py explains it and numbers the equations.
#include "common.cuh"

// The sentence that the fast kernel paraphrases: one thread takes one row.
//
// Why it is slow: the 32 threads of a warp read 32 numbers that lie C apart, so that of each 32
// bytes that arrive one number is used; and there are only N threads.
extern "C" __global__ void layernorm_forward_naive(real *y, real *mean, real *rstd, const real *x,
                                                   const real *w, const real *b, real eps, int N,
                                                   int C) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    x += (long long)n * C;
    y += (long long)n * C;
    real total = 0, squares = 0;
    for (int c = 0; c < C; c++) total += x[c];
    const real mu = total / C;
    for (int c = 0; c < C; c++) squares += (x[c] - mu) * (x[c] - mu);
    const real rho = rsqrt(squares / C + eps);
    for (int c = 0; c < C; c++) y[c] = w[c] * ((x[c] - mu) * rho) + b[c];                // (1)
    mean[n] = mu;
    rstd[n] = rho;
}

// Step 1: one block takes one row, its threads neighbouring numbers. The row comes from memory
// once; the second and the third pass find it in the caches, and cost little.

// (1) for one row. `part` is what this thread has of the row's sum: the block adds the parts up.
__device__ void normalise_row(real *y, real *mean, real *rstd, const real *s, const real *w,
                              const real *b, real part, real eps, int C) {
    const real mu = block_sum(part) / C;
    real squares = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) squares += (s[c] - mu) * (s[c] - mu);
    const real rho = rsqrt(block_sum(squares) / C + eps);
    for (int c = threadIdx.x; c < C; c += blockDim.x)
        y[c] = w[c] * ((s[c] - mu) * rho) + b[c];                                        // (1)
    if (threadIdx.x > 0) return;
    mean[blockIdx.x] = mu;
    rstd[blockIdx.x] = rho;
}

// expect: regs<=40 spills=0
extern "C" __global__ void layernorm_forward(real *y, real *mean, real *rstd, const real *x,
                                             const real *w, const real *b, real eps, int C) {
    const long long row = (long long)blockIdx.x * C;
    real part = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) part += x[row + c];
    normalise_row(y + row, mean, rstd, x + row, w, b, part, eps, C);
}

// Each thread reads of s what it wrote itself: no barrier is needed for that.
// expect: regs<=48 spills=0
extern "C" __global__ void add_layernorm_forward(real *s, real *y, real *mean, real *rstd,
                                                 const real *x, const real *r, const real *w,
                                                 const real *b, real eps, int C) {
    const long long row = (long long)blockIdx.x * C;
    real part = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        const real sum = x[row + c] + r[row + c];
        s[row + c] = sum;                                                                // (0)
        part += sum;
    }
    normalise_row(y + row, mean, rstd, s + row, w, b, part, eps, C);
}

// ---- backward -----------------------------------------------------------------------------------
//
// dx needs sums over a row, dw and db sums over all rows: two kernels, each of which reads dy and
// s. Adding to dw from every row by atomics would read them once, but add them up in another order,
// and so to other last digits, at every run.

// ds is the gradient that comes down the residual stream, null where there is none.
// expect: regs<=48 spills=0
extern "C" __global__ void norm_rows(real *dx, const real *dy, const real *ds, const real *s,
                                     const real *w, const real *mean, const real *rstd, int C) {
    const long long row = (long long)blockIdx.x * C;
    const real mu = mean[blockIdx.x], rho = rstd[blockIdx.x];
    dx += row, dy += row, s += row;
    real sum_g = 0, sum_gx = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        const real g = w[c] * dy[c];
        sum_g += g;
        sum_gx += g * ((s[c] - mu) * rho);
    }
    sum_g = block_sum(sum_g) / C;
    sum_gx = block_sum(sum_gx) / C;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        const real pull = rho * (w[c] * dy[c] - sum_g - (s[c] - mu) * rho * sum_gx);     // (2)
        dx[c] = ds ? pull + ds[row + c] : pull;
    }
}

// dw and db of slice blockIdx.y, of `size` rows: (slices, C), to be added up by a second launch, as
// in reduce.cu. 32 columns a block: a warp reads 32 neighbours of a row, and the eight warps take
// every eighth row. RMSNorm has no mean and no db: they are null then.
// expect: regs<=48 spills=0
extern "C" __global__ void norm_weights(real *dw, real *db, const real *dy, const real *s,
                                        const real *mean, const real *rstd, int N, int C,
                                        int size) {
    __shared__ real scales[8][32], shifts[8][32];
    const int c = blockIdx.x * 32 + threadIdx.x, first = blockIdx.y * size;
    const int end = min(N, first + size);
    real scale = 0, shift = 0;
    for (int n = first + threadIdx.y; n < end && c < C; n += 8) {
        const real g = dy[(long long)n * C + c], from = mean ? mean[n] : 0;
        scale += g * ((s[(long long)n * C + c] - from) * rstd[n]);                       // (2)
        shift += g;
    }
    scales[threadIdx.y][threadIdx.x] = scale;
    shifts[threadIdx.y][threadIdx.x] = shift;
    __syncthreads();
    if (threadIdx.y > 0 || c >= C) return;
    for (int warp = 1; warp < 8; warp++) {
        scale += scales[warp][threadIdx.x];
        shift += shifts[warp][threadIdx.x];
    }
    dw[(long long)blockIdx.y * C + c] = scale;
    if (db) db[(long long)blockIdx.y * C + c] = shift;
}
