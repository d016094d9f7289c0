"""Kernels that are broken on purpose: check mode names the reason and the line; twins pass."""

import numpy as np
import pytest

from harness import need
from tinygrad_edu.gpu.emulate import KernelError, emulating
from tinygrad_edu.gpu.launch import Launcher

f, i = np.float32, np.int32


def run(tmp_path, code, grid, block, arguments, shared_mem=0, **settings):
    need("cuda")
    path = tmp_path / "mine.cu"
    header = '#include "tensorcore.cuh"' if "copy_async" in code or "mma_" in code else ""
    path.write_text(f'{header}\n#line 1\nextern "C" __global__ void k{code}', encoding="utf-8")
    with emulating(**settings):
        Launcher(path, "k")(grid, block, arguments, shared_mem)


def ones(*sizes):
    return tuple(np.ones(size, f) for size in sizes)


def copies(arguments):
    return tuple(a.copy() for a in arguments)


# name: (code, grid, block, arguments, dynamic shared memory, line of the bug, words of the report)
BUGS = {
    "past the end of an array": ("""(const float *x, float *y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = 2 * x[i];
}""", 4, 64, ones(250, 256), 0, 3, "reads x[250], which has 250 elements"),
    "before its beginning": ("""(const float *x, float *y) {
    int i = threadIdx.x;
    y[i] = x[i - 1];
}""", 1, 32, ones(32, 32), 0, 3, "reads x[-1]"),
    "a missing barrier": ("""(const float *x, float *y) {
    __shared__ float s[128];
    s[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = s[127 - threadIdx.x];
}""", 1, 128, ones(128, 128), 0, 4, "__syncthreads is missing before"),
    "the next tile before all have read this one": ("""(const float *x, float *y) {
    __shared__ float s[64];
    float sum = 0;
    for (int t = 0; t < 4; t++) {
        s[threadIdx.x] = x[t * 64 + threadIdx.x];
        __syncthreads();
        for (int j = 0; j < 64; j++) sum += s[j];
    }
    y[threadIdx.x] = sum;
}""", 1, 64, ones(256, 64), 0, 5, "data race: reads __shared__ s["),
    "a reduction in a warp without __syncwarp": ("""(const float *x, float *y) {
    __shared__ float s[32];
    int t = threadIdx.x;
    s[t] = x[t];
    __syncwarp();
    for (int o = 16; o > 0; o /= 2)
        if (t < o) s[t] += s[t + o];
    if (t == 0) *y = s[0];
}""", 1, 32, ones(32, 1), 0, 7, "__syncwarp or __syncthreads is missing between"),
    "shared memory that nobody wrote": ("""(float *y) {
    __shared__ float s[64];
    if (threadIdx.x < 63) s[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}""", 1, 64, ones(64), 0, 5, "reads __shared__ s[63], which no thread of this block has written"),
    "a barrier in two branches": ("""(float *y) {
    if (threadIdx.x < 40) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    y[threadIdx.x] = 1;
}""", 1, 64, ones(64), 0, 5, "divergent barrier"),
    "a shuffle that half of the warp never reaches": ("""(float *y) {
    float v = 1;
    if (threadIdx.x < 16)
        v += __shfl_xor_sync(0xffffffffu, v, 1);
    else
        __syncthreads();
    y[threadIdx.x] = v;
}""", 1, 32, ones(32), 0, 4, "deadlock"),
    "a shuffle with lanes that have returned": ("""(float *y) {
    if (threadIdx.x >= 16) return;
    y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}""", 1, 32, ones(32), 0, 3, "lanes that have returned"),
    "a lane outside its own mask": ("""(float *y) {
    y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 0);
}""", 1, 32, ones(32), 0, 2, "not in its own mask"),
    "too little dynamic shared memory": ("""(float *y) {
    extern __shared__ float s[];
    s[threadIdx.x] = 1;
    y[threadIdx.x] = s[threadIdx.x];
}""", 1, 64, ones(64), 128, 3, "writes byte 128 of the dynamic shared memory, which has 128"),
    "past the end of a shared array": ("""(float *y) {
    __shared__ float a[64], b[64];
    a[threadIdx.x] = b[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = b[threadIdx.x] + a[threadIdx.x + 64 * (threadIdx.x == 63)];
}""", 1, 64, ones(64), 0, 5, "__shared__ "),
    "a sum of blocks without an atomic": ("""(const float *x, float *y) {
    *y += x[blockIdx.x];
}""", 4, 1, ones(4, 1), 0, 2, "blocks are not ordered: use an atomic"),
    "two blocks that write one place": ("""(float *y) {
    y[threadIdx.x + 31 * blockIdx.x] = 1;
}""", 2, 32, ones(63), 0, 2, "data race: writes y[31]"),
    "a float4 that is not aligned": ("""(const float *x, float *y) {
    float4 v = *(const float4 *)(x + 1 + 4 * threadIdx.x);
    y[threadIdx.x] = v.x + v.w;
}""", 1, 32, ones(256, 32), 0, 2, "misaligned"),
    "an atomic that others read plainly": ("""(float *y, float *z) {
    atomicAdd(y, 1.0f);
    z[threadIdx.x] = *y;
}""", 1, 64, ones(1, 64), 0, 3, "data race: writes y[0]"),
    "an atomic outside of its array": ("""(int *bins) {
    atomicAdd(&bins[threadIdx.x / 4], 1);
}""", 1, 64, (np.zeros(15, i),), 0, 2, "writes bins[15], which has 15 elements"),
    "an assertion": ("""(float *y) {
    assert(threadIdx.x < 32);
    y[threadIdx.x] = 1;
}""", 1, 64, ones(64), 0, 2, "assert(threadIdx.x < 32)"),
    "a broadcast written by every thread with another value": ("""(float *y) {
    __shared__ float total;
    total = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = total;
}""", 1, 64, ones(64), 0, 3, "data race: writes __shared__ total[0]"),
    "a copy that nobody waits for": ("""(float *y, const float *x) {
    __shared__ __align__(16) float s[128];
    copy_async(&s[4 * threadIdx.x], &x[4 * threadIdx.x]);
    copy_commit();
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}""", 1, 32, ones(32, 128), 0, 6, "which cp.async at mine.cu:3 may still be copying"),
    "a wait that lets the newest group go on": ("""(float *y, const float *x) {
    __shared__ __align__(16) float s[2][128];
    for (int i = 0; i < 2; i++) {
        copy_async(&s[i][4 * threadIdx.x], &x[4 * threadIdx.x]);
        copy_commit();
    }
    copy_wait<1>();
    __syncthreads();
    y[threadIdx.x] = s[0][threadIdx.x];
    y[threadIdx.x] += s[1][threadIdx.x];
}""", 1, 32, ones(32, 128), 0, 10, "lets too many groups go on"),
    "a copy waited for, and no barrier for the others": ("""(float *y, const float *x) {
    __shared__ __align__(16) float s[128];
    copy_async(&s[4 * threadIdx.x], &x[4 * threadIdx.x]);
    copy_commit();
    copy_wait<0>();
    y[threadIdx.x] = s[127 - threadIdx.x];
}""", 1, 32, ones(32, 128), 0, 6, "missing before"),
    "a transposed tile with the sides mixed up": ("""(const float *x, float *y, int n) {
    __shared__ float t[16][17];
    t[threadIdx.y][threadIdx.x] = x[threadIdx.y * n + threadIdx.x];
    __syncthreads();
    y[threadIdx.x * n + threadIdx.y + 1] = t[threadIdx.y][threadIdx.x];
}""", 1, (16, 16), (*ones(256, 256), i(16)), 0, 5, "writes y[256], which has 256 elements"),
}

