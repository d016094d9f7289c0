/* Merging by rank: tinygrad_edu/tokenizers/bpe_encoding.py explains it and numbers the lines. */
#include <stdlib.h>

#include "bytes.h"

enum { FEW = 32 }; /* bytes of a piece below which a search for the least rank beats a heap */

#define NONE UINT64_MAX /* no merge: rank and token of a pair that is none, above all ranks */

typedef struct { const uint64_t *at; int64_t mask; } table;

/* The rank of a pair (upper half) and the token that it makes (lower half), or NONE. */
INLINE uint64_t merge_of(table pairs, int32_t left, int32_t right) {
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (uint64_t s = scatter(key);; s++) {
        const uint64_t *slot = pairs.at + 2 * (s & pairs.mask);
        if (slot[0] == key) return slot[1];
        if (slot[0] == NONE) return NONE;
    }
}

/* (1) for a few bytes: all pairs are looked at for each merge. Returns how many ids are left. */
static int64_t merge_few(int32_t *ids, int64_t n, table pairs) {
    uint64_t merge[FEW];
    for (int64_t k = 0; k + 1 < n; k++) merge[k] = merge_of(pairs, ids[k], ids[k + 1]);
    while (n > 1) {
        int64_t best = 0;
        for (int64_t k = 1; k + 1 < n; k++)
            if (merge[k] < merge[best]) best = k;
        if (merge[best] == NONE) break;
        ids[best] = (int32_t)merge[best];
        n--;
        for (int64_t k = best + 1; k < n; k++) ids[k] = ids[k + 1], merge[k - 1] = merge[k];
        if (best > 0) merge[best - 1] = merge_of(pairs, ids[best - 1], ids[best]);
        if (best + 1 < n) merge[best] = merge_of(pairs, ids[best], ids[best + 1]);
    }
    return n;
}

/* A heap of numbers: the one at k is no greater than those at 2k + 1 and 2k + 2. */
INLINE void sink(uint64_t *heap, int64_t size, int64_t k) {
    const uint64_t value = heap[k];
    for (int64_t child; (child = 2 * k + 1) < size; k = child) {
        if (child + 1 < size && heap[child + 1] < heap[child]) child++;
        if (value <= heap[child]) break;
        heap[k] = heap[child];
    }
    heap[k] = value;
}

INLINE void rise(uint64_t *heap, int64_t k, uint64_t value) {
    for (; k > 0 && value < heap[(k - 1) / 2]; k = (k - 1) / 2) heap[k] = heap[(k - 1) / 2];
    heap[k] = value;
}

/* (1) for many bytes: the pairs wait in a heap. -1 where there is no memory for it. */
static int64_t merge_many(int32_t *ids, int64_t n, table pairs) {
    uint64_t *merge = malloc(n * (3 * sizeof(uint64_t) + 2 * sizeof(int32_t)));
    if (!merge) return -1;
    uint64_t *heap = merge + n;
    int32_t *after = (int32_t *)(heap + 2 * n), *before = after + n;
    int64_t size = 0;
    for (int64_t k = 0; k < n; k++) {
        merge[k] = k + 1 < n ? merge_of(pairs, ids[k], ids[k + 1]) : NONE;
        after[k] = k + 1, before[k] = k - 1;
        if (merge[k] != NONE) heap[size++] = merge[k] >> 32 << 32 | k;
    }
    for (int64_t k = size / 2 - 1; k >= 0; k--) sink(heap, size, k);
    while (size) {
        const uint64_t top = heap[0];
        const int64_t k = (uint32_t)top, second = after[k];
        heap[0] = heap[--size];
        if (size) sink(heap, size, 0);
        if (merge[k] == NONE || merge[k] >> 32 != top >> 32) continue;
        ids[k] = (int32_t)merge[k];
        merge[second] = NONE;
        after[k] = after[second];
        if (after[k] < n) before[after[k]] = k;
        const int64_t changed[2] = {before[k], k};
        for (int c = 0; c < 2; c++) {
            const int64_t at = changed[c];
            if (at < 0) continue;
            merge[at] = after[at] < n ? merge_of(pairs, ids[at], ids[after[at]]) : NONE;
            if (merge[at] != NONE) rise(heap, size++, merge[at] >> 32 << 32 | at);
        }
    }
    int64_t left = 0;
    for (int64_t k = 0; k < n; k = after[k]) ids[left++] = ids[k];
    free(merge);
    return left;
}

/* What the cache knows of a short piece: the piece, and up to four ids, the rest -1. */
typedef struct {
    word key;
    int32_t ids[4];
} entry;

/* The ids of a piece, from the cache or merged and put there; how many, -1 without memory. */
INLINE int64_t encode(int32_t *ids, const uint8_t *piece, int64_t length, int64_t room,
                      const int32_t *byte_ids, table pairs, entry *cache, int64_t places) {
    entry *slot = NULL;
    word key = {0, 0};
    if (length <= SHORT) {
        key = short_word(piece, length, room);
        slot = cache + (hash_of_word(key) & (places - 1));
        if (slot->key.low == key.low && slot->key.high == key.high) {
            int64_t known = 0;
            for (; known < 4 && slot->ids[known] >= 0; known++) ids[known] = slot->ids[known];
            return known;
        }
    }
    for (int64_t k = 0; k < length; k++) ids[k] = byte_ids[piece[k]];
    const int64_t left = (length <= FEW ? merge_few : merge_many)(ids, length, pairs);
    if (slot && left <= 4) {
        slot->key = key;
        for (int64_t k = 0; k < 4; k++) slot->ids[k] = k < left ? ids[k] : -1;
    }
    return left;
}

void encode_pieces(int32_t *ids, int64_t *count, const uint8_t *text, const bool *begins,
                   const int32_t *byte_ids, const uint64_t *pairs, uint64_t *cache, int64_t n,
                   int64_t slots, int64_t places) {
    const table merges = {pairs, slots - 1};
    int64_t made = 0;
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && !begins[end]; end++) {}
        const int64_t found = encode(ids + made, text + i, end - i, n - i, byte_ids, merges,
                                     (entry *)cache, places);
        if (found < 0) {
            memset(ids, -1, n * sizeof *ids);
            *count = -1;
            return;
        }
        made += found;
    }
    memset(ids + made, -1, (n - made) * sizeof *ids);
    *count = made;
}

void join_tokens(uint8_t *text, const int32_t *ids, const uint8_t *store, const int64_t *starts,
                 int64_t count) {
    for (int64_t k = 0; k < count; k++) {
        const int64_t length = starts[ids[k] + 1] - starts[ids[k]];
        memcpy(text, store + starts[ids[k]], length);                                     /* (4) */
        text += length;
    }
}
