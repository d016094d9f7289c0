// Right kernels in many styles: check mode must find nothing, in any order of the threads.
// tests/gpu/test_right_kernels.py launches them and knows what they compute.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "tensorcore.cuh"

extern "C" __global__ void row_sums(float *sums, const float *x, int C) {
    const float *row = x + (size_t)blockIdx.y * C;
    float v = 0;
    const int first = blockIdx.x * blockDim.x + threadIdx.x;
    for (int c = first; c < C; c += gridDim.x * blockDim.x) v += row[c];
    for (int d = 16; d > 0; d >>= 1) v += __shfl_down_sync(0xffffffffu, v, d);
    if ((threadIdx.x & 31) == 0) atomicAdd(&sums[blockIdx.y], v);
}

extern "C" __global__ void persistent(float *y, const float *x, int *next, int n) {
    __shared__ int tile;
    while (true) {
        if (threadIdx.x == 0) tile = atomicAdd(next, 1);
        __syncthreads();
        const int mine = tile;
        __syncthreads();
        if (mine * 64 >= n) break;
        const int i = mine * 64 + threadIdx.x;
        if (i < n) y[i] = sqrtf(fabsf(x[i]));
    }
}

template <int N, class Value, class F>
__device__ __forceinline__ Value fold(const Value *p, Value start, F join) {
#pragma unroll
    for (int i = 0; i < N; i++) start = join(start, p[i]);
    return start;
}
template <class T, int W> struct Chunk { T items[W]; };
extern "C" __global__ void largest_of_four(float *y, const float *x) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const auto chunk = reinterpret_cast<const Chunk<float, 4> *>(x)[i];
    const float bias = 0.5f;
    auto larger = [=](float a, float b) { return fmaxf(a, b + bias - bias); };
    y[i] = fold<4>(chunk.items, -INFINITY, larger);
}

struct Best {
    float value;
    int where;
};
__device__ Best better(Best a, Best b) {
    return b.value > a.value || (b.value == a.value && b.where < a.where) ? b : a;
}
extern "C" __global__ void argmax(int *index, const float *x, int C) {
    __shared__ Best best[128];
    const int t = threadIdx.x;
    Best mine{-INFINITY, 0x7fffffff};
    for (int c = t; c < C; c += 128) mine = better(mine, Best{x[blockIdx.x * C + c], c});
    best[t] = mine;
    __syncthreads();
    for (int half = 64; half >= 1; half /= 2) {
        if (t < half) best[t] = better(best[t], best[t + half]);
        __syncthreads();
    }
    if (t == 0) index[blockIdx.x] = best[0].where;
}

// Warp 0 fetches the next tile while warp 1 adds the last one.
extern "C" __global__ void producer_consumer(float *y, const float *x, int rounds) {
    __shared__ float tile[2][32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float sum = 0;
    if (warp == 0) tile[0][lane] = x[lane];
    __syncthreads();
    for (int k = 0; k < rounds; k++) {
        if (warp == 0) {
            if (k + 1 < rounds) tile[(k + 1) & 1][lane] = x[(k + 1) * 32 + lane];
        } else {
            sum += tile[k & 1][31 - lane];
        }
        __syncthreads();
    }
    if (warp == 1) y[31 - lane] = sum;
}

__constant__ float weights[5] = {0.0625f, 0.25f, 0.375f, 0.25f, 0.0625f};
__device__ constexpr int offsets[5] = {-2, -1, 0, 1, 2};
extern "C" __global__ void gaussian(float *y, const float *__restrict__ x, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float sum = 0;
#pragma unroll
    for (int k = 0; k < 5; k++) sum += weights[k] * __ldg(&x[min(max(i + offsets[k], 0), n - 1)]);
    y[i] = sum;
}

// One piece of shared memory for two phases, a barrier between them.
extern "C" __global__ void two_phases(float *y, const float *x) {
    __shared__ union {
        float values[64];
        int ranks[64];
        unsigned char bytes[256];
    } scratch;
    const int t = threadIdx.x;
    scratch.values[t] = x[t];
    __syncthreads();
    int rank = 0;
    for (int i = 0; i < 64; i++)
        rank += scratch.values[i] < x[t] || (scratch.values[i] == x[t] && i < t);
    __syncthreads();
    scratch.ranks[rank] = t;
    __syncthreads();
    const int who = scratch.ranks[t];
    __syncthreads();
    for (int b = 0; b < 4; b++) scratch.bytes[4 * t + b] = (unsigned char)(who >> 8 * b);
    __syncthreads();
    y[t] = x[scratch.bytes[4 * t] + 256 * scratch.bytes[4 * t + 1]];
}

extern "C" __global__ void narrow(__half *y, __nv_bfloat16 *z, const __half *x,
                                  const __nv_bfloat16 *w) {
    const int t = threadIdx.x;
    const __half2 pair = reinterpret_cast<const __half2 *>(x)[t];
    const __half2 two = __float2half2_rn(2.0f), one = __floats2half2_rn(1.0f, -1.0f);
    reinterpret_cast<__half2 *>(y)[t] = __hfma2(pair, two, one);
    const float2 f = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162 *>(w)[t]);
    reinterpret_cast<__nv_bfloat162 *>(z)[t] = __floats2bfloat162_rn(f.x * 0.5f, f.y + 1.0f);
}