RIGHT = {
    "an exact bound": ("""(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = 2 * x[i];
}""", 4, 64, (*ones(250, 250), i(250)), 0),
    "a tile loop with both barriers": ("""(const float *x, float *y) {
    __shared__ float s[64];
    float sum = 0;
    for (int t = 0; t < 4; t++) {
        s[threadIdx.x] = x[t * 64 + threadIdx.x];
        __syncthreads();
        for (int j = 0; j < 64; j++) sum += s[j];
        __syncthreads();
    }
    y[threadIdx.x] = sum;
}""", 1, 64, ones(256, 64), 0),
    "a reduction in a warp with __syncwarp": ("""(const float *x, float *y) {
    __shared__ float s[32];
    int t = threadIdx.x;
    s[t] = x[t];
    __syncwarp();
    for (int o = 16; o > 0; o /= 2) {
        if (t < o) s[t] += s[t + o];
        __syncwarp();
    }
    if (t == 0) *y = s[0];
}""", 1, 32, ones(32, 1), 0),
    "atomics from many blocks": ("""(const float *x, float *y) {
    atomicAdd(y, x[blockIdx.x * blockDim.x + threadIdx.x]);
}""", 4, 16, ones(64, 1), 0),
    "threads that return before a barrier": ("""(const float *x, float *y, int n) {
    __shared__ float s[64];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    s[threadIdx.x] = x[i];
    __syncthreads();
    y[i] = s[0];
}""", 2, 64, (*ones(100, 100), i(100)), 0),
    "two halves of a warp under their own masks": ("""(float *y) {
    int lane = threadIdx.x;
    float v = lane;
    if (lane < 16) {
        for (int o = 8; o > 0; o /= 2) v += __shfl_xor_sync(0x0000ffffu, v, o, 16);
        v += __shfl_sync(0x0000ffffu, v, 3, 16);
    } else {
        for (int o = 8; o > 0; o /= 2) v += __shfl_down_sync(0xffff0000u, v, o, 16);
    }
    __syncwarp();
    y[lane] = v;
}""", 1, 32, ones(32), 0),
    "dynamic shared memory of several kinds": ("""(float *y) {
    extern __shared__ float s[];
    int *counts = (int *)(s + 64);
    s[threadIdx.x] = 1;
    counts[threadIdx.x] = 2;
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x] + counts[63 - threadIdx.x];
}""", 1, 64, ones(64), 512),
    "a copy in two stages": ("""(float *y, const float *x) {
    __shared__ __align__(16) float s[2][128];
    for (int i = 0; i < 2; i++) {
        copy_async(&s[i][4 * threadIdx.x], &x[4 * threadIdx.x]);
        copy_commit();
    }
    copy_wait<1>();
    __syncthreads();
    y[threadIdx.x] = s[0][127 - threadIdx.x];
    copy_wait<0>();
    __syncthreads();
    y[threadIdx.x] += s[1][127 - threadIdx.x];
}""", 1, 32, ones(32, 128), 0),
    "vectors of four": ("""(const float *x, float *y) {
    float4 v = ((const float4 *)x)[threadIdx.x];
    ((float4 *)y)[threadIdx.x] = make_float4(v.w, v.z, v.y, v.x);
}""", 1, 32, ones(128, 128), 0),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_broken_kernel_is_reported_for_the_right_reason_at_the_right_line(name, tmp_path):
    code, grid, block, arguments, shared_mem, line, words = BUGS[name]
    with pytest.raises(KernelError) as report:
        run(tmp_path, code, grid, block, copies(arguments), shared_mem, mode="check")
    message = str(report.value)
    assert words in message
    assert f"mine.cu:{line}" in message


@pytest.mark.parametrize("name", BUGS)
def test_a_broken_kernel_is_reported_in_the_other_order_too(name, tmp_path):
    code, grid, block, arguments, shared_mem, _, _ = BUGS[name]
    with pytest.raises(KernelError, match="mine.cu:[0-9]"):
        run(tmp_path, code, grid, block, copies(arguments), shared_mem, mode="check",
            order="reverse")


@pytest.mark.parametrize("mode", ["check", "count"])
@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_kernel_raises_nothing(name, order, mode, tmp_path):
    code, grid, block, arguments, shared_mem = RIGHT[name]
    run(tmp_path, code, grid, block, copies(arguments), shared_mem, mode=mode, order=order)
