/* One token through a Llama: tinygrad_edu/models/fused.py explains it and numbers the equations.
 *
 * All threads call llama_step at once, each with its number, and each does its share of the rows of
 * every matrix. Where one of them needs what the others have written, they meet: five times in a
 * block. What is small (norms, roundings to 8 bits, the sum of the parts of attention) everybody
 * computes for himself, which costs less than to meet once more.
 */
#ifndef REAL_IS_FLOAT
#define REAL_IS_FLOAT /* in both libraries: weights in blocks meet float32 and nothing else */
#endif
#include <time.h>

#ifndef _WIN32
#include <sched.h>
#endif

#include "exponential.h"
#include "int8.h"
#include "kernels.h"
#include "packed.h"
#include "vector.h"

/* What Python hands over as rows of int64, in this order. */
typedef struct {
    int64_t layers, width, heads, groups, head, hidden, vocabulary, room, window, offsets, norms,
        eight_bits;
} sizes;
typedef struct { int64_t at, row, rows, kind; } matrix; /* at: in the store, row: bytes of one */
typedef struct { matrix q, k, v, o, gate, up, down; } block;

/* Numbers rounded to 8 bits: packed.h. */
typedef struct { int8_t *q; float *scale; int32_t *sum; } rounded;

typedef struct { int64_t first, last; } range;

/* ---- to meet ---------------------------------------------------------------------------------*/

/* round counts the meetings; it moves on when the last one has come. */
typedef struct { uint32_t come, round, broken; } meeting;

enum { SPINS = 4000, PATIENCE = 3 /* seconds */ };

#ifdef __GNUC__
/* Let somebody else have the core. A sleep of 20 microseconds in its place was half as fast beside
 * a busy program: one wakes up too late. */
static void rest(void) {
#ifndef _WIN32
    sched_yield();
#endif
}

/* Wait until all have come: spinning at first, since the others have as much to do, then with
 * rests, since there may be fewer cores than threads. False where somebody does not come, since
 * Ctrl-C has struck between two starts; then nobody goes on. */
static bool meet(meeting *m, int64_t threads, uint32_t *round) {
    if (threads == 1) return true;
    const uint32_t next = *round += 1;
    if (__atomic_add_fetch(&m->come, 1, __ATOMIC_ACQ_REL) == threads) {
        __atomic_store_n(&m->come, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&m->round, next, __ATOMIC_RELEASE);
        return true;
    }
    time_t began = 0;
    for (int spin = 0; __atomic_load_n(&m->round, __ATOMIC_ACQUIRE) != next; spin++) {
        if (spin < SPINS) {
#ifdef __x86_64__
            __builtin_ia32_pause();
#endif
            continue;
        }
        spin = SPINS;
        rest();
        const time_t now = time(NULL);
        if (!began) began = now;
        if (now - began > PATIENCE) __atomic_store_n(&m->broken, 1, __ATOMIC_RELAXED);
        if (__atomic_load_n(&m->broken, __ATOMIC_RELAXED)) return false;
    }
    return true;
}
#else
static bool meet(meeting *m, int64_t threads, uint32_t *round) { return threads == 1; }
#endif

/* ---- memory ----------------------------------------------------------------------------------*/

/* What a step works on. The first part is everybody's, the second one's own. */
typedef struct {
    meeting *meeting;
    float *x, *branch, *qkv, *gate, *up, *parts;
    rounded gate_rounded;
    float *y, *q, *scores, *tile;
    rounded y_rounded;
} memory;

enum { TILE = 64 }; /* rows of a cache of 8 bits that are floats at a time */

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Hands out pieces of one array; without an array it only counts. */
typedef struct { uint8_t *base; int64_t used; } room;

