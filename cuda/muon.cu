// Muon's averages: tinygrad_edu/nn/muon.py explains them and numbers the equations. Its rounds are
// matrix products. A thread takes four parameters, as in optim.cu.
#include "each.cuh"

// expect: regs<=40 spills=0
extern "C" __global__ void nesterov_average(real *__restrict__ u, real *__restrict__ m,
                                            const real *__restrict__ g, double momentum,
                                            double scale, long long n) {
    const real mu = (real)momentum, factor = (real)scale;
    each(n, [=](long long i) {
        const real d = factor * g[i], average = mu * m[i] + d;
        m[i] = average;                                                                  // (1)
        u[i] = d + mu * average;
    });
}
