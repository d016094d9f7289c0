/* Compiles the file EACH_CPU once for each kind of CPU, and says which result is for this one.
 *
 * A file that wants its inner loops in vector.h's vectors looks like this:
 *
 *     #ifndef WIDTH
 *     #define EACH_CPU "this_file.c"
 *     #include "each_cpu.h"
 *     void kernel(real *y, int64_t n) { BEST(inner)(y, n); }
 *     #else
 *     FOR_CPU void NAME(inner)(real *y, int64_t n) { ... }
 *     #endif
 *
 * ROWS is the height of a tile (tile.h) whose sums fit in the registers.
 * Bytes in a vector: 64 with AVX-512 (2017), 32 with AVX2 (2013), 16 on every x86-64 and ARM64.
 */
#include <stdlib.h>
#include <string.h>

#include "real.h"

#ifdef REAL_IS_FLOAT
typedef int32_t whole; /* an integer as wide as a real */
#else
typedef int64_t whole;
#endif

/* Memory for vectors begins at a multiple of a cache line: a vector that lies in two of them takes
 * twice as long to load. ALIGNED bytes more than needed are to be there. */
enum { ALIGNED = 64 };
static inline real *aligned(void *memory) {
    return (real *)(((uintptr_t)memory + ALIGNED - 1) / ALIGNED * ALIGNED);
}

#define NAME_OF(name, width) name##_##width
#define NAME_WITH(name, width) NAME_OF(name, width)
#define NAME(name) NAME_WITH(name, WIDTH)

#if defined(__x86_64__) && defined(__GNUC__)

#define WIDTH 64
#define ROWS 8 /* of 32 registers */
#define FOR_CPU static inline __attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma")))
#include "vector.h"
#include EACH_CPU
#undef WIDTH
#undef ROWS
#undef FOR_CPU

#define WIDTH 32
#define ROWS 4 /* of 16 registers */
#define FOR_CPU static inline __attribute__((target("avx2,fma")))
#include "vector.h"
#include EACH_CPU
#undef WIDTH
#undef ROWS
#undef FOR_CPU

#define WIDTH 16
#define ROWS 4
#define FOR_CPU static inline
#include "vector.h"
#include EACH_CPU
#undef WIDTH

static inline int best_width(void) {
    if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) return 64;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 32 : 16;
}
#define BEST_WIDTH best_width()
#define BEST(name)                                                                               \
    (best_width() == 64 ? NAME_OF(name, 64) : best_width() == 32 ? NAME_OF(name, 32)             \
                                                                 : NAME_OF(name, 16))

#elif defined(__GNUC__) /* ARM64 and others: vectors of 16 bytes, and 32 registers of them */

#define WIDTH 16
#define ROWS 8
#define FOR_CPU static inline
#include "vector.h"
#include EACH_CPU
#undef WIDTH
#define BEST_WIDTH 16
#define BEST(name) NAME_OF(name, 16)

#else /* no such extension: vectors of one number */

#ifdef REAL_IS_FLOAT
#define WIDTH 4
#define BEST_WIDTH 4
#define BEST(name) NAME_OF(name, 4)
#else
#define WIDTH 8
#define BEST_WIDTH 8
#define BEST(name) NAME_OF(name, 8)
#endif
#define ROWS 4
#define FOR_CPU static inline
#include "vector.h"
#include EACH_CPU
#undef WIDTH

#endif