static void *take(room *r, int64_t bytes) {
    void *found = r->base ? r->base + r->used : NULL;
    r->used += (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
    return found;
}

static rounded take_rounded(room *r, int64_t n) {
    const int64_t blocks = n / BLOCK_OF_X;
    const rounded found = {take(r, n), take(r, blocks * 4), take(r, blocks * 4)};
    return found;
}

/* A part of attention: for every head its maximum and its total, then a row for each. */
static int64_t part_size(const sizes *s) { return s->heads * (s->head + 2); }

/* Scores of a head: whole vectors are written, so there is one more of them. */
static int64_t scores_row(const sizes *s) { return s->room + LANES; }

/* Where everything lies, and how many bytes it takes. */
static int64_t lay_out(memory *m, uint8_t *base, const sizes *s, int64_t thread, int64_t threads) {
    const int64_t q = s->heads * s->head, longest = most(s->width, q);
    room r = {base, 0};
    m->meeting = take(&r, sizeof *m->meeting);
    m->x = take(&r, s->width * 4);
    m->branch = take(&r, s->width * 4);
    m->qkv = take(&r, (q + 2 * s->groups * s->head) * 4);
    m->gate = take(&r, s->hidden * 4);
    m->up = take(&r, s->hidden * 4);
    m->gate_rounded = take_rounded(&r, s->hidden);
    m->parts = take(&r, threads * part_size(s) * 4);
    for (int64_t t = 0; t <= thread; t++) {
        m->y = take(&r, longest * 4);
        m->y_rounded = take_rounded(&r, longest);
        m->q = take(&r, q * 4);
        m->scores = take(&r, s->heads / s->groups * scores_row(s) * 4);
        m->tile = take(&r, s->eight_bits * TILE * s->head * 4);
    }
    return r.used;
}

int64_t llama_step_bytes(const int64_t *shape, int64_t threads) {
    memory m;
    return lay_out(&m, NULL, (const sizes *)shape, threads - 1, threads);
}

/* ---- rows ------------------------------------------------------------------------------------*/

/* The share of a thread in n rows, in whole units but for the end. */
static range share(int64_t n, int64_t unit, int64_t thread, int64_t threads) {
    const int64_t units = (n + unit - 1) / unit;
    const range r = {least(n, thread * units / threads * unit),
                     least(n, (thread + 1) * units / threads * unit)};
    return r;
}

static void round_to_8_bits(rounded r, const float *x, int64_t n) {
    if (n % BLOCK_OF_X == 0) packed_quantize(r.q, r.scale, r.sum, x, n);
}

static void product(float *y, range r, const uint8_t *store, matrix w, int64_t n, const float *x,
                    rounded k) {
    packed_rows(y, r.first, r.last, store + w.at, w.row, (int)w.kind, n, k.q, k.scale, k.sum, x);
}

static void norm(float *y, const float *x, const float *w, float eps, int64_t n) {
    float squares = 0;
    #pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < n; i++) squares += x[i] * x[i];
    const float rho = 1 / sqrtf(squares / n + eps);
    #pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = w[i] * (x[i] * rho);                         /* (1) */
}

/* y = a head of x, normed where there is a w, turned, and times scale: (2). */
static void turn_head(float *y, const float *x, const float *w, float eps, const float *cos,
                      const float *sin, float scale, int64_t D) {
    if (w) {
        norm(y, x, w, eps, D);
        x = y;
    }
    const int64_t half = D / 2;
    for (int64_t i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        y[i] = scale * (a * cos[i] - b * sin[i]);
        y[i + half] = scale * (a * sin[i] + b * cos[i]);
    }
}

/* ---- attention -------------------------------------------------------------------------------*/

#if defined(ZIP) && (__GNUC__ >= 12 || defined(__clang__))
/* s[j] = q . row j of k, for LANES rows at once. Sums of LANES vectors are wanted in the lanes of
 * one: two vectors are folded into one, half of whose lanes are of the first, until one is left. */
INLINE void scores_of(float *s, const float *q, const float *k, int64_t n, const int64_t D) {
    for (int64_t j = 0; j < n; j += LANES) {
        vec a[LANES];
        UNROLL for (int i = 0; i < LANES; i++) {
            const float *row = k + least(j + i, n - 1) * D;
            a[i] = load(q) * load(row);
            for (int64_t d = LANES; d < D; d += LANES) a[i] += load(q + d) * load(row + d);
        }
        UNROLL for (int half = LANES / 2; half; half /= 2)
            UNROLL for (int i = 0; i < half; i++)
                a[i] = ZIP(a[i], a[i + half], 0) + ZIP(a[i], a[i + half], LANES / 2);
        store(s + j, a[0]);
    }
}
#define FOLDS(D) ((D) % LANES == 0)
#else
INLINE void scores_of(float *s, const float *q, const float *k, int64_t n, const int64_t D) {}
#define FOLDS(D) false
#endif

static void scores(float *s, const float *q, const float *k, int64_t n, int64_t D) {
    if (FOLDS(D) && D == 64) {
        scores_of(s, q, k, n, 64);
    } else if (FOLDS(D)) {
        scores_of(s, q, k, n, D);
    } else {
        for (int64_t j = 0; j < n; j++) {
            float total = 0;
            for (int64_t d = 0; d < D; d++) total += q[d] * k[j * D + d];
            s[j] = total;
        }
    }
}

/* The four vectors (or one) of y += sum over j of p[j] * row j of v, from number d on. */
#define GATHER(vectors)                                                                          \
    INLINE void gather_##vectors(float *y, const float *p, const float *v, int64_t n,            \
                                 int64_t D) {                                                    \
        vec sum[vectors];                                                                        \
        UNROLL for (int i = 0; i < vectors; i++) sum[i] = load(y + i * LANES);                   \
        for (int64_t j = 0; j < n; j++)                                                          \
            UNROLL for (int i = 0; i < vectors; i++)                                             \
                sum[i] += p[j] * load(v + j * D + i * LANES);                                    \
        UNROLL for (int i = 0; i < vectors; i++) store(y + i * LANES, sum[i]);                   \
    }