extern "C" __global__ void matmul(float *__restrict__ c, const float *__restrict__ a,
                                  const float *__restrict__ b, int n) {
    __shared__ float ta[2][16][16], tb[2][16][16];
    const int r = threadIdx.y, k = threadIdx.x;
    const int row = blockIdx.y * 16 + r, col = blockIdx.x * 16 + k;
    auto fetch = [&](int to, int from) {
        ta[to][r][k] = a[row * n + from + k];
        tb[to][r][k] = b[(from + r) * n + col];
    };
    float sum = 0;
    fetch(0, 0);
    for (int start = 0, now = 0; start < n; start += 16, now ^= 1) {
        __syncthreads();
        if (start + 16 < n) fetch(now ^ 1, start + 16);
        for (int i = 0; i < 16; i++) sum = fmaf(ta[now][r][i], tb[now][i][k], sum);
    }
    c[row * n + col] = sum;
}

extern "C" __global__ void histogram(int *bins, const float *x, int n) {
    __shared__ int mine[16];
    for (int b = threadIdx.x; b < 16; b += blockDim.x) mine[b] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        atomicAdd(&mine[min((int)(fabsf(x[i]) * 8.0f), 15)], 1);
    __syncthreads();
    for (int b = threadIdx.x; b < 16; b += blockDim.x)
        if (mine[b]) atomicAdd(&bins[b], mine[b]);
}

extern "C" __global__ void inclusive_scan(float *y, const float *x) {
    __shared__ float ends[8];
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5;
    float v = x[t];
    for (int d = 1; d < 32; d *= 2) {
        const float below = __shfl_up_sync(0xffffffffu, v, d);
        if (lane >= d) v += below;
    }
    if (lane == 31) ends[warp] = v;
    __syncthreads();
    if (warp == 0) {
        float end = lane < 8 ? ends[lane] : 0;
        for (int d = 1; d < 8; d *= 2) {
            const float below = __shfl_up_sync(0xffffffffu, end, d, 8);
            if ((lane & 7) >= d) end += below;
        }
        if (lane < 8) ends[lane] = end;
    }
    __syncthreads();
    y[t] = v + (warp ? ends[warp - 1] : 0);
}

extern "C" __global__ void bitonic(float *y, const float *x) {
    __shared__ float s[256];
    const int t = threadIdx.x;
    s[t] = x[t], s[t + 128] = x[t + 128];
    for (int size = 2; size <= 256; size *= 2)
        for (int step = size / 2; step > 0; step /= 2) {
            __syncthreads();
            const int low = 2 * t - (t & (step - 1)), high = low + step;
            const bool up = (low & size) == 0;
            const float a = s[low], b = s[high];
            if ((a > b) == up) s[low] = b, s[high] = a;
        }
    __syncthreads();
    y[t] = s[t], y[t + 128] = s[t + 128];
}

constexpr int TILE = 32, ROWS = 8;
extern "C" __global__ void transpose(float *y, const float *x, int height, int width) {
    __shared__ float tile[TILE][TILE + 1];
    int c = blockIdx.x * TILE + threadIdx.x, r = blockIdx.y * TILE + threadIdx.y;
    for (int j = 0; j < TILE; j += ROWS)
        if (r + j < height && c < width)
            tile[threadIdx.y + j][threadIdx.x] = x[(r + j) * width + c];
    __syncthreads();
    c = blockIdx.y * TILE + threadIdx.x, r = blockIdx.x * TILE + threadIdx.y;
    for (int j = 0; j < TILE; j += ROWS)
        if (c < height && r + j < width)
            y[(r + j) * height + c] = tile[threadIdx.x][threadIdx.y + j];
}

extern "C" __global__ void stencil(float *y, const float *x, int n) {
    constexpr int R = 3;
    extern __shared__ float s[];
    const int i = blockIdx.x * blockDim.x + threadIdx.x, at = threadIdx.x + R;
    s[at] = i < n ? x[i] : 0;
    if (threadIdx.x < R) {
        s[at - R] = i >= R && i - R < n ? x[i - R] : 0;
        s[at + blockDim.x] = i + (int)blockDim.x < n ? x[i + blockDim.x] : 0;
    }
    __syncthreads();
    if (i >= n) return;
    float sum = 0;
    for (int k = -R; k <= R; k++) sum += s[at + k];
    y[i] = sum / (2 * R + 1);
}

