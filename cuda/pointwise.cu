// The table of pointwise functions: tinygrad_edu/ops/pointwise.py explains it and numbers the
// equations. Its lines stand here once more, each as two kernels of one line.
#include "each.cuh"

// The sentence that the fast kernels paraphrase: one thread takes one element.
//
// Why it is not the best: neighbouring threads read neighbouring numbers, so nothing that arrives
// is wasted. But a thread waits for its only number, computes for a moment, and is gone: a GPU then
// has too few loads on their way to keep its memory busy.
extern "C" __global__ void exp_forward_naive(real *y, const real *x, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = exp(x[i]);
}

// Step 1: four elements a thread, see each.cuh.
//
// In a line of the table x and y are numbers; the arrays of the same names lie outside of it. What
// a slope does not look at is not loaded: a load whose value nobody uses is left out.
#define UNARY(value) each(n, [=](long long i) {                                                    \
        y[i] = [](real x) -> real { return value; }(__ldg(x + i)); })
#define SLOPE(slope) each(n, [=](long long i) {                                          /* (1) */ \
        dx[i] = __ldg(dy + i) *                                                                    \
                [](real x, real y) -> real { return slope; }(__ldg(x + i), __ldg(y + i)); })
#define BINARY(value) each(n, [=](long long i) {                                                   \
        y[i] = [](real a, real b) -> real { return value; }(__ldg(a + i), __ldg(b + i)); })
#define SLOPES(to_a, to_b) each(n, [=](long long i) {                                    /* (2) */ \
        const real g = __ldg(dy + i);                                                              \
        const real at_a = __ldg(a + i), at_b = __ldg(b + i), at_y = __ldg(y + i);                  \
        da[i] = g * [](real a, real b, real y) -> real { return to_a; }(at_a, at_b, at_y);         \
        db[i] = g * [](real a, real b, real y) -> real { return to_b; }(at_a, at_b, at_y); })

// ---- one argument -------------------------------------------------------------------------------

// expect: regs<=40 spills=0
extern "C" __global__ void neg_forward(real *y, const real *x, long long n) { UNARY(-x); }
// expect: regs<=40 spills=0
extern "C" __global__ void neg_backward(real *dx, const real *dy, const real *x, const real *y,
                                        long long n) { SLOPE(-1); }

// expect: regs<=40 spills=0
extern "C" __global__ void square_forward(real *y, const real *x, long long n) { UNARY(x * x); }
// expect: regs<=40 spills=0
extern "C" __global__ void square_backward(real *dx, const real *dy, const real *x, const real *y,
                                           long long n) { SLOPE(x + x); }

// expect: regs<=40 spills=0
extern "C" __global__ void reciprocal_forward(real *y, const real *x, long long n) { UNARY(1 / x); }
// expect: regs<=40 spills=0
extern "C" __global__ void reciprocal_backward(real *dx, const real *dy, const real *x,
                                               const real *y, long long n) { SLOPE(-y * y); }

// expect: regs<=40 spills=0
extern "C" __global__ void sqrt_forward(real *y, const real *x, long long n) { UNARY(sqrt(x)); }
// expect: regs<=40 spills=0
extern "C" __global__ void sqrt_backward(real *dx, const real *dy, const real *x, const real *y,
                                         long long n) { SLOPE(1 / (y + y)); }

// expect: regs<=48 spills=0
extern "C" __global__ void exp_forward(real *y, const real *x, long long n) { UNARY(exp(x)); }
// expect: regs<=40 spills=0
extern "C" __global__ void exp_backward(real *dx, const real *dy, const real *x, const real *y,
                                        long long n) { SLOPE(y); }

// expect: regs<=40 spills=0
extern "C" __global__ void log_forward(real *y, const real *x, long long n) { UNARY(log(x)); }
// expect: regs<=40 spills=0
extern "C" __global__ void log_backward(real *dx, const real *dy, const real *x, const real *y,
                                        long long n) { SLOPE(1 / x); }

// expect: regs<=40 spills=0
extern "C" __global__ void sin_forward(real *y, const real *x, long long n) { UNARY(sin(x)); }
// expect: regs<=40 spills=0
extern "C" __global__ void sin_backward(real *dx, const real *dy, const real *x, const real *y,
                                        long long n) { SLOPE(cos(x)); }

