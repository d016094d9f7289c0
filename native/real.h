/* The word `real`, and what else every C file of the house needs.
 *
 * All kernels are written in `real` and compiled twice: with REAL_IS_FLOAT for arrays of float32,
 * without it for float64. Finite differences judge the second build, and with it the text of both.
 */
#ifndef TINYGRAD_EDU_REAL_H
#define TINYGRAD_EDU_REAL_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* R(exp) is expf for float and exp for double. A bare exp(x) would compute in double in both
 * builds, and so would a bare 0.5: a constant that is no whole number is written (real)0.5. */
#ifdef REAL_IS_FLOAT
typedef float real;
#define R(function) function##f
#else
typedef double real;
#define R(function) function
#endif

/* The GNU C library has exp and its kin for a whole vector of numbers at once (libmvec, which -lm
 * brings along), within 4 units of the last place. It tells compilers only under -ffast-math or
 * -fopenmp; these lines tell GCC without either. Elsewhere a loop calls exp number by number. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define ALSO_FOR_VECTORS __attribute__((simd("notinbranch")))
real R(exp)(real) ALSO_FOR_VECTORS;
real R(log)(real) ALSO_FOR_VECTORS;
real R(sin)(real) ALSO_FOR_VECTORS;
real R(cos)(real) ALSO_FOR_VECTORS;
real R(pow)(real, real) ALSO_FOR_VECTORS;
#if __GLIBC_PREREQ(2, 35)
real R(erf)(real) ALSO_FOR_VECTORS;
real R(tanh)(real) ALSO_FOR_VECTORS;
#endif
#endif

/* INLINE stands in front of what kernels share: its text becomes part of each loop that uses it,
 * since a call would leave the vectors. What Python calls is in kernels.h, all else is static. */
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* Sums. Floating-point addition is not associative, so a compiler must keep the order of
 *
 *     for (int64_t i = 0; i < n; i++) total += x[i];
 *
 * in which each addition waits for the one before. The line `#pragma omp simd reduction(+ : total)`
 * above such a loop allows partial sums side by side, in one vector, for that loop alone; the flag
 * -fopenmp-simd reads such lines and brings no threads along. Compilers that ignore the line
 * compute the same, slower. Over a loop without a sum, `#pragma omp simd` says that no array that
 * is written overlaps another one, as is true of every kernel (lesson kernel). */

#endif
