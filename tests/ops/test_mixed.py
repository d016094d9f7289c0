import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.gpu.emulate import available
from tinygrad_edu.ops.mixed import matmul_bf16, matmul_fp16, round_bf16, round_fp16
from tinygrad_edu.watch import settings


def shapes(draw):
    return draw.out(24, 40), draw.array(24, 16), draw.array(16, 40)


def turned(draw):
    return draw.out(24, 40), draw.array(16, 24).T, draw.array(40, 16).T


CASES = {kernel: [shapes, turned] for kernel in (matmul_bf16, matmul_fp16)}


@pytest.mark.parametrize("kernel, case, body, real",
                         [p for p in body_cases(CASES) if p.values[3] is np.float32])
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even():
    x = np.array([1, 1 + 2.0 ** -8, 1 + 3 * 2.0 ** -8, 1 + 2.0 ** -8 + 2.0 ** -20], np.float32)
    assert round_bf16(x).tolist() == [1, 1, 1 + 2.0 ** -6, 1 + 2.0 ** -7]
    assert np.isnan(round_bf16(np.array([np.nan], np.float32))).all()


def test_half_precision_ends_where_the_lesson_says():
    x = np.array([65504, 65536, 2.9e-8, 6e-8], np.float32)
    assert round_fp16(x).tolist() == [65504, np.inf, 0, 2.0 ** -24]


@pytest.mark.skipif(not available(), reason="no C++ compiler here")
@pytest.mark.parametrize("kernel", [matmul_bf16, matmul_fp16])
def test_products_of_odd_sizes_are_right_too(kernel):
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(s, np.float32) for s in ((5, 7), (7, 3)))
    y = np.empty((5, 3), np.float32)
    with settings(forced="emulator"):
        kernel(y, a, b)
    np.testing.assert_allclose(y, a @ b, rtol=1e-5)
