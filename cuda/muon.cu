// Muon's averages: tinygrad_edu/nn/muon.py explains them and numbers the equations. The products
// of its rounds are those of matmul.cu. A thread takes four numbers, as in optim.cu.
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

// X of the first round. total is the sum of squares of u, made by optim.cu: it stays on the GPU,
// since reading it on the host would wait for all that is queued.
// expect: regs<=40 spills=0
extern "C" __global__ void divided_by_norm(real *__restrict__ x, const real *__restrict__ u,
                                           const real *total, double tiny, long long n) {
    const real norm = sqrt(*total) + (real)tiny;
    each(n, [=](long long i) { x[i] = u[i] / norm; });                                   // (2)
}

// Q of a round: a on the diagonal, the rest from A and its square. A is `side` by `side`.
// expect: regs<=48 spills=0
extern "C" __global__ void newton_schulz_round(real *__restrict__ q, const real *__restrict__ gram,
                                               const real *__restrict__ square, double a, double b,
                                               double c, long long side) {
    each(side * side, [=](long long i) {
        const real diagonal = i % (side + 1) == 0 ? (real)a : 0;
        q[i] = diagonal + (real)b * gram[i] + (real)c * square[i];                       // (4)
    });
}
