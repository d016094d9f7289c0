// What most kernels begin with: the type `real`, and sums and maxima over the threads of a block.
#pragma once

// Each file is compiled for float and for double: -DREAL=double. Without it, for float.
#ifndef REAL
#define REAL float
#endif
typedef REAL real;

__device__ __forceinline__ real infinity() { return (real)__int_as_float(0x7f800000); }
__device__ __forceinline__ int ceil_div(int n, int size) { return (n + size - 1) / size; }

// How two values become one, and the value that changes nothing.
struct Sum {
    __device__ static real start() { return 0; }
    __device__ static real join(real a, real b) { return a + b; }
};
struct Max {
    __device__ static real start() { return -infinity(); }
    __device__ static real join(real a, real b) { return a > b ? a : b; }
};

// Over the 32 lanes of a warp, in five exchanges; every lane gets the result. With xor each lane
// has a partner at distance 16, then 8, 4, 2, 1: a tree in which all lanes are the root.
template <class Op> __device__ __forceinline__ real warp_reduce(real value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        value = Op::join(value, __shfl_xor_sync(0xffffffffu, value, distance));
    return value;
}

// Over all threads of a block (blockDim.x of them, a multiple of 32); every thread gets the result.
// Each warp leaves its part in shared memory, and each warp then reduces all parts again: that
// costs no more than if one did it and told the others.
template <class Op> __device__ __forceinline__ real block_reduce(real value) {
    __shared__ real parts[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    value = warp_reduce<Op>(value);
    __syncthreads();                     // those who still read the parts of an earlier call
    if (lane == 0) parts[warp] = value;
    __syncthreads();
    return warp_reduce<Op>(lane < warps ? parts[lane] : Op::start());
}

__device__ __forceinline__ real block_sum(real value) { return block_reduce<Sum>(value); }
__device__ __forceinline__ real block_max(real value) { return block_reduce<Max>(value); }
