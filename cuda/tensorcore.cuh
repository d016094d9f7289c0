// The instructions of the tensor cores, and what each of them does, as a loop.
//
// A GPU has units that multiply small matrices. A whole warp gives one instruction to them, and a
// matrix is spread over the registers of its 32 lanes. Here each instruction stands twice: for a
// GPU as one line of PTX, which CUDA C++ has no other word for, and for the emulator as the loop
// that the manual describes. tinygrad_edu/gpu/product.py explains what they are used for.
//
// With g = lane / 4 and t = lane % 4, a register r of a lane holds, of a 16 × 16 matrix `a` of
// bfloat16: row g + 8·(r % 2), columns 2t + 8·(r / 2) and the next; of an 8-column matrix `b`,
// 16 × 8: rows 2t + 8·r and the next, column g; of a 16 × 8 matrix of sums: row g + 8·(r / 2),
// column 2t + r % 2. With tf32 there is one number a register: `a` is 16 × 8, row g + 8·(r % 2),
// column t + 4·(r / 2); `b` is 8 × 8, row t + 4·r, column g.
#pragma once

typedef unsigned short bf16;       // the upper half of a float

// -DFP16=1: the 16 bits that mma_bf16 multiplies are those of IEEE half precision.
#ifndef FP16
#define FP16 0
#endif

__device__ __forceinline__ float from_bf16(bf16 x) { return __uint_as_float((unsigned)x << 16); }

// To the nearest, and of two that are equally near to the even one; a NaN stays a NaN.
__device__ __forceinline__ bf16 to_bf16(float x) {
    const unsigned u = __float_as_uint(x);
    if (x != x) return (bf16)(u >> 16 | 64);
    return (bf16)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

#ifdef CUDA_EMULATOR

// A lane reads the registers of others, on their stacks: the checks must not see that, and no lane
// may go on before all have read.
#define READS_OTHER_LANES __attribute__((noinline, no_sanitize_thread))
#define OF_OTHER_LANES __attribute__((always_inline, no_sanitize_thread))
struct Fragments { const unsigned *a, *b; };

template <class Left, class Right>
READS_OTHER_LANES inline void multiply_fragments(float (&sums)[4], const unsigned (&a)[4],
                                                 const unsigned (&b)[2], int depth, Left left,
                                                 Right right, const char *what, const char *file,
                                                 int line) {
    const Fragments own = {a, b};
    const uint64_t *all = emulator_exchange(~0u, (uint64_t)&own, what, file, line);
    const Fragments *lanes[32];
    for (int lane = 0; lane < 32; lane++) lanes[lane] = (const Fragments *)all[lane];
    const int g = emulator_lane() / 4, t = emulator_lane() % 4;
    for (int r = 0; r < 4; r++)
        for (int k = 0; k < depth; k++)
            sums[r] += left(lanes, g + r / 2 * 8, k) * right(lanes, k, 2 * t + r % 2);
    emulator_exchange(~0u, 0, what, file, line);
}

OF_OTHER_LANES inline float half_of(unsigned pair, int which) {
    const bf16 bits = (bf16)(which ? pair >> 16 : pair);
    return FP16 ? (float)emulator_value<_Float16>(bits) : from_bf16(bits);
}

// To the nearest half, as its bits; beyond 65504 to infinity.
inline bf16 to_fp16(float x) { return (bf16)emulator_bits((_Float16)x); }

// sums (16, 8) += a (16, 16) · b (16, 8), of bfloat16.
inline void mma_bf16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2], SITE) {
    multiply_fragments(
        sums, a, b, 16,
        [](const Fragments **lanes, int i, int k) OF_OTHER_LANES {
            return half_of(lanes[i % 8 * 4 + k % 8 / 2]->a[i / 8 + k / 8 * 2], k % 2);
        },
        [](const Fragments **lanes, int k, int j) OF_OTHER_LANES {
            return half_of(lanes[j * 4 + k % 8 / 2]->b[k / 8], k % 2);
        },
        "mma.sync", file, line);
}

// sums (16, 8) += a (16, 8) · b (8, 8), of tf32: floats of which 13 bits are left out.
inline void mma_tf32(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2], SITE) {
    multiply_fragments(
        sums, a, b, 8,
        [](const Fragments **lanes, int i, int k) OF_OTHER_LANES {
            return __uint_as_float(lanes[i % 8 * 4 + k % 4]->a[i / 8 + k / 4 * 2] & ~0x1fffu);
        },
        [](const Fragments **lanes, int k, int j) OF_OTHER_LANES {
            return __uint_as_float(lanes[j * 4 + k % 4]->b[k / 4] & ~0x1fffu);
        },
        "mma.sync", file, line);
}

// To the nearest tf32, a float whose last 13 bits are 0.
inline unsigned to_tf32(unsigned bits) {
    const bool is_finite = (bits & 0x7f800000) != 0x7f800000;
    return is_finite ? (bits + 0x1000) & ~0x1fffu : bits;
}

// Four 8 × 8 matrices of 2-byte numbers from shared memory. Lane 8·m + r names the begin of row r
// of matrix m, 16 bytes; each lane gets, of row g of each, the numbers 2t and 2t + 1.
inline void load_matrices(unsigned (&to)[4], const void *row, SITE) {
    const uint64_t *rows = emulator_exchange(~0u, (uint64_t)row, "ldmatrix", file, line);
    const int g = emulator_lane() / 4, t = emulator_lane() % 4;
    for (int m = 0; m < 4; m++) to[m] = ((const unsigned *)rows[8 * m + g])[t];
}

// The same of the transposed matrices: the numbers g of the rows 2t and 2t + 1.
inline void load_matrices_turned(unsigned (&to)[4], const void *row, SITE) {
    const uint64_t *rows = emulator_exchange(~0u, (uint64_t)row, "ldmatrix", file, line);
    const int g = emulator_lane() / 4, t = emulator_lane() % 4;
    for (int m = 0; m < 4; m++)
        to[m] = ((const bf16 *)rows[8 * m + 2 * t])[g] |
                (unsigned)((const bf16 *)rows[8 * m + 2 * t + 1])[g] << 16;
}

// Ask for 16 bytes to be copied into shared memory, past the registers; zeros where `from` is not
// `there`. They have arrived when the group that they were committed with was waited for.
static const unsigned nothing[4] __attribute__((aligned(16))) = {};
inline void copy_async(void *to, const void *from, bool there = true, SITE) {
    emulator_copy_async(to, there ? from : nothing, 16, file, line);
}
inline void copy_commit() { emulator_copy_commit(); }
template <int LEFT> inline void copy_wait() { emulator_copy_wait(LEFT); }

#else

__device__ __forceinline__ bf16 to_fp16(float x) {
    bf16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

#if FP16
#define PAIR "f16.f16"
#else
#define PAIR "bf16.bf16"
#endif
__device__ __forceinline__ void mma_bf16(float (&sums)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." PAIR ".f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_tf32(float (&sums)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ unsigned to_tf32(unsigned bits) {
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(__uint_as_float(bits)));
    return bits;
}

__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}

__device__ __forceinline__ void load_matrices_turned(unsigned (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}

__device__ __forceinline__ void copy_async(void *to, const void *from,
                                           bool there = true) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::
                 "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}
__device__ __forceinline__ void copy_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int LEFT> __device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory");
}

#endif
