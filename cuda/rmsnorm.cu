// RMSNorm: tinygrad_edu/ops/rmsnorm.py explains it and numbers the equations. What is slow in one
// thread a row, and why one block a row is not, stands in norm.cu; so does the gradient of w.
#include "common.cuh"

extern "C" __global__ void rmsnorm_forward_naive(real *y, real *rstd, const real *x, const real *w,
                                                 real eps, int N, int C) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    x += (long long)n * C;
    y += (long long)n * C;
    real squares = 0;
    for (int c = 0; c < C; c++) squares += x[c] * x[c];
    rstd[n] = rsqrt(squares / C + eps);
    for (int c = 0; c < C; c++) y[c] = w[c] * (x[c] * rstd[n]);                          // (1)
}

// (1) for a row; `part` is what this thread has of the sum of its squares.
__device__ void normalise_row(real *y, real *rstd, const real *s, const real *w, real part,
                              real eps, int C) {
    const real rho = rsqrt(block_sum(part) / C + eps);
    for (int c = threadIdx.x; c < C; c += blockDim.x) y[c] = w[c] * (s[c] * rho);        // (1)
    if (threadIdx.x == 0) rstd[blockIdx.x] = rho;
}

// expect: regs<=40 spills=0
extern "C" __global__ void rmsnorm_forward(real *y, real *rstd, const real *x, const real *w,
                                           real eps, int C) {
    const long long row = (long long)blockIdx.x * C;
    real part = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) part += x[row + c] * x[row + c];
    normalise_row(y + row, rstd, x + row, w, part, eps, C);
}

// Each thread reads of s what it wrote itself: no barrier is needed for that.
// expect: regs<=40 spills=0
extern "C" __global__ void add_rmsnorm_forward(real *s, real *y, real *rstd, const real *x,
                                               const real *r, const real *w, real eps, int C) {
    const long long row = (long long)blockIdx.x * C;
    real part = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        const real sum = x[row + c] + r[row + c];
        s[row + c] = sum;                                                                // (0)
        part += sum * sum;
    }
    normalise_row(y + row, rstd, s + row, w, part, eps, C);
}

// dx; dw is norm_weights of norm.cu. ds comes down the residual stream, null where there is none.
// expect: regs<=40 spills=0
extern "C" __global__ void rmsnorm_rows(real *dx, const real *dy, const real *ds, const real *s,
                                        const real *w, const real *rstd, int C) {
    const long long row = (long long)blockIdx.x * C;
    const real rho = rstd[blockIdx.x];
    dx += row, dy += row, s += row;
    real sum_gx = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) sum_gx += w[c] * dy[c] * s[c];
    sum_gx = block_sum(sum_gx) * rho / C;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        const real pull = rho * (w[c] * dy[c] - s[c] * rho * sum_gx);                    // (2)
        dx[c] = ds ? pull + ds[row + c] : pull;
    }
}
