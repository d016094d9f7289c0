// Cross entropy: tinygrad_edu/ops/cross_entropy.py explains it and numbers the equations.
#include "common.cuh"

// The sentence that the fast kernel paraphrases: one thread takes one row.
//
// Why it is slow: the threads of a warp read numbers that lie V apart, one of the eight floats that
// each fetch brings; a row of 50 000 logits is walked three times by a single thread.
extern "C" __global__ void cross_entropy_forward_naive(real *loss, real *lse, const real *z,
                                                       const long long *targets, long long ignore,
                                                       double smoothing, int N, int V) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    z += (long long)n * V;
    real top = -infinity(), total = 0;
    for (int v = 0; v < V; v++) top = max(top, z[v]);
    if (top == -infinity()) top = 0;
    for (int v = 0; v < V; v++) total += exp(z[v] - top);
    double mean = 0;
    for (int v = 0; v < V; v++) mean += z[v] - top;
    const double log_sum = log((double)total);
    lse[n] = (real)(log_sum + top);
    if (targets[n] == ignore) { loss[n] = 0; return; }
    const double at = (double)z[targets[n]] - top;
    loss[n] = (real)(log_sum - (1 - smoothing) * at - smoothing * (mean / V));           // (1)
}

// Step 1: one block takes one row, its threads neighbouring logits.
//
// Step 2: maximum and sum in one pass, so that a row longer than the caches comes from memory once:
// a thread keeps the largest logit so far and the sum of exponentials relative to it. Where a
// larger one comes, the sum is scaled down, by the exponential that this step needs anyway.
struct SoftMax {
    real top, total;

    __device__ void take(real z) {
        if (z > top) {
            total = total * exp(top - z) + 1;
            top = z;
        } else if (z != -infinity()) {                   // else 0 is added
            total += exp(z - top);
        }
    }
    __device__ void join(SoftMax other) {
        const real larger = other.top > top ? other.top : top;
        if (larger == -infinity()) total += other.total;
        else total = total * exp(top - larger) + other.total * exp(other.top - larger);
        top = larger;
    }
};

// m (0 for a row of nothing but -infinity) and the sum of e^(z - m), for all threads of a block.
__device__ SoftMax soft_max_of_row(const real *z, int V) {
    __shared__ SoftMax parts[32];
    SoftMax mine = {-infinity(), 0};
    for (int v = threadIdx.x; v < V; v += blockDim.x) mine.take(z[v]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        mine.join({__shfl_xor_sync(0xffffffffu, mine.top, distance),
                   __shfl_xor_sync(0xffffffffu, mine.total, distance)});
    if (lane == 0) parts[warp] = mine;
    __syncthreads();
    SoftMax all = {-infinity(), 0};
    for (int i = 0; i < warps; i++) all.join(parts[i]);  // every thread, in the same order
    if (all.top == -infinity()) all.top = 0;
    return all;
}

// The sum of q·(z - m), in double, for all threads: with ln of the sum it makes (1), m drops out.
__device__ double row_target(const real *z, long long t, real top, double smoothing, int V) {
    double at = (double)z[t] - top;
    if (smoothing > 0) {
        real part = 0;
        for (int v = threadIdx.x; v < V; v += blockDim.x) part += z[v] - top;
        at += smoothing * (block_sum(part) / (double)V - at);
    }
    return at;
}

// expect: regs<=48 spills=0
extern "C" __global__ void cross_entropy_forward(real *loss, real *lse, const real *z,
                                                 const long long *targets, long long ignore,
                                                 double smoothing, int V) {
    const int n = blockIdx.x;
    const long long t = targets[n];
    z += (long long)n * V;
    const SoftMax row = soft_max_of_row(z, V);
    const double log_sum = log((double)row.total);
    const double at = t == ignore ? log_sum : row_target(z, t, row.top, smoothing, V);
    if (threadIdx.x > 0) return;
    lse[n] = (real)(log_sum + row.top);
    loss[n] = t == ignore ? 0 : (real)(log_sum - at);                                    // (1)
}

// expect: regs<=40 spills=0
extern "C" __global__ void cross_entropy_backward(real *dz, const real *dy, const real *z,
                                                  const real *lse, const long long *targets,
                                                  long long ignore, double smoothing, int V) {
    const int n = blockIdx.x;
    const long long t = targets[n];
    const real scale = t == ignore ? 0 : dy[n], level = lse[n], share = (real)(smoothing / V);
    const real hit = (real)(1 - smoothing);
    dz += (long long)n * V, z += (long long)n * V;
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        const real p = exp(z[v] - level) - share;
        dz[v] = t == ignore ? 0 : scale * (v == t ? p - hit : p);                        // (2)
    }
}

// Both at once: when the second pass reads the row, a part of it is still in the caches, and the
// gradients take the place of the logits. No thread may overwrite the target's logit before all
// threads have read it: hence the barrier.
// expect: regs<=48 spills=0
extern "C" __global__ void cross_entropy_both(real *loss, real *z, const long long *targets,
                                              double scale, long long ignore, double smoothing,
                                              int V) {
    const int n = blockIdx.x;
    const long long t = targets[n];
    z += (long long)n * V;
    if (t == ignore) {
        for (int v = threadIdx.x; v < V; v += blockDim.x) z[v] = 0;
        if (threadIdx.x == 0) loss[n] = 0;
        return;
    }
    const SoftMax row = soft_max_of_row(z, V);
    const double at = row_target(z, t, row.top, smoothing, V);
    __syncthreads();
    const real factor = (real)scale / row.total, share = (real)(scale * smoothing / V);
    const real hit = (real)(scale * (1 - smoothing));
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        const real dz = exp(z[v] - row.top) * factor - share;
        z[v] = v == t ? dz - hit : dz;                                                   // (2)
    }
    if (threadIdx.x == 0) loss[n] = (real)(log((double)row.total) - at);                 // (1)
}
