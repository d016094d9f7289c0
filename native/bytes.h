/* What the loops over pieces of text share: short pieces as numbers, and hashes. */
#ifndef TINYGRAD_EDU_BYTES_H
#define TINYGRAD_EDU_BYTES_H

#include <string.h>

#include "kernels.h"

enum { SHORT = 15 }; /* bytes of a piece that fits into a `word` */

typedef struct { uint64_t low, high; } word;

/* A piece of at most SHORT bytes and its length, as two numbers: equal words, equal pieces.
 * `room` is how many bytes may be read: 16 are read at once where they are there. */
INLINE word short_word(const uint8_t *piece, int64_t length, int64_t room) {
    static const uint8_t keep[32] = {255, 255, 255, 255, 255, 255, 255, 255,
                                     255, 255, 255, 255, 255, 255, 255, 255};
    word all = {0, 0}, mask;
    memcpy(&mask, keep + 16 - length, 16);
    if (room >= 16) memcpy(&all, piece, 16);
    else memcpy(&all, piece, length);
    return (word){all.low & mask.low, (all.high & mask.high) ^ (uint64_t)length << 56};
}

/* A hash: every bit of x changes about half of the upper 32 bits, which are the result. */
INLINE uint64_t scatter(uint64_t x) {
    x *= 0x9E3779B97F4A7C15u;
    return (x ^ x >> 32) * 0xD6E8FEB86659FD93u >> 32;
}

/* The hash of a word, and of a piece of any length. */
INLINE uint64_t hash_of_word(word w) { return scatter(w.low ^ scatter(w.high) * w.high); }

INLINE uint64_t hash_of(const uint8_t *piece, int64_t length, int64_t room) {
    if (length <= SHORT) return hash_of_word(short_word(piece, length, room));
    uint64_t hash = length;
    for (int64_t k = 0; k < length; k += 8) {
        uint64_t eight = 0;
        memcpy(&eight, piece + k, length - k < 8 ? length - k : 8);
        hash = scatter(eight + hash * 0xA24BAED4963EE407u);
    }
    return hash;
}

#endif
