/* Attention: tinygrad_edu/ops/attention_kernels.py explains it, its equations are cited here.
 *
 * What is computed, for every query i and the keys j that it sees, with head width D:
 *
 *     s[j] = scale * sum over d of q[i][d] * k[j][d];  m = max s;  total = sum of exp(s[j] - m)
 *     y[i][d] = sum over j of exp(s[j] - m) / total * v[j][d];  lse[i] = m + log(total)       (1)
 *
 * How: for QUERIES queries at a time. Their scores are kept the other way round, s[j][i], so that
 * the queries lie side by side in the lanes of a vector: maximum, exponential and sum of 16 queries
 * are then one instruction each, and every lane has its own limit of visible keys. All products are
 * done by `strip`, which keeps ROWS * 2 vectors of sums in registers. Rows are copied into arrays
 * whose sizes are multiples of what a strip takes, zeros behind them, so no loop has a remainder.
 */
#include <stdlib.h>

#include "exponential.h"
#include "kernels.h"
#include "tile.h"

enum { QUERIES = 64, KEYS = 64 }; /* both multiples of every ROWS and LANES */

/* The sizes of a call, and what may hide a key from a query. */
typedef struct {
    int64_t H, G, T, S, D;
    const int64_t *seen, *query_segments, *key_segments;
    heads mask;
    real scale;
} call;

static inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline real *row_of(heads x, int64_t b, int64_t h, int64_t t) {
    return x.at + b * x.batch + h * x.head + t * x.position;
}

/* ROWS rows of a product: tile.h, over all vectors of a row. */
static void strip(real *c, int64_t c_row, const real *a, int64_t a_row, int64_t a_step,
                  const real *b, int64_t b_row, int64_t vectors, int64_t n, bool add) {
    for (; vectors >= 2; vectors -= 2, b += 2 * LANES, c += 2 * LANES)
        tile_2(c, c_row, add ? c : NULL, c_row, a, a_row, a_step, b, b_row, n);
    if (vectors) tile_1(c, c_row, add ? c : NULL, c_row, a, a_row, a_step, b, b_row, n);
}

/* ---- a block of queries ----------------------------------------------------------------------*/

/* What QUERIES queries see. Those behind the last one see nothing. */
typedef struct {
    int64_t b, h, first, rows;     /* rows: how many of them there are                            */
    int vectors;                   /* and how many vectors they fill                              */
    whole seen[QUERIES];           /* query i sees keys below this                                */
    int64_t reach[QUERIES];        /* lanes up to vector v see keys below reach[v] at most        */
    int64_t common[QUERIES];       /* all lanes of vector v see the keys below common[v]          */
    int64_t n;                     /* nobody sees keys from n on                                  */
} query_block;

static query_block block_of(const call *c, int64_t b, int64_t h, int64_t first) {
    query_block block = {.b = b, .h = h, .first = first, .rows = least(QUERIES, c->T - first)};
    block.vectors = (int)round_up(block.rows, LANES) / LANES;
    for (int i = 0; i < QUERIES; i++)
        block.seen[i] = i < block.rows ? c->seen[b * c->T + first + i] : 0;
    for (int v = 0; v < block.vectors; v++) {
        block.reach[v] = v ? block.reach[v - 1] : 0;
        block.common[v] = c->S;
        /* A tile has ROWS queries: where a vector has fewer lanes, all of them count for it. */
        for (int i = v * LANES / ROWS * ROWS; i < round_up((v + 1) * LANES, ROWS); i++) {
            block.reach[v] = most(block.reach[v], block.seen[i]);
            block.common[v] = least(block.common[v], block.seen[i]);
        }
    }
    block.n = block.reach[block.vectors - 1];
    return block;
}

/* The first vector of queries of which some see key j. */
static int first_vector(const query_block *block, int64_t j) {
    int v = 0;
    while (block->reach[v] <= j) v++;
    return v;
}

/* How many keys the ROWS queries from i on see at most. */
static int64_t limit(const query_block *block, int i) {
    int64_t n = 0;
    for (int r = 0; r < ROWS; r++) n = most(n, block->seen[i + r]);
    return n;
}

/* x[j - low][i] = sum over d of a[j][d] * columns[d][i] for keys low to high, and the queries of
 * those vectors that see them: s and dp of (1) and (2), the other way round. */
static void scores(real *x, const real *a, int64_t a_row, const real *columns, int64_t D,
                   const query_block *block, int64_t low, int64_t high) {
    for (int64_t j = low; j < high; j += ROWS) {
        const int v = first_vector(block, j);
        strip(x + (j - low) * QUERIES + v * LANES, QUERIES, a + j * a_row, a_row, 1,
              columns + v * LANES, QUERIES, block->vectors - v, D, false);
    }
}

