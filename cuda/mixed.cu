// Numbers of 32 bits as numbers of 16: tinygrad_edu/ops/mixed.py explains what for.
#include "each.cuh"
#include "tensorcore.cuh"

// Two bytes leave for every four that arrive, four elements a thread: see each.cuh.
// expect: regs<=40 spills=0
extern "C" __global__ void round_to_bf16(bf16 *h, const float *x, long long n) {
    each(n, [=](long long i) { h[i] = to_bf16(__ldg(x + i)); });
}

// expect: regs<=40 spills=0
extern "C" __global__ void round_to_fp16(bf16 *h, const float *x, long long n) {
    each(n, [=](long long i) { h[i] = to_fp16(__ldg(x + i)); });
}
