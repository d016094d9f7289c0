import numpy as np
import pytest

from tinygrad_edu.gpu import source


def written(folder, name, code):
    path = folder / name
    path.write_text(code, encoding="utf-8")
    return path


def test_a_header_is_inlined_once_and_lines_are_counted_as_the_author_does(tmp_path):
    written(tmp_path, "a.cuh", "#pragma once\nint a;\n")
    written(tmp_path, "b.cuh", '#include "a.cuh"\nint b;\n')
    path = written(tmp_path, "k.cu", '#include "a.cuh"\n#include "b.cuh"\nint c;\n')
    text = source.read(path).text
    assert text.count("int a;") == 1
    assert '#line 3 "k.cu"' in text
    assert text.index("int a;") < text.index("int b;") < text.index("int c;")


def test_a_changed_file_is_read_again(tmp_path):
    path = written(tmp_path, "k.cu", 'extern "C" __global__ void one(int *y) {}')
    assert list(source.read(path).kernels) == ["one"]
    written(tmp_path, "k.cu", 'extern "C" __global__ void another(int *y) {}')
    assert list(source.read(path).kernels) == ["another"]


def test_a_kernel_says_its_parameters_its_line_and_its_promises(tmp_path):
    text = source.read(written(tmp_path, "k.cu", """#include "common.cuh"
typedef unsigned char byte;
// expect: regs<=64 spills=0 sass=HMMA,LDGSTS
// A comment between.
extern "C" __global__ void __launch_bounds__(128)
k(real *__restrict__ y, const byte *x, /* not, this */ long long n, real eps, unsigned seed) {
}
template <int N> __global__ void not_callable(float *y) {}
"""))
    assert list(text.kernels) == ["k"]
    kernel = text.kernels["k"]
    assert [p.name for p in kernel.parameters] == ["y", "x", "n", "eps", "seed"]
    assert [p.is_pointer for p in kernel.parameters] == [True, True, False, False, False]
    assert [p.is_read_only for p in kernel.parameters] == [False, True, False, False, False]
    types = [text.dtype(p, {"REAL": "double"}) for p in kernel.parameters]
    assert types == [np.float64, np.uint8, np.int64, np.float64, np.uint32]
    assert kernel.most_threads == 128
    assert kernel.line == 5
    assert kernel.expect == {"regs": "64", "spills": "0", "sass": "HMMA,LDGSTS"}


def test_a_missing_header_is_named_with_its_line(tmp_path):
    path = written(tmp_path, "k.cu", '\n#include "nowhere.cuh"\n')
    with pytest.raises(OSError, match=r"k.cu:2 includes nowhere.cuh"):
        source.read(path)


@pytest.mark.parametrize("code, wide", [
    ("float4 v = *(const float4 *)x;", True),
    ("((double2*)y)[0] = make_double2(1, 2);", True),
    ("const uint4 *const p = (const uint4 const *)x;", True),
    ("for (int e = 0; e < 64 * 16; e++) y[e] = x[e];", False),
    ("float r4 = 2; y[0] = r4 * x[0];", False),
    ("char4 v = *(const char4 *)x;", False),
    ("// float4 *p", False),
])
def test_pointers_to_sixteen_bytes_want_arrays_that_begin_at_a_multiple_of_16(tmp_path, code, wide):
    path = written(tmp_path, "k.cu",
                   f'extern "C" __global__ void k(float *y, const float *x) {{\n{code}\n}}')
    assert source.read(path).wants_16_bytes == wide
