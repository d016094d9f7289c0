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

/* operators.c */
void where_forward(real *y, const bool *condition, const real *a, const real *b, int64_t n);
void where_backward(real *da, real *db, const real *dy, const bool *condition, int64_t n);
void clip_forward(real *y, const real *x, real low, real high, int64_t n);
void clip_backward(real *dx, const real *dy, const real *x, real low, real high, int64_t n);

/* activation.c */
void gelu_forward(real *y, const real *x, int64_t n);
void gelu_backward(real *dx, const real *dy, const real *x, int64_t n);
void bias_gelu_forward(real *y, const real *z, const real *b, int64_t N, int64_t F);
void bias_gelu_backward(real *dz, real *db, const real *dy, const real *z, const real *b, int64_t N,
                        int64_t F);
void gelu_erf_forward(real *y, const real *x, int64_t n);
void gelu_erf_backward(real *dx, const real *dy, const real *x, int64_t n);

/* swiglu.c */
void silu_forward(real *y, const real *x, int64_t n);
void silu_backward(real *dx, const real *dy, const real *x, int64_t n);
void swiglu_forward(real *y, const real *gate, const real *up, int64_t n);
void swiglu_backward(real *dgate, real *dup, const real *dy, const real *gate, const real *up,
                     int64_t n);

/* norm.c */
void layernorm_forward(real *y, real *mean, real *rstd, const real *x, const real *w, const real *b,
                       real eps, int64_t N, int64_t C);
void add_layernorm_forward(real *s, real *y, real *mean, real *rstd, const real *x, const real *r,
                           const real *w, const real *b, real eps, int64_t N, int64_t C);
void layernorm_backward(real *dx, real *dw, real *db, const real *dy, const real *x, const real *w,
                        const real *mean, const real *rstd, int64_t N, int64_t C);
void add_layernorm_backward(real *dx, real *dw, real *db, const real *dy, const real *ds,
                            const real *s, const real *w, const real *mean, const real *rstd,
                            int64_t N, int64_t C);

/* rmsnorm.c */
void rmsnorm_forward(real *y, real *rstd, const real *x, const real *w, real eps, int64_t N,
                     int64_t C);
void rmsnorm_backward(real *dx, real *dw, const real *dy, const real *x, const real *w,
                      const real *rstd, int64_t N, int64_t C);
void add_rmsnorm_forward(real *s, real *y, real *rstd, const real *x, const real *r, const real *w,
                         real eps, int64_t N, int64_t C);
void add_rmsnorm_backward(real *dx, real *dw, const real *dy, const real *ds, const real *s,
                          const real *w, const real *rstd, int64_t N, int64_t C);

/* softmax.c */
void softmax_forward(real *y, const real *x, int64_t N, int64_t C);
void softmax_backward(real *dx, const real *dy, const real *y, int64_t N, int64_t C);
void log_softmax_forward(real *y, const real *x, int64_t N, int64_t C);
void log_softmax_backward(real *dx, const real *dy, const real *y, int64_t N, int64_t C);

/* cross_entropy.c */
void cross_entropy_forward(real *loss, real *lse, const real *z, const int64_t *targets,
                           int64_t ignore, double smoothing, int64_t N, int64_t V);
void cross_entropy_backward(real *dz, const real *dy, const real *z, const real *lse,
                            const int64_t *targets, int64_t ignore, double smoothing, int64_t N,
                            int64_t V);
void cross_entropy_both(real *loss, real *z, const int64_t *targets, double scale, int64_t ignore,
                        double smoothing, int64_t N, int64_t V);

/* int8.c; a, x, q (N, K), b (F, K) */
void int8_product(int32_t *y, const int8_t *a, const int8_t *b, int64_t N, int64_t F, int64_t K);
void int8_rows(real *scale, int8_t *q, const real *x, int64_t N, int64_t K);
void int8_widen(real *y, const int8_t *q, const real *scale, int64_t N, int64_t K);

/* embedding.c */
void embedding_forward(real *y, const int64_t *ids, const real *w, int64_t N, int64_t C);
void embedding_add_forward(real *y, const int64_t *ids, const real *w, const real *p, int64_t B,
                           int64_t T, int64_t C);
void embedding_backward(real *dw, const real *dy, const int64_t *order, const int64_t *first,
                        const int64_t *last, int64_t V, int64_t C);
void sum_batch(real *dp, const real *dy, int64_t B, int64_t T, int64_t C);

/* rope.c */
void rope_rotate(real *y, const real *x, const int64_t *positions, const real *cos, const real *sin,
                 bool halves, real direction, int64_t B, int64_t H, int64_t T, int64_t D,
                 int64_t W);

