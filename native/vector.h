/* Vectors of a CPU's registers, in any width, of either real type, without intrinsics.
 *
 * GCC and Clang have vectors as an extension of C: a + b on them is one instruction for all lanes.
 * Which width is best is known when the program runs, so a file that uses them is compiled once for
 * each kind of CPU and one of the results is chosen on the first call (each_cpu.h does both, and
 * includes this file each time). It may use:
 *
 *     LANES       numbers in a vector        vec, whole_vec    vectors of real and of `whole`
 *     ROWS        rows of a product whose sums stay in registers, two vectors wide
 *     NAME(f)     f with a name of its own for this CPU        FOR_CPU    in front of a function
 *
 * Another compiler gets vectors of one number: the same text, and plain loops.
 */
#undef LANES
#undef vec
#undef whole_vec
#define vec NAME(vec)
#define whole_vec NAME(whole_vec)
#define LANES ((int)(WIDTH / sizeof(real)))

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
#ifdef __GNUC__
#pragma GCC unroll 16
#endif
    for (int k = TERMS - 1; k >= 0; k--) p = p * r + term[k];
    p = NAME(from_bits)(NAME(bits)(p) + (NAME(bits)(shifted) << EXPONENT));
    return NAME(choose)(x, NAME(all)(low), (vec){0}, p);
}
