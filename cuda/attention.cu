// Attention: tinygrad_edu/ops/attention_kernels.py explains it and numbers the equations; which key
// a query sees, and how scores become weights, is in tinygrad_edu/ops/attention_weights.py.
#include "common.cuh"

// The sentences that the fast kernels paraphrase: a thread answers a query, arrays have no gaps.
//
// Why they are slow: each thread reads all keys and values it sees for itself, two numbers of
// memory for one multiply-add, and neighbouring threads read the same ones at different moments.
// Forward, every score is computed twice, since its row is nowhere complete. Backward, all queries
// add to the same dk and dv: by atomics, one after the other, in an order that no two runs share.

__device__ real dot(const real *a, const real *b, int D) {
    real total = 0;
    for (int d = 0; d < D; d++) total += a[d] * b[d];
    return total;
}

// Expects: a thread for each of the B H T queries, in any number of blocks.
extern "C" __global__ void attention_forward_naive(
    real *y, real *lse, const real *q, const real *k, const real *v, const long long *seen,
    real scale, int B, int H, int G, int T, int S, int D) {
    const long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= (long long)B * H * T) return;
    const int t = n % T, h = n / T % H, b = n / T / H, end = seen[b * T + t];
    const long long keys = ((long long)b * G + h / (H / G)) * S * D;
    y += n * D, q += n * D, k += keys, v += keys;
    real top = -infinity(), total = 0;
    for (int s = 0; s < end; s++) top = max(top, scale * dot(q, k + s * D, D));          // (1)
    for (int d = 0; d < D; d++) y[d] = 0;
    for (int s = 0; s < end; s++) {
        const real p = exp(scale * dot(q, k + s * D, D) - top);
        total += p;
        for (int d = 0; d < D; d++) y[d] += p * v[s * D + d];                            // (1)
    }
    for (int d = 0; d < D; d++) y[d] = total == 0 ? 0 : y[d] / total;
    lse[n] = end ? top + log(total) : -infinity();
}

// Expects the same threads, and zeros in dk and dv.
extern "C" __global__ void attention_backward_naive(
    real *dq, real *dk, real *dv, const real *dy, const real *y, const real *q, const real *k,
    const real *v, const real *lse, const long long *seen, real scale, int B, int H, int G, int T,
    int S, int D) {
    const long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= (long long)B * H * T) return;
    const int t = n % T, h = n / T % H, b = n / T / H, end = seen[b * T + t];
    const long long keys = ((long long)b * G + h / (H / G)) * S * D;
    dq += n * D, dy += n * D, y += n * D, q += n * D;
    dk += keys, dv += keys, k += keys, v += keys;
    const real mean = dot(dy, y, D);
    for (int d = 0; d < D; d++) dq[d] = 0;
    for (int s = 0; s < end; s++) {
        const real p = exp(scale * dot(q, k + s * D, D) - lse[n]);
        const real ds = scale * p * (dot(dy, v + s * D, D) - mean);                      // (2)
        for (int d = 0; d < D; d++) {
            dq[d] += ds * k[s * D + d];                                                  // (3)
            atomicAdd(&dk[s * D + d], ds * q[d]);                                        // (3)
            atomicAdd(&dv[s * D + d], p * dy[d]);                                        // (2)
        }
    }
}

// Step 1: a block answers a tile of queries together, and keys come in tiles. What lies in shared
// memory is read from memory once for the whole tile.
//
// Step 2: products in registers. 128 threads stand as 8 by 16 in front of a tile of scores; each
// computes ROWS by COLUMNS of them, so that 12 numbers from shared memory make 32 multiply-adds.
//
// Step 3: no row of scores is ever complete. Each row keeps the largest score so far and the sum of
// exponentials so far; when a larger one comes, what was added up is scaled down. The 16 threads of
// a row are half a warp: they agree on the maximum by four shuffles, without a barrier.
//
// Step 4: backward is done twice, by tiles of queries for dq and by tiles of keys for dk and dv.
// Two products of seven are computed a second time, and nobody adds to another's sum: no atomics,
// and the same bits in every run.

// The width of a head, rounded up to a multiple of 16; columns from D on are zeros.
#ifndef WIDTH
#define WIDTH 64
#endif

