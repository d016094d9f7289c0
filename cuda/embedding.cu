// Embedding: tinygrad_edu/ops/embedding.py explains it and numbers the equations.
#include "common.cuh"

// The sentence that the fast kernel paraphrases: one thread copies one row.
//
// Why it is slow: the threads of a warp write numbers that lie C apart, and read from rows that lie
// anywhere: each fetch of 32 bytes brings one number that is used.
extern "C" __global__ void embedding_forward_naive(real *y, const long long *ids, const real *w,
                                                   int N, int C) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    for (int c = 0; c < C; c++) y[(long long)n * C + c] = w[ids[n] * C + c];             // (1)
}

// Step 1: one warp copies one row: blocks are (32, 8), eight rows. Its 32 threads read and write
// neighbours, and all know where the row is from one load of its id, which reaches all at once.

__device__ __forceinline__ long long row_of_warp() {
    return (long long)blockIdx.x * blockDim.y + threadIdx.y;
}

// expect: regs<=32 spills=0
extern "C" __global__ void embedding_forward(real *__restrict__ y, const long long *ids,
                                             const real *__restrict__ w, long long N, int C) {
    const long long n = row_of_warp();
    if (n >= N) return;
    y += n * C, w += ids[n] * C;
    for (int c = threadIdx.x; c < C; c += 32) y[c] = w[c];                               // (1)
}

// expect: regs<=32 spills=0
extern "C" __global__ void embedding_add_forward(real *__restrict__ y, const long long *ids,
                                                 const real *__restrict__ w,
                                                 const real *__restrict__ p, long long N, int T,
                                                 int C) {
    const long long n = row_of_warp();
    if (n >= N) return;
    y += n * C, w += ids[n] * C, p += n % T * C;
    for (int c = threadIdx.x; c < C; c += 32) y[c] = w[c] + p[c];                        // (2)
}

// ---- backward -----------------------------------------------------------------------------------
//
// Again a warp a row, of dw this time: it goes through the places of its id in rising order, so the
// sum is the same at every run. With a thread a place and atomics it would not be; and a frequent
// token, to whose row thousands add, would make them wait for each other.

// expect: regs<=40 spills=0
extern "C" __global__ void embedding_backward(real *__restrict__ dw, const real *__restrict__ dy,
                                              const long long *__restrict__ order,
                                              const long long *first, const long long *last,
                                              long long V, int C) {
    const long long v = row_of_warp();
    if (v >= V) return;
    const long long low = first[v], high = last[v];
    for (int c = threadIdx.x; c < C; c += 32) {
        real total = 0;
#pragma unroll 4
        for (long long i = low; i < high; i++) total += dy[order[i] * C + c];            // (3)
        dw[v * C + c] = total;
    }
}
