// Kernels with a mistake each, in the words of those who make it: check mode must name a line that
// says BUG. tests/gpu/test_broken_kernels.py launches them.
#include <cuda_fp16.h>

#include "tensorcore.cuh"

// Race on s between the write of one thread and the read of another: no barrier between.
extern "C" __global__ void reverse(float *y, const float *x) {
    __shared__ float s[128];
    const int t = threadIdx.x;
    s[t] = x[t];  // BUG
    y[t] = s[127 - t];  // BUG
}

// Race inside the tree: the barrier stands before the loop, not in it.
extern "C" __global__ void tree_sum(float *out, const float *x) {
    __shared__ float parts[256];
    const int t = threadIdx.x;
    parts[t] = x[t];
    __syncthreads();
    for (int half = 128; half > 0; half >>= 1) {
        if (t < half) parts[t] += parts[t + half];  // BUG
    }
    __syncthreads();
    if (t == 0) *out = parts[0];
}

// Race: the next tile is stored while slow threads still read the last (no barrier at the end of
// the loop).
extern "C" __global__ void matmul(float *c, const float *a, const float *b, int n) {
    __shared__ float ta[16][16], tb[16][16];
    const int row = blockIdx.y * 16 + threadIdx.y, col = blockIdx.x * 16 + threadIdx.x;
    float sum = 0;
    for (int k = 0; k < n; k += 16) {
        ta[threadIdx.y][threadIdx.x] = a[row * n + k + threadIdx.x];  // BUG
        tb[threadIdx.y][threadIdx.x] = b[(k + threadIdx.y) * n + col];  // BUG
        __syncthreads();
        for (int i = 0; i < 16; i++)
            sum += ta[threadIdx.y][i] * tb[i][threadIdx.x];  // BUG
    }
    c[row * n + col] = sum;
}

// S[128] lies behind the array: the halo was forgotten in its size.
extern "C" __global__ void forward_difference(float *y, const float *x, int unused) {
    __shared__ float s[128];
    __shared__ float scale[4];
    const int t = threadIdx.x;
    s[t] = x[t];
    if (t < 4) scale[t] = 1.0f;
    __syncthreads();
    y[t] = (s[t + 1] - s[t]) * scale[0];  // BUG
}

// Threads past n leave their slot of shared memory unset and the tree reads it.
extern "C" __global__ void tail_sum(float *out, const float *x, int n) {
    __shared__ float parts[128];
    const int t = threadIdx.x;
    if (t < n) parts[t] = x[t];
    __syncthreads();
    for (int half = 64; half > 0; half >>= 1) {
        if (t < half) parts[t] += parts[t + half];  // BUG
        __syncthreads();
    }
    if (t == 0) *out = parts[0];
}

// Float4 from an address that is no multiple of 16.
extern "C" __global__ void shifted_copy(float *y, const float *x) {
    const float4 *from = reinterpret_cast<const float4 *>(x + 1);
    float4 v = from[threadIdx.x];  // BUG
    reinterpret_cast<float4 *>(y)[threadIdx.x] = v;
}

// Threads with t >= n never come to the barrier inside the if; they wait at another one.
extern "C" __global__ void smooth(float *y, const float *x, int n) {
    __shared__ float s[128];
    const int t = threadIdx.x;
    s[t] = 0;
    if (t < n) {
        s[t] = x[t];
        __syncthreads();  // BUG
        y[t] = 0.5f * (s[t] + s[t ? t - 1 : 0]);
    } else {
        s[t] = -1.0f;
    }
    __syncthreads();  // BUG
    if (t == 0 && s[0] < 0) y[0] = 0;
}

// Bins[...]++ by many threads without an atomic.
extern "C" __global__ void histogram(int *bins, const float *x, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        int bin = (int)(fabsf(x[i]) * 8.0f);
        bin = bin > 15 ? 15 : bin;
        bins[bin] += 1;  // BUG
    }
}

// Copy_wait<1> leaves the newest group in flight, but in the last round the newest is the one
// that is read.
extern "C" __global__ void pipelined_sum(float *y, const float *x) {
    __shared__ __align__(16) float tile[2][128];
    const int t = threadIdx.x;
    float4 sum = make_float4(0, 0, 0, 0);
    copy_async(&tile[0][4 * t], x + 4 * t);
    copy_commit();
    for (int k = 0; k < 4; k++) {
        if (k + 1 < 4) {
            copy_async(&tile[(k + 1) % 2][4 * t], x + 128 * (k + 1) + 4 * t);
            copy_commit();
        }
        copy_wait<1>();
        __syncthreads();
        const float4 v = *(const float4 *)&tile[k % 2][4 * (31 - t)];  // BUG
        sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
        __syncthreads();
    }
    *(float4 *)&y[4 * t] = sum;
}