/* -inf in place of the scores of vector v that are hidden; s begins with key low. */
static void hide(real *s, const call *c, const query_block *block, int v, int64_t low,
                 int64_t high) {
    const vec hidden = all(-INFINITY);
    whole_vec seen;
    memcpy(&seen, block->seen + v * LANES, sizeof seen);
    for (int64_t j = most(low, block->common[v]); j < high; j++) {
        real *at = s + (j - low) * QUERIES + v * LANES;
        const whole_vec key = (whole)j - (whole_vec){0};
        store(at, choose_whole(key, seen, load(at), hidden));
    }
    if (!c->mask.at && !c->query_segments) return;
    for (int i = v * LANES; i < (v + 1) * LANES; i++) {
        const int64_t t = block->first + i, n = least(high, block->seen[i]);
        if (c->mask.at)
            for (int64_t j = low; j < n; j++)
                s[(j - low) * QUERIES + i] += row_of(c->mask, block->b, block->h, t)[j];
        if (c->query_segments)
            for (int64_t j = low; j < n; j++)
                if (c->query_segments[block->b * c->T + t] != c->key_segments[block->b * c->S + j])
                    s[(j - low) * QUERIES + i] = -INFINITY;
    }
}

/* Rows of x, scaled, into y of row length `width`. */
static void copy_rows(real *y, int64_t width, heads x, int64_t b, int64_t h, int64_t first,
                      int64_t rows, int64_t D, real scale) {
    for (int64_t t = 0; t < rows; t++) {
        const real *from = row_of(x, b, h, first + t);
        for (int64_t d = 0; d < D; d++) y[t * width + d] = scale * from[d];
    }
}

/* Keys or values of a group: those that somebody sees, and zeros up to a multiple of ROWS. */
static void copy_keys(real *y, int64_t width, heads x, int64_t b, int64_t g, int64_t used,
                      int64_t D) {
    copy_rows(y, width, x, b, g, 0, used, D, 1);
    memset(y + used * width, 0, (round_up(used, ROWS) - used) * width * sizeof(real));
}

/* columns[d][i] = rows[i][d], also for the zeros behind row number D. */
static void turn(real *columns, const real *rows, int64_t width) {
    for (int64_t d = 0; d < width; d += LANES)
        for (int i = 0; i < QUERIES; i += LANES)
            turn_square(columns + d * QUERIES + i, QUERIES, rows + i * width + d, width);
}

static int64_t used_keys(const call *c, int64_t b) {
    int64_t used = 0;
    for (int64_t t = 0; t < c->T; t++) used = most(used, c->seen[b * c->T + t]);
    return used;
}

/* `count` reals, zeros, in *memory; *memory is to be freed. */
static real *zeros(int64_t count, void **memory) {
    *memory = calloc(count * sizeof(real) + ALIGNED, 1);
    return *memory ? aligned(*memory) : NULL;
}

/* exponential.h for every lane: vector instructions, and no loop, are left of it. */
INLINE vec exponentials(vec x) {
    real each[LANES];
    store(each, x);
    #pragma omp simd
    for (int i = 0; i < LANES; i++) each[i] = exponential(each[i]);
    return load(each);
}

/* ---- forward ---------------------------------------------------------------------------------*/

/* From scores to exp(s - m), in place, for the queries of vector v: returns their sums in total and
 * their m in top. */
static void weights(real *s, const call *c, const query_block *block, int v, real *top,
                    real *total) {
    const int64_t high = round_up(block->reach[v], ROWS);
    const vec lowest = all(-INFINITY);
    hide(s, c, block, v, 0, high);
    vec m = lowest, sum = {0};
    for (int64_t j = 0; j < high; j++) {
        const vec x = load(s + j * QUERIES + v * LANES);
        m = choose(m, x, x, m);
    }
    m = choose(lowest, m, m, (vec){0}); /* a query that sees nothing: -inf - 0 is no NaN */
    for (int64_t j = 0; j < high; j++) {
        real *at = s + j * QUERIES + v * LANES;
        const vec e = exponentials(load(at) - m);
        store(at, e);
        sum += e;
    }
    store(top + v * LANES, m);
    store(total + v * LANES, sum);
}

