// Extremes and log-sum-exp: tinygrad_edu/ops/extremes.py explains them and numbers the equations.
#include "common.cuh"

// The sentence that the fast kernels paraphrase: one thread takes one row. Slow for the reasons
// that stand in softmax.cu: neighbouring threads read numbers that lie N apart.
extern "C" __global__ void max_forward_naive(real *y, long long *position, const real *x, int R,
                                             long long N) {
    const int r = blockIdx.x * blockDim.x + threadIdx.x;
    if (r >= R) return;
    x += r * N;
    long long best = 0;
    for (long long n = 1; n < N; n++)
        if (x[n] > x[best] || (x[n] != x[n] && x[best] == x[best])) best = n;            // (1)
    y[r] = x[best];
    position[r] = best;
}

// Step 1: one block takes one row, its threads neighbouring numbers. What goes through the block is
// a number and its place. Of two that are equal the first one wins, whatever thread it comes from;
// a NaN wins against all, and the first NaN against the others.
struct Place {
    real value;
    long long position;

    // sign: 1 for the largest, -1 for the smallest
    __device__ bool loses(Place other, int sign) const {
        const bool nan = value != value, other_nan = other.value != other.value;
        if (nan != other_nan) return other_nan;
        if (nan || value == other.value) return other.position < position;
        return sign > 0 ? value < other.value : value > other.value;
    }
};

__device__ void extreme(real *y, long long *position, const real *x, long long N, int sign) {
    __shared__ Place parts[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x += blockIdx.x * N;
    Place best = {x[0], 0};
    for (long long n = threadIdx.x; n < N; n += blockDim.x)
        if (best.loses({x[n], n}, sign)) best = {x[n], n};
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const Place other = {__shfl_xor_sync(0xffffffffu, best.value, distance),
                             __shfl_xor_sync(0xffffffffu, best.position, distance)};
        if (best.loses(other, sign)) best = other;
    }
    if (lane == 0) parts[warp] = best;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int i = 1; i < warps; i++)
        if (best.loses(parts[i], sign)) best = parts[i];
    y[blockIdx.x] = best.value;                                                          // (1)
    position[blockIdx.x] = best.position;
}

// expect: regs<=40 spills=0
extern "C" __global__ void max_forward(real *y, long long *position, const real *x, long long N) {
    extreme(y, position, x, N, 1);
}

// expect: regs<=40 spills=0
extern "C" __global__ void min_forward(real *y, long long *position, const real *x, long long N) {
    extreme(y, position, x, N, -1);
}

// Every number is written once, zeros and gradients alike.
// expect: regs<=40 spills=0
extern "C" __global__ void max_backward(real *dx, const real *dy, const long long *position,
                                        long long N) {
    const real g = dy[blockIdx.x];
    const long long at = position[blockIdx.x];
    dx += blockIdx.x * N;
    for (long long n = threadIdx.x; n < N; n += blockDim.x) dx[n] = n == at ? g : 0;     // (1)
}

// ---- log-sum-exp --------------------------------------------------------------------------------

// expect: regs<=40 spills=0
extern "C" __global__ void logsumexp_forward(real *y, const real *x, long long N) {
    x += blockIdx.x * N;
    real top = -infinity(), total = 0;
    for (long long n = threadIdx.x; n < N; n += blockDim.x) top = max(top, x[n]);
    top = block_max(top);
    const real shift = top == infinity() || top == -infinity() ? 0 : top;
    for (long long n = threadIdx.x; n < N; n += blockDim.x) total += exp(x[n] - shift);
    total = block_sum(total);
    if (threadIdx.x == 0) y[blockIdx.x] = log(total) + shift;                            // (3)
}

// expect: regs<=40 spills=0
extern "C" __global__ void logsumexp_backward(real *dx, const real *dy, const real *x,
                                              const real *y, long long N) {
    const real g = dy[blockIdx.x], level = y[blockIdx.x] == -infinity() ? 0 : y[blockIdx.x];
    dx += blockIdx.x * N, x += blockIdx.x * N;
    for (long long n = threadIdx.x; n < N; n += blockDim.x) dx[n] = g * exp(x[n] - level);    // (2)
}
