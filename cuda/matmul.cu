// Products of matrices: tinygrad_edu/ops/matmul.py explains them and numbers the equations.
//
// A ladder. Each step computes y = a·b, (1), and changes one thing about the step above it. The
// first four take matrices as they stand on paper, N × K and K × M, row after row; the last one,
// which the library uses, also takes transposes as they lie in memory.
#include "common.cuh"
#include "tiles.cuh"

// Step 1, the sentence: one thread computes one number of y.
//
// Why it is slow: the 32 threads of a warp lie below one another, in 32 rows. At every k they read
// 32 numbers of `a` that lie K apart, and memory delivers 32 bytes for each of these 4.
// Blocks of 32 × 8 threads; the grid covers the rows along x, the columns along y.
extern "C" __global__ void matmul_forward_naive(real *y, const real *a, const real *b, int N,
                                                int K, int M) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const int j = blockIdx.y * blockDim.y + threadIdx.y;
    if (i >= N || j >= M) return;
    real sum = 0;
    for (int k = 0; k < K; k++) sum += a[(long long)i * K + k] * b[(long long)k * M + j];    // (1)
    y[(long long)i * M + j] = sum;
}

// Step 2, coalesced: the threads of a warp lie side by side. They read 32 neighbours of `b`, write
// 32 neighbours of `y`, and share one number of `a`. Only the roles of x and y were exchanged.
//
// Why it is still slow: two numbers are loaded for each multiplication, and every number of `a`
// is asked for M times. The multipliers of a GPU are ten to a hundred times as fast as its memory.
// Blocks of 32 × 8 threads; the grid covers the columns along x, the rows along y.
extern "C" __global__ void matmul_forward_coalesced(real *y, const real *a, const real *b, int N,
                                                    int K, int M) {
    const int i = blockIdx.y * blockDim.y + threadIdx.y;
    const int j = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= N || j >= M) return;
    real sum = 0;
    for (int k = 0; k < K; k++) sum += a[(long long)i * K + k] * b[(long long)k * M + j];    // (1)
    y[(long long)i * M + j] = sum;
}

// Step 3, a tile in shared memory: a block of 16 × 16 threads computes 16 × 16 numbers of y, and
// brings what they need, 16 numbers of each row and column at a time, once. Each number that comes
// from memory is used 16 times. The two barriers: nobody reads a tile that is not whole, nobody
// overwrites one that is still read.
//
// Why it is still slow: now two numbers come from shared memory for each multiplication.
// Blocks of 16 × 16 threads; the grid covers the columns along x, the rows along y.
extern "C" __global__ void matmul_forward_tiled(real *y, const real *a, const real *b, int N,
                                                int K, int M) {
    __shared__ real left[16][16], right[16][16];
    const int row = threadIdx.y, column = threadIdx.x;
    const int i = blockIdx.y * 16 + row, j = blockIdx.x * 16 + column;
    real sum = 0;
    for (int k0 = 0; k0 < K; k0 += 16) {
        left[row][column] = i < N && k0 + column < K ? a[(long long)i * K + k0 + column] : 0;
        right[row][column] = k0 + row < K && j < M ? b[(long long)(k0 + row) * M + j] : 0;
        __syncthreads();
        for (int k = 0; k < 16; k++) sum += left[row][k] * right[k][column];                 // (1)
        __syncthreads();
    }
    if (i < N && j < M) y[(long long)i * M + j] = sum;
}

