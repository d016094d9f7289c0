// The gradient of indexing: tinygrad_edu/ops/shape.py explains it and numbers the equations.
#include "each.cuh"

// The sentence that the fast kernel paraphrases: dx begins as zeros, and one thread takes one
// column and adds one row of dy after the other. Rows may be repeated, and two threads that add to
// one number without atomics lose one of the two; here each number has one thread.
//
// Why it is slow: only C threads work, each walking through all M rows.
extern "C" __global__ void index_backward_naive(real *dx, const real *dy,
                                                const long long *positions, long long M, int C) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    for (long long m = 0; m < M; m++) dx[positions[m] * C + c] += dy[m * C + c];         // (2)
}

// Step 1: sorted, equal positions are neighbours: a run. positions are the sorted ones here, and
// order says which row of dy each came from. The first thread of a run makes the sum of all of it,
// in rising order, the others have nothing to do. So nobody waits, no number has two writers, and
// the sum is the same at every run of the program. dx begins as zeros.
// expect: regs<=48 spills=0
extern "C" __global__ void index_backward_sorted(real *__restrict__ dx, const real *__restrict__ dy,
                                                 const long long *__restrict__ positions,
                                                 const long long *__restrict__ order, long long M,
                                                 long long C) {
    each(M * C, [=](long long i) {
        const long long m = i / C, c = i - m * C, row = positions[m];
        if (m > 0 && positions[m - 1] == row) return;
        real total = 0;
        for (long long k = m; k < M && positions[k] == row; k++) total += dy[order[k] * C + c];
        dx[row * C + c] = total;                                                         // (2)
    });
}
