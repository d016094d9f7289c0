// Tensor cores and asynchronous copies: PTX on a GPU, exchanges within a warp in the emulator.
//
// One name for both, so that a kernel is the same text. What the hardware does is spelled out in
// the emulator's half: which lane holds which element of a fragment. Whoever mixes them up gets
// wrong numbers here as there.
#pragma once

#ifdef CUDA_EMULATOR

// Reads the registers of other lanes, which are their stacks: nothing for check mode to judge.
#define WITH_OTHER_LANES __attribute__((noinline, no_sanitize_thread)) inline

__attribute__((no_sanitize_thread)) inline float emulator_half_of(unsigned pair, int high) {
    const unsigned bits = high ? pair & 0xffff0000u : pair << 16;
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

// d += a b of a 16x16 and a 16x8 matrix of bfloat16. With g = lane / 4 and t = lane % 4, a lane has
//   d[i]  row g + 8 (i / 2),  column 2 t + i % 2
//   a[i]  row g + 8 (i % 2),  columns 2 t + 8 (i / 2) and the next
//   b[i]  column g,           rows 2 t + 8 i and the next
WITH_OTHER_LANES void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                               SITE) {
    struct Fragments { const unsigned *a, *b; } mine{a, b};
    const uint64_t *all =
        emulator_exchange(0xffffffffu, (uint64_t)&mine, "mma.sync", file, line);
    const int lane = emulator_lane(), g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
        const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
        for (int k = 0; k < 16; k++) {
            const Fragments *of_a = (const Fragments *)all[row % 8 * 4 + k % 8 / 2];
            const Fragments *of_b = (const Fragments *)all[column * 4 + k % 8 / 2];
            d[i] += emulator_half_of(of_a->a[row / 8 + 2 * (k / 8)], k % 2) *
                    emulator_half_of(of_b->b[k / 8], k % 2);
        }
    }
    emulator_exchange(0xffffffffu, 0, "mma.sync", file, line);  // all have read: they may go on
}

// 16 bytes to shared memory, behind the thread's back.
inline void copy_async(void *to, const void *from, SITE) {
    emulator_copy_async(to, from, 16, file, line);
}
inline void copy_commit() { emulator_copy_commit(); }
template <int groups_left> inline void copy_wait(SITE) {
    emulator_copy_wait(groups_left, file, line);
}

#else

__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void copy_async(void *to, const void *from) {
    const unsigned place = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(place), "l"(from) : "memory");
}
__device__ __forceinline__ void copy_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int groups_left> __device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(groups_left) : "memory");
}

#endif