static bool forward(heads y, real *lse, heads q, heads k, heads v, const call *c, int64_t low,
                    int64_t high) {
    const int64_t D = c->D, width = round_up(D, LANES), length = round_up(c->S, ROWS);
    void *memory;
    real *keys = zeros(2 * length * width + QUERIES * (3 * width + length), &memory);
    if (!keys) return false;
    real *values = keys + length * width, *rows = values + length * width;
    real *sums = rows + QUERIES * width, *columns = sums + QUERIES * width;
    real *s = columns + QUERIES * width, top[QUERIES], total[QUERIES];
    for (int64_t i = low, before = -1; i < high; i++) {
        const int64_t b = i / c->H, h = i % c->H, g = h / (c->H / c->G);
        if (b * c->G + g != before) {
            copy_keys(keys, width, k, b, g, used_keys(c, b), D);
            copy_keys(values, width, v, b, g, used_keys(c, b), D);
        }
        before = b * c->G + g;
        for (int64_t first = 0; first < c->T; first += QUERIES) {
            const query_block block = block_of(c, b, h, first);
            copy_rows(rows, width, q, b, h, first, block.rows, D, c->scale);
            turn(columns, rows, width);
            scores(s, keys, width, columns, D, &block, 0, block.n);
            for (int n = 0; n < block.vectors; n++) weights(s, c, &block, n, top, total);
            for (int r = 0; r < block.rows; r += ROWS)
                strip(sums + r * width, width, s + r, 1, QUERIES, values, width, width / LANES,
                      limit(&block, r), false);                                          /* (1) */
            for (int r = 0; r < block.rows; r++) {
                const real share = 1 / (total[r] == 0 ? 1 : total[r]);
                real *to = row_of(y, b, h, first + r);
                for (int64_t d = 0; d < D; d++) to[d] = share * sums[r * width + d];
                lse[i * c->T + first + r] = top[r] + R(log)(total[r]);
            }
        }
    }
    free(memory);
    return true;
}

/* ---- backward --------------------------------------------------------------------------------*/

/* p in place of s and ds in place of dp, for the queries of vector v and the keys from low on. */
static void slopes(real *s, real *dp, const call *c, const query_block *block, int v,
                   const real *lse, const real *delta, int64_t low) {
    const int64_t high = least(low + KEYS, round_up(block->reach[v], ROWS));
    const vec shift = load(lse + v * LANES), mean = load(delta + v * LANES);
    hide(s, c, block, v, low, high);
    for (int64_t j = low; j < high; j++) {
        const int64_t at = (j - low) * QUERIES + v * LANES;
        const vec p = exponentials(load(s + at) - shift);
        store(s + at, p);
        store(dp + at, p * (load(dp + at) - mean));                           /* (2) */
    }
}

/* Where a thread keeps what it works on. */
typedef struct {
    int64_t width;
    real *keys, *values, *sum_k, *sum_v;     /* of a group, (S, width)                            */
    real *q, *dy, *dq;                       /* of a block, (QUERIES, width); q is scaled         */
    real *q_columns, *dy_columns;            /* (width, QUERIES)                                  */
    real *s, *dp;                            /* (KEYS, QUERIES)                                   */
    real lse[QUERIES], delta[QUERIES];
} desk;

/* What a block of queries adds to the gradients of KEYS keys from low on, and these to theirs. */
static void pull(desk *w, const call *c, const query_block *block, int64_t low) {
    const int64_t width = w->width, vectors = width / LANES;
    const int64_t high = least(low + KEYS, block->n);
    scores(w->s, w->keys, width, w->q_columns, c->D, block, low, high);
    scores(w->dp, w->values, width, w->dy_columns, c->D, block, low, high);
    for (int v = 0; v < block->vectors; v++)
        slopes(w->s, w->dp, c, block, v, w->lse, w->delta, low);
    for (int64_t j = low; j < high; j += ROWS) {
        const int from = first_vector(block, j) * LANES;
        const int64_t at = (j - low) * QUERIES + from;
        strip(w->sum_v + j * width, width, w->s + at, QUERIES, 1, w->dy + from * width, width,
              vectors, block->rows - from, true);                                   /* (2), (4) */
        strip(w->sum_k + j * width, width, w->dp + at, QUERIES, 1, w->q + from * width, width,
              vectors, block->rows - from, true);                                   /* (3), (4) */
    }
    for (int i = 0; i < block->rows; i += ROWS) {
        const int64_t n = least(KEYS, limit(block, i) - low);
        if (n > 0)
            strip(w->dq + i * width, width, w->dp + i, 1, QUERIES, w->keys + low * width, width,
                  vectors, n, low > 0);                                                  /* (3) */
    }
}