// expect: regs<=40 spills=0
extern "C" __global__ void cos_forward(real *y, const real *x, long long n) { UNARY(cos(x)); }
// expect: regs<=40 spills=0
extern "C" __global__ void cos_backward(real *dx, const real *dy, const real *x, const real *y,
                                        long long n) { SLOPE(-sin(x)); }

// expect: regs<=40 spills=0
extern "C" __global__ void tanh_forward(real *y, const real *x, long long n) { UNARY(tanh(x)); }
// expect: regs<=40 spills=0
extern "C" __global__ void tanh_backward(real *dx, const real *dy, const real *x, const real *y,
                                         long long n) { SLOPE(1 - y * y); }

// Where e^-x is infinite the value is 0, as it should be.
// expect: regs<=40 spills=0
extern "C" __global__ void sigmoid_forward(real *y, const real *x, long long n) {
    UNARY(1 / (1 + exp(-x)));
}
// expect: regs<=40 spills=0
extern "C" __global__ void sigmoid_backward(real *dx, const real *dy, const real *x, const real *y,
                                            long long n) { SLOPE(y * (1 - y)); }

// max(x, 0) of CUDA would take the 0 where x is NaN; a comparison with NaN is false.
// expect: regs<=40 spills=0
extern "C" __global__ void relu_forward(real *y, const real *x, long long n) {
    UNARY(x < 0 ? 0 : x);
}
// expect: regs<=40 spills=0
extern "C" __global__ void relu_backward(real *dx, const real *dy, const real *x, const real *y,
                                         long long n) { SLOPE(y > 0 ? 1 : 0); }

// expect: regs<=40 spills=0
extern "C" __global__ void abs_forward(real *y, const real *x, long long n) { UNARY(fabs(x)); }
// expect: regs<=40 spills=0
extern "C" __global__ void abs_backward(real *dx, const real *dy, const real *x, const real *y,
                                        long long n) { SLOPE(x > 0 ? 1 : x < 0 ? -1 : x); }

// ---- two arguments ------------------------------------------------------------------------------
//
// Where one of the two is NaN, maximum and minimum are NaN, too.

// expect: regs<=40 spills=0
extern "C" __global__ void add_forward(real *y, const real *a, const real *b, long long n) {
    BINARY(a + b);
}

// expect: regs<=40 spills=0
extern "C" __global__ void sub_forward(real *y, const real *a, const real *b, long long n) {
    BINARY(a - b);
}

// expect: regs<=40 spills=0
extern "C" __global__ void mul_forward(real *y, const real *a, const real *b, long long n) {
    BINARY(a * b);
}
// expect: regs<=40 spills=0
extern "C" __global__ void mul_backward(real *da, real *db, const real *dy, const real *a,
                                        const real *b, const real *y, long long n) {
    SLOPES(b, a);
}

// expect: regs<=40 spills=0
extern "C" __global__ void div_forward(real *y, const real *a, const real *b, long long n) {
    BINARY(a / b);
}
// expect: regs<=48 spills=0
extern "C" __global__ void div_backward(real *da, real *db, const real *dy, const real *a,
                                        const real *b, const real *y, long long n) {
    SLOPES(1 / b, -y / b);
}

// expect: regs<=40 spills=0
extern "C" __global__ void maximum_forward(real *y, const real *a, const real *b, long long n) {
    BINARY(a >= b || a != a ? a : b);
}
// expect: regs<=40 spills=0
extern "C" __global__ void maximum_backward(real *da, real *db, const real *dy, const real *a,
                                            const real *b, const real *y, long long n) {
    SLOPES(a >= b ? 1 : 0, a < b ? 1 : 0);
}

// expect: regs<=40 spills=0
extern "C" __global__ void minimum_forward(real *y, const real *a, const real *b, long long n) {
    BINARY(a <= b || a != a ? a : b);
}
// expect: regs<=40 spills=0
extern "C" __global__ void minimum_backward(real *da, real *db, const real *dy, const real *a,
                                            const real *b, const real *y, long long n) {
    SLOPES(a <= b ? 1 : 0, a > b ? 1 : 0);
}
