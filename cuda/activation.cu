// GELU: tinygrad_edu/ops/activation.py explains it and numbers the equations.
#include "each.cuh"

// Numbers of (3), and where the slope has become 0 or 1. A literal such as 0.5 would be a double
// and make the whole expression one: real(0.5) is not.
constexpr real K = real(1.5957691216057308), A = real(0.044715), FAR = 30;
constexpr real ROOT_OF_HALF = real(0.7071067811865476), DENSITY = real(0.3989422804014327);

// 1/(1 + e^-v): where e^-v is infinite it is 0, without a NaN on the way.
__device__ __forceinline__ real logistic(real v) { return 1 / (1 + exp(-v)); }

// Comparisons, not max and min: those of CUDA would put a bound in the place of a NaN.
__device__ __forceinline__ real not_below(real x) { return x < -FAR ? -FAR : x; }
__device__ __forceinline__ real not_far(real x) { return x > FAR ? FAR : not_below(x); }

__device__ __forceinline__ real gelu(real x) {
    const real near = not_below(x);                      // so that the cubic stays finite
    return near * logistic(K * (near + A * near * near * near));                         // (3)
}

__device__ __forceinline__ real gelu_slope(real x) {
    const real near = not_far(x), cubic = A * near * near;
    const real s = logistic(K * near * (1 + cubic));
    return s + near * s * (1 - s) * K * (1 + 3 * cubic);                                 // (4)
}

// The sentence that the fast kernel paraphrases: one thread takes one element.
//
// Why it is slow: each thread has one load on its way, too few to keep the memory busy; and between
// two operations of one thread, each waiting for the last, there is nothing else for it to do.
extern "C" __global__ void gelu_forward_naive(real *y, const real *x, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = gelu(x[i]);
}

// Step 1: four elements a thread, see each.cuh.

// expect: regs<=40 spills=0
extern "C" __global__ void gelu_forward(real *__restrict__ y, const real *__restrict__ x,
                                        long long n) {
    each(n, [=](long long i) { y[i] = gelu(x[i]); });
}

// expect: regs<=48 spills=0
extern "C" __global__ void gelu_backward(real *__restrict__ dx, const real *__restrict__ dy,
                                         const real *__restrict__ x, long long n) {
    each(n, [=](long long i) { dx[i] = dy[i] * gelu_slope(x[i]); });
}

// expect: regs<=48 spills=0
extern "C" __global__ void gelu_erf_forward(real *__restrict__ y, const real *__restrict__ x,
                                            long long n) {
    each(n, [=](long long i) {
        y[i] = real(0.5) * x[i] * (1 + erf(x[i] * ROOT_OF_HALF));                        // (1)
    });
}

// expect: regs<=56 spills=0
extern "C" __global__ void gelu_erf_backward(real *__restrict__ dx, const real *__restrict__ dy,
                                             const real *__restrict__ x, long long n) {
    each(n, [=](long long i) {
        const real below = real(0.5) * (1 + erf(x[i] * ROOT_OF_HALF));
        const real density = DENSITY * exp(real(-0.5) * x[i] * x[i]);
        dx[i] = dy[i] * (below + min(max(x[i], -FAR), FAR) * density);                   // (2)
    });
}

// ---- with a bias --------------------------------------------------------------------------------
//
// A flat index would need a division by F, which is no constant, to find its bias. So a block has a
// row. Rows lie along x, where a grid may be long.

// expect: regs<=40 spills=0
extern "C" __global__ void bias_gelu_forward(real *y, const real *z, const real *b, int F) {
    const long long row = (long long)blockIdx.x * F;
    for (int f = threadIdx.x; f < F; f += blockDim.x) y[row + f] = gelu(z[row + f] + b[f]);   // (5)
}

// db, the sum of dz over rows, is a launch of its own (reduce.cu): the block of one row does not
// know the others, and sums by atomics would be added up in another order, and so differ in the
// last digits, at every run.
// expect: regs<=48 spills=0
extern "C" __global__ void bias_gelu_slopes(real *dz, const real *dy, const real *z, const real *b,
                                            int F) {
    const long long row = (long long)blockIdx.x * F;
    for (int f = threadIdx.x; f < F; f += blockDim.x)
        dz[row + f] = dy[row + f] * gelu_slope(z[row + f] + b[f]);                       // (5)
}
