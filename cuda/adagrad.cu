// AdaGrad: tinygrad_edu/nn/adagrad.py explains it and numbers the equations. A thread takes four
// parameters, as in optim.cu.
#include "each.cuh"

// expect: regs<=56 spills=0
extern "C" __global__ void adagrad_update(real *__restrict__ w, real *__restrict__ s,
                                          const real *__restrict__ g, double lr, double eps,
                                          double decay, double scale, long long n) {
    const real rate = (real)lr, shrink = (real)(lr * decay), factor = (real)scale;
    const real tiny = (real)eps;
    each(n, [=](long long i) {
        const real d = factor * g[i], squares = s[i] + d * d;
        s[i] = squares;                                                                  // (1)
        w[i] -= shrink * w[i] + rate * d / (sqrt(squares) + tiny);
    });
}
