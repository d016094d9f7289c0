// Products of matrices on tensor cores: tinygrad_edu/gpu/product.py explains them, and
// cuda/tensorcore.cuh the instructions. The last step of cuda/matmul.cu goes before this.
#include "tensorcore.cuh"
#include "tiles.cuh"

// y = a·b, the operands bfloat16 or tf32, the sums and the bias float. y is float, or bfloat16.
#ifndef OUT
#define OUT float
#endif
typedef OUT out;

__device__ __forceinline__ void write(float *to, float x) { *to = x; }
__device__ __forceinline__ void write(bf16 *to, float x) { *to = to_bf16(x); }

// The sentence: a warp computes 16 × 8 numbers of y, and its lanes pick what they have to hold of
// `a` and `b` from memory themselves.
//
// Why it is slow: a number comes from memory for each 8 or 16 products, 2 bytes at a time, from 8
// rows at once; and while the numbers come, the tensor cores wait.
// Blocks of one warp; the grid covers the columns along x by 8, the rows along y by 16.
// expect: sass=HMMA
extern "C" __global__ void matmul_bf16_naive(out *y, const bf16 *a, const bf16 *b, int N, int K,
                                             int M) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4, i0 = blockIdx.y * 16, j0 = blockIdx.x * 8;
    float sums[4] = {};
    for (int k0 = 0; k0 < K; k0 += 16) {
        unsigned of_a[4] = {}, of_b[2] = {};
        for (int half = 0; half < 2; half++) {
            for (int r = 0; r < 4; r++) {
                const int i = i0 + g + 8 * (r % 2), k = k0 + 2 * t + 8 * (r / 2) + half;
                if (i < N && k < K) of_a[r] |= (unsigned)a[(long long)i * K + k] << 16 * half;
            }
            for (int r = 0; r < 2; r++) {
                const int k = k0 + 2 * t + 8 * r + half, j = j0 + g;
                if (k < K && j < M) of_b[r] |= (unsigned)b[(long long)k * M + j] << 16 * half;
            }
        }
        mma_bf16(sums, of_a, of_b);
    }
    for (int r = 0; r < 4; r++) {
        const int i = i0 + g + 8 * (r / 2), j = j0 + 2 * t + r % 2;
        if (i < N && j < M) write(y + (long long)i * M + j, sums[r]);
    }
}

// The one in use. A block of 8 warps computes 128 × 128 numbers, a warp 64 × 32 of them.
//   a pipeline       cp.async copies 16 bytes from memory to shared memory, past the registers, and
//                    nobody waits. STAGES pairs of tiles are there: one is multiplied while the
//                    others come. A group of copies is committed in each step, empty at the end, so
//                    that "all but the last STAGES - 2" always names the pair that is next.
//   ldmatrix         one instruction brings four 8 × 8 matrices into the registers in the layout
//                    that mma wants.
//   no padding       a line of a tile is 64 bytes, so that eight rows of a matrix would lie in the
//                    same banks. Its 16-byte chunks are stored in an order of their own, `place`:
//                    eight rows then fall into eight different places.
//   any layout       as in matmul.cu an operand is a number of lines of length K. Where the lines
//                    are neighbours in memory, the tile in shared memory is k × line, and ldmatrix
//                    turns its matrices on the way (for tf32, whose numbers it would cut in half,
//                    plain loads do). A_TURNED, B_TURNED: they lie in memory as the transposes.
#ifndef A_TURNED
#define A_TURNED 0
#endif
#ifndef B_TURNED
#define B_TURNED 0
#endif
#define STAGES 4
#define TILE 128
#define LINE 64                              // bytes of a line at a time: two steps of mma
#define TILE_BYTES (TILE * LINE)
#define SHARED (STAGES * 2 * TILE_BYTES)     // what a launch has to ask for

__device__ __forceinline__ int ceil_div(int n, int size) { return (n + size - 1) / size; }

