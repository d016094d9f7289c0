/* Every C kernel of the house, one line each: what Python may call.
 *
 * native/build.py reads this file to cffi line by line, and every .c file includes it, so the
 * compiler refuses a definition that differs. Only prototypes stand here; lines that begin with #
 * are for the compiler alone. Outputs come first, are overwritten and never read.
 */
#include "real.h"

/* pointwise.c */
void neg_forward(real *y, const real *x, int64_t n);
void neg_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void square_forward(real *y, const real *x, int64_t n);
void square_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void reciprocal_forward(real *y, const real *x, int64_t n);
void reciprocal_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void sqrt_forward(real *y, const real *x, int64_t n);
void sqrt_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void exp_forward(real *y, const real *x, int64_t n);
void exp_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void log_forward(real *y, const real *x, int64_t n);
void log_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void sin_forward(real *y, const real *x, int64_t n);
void sin_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void cos_forward(real *y, const real *x, int64_t n);
void cos_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void tanh_forward(real *y, const real *x, int64_t n);
void tanh_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void sigmoid_forward(real *y, const real *x, int64_t n);
void sigmoid_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void relu_forward(real *y, const real *x, int64_t n);
void relu_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void abs_forward(real *y, const real *x, int64_t n);
void abs_backward(real *dx, const real *dy, const real *x, const real *y, int64_t n);
void add_forward(real *y, const real *a, const real *b, int64_t n);
void sub_forward(real *y, const real *a, const real *b, int64_t n);
void mul_forward(real *y, const real *a, const real *b, int64_t n);
void mul_backward(real *da, real *db, const real *dy, const real *a, const real *b,
                  const real *y, int64_t n);
void div_forward(real *y, const real *a, const real *b, int64_t n);
void div_backward(real *da, real *db, const real *dy, const real *a, const real *b,
                  const real *y, int64_t n);
void maximum_forward(real *y, const real *a, const real *b, int64_t n);
void maximum_backward(real *da, real *db, const real *dy, const real *a, const real *b,
                      const real *y, int64_t n);
void minimum_forward(real *y, const real *a, const real *b, int64_t n);
void minimum_backward(real *da, real *db, const real *dy, const real *a, const real *b,
                      const real *y, int64_t n);
