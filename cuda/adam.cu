// Adam and AdamW: tinygrad_edu/nn/adam.py explains them and numbers the equations.
#include "each.cuh"

// What does not depend on the parameter is computed once, in Python and in double: rate and undo
// are (2), which would be two powers a thread; c1 and c2 are 1 - beta, which in float would be
// wrong from its fourth digit on for beta = 0.9999.
struct Adam {
    real b1, c1, b2, c2, rate, undo, eps, penalty, keep, scale;

    __device__ __forceinline__ void operator()(real &w, real &m, real &v, real g) const {
        const real d = scale * g + penalty * w;
        m = b1 * m + c1 * d;                                                             // (1)
        v = b2 * v + c2 * d * d;
        w = keep * w - rate * m / (sqrt(undo * v) + eps);                          // (3), (4)
    }
};

// The sentence that the fast kernel paraphrases: one thread takes one parameter. It waits for four
// loads and then ends; with four parameters a thread four times as many are on their way.
extern "C" __global__ void adam_step_naive(real *w, real *m, real *v, const real *g, real b1,
                                           real c1, real b2, real c2, real rate, real undo,
                                           real eps, real penalty, real keep, real scale,
                                           long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const Adam step = {b1, c1, b2, c2, rate, undo, eps, penalty, keep, scale};
    if (i < n) step(w[i], m[i], v[i], g[i]);
}

// Step 1: four parameters a thread, see each.cuh: 28 bytes a float32 parameter, each of them once.
// expect: regs<=64 spills=0
extern "C" __global__ void adam_step(real *__restrict__ w, real *__restrict__ m,
                                     real *__restrict__ v, const real *__restrict__ g, real b1,
                                     real c1, real b2, real c2, real rate, real undo, real eps,
                                     real penalty, real keep, real scale, long long n) {
    const Adam step = {b1, c1, b2, c2, rate, undo, eps, penalty, keep, scale};
    each(n, [=](long long i) { step(w[i], m[i], v[i], g[i]); });
}
