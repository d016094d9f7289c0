// Attention weights: tinygrad_edu/ops/attention_weights.py explains them and numbers the equations.
#include "common.cuh"

// The z of (1): -infinity where query t must not see key s, by (5). `row` is h * T + t.
__device__ __forceinline__ real score(const real *s, const long long *seen,
                                      const long long *query_segments,
                                      const long long *key_segments, const real *mask, real scale,
                                      long long row, int t, int j, int S) {
    if (j >= seen[t]) return -infinity();                                                // (5)
    if (query_segments && query_segments[t] != key_segments[j]) return -infinity();
    const real z = s[row * S + j] * scale;
    return mask ? z + mask[row * S + j] : z;
}

// The sentence that the fast kernel paraphrases: one thread takes one row, all keys visible that
// come before seen[t]. Why it is slow: as for softmax, a warp reads 32 numbers that lie S apart.
extern "C" __global__ void attention_weights_forward_naive(real *p, real *lse, const real *s,
                                                           const long long *seen, real scale,
                                                           int H, int T, int S) {
    const long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= (long long)H * T) return;
    const int end = seen[row % T];
    real top = -infinity(), total = 0;
    p += row * S, s += row * S;
    for (int j = 0; j < end; j++) top = max(top, scale * s[j]);
    for (int j = 0; j < end; j++) total += exp(scale * s[j] - top);
    for (int j = 0; j < S; j++) p[j] = j < end ? exp(scale * s[j] - top) / total : 0;    // (1)
    lse[row] = end ? top + log(total) : -infinity();                                     // (2)
}

// One block takes one row, neighbouring threads neighbouring keys. What is hidden is not even read.
// expect: regs<=48 spills=0
extern "C" __global__ void attention_weights_forward(
    real *p, real *lse, const real *s, const long long *seen, const long long *query_segments,
    const long long *key_segments, const real *mask, real scale, int T, int S) {
    const long long row = blockIdx.x;
    const int t = row % T;
    real top = -infinity(), total = 0;
    for (int j = threadIdx.x; j < S; j += blockDim.x) {
        const real z = score(s, seen, query_segments, key_segments, mask, scale, row, t, j, S);
        p[row * S + j] = z;
        top = max(top, z);
    }
    top = block_max(top);
    const real shift = top == -infinity() ? 0 : top;
    for (int j = threadIdx.x; j < S; j += blockDim.x) {
        p[row * S + j] = exp(p[row * S + j] - shift);
        total += p[row * S + j];
    }
    total = block_sum(total);
    const real share = total == 0 ? 1 : 1 / total;
    for (int j = threadIdx.x; j < S; j += blockDim.x) p[row * S + j] *= share;           // (1)
    if (threadIdx.x == 0) lse[row] = total == 0 ? -infinity() : top + log(total);        // (2)
}

// expect: regs<=48 spills=0
extern "C" __global__ void attention_weights_backward(
    real *p, real *ds, const real *s, const real *dp, const real *lse, const long long *seen,
    const long long *query_segments, const long long *key_segments, const real *mask, real scale,
    int T, int S) {
    const long long row = blockIdx.x;
    const int t = row % T;
    const real shift = lse[row] == -infinity() ? 0 : lse[row];
    real mean = 0;
    for (int j = threadIdx.x; j < S; j += blockDim.x) {
        const real z = score(s, seen, query_segments, key_segments, mask, scale, row, t, j, S);
        p[row * S + j] = exp(z - shift);                                                 // (2)
        mean += p[row * S + j] * dp[row * S + j];
    }
    mean = block_sum(mean);
    for (int j = threadIdx.x; j < S; j += blockDim.x)
        ds[row * S + j] = scale * p[row * S + j] * (dp[row * S + j] - mean);             // (3)
}
