// Lion: tinygrad_edu/nn/lion.py explains it and numbers the equations. A thread takes four
// parameters, as in optim.cu.
#include "each.cuh"

// expect: regs<=48 spills=0
extern "C" __global__ void lion_update(real *__restrict__ w, real *__restrict__ m,
                                       const real *__restrict__ g, double lr, double beta1,
                                       double beta2, double decay, double scale, long long n) {
    const real rate = (real)lr, shrink = (real)(lr * decay), factor = (real)scale;
    const real b1 = (real)beta1, c1 = (real)(1 - beta1), b2 = (real)beta2, c2 = (real)(1 - beta2);
    each(n, [=](long long i) {
        const real d = factor * g[i], u = b1 * m[i] + c1 * d;
        const real sign = u > 0 ? 1 : u < 0 ? -1 : u;                                    // (1)
        w[i] -= shrink * w[i] + rate * sign;                                             // (2)
        m[i] = b2 * m[i] + c2 * d;                                                       // (3)
    });
}
