// The squared error: tinygrad_edu/ops/squared_error.py explains it and numbers the equations.
#include "each.cuh"
#include "sums.cuh"

// What slice blockIdx.x, of `size` numbers, has of the sum; a second launch adds up the slices, as
// in reduce.cu.
// expect: regs<=48 spills=0
extern "C" __global__ void errors_of_slices(real *part, const real *y, const real *t, long long n,
                                            long long size) {
    const long long first = blockIdx.x * size, end = min(n, first + size);
    const double mine = long_sum(first + threadIdx.x, end, blockDim.x,
                                 [=](long long i) { return (y[i] - t[i]) * (y[i] - t[i]); });
    const real total = block_sum((real)mine);
    if (threadIdx.x == 0) part[blockIdx.x] = total;                                      // (1)
}

// expect: regs<=40 spills=0
extern "C" __global__ void squared_error_backward(real *__restrict__ dy,
                                                  const real *__restrict__ y,
                                                  const real *__restrict__ t, real scale,
                                                  long long n) {
    each(n, [=](long long i) { dy[i] = scale * (y[i] - t[i]); });                        // (2)
}