template <class Number, bool ALONG_K> struct Operand {
    static const int CHUNK = 16 / sizeof(Number);                // numbers that travel together
    static const int DEPTH = LINE / sizeof(Number);              // of each line at a time
    static const int CHUNKS = (ALONG_K ? DEPTH : TILE) / CHUNK;  // in a row of the tile
    const Number *start;
    int lines, K, line0;

    // Where a chunk of a row of the tile lies, in bytes.
    __device__ static int place(int row, int chunk) {
        const int shift = ALONG_K ? row / 2 % 4 : sizeof(Number) == 2 ? row % 8 : row % 4 * 2;
        return (row * CHUNKS + (chunk ^ shift)) * 16;
    }

    // Ask for the tile that begins at k0. Beyond the edges there are zeros.
    __device__ void fetch(char *tile, int k0) const {
        for (int e = threadIdx.x; e < TILE_BYTES / 16; e += 256) {
            const int row = e / CHUNKS, chunk = e % CHUNKS;
            const int line = line0 + (ALONG_K ? row : chunk * CHUNK);
            const int k = k0 + (ALONG_K ? chunk * CHUNK : row);
            const long long at = ALONG_K ? (long long)line * K + k : (long long)k * lines + line;
            const bool there = line < lines && k < K;
            copy_async(tile + place(row, chunk), start + (there ? at : 0), there);
        }
    }

    // 16 lines of one step of mma (32 bytes of each), as it wants `a`: four 8 × 8 matrices. As `b`
    // it wants the registers 0 and 2 for the first 8 lines, 1 and 3 for the others.
    __device__ static void fragments(unsigned (&to)[4], const char *tile, int line, int step) {
        const int lane = threadIdx.x % 32, within = lane % 8, matrix = lane / 8;
        if (ALONG_K) {
            load_matrices(to, tile + place(line + matrix % 2 * 8 + within, step * 2 + matrix / 2));
        } else if (sizeof(Number) == 2) {
            const int k = step * 16 + matrix / 2 * 8 + within;
            load_matrices_turned(to, tile + place(k, (line + matrix % 2 * 8) / CHUNK));
        } else {
            for (int r = 0; r < 4; r++) {
                const int at = line + lane / 4 + r % 2 * 8, k = step * 8 + lane % 4 + r / 2 * 4;
                to[r] = *(const unsigned *)(tile + place(k, at / CHUNK) + at % CHUNK * 4);
            }
        }
        if (sizeof(Number) == 4)
            for (int r = 0; r < 4; r++) to[r] = to_tf32(to[r]);
    }
};

__device__ __forceinline__ void mma(float (&sums)[4], const unsigned (&a)[4],
                                    const unsigned (&b)[2], bf16) {
    mma_bf16(sums, a, b);
}
__device__ __forceinline__ void mma(float (&sums)[4], const unsigned (&a)[4],
                                    const unsigned (&b)[2], float) {
    mma_tf32(sums, a, b);
}

template <class Number>
__device__ __forceinline__ void product(out *y, const Number *a, const Number *b,
                                        const float *bias, int N, int K, int M, char *shared) {
    const Tile at = nth_tile(blockIdx.x, ceil_div(N, TILE), ceil_div(M, TILE));
    const Operand<Number, !A_TURNED> left = {a, N, K, at.row * TILE};
    const Operand<Number, B_TURNED> right = {b, M, K, at.column * TILE};
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row = warp / 4 * 64, column = warp % 4 * 32;       // of the warp's part of the tile
    const int depth = LINE / (int)sizeof(Number), steps = ceil_div(K, depth);
    float sums[4][4][4] = {};
    for (int step = 0; step < STAGES - 1; step++) {
        left.fetch(shared + step * 2 * TILE_BYTES, step * depth);
        right.fetch(shared + (step * 2 + 1) * TILE_BYTES, step * depth);
        copy_commit();
    }
    for (int step = 0; step < steps; step++) {
        copy_wait<STAGES - 2>();
        __syncthreads();        // all have waited for what they asked for: the pair is whole; and
                                // all are done with the pair before it, whose place is free now
        char *free = shared + (step + STAGES - 1) % STAGES * 2 * TILE_BYTES;
        left.fetch(free, (step + STAGES - 1) * depth);
        right.fetch(free + TILE_BYTES, (step + STAGES - 1) * depth);
        copy_commit();
        const char *now = shared + step % STAGES * 2 * TILE_BYTES;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            unsigned of_a[4][4], of_b[2][4];
#pragma unroll
            for (int r = 0; r < 4; r++) left.fragments(of_a[r], now, row + 16 * r, half);
#pragma unroll
            for (int c = 0; c < 2; c++)
                right.fragments(of_b[c], now + TILE_BYTES, column + 16 * c, half);
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    const unsigned pair[2] = {of_b[c / 2][c % 2], of_b[c / 2][c % 2 + 2]};
                    mma(sums[r][c], of_a[r], pair, Number());
                }
        }
    }
    copy_wait<0>();
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int i = at.row * TILE + row + 16 * r + lane / 4 + e / 2 * 8;
                const int j = at.column * TILE + column + 8 * c + lane % 4 * 2 + e % 2;
                if (i < N && j < M)
                    write(y + (long long)i * M + j, sums[r][c][e] + (bias ? bias[j] : 0));
            }
}

// One block of 256 threads for each tile of y, in one line along x, with SHARED bytes.
// expect: regs<=128 spills=0 sass=HMMA,LDGSTS.128,LDSM aligned=a,b
extern "C" __global__ void __launch_bounds__(256, 2) matmul_bf16(
    out *y, const bf16 *a, const bf16 *b, const float *bias, int N, int K, int M) {
    extern __shared__ __align__(128) char memory[];
    product(y, a, b, bias, N, K, M, memory);
}

// expect: regs<=128 spills=0 sass=HMMA,LDGSTS.128 aligned=a,b
extern "C" __global__ void __launch_bounds__(256, 2) matmul_tf32(
    out *y, const float *a, const float *b, const float *bias, int N, int K, int M) {
    extern __shared__ __align__(128) char memory[];
    product(y, a, b, bias, N, K, M, memory);
}
