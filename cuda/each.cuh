// What is done to each of n elements, whatever lies beside it: one loop, cut into blocks.
#pragma once
#include "common.cuh"

// How many elements a thread takes. Memory answers after some hundred cycles, and what hides that
// wait is having many loads on their way: with four a thread, four times as many.
constexpr int EACH = 4;

// f(i) for this thread's share of i = 0 … n - 1. Its elements are blockDim.x apart, so that the
// threads of a warp always touch neighbours. Where all four exist nothing is asked between them:
// then the compiler can begin the four loads before it needs the first one, provided that it knows
// (by __restrict__ or __ldg) that no store changes what is loaded.
template <class F> __device__ __forceinline__ void each(long long n, F f) {
    const long long first = (long long)blockIdx.x * blockDim.x * EACH + threadIdx.x;
    if (first + (long long)(EACH - 1) * blockDim.x < n) {
#pragma unroll
        for (int k = 0; k < EACH; k++) f(first + (long long)k * blockDim.x);
    } else {
        for (long long i = first; i < n; i += blockDim.x) f(i);
    }
}
