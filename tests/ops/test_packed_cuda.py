"""Packed weights in CUDA, beyond what tests/ops/test_packed.py asks of every body."""

import fake_cupy
import numpy as np
import pytest

from harness import need
from tinygrad_edu import watch
from tinygrad_edu.gpu.emulate import emulating
from tinygrad_edu.gpu.launch import G
from tinygrad_edu.kernel import mismatch
from tinygrad_edu.memory import on_host
from tinygrad_edu.ops import packed_cuda as lesson
from tinygrad_edu.ops.ladders import KINDS, LADDERS, PLAIN
from tinygrad_edu.ops.packed import (
    Packed,
    packed_linear,
    packed_product,
    quantize_rows,
    unpack_rows,
)
from tinygrad_edu.tensor import Tensor

SIDES = [(1, 9, 256), (3, 5, 512), (9, 70, 256), (65, 3, 512)]  # rows of x, of w, numbers
HALVES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}


def random_blocks(name, F, K, random):
    """Any bytes, with scales of sizes that occur: half precision between 2⁻⁸ and 2⁻⁴, any sign."""
    _, size, width, _ = KINDS[name]
    raw = random.integers(0, 256, (F * K // size, width), np.uint8)
    if name in LADDERS:
        for place in HALVES.get(name, (0,)):
            scale = random.uniform(2**-8, 2**-4, len(raw)) * random.choice([-1, 1], len(raw))
            raw[:, place:place + 2] = scale.astype("<f2")[:, None].view(np.uint8)
    else:
        x = random.standard_normal((len(raw), 1)).astype(np.float32)
        bits = {"F32": x.view(np.uint8), "F16": x.astype("<f2").view(np.uint8),
                "BF16": x.view(np.uint8)[:, 2:]}
        raw = bits[name]
    return np.ascontiguousarray(raw.reshape(F, -1))


def arguments(name, N, F, K, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((N, K), np.float32)
    parts = 0 if name in PLAIN else K // 32
    q, scale = np.empty((N, 32 * parts), np.int8), np.empty((N, parts), np.float32)
    sum = np.empty((N, parts), np.int32)
    if parts:
        quantize_rows.__wrapped__(q, scale, sum, x)
    y = np.full((N, F), np.nan, np.float32)
    return y, x, q, scale, sum, random_blocks(name, F, K, random), KINDS[name].number


class Served(list, watch.Listener):
    """Which bodies have served."""

    def kernel_ran(self, body, args):
        self.append(body.backend)


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("name", KINDS)
def test_products_of_every_kind_are_those_of_the_reference(name, order):
    need("cuda")
    for N, F, K in SIDES:
        args = arguments(name, N, F, K)
        want = np.empty_like(args[0])
        packed_product.__wrapped__(want, *args[1:])
        with emulating(order=order):
            lesson.packed_product_cuda(*args)
        assert not mismatch(args[0], want), (N, F, K)


@pytest.mark.parametrize("name", KINDS)
def test_rows_of_every_kind_are_unpacked_as_the_reference_does(name):
    need("cuda")
    *_, blocks, number = arguments(name, 1, 7, 512)
    got, want = np.full((2, 7, 512), np.nan, np.float32)
    unpack_rows.__wrapped__(want, blocks, number)
    lesson.unpack_rows_cuda(got, blocks, number)
    assert not mismatch(got, want, digits=6)


def test_x_becomes_the_integers_of_the_reference_and_what_has_no_scale_is_nan():
    need("cuda")
    x = np.random.default_rng(0).standard_normal((3, 96)).astype(np.float32)
    x[0, 3], x[0, 40], x[1, :32], x[2, 64:] = np.inf, np.nan, 2.0**-101, 0
    got = [(np.full((3, 96), 99, np.int8), *np.full((1, 3, 3), 99, np.float32),
            np.full((3, 3), 99, np.int32)) for _ in range(2)]
    quantize_rows.__wrapped__(*got[0], x)
    lesson.quantize_rows_cuda(*got[1], x)
    for want, have in zip(*got, strict=True):
        assert np.array_equal(have, want, equal_nan=have.dtype == np.float32)
    assert np.isnan(got[1][1][0]).tolist() == [True, True, False]


@pytest.mark.parametrize("name", LADDERS)
def test_the_naive_product_says_the_same_and_nothing_is_to_be_said_in_check_mode(name):
    need("cuda")
    y, x, q, scale, sum, blocks, number = arguments(name, 2, 9, 256)
    want, tiles = np.empty_like(y), np.full_like(y, np.nan)
    packed_product.__wrapped__(want, x, q, scale, sum, blocks, number)
    sizes = 9, 8, blocks.shape[1], number
    kernels = G(y, REAL="float")
    kernels.packed_product_naive((1, 2), 32, (y, q, scale, sum, blocks, 2, *sizes))
    assert not mismatch(y, want)
    with emulating(mode="check", order="reverse"):
        kernels.packed_product_rows((2, 2), 256, (y, q, scale, sum, blocks, *sizes))
        kernels.packed_product_tiles((1, 1), 256, (tiles, q, scale, sum, blocks, 2, *sizes))
    assert not mismatch(y, want)
    assert not mismatch(tiles, want)


@pytest.mark.parametrize("name", ["Q4_K", "F16"])
def test_packed_weights_work_on_a_gpu_and_nothing_comes_to_the_host(monkeypatch, name):
    _, x, *_, blocks, _ = arguments(name, 9, 7, 256)
    draw = np.random.default_rng(1)
    dy, b = draw.standard_normal((9, 7), np.float32), draw.standard_normal(7, np.float32)
    with watch.settings(forced="numpy"):
        want = Tensor(x, requires_grad=True)
        y = packed_linear(want, Packed(blocks, name), Tensor(b))
        y.backward(dy)
    fake_cupy.install(monkeypatch)
    served = Served()
    got, there = Tensor(fake_cupy.asarray(x), requires_grad=True), fake_cupy.asarray(blocks)
    with watch.listening(served):
        z = packed_linear(got, Packed(there, name), Tensor(fake_cupy.asarray(b)))
        z.backward(fake_cupy.asarray(dy))
    assert not fake_cupy.copies and set(served) == {"cuda"}
    assert not mismatch(z.numpy(), y.data)
    assert not mismatch(on_host(got.grad), want.grad)
    assert on_host(Packed(there, name).rows(np.array([3, 0]))).shape == (2, 256)


def test_what_the_kernels_cannot_read_is_left_to_other_bodies():
    args = arguments("Q4_0", 1, 3, 256)
    y, x, *rest, blocks, number = args
    assert lesson._serves(*args)
    assert lesson._serves(*arguments("F16", 1, 3, 256))
    odd = np.empty(blocks.size + 1, np.uint8)[1:].reshape(blocks.shape)
    assert not lesson._serves(y, x, *rest, odd, number)
    assert not lesson._serves(y, x[:, ::2], *rest, blocks, number)
    assert not lesson._serves(y, x.astype(np.float64), *rest, blocks, number)
    assert not lesson._serves(y[:0], x, *rest, blocks, number)
