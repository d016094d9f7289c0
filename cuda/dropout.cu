// Dropout: tinygrad_edu/ops/dropout.py explains it and numbers the equations. The bits are the same
// as in the other bodies: a mask is a function of the position, not of who computes it.
#include "each.cuh"

// Philox-2x32-10, (3). A product of two 32-bit words is one instruction of a GPU.
struct Words {
    unsigned first, second;
    __device__ Words(unsigned a, unsigned b, unsigned key) {
#pragma unroll
        for (int round = 0; round < 10; round++) {
            const unsigned long long product = 0xD256D193ull * a;
            a = (unsigned)(product >> 32) ^ key ^ b;                                     // (3)
            b = (unsigned)product;
            key += 0x9E3779B9u;
        }
        first = a, second = b;
    }
};

// The sentence that the fast kernel paraphrases: one thread takes one element, and hashes for it.
//
// Why it is slow: a hash makes two words, and this throws one away: twice the multiplications, in a
// kernel where ten of them stand against two accesses to memory.
extern "C" __global__ void dropout_forward_naive(real *y, const real *x,
                                                 const unsigned long long *start,
                                                 unsigned long long stream, unsigned long long key,
                                                 unsigned long long threshold, real scale,
                                                 long long R, int C) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, r = i / C;
    const int c = i % C, half = (C + 1) / 2;
    if (r >= R) return;
    const Words words(start[r] + c % half, stream, key);                                 // (4)
    y[i] = (c < half ? words.first : words.second) >= threshold ? x[i] * scale : 0;      // (1)
}

// Step 1: a thread takes what one hash serves: element c of the left half of a row, and the one in
// the same place of the right half. An odd row has no partner for the last of its left half.
//
// Step 2: which row, and which piece of it, a block asks once. A flat index would make every thread
// divide by C, which is no constant, and a division of integers is dozens of instructions.
// expect: regs<=40 spills=0
extern "C" __global__ void dropout_forward(real *__restrict__ y, const real *__restrict__ x,
                                           const unsigned long long *__restrict__ start,
                                           unsigned long long stream, unsigned long long key,
                                           unsigned long long threshold, real scale, long long C,
                                           int pieces) {
    const long long r = blockIdx.x / pieces, half = (C + 1) / 2, piece = blockDim.x * EACH;
    const long long low = blockIdx.x % pieces * piece, end = min(half, low + piece);
    x += r * C, y += r * C;
    for (long long c = low + threadIdx.x; c < end; c += blockDim.x) {
        const Words words(start[r] + c, stream, key);                                    // (4)
        y[c] = words.first >= threshold ? x[c] * scale : 0;                              // (1)
        if (half + c < C) y[half + c] = words.second >= threshold ? x[half + c] * scale : 0;
    }
}
