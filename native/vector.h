/* Vectors of a CPU's registers, in any width, of either real type, without intrinsics.
 *
 * GCC and Clang have vectors as an extension of C: a + b on them is one instruction for all lanes.
 * Which width is best is known when the program runs, so a file that uses them is compiled once for
 * each kind of CPU and one of the results is chosen on the first call (each_cpu.h does both, and
 * includes this file each time). It may use:
 *
 *     LANES       numbers in a vector        vec, whole_vec    vectors of real and of `whole`
 *     NAME(f)     f with a name of its own for this CPU        FOR_CPU    in front of a function
 *
 * Another compiler gets vectors of one number: the same text, and plain loops.
 */
#undef UNROLL
#undef ALWAYS_INLINE
#undef LANES
#undef ZIP
#undef vec
#undef whole_vec
#define vec NAME(vec)
#define whole_vec NAME(whole_vec)
#ifdef REAL_IS_FLOAT
#define SIZE 4
#else
#define SIZE 8
#endif
#if WIDTH / SIZE == 16
#define LANES 16
#define ZIP(a, b, i)                                                                             \
    __builtin_shufflevector(a, b, i, i + 16, i + 1, i + 17, i + 2, i + 18, i + 3, i + 19, i + 4, \
                            i + 20, i + 5, i + 21, i + 6, i + 22, i + 7, i + 23)
#elif WIDTH / SIZE == 8
#define LANES 8
#define ZIP(a, b, i)                                                                             \
    __builtin_shufflevector(a, b, i, i + 8, i + 1, i + 9, i + 2, i + 10, i + 3, i + 11)
#elif WIDTH / SIZE == 4
#define LANES 4
#define ZIP(a, b, i) __builtin_shufflevector(a, b, i, i + 4, i + 1, i + 5)
#elif WIDTH / SIZE == 2
#define LANES 2
#define ZIP(a, b, i) __builtin_shufflevector(a, b, i, i + 2)
#else
#define LANES 1
#endif
#undef SIZE

/* In front of a short loop whose variables are to stay in registers. */
#ifdef __GNUC__
#define UNROLL _Pragma("GCC unroll 16")
#define ALWAYS_INLINE __attribute__((always_inline))
#else
#define UNROLL
#define ALWAYS_INLINE
#endif

#ifdef __GNUC__
typedef real vec __attribute__((vector_size(WIDTH)));
typedef whole whole_vec __attribute__((vector_size(WIDTH)));
/* The same vector at an address that is no multiple of its size. */
typedef real NAME(loose) __attribute__((vector_size(WIDTH), aligned(sizeof(real)), may_alias));
#else
typedef real vec;
typedef whole whole_vec;
typedef real NAME(loose);
#endif

FOR_CPU vec NAME(load)(const real *x) { return *(const NAME(loose) *)x; }
FOR_CPU void NAME(store)(real *y, vec x) { *(NAME(loose) *)y = x; }
FOR_CPU vec NAME(all)(real x) { return x - (vec){0}; }

FOR_CPU whole_vec NAME(bits)(vec x) {
    whole_vec y;
    memcpy(&y, &x, sizeof y);
    return y;
}

FOR_CPU vec NAME(from_bits)(whole_vec x) {
    vec y;
    memcpy(&y, &x, sizeof y);
    return y;
}

/* yes in the lanes where a < b, no in the others. */
#ifdef __GNUC__
#define CHOOSE_LESS(a, b, yes, no)                                                               \
    NAME(from_bits)((NAME(bits)(yes) & (whole_vec)((a) < (b))) |                                 \
                    (NAME(bits)(no) & ~(whole_vec)((a) < (b))))
#else
#define CHOOSE_LESS(a, b, yes, no) ((a) < (b) ? (yes) : (no))
#endif
FOR_CPU vec NAME(choose)(vec a, vec b, vec yes, vec no) { return CHOOSE_LESS(a, b, yes, no); }
FOR_CPU vec NAME(choose_whole)(whole_vec a, whole_vec b, vec yes, vec no) {
    return CHOOSE_LESS(a, b, yes, no);
}
#undef CHOOSE_LESS

/* e to the x for x up to 88 (double: 709), within two units of the last place; 0 below -87.3
 * (double: -708). x = n ln 2 + r with a whole n; the Taylor series of e to the r; n is added to the
 * exponent. n is read from the lowest bits of x / ln 2 + 1.5 * 2^23 (double: 2^52), a number so
 * large that its fraction has been rounded away. */
FOR_CPU vec NAME(exp)(vec x) {
#ifdef REAL_IS_FLOAT
    const real large = 12582912, low = (real)-87.3;
    const real high_part = (real)0.693359375, low_part = (real)-2.12194440e-4;
    enum { EXPONENT = 23, TERMS = 7 };
#else
    const real large = 6755399441055744, low = -708;
    const real high_part = 0.693145751953125, low_part = 1.42860682030941723212e-6;
    enum { EXPONENT = 52, TERMS = 13 };
#endif
    static const real term[] = {1, 1, 1 / (real)2, 1 / (real)6, 1 / (real)24, 1 / (real)120,
                                1 / (real)720, 1 / (real)5040, 1 / (real)40320, 1 / (real)362880,
                                1 / (real)3628800, 1 / (real)39916800, 1 / (real)479001600,
                                1 / (real)6227020800};
    const vec shifted = x * (real)1.4426950408889634 + large;
    const vec n = shifted - large;
    const vec r = x - n * high_part - n * low_part;
    vec p = NAME(all)(term[TERMS]);
    UNROLL for (int k = TERMS - 1; k >= 0; k--) p = p * r + term[k];
    p = NAME(from_bits)(NAME(bits)(p) + (NAME(bits)(shifted) << EXPONENT));
    return NAME(choose)(x, NAME(all)(low), (vec){0}, p);
}

/* Turns a square: y[j * y_row + i] = x[i * x_row + j] for i and j below LANES. Each round deals the
 * upper and the lower half of the rows out in turns, as cards are shuffled; after log2(LANES)
 * rounds every number has come to its place. */
FOR_CPU void NAME(turn_square)(real *y, int64_t y_row, const real *x, int64_t x_row) {
#if defined(ZIP) && defined(__GNUC__) && (__GNUC__ >= 12 || defined(__clang__))
    vec a[LANES], b[LANES];
    UNROLL for (int i = 0; i < LANES; i++) a[i] = NAME(load)(x + i * x_row);
    UNROLL for (int round = 1; round < LANES; round *= 2) {
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            b[2 * i] = ZIP(a[i], a[i + LANES / 2], 0);
            b[2 * i + 1] = ZIP(a[i], a[i + LANES / 2], LANES / 2);
        }
        UNROLL for (int i = 0; i < LANES; i++) a[i] = b[i];
    }
    UNROLL for (int j = 0; j < LANES; j++) NAME(store)(y + j * y_row, a[j]);
#else
    for (int j = 0; j < LANES; j++)
        for (int i = 0; i < LANES; i++) y[j * y_row + i] = x[i * x_row + j];
#endif
}