__device__ int next_slot(int *count) {
    const unsigned active = __activemask();
    const int lane = threadIdx.x & 31, leader = __ffs(active) - 1;
    int base = 0;
    if (lane == leader) base = atomicAdd(count, __popc(active));
    base = __shfl_sync(active, base, leader);
    return base + __popc(active & ((1u << lane) - 1));
}
extern "C" __global__ void keep_positive(float *y, int *count, const float *x, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && x[i] > 0) y[next_slot(count)] = x[i];
}

__device__ float total_of_block(float v) {
    __shared__ float parts[2];
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
    return parts[0] + parts[1];
}
extern "C" __global__ void sum_all(float *out, volatile float *parts, unsigned *counter,
                                   const float *x, int n) {
    __shared__ bool last;
    float v = 0;
    for (int i = blockIdx.x * 64 + threadIdx.x; i < n; i += 64 * gridDim.x) v += x[i];
    v = total_of_block(v);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = v;
        __threadfence();
        last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    v = 0;
    for (int b = threadIdx.x; b < gridDim.x; b += 64) v += parts[b];
    v = total_of_block(v);
    if (threadIdx.x == 0) *out = v;
}

extern "C" __global__ void largest(float *top, const float *x) {
    const float v = x[blockIdx.x * 64 + threadIdx.x];
    int *bits = reinterpret_cast<int *>(top);
    int seen = atomicAdd(bits, 0);
    while (v > __int_as_float(seen)) {
        const int before = atomicCAS(bits, seen, __float_as_int(v));
        if (before == seen) break;
        seen = before;
    }
}

extern "C" __global__ void pipelined(float *y, const float *x, int rounds) {
    __shared__ __align__(16) float tile[3][128];
    const int t = threadIdx.x;
    float4 sum = make_float4(0, 0, 0, 0);
    for (int k = 0; k < 2; k++) {
        copy_async(&tile[k][4 * t], x + 128 * k + 4 * t);
        copy_commit();
    }
    for (int k = 0; k < rounds; k++) {
        copy_wait<1>();
        __syncthreads();
        if (k + 2 < rounds) copy_async(&tile[(k + 2) % 3][4 * t], x + 128 * (k + 2) + 4 * t);
        copy_commit();
        const float4 v = *(const float4 *)&tile[k % 3][4 * (31 - t)];
        sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
    }
    *(float4 *)&y[4 * (31 - t)] = sum;
}

// Four groups of eight lanes, each with its own mask; then a vote of the whole block.
extern "C" __global__ void groups(float *y, int *found, const float *x) {
    const int lane = threadIdx.x, group = lane / 8;
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    const unsigned mask = 0xffu << 8 * group;
    float v = x[32 * row + lane];
    const int large = __syncthreads_count(v > 1.0f);
    if (group != 3)
        for (int d = 4; d > 0; d >>= 1) v += __shfl_xor_sync(mask, v, d, 8);
    else
        for (int d = 4; d > 0; d >>= 1) v = fmaxf(v, __shfl_xor_sync(mask, v, d, 8));
    if (lane % 8 == 0) y[row * 4 + group] = v;
    if (__syncthreads_or(v < -1e30f)) return;
    if (threadIdx.x == 0 && threadIdx.y == 0) found[blockIdx.x] = large;
}

__device__ __forceinline__ int at(int3 p, int3 n) { return (p.z * n.y + p.y) * n.x + p.x; }
__device__ void put(float (*box)[4][4], int3 p, float v) { box[p.z][p.y][p.x] = v; }
extern "C" __global__ void flip_z(float *y, const float *x, int nx, int ny, int nz) {
    __shared__ float box[2][4][4];
    const int3 n = make_int3(nx, ny, nz), t = make_int3(threadIdx.x, threadIdx.y, threadIdx.z);
    for (int z0 = blockIdx.z * blockDim.z; z0 < nz; z0 += gridDim.z * blockDim.z) {
        const int3 p = make_int3(blockIdx.x * blockDim.x + t.x, blockIdx.y * blockDim.y + t.y,
                                 z0 + t.z);
        put(box, t, x[at(p, n)]);
        __syncthreads();
        y[at(p, n)] = box[1 - t.z][3 - t.y][3 - t.x];
        __syncthreads();
    }
}

extern "C" __global__ void saxpy(float *__restrict__ y, const float *__restrict__ x, long long n) {
    const long long stride = (long long)gridDim.x * blockDim.x;
    const long long start = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    const float4 *x4 = reinterpret_cast<const float4 *>(x);
    float4 *y4 = reinterpret_cast<float4 *>(y);
    for (long long i = start; i < n / 4; i += stride) {
        float4 v = __ldg(&x4[i]), w;
        w.x = 3 * v.x, w.y = 3 * v.y, w.z = 3 * v.z, w.w = 3 * v.w;
        y4[i] = w;
    }
    for (long long i = n / 4 * 4 + start; i < n; i += stride) y[i] = 3 * x[i];
}