GATHER(4)
GATHER(1)

static void gather(float *y, const float *p, const float *v, int64_t n, int64_t D) {
    int64_t d = 0;
    for (; d + 4 * LANES <= D; d += 4 * LANES) gather_4(y + d, p, v + d, n, D);
    for (; d + LANES <= D; d += LANES) gather_1(y + d, p, v + d, n, D);
    for (; d < D; d++)
        for (int64_t j = 0; j < n; j++) y[d] += p[j] * v[j * D + d];
}

/* From scores to exp(s - maximum), in place; the maximum and the sum go to top. */
static void weights(float *s, float *top, int64_t n) {
    float m = -INFINITY, total = 0;
    #pragma omp simd reduction(max : m)
    for (int64_t j = 0; j < n; j++) m = s[j] > m ? s[j] : m;
    #pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) {
        const float e = exponential(s[j] - m);
        s[j] = e;
        total += e;
    }
    top[0] = m;
    top[1] = total;
}

/* Keys or values of a layer: floats, or integers of 8 bits with a scale a row. */
typedef struct { float *floats; int8_t *integers; float *scales; } cached;

static cached cached_of(void *all, float *scales, const sizes *s, int64_t layer) {
    const int64_t row = layer * s->groups * s->room, at = row * s->head;
    const cached integers = {NULL, (int8_t *)all + at, scales + row};
    const cached floats = {(float *)all + at, NULL, NULL};
    return s->eight_bits ? integers : floats;
}

static void keep(cached c, int64_t row, const float *x, int64_t D) {
    if (c.floats)
        memcpy(c.floats + row * D, x, D * 4);
    else
        c.scales[row] = round_row(c.integers + row * D, x, D);
}

/* n rows as floats: as they are, or widened into the tile, where they stay in the nearest cache
 * of the CPU while all heads of the group ask for them. */
static const float *rows_of(cached c, float *tile, int64_t row, int64_t n, int64_t D) {
    if (c.floats) return c.floats + row * D;
    for (int64_t j = 0; j < n; j++)
        widen_row(tile + j * D, c.integers + (row + j) * D, c.scales[row + j], D);
    return tile;
}