// A thread works on ROWS rows and COLUMNS columns of scores, and on EACH of the WIDTH columns of a
// result. Twice the bytes a number, half the numbers: float and double take the same registers.
constexpr int THREADS = 128, ACROSS = 16, DOWN = THREADS / ACROSS;
constexpr int WIDE = 16 / sizeof(real);                  // numbers in the widest load, 16 bytes
constexpr int ROWS = 2 * WIDE, COLUMNS = WIDTH <= 64 ? WIDE : WIDE / 2, EACH = WIDTH / ACROSS;
constexpr int TILE = DOWN * ROWS, STEP = ACROSS * COLUMNS;
// All tiles lie columns first, x[d][row]: then the rows of a thread are neighbours, and one load
// takes WIDE of them. PAD turns the banks of shared memory a little from one d to the next.
constexpr int PAD = WIDE, TILE_PITCH = TILE + PAD, STEP_PITCH = STEP + PAD;

// Where the rows of an array (B, H, T, D) lie: a view with gaps, the D numbers of a row neighbours.
struct Heads {
    long long batch, head, position;
    __device__ long long at(int b, int h, int t) const {
        return b * batch + h * head + t * position;
    }
};

// What may hide a key from a query, for one row of the batch and one head.
struct Sight {
    const long long *seen, *query_segments, *key_segments;
    const real *mask;
    long long mask_position, mask_key;
    real scale;
    int T;

    // The numbers of keys that n queries see, at most. Every warp computes it by itself: no
    // barrier.
    __device__ int reach(int first, int n) const {
        int most = 0;
        for (int t = first + threadIdx.x % 32; t < min(first + n, T); t += 32)
            most = max(most, (int)seen[t]);
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2)
            most = max(most, __shfl_xor_sync(0xffffffffu, most, distance));
        return most;
    }

    // The number of keys that query t sees, and that is none if it does not exist.
    __device__ int limit(int t) const { return t < T ? (int)seen[t] : 0; }

    // The score of query t and key s, from their product: (1) and (5) of the weights.
    __device__ real score(real product, int t, int s, int limit) const {
        if (s >= limit) return -infinity();
        if (query_segments && query_segments[t] != key_segments[s]) return -infinity();
        const real z = product * scale;
        return mask ? z + mask[t * mask_position + s * mask_key] : z;
    }
};

__device__ Sight sight_of(int b, int h, const long long *seen, const long long *query_segments,
                          const long long *key_segments, const real *mask, Heads masks,
                          long long mask_key, real scale, int T, int S) {
    return {seen + (long long)b * T,
            query_segments ? query_segments + (long long)b * T : query_segments,
            query_segments ? key_segments + (long long)b * S : key_segments,
            mask ? mask + masks.at(b, h, 0) : mask, masks.position, mask_key, scale, T};
}

// N rows from `first` on into a tile, columns first; zeros from row `end` on, which is not read,
// for what nobody sees may be NaN. A warp takes 8 neighbouring numbers of 4 rows: memory comes in
// 32 bytes, so that wastes nothing, and with PAD = 4 its 32 stores go to 32 banks.
template <int N>
__device__ void load(real *tile, const real *rows, long long position, int first, int end, int D) {
    for (int r = threadIdx.x / 8; r < N; r += THREADS / 8)
#pragma unroll
        for (int d = threadIdx.x % 8; d < WIDTH; d += 8)
            tile[d * (N + PAD) + r] =
                first + r < end && d < D ? rows[(first + r) * position + d] : 0;
}

// s[r][c] = sum over d of a[d][r] b[d][c], a being a tile of TILE rows and b one of STEP.
__device__ __forceinline__ void scores(real (&s)[ROWS][COLUMNS], const real *a, const real *b) {
    a += threadIdx.x / ACROSS * ROWS;
    b += threadIdx.x % ACROSS * COLUMNS;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) s[r][c] = 0;
#pragma unroll 4
    for (int d = 0; d < WIDTH; d++) {
        real x[ROWS], y[COLUMNS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) x[r] = a[d * TILE_PITCH + r];
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) y[c] = b[d * STEP_PITCH + c];
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) s[r][c] += x[r] * y[c];
    }
}

// Where row r of column j of the weights lies, r a multiple of WIDE. Columns are TILE numbers
// apart, and so all in the same banks: 8 threads that write 16 bytes each of their columns would
// wait for one another. So the pieces of 16 bytes of a column change places, another way for each
// thread.
__device__ __forceinline__ int piece(int j, int r) {
    return j * TILE + (r / WIDE ^ j / COLUMNS % 8) * WIDE;
}

// Leave s in shared memory for `gather`. The half warp that reads it wrote it: no block barrier.
__device__ __forceinline__ void put(real *p, const real (&s)[ROWS][COLUMNS]) {
    const int row = threadIdx.x / ACROSS * ROWS, column = threadIdx.x % ACROSS * COLUMNS;
    __syncwarp();                                        // those who still read what lies there
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            p[piece(column + c, row + r / WIDE * WIDE) + r % WIDE] = s[r][c];
    __syncwarp();
}