static void pull_block(desk *w, const call *c, heads dq, heads dy, heads y, heads q,
                       const real *lse, int64_t b, int64_t h, int64_t first) {
    const query_block block = block_of(c, b, h, first);
    const int64_t D = c->D, width = w->width;
    copy_rows(w->q, width, q, b, h, first, block.rows, D, c->scale);
    copy_rows(w->dy, width, dy, b, h, first, block.rows, D, 1);
    turn(w->q_columns, w->q, width);
    turn(w->dy_columns, w->dy, width);
    for (int r = 0; r < QUERIES; r++) w->lse[r] = w->delta[r] = 0;
    for (int r = 0; r < block.rows; r++) {
        const real l = lse[(b * c->H + h) * c->T + first + r], *of = row_of(y, b, h, first + r);
        w->lse[r] = l == -INFINITY ? 0 : l;
        for (int64_t d = 0; d < D; d++) w->delta[r] += w->dy[r * width + d] * of[d];
    }
    memset(w->dq, 0, QUERIES * width * sizeof(real));
    for (int64_t low = 0; low < block.n; low += KEYS)
        pull(w, c, &block, low);
    for (int r = 0; r < block.rows; r++)
        for (int64_t d = 0; d < D; d++)
            row_of(dq, b, h, first + r)[d] = c->scale * w->dq[r * width + d];
}

static bool backward(heads dq, heads dk, heads dv, heads dy, heads y, heads q, heads k, heads v,
                     const real *lse, const call *c, int64_t low, int64_t high) {
    const int64_t D = c->D, width = round_up(D, LANES), length = round_up(c->S, ROWS);
    const int64_t group = length * width, rows = QUERIES * width;
    void *memory;
    real *at = zeros(4 * group + 5 * rows + 2 * QUERIES * KEYS, &memory);
    if (!at) return false;
    desk w = {.width = width, .keys = at, .values = at + group, .sum_k = at + 2 * group,
                    .sum_v = at + 3 * group, .q = at + 4 * group};
    w.dy = w.q + rows, w.dq = w.dy + rows, w.q_columns = w.dq + rows;
    w.dy_columns = w.q_columns + rows, w.s = w.dy_columns + rows;
    w.dp = w.s + QUERIES * KEYS;
    for (int64_t i = low; i < high; i++) {
        const int64_t b = i / c->G, g = i % c->G, heads_of_group = c->H / c->G;
        copy_keys(w.keys, width, k, b, g, used_keys(c, b), D);
        copy_keys(w.values, width, v, b, g, used_keys(c, b), D);
        memset(w.sum_k, 0, 2 * group * sizeof(real));
        for (int64_t h = g * heads_of_group; h < (g + 1) * heads_of_group; h++)
            for (int64_t first = 0; first < c->T; first += QUERIES)
                pull_block(&w, c, dq, dy, y, q, lse, b, h, first);
        for (int64_t j = 0; j < c->S; j++)
            for (int64_t d = 0; d < D; d++) {
                row_of(dk, b, g, j)[d] = w.sum_k[j * width + d];
                row_of(dv, b, g, j)[d] = w.sum_v[j * width + d];
            }
    }
    free(memory);
    return true;
}

/* ---- what Python calls ------------------------------------------------------------------------*/

/* NaN everywhere: what an output becomes where there is no memory to compute it. */
static void give_up(heads x, int64_t b, int64_t h, const call *c, int64_t length) {
    for (int64_t t = 0; t < length; t++)
        for (int64_t d = 0; d < c->D; d++) row_of(x, b, h, t)[d] = NAN;
}

void attention_forward(heads y, real *lse, heads q, heads k, heads v, const int64_t *seen,
                       const int64_t *query_segments, const int64_t *key_segments, heads mask,
                       real scale, int64_t H, int64_t G, int64_t T, int64_t S, int64_t D,
                       int64_t low, int64_t high) {
    const call c = {H, G, T, S, D, seen, query_segments, key_segments, mask, scale};
    if (!forward(y, lse, q, k, v, &c, low, high))
        for (int64_t i = low; i < high; i++) give_up(y, i / H, i % H, &c, T);
}

void attention_backward(heads dq, heads dk, heads dv, heads dy, heads y, heads q, heads k, heads v,
                        const real *lse, const int64_t *seen, const int64_t *query_segments,
                        const int64_t *key_segments, heads mask, real scale, int64_t H, int64_t G,
                        int64_t T, int64_t S, int64_t D, int64_t low, int64_t high) {
    const call c = {H, G, T, S, D, seen, query_segments, key_segments, mask, scale};
    if (!backward(dq, dk, dv, dy, y, q, k, v, lse, &c, low, high))
        for (int64_t i = low; i < high; i++) {
            give_up(dk, i / G, i % G, &c, S);
            give_up(dv, i / G, i % G, &c, S);
            for (int64_t h = 0; h < H / G; h++) give_up(dq, i / G, i % G * (H / G) + h, &c, T);
        }
}
