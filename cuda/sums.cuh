// Long sums: what one thread adds up, before a block puts the sums of its threads together.
#pragma once
#include "common.cuh"

// Numbers that a thread adds up in `real` before it goes on in double: as the other bodies do, so
// that a million numbers do not lose their digits, and double is used rarely.
constexpr int PIECE = 64;

// f(first) + f(first + step) + … below `end`.
template <class F>
__device__ __forceinline__ double long_sum(long long first, long long end, long long step, F f) {
    double total = 0;
    for (long long n = first; n < end; n += PIECE * step) {
        real part = 0;
        const long long stop = min(end, n + PIECE * step);
#pragma unroll 4
        for (long long i = n; i < stop; i += step) part += f(i);
        total += part;
    }
    return total;
}
