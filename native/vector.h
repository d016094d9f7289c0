/* Vectors of a CPU's registers, in any width, of either real type, without intrinsics.
 *
 * GCC and Clang have vectors as an extension of C: a + b on them is one instruction for all lanes.
 * How wide they are follows from the CPU that a library is built for; native/build.py builds one
 * for each kind. With another compiler, or with -DPORTABLE, a vector is one number: the same text
 * gives plain loops.
 *
 *     WIDTH     bytes in a vector: 64 with AVX-512 (2019), 32 with AVX2 (2013), 16 on every x86-64
 *               and ARM64
 *     LANES     numbers in a vector
 *     vec, whole_vec          vectors of real, and of integers as wide as a real
 */
#ifndef TINYGRAD_EDU_VECTOR_H
#define TINYGRAD_EDU_VECTOR_H

#include <string.h>

#include "real.h"

#ifdef REAL_IS_FLOAT
typedef int32_t whole;
#define SIZE 4
#else
typedef int64_t whole;
#define SIZE 8
#endif

#if defined(__GNUC__) && !defined(PORTABLE)
#define VECTORS
#ifdef __AVX512F__
#define WIDTH 64
#elif defined(__AVX2__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
typedef real vec __attribute__((vector_size(WIDTH)));
typedef whole whole_vec __attribute__((vector_size(WIDTH)));
/* The same vector at an address that is no multiple of its size. */
typedef real loose __attribute__((vector_size(WIDTH), aligned(SIZE), may_alias));
/* In front of a short loop whose variables are to stay in registers. */
#define UNROLL _Pragma("GCC unroll 16")
#else
#define WIDTH SIZE
typedef real vec;
typedef whole whole_vec;
typedef real loose;
#define UNROLL
#endif
#define LANES (WIDTH / SIZE)

/* Memory for vectors begins at a multiple of a cache line: a vector that lies in two of them takes
 * twice as long to load. ALIGNED bytes more than needed are to be there. */
enum { ALIGNED = 64 };
static inline real *aligned(void *memory) {
    return (real *)(((uintptr_t)memory + ALIGNED - 1) / ALIGNED * ALIGNED);
}

INLINE vec load(const real *x) { return *(const loose *)x; }
INLINE void store(real *y, vec x) { *(loose *)y = x; }
INLINE vec all(real x) { return x - (vec){0}; }

INLINE whole_vec bits(vec x) {
    whole_vec y;
    memcpy(&y, &x, sizeof y);
    return y;
}

INLINE vec from_bits(whole_vec x) {
    vec y;
    memcpy(&y, &x, sizeof y);
    return y;
}

/* yes in the lanes where a < b, no in the others. */
#ifdef VECTORS
#define CHOOSE_LESS(a, b, yes, no)                                                               \
    from_bits((bits(yes) & (whole_vec)((a) < (b))) | (bits(no) & ~(whole_vec)((a) < (b))))
#else
#define CHOOSE_LESS(a, b, yes, no) ((a) < (b) ? (yes) : (no))
#endif
INLINE vec choose(vec a, vec b, vec yes, vec no) { return CHOOSE_LESS(a, b, yes, no); }
INLINE vec choose_whole(whole_vec a, whole_vec b, vec yes, vec no) {
    return CHOOSE_LESS(a, b, yes, no);
}
#undef CHOOSE_LESS

/* Numbers of a and b in turns, from number i of each on. */
#if LANES == 16
#define ZIP(a, b, i)                                                                             \
    __builtin_shufflevector(a, b, i, i + 16, i + 1, i + 17, i + 2, i + 18, i + 3, i + 19, i + 4, \
                            i + 20, i + 5, i + 21, i + 6, i + 22, i + 7, i + 23)
#elif LANES == 8
#define ZIP(a, b, i)                                                                             \
    __builtin_shufflevector(a, b, i, i + 8, i + 1, i + 9, i + 2, i + 10, i + 3, i + 11)
#elif LANES == 4
#define ZIP(a, b, i) __builtin_shufflevector(a, b, i, i + 4, i + 1, i + 5)
#elif LANES == 2
#define ZIP(a, b, i) __builtin_shufflevector(a, b, i, i + 2)
#endif

/* Turns a square: y[j * y_row + i] = x[i * x_row + j] for i and j below LANES. Each round deals the
 * upper and the lower half of the rows out in turns, as cards are shuffled; after log2(LANES)
 * rounds every number has come to its place. */
INLINE void turn_square(real *y, int64_t y_row, const real *x, int64_t x_row) {
#if defined(ZIP) && (__GNUC__ >= 12 || defined(__clang__))
    vec a[LANES], b[LANES];
    UNROLL for (int i = 0; i < LANES; i++) a[i] = load(x + i * x_row);
    UNROLL for (int round = 1; round < LANES; round *= 2) {
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            b[2 * i] = ZIP(a[i], a[i + LANES / 2], 0);
            b[2 * i + 1] = ZIP(a[i], a[i + LANES / 2], LANES / 2);
        }
        UNROLL for (int i = 0; i < LANES; i++) a[i] = b[i];
    }
    UNROLL for (int j = 0; j < LANES; j++) store(y + j * y_row, a[j]);
#else
    for (int j = 0; j < LANES; j++)
        for (int i = 0; i < LANES; i++) y[j * y_row + i] = x[i * x_row + j];
#endif
}

#endif