// The stride misses gridDim.x: several blocks update the same elements (race between blocks).
extern "C" __global__ void scale_in_place(float *y, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x)
        y[i] = 2.0f * y[i];  // BUG
}

// A full mask, but only 16 lanes come to the shuffle.
extern "C" __global__ void half_warp_sum(float *y, const float *x) {
    const int lane = threadIdx.x;
    float v = x[lane];
    if (lane < 16) {
        for (int d = 8; d > 0; d >>= 1)
            v += __shfl_down_sync(0xffffffffu, v, d);  // BUG
    }
    y[lane] = v;
}

// The last warp's steps in shared memory without __syncwarp (the old warp-synchronous habit).
extern "C" __global__ void unrolled_sum(float *out, const float *x) {
    __shared__ volatile float s[128];
    const int t = threadIdx.x;
    s[t] = x[t];
    __syncthreads();
    if (t < 64) s[t] += s[t + 64];
    __syncthreads();
    if (t < 32) {
        s[t] += s[t + 32];  // BUG
        s[t] += s[t + 16];  // BUG
        s[t] += s[t + 8];  // BUG
        s[t] += s[t + 4];  // BUG
        s[t] += s[t + 2];  // BUG
        s[t] += s[t + 1];  // BUG
    }
    if (t == 0) *out = s[0];
}

// The next tile goes into the buffer that is being read (both halves have the same parity).
extern "C" __global__ void double_buffer(float *y, const float *x, int rounds) {
    __shared__ float tile[2][64];
    const int t = threadIdx.x;
    float sum = 0;
    tile[0][t] = x[t];
    __syncthreads();
    for (int k = 0; k < rounds; k++) {
        const int now = k & 1;
        if (k + 1 < rounds) tile[now][t] = x[(k + 1) * 64 + t];  // BUG
        for (int i = 0; i < 64; i++) sum += tile[now][i];  // BUG
        __syncthreads();
    }
    y[t] = sum;
}

// The last block reads and writes past the end: i <= n.
extern "C" __global__ void add_one(float *y, const float *x, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) y[i] = x[i] + 1.0f;  // BUG
}

// The second call of block_total writes the scratch while others still read the first result.
__device__ float block_total(float v) {
    __shared__ float parts[4];
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;  // BUG
    __syncthreads();
    return parts[0] + parts[1] + parts[2] + parts[3];  // BUG
}
extern "C" __global__ void standardize(float *y, const float *x) {
    const float v = x[threadIdx.x];
    const float mean = block_total(v) / 128;
    const float variance = block_total((v - mean) * (v - mean)) / 128;
    y[threadIdx.x] = (v - mean) * rsqrtf(variance + 1e-5f);
}

// Thread 0 sets a shared scalar, the others read it at once.
extern "C" __global__ void subtract_first(float *y, const float *x) {
    __shared__ float first;
    if (threadIdx.x == 0) first = x[0];  // BUG
    y[threadIdx.x] = x[threadIdx.x] - first;  // BUG
}

// Block 0 adds the partial sums of blocks that may not have run.
extern "C" __global__ void sum_blocks(float *out, float *parts, const float *x) {
    float v = x[blockIdx.x * 32 + threadIdx.x];
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
    if (threadIdx.x == 0) parts[blockIdx.x] = v;  // BUG
    __syncthreads();
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        float total = 0;
        for (int b = 0; b < gridDim.x; b++) total += parts[b];  // BUG
        *out = total;
    }
}

// The partial sum is not ordered before the ticket: no __threadfence (hard).
extern "C" __global__ void last_block(float *out, float *parts, int *counter, const float *x) {
    float v = x[blockIdx.x * 32 + threadIdx.x];
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = v;  // BUG
        if (atomicAdd(counter, 1) == gridDim.x - 1) {
            float total = 0;
            for (int b = 0; b < gridDim.x; b++) total += parts[b];  // BUG
            *out = total;
        }
    }
}

// 64 floats in 128 bytes of dynamic shared memory.
extern "C" __global__ void through_shared(float *y, const float *x) {
    extern __shared__ float s[];
    s[threadIdx.x] = x[threadIdx.x];  // BUG
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}