// Each warp has its own row: __syncwarp is barrier enough, and only some warps come this way.
extern "C" __global__ void per_warp(float *y, const float *x) {
    __shared__ float rows[4][32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (warp % 2 == 0) {
        float *row = rows[warp];
        row[lane] = x[threadIdx.x];
        __syncwarp();
        for (int d = 16; d > 0; d >>= 1) {
            if (lane < d) row[lane] += row[lane + d];
            __syncwarp();
        }
        y[threadIdx.x] = row[0];
    } else {
        y[threadIdx.x] = x[threadIdx.x] * __shfl_sync(0xffffffffu, x[threadIdx.x], 0);
    }
}

// One thread of each block takes a lock around two plain additions.
extern "C" __global__ void locked(volatile float *total, int *lock, const float *x) {
    float v = x[blockIdx.x * 32 + threadIdx.x];
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
    if (threadIdx.x == 0) {
        while (atomicCAS(lock, 0, 1) != 0) {}
        __threadfence();
        total[0] += v;
        total[1] += 1;
        __threadfence();
        atomicExch(lock, 0);
    }
}

// All threads may store the same flag; a barrier stands before it is read.
extern "C" __global__ void any_above(float *y, const float *x, float limit) {
    __shared__ int any;
    if (threadIdx.x == 0) any = 0;
    __syncthreads();
    if (x[threadIdx.x] > limit) atomicOr(&any, 1);
    __syncthreads();
    y[threadIdx.x] = any ? x[threadIdx.x] / limit : x[threadIdx.x];
}

// A 32 x 32 matrix is transposed in registers, with one shuffle a column.
extern "C" __global__ void register_transpose(float *y, const float *x) {
    const int lane = threadIdx.x;
    float column[32], out[32];
#pragma unroll
    for (int r = 0; r < 32; r++) column[r] = x[32 * r + lane];
    for (int d = 0; d < 32; d++) {
        const int other = (lane + d) & 31, mine = (lane + 32 - d) & 31;
        out[other] = __shfl_sync(0xffffffffu, column[mine], other);
    }
    for (int c = 0; c < 32; c++) y[32 * lane + c] = out[c];
}

// More masks than a warp has lanes, one after another.
extern "C" __global__ void many_masks(int *y) {
    const unsigned lane = threadIdx.x;
    int sum = 0;
    for (unsigned k = 1; k < 100; k++) {
        const unsigned mask = k * 0x9e3779b9u | 1u;
        if (mask >> lane & 1) sum += __shfl_sync(mask, (int)k, 0);
    }
    y[lane] = sum;
}

// Every thread fences what it wrote, a barrier gathers them, and one thread tells the other blocks.
extern "C" __global__ void fence_then_barrier(int *y, int *done, int *grid) {
    __shared__ bool last;
    const int t = threadIdx.x;
    grid[blockIdx.x * blockDim.x + t] = blockIdx.x + 10 * t;
    __threadfence();
    __syncthreads();
    if (t == 0) last = atomicAdd(done, 1) == (int)gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    int sum = 0;
    for (int b = 0; b < (int)gridDim.x; b++) sum += grid[b * blockDim.x + blockDim.x - 1 - t];
    y[t] = sum;
}

// Half of the warp reads lanes outside of its mask, and does not use what it gets.
extern "C" __global__ void sum_of_a_half(float *y, const float *x) {
    if (threadIdx.x >= 16) return;
    float v = x[threadIdx.x];
    for (int d = 8; d > 0; d /= 2) v += __shfl_down_sync(0x0000ffffu, v, d);
    if (threadIdx.x == 0) *y = v;
}

// Lanes that part in three ways, and count themselves in each.
extern "C" __global__ void ways(int *y) {
    const int lane = threadIdx.x;
    if (lane % 3 == 0) y[lane] = __popc(__activemask());
    else if (lane % 3 == 1) y[lane] = __popc(__activemask());
    else y[lane] = __popc(__activemask()) + (lane < 16 ? 100 * __popc(__activemask()) : 0);
    __syncwarp();
    y[lane] += 10000 * (__activemask() == 0xffffffffu);
}

// A struct of four floats lies at any multiple of four bytes, unlike a float4.
struct Four { float a, b, c, d; };
extern "C" __global__ void fours(float *y, const float *x) {
    const Four four = *reinterpret_cast<const Four *>(x + 1 + threadIdx.x);
    y[threadIdx.x] = four.a + four.b + four.c + four.d;
}
