/* Learning merges: tinygrad_edu/tokenizers/bpe_training.py explains it, and numbers the rules. */
#include <stdlib.h>

#include "bytes.h"

enum { END = -1, NOWHERE = -1 }; /* the symbol between two pieces; the end of a list */

/* A pair that has been seen. Its places are a list that ascends: `next` and `previous` below. */
typedef struct {
    int64_t count;
    int32_t left, right, first, last;
} pair;

typedef struct { int64_t count; int32_t pair; } waiting; /* the count when it was put here */

/* The pieces stand end to end, with an END before and behind each. symbol[p] is the token that
 * begins at p and the one that ends at p; in between nobody looks. With the lengths of the tokens
 * that leads from a token to both its neighbours. */
typedef struct {
    int32_t *symbol, *piece, *next, *previous; /* piece[p]: which one p is in */
    const int64_t *weights;                    /* of each piece */
    const uint8_t *text;
    int32_t *place, *length; /* of each token: where in the text it is spelt, and how long */
    const int32_t *order;    /* of the bytes, where the pair that is known first wins a tie */
    pair *pairs;
    int32_t *slots; /* a hash table of places in `pairs` */
    waiting *heap;
    int64_t known, room, queued; /* pairs; what there is room for; those in the heap */
} state;

/* ---- pairs and where they are --------------------------------------------------------------- */

/* Where in the hash table a pair is, or belongs. */
INLINE int32_t *slot_of(const state *s, int32_t left, int32_t right) {
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (uint64_t hash = scatter(key);; hash++) {
        int32_t *slot = s->slots + (hash & (2 * s->room - 1));
        if (*slot < 0) return slot;
        if (s->pairs[*slot].left == left && s->pairs[*slot].right == right) return slot;
    }
}

/* Make `array` longer. Whether there was memory. */
static bool longer(void **array, int64_t bytes) {
    void *grown = realloc(*array, bytes);
    if (grown) *array = grown;
    return grown != NULL;
}

/* Room for twice as many pairs. Whether there was memory. */
static bool grow(state *s) {
    const int64_t room = s->room ? 2 * s->room : 1 << 12;
    if (!longer((void **)&s->pairs, room * sizeof *s->pairs)) return false;
    if (!longer((void **)&s->heap, room * sizeof *s->heap)) return false;
    if (!longer((void **)&s->slots, 2 * room * sizeof *s->slots)) return false;
    s->room = room;
    memset(s->slots, NOWHERE, 2 * room * sizeof *s->slots);
    for (int32_t k = 0; k < s->known; k++) *slot_of(s, s->pairs[k].left, s->pairs[k].right) = k;
    return true;
}

/* The pair at p is (left, right) from now on. Whether there was memory. */
INLINE bool enter(state *s, int32_t p, int32_t left, int32_t right) {
    if (s->known == s->room && !grow(s)) return false;
    int32_t *slot = slot_of(s, left, right);
    if (*slot < 0) {
        *slot = (int32_t)s->known++;
        s->pairs[*slot] = (pair){0, left, right, NOWHERE, NOWHERE};
    }
    pair *to = s->pairs + *slot;
    to->count += s->weights[s->piece[p]];
    *(to->last < 0 ? &to->first : &s->next[to->last]) = p;
    s->previous[p] = to->last;
    s->next[p] = NOWHERE;
    to->last = p;
    return true;
}

/* The pair at p, `from`, is no more. */
INLINE void leave(state *s, int32_t p, pair *from) {
    const int32_t before = s->previous[p], after = s->next[p];
    from->count -= s->weights[s->piece[p]];
    *(before < 0 ? &from->first : &s->next[before]) = after;
    *(after < 0 ? &from->last : &s->previous[after]) = before;
}

/* ---- the greatest pair: a heap in which no pair precedes the one above it -------------------- */

INLINE const uint8_t *spelling(const state *s, const int32_t *token, uint8_t *byte) {
    if (*token >= 256) return s->text + s->place[*token];
    *byte = (uint8_t)*token;
    return byte;
}

/* Above 0 where token a wins a tie against b, 0 only if they are the same token: (2) or (3). */
INLINE int compare(const state *s, int32_t a, int32_t b) {
    if (s->order) {
        const int32_t x = a < 256 ? s->order[a] : a, y = b < 256 ? s->order[b] : b;
        return (x < y) - (x > y);                                                         /* (3) */
    }
    uint8_t one, two;
    const int32_t m = s->length[a], n = s->length[b];
    const int order = memcmp(spelling(s, &a, &one), spelling(s, &b, &two), m < n ? m : n);
    return order ? order : (m > n) - (m < n);                                             /* (2) */
}

static bool precedes(const state *s, waiting a, waiting b) {
    if (a.count != b.count) return a.count > b.count;                                     /* (1) */
    const pair *x = s->pairs + a.pair, *y = s->pairs + b.pair;
    const int left = compare(s, x->left, y->left);
    return left ? left > 0 : compare(s, x->right, y->right) > 0;
}

