"""NVIDIA's compiler takes every kernel, and they need no more than their files declare."""

import shutil

import pytest

from tinygrad_edu.gpu import nvrtc, source
from tinygrad_edu.gpu.launch import NAMES

pytestmark = pytest.mark.skipif(not nvrtc.available(), reason="NVRTC is not installed")
FILES = sorted(path.name for path in source.folder().glob("*.cu"))


def written(tmp_path, code):
    path = tmp_path / "mine.cu"
    path.write_text(code, encoding="utf-8")
    return source.read(path)


@pytest.mark.parametrize("real", NAMES.values())
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("name", FILES)
def test_every_kernel_file_compiles_and_keeps_its_promises(name, architecture, real):
    text = source.read(source.folder() / name)
    compiled = nvrtc.compile_source(text, architecture, (("REAL", real),))
    assert set(compiled.resources) == set(text.kernels)
    assert compiled.code[:4] == b"\x7fELF"
    assert not list(nvrtc.broken_promises(text, compiled, f"{name}, {architecture}, {real}"))
    assert all(used.shared <= 48 << 10 for used in compiled.resources.values())


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_products_of_half_precision_keep_the_same_promises(architecture):
    text = source.read(source.folder() / "matmul_tensorcore.cu")
    compiled = nvrtc.compile_source(text, architecture, (("FP16", 1), ("A_TURNED", 1)))
    assert not list(nvrtc.broken_promises(text, compiled, architecture))


def test_a_kernel_that_spills_breaks_its_promise(tmp_path):
    text = written(tmp_path, """// expect: regs<=16 spills=0
extern "C" __global__ void __launch_bounds__(1024) k(float *y, int n) {
    float a[200];
    for (int i = 0; i < 200; i++) a[i] = y[i];
    for (int i = 0; i < n; i++) y[i] = a[(i * 7) % 200] + a[(i * 3) % 200];
    for (int i = 0; i < 100; i++) y[i] = a[i] * a[199 - i];
}
""")
    said = list(nvrtc.broken_promises(text, nvrtc.compile_source(text), "mine.cu"))
    assert any(s.startswith("mine.cu: k has regs=") and s.endswith("declared is 16") for s in said)


def test_an_error_is_the_compilers_at_the_line_of_the_file(tmp_path):
    text = written(tmp_path, """#include "common.cuh"
extern "C" __global__ void k(real *y) {
    y[0] = undeclared;
}
""")
    with pytest.raises(ValueError, match=r"mine.cu\(3\): error: identifier \"undeclared\""):
        nvrtc.compile_source(text)


def test_tensor_core_instructions_and_asynchronous_copies_compile(tmp_path):
    text = written(tmp_path, """#include <cuda_bf16.h>
#include "tensorcore.cuh"
extern "C" __global__ void k(float *y, const unsigned *x) {
    __shared__ __align__(16) unsigned s[128];
    copy_async(&s[4 * threadIdx.x], &x[4 * threadIdx.x]);
    copy_commit();
    copy_wait<0>();
    __syncwarp();
    const unsigned a[4] = {s[threadIdx.x], s[32 + threadIdx.x], s[64 + threadIdx.x], 0};
    const unsigned b[2] = {s[96 + threadIdx.x], 1};
    float d[4] = {0, 0, 0, 0};
    mma_bf16(d, a, b);
    y[threadIdx.x] = d[0] + d[1] + d[2] + d[3];
}
""")
    for architecture in nvrtc.ARCHITECTURES:
        assert nvrtc.compile_source(text, architecture).resources["k"].shared == 512


def test_instructions_are_counted_by_kind_and_width(tmp_path):
    text = written(tmp_path, """extern "C" __global__ void wide(float4 *y, const float4 *x) {
    y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void narrow(float *y, const double *x) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, s[63 - threadIdx.x], 1);
}
""")
    for architecture in nvrtc.ARCHITECTURES:
        found = nvrtc.instructions(nvrtc.compile_source(text, architecture).code)
        assert found == {"wide": {"LDG.128": 1, "STG.128": 1},
                         "narrow": {"LDG.64": 1, "STG": 1, "STS": 1, "LDS": 1, "BAR": 1, "SHFL": 1}}


@pytest.mark.parametrize("begin, instead, missed", [
    ('asm volatile("cp.async.cg.', "*(uint4 *)to = there ? *(const uint4 *)from : uint4{}",
     {("matmul_bf16", "LDGSTS.128"), ("matmul_tf32", "LDGSTS.128")}),
    ('asm volatile("mma.sync.aligned.m16n8k16', "sums[0] += a[0] * b[0] + a[1] * b[1]",
     {("matmul_bf16", "HMMA"), ("matmul_bf16_naive", "HMMA")}),
    ('asm volatile("mma.sync.aligned.m16n8k8', "sums[0] += a[0] * b[0] + a[1] * b[1]",
     {("matmul_tf32", "HMMA")}),
])
def test_a_kernel_without_the_instructions_it_claims_breaks_its_promise(
        tmp_path, begin, instead, missed):
    for path in source.folder().glob("*.cu*"):
        shutil.copy(path, tmp_path)
    header = tmp_path / "tensorcore.cuh"
    before, after = header.read_text(encoding="utf-8").split(begin)
    header.write_text(before + instead + after[after.index(";\n", after.index(': "')):],
                      encoding="utf-8")
    text = source.read(tmp_path / "matmul_tensorcore.cu")
    for architecture in nvrtc.ARCHITECTURES:
        said = set(nvrtc.broken_promises(text, nvrtc.compile_source(text, architecture), "here"))
        assert said >= {f"here: {kernel} has no {what} in its machine code, and declares it"
                        for kernel, what in missed}