// Y is 32 x 16, so its rows have `height` numbers, not `width`: out of bounds.
extern "C" __global__ void transpose(float *y, const float *x, int height, int width) {
    const int c = blockIdx.x * 8 + threadIdx.x, r = blockIdx.y * 8 + threadIdx.y;
    if (r < height && c < width) y[c * width + r] = x[r * width + c];  // BUG
}

// The mask is right for the callers (16 lanes), but lane 15 and below read lane+16, which is not
// in the mask.
extern "C" __global__ void from_outside(float *y, const float *x) {
    const int lane = threadIdx.x;
    float v = x[lane];
    if (lane < 16) v = __shfl_sync(0x0000ffffu, v, lane + 16);  // BUG
    y[lane] = v;
}

// The shared counter is read before all have added (no barrier after the atomics).
extern "C" __global__ void count_positive(int *y, const float *x) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    if (x[threadIdx.x] > 0) atomicAdd(&count, 1);  // BUG
    if (threadIdx.x == 0) *y = count;  // BUG
}

// Neighbours are read while their owners write them.
extern "C" __global__ void blur_in_place(float *y, int n) {
    const int i = threadIdx.x;
    if (i > 0 && i < n - 1) y[i] = (y[i - 1] + y[i] + y[i + 1]) / 3;  // BUG
}

// A half2 at an odd element.
extern "C" __global__ void shifted_pairs(float *y, const __half *x) {
    const __half2 pair = *reinterpret_cast<const __half2 *>(x + 2 * threadIdx.x + 1);  // BUG
    y[2 * threadIdx.x] = __half2float(__low2half(pair));
    y[2 * threadIdx.x + 1] = __half2float(__high2half(pair));
}

// __syncwarp orders one warp only, the other warp's half is read.
extern "C" __global__ void reverse_block(float *y, const float *x) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];  // BUG
    __syncwarp();
    y[threadIdx.x] = s[63 - threadIdx.x];  // BUG
}

// Hillis-Steele scan in one buffer: read and write between the same barriers.
extern "C" __global__ void scan_in_place(float *y, const float *x) {
    __shared__ float s[64];
    const int t = threadIdx.x;
    s[t] = x[t];
    __syncthreads();
    for (int d = 1; d < 64; d *= 2) {
        if (t >= d) s[t] += s[t - d];  // BUG
        __syncthreads();
    }
    y[t] = s[t];
}

// Committed and waited for, but each thread's wait covers its own copies: no barrier before
// reading another's.
extern "C" __global__ void no_barrier_after_wait(float *y, const float *x) {
    __shared__ __align__(16) float tile[128];
    const int t = threadIdx.x;
    copy_async(&tile[4 * t], x + 4 * t);  // BUG
    copy_commit();
    copy_wait<0>();
    for (int i = 0; i < 4; i++) y[4 * t + i] = tile[127 - 4 * t - i];  // BUG
}

// Lanes past n have returned, but the full mask of the vote waits for them.
extern "C" __global__ void any_negative(int *y, const float *x, int n) {
    if (threadIdx.x >= n) return;
    const unsigned votes = __ballot_sync(0xffffffffu, x[threadIdx.x] < 0);  // BUG
    if (threadIdx.x == 0) *y = __popc(votes);
}

// The ticket is drawn before the fence: the last block may read a part that has not arrived.
extern "C" __global__ void fence_too_late(float *out, float *parts, int *counter, const float *x) {
    parts[blockIdx.x] = x[blockIdx.x];  // BUG
    const bool last = atomicAdd(counter, 1) == (int)gridDim.x - 1;
    __threadfence();
    if (!last) return;
    *out = 0;
    for (int b = 0; b < (int)gridDim.x; b++) *out += parts[b];  // BUG
}

// A block of 48 has a half warp at its end, and the exchange reads lanes that nobody is.
extern "C" __global__ void short_last_warp(float *y, const float *x) {
    float v = x[threadIdx.x];
    for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);  // BUG
    y[threadIdx.x] = v;
}

// One step past the end of an array, into one that has been written: nothing is unset there.
extern "C" __global__ void into_the_next(float *y) {
    __shared__ float first[64];
    __shared__ float second[64];
    first[threadIdx.x] = second[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = first[threadIdx.x + 1] + second[threadIdx.x];  // BUG
}
extern "C" __global__ void into_the_one_before(float *y) {
    __shared__ float first[64];
    __shared__ float second[64];
    first[threadIdx.x] = second[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = first[threadIdx.x] + second[threadIdx.x + 1];  // BUG
}