// Step 4, a tile in registers: a thread computes 4 × 4 numbers of y. It reads 4 numbers of a column
// of `left` and 4 of a row of `right`, and multiplies each with each: 16 products from 8 numbers.
// A block of 16 × 16 threads now makes 64 × 64. A thread's rows are 16 apart, and so are its
// columns: neighbouring threads read neighbouring numbers, in different banks.
//
// Why it is still slow: every number is loaded by an instruction of its own, and while a tile is on
// its way from memory the whole block waits for it.
// Blocks of 16 × 16 threads; the grid covers the columns along x, the rows along y, 64 a block.
extern "C" __global__ void matmul_forward_registers(real *y, const real *a, const real *b, int N,
                                                    int K, int M) {
    // Shared memory has 32 banks, a word wide; two words of one bank come one after the other.
    __shared__ real left[64][17], right[16][64];     // 17: the rows begin in different banks
    const int i0 = blockIdx.y * 64, j0 = blockIdx.x * 64, thread = threadIdx.y * 16 + threadIdx.x;
    real sums[4][4] = {};
    for (int k0 = 0; k0 < K; k0 += 16) {
        for (int e = thread; e < 16 * 64; e += 256) {
            const int i = i0 + e / 16, k = k0 + e % 16;
            left[e / 16][e % 16] = i < N && k < K ? a[(long long)i * K + k] : 0;
        }
        for (int e = thread; e < 16 * 64; e += 256) {
            const int k = k0 + e / 64, j = j0 + e % 64;
            right[e / 64][e % 64] = k < K && j < M ? b[(long long)k * M + j] : 0;
        }
        __syncthreads();
        for (int k = 0; k < 16; k++) {
            real of_left[4], of_right[4];
            for (int e = 0; e < 4; e++) of_left[e] = left[threadIdx.y + 16 * e][k];
            for (int e = 0; e < 4; e++) of_right[e] = right[k][threadIdx.x + 16 * e];
            for (int r = 0; r < 4; r++)
                for (int c = 0; c < 4; c++) sums[r][c] += of_left[r] * of_right[c];          // (1)
        }
        __syncthreads();
    }
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < 4; c++) {
            const int i = i0 + threadIdx.y + 16 * r, j = j0 + threadIdx.x + 16 * c;
            if (i < N && j < M) y[(long long)i * M + j] = sums[r][c];
        }
}

// Step 5, the one in use. Four things are new:
//   four at once     numbers travel four at a time, in one instruction where they lie at a multiple
//                    of 16 bytes. So both tiles lie in shared memory with their lines as columns.
//   two buffers      while one pair of tiles is multiplied, the next is on its way from memory, in
//                    registers, and one barrier a step is enough.
//   any layout       an operand is a number of lines of length K, one for each row or column of y.
//                    Where the numbers of a line are neighbours in memory they are turned on their
//                    way into shared memory. So x·wᵀ and dyᵀ·x need no transposed copies.
//   tiles in groups  blocks that run at one time compute tiles near one another, whose operands
//                    then are in the cache.

// A thread computes SIDE × SIDE numbers: 4, or 8 where y has enough tiles to keep a GPU busy.
#ifndef SIDE
#define SIDE 4
#endif
#define TILE (16 * SIDE)       // rows and columns of y that a block of 256 threads makes
#define DEPTH (64 / SIDE)      // numbers of each line at a time: one Four of each tile a thread
#define PADDED (TILE + 4)      // keeps the columns of a tile apart in the banks, and Fours aligned

// Two blocks on a multiprocessor: while one waits at its barrier the other multiplies. That leaves
// 128 registers a thread, enough for sums in float and too few in double.
#define BLOCKS (sizeof(real) == 4 ? 2 : 1)

struct __align__(16) Four { real at[4]; };

struct Operand {
    const real *start;
    int lines, K;
    bool along_k;              // a line's numbers are neighbours; else the k-th of all lines are
    bool fours;                // every fourth number lies at a multiple of 16 bytes
    __device__ Operand(const real *start, int lines, int K, bool along_k)
        : start(start), lines(lines), K(K), along_k(along_k),
          fours((along_k ? K : lines) % 4 == 0 && (size_t)start % 16 == 0) {}
};

// Which four numbers of a tile a thread brings: those at (line, k) and after it.
struct Place { int line, k; };
__device__ __forceinline__ Place place(const Operand &x) {
    const int t = threadIdx.x;
    if (x.along_k) return {t / (DEPTH / 4), t % (DEPTH / 4) * 4};
    return {t % (TILE / 4) * 4, t / (TILE / 4)};
}

// From memory into registers; zeros from beyond the edges, which add nothing to a sum.
__device__ __forceinline__ Four fetch(const Operand &x, int line0, int k0) {
    const int line = line0 + place(x).line, k = k0 + place(x).k;
    const int there = x.along_k ? (line < x.lines ? x.K - k : 0) : (k < x.K ? x.lines - line : 0);
    const real *from =
        x.start + (x.along_k ? (long long)line * x.K + k : (long long)k * x.lines + line);
    if (x.fours && there >= 4) return *(const Four *)from;
    Four four;
#pragma unroll
    for (int e = 0; e < 4; e++) four.at[e] = e < there ? from[e] : (real)0;
    return four;
}

// From registers into a tile of shared memory, with the lines as columns.
__device__ __forceinline__ void put(real (*tile)[PADDED], const Operand &x, const Four &four) {
    const Place p = place(x);
    if (!x.along_k) *(Four *)&tile[p.k][p.line] = four;
    else
#pragma unroll
        for (int e = 0; e < 4; e++) tile[p.k + e][p.line] = four.at[e];
}

