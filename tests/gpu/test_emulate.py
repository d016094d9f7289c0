"""The emulator: what threads of a warp and of a block do together, and what stops a kernel."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from harness import need
from tinygrad_edu.gpu import compiler, emulate, source
from tinygrad_edu.gpu.emulate import KernelError, emulating
from tinygrad_edu.gpu.launch import Launcher

ORDERS = ["forward", "reverse"]


@pytest.fixture
def kernel(tmp_path):
    """kernel(code) -> a Launcher of the first kernel of the code."""
    need("cuda")

    def make(code, name="k"):
        path = tmp_path / "mine.cu"
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        return Launcher(path, name)
    return make


@pytest.mark.parametrize("mode", ["fast", "check", "debug"])
@pytest.mark.parametrize("order", ORDERS)
def test_votes_of_a_warp_and_of_a_block_count_every_thread_once(kernel, mode, order):
    vote = kernel("""
        extern "C" __global__ void k(const int *x, int *y) {
            int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
            unsigned b = __ballot_sync(0xffffffffu, x[t]);
            y[t] = __popc(b) * 10000 + __any_sync(0xffffffffu, x[t]) * 1000
                 + __all_sync(0xffffffffu, x[t]) * 100 + __syncthreads_count(x[t]);
        }""")
    x = (np.random.default_rng(0).random(96) > 0.5).astype(np.int32)
    x[64:] = 1
    y = np.zeros(96, np.int32)
    with emulating(mode=mode, order=order):
        vote(1, (8, 4, 3), (x, y))
    for warp in range(3):
        part = x[32 * warp:32 * warp + 32]
        expected = part.sum() * 10000 + part.any() * 1000 + part.all() * 100 + x.sum()
        assert (y[32 * warp:32 * warp + 32] == expected).all()


@pytest.mark.parametrize("order", ORDERS)
def test_shuffles_stay_in_their_segment_and_at_its_edges_keep_their_own_value(kernel, order):
    shuffle = kernel("""
        extern "C" __global__ void k(int *y) {
            int t = threadIdx.x;
            y[t] = __shfl_sync(0xffffffffu, t, 3, 8);
            y[32 + t] = __shfl_up_sync(0xffffffffu, t, 1, 8);
            y[64 + t] = __shfl_down_sync(0xffffffffu, t, 1, 8);
            y[96 + t] = __shfl_xor_sync(0xffffffffu, t, 5);
        }""")
    y = np.zeros((4, 32), np.int32)
    with emulating(order=order):
        shuffle(1, 32, (y,))
    t = np.arange(32)
    assert np.array_equal(y[0], t // 8 * 8 + 3)
    assert np.array_equal(y[1], np.where(t % 8 == 0, t, t - 1))
    assert np.array_equal(y[2], np.where(t % 8 == 7, t, t + 1))
    assert np.array_equal(y[3], t ^ 5)


@pytest.mark.parametrize("order", ORDERS)
def test_atomics_of_many_blocks_on_all_cores_lose_nothing(kernel, order):
    add = kernel("""
        extern "C" __global__ void k(float *f, double *d, int *most, unsigned *bits) {
            atomicAdd(f, 1.0f);
            atomicAdd(d, 0.5);
            atomicMax(most, (int)(blockIdx.x * blockDim.x + threadIdx.x));
            atomicXor(bits, 1u << threadIdx.x % 32);
        }""")
    f, d = np.zeros(1, np.float32), np.zeros(1)
    most, bits = np.zeros(1, np.int32), np.zeros(1, np.uint32)
    with emulating(order=order):
        add(100, 96, (f, d, most, bits))
    assert (f[0], d[0], most[0], bits[0]) == (9600, 4800, 9599, 0)


def test_shared_memory_begins_as_nan_in_every_block(kernel):
    leave = kernel("""
        extern "C" __global__ void k(float *y) {
            __shared__ float s[32];
            extern __shared__ float d[];
            y[blockIdx.x * 32 + threadIdx.x] = s[threadIdx.x] + d[threadIdx.x];
            s[threadIdx.x] = d[threadIdx.x] = 1;
        }""")
    y = np.zeros((5, 32), np.float32)
    leave(5, 32, (y,), shared_mem=128)
    assert np.isnan(y).all()


def test_a_copy_that_is_not_waited_for_leaves_nan_as_long_as_it_may_on_a_gpu(kernel):
    code = """
        #include "tensorcore.cuh"
        extern "C" __global__ void k(float *y, const float *x) {{
            __shared__ __align__(16) float s[128];
            copy_async(&s[4 * threadIdx.x], &x[4 * threadIdx.x]);
            copy_commit();
            {wait}
            __syncthreads();
            for (int i = 0; i < 4; i++) y[4 * threadIdx.x + i] = s[4 * threadIdx.x + i];
        }}"""
    x, y = np.arange(128, dtype=np.float32), np.zeros(128, np.float32)
    kernel(code.format(wait="copy_wait<0>();"))(1, 32, (y, x))
    assert np.array_equal(y, x)
    kernel(code.format(wait=""))(1, 32, (y, x))
    assert np.isnan(y).all()


MMA = """
    #include <cuda_bf16.h>
    #include "tensorcore.cuh"
    __device__ unsigned pair(float low, float high) {
        return __bfloat16_as_ushort(__float2bfloat16(low)) |
               (unsigned)__bfloat16_as_ushort(__float2bfloat16(high)) << 16;
    }
    extern "C" __global__ void k(float *c, const float *a, const float *b) {  // (16, 8), (16, 16)
        const int g = threadIdx.x / 4, t = threadIdx.x % 4;                   // and (8, 16)
        unsigned x[4], y[2];
        float d[4] = {0, 0, 0, 0};
        for (int i = 0; i < 4; i++) {
            const float *p = a + (g + 8 * (i % 2)) * 16 + 2 * t + 8 * (i / 2);
            x[i] = pair(p[0], p[1]);
        }
        for (int i = 0; i < 2; i++) {
            const float *p = b + g * 16 + 2 * t + 8 * i;
            y[i] = pair(p[0], p[1]);
        }
        mma_bf16(d, x, y);
        for (int i = 0; i < 4; i++) c[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = d[i];
    }"""


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_tensor_core_product_of_small_integers_is_exact(kernel, order, mode):
    random = np.random.default_rng(0)
    a, b = (random.integers(-9, 10, (n, 16)).astype(np.float32) for n in (16, 8))
    c = np.full((16, 8), np.nan, np.float32)
    with emulating(order=order, mode=mode):
        kernel(MMA)(1, 32, (c, a, b))
    assert np.array_equal(c, a @ b.T)


def test_half_and_bfloat16_round_to_nearest_even_and_keep_nan_and_infinity(kernel):
    convert = kernel("""
        #include <cuda_fp16.h>
        #include <cuda_bf16.h>
        extern "C" __global__ void k(float *y, float *z, const float *x) {
            y[threadIdx.x] = __half2float(__float2half(x[threadIdx.x]));
            z[threadIdx.x] = __bfloat162float(__float2bfloat16(x[threadIdx.x]));
        }""")
    x = np.array([1, -2.5, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, 65504, 1e30,
                  np.inf, -np.inf, np.nan, 6e-8], np.float32)
    y, z = np.zeros_like(x), np.zeros_like(x)
    convert(1, len(x), (y, z, x))
    with np.errstate(over="ignore"):
        assert np.array_equal(y, x.astype(np.float16).astype(np.float32), equal_nan=True)
    assert np.array_equal(z[:6], np.array([1, -2.5, 1, 1, 1, 1 + 2**-6], np.float32))
    assert np.isnan(z[10]) and z[8] == np.inf and z[9] == -np.inf


@pytest.fixture
def portable(monkeypatch):
    """The emulator as it is built for a processor that has no switch of its own."""
    need("cuda")
    caches = (emulate.runtime_path, emulate.runtime, emulate.emulated_file)
    monkeypatch.setattr(emulate, "RUNTIME", [*emulate.RUNTIME, "-DFIBER_PORTABLE"])
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_the_portable_switch_runs_and_reports_the_same(portable, kernel):
    reverse = kernel("""
        extern "C" __global__ void k(float *y, int wrong) {
            __shared__ float s[96];
            s[threadIdx.x] = threadIdx.x + __shfl_xor_sync(0xffffffffu, 1.0f, 1);
            if (!wrong) __syncthreads();
            y[threadIdx.x] = s[95 - threadIdx.x];
        }""")
    y = np.zeros(96, np.float32)
    for mode in ("fast", "check"):
        with emulating(mode=mode):
            reverse(3, 96, (y, 0)) if mode == "fast" else reverse(1, 96, (y, 0))
        assert np.array_equal(y, np.arange(96, 0, -1))
    with emulating(mode="check"), pytest.raises(KernelError, match="mine.cu:6.*__syncthreads is"):
        reverse(1, 96, (y, 1))


def test_a_deadlock_says_who_waits_where(kernel):
    stuck = kernel("""
        extern "C" __global__ void k(float *y) {
            if (threadIdx.x < 16) __shfl_xor_sync(0xffffffffu, 1, 1);
            else __syncthreads();
        }""")
    with pytest.raises(KernelError) as report:
        stuck(1, 32, (np.zeros(1, np.float32),))
    assert "16 from (0,0,0) on in __shfl_xor_sync at mine.cu:3" in str(report.value)
    assert "16 from (16,0,0) on in __syncthreads at mine.cu:4" in str(report.value)


def test_after_a_kernel_has_failed_the_next_one_runs(kernel):
    mixed = kernel("""
        extern "C" __global__ void k(int *y, int bad) {
            if (bad) __trap();
            __syncthreads();
            y[threadIdx.x] = threadIdx.x;
        }""")
    y = np.zeros(64, np.int32)
    for _ in range(3):
        with pytest.raises(KernelError, match=r"__trap\(\) at mine.cu:3: thread \(0,0,0\)"):
            mixed(4, 64, (y, 1))
        mixed(1, 64, (y, 0))
        assert np.array_equal(y, np.arange(64))


LOOPS = {"in the kernel": "while (*(volatile int *)y == 0) {}",
         "in barriers": "while (*(volatile int *)y == 0) __syncthreads();"}


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("loop", LOOPS)
def test_control_c_ends_an_endless_kernel_and_the_process_goes_on(kernel, loop, mode):
    endless = kernel(f"""
        extern "C" __global__ void k(int *y) {{
            {LOOPS[loop]}
        }}""")
    y = np.zeros(1, np.int32)
    with emulating(mode=mode):
        y[0] = 1
        endless(1, 32, (y,))  # built, and ends
        y[0] = 0
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            endless(4, 32, (y,))
        y[0] = 1
        endless(4, 32, (y,))


def test_a_kernel_that_does_not_compile_shows_the_compilers_message_at_its_line(kernel):
    wrong = kernel("""
        #include "common.cuh"
        extern "C" __global__ void k(real *y) {
            y[0] = undeclared;
        }""")
    with pytest.raises(compiler.CompileError, match=r"mine.cu:4:\d+: error: .*undeclared"):
        wrong(1, 32, (np.zeros(1, np.float32),))


def test_a_build_is_found_again_by_everything_it_depends_on():
    need("cuda")
    text = {"a.cpp": '#include "a.h"\nint f() { return X; }'}
    path = compiler.shared_library("a", text, {"a.h": "#define X 1"}, ["-O1"])
    assert compiler.shared_library("a", text, {"a.h": "#define X 1"}, ["-O1"]) == path
    others = {compiler.shared_library("a", text, {"a.h": "#define X 2"}, ["-O1"]),
              compiler.shared_library("a", text, {"a.h": "#define X 1"}, ["-O2"]), path}
    assert len(others) == 3
    for other in others:
        other.unlink()


def test_without_a_compiler_one_sentence_says_what_to_install():
    program = ("import sys, warnings; warnings.simplefilter('ignore')\n"
               "sys.modules['ziglang'] = None\n"
               "import numpy as np\nfrom tinygrad_edu.gpu.launch import G\n"
               "y = np.zeros((1, 32), np.float32)\n"
               "try: G(y).softmax_forward(1, 32, (y, y.copy(), 32))\n"
               "except OSError as error: print(error)")
    environment = {**os.environ, "PATH": "/nonexistent"}
    out = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True,
                         text=True, check=True).stdout
    assert out.strip() == compiler.NONE


REFUSED = {
    "a float of Python": (1, 32, lambda y: (y, y, 1.0, 1), TypeError, "eps: float is wanted"),
    "a double for a float": (1, 32, lambda y: (y, y, np.float64(1), 1), TypeError, "np.float32"),
    "an int too large": (1, 32, lambda y: (y, y, np.float32(1), 2**31), ValueError, "not fit into"),
    "another type": (1, 32, lambda y: (y, y.astype(np.int32), np.float32(1), 1), TypeError,
                     r"parameter x: float\* is an array of float32, not of int32"),
    "an array with gaps": (1, 32, lambda y: (y, y[::2], np.float32(1), 1), ValueError, "gaps"),
    "a list": (1, 32, lambda y: (y, [1.0], np.float32(1), 1), TypeError, "not list"),
    "too few arguments": (1, 32, lambda y: (y, y), TypeError, r"k\(y, x, eps, n\) got 2"),
    "too many threads": (1, 2048, lambda y: (y, y, np.float32(1), 1), ValueError, "2048 threads"),
    "more threads than promised": (1, 256, lambda y: (y, y, np.float32(1), 1), ValueError, "128"),
    "a block too deep": (1, (1, 1, 65), lambda y: (y, y, np.float32(1), 1), ValueError, "block of"),
    "a grid too high": ((1, 70000), 32, lambda y: (y, y, np.float32(1), 1), ValueError, "grid of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_launch_that_cannot_work_is_refused_with_the_reason(name, kernel):
    grid, block, arguments, error, words = REFUSED[name]
    scale = kernel("""
        extern "C" __global__ void __launch_bounds__(128)
        k(float *y, const float *x, float eps, int n) {}""")
    with pytest.raises(error, match=words):
        scale(grid, block, arguments(np.zeros(64, np.float32)))


def test_read_only_unaligned_and_oversized_memory_is_refused(kernel):
    store = kernel("""
        extern "C" __global__ void k(float *y) { *(float4 *)y = make_float4(1, 2, 3, 4); }""")
    y = np.zeros(8, np.float32)
    start = y.ctypes.data // 4 % 4
    with pytest.raises(ValueError, match="multiple of 16 bytes"):
        store(1, 1, (y[1 + start % 3:],))
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        store(1, 1, (y,))
    with pytest.raises(ValueError, match="bytes of shared memory"):
        store(1, 1, (np.zeros(8, np.float32),), shared_mem=300_000)


def test_the_lesson_kernels_have_different_names():
    assert "softmax_forward" in source.lesson_kernels()


COPIES = """#include "tensorcore.cuh"
{tag}
extern "C" __global__ void k(float *y, const float *x, const float *bias) {{
    __shared__ __align__(16) float s[128];
    copy_async(&s[4 * threadIdx.x], &x[4 * threadIdx.x]);
    copy_commit();
    copy_wait<0>();
    y[threadIdx.x] = s[4 * threadIdx.x] + bias[0];
}}
"""


def test_arrays_that_a_kernel_says_it_copies_by_sixteen_bytes_must_begin_there(kernel):
    long, y = np.arange(132, dtype=np.float32), np.zeros(32, np.float32)
    copy = kernel(COPIES.format(tag="// expect: aligned=x"))
    copy(1, 32, (y, long[4:], long[1:2]))  # only x has to
    assert np.array_equal(y, long[4::4] + 1)
    with pytest.raises(ValueError, match="parameter x: it does not begin at a multiple of 16"):
        copy(1, 32, (y, long[1:129], long))


def test_a_copy_by_sixteen_bytes_out_of_a_slice_is_reported_where_memory_is_watched(kernel):
    long, y = np.arange(132, dtype=np.float32), np.zeros(32, np.float32)
    copy = kernel(COPIES.format(tag=""))
    with emulating(mode="check"):
        copy(1, 32, (y, long[4:], long[1:2]))
        with pytest.raises(KernelError, match=r"mine.cu:5,.*: misaligned: reads 16"):
            copy(1, 32, (y, long[1:129], long))