// o[r][c] += sum over j of s[r][column j] b[column c][j]. A thread's columns are ACROSS apart, so
// that neighbours read neighbouring rows of b, WIDE numbers at a time.
__device__ __forceinline__ void gather(real (&o)[ROWS][EACH], const real *p, const real *b) {
    const int row = threadIdx.x / ACROSS * ROWS;
    b += threadIdx.x % ACROSS * STEP_PITCH;
#pragma unroll 1
    for (int j = 0; j < STEP; j += WIDE) {
        real y[EACH][WIDE];
#pragma unroll
        for (int c = 0; c < EACH; c++)
#pragma unroll
            for (int e = 0; e < WIDE; e++) y[c][e] = b[c * ACROSS * STEP_PITCH + j + e];
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            real x[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                x[r] = p[piece(j + e, row + r / WIDE * WIDE) + r % WIDE];
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int c = 0; c < EACH; c++) o[r][c] += x[r] * y[c][e];
        }
    }
}

// Over the 16 threads of a row; all of them get the result.
template <class Op> __device__ __forceinline__ real row_reduce(real value) {
#pragma unroll
    for (int distance = ACROSS / 2; distance > 0; distance /= 2)
        value = Op::join(value, __shfl_xor_sync(0xffffffffu, value, distance));
    return value;
}

// The rows of a result, as far as there are so many.
__device__ __forceinline__ void store(real *y, long long position, const real (&o)[ROWS][EACH],
                                      int first, int end, int D) {
    first += threadIdx.x / ACROSS * ROWS;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < EACH; c++) {
            const int d = threadIdx.x % ACROSS + c * ACROSS;
            if (first + r < end && d < D) y[(first + r) * position + d] = o[r][c];
        }
}

// A block for each tile and head. In causal attention the last queries see most keys, and the first
// keys are seen by most queries: they start first, so that no long block is left over when all
// others are done.
struct Place {
    int b, h, first;
    __device__ Place(int H, int n, bool last_first) {
        const int tiles = ceil_div(n, TILE), heads = gridDim.x / tiles, turn = blockIdx.x / heads;
        b = blockIdx.x % heads / H;
        h = blockIdx.x % heads % H;
        first = (last_first ? tiles - 1 - turn : turn) * TILE;
    }
};

// Shared memory: WIDTH * (TILE_PITCH + 2 * STEP_PITCH) + STEP * TILE numbers.
// expect: regs<=168 spills=0 sass=LDS.128
extern "C" __global__ void __launch_bounds__(128) attention_forward(
    real *y, real *lse, const real *q, const real *k, const real *v, const long long *seen,
    const long long *query_segments, const long long *key_segments, const real *mask, real scale,
    long long y_batch, long long y_head, long long y_position, long long q_batch, long long q_head,
    long long q_position, long long k_batch, long long k_head, long long k_position,
    long long mask_batch, long long mask_head, long long mask_position, long long mask_key, int H,
    int G, int T, int S, int D) {
    extern __shared__ __align__(16) real shared[];
    real *queries = shared, *keys = queries + WIDTH * TILE_PITCH;
    real *values = keys + WIDTH * STEP_PITCH, *p = values + WIDTH * STEP_PITCH;
    const Heads ys{y_batch, y_head, y_position}, qs{q_batch, q_head, q_position};
    const Heads ks{k_batch, k_head, k_position}, masks{mask_batch, mask_head, mask_position};
    const Place at(H, T, true);
    const Sight sight = sight_of(at.b, at.h, seen, query_segments, key_segments, mask, masks,
                                 mask_key, scale, T, S);
    q += qs.at(at.b, at.h, 0);
    k += ks.at(at.b, at.h / (H / G), 0);
    v += ks.at(at.b, at.h / (H / G), 0);
    const int t = at.first + threadIdx.x / ACROSS * ROWS, column = threadIdx.x % ACROSS * COLUMNS;
    const int end = sight.reach(at.first, TILE);
    load<TILE>(queries, q, q_position, at.first, T, D);

    real o[ROWS][EACH], top[ROWS], total[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        top[r] = -infinity(), total[r] = 0;
#pragma unroll
        for (int c = 0; c < EACH; c++) o[r][c] = 0;
    }
#pragma unroll 1
    for (int first = 0; first < end; first += STEP) {
        __syncthreads();                                 // those who still read the last keys
        load<STEP>(keys, k, k_position, first, end, D);
        load<STEP>(values, v, k_position, first, end, D);
        __syncthreads();
        real s[ROWS][COLUMNS];
        scores(s, queries, keys);                                                        // (1)
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int limit = sight.limit(t + r);
            real larger = top[r];
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                s[r][c] = sight.score(s[r][c], t + r, first + column + c, limit);
                larger = max(larger, s[r][c]);
            }
            larger = row_reduce<Max>(larger);
            const real shift = larger == -infinity() ? 0 : larger;   // -inf - -inf is NaN
            const real shrink = exp(top[r] - shift);
            top[r] = larger;
            total[r] *= shrink;                          // of this thread's columns, until the end
#pragma unroll
            for (int c = 0; c < EACH; c++) o[r][c] *= shrink;
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                s[r][c] = exp(s[r][c] - shift);
                total[r] += s[r][c];
            }
        }
        put(p, s);
        gather(o, p, values);                                                            // (1)
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        total[r] = row_reduce<Sum>(total[r]);
        const real share = total[r] == 0 ? 0 : 1 / total[r];
