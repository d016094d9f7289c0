/* Sums over a row, fast in float and in double: norm.c, rmsnorm.c, softmax.c and reduce.c use them.
 *
 * An addition takes three or four cycles, and `total += x[i]` waits for the one before. Four chains
 * of additions side by side, each of them LANES numbers wide, keep the adders busy. The order is
 * written down here, so it is the same on every CPU, and the compiler need not be allowed to
 * reorder anything. GCC and Clang cut a vector of 64 bytes into as many registers as they need;
 * elsewhere a vector is one number, and the same text still is four chains.
 */
#ifndef TINYGRAD_EDU_SUMS_H
#define TINYGRAD_EDU_SUMS_H

#include <string.h>

#include "real.h"

#if defined(__GNUC__)
#define LANES (64 / sizeof(real))
typedef real vector __attribute__((vector_size(64)));
typedef real vector_anywhere __attribute__((vector_size(64), aligned(sizeof(real)), may_alias));
#else
#define LANES 1
typedef real vector;
typedef real vector_anywhere;
#endif

/* The sum of the numbers in a vector: half of it is added to the other half, until few are left. */
INLINE real sum_of_lanes(const vector *v) {
#if defined(__GNUC__)
    typedef real half __attribute__((vector_size(32)));
    typedef real quarter __attribute__((vector_size(16)));
    half low, high;
    memcpy(&low, v, 32);
    memcpy(&high, (const char *)v + 32, 32);
    low += high;
    quarter first, second;
    memcpy(&first, &low, 16);
    memcpy(&second, (const char *)&low + 16, 16);
    first += second;
#ifdef REAL_IS_FLOAT
    return (first[0] + first[2]) + (first[1] + first[3]);
#else
    return first[0] + first[1];
#endif
#else
    return *v;
#endif
}

/* ROW_SUM(name, term, parameters) makes the function name(parameters, n): the sum of `term` over
 * i = 0 ... n - 1. In a term, AT(x) is x[i]: a whole vector from there on, or, for the n % LANES
 * numbers that are left, one number. */
#define AT(x) (*(const T *)((x) + i))

#define ROW_SUM(name, term, ...)                                                                 \
    INLINE real name(__VA_ARGS__, int64_t n) {                                                   \
        const int64_t step = LANES;                                                              \
        vector a = {0}, b = {0}, c = {0}, d = {0};                                               \
        int64_t i = 0;                                                                           \
        for (int64_t end = n - n % (4 * step); i < end; i += step) {                             \
            typedef vector_anywhere T;                                                           \
            a += term;                                                                           \
            i += step;                                                                           \
            b += term;                                                                           \
            i += step;                                                                           \
            c += term;                                                                           \
            i += step;                                                                           \
            d += term;                                                                           \
        }                                                                                        \
        for (int64_t end = n - n % step; i < end; i += step) {                                   \
            typedef vector_anywhere T;                                                           \
            a += term;                                                                           \
        }                                                                                        \
        a = (a + b) + (c + d);                                                                   \
        real total = sum_of_lanes(&a);                                                           \
        for (; i < n; i++) {                                                                     \
            typedef real T;                                                                      \
            total += term;                                                                       \
        }                                                                                        \
        return total;                                                                            \
    }

ROW_SUM(row_sum, AT(x), const real *x)
ROW_SUM(row_squares, (AT(x) - mu) * (AT(x) - mu), const real *x, real mu)
ROW_SUM(row_dot, AT(x) * AT(y), const real *x, const real *y)
ROW_SUM(row_pull, AT(w) * AT(dy) * (AT(x) - mu),
        const real *w, const real *dy, const real *x, real mu)

#endif