/* dropout.c */
void dropout_forward(real *y, const real *x, const uint64_t *start, uint64_t stream, uint64_t key,
                     uint64_t threshold, real scale, int64_t R, int64_t C);

/* reduce.c */
void sum_forward(real *y, const real *x, int64_t A, int64_t N, int64_t B);
void sum_rows(real *db, const real *dy, int64_t N, int64_t F);
void var_forward(real *y, real *mean, const real *x, double ddof, int64_t R, int64_t N);
void var_backward(real *dx, const real *dy, const real *x, const real *mean, double ddof, int64_t R,
                  int64_t N);

/* extremes.c */
void max_forward(real *y, int64_t *position, const real *x, int64_t R, int64_t N);
void min_forward(real *y, int64_t *position, const real *x, int64_t R, int64_t N);
void logsumexp_forward(real *y, const real *x, int64_t R, int64_t N);
void logsumexp_backward(real *dx, const real *dy, const real *x, const real *y, int64_t R,
                        int64_t N);

/* shape.c */
void index_backward(real *dx, const real *dy, const int64_t *positions, int64_t R, int64_t C,
                    int64_t M);

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
void matmul_naive(real *y, const real *a, const real *b, int64_t N, int64_t K, int64_t M);
void matmul_tiled(real *y, const real *a, const real *b, int64_t N, int64_t K, int64_t M);

/* optim.c, adam.c, lion.c; w and what is remembered (v, m) are updated in place */
void sum_of_squares(real *total, const real *g, int64_t n);
void sgd_update(real *w, real *v, const real *g, double lr, double momentum, bool nesterov,
                double decay, double scale, int64_t n);
void adam_update(real *w, real *m, real *v, const real *g, double lr, double beta1, double beta2,
                 double eps, double penalty, double decay, double scale, double step, int64_t n);
void lion_update(real *w, real *m, const real *g, double lr, double beta1, double beta2,
                 double decay, double scale, int64_t n);

/* llama_step.c; called by all threads at once; `shared` has llama_step_bytes, zeros at first;
 * returns 0 where the threads have not met */
int64_t llama_step_bytes(const int64_t *shape, int64_t threads);
int64_t llama_step(float *logits, void *keys, void *values, float *key_scales, float *value_scales,
                   uint8_t *shared, const float *x, const uint8_t *store, const int64_t *places,
                   const float *vectors, const float *cos, const float *sin, const int64_t *shape,
                   double eps, int64_t position, int64_t thread, int64_t threads);

/* cpu.c; bytes: 64 with AVX-512, 32 with AVX2; of this library's vectors, and of this CPU's */
int64_t vector_bytes(void);
int64_t cpu_vector_bytes(void);

/* unicode.c */
void classify(uint8_t *classes, const uint8_t *text, const uint8_t *table, int64_t n);

/* presplit.c; n bytes, of which `pieces` begin a piece */
void split_gpt2(bool *begins, const uint8_t *text, const uint8_t *classes, int64_t n);
void count_distinct(int32_t *places, int32_t *counts, const uint8_t *text, const bool *begins,
                    int64_t n, int64_t pieces);

/* patterns.c */
void split_gpt4(bool *begins, const uint8_t *text, const uint8_t *classes, int64_t digits,
                bool whole_end, int64_t n);
void split_digits(bool *begins, const uint8_t *text, const uint8_t *classes, int64_t n);

/* bpe_training.c; n bytes of text, `wanted` merges */
void learn_merges(int32_t *merges, int64_t *counts, const uint8_t *text, const int64_t *starts,
                  const int64_t *weights, const int32_t *order, bool by_order, int64_t least,
                  int64_t n, int64_t pieces, int64_t wanted);

/* bpe_encoding.c; of `pairs` and of `cache`, the number of slots */
void encode_pieces(int32_t *ids, int64_t *count, const uint8_t *text, const bool *begins,
                   const int32_t *byte_ids, const uint64_t *pairs, uint64_t *cache, int64_t n,
                   int64_t slots, int64_t places);
void join_tokens(uint8_t *text, const int32_t *ids, const uint8_t *store, const int64_t *starts,
                 int64_t count);

/* packed.c, packed_many.c; x (N, K), F rows of blocks of that kind of GGUF's, of which this call
 * takes those from low to high; y (N, F), in unpack_rows (N, K) */
void unpack_rows(float *y, const uint8_t *blocks, int64_t kind, int64_t N, int64_t K,
                 int64_t row_bytes);
void quantize_rows(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t N, int64_t K);
void packed_product(float *y, const float *x, const int8_t *q, const float *scale,
                    const int32_t *sum, const uint8_t *blocks, int64_t kind, int64_t N, int64_t K,
                    int64_t F, int64_t row_bytes, int64_t low, int64_t high);