/* (3) over some of the keys, for the heads that share them. */
static void attend(float *part, const memory *m, cached keys, cached values, const sizes *s,
                   int64_t group, range seen) {
    const int64_t D = s->head, n = seen.last - seen.first, heads = s->heads / s->groups;
    const int64_t row = group * s->room + seen.first, tile = keys.floats ? most(n, 1) : TILE;
    const float *q = m->q + group * heads * D;
    float *tops = part + 2 * group * heads;
    float *y = part + 2 * s->heads + group * heads * D;
    for (int64_t j = 0; j < n; j += tile) {
        const int64_t some = least(tile, n - j);
        const float *k = rows_of(keys, m->tile, row + j, some, D);
        for (int64_t h = 0; h < heads; h++)
            scores(m->scores + h * scores_row(s) + j, q + h * D, k, some, D);
    }
    for (int64_t h = 0; h < heads; h++) weights(m->scores + h * scores_row(s), tops + 2 * h, n);
    memset(y, 0, heads * D * 4);
    for (int64_t j = 0; j < n; j += tile) {
        const int64_t some = least(tile, n - j);
        const float *v = rows_of(values, m->tile, row + j, some, D);
        for (int64_t h = 0; h < heads; h++)
            gather(y + h * D, m->scores + h * scores_row(s) + j, v, some, D);
    }
}

/* y = the parts of all threads put together, (4). */
static void together(float *y, const float *parts, const sizes *s, int64_t threads) {
    const int64_t D = s->head, step = part_size(s);
    for (int64_t h = 0; h < s->heads; h++) {
        float top = -INFINITY, total = 0;
        for (int64_t t = 0; t < threads; t++) top = fmaxf(top, parts[t * step + 2 * h]);
        memset(y + h * D, 0, D * 4);
        for (int64_t t = 0; t < threads; t++) {
            const float *part = parts + t * step;
            const float factor = exponential(part[2 * h] - top);
            total += factor * part[2 * h + 1];
            for (int64_t d = 0; d < D; d++)
                y[h * D + d] += factor * part[2 * s->heads + h * D + d];
        }
        for (int64_t d = 0; d < D; d++) y[h * D + d] /= total;
    }
}

/* ---- a step ----------------------------------------------------------------------------------*/

/* A call, and where in it a thread is. */
typedef struct {
    const sizes *s;
    const uint8_t *store;
    const float *cos, *sin;
    void *keys, *values;
    float *key_scales, *value_scales, eps;
    int64_t position, thread, threads;
    memory m;
    uint32_t round;
} step;

/* Queries, keys and values of the new token: (2). */
static void ask(step *c, const float *x, const block *w, const float *vectors) {
    const sizes *s = c->s;
    const int64_t q = s->heads * s->head, k = s->groups * s->head;
    const matrix each[] = {w->q, w->k, w->v};
    const float *offsets = vectors + 2 * s->width;
    norm(c->m.y, x, vectors, c->eps, s->width);
    round_to_8_bits(c->m.y_rounded, c->m.y, s->width);
    float *y = c->m.qkv;
    for (int i = 0; i < 3; i++) {
        const range r = share(i ? k : q, 4, c->thread, c->threads);
        product(y, r, c->store, each[i], s->width, c->m.y, c->m.y_rounded);
        if (s->offsets) {
            for (int64_t n = r.first; n < r.last; n++) y[n] += offsets[n];
            offsets += i ? k : q;
        }
        y += i ? k : q;
    }
}

/* Attention of the new token to this thread's share of what came before: (3). */
static void look(step *c, const float *vectors, int64_t layer) {
    const sizes *s = c->s;
    const int64_t D = s->head, q = s->heads * D, k = s->groups * D;
    const float *wq = vectors + 2 * s->width + (s->offsets ? q + 2 * k : 0), *wk = wq + D;
    if (!s->norms) wq = wk = NULL;
    const cached keys = cached_of(c->keys, c->key_scales, s, layer);
    const cached values = cached_of(c->values, c->value_scales, s, layer);
    const int64_t oldest = s->window ? most(0, c->position + 1 - s->window) : 0;
    range seen = share(c->position + 1 - oldest, 1, c->thread, c->threads);
    seen.first += oldest;
    seen.last += oldest;
    for (int64_t h = 0; h < s->heads; h++)
        turn_head(c->m.q + h * D, c->m.qkv + h * D, wq, c->eps, c->cos, c->sin,
                  1 / sqrtf((float)D), D);
    if (c->thread == c->threads - 1) /* whose share the new token is in */
        for (int64_t g = 0; g < s->groups; g++) {
            const int64_t row = g * s->room + c->position;
            turn_head(c->m.y, c->m.qkv + q + g * D, wk, c->eps, c->cos, c->sin, 1, D);
            keep(keys, row, c->m.y, D);
            keep(values, row, c->m.qkv + q + k + g * D, D);
        }
    float *part = c->m.parts + c->thread * part_size(s);
    for (int64_t g = 0; g < s->groups; g++) attend(part, &c->m, keys, values, s, g, seen);
}