// The e-th row (or column) of the 0th to 15th thread along an axis: 4 neighbours, and with SIDE 8
// four more that are 64 further.
__device__ __forceinline__ int nth(int place, int e) { return e / 4 * 64 + 4 * place + e % 4; }

__device__ __forceinline__ void product(real *y, const Operand &a, const Operand &b,
                                        const real *bias, int tile) {
    __shared__ __align__(16) real left[2][DEPTH][PADDED], right[2][DEPTH][PADDED];
    // A warp is 8 × 4 threads: what it reads of a tile are 8 and 4 neighbouring Fours.
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row = warp / 4 * 8 + lane / 4, column = warp % 4 * 4 + lane % 4;
    const Tile at = nth_tile(tile, ceil_div(a.lines, TILE), ceil_div(b.lines, TILE));
    const int i0 = at.row * TILE, j0 = at.column * TILE;
    real sums[SIDE][SIDE] = {};
    put(left[0], a, fetch(a, i0, 0));
    put(right[0], b, fetch(b, j0, 0));
    __syncthreads();
    for (int k0 = 0, now = 0; k0 < a.K; k0 += DEPTH, now = 1 - now) {
        const Four next_a = fetch(a, i0, k0 + DEPTH), next_b = fetch(b, j0, k0 + DEPTH);
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            Four of_left[SIDE / 4], of_right[SIDE / 4];
#pragma unroll
            for (int e = 0; e < SIDE / 4; e++) {
                of_left[e] = *(const Four *)&left[now][k][nth(row, 4 * e)];
                of_right[e] = *(const Four *)&right[now][k][nth(column, 4 * e)];
            }
#pragma unroll
            for (int r = 0; r < SIDE; r++)
#pragma unroll
                for (int c = 0; c < SIDE; c++)
                    sums[r][c] += of_left[r / 4].at[r % 4] * of_right[c / 4].at[c % 4];      // (1)
        }
        // The other pair was read before the last barrier: it may be overwritten.
        put(left[1 - now], a, next_a);
        put(right[1 - now], b, next_b);
        __syncthreads();
    }
    const bool fours = b.lines % 4 == 0 && (size_t)y % 16 == 0;
#pragma unroll
    for (int r = 0; r < SIDE; r++) {
        const int i = i0 + nth(row, r);
        if (i >= a.lines) continue;
#pragma unroll
        for (int c = 0; c < SIDE; c += 4) {
            const int j = j0 + nth(column, c);
            real *to = y + (long long)i * b.lines + j;
            Four four;
#pragma unroll
            for (int e = 0; e < 4; e++)
                four.at[e] = sums[r][c + e] + (bias && j + e < b.lines ? bias[j + e] : (real)0);
            if (fours && j + 4 <= b.lines) *(Four *)to = four;
            else
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (j + e < b.lines) to[e] = four.at[e];
        }
    }
}

// y (N, M) = a·b. a_turned: `a` lies in memory as K × N, the transpose; b_turned: `b` as M × K.
// One block for each tile of y, in one line along x.
// expect: regs<=144 spills=0 sass=LDG.128,LDS.128
extern "C" __global__ void __launch_bounds__(256, BLOCKS) matmul_forward(
    real *y, const real *a, const real *b, int N, int K, int M, int a_turned, int b_turned) {
    product(y, Operand(a, N, K, !a_turned), Operand(b, M, K, b_turned), nullptr, blockIdx.x);
}

// The same for P pairs of matrices; the tiles of the first pair come first.
// expect: regs<=144 spills=0 sass=LDG.128,LDS.128
extern "C" __global__ void __launch_bounds__(256, BLOCKS) batched_matmul_forward(
    real *y, const real *a, const real *b, int N, int K, int M, int a_turned, int b_turned) {
    const int tiles = ceil_div(N, TILE) * ceil_div(M, TILE);
    const long long p = blockIdx.x / tiles;
    product(y + p * N * M, Operand(a + p * N * K, N, K, !a_turned),
            Operand(b + p * K * M, M, K, b_turned), nullptr, blockIdx.x % tiles);
}

// y (N, M) = x·wᵀ + b: the bias is added on the way out.                                     (3)
// expect: regs<=144 spills=0 sass=LDG.128,LDS.128
extern "C" __global__ void __launch_bounds__(256, BLOCKS) linear_forward(
    real *y, const real *x, const real *w, const real *b, int N, int K, int M) {
    product(y, Operand(x, N, K, true), Operand(w, M, K, true), b, blockIdx.x);
}