#pragma unroll
        for (int c = 0; c < EACH; c++) o[r][c] *= share;
        if (column == 0 && t + r < T)
            lse[((long long)at.b * H + at.h) * T + t + r] =
                total[r] == 0 ? -infinity() : top[r] + log(total[r]);
    }
    store(y + ys.at(at.b, at.h, 0), y_position, o, at.first, T, D);
}

// The mean of dp with the weights p, for each query: it is the product of dy and y, so that no row
// of p is needed. A warp takes a query.
// expect: regs<=40 spills=0
extern "C" __global__ void attention_backward_means(
    real *means, const real *dy, const real *y, long long y_batch, long long y_head,
    long long y_position, int B, int H, int T, int D) {
    const long long n = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (n >= (long long)B * H * T) return;               // a whole warp or none of it
    const Heads ys{y_batch, y_head, y_position};
    const long long row = ys.at(n / T / H, n / T % H, n % T);
    real total = 0;
    for (int d = threadIdx.x % 32; d < D; d += 32) total += dy[row + d] * y[row + d];
    total = warp_reduce<Sum>(total);
    if (threadIdx.x % 32 == 0) means[n] = total;
}

// Shared memory: 2 * WIDTH * (TILE_PITCH + STEP_PITCH) + STEP * TILE numbers.
// expect: regs<=216 spills=0 sass=LDS.128
extern "C" __global__ void __launch_bounds__(128, 2) attention_backward_queries(
    real *dq, const real *dy, const real *q, const real *k, const real *v, const real *lse,
    const real *means, const long long *seen, const long long *query_segments,
    const long long *key_segments, const real *mask, real scale, long long y_batch,
    long long y_head, long long y_position, long long q_batch, long long q_head,
    long long q_position, long long k_batch, long long k_head, long long k_position,
    long long mask_batch, long long mask_head, long long mask_position, long long mask_key, int H,
    int G, int T, int S, int D) {
    extern __shared__ __align__(16) real shared[];
    real *queries = shared, *gradients = queries + WIDTH * TILE_PITCH;
    real *keys = gradients + WIDTH * TILE_PITCH, *values = keys + WIDTH * STEP_PITCH;
    real *p = values + WIDTH * STEP_PITCH;
    const Heads ys{y_batch, y_head, y_position}, qs{q_batch, q_head, q_position};
    const Heads ks{k_batch, k_head, k_position}, masks{mask_batch, mask_head, mask_position};
    const Place at(H, T, true);
    const Sight sight = sight_of(at.b, at.h, seen, query_segments, key_segments, mask, masks,
                                 mask_key, scale, T, S);
    const long long row = ((long long)at.b * H + at.h) * T;
    k += ks.at(at.b, at.h / (H / G), 0);
    v += ks.at(at.b, at.h / (H / G), 0);
    const int t = at.first + threadIdx.x / ACROSS * ROWS, column = threadIdx.x % ACROSS * COLUMNS;
    const int end = sight.reach(at.first, TILE);
    load<TILE>(queries, q + qs.at(at.b, at.h, 0), q_position, at.first, T, D);
    load<TILE>(gradients, dy + ys.at(at.b, at.h, 0), y_position, at.first, T, D);

    real o[ROWS][EACH];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < EACH; c++) o[r][c] = 0;