static void sink(state *s) {
    const waiting value = s->heap[0];
    int64_t k = 0;
    for (int64_t child; (child = 2 * k + 1) < s->queued; k = child) {
        if (child + 1 < s->queued && precedes(s, s->heap[child + 1], s->heap[child])) child++;
        if (!precedes(s, s->heap[child], value)) break;
        s->heap[k] = s->heap[child];
    }
    s->heap[k] = value;
}

static void queue(state *s, int32_t index) {
    const waiting value = {s->pairs[index].count, index};
    int64_t k = s->queued++;
    for (; k > 0 && precedes(s, value, s->heap[(k - 1) / 2]); k = (k - 1) / 2)
        s->heap[k] = s->heap[(k - 1) / 2];
    s->heap[k] = value;
}

/* The pair to merge next, NOWHERE if there is none. A count that has fallen is noticed here. */
static int32_t greatest(state *s) {
    while (s->queued) {
        waiting *top = s->heap;
        const int64_t count = s->pairs[top->pair].count;
        if (count && count == top->count) return top->pair;
        top->count = count;
        if (!count) *top = s->heap[--s->queued];
        sink(s);
    }
    return NOWHERE;
}

/* ---- merging -------------------------------------------------------------------------------- */

/* Make one token of the two at p, whose pair has left its list. Whether there was memory. */
INLINE bool merge_at(state *s, int32_t p, int32_t left, int32_t right, int32_t merged) {
    const int32_t second = p + s->length[left], behind = second + s->length[right];
    const int32_t before = s->symbol[p - 1], after = s->symbol[behind];
    bool room = true;
    s->symbol[p] = s->symbol[behind - 1] = merged;
    if (before != END) {
        const int32_t at = p - s->length[before];
        leave(s, at, s->pairs + *slot_of(s, before, left));
        room = enter(s, at, before, merged);
    }
    if (after != END && room) {
        leave(s, second, s->pairs + *slot_of(s, right, after));
        room = enter(s, p, merged, after);
    }
    return room;
}

/* Make a token of a pair and replace it everywhere, in ascending order. */
static bool merge(state *s, int32_t index, int32_t merged) {
    const pair best = s->pairs[index];
    const int64_t known = s->known;
    s->length[merged] = s->length[best.left] + s->length[best.right];
    s->place[merged] = best.first;
    for (int32_t p; (p = s->pairs[index].first) >= 0;) {
        leave(s, p, s->pairs + index);
        if (!merge_at(s, p, best.left, best.right, merged)) return false;
    }
    for (int64_t k = known; k < s->known; k++)
        if (s->pairs[k].count) queue(s, (int32_t)k);
    return true;
}

/* All pieces as bytes, and their pairs. Whether there was memory. */
static bool begin(state *s, const int64_t *starts, int64_t pieces) {
    for (int32_t k = 0; k < 256; k++) s->length[k] = 1;
    s->symbol[0] = END;
    for (int32_t k = 0; k < pieces; k++) {
        const int32_t stop = (int32_t)starts[k + 1] - 1;
        for (int32_t p = (int32_t)starts[k]; p < stop; p++) {
            s->symbol[p] = s->text[p];
            s->piece[p] = k;
            if (p + 1 < stop && !enter(s, p, s->text[p], s->text[p + 1])) return false;
        }
        s->symbol[stop] = END;
    }
    for (int64_t k = 0; k < s->known; k++) queue(s, (int32_t)k);
    return true;
}

static bool learn(state *s, int32_t *merges, int64_t *counts, const int64_t *starts, int64_t least,
                  int64_t pieces, int64_t wanted) {
    if (!begin(s, starts, pieces)) return false;
    for (int64_t k = 0; k < wanted; k++) {
        const int32_t index = greatest(s);
        if (index == NOWHERE || s->pairs[index].count < least) break;
        merges[2 * k] = s->pairs[index].left;
        merges[2 * k + 1] = s->pairs[index].right;
        counts[k] = s->pairs[index].count;
        if (!merge(s, index, (int32_t)(256 + k))) return false;
    }
    return true;
}

void learn_merges(int32_t *merges, int64_t *counts, const uint8_t *text, const int64_t *starts,
                  const int64_t *weights, const int32_t *order, bool by_order, int64_t least,
                  int64_t n, int64_t pieces, int64_t wanted) {
    state s = {.weights = weights, .text = text, .order = by_order ? order : NULL};
    memset(merges, NOWHERE, 2 * wanted * sizeof *merges);
    memset(counts, 0, wanted * sizeof *counts);
    int32_t *memory = malloc((4 * n + 2 * (256 + wanted)) * sizeof *memory);
    s.symbol = memory, s.piece = memory + n, s.next = memory + 2 * n;
    s.previous = memory + 3 * n, s.place = memory + 4 * n;
    s.length = s.place + 256 + wanted;
    const bool room =
        memory && grow(&s) && learn(&s, merges, counts, starts, least, pieces, wanted);
    if (!room && wanted) counts[0] = -1;
    free(memory), free(s.pairs), free(s.heap), free(s.slots);
}