/* x = from + W y, this thread's rows of it. */
static void add_rows(step *c, const float *from, matrix w, int64_t n, const float *y, rounded k) {
    float *x = c->m.x, *branch = c->m.branch;
    const range r = share(c->s->width, 4, c->thread, c->threads);
    product(branch, r, c->store, w, n, y, k);
    for (int64_t i = r.first; i < r.last; i++) x[i] = from[i] + branch[i];
}

/* The inner numbers of the network: (5). */
static void widen(step *c, const block *w, const float *vectors) {
    const sizes *s = c->s;
    const range r = share(s->hidden, BLOCK_OF_X, c->thread, c->threads);
    float *gate = c->m.gate, *up = c->m.up;
    norm(c->m.y, c->m.x, vectors + s->width, c->eps, s->width);
    round_to_8_bits(c->m.y_rounded, c->m.y, s->width);
    product(gate, r, c->store, w->gate, s->width, c->m.y, c->m.y_rounded);
    product(up, r, c->store, w->up, s->width, c->m.y, c->m.y_rounded);
    #pragma omp simd
    for (int64_t i = r.first; i < r.last; i++) {
        const float near = gate[i] < -88 ? -88 : gate[i];
        gate[i] = near * logistic(near) * up[i];
    }
    if (s->hidden % BLOCK_OF_X == 0 && r.first < r.last) {
        const int64_t at = r.first / BLOCK_OF_X;
        const rounded k = c->m.gate_rounded;
        packed_quantize(k.q + r.first, k.scale + at, k.sum + at, gate + r.first, r.last - r.first);
    }
}

int64_t llama_step(float *logits, void *keys, void *values, float *key_scales, float *value_scales,
                   uint8_t *shared, const float *x, const uint8_t *store, const int64_t *places,
                   const float *vectors, const float *cos, const float *sin, const int64_t *shape,
                   double eps, int64_t position, int64_t thread, int64_t threads) {
    const sizes *s = (const sizes *)shape;
    const block *w = (const block *)places;
    const int64_t C = s->width, D = s->head, q = s->heads * D;
    int64_t more = 2 * C + (s->offsets ? q + 2 * s->groups * D : 0) + (s->norms ? 2 * D : 0);
    step c = {.s = s, .store = store, .cos = cos, .sin = sin, .keys = keys, .values = values,
              .key_scales = key_scales, .value_scales = value_scales, .eps = (float)eps,
              .position = position, .thread = thread, .threads = threads};
    lay_out(&c.m, shared, s, thread, threads);
    const memory *m = &c.m;
    c.round = m->meeting->round;
    for (int64_t layer = 0; layer < s->layers; layer++, w++, vectors += more) {
        const float *from = layer ? m->x : x;
        ask(&c, from, w, vectors);
        if (!meet(m->meeting, threads, &c.round)) return 0;
        look(&c, vectors, layer);
        if (!meet(m->meeting, threads, &c.round)) return 0;
        together(m->y, m->parts, s, threads);
        round_to_8_bits(m->y_rounded, m->y, q);
        add_rows(&c, from, w->o, q, m->y, m->y_rounded);
        if (!meet(m->meeting, threads, &c.round)) return 0;
        widen(&c, w, vectors);
        if (!meet(m->meeting, threads, &c.round)) return 0;
        add_rows(&c, m->x, w->down, s->hidden, m->gate, m->gate_rounded);
        if (!meet(m->meeting, threads, &c.round)) return 0;
    }
    norm(m->y, m->x, vectors, c.eps, C);
    round_to_8_bits(m->y_rounded, m->y, C);
    const range r = share(s->vocabulary, 4, thread, threads);
    product(logits, r, store, *(const matrix *)w, C, m->y, m->y_rounded);              /* (6) */
    return 1;
}