#pragma unroll 1
    for (int first = 0; first < end; first += STEP) {
        __syncthreads();                                 // those who still read the last keys
        load<STEP>(keys, k, k_position, first, end, D);
        load<STEP>(values, v, k_position, first, end, D);
        __syncthreads();
        real s[ROWS][COLUMNS], ds[ROWS][COLUMNS];
        scores(s, queries, keys);                                                        // (1)
        scores(ds, gradients, values);                                                   // (2)
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int limit = sight.limit(t + r);
            const bool there = t + r < T && lse[row + t + r] != -infinity();
            const real shift = there ? lse[row + t + r] : 0;
            const real mean = there ? means[row + t + r] : 0;
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                const real z = sight.score(s[r][c], t + r, first + column + c, limit);
                ds[r][c] = scale * exp(z - shift) * (ds[r][c] - mean);                   // (2)
            }
        }
        put(p, ds);
        gather(o, p, keys);                                                              // (3)
    }
    store(dq + qs.at(at.b, at.h, 0), q_position, o, at.first, T, D);
}

// The same with the roles exchanged: a block has a tile of keys, and the queries of all heads that
// share them come by. Row r of its tile of scores is a key, column c a query.
// expect: regs<=255 spills=0 sass=LDS.128
extern "C" __global__ void __launch_bounds__(128, 2) attention_backward_keys(
    real *dk, real *dv, const real *dy, const real *q, const real *k, const real *v,
    const real *lse, const real *means, const long long *seen, const long long *query_segments,
    const long long *key_segments, const real *mask, real scale, long long y_batch,
    long long y_head, long long y_position, long long q_batch, long long q_head,
    long long q_position, long long k_batch, long long k_head, long long k_position,
    long long mask_batch, long long mask_head, long long mask_position, long long mask_key, int H,
    int G, int T, int S, int D) {
    extern __shared__ __align__(16) real shared[];
    real *keys = shared, *values = keys + WIDTH * TILE_PITCH;
    real *queries = values + WIDTH * TILE_PITCH, *gradients = queries + WIDTH * STEP_PITCH;
    real *p = gradients + WIDTH * STEP_PITCH;
    const Heads ys{y_batch, y_head, y_position}, qs{q_batch, q_head, q_position};
    const Heads ks{k_batch, k_head, k_position}, masks{mask_batch, mask_head, mask_position};
    const Place at(G, S, false);
    const long long place = ks.at(at.b, at.h, 0);
    const int key = at.first + threadIdx.x / ACROSS * ROWS;
    const int column = threadIdx.x % ACROSS * COLUMNS;
    Sight sight = sight_of(at.b, 0, seen, query_segments, key_segments, mask, masks, mask_key,
                           scale, T, S);
    const int end = sight.reach(0, T);                   // no query of the row sees more than that
    load<TILE>(keys, k + place, k_position, at.first, end, D);
    load<TILE>(values, v + place, k_position, at.first, end, D);

    real sum_k[ROWS][EACH], sum_v[ROWS][EACH];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < EACH; c++) sum_k[r][c] = sum_v[r][c] = 0;
#pragma unroll 1
    for (int first = 0; first < T; first += STEP) {
        if (sight.reach(first, STEP) <= at.first) continue;          // they see none of the keys
#pragma unroll 1
        for (int h = at.h * (H / G); h < (at.h + 1) * (H / G); h++) {
            const long long row = ((long long)at.b * H + h) * T;
            sight.mask = mask ? mask + masks.at(at.b, h, 0) : mask;
            __syncthreads();                             // those who still read the last queries
            load<STEP>(queries, q + qs.at(at.b, h, 0), q_position, first, T, D);
            load<STEP>(gradients, dy + ys.at(at.b, h, 0), y_position, first, T, D);
            __syncthreads();
            real s[ROWS][COLUMNS], ds[ROWS][COLUMNS];
            scores(s, keys, queries);                                                    // (1)
            scores(ds, values, gradients);                                               // (2)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                const int t = first + column + c, limit = sight.limit(t);
                const bool there = t < T && lse[row + t] != -infinity();
                const real shift = there ? lse[row + t] : 0, mean = there ? means[row + t] : 0;
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    s[r][c] = exp(sight.score(s[r][c], t, key + r, limit) - shift);
                    ds[r][c] = scale * s[r][c] * (ds[r][c] - mean);                      // (2)
                }
            }
            put(p, s);
            gather(sum_v, p, gradients);                                                 // (2)
            put(p, ds);
            gather(sum_k, p, queries);                                                   // (3)
        }
    }
    store(dk + place, k_position, sum_k, at.first, S, D);
    store(dv + place, k_position, sum_v, at.first, S, D);
}
