/* Pieces of a text: tinygrad_edu/tokenizers/presplit.py explains the pattern of GPT-2. */
#include <stdlib.h>

#include "bytes.h"

enum { OTHER, LETTER, NUMBER, SPACE, CONTINUES = 255 };

/* The bytes of 's 't 'm 'd 're 've 'll at text[i], 0 where there is none of them. */
INLINE int64_t contraction(const uint8_t *text, int64_t i, int64_t n) {
    if (text[i] != '\'') return 0;
    const uint8_t one = i + 1 < n ? text[i + 1] : 0, two = i + 2 < n ? text[i + 2] : 0;
    if (one == 's' || one == 't' || one == 'm' || one == 'd') return 2;
    if ((one == 'r' || one == 'v') && two == 'e') return 3;
    return one == 'l' && two == 'l' ? 3 : 0;
}

void split_gpt2(bool *begins, const uint8_t *text, const uint8_t *classes, int64_t n) {
    memset(begins, 0, n);
    for (int64_t i = 0; i < n;) {
        const int64_t start = i, letters = contraction(text, i, n);
        begins[i] = true;
        i += letters;
        if (letters) continue;
        if (text[i] == ' ' && i + 1 < n && classes[i + 1] != SPACE) i++;
        const uint8_t kind = classes[i];
        int64_t last = i++;
        for (; i < n && (classes[i] == kind || classes[i] == CONTINUES); i++)
            if (classes[i] == kind) last = i;
        if (kind == SPACE && i < n && last != start) i = last;                            /* (3) */
    }
}

/* ---- counting ------------------------------------------------------------------------------- */

typedef struct { uint64_t hash; int32_t number, length; } slot; /* of a piece, from 1 on */
typedef struct { slot *slots; int64_t size; } table;

/* Where in the table a piece is, or belongs. */
INLINE slot *slot_of(table t, uint64_t hash, const uint8_t *text, const int32_t *places,
                     int64_t i, int64_t length) {
    for (uint64_t k = hash;; k++) {
        slot *s = t.slots + (k & (t.size - 1));
        if (!s->number) return s;
        if (s->hash != hash || s->length != length) continue;
        if (!memcmp(text + places[s->number - 1], text + i, length)) return s;
    }
}

/* Twice as many slots. Whether there was memory. */
static bool grow(table *t) {
    const table old = *t;
    t->size = old.size ? 2 * old.size : 1 << 12;
    t->slots = calloc(t->size, sizeof(slot));
    for (int64_t k = 0; k < old.size && t->slots; k++) {
        if (!old.slots[k].number) continue;
        uint64_t place = old.slots[k].hash & (t->size - 1);
        while (t->slots[place].number) place = (place + 1) & (t->size - 1);
        t->slots[place] = old.slots[k];
    }
    free(old.slots);
    return t->slots != NULL;
}

void count_distinct(int32_t *places, int32_t *counts, const uint8_t *text, const bool *begins,
                    int64_t n, int64_t pieces) {
    table known = {NULL, 0};
    int32_t number = 0;
    bool room = grow(&known);
    for (int64_t i = 0, end; i < n && room; i = end) {
        for (end = i + 1; end < n && !begins[end]; end++) {}
        const uint64_t hash = hash_of(text + i, end - i, n - i);
        slot *found = slot_of(known, hash, text, places, i, end - i);
        if (!found->number) {
            places[number] = (int32_t)i;
            counts[number] = 0;
            *found = (slot){hash, ++number, (int32_t)(end - i)};
        }
        counts[found->number - 1]++;
        if (2 * number > known.size) room = grow(&known);
    }
    free(known.slots);
    for (int64_t k = number; k < pieces; k++) places[k] = -1, counts[k] = 0;
    if (!room && pieces) counts[0] = -1;
}
