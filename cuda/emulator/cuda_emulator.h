/* What a CUDA kernel finds when it is compiled for a CPU: the language, as macros and overloads.
 *
 * Force-included before the text of a .cu file, which then is C++ and runs on runtime.cpp. A block
 * runs wholly on one thread of the operating system, its CUDA threads are fibers on it. So shared
 * memory, which a block's threads have in common and other blocks do not see, is what C++ calls
 * thread-local: `static __thread`. threadIdx and its sisters are ordinary variables, which the
 * scheduler rewrites at every switch, and which a debugger can print.
 *
 * Where a call waits for other threads, its file and line come along as default arguments: messages
 * name the place in the kernel without any debug information.
 */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <type_traits>
#include <utility>

#define CUDA_EMULATOR 1
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __managed__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
/* Where memory is watched, a gap lies before each declaration: a step past the end of the array
 * before it meets the gap, and not the next array. */
#ifdef EMULATOR_GAP
#define EMULATOR_JOIN(a, b) a##b
#define EMULATOR_GAP_NAMED(n) EMULATOR_JOIN(emulator_gap_, n)
#define __shared__                                                                                 \
    static __thread __attribute__((used)) char EMULATOR_GAP_NAMED(__COUNTER__)[EMULATOR_GAP];      \
    static __thread
#else
#define __shared__ static __thread
#endif
#define __restrict __restrict__
#define warpSize 32
#undef assert
#define assert(claim) ((claim) ? (void)0 : __trap("assert(" #claim ")"))

/* ---- vectors -------------------------------------------------------------------------------- */

#define VECTORS(name, T)                                                                           \
    struct name##1 { T x; };                                                                       \
    struct __align__(2 * sizeof(T)) name##2 { T x, y; };                                           \
    struct name##3 { T x, y, z; };                                                                 \
    struct __align__(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; };           \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                     \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                             \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(char, signed char)
VECTORS(uchar, unsigned char)
VECTORS(short, short)
VECTORS(ushort, unsigned short)
VECTORS(int, int)
VECTORS(uint, unsigned)
VECTORS(longlong, long long)
VECTORS(ulonglong, unsigned long long)
VECTORS(float, float)
VECTORS(double, double)
#undef VECTORS

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
#define EMULATOR_VARIABLE extern __thread __attribute__((tls_model("initial-exec")))
EMULATOR_VARIABLE uint3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- what runtime.cpp does ------------------------------------------------------------------ */

extern "C" {
void emulator_barrier(const char* what, const char* file, int line);
int emulator_barrier_vote(int vote, int question, const char* what, const char* file, int line);
const uint64_t* emulator_exchange(unsigned mask, uint64_t value, const char* what,
                                  const char* file, int line);
unsigned emulator_present(void);
unsigned emulator_active(const char* what, const char* file, int line);
uint64_t emulator_published(const uint64_t* values, unsigned mask, int from, const char* what,
                            const char* file, int line);
void emulator_fence(void);
void* emulator_dynamic_shared(void);
void emulator_copy_async(void* to, const void* from, int bytes, const char* file, int line);
void emulator_copy_commit(void);
void emulator_copy_wait(int groups_left);
void emulator_atomic(const void* address, int bytes, const char* file, int line);
[[noreturn]] void emulator_trap(const char* what, const char* file, int line);
}
#define SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

[[noreturn]] inline void __trap(const char* what = "__trap()", SITE) {
    emulator_trap(what, file, line);
}

/* ---- the block ------------------------------------------------------------------------------ */

inline void __syncthreads(SITE) { emulator_barrier("__syncthreads", file, line); }
inline int __syncthreads_count(int vote, SITE) {
    return emulator_barrier_vote(vote, 0, "__syncthreads_count", file, line);
}
inline int __syncthreads_and(int vote, SITE) {
    return emulator_barrier_vote(vote, 1, "__syncthreads_and", file, line);
}
inline int __syncthreads_or(int vote, SITE) {
    return emulator_barrier_vote(vote, 2, "__syncthreads_or", file, line);
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST), emulator_fence(); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __threadfence(); }

/* ---- the warp ------------------------------------------------------------------------------- */

