// The norm of all gradients, and SGD: tinygrad_edu/nn/optim.py explains them and numbers the
// equations.
#include "each.cuh"
#include "sums.cuh"

// What slice blockIdx.x, of `size` numbers, has of the sum of squares; a second launch adds up the
// slices, as in reduce.cu: the same sum at every run, which atomics would not give.
// expect: regs<=48 spills=0
extern "C" __global__ void squares_of_slices(real *part, const real *g, long long n,
                                             long long size) {
    const long long first = blockIdx.x * size, end = min(n, first + size);
    const double mine = long_sum(first + threadIdx.x, end, blockDim.x,
                                 [=](long long i) { return g[i] * g[i]; });
    const real total = block_sum((real)mine);
    if (threadIdx.x == 0) part[blockIdx.x] = total;
}

// The sentence that the fast kernel paraphrases: one thread takes one parameter. It waits for three
// loads and then ends; with four parameters a thread four times as many are on their way.
extern "C" __global__ void sgd_update_naive(real *w, real *v, const real *g, double lr,
                                            double momentum, bool nesterov, double decay,
                                            double scale, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const real d = (real)scale * g[i] + (real)decay * w[i];
    v[i] = (real)momentum * v[i] + d;                                                    // (2)
    w[i] -= (real)lr * (nesterov ? d + (real)momentum * v[i] : v[i]);
}

// Step 1: four parameters a thread, see each.cuh. Each array is read and written once: no kernel
// that keeps its state in memory can do with less.
// expect: regs<=48 spills=0
extern "C" __global__ void sgd_update(real *__restrict__ w, real *__restrict__ v,
                                      const real *__restrict__ g, double lr, double momentum,
                                      bool nesterov, double decay, double scale, long long n) {
    const real rate = (real)lr, mu = (real)momentum, pull = (real)decay, factor = (real)scale;
    each(n, [=](long long i) {
        const real d = factor * g[i] + pull * w[i], average = mu * v[i] + d;
        v[i] = average;                                                                  // (2)
        w[i] -= rate * (nesterov ? d + mu * average : average);
    });
}
