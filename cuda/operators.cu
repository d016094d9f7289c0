// Operators with numbers and masks: tinygrad_edu/ops/operators.py explains them and numbers the
// equations. All of them go through memory once, an element at a time: each.cuh.
#include "each.cuh"

// expect: regs<=40 spills=0
extern "C" __global__ void affine_forward(real *__restrict__ y, const real *__restrict__ x,
                                          real scale, real shift, long long n) {
    each(n, [=](long long i) { y[i] = x[i] * scale + shift; });                          // (1)
}

// Both sides are read, also the one that is not taken: the 32 threads of a warp load together, and
// a piece of memory that one of them needs arrives for all.
// expect: regs<=40 spills=0
extern "C" __global__ void where_forward(real *__restrict__ y, const bool *__restrict__ condition,
                                         const real *__restrict__ a, const real *__restrict__ b,
                                         long long n) {
    each(n, [=](long long i) {
        const real yes = a[i], no = b[i];
        y[i] = condition[i] ? yes : no;                                                  // (2)
    });
}

// expect: regs<=40 spills=0
extern "C" __global__ void where_backward(real *__restrict__ da, real *__restrict__ db,
                                          const real *__restrict__ dy,
                                          const bool *__restrict__ condition, long long n) {
    each(n, [=](long long i) {
        const real g = dy[i];
        da[i] = condition[i] ? g : 0;                                                    // (2)
        db[i] = condition[i] ? 0 : g;
    });
}

// Not min and max: those of CUDA would put a bound in the place of a NaN.
// expect: regs<=40 spills=0
extern "C" __global__ void clip_forward(real *__restrict__ y, const real *__restrict__ x, real low,
                                        real high, long long n) {
    each(n, [=](long long i) {
        const real above = x[i] < low ? low : x[i];
        y[i] = above > high ? high : above;                                              // (3)
    });
}

// expect: regs<=40 spills=0
extern "C" __global__ void clip_backward(real *__restrict__ dx, const real *__restrict__ dy,
                                         const real *__restrict__ x, real low, real high,
                                         long long n) {
    each(n, [=](long long i) { dx[i] = x[i] >= low && x[i] <= high ? dy[i] : 0; });      // (3)
}

// expect: regs<=64 spills=0
extern "C" __global__ void power_forward(real *__restrict__ y, const real *__restrict__ x,
                                         real exponent, long long n) {
    each(n, [=](long long i) { y[i] = pow(x[i], exponent); });                           // (4)
}

// expect: regs<=64 spills=0
extern "C" __global__ void power_backward(real *__restrict__ dx, const real *__restrict__ dy,
                                          const real *__restrict__ x, real exponent, long long n) {
    each(n, [=](long long i) {
        dx[i] = exponent == 0 ? 0 : dy[i] * (exponent * pow(x[i], exponent - 1));        // (4)
    });
}
