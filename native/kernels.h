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

/* at[b * batch + h * head + t * position + d] is number d of position t of head h of row b. */
typedef struct { real *at; int64_t batch, head, position; } heads;

/* attention.c; of all heads (backward: groups of heads) of all rows, those from low to high */
void attention_forward(heads y, real *lse, heads q, heads k, heads v, const int64_t *seen,
                       const int64_t *query_segments, const int64_t *key_segments, heads mask,
                       real scale, int64_t H, int64_t G, int64_t T, int64_t S, int64_t D,
                       int64_t low, int64_t high);
void attention_backward(heads dq, heads dk, heads dv, heads dy, heads y, heads q, heads k,
                        heads v, const real *lse, const int64_t *seen,
                        const int64_t *query_segments, const int64_t *key_segments, heads mask,
                        real scale, int64_t H, int64_t G, int64_t T, int64_t S, int64_t D,
                        int64_t low, int64_t high);

/* matmul.c; y (N, M), a (N, K), b (K, M); of each of a's and b's steps, one is 1 */
void matmul_forward(real *y, const real *a, const real *b, int64_t N, int64_t K, int64_t M,
                    int64_t a_row, int64_t a_column, int64_t b_row, int64_t b_column);
void linear_forward(real *y, const real *x, const real *w, const real *b, int64_t N, int64_t K,
                    int64_t M);
int64_t vector_bytes(void); /* of this CPU: 64 with AVX-512, 32 with AVX2 */
void matmul_naive(real *y, const real *a, const real *b, int64_t N, int64_t K, int64_t M);
void matmul_tiled(real *y, const real *a, const real *b, int64_t N, int64_t K, int64_t M);
