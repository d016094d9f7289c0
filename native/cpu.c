/* Which build of native/ is for this CPU: each library knows its own vectors, and asks the CPU. */
#include "kernels.h"
#include "vector.h"

int64_t vector_bytes(void) { return WIDTH; }

/* The CPU and its operating system: the registers of a wide vector have to be saved, too. */
int64_t cpu_vector_bytes(void) {
#if defined(VECTORS) && defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    return avx2 ? avx512 ? 64 : 32 : 16;
#else
    return WIDTH;
#endif
}
