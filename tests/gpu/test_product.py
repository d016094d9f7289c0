import numpy as np
import pytest

from tinygrad_edu.gpu.emulate import available, emulating
from tinygrad_edu.gpu.launch import G
from tinygrad_edu.gpu.product import (
    LADDER,
    ladder_product,
    launch_product,
    serves_product,
    tensor_core_product,
)

pytestmark = pytest.mark.skipif(not available(), reason="no C++ compiler here")

SHAPES = [(1, 8, 8), (16, 16, 8), (72, 40, 136), (131, 200, 64)]               # (N, K, M)


def to_bf16(x):
    """The nearest bfloat16, ties to even, as its bits."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(x):
    return (x.astype(np.uint32) << 16).view(np.float32)


def operand(random, rows, columns, turned, unit):
    """Numbers of three bits, so that every product is exact; the stored rows multiples of unit."""
    rows, columns = (-(-n // unit) * unit if n > 1 else n for n in (rows, columns))
    x = random.integers(-4, 5, (columns, rows) if turned else (rows, columns)).astype(np.float32)
    return x.T if turned else x


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("step", LADDER)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_each_step_of_the_ladder_computes_the_product(step, real, order):
    random = np.random.default_rng(0)
    a, b = (random.integers(-4, 5, shape).astype(real) for shape in ((67, 35), (35, 70)))
    y = np.full((67, 70), np.nan, real)
    with emulating(order=order):
        ladder_product(step, y, a, b)
    assert np.array_equal(y, a @ b)


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_large_tiles_compute_what_small_ones_do(turned, order):
    random = np.random.default_rng(0)
    a, b = operand(random, 140, 19, turned[0], 1), operand(random, 19, 263, turned[1], 1)
    y = np.full((140, 263), np.nan, np.float32)
    stored = [x.T if is_turned else x for x, is_turned in zip((a, b), turned, strict=True)]
    with emulating(order=order):
        G(y, SIDE=8).matmul_forward(2 * 3, 256, (y, *stored, 140, 19, 263, *turned))
    assert np.array_equal(y, a @ b)


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("kind", ["bf16", "tf32"])
@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_tensor_cores_compute_exact_products_in_every_layout(turned, kind, order):
    random = np.random.default_rng(0)
    for N, K, M in SHAPES:
        a, b = operand(random, N, K, turned[0], 8), operand(random, K, M, turned[1], 8)
        y = np.full((a.shape[0], b.shape[1]), np.nan, np.float32)
        if turned[0] and N == 1:
            continue                               # one stored row a number: no multiple of 8
        bias = random.integers(-4, 5, b.shape[1]).astype(np.float32)
        given = (a, b) if kind == "tf32" else (to_bf16(a), to_bf16(b))
        with emulating(order=order):
            tensor_core_product(y, *given, bias)
        assert np.array_equal(y, a @ b + bias), (N, K, M)


def test_the_naive_product_of_tensor_cores_picks_the_right_fragments():
    random = np.random.default_rng(0)
    a, b = (random.integers(-4, 5, shape).astype(np.float32) for shape in ((21, 19), (19, 13)))
    y = np.full((21, 13), np.nan, np.float32)
    grid = (2, 2)
    G(y, REAL="float").matmul_bf16_naive(grid, 32, (y, to_bf16(a), to_bf16(b), 21, 19, 13))
    assert np.array_equal(y, a @ b)


def test_a_product_in_bfloat16_is_rounded_once_at_its_end():
    random = np.random.default_rng(0)
    a, b = (to_bf16(random.standard_normal((64, 64))) for _ in range(2))
    y = np.empty((64, 64), np.uint16)
    tensor_core_product(y, a, b)
    exact = from_bf16(a).astype(np.float64) @ from_bf16(b)
    assert np.abs(from_bf16(y) - exact).max() <= 2**-8 * np.abs(exact).max()
    assert np.mean(y == to_bf16(exact)) > 0.99


def test_tf32_keeps_eleven_bits_of_each_operand():
    a, b = np.zeros((8, 8), np.float32), np.eye(8, dtype=np.float32)
    a[0, :4] = 1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -(1 + 2**-11)
    y = np.empty_like(a)
    tensor_core_product(y, a, b)
    assert y[0, :4].tolist() == [1 + 2**-10, 1 + 2**-10, 1, -(1 + 2**-10)]


def test_what_a_product_does_not_take_is_named():
    y, a = np.zeros((8, 8), np.float32), np.zeros((8, 12), np.float32)
    with pytest.raises(ValueError, match="multiples of 4"):
        tensor_core_product(y, np.zeros((8, 6), np.float32), np.zeros((6, 8), np.float32))
    with pytest.raises(ValueError, match="does not fit"):
        tensor_core_product(y, a, a)
    with pytest.raises(TypeError, match="bfloat16"):
        tensor_core_product(y, a, np.zeros((12, 8)))
    assert not serves_product(y, y[:, ::2], y[:4])


def test_products_of_views_that_begin_anywhere_are_right():
    numbers = np.arange(200, dtype=np.float32) % 7
    a, b = numbers[1:65].reshape(8, 8), numbers[70:134].reshape(8, 8)
    y = np.empty(65, np.float32)[1:].reshape(8, 8)
    launch_product("matmul_forward", y, a, b)
    assert np.array_equal(y, a @ b)
