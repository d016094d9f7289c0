/* What lies where in a block of each kind: tinygrad_edu/ops/packed.py numbers the equations. */
#ifndef TINYGRAD_EDU_BLOCKS_H
#define TINYGRAD_EDU_BLOCKS_H

#include "integers.h"
#include "packed.h"

INLINE bool is_large(int type) { return type == Q4_K || type == Q5_K || type == Q6_K; }

/* The rung that counts as 0. */
INLINE int middle_of(int type) {
    return type == Q4_0 ? 8 : type == Q5_0 ? 16 : type == Q6_K ? 32 : type == Q8_0 ? MIDDLE : 0;
}

/* Numbers 32 j to 32 j + 31 of the block at w, as rungs from 0 on; of Q8_0 as they are. */
INLINE numbers rungs(int type, const uint8_t *w, int j) {
    if (type == Q4_0) return nibbles(w + 2);
    if (type == Q4_1) return nibbles(w + 4);
    if (type == Q5_0) return either(nibbles(w + 6), fifth_bits(w + 2));
    if (type == Q5_1) return either(nibbles(w + 8), fifth_bits(w + 4));
    if (type == Q4_K) return bits_of(bytes(w + 16 + j / 2 * 32), j % 2 * 4, 15);
    if (type == Q5_K) {
        const numbers low = bits_of(bytes(w + 48 + j / 2 * 32), j % 2 * 4, 15);
        return either(low, sixteen_times(bits_of(bytes(w + 16), j, 1)));
    }
    if (type == Q6_K) {
        const numbers low = bits_of(bytes(w + j / 4 * 64 + j % 2 * 32), j % 4 / 2 * 4, 15);
        const numbers high = bits_of(bytes(w + 128 + j / 4 * 32), j % 4 * 2, 3);
        return either(low, sixteen_times(high));
    }
    return bytes(w + 2);
}

/* Of a large block: step[2 j] and step[2 j + 1], what a rung is worth in the first and in the last
 * 16 numbers of 32; low[j], where the ladder begins. */
INLINE void ladders(int type, const uint8_t *w, float *step, float *low) {
    if (type == Q6_K) {
        const float d = half(w + 208);
        for (int j = 0; j < 16; j++) step[j] = d * (int8_t)w[192 + j];
        return;
    }
    uint32_t first, second, rest;
    memcpy(&first, w + 4, 4);
    memcpy(&second, w + 8, 4);
    memcpy(&rest, w + 12, 4);
    const uint32_t s[2] = {first & 0x3f3f3f3f,
                           (rest & 0x0f0f0f0f) | (first >> 6 & 0x03030303) << 4};
    const uint32_t m[2] = {second & 0x3f3f3f3f,
                           (rest >> 4 & 0x0f0f0f0f) | (second >> 6 & 0x03030303) << 4};
    const float d = half(w), e = half(w + 2);
    for (int j = 0; j < 8; j++) {
        step[2 * j] = step[2 * j + 1] = d * (s[j / 4] >> j % 4 * 8 & 255);
        low[j] = -e * (m[j / 4] >> j % 4 * 8 & 255);
    }
}

#endif
