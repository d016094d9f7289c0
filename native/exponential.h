/* exponential(x), e to the power of x, as plain arithmetic: what softmax, GELU and their kin call.
 *
 *     exp(x) = 2^n * exp(r)      n = x / ln 2 to the nearest whole number     r = x - n * ln 2  (1)
 *     exp(r) = 1 + r + r*r*P(r)  a polynomial, with more terms where the type has more digits   (2)
 *     2^n                        n added to the exponent bits of exp(r)                         (3)
 *
 * These are (1) to (3) of tinygrad_edu/loops.py. A loop around it becomes a vector loop with any
 * compiler and any C library, and can be merged with what stands around it. NaN stays NaN; where
 * 2^n is no normal number the result is 0 or infinity.
 */
#ifndef TINYGRAD_EDU_EXPONENTIAL_H
#define TINYGRAD_EDU_EXPONENTIAL_H

#include "real.h"

/* Adding 1.5 * 2^23 (for double 2^52) to a number leaves no bits for a fraction: the addition
 * itself rounds, and the whole number then stands in the lowest bits. The first part of ln 2 is so
 * short that n times it is exact. */
#ifdef REAL_IS_FLOAT
typedef uint32_t word;
#define MANTISSA_BITS 23
#define EXP_LOWEST -87.3f
#define EXP_HIGHEST 88.72f
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#else
typedef uint64_t word;
#define MANTISSA_BITS 52
#define EXP_LOWEST -708.3
#define EXP_HIGHEST 709.78
#define LN2_HIGH 0.693145751953125
#define LN2_LOW 1.42860682030941723212e-6
#endif

/* e to the power of x, for x from EXP_LOWEST to EXP_HIGHEST: elsewhere the result is garbage. */
INLINE real exponential_within(real x) {
    const real round = (real)1.5 * ((word)1 << MANTISSA_BITS);
    union { real number; word bits; } n, p;
    n.number = x * (real)1.4426950408889634 + round;
    const real whole = n.number - round;
    const real r = x - whole * LN2_HIGH - whole * LN2_LOW;                              /* (1) */
    real q;
#ifdef REAL_IS_FLOAT
    q = (real)1 / 5040;
#else
    q = (real)1 / 6227020800;
    q = q * r + (real)1 / 479001600;
    q = q * r + (real)1 / 39916800;
    q = q * r + (real)1 / 3628800;
    q = q * r + (real)1 / 362880;
    q = q * r + (real)1 / 40320;
    q = q * r + (real)1 / 5040;
#endif
    q = q * r + (real)1 / 720;
    q = q * r + (real)1 / 120;
    q = q * r + (real)1 / 24;
    q = q * r + (real)1 / 6;
    q = q * r + (real)1 / 2;
    p.number = q * r * r + r + 1;                                                       /* (2) */
    p.bits += n.bits << MANTISSA_BITS;                                                  /* (3) */
    return p.number;
}

/* The same for every x: 0 below that range, infinity above it. */
INLINE real exponential(real x) {
    const real p = exponential_within(x), y = x < EXP_LOWEST ? 0 : p;
    return x > EXP_HIGHEST ? (real)INFINITY : y;
}

/* 1 / (1 + e^-x): (4) of tinygrad_edu/loops.py. */
INLINE real logistic(real x) {
    return 1 / (1 + exponential(-x));
}

#endif
