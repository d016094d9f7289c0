// SiLU and SwiGLU: tinygrad_edu/ops/swiglu.py explains them and numbers the equations.
#include "each.cuh"

// Below LOW, e^-x overflows in float: there x·σ(x) is 0 to any digit that matters, and its slope,
// too. The exact product would be -infinity times 0.
constexpr real LOW = -88;

__device__ __forceinline__ real logistic(real v) { return 1 / (1 + exp(-v)); }

// x·σ(x), and its slope. (max would put LOW in the place of a NaN.)
struct Silu {
    real value, slope;
    __device__ explicit Silu(real x) {
        const real near = x < LOW ? LOW : x, s = logistic(near);
        value = near * s;
        slope = s * (1 + near * (1 - s));                                                // (1)
    }
};

// The sentence that the fast kernel paraphrases: one thread takes one element. It has one load (of
// each array) on its way, too few to keep the memory busy.
extern "C" __global__ void silu_forward_naive(real *y, const real *x, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = Silu(x[i]).value;
}

// Step 1: four elements a thread, see each.cuh.

// expect: regs<=40 spills=0
extern "C" __global__ void silu_forward(real *__restrict__ y, const real *__restrict__ x,
                                        long long n) {
    each(n, [=](long long i) { y[i] = Silu(x[i]).value; });
}

// expect: regs<=40 spills=0
extern "C" __global__ void silu_backward(real *__restrict__ dx, const real *__restrict__ dy,
                                         const real *__restrict__ x, long long n) {
    each(n, [=](long long i) { dx[i] = dy[i] * Silu(x[i]).slope; });
}

// expect: regs<=40 spills=0
extern "C" __global__ void swiglu_forward(real *__restrict__ y, const real *__restrict__ gate,
                                          const real *__restrict__ up, long long n) {
    each(n, [=](long long i) { y[i] = Silu(gate[i]).value * up[i]; });                   // (2)
}

// Both gradients need the same σ: one pass makes both.
// expect: regs<=48 spills=0
extern "C" __global__ void swiglu_backward(real *__restrict__ dgate, real *__restrict__ dup,
                                           const real *__restrict__ dy,
                                           const real *__restrict__ gate,
                                           const real *__restrict__ up, long long n) {
    each(n, [=](long long i) {
        const Silu at(gate[i]);
        dgate[i] = dy[i] * up[i] * at.slope;                                             // (2)
        dup[i] = dy[i] * at.value;
    });
}