inline int emulator_lane() {
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31;
}
template <class T> inline uint64_t emulator_bits(T value) {
    static_assert(sizeof(T) <= 8, "a warp exchanges values of at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}
template <class T> inline T emulator_value(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline void __syncwarp(unsigned mask = ~0u, SITE) {
    emulator_exchange(mask, 0, "__syncwarp", file, line);
}
template <class T> inline T emulator_from(unsigned mask, T value, int source, const char* what,
                                          const char* file, int line) {
    const uint64_t* values = emulator_exchange(mask, emulator_bits(value), what, file, line);
#ifdef EMULATOR_GAP
    return emulator_value<T>(emulator_published(values, mask, source, what, file, line));
#else
    return emulator_value<T>(values[source]);
#endif
}
/* The lane that another one reads from stays in its own segment of `width` lanes. */
template <class T> inline T __shfl_sync(unsigned mask, T value, int from, int width = 32, SITE) {
    const int lane = emulator_lane(), source = (lane & -width) | (from & (width - 1));
    return emulator_from<T>(mask, value, source, "__shfl_sync", file, line);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int x, int width = 32, SITE) {
    const int lane = emulator_lane(), other = lane ^ x;
    const int source = (other & -width) > (lane & -width) ? lane : other;
    return emulator_from<T>(mask, value, source, "__shfl_xor_sync", file, line);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, SITE) {
    const int lane = emulator_lane();
    const int source = (lane & (width - 1)) + (int)by < width ? lane + (int)by : lane;
    return emulator_from<T>(mask, value, source, "__shfl_down_sync", file, line);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, SITE) {
    const int lane = emulator_lane();
    const int source = (lane & (width - 1)) >= (int)by ? lane - (int)by : lane;
    return emulator_from<T>(mask, value, source, "__shfl_up_sync", file, line);
}
inline unsigned emulator_ballot(unsigned mask, int vote, const char* what, const char* file,
                                int line) {
    const uint64_t* votes = emulator_exchange(mask, vote != 0, what, file, line);
    const unsigned there = mask & emulator_present();
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; lane++)
        if (there >> lane & 1 && votes[lane]) ballot |= 1u << lane;
    return ballot;
}
inline unsigned __ballot_sync(unsigned mask, int vote, SITE) {
    return emulator_ballot(mask, vote, "__ballot_sync", file, line);
}
inline int __any_sync(unsigned mask, int vote, SITE) {
    return emulator_ballot(mask, vote, "__any_sync", file, line) != 0;
}
inline int __all_sync(unsigned mask, int vote, SITE) {
    return emulator_ballot(mask, !vote, "__all_sync", file, line) == 0;
}
template <class T> inline unsigned __match_any_sync(unsigned mask, T value, SITE) {
    const uint64_t* values =
        emulator_exchange(mask, emulator_bits(value), "__match_any_sync", file, line);
    const unsigned there = mask & emulator_present();
    unsigned same = 0;
    for (int lane = 0; lane < 32; lane++)
        if (there >> lane & 1 && values[lane] == emulator_bits(value)) same |= 1u << lane;
    return same;
}
template <class T, class Op>
inline T emulator_reduce(unsigned mask, T value, const char* what, Op op, const char* file,
                         int line) {
    const uint64_t* values = emulator_exchange(mask, emulator_bits(value), what, file, line);
    const unsigned there = mask & emulator_present();
    T total = value;
    bool first = true;
    for (int lane = 0; lane < 32; lane++)
        if (there >> lane & 1) {
            const T other = emulator_value<T>(values[lane]);
            total = first ? other : op(total, other);
            first = false;
        }
    return total;
}
#define REDUCTION(name, result)                                                                    \
    template <class T> inline T name(unsigned mask, T value, SITE) {                               \
        static_assert(std::is_integral_v<T>, #name " is for integers: floats use shuffles");       \
        return emulator_reduce(mask, value, #name, [](T a, T b) -> T { return result; }, file,     \
                               line);                                                              \
    }
REDUCTION(__reduce_add_sync, a + b)
REDUCTION(__reduce_min_sync, a < b ? a : b)
REDUCTION(__reduce_max_sync, a > b ? a : b)
REDUCTION(__reduce_and_sync, a & b)
REDUCTION(__reduce_or_sync, a | b)
REDUCTION(__reduce_xor_sync, a ^ b)
#undef REDUCTION
/* Never sure on a GPU; here the lanes that come to this line together, as far as they can. */
inline unsigned __activemask(SITE) { return emulator_active("__activemask", file, line); }

/* ---- memory ------------------------------------------------------------------------------- */

/* Hints to the caches of a GPU are plain loads and stores here. Macros, so that the line of such an
 * access is the kernel's. */
#define __ldg(address) (*(address))
#define __ldca(address) (*(address))
#define __ldcg(address) (*(address))
#define __ldcs(address) (*(address))
#define __stcg(address, value) ((void)(*(address) = (value)))
#define __stcs(address, value) ((void)(*(address) = (value)))
inline size_t __cvta_generic_to_shared(const void* address) { return (size_t)address; }

/* ---- arithmetic ----------------------------------------------------------------------------- */

/* As on a GPU: of a number and a NaN, min and max are the number. */
template <class A, class B> inline std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    return (T)a < (T)b || (T)b != (T)b ? (T)a : (T)b;
}
template <class A, class B> inline std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    return (T)a > (T)b || (T)b != (T)b ? (T)a : (T)b;
}
/* The fast approximations of a GPU, which differ from these in the last digits. */
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float fdividef(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __frsqrt_rn(float x) { return 1 / sqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __saturatef(float x) { return x > 1 ? 1 : x > 0 ? x : 0; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float rsqrt(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline void __sincosf(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
inline void emulator_sincos(double x, double* s, double* c) { *s = sin(x), *c = cos(x); }
inline void emulator_sincos(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
#define sincos emulator_sincos
#define sincosf emulator_sincos

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned x, unsigned y) { return (uint64_t)x * y >> 32; }
inline int __mulhi(int x, int y) { return (int)((int64_t)x * y >> 32); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned __int128)x * y >> 64;
}
inline unsigned __brev(unsigned x) {
    unsigned y = 0;
    for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
    return y;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return (((uint64_t)high << 32 | low) << (by & 31)) >> 32;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return ((uint64_t)high << 32 | low) >> (by & 31);
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned select) {
    const uint64_t bytes = (uint64_t)y << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; i++)
        result |= (unsigned)(bytes >> 8 * (select >> 4 * i & 7) & 255) << 8 * i;
    return result;
}
inline int __dp4a(int x, int y, int sum) {
    for (int i = 0; i < 4; i++) sum += (signed char)(x >> 8 * i) * (signed char)(y >> 8 * i);
    return sum;
}
inline float __int_as_float(int x) { return emulator_value<float>((unsigned)x); }
inline float __uint_as_float(unsigned x) { return emulator_value<float>(x); }
inline int __float_as_int(float x) { return (int)emulator_bits(x); }
inline unsigned __float_as_uint(float x) { return (unsigned)emulator_bits(x); }
inline double __longlong_as_double(long long x) { return emulator_value<double>(x); }
inline long long __double_as_longlong(double x) { return (long long)emulator_bits(x); }
inline int __float2int_rn(float x) { return (int)nearbyintf(x); }
inline int __float2int_rd(float x) { return (int)floorf(x); }
inline int __float2int_ru(float x) { return (int)ceilf(x); }
inline int __float2int_rz(float x) { return (int)x; }
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
inline double __hiloint2double(int high, int low) {
    return emulator_value<double>((uint64_t)(unsigned)high << 32 | (unsigned)low);
}
inline void __nanosleep(unsigned) {}

/* ---- sixteen bits: for include/cuda_fp16.h and cuda_bf16.h ---------------------------------- */

/* Computed in float, then rounded: `a * b + c` after each of its two operations, __hfma(a, b, c)
 * only at the end. */
#define EMULATOR_NARROW(T, T2)                                                                     \
    inline T __hadd(T a, T b) { return T((float)a + (float)b); }                                   \
    inline T __hsub(T a, T b) { return T((float)a - (float)b); }                                   \
    inline T __hmul(T a, T b) { return T((float)a * (float)b); }                                   \
    inline T __hdiv(T a, T b) { return T((float)a / (float)b); }                                   \
    inline T __hfma(T a, T b, T c) { return T((float)((double)a * (double)b + (double)c)); }       \
    inline T __hmax(T a, T b) { return T(fmaxf((float)a, (float)b)); }                             \
    inline T __hmin(T a, T b) { return T(fminf((float)a, (float)b)); }                             \
    inline T __hneg(T a) { return T(-(float)a); }                                                  \
    inline T __habs(T a) { return T(fabsf((float)a)); }                                            \
    inline bool __hgt(T a, T b) { return (float)a > (float)b; }                                    \
    inline bool __hge(T a, T b) { return (float)a >= (float)b; }                                   \
    inline bool __hlt(T a, T b) { return (float)a < (float)b; }                                    \
    inline bool __hle(T a, T b) { return (float)a <= (float)b; }                                   \
    inline bool __heq(T a, T b) { return (float)a == (float)b; }                                   \
    inline T operator+(T a, T b) { return __hadd(a, b); }                                          \
    inline T operator-(T a, T b) { return __hsub(a, b); }                                          \
    inline T operator*(T a, T b) { return __hmul(a, b); }                                          \
    inline T operator/(T a, T b) { return __hdiv(a, b); }                                          \
    inline T& operator+=(T& a, T b) { return a = __hadd(a, b); }                                   \
    inline T& operator-=(T& a, T b) { return a = __hsub(a, b); }                                   \
    inline T& operator*=(T& a, T b) { return a = __hmul(a, b); }                                   \
    inline T2 __hadd2(T2 a, T2 b) { return {__hadd(a.x, b.x), __hadd(a.y, b.y)}; }                 \
    inline T2 __hsub2(T2 a, T2 b) { return {__hsub(a.x, b.x), __hsub(a.y, b.y)}; }                 \
    inline T2 __hmul2(T2 a, T2 b) { return {__hmul(a.x, b.x), __hmul(a.y, b.y)}; }                 \
    inline T2 __hmax2(T2 a, T2 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }                 \
    inline T2 __hmin2(T2 a, T2 b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }                 \
    inline T2 __hfma2(T2 a, T2 b, T2 c) {                                                          \
        return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};                                     \
    }

/* ---- atomics -------------------------------------------------------------------------------- */

/* All are made of one: try to exchange until nobody has come between. */
template <class T, class Op>
inline T emulator_update(T* address, Op op, const char* file, int line) {
    using Bits = std::conditional_t<sizeof(T) == 8, uint64_t,
                                    std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;
    emulator_atomic(address, sizeof(T), file, line);
    Bits* place = (Bits*)address;
    Bits before = __atomic_load_n(place, __ATOMIC_RELAXED), after;
    do after = (Bits)emulator_bits(op(emulator_value<T>(before)));
    while (!__atomic_compare_exchange_n(place, &before, after, true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED));
    return emulator_value<T>(before);
}
#define ATOMIC(name, T, result)                                                                    \
    inline T name(T* address, T x, SITE) {                                                         \
        return emulator_update(address, [=](T old) -> T { return result; }, file, line);           \
    }                                                                                              \
    inline T name##_block(T* address, T x, SITE) { return name(address, x, file, line); }
#define INTEGER_ATOMICS(T)                                                                         \
    ATOMIC(atomicAdd, T, old + x)                                                                  \
    ATOMIC(atomicMin, T, old < x ? old : x)                                                        \
    ATOMIC(atomicMax, T, old > x ? old : x)                                                        \
    ATOMIC(atomicExch, T, x)                                                                       \
    ATOMIC(atomicAnd, T, old & x)                                                                  \
    ATOMIC(atomicOr, T, old | x)                                                                   \
    ATOMIC(atomicXor, T, old ^ x)                                                                  \
    inline T atomicCAS(T* address, T expected, T x, SITE) {                                        \
        return emulator_update(                                                                    \
            address, [=](T old) -> T { return old == expected ? x : old; }, file, line);           \
    }
INTEGER_ATOMICS(int)
INTEGER_ATOMICS(unsigned)
INTEGER_ATOMICS(unsigned long long)
ATOMIC(atomicMin, long long, old < x ? old : x)
ATOMIC(atomicMax, long long, old > x ? old : x)
ATOMIC(atomicSub, int, old - x)
ATOMIC(atomicSub, unsigned, old - x)
ATOMIC(atomicInc, unsigned, old >= x ? 0 : old + 1)
ATOMIC(atomicDec, unsigned, old == 0 || old > x ? x : old - 1)
ATOMIC(atomicAdd, float, old + x)
ATOMIC(atomicAdd, double, old + x)
ATOMIC(atomicExch, float, x)
#undef INTEGER_ATOMICS
#undef ATOMIC

/* ---- the way in ----------------------------------------------------------------------------- */

/* A kernel gets its arguments as a CUDA launch passes them: an array of addresses. The types are
 * deduced from the kernel itself. */
template <class... T, size_t... I>
inline void emulator_call(void (*kernel)(T...), void** arguments, std::index_sequence<I...>) {
    kernel(*(std::remove_cv_t<T>*)arguments[I]...);
}
template <class... T> inline void emulator_enter(void (*kernel)(T...), void** arguments) {
    emulator_call(kernel, arguments, std::index_sequence_for<T...>{});
}
#define EMULATOR_EXPORT(kernel)                                                                    \
    extern "C" __attribute__((visibility("default"))) void emulator_enter_##kernel(void** a) {     \
        emulator_enter(&kernel, a);                                                                \
    }
