/* The word `real`, and what else every C file of the house needs.
 *
 * All kernels are written in `real` and compiled twice: with REAL_IS_FLOAT for arrays of float32,
 * without it for float64. Finite differences judge the second build, and with it the text of both.
 */
#ifndef TINYGRAD_EDU_REAL_H
#define TINYGRAD_EDU_REAL_H

#include <math.h>
#include <stdint.h>

/* R(exp) is expf for float and exp for double. A bare exp(x) would compute in double in both
 * builds, and a bare 0.5 would too: constants that are not whole numbers are written (real)0.5. */
#ifdef REAL_IS_FLOAT
typedef float real;
#define R(function) function##f
#else
typedef double real;
#define R(function) function
#endif

#endif
