/* Pointwise functions: tinygrad_edu/ops/pointwise.py explains them, its table has the same rows.
 *
 * A row says what one element becomes and how steeply. The macros make two kernels of it:
 *
 *     y[i]  = value(x[i])                      <name>_forward
 *     dx[i] = dy[i] * slope(x[i], y[i])        <name>_backward
 *
 * Arrays have n elements each, one after the other. An output may be the same array as an input:
 * element i is read before it is written.
 */
#include "kernels.h"

/* ---- of one array ------------------------------------------------------------------------ */

#define UNARY(name, value, slope)                                                                \
    static inline real name##_value(real x) { return value; }                                    \
    static inline real name##_slope(real x, real y) { return slope; }                            \
    void name##_forward(real *y, const real *x, int64_t n) {                                     \
        for (int64_t i = 0; i < n; i++) y[i] = name##_value(x[i]);                               \
    }                                                                                            \
    void name##_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n) {    \
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * name##_slope(x[i], y[i]);                \
    }

/*    name        y                               dy/dx, from x and y                            */
UNARY(neg,        -x,                             -1)
UNARY(square,     x * x,                          2 * x)
UNARY(reciprocal, 1 / x,                          -y * y)
UNARY(sqrt,       R(sqrt)(x),                     (real)0.5 / y)
UNARY(exp,        R(exp)(x),                      y)
UNARY(log,        R(log)(x),                      1 / x)
UNARY(sin,        R(sin)(x),                      R(cos)(x))
UNARY(cos,        R(cos)(x),                      -R(sin)(x))
UNARY(tanh,       R(tanh)(x),                     1 - y * y)
UNARY(sigmoid,    1 / (1 + R(exp)(-x)),           y * (1 - y))
UNARY(relu,       x < 0 ? 0 : x,                  y > 0)
UNARY(abs,        R(fabs)(x),                     (x > 0) - (x < 0))

/* ---- of two arrays of the same shape ----------------------------------------------------- */

#define FORWARD(name, value)                                                                     \
    static inline real name##_value(real a, real b) { return value; }                            \
    void name##_forward(real *y, const real *a, const real *b, int64_t n) {                      \
        for (int64_t i = 0; i < n; i++) y[i] = name##_value(a[i], b[i]);                         \
    }

#define BINARY(name, value, slope_a, slope_b)                                                    \
    FORWARD(name, value)                                                                         \
    static inline real name##_slope_a(real a, real b, real y) { return slope_a; }                \
    static inline real name##_slope_b(real a, real b, real y) { return slope_b; }                \
    void name##_backward(real *da, real *db, const real *dy, const real *a,                      \
                         const real *b, const real *y, int64_t n) {                              \
        for (int64_t i = 0; i < n; i++) {                                                        \
            const real da_i = dy[i] * name##_slope_a(a[i], b[i], y[i]);                          \
            const real db_i = dy[i] * name##_slope_b(a[i], b[i], y[i]);                          \
            da[i] = da_i;                                                                        \
            db[i] = db_i;                                                                        \
        }                                                                                        \
    }

/*     name      y                                   dy/da         dy/db                         */
BINARY(mul,      a * b,                              b,            a)
BINARY(div,      a / b,                              1 / b,        -y / b)
BINARY(maximum,  a >= b || isnan(a) ? a : b,         a >= b,       a < b)
BINARY(minimum,  a <= b || isnan(a) ? a : b,         a <= b,       a > b)

/* The slopes of these are 1 and -1: backward needs no kernel. */
FORWARD(add,     a + b)
FORWARD(sub,     a - b)
