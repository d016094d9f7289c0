"""Right kernels in many styles: nothing is reported, in any order, and the numbers are right."""

from pathlib import Path

import numpy as np
import pytest

from harness import need
from tinygrad_edu.gpu.emulate import emulating
from tinygrad_edu.gpu.launch import Launcher

FILE = Path(__file__).with_name("right_kernels.cu")
f, i = np.float32, np.int32


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(f)


def out(*shape, dtype=f):
    return np.zeros(shape, dtype)


x, long, matrix, image = numbers(128), numbers(1003), numbers(32, 32), numbers(40, 60)
rows, cube, square = numbers(4, 500), numbers(8, 8, 8), numbers(32, 32, seed=1)
bins = np.bincount(np.minimum((np.abs(long) * 8).astype(int), 15), minlength=16)
half, narrow = x.astype(np.float16), (x.view(np.uint32) >> 16).astype(np.uint16)
wide = (narrow.astype(np.uint32) << 16).view(f).reshape(64, 2)
near = np.pad(x, 2, mode="edge")
smooth = sum(weight * near[k:k + 128] for k, weight in enumerate([1, 4, 6, 4, 1])) / 16
halo = np.pad(long, 3)
mean_of_7 = sum(halo[k:k + 1003] for k in range(7)) / 7
warps = x.reshape(4, 32)
groups = warps.reshape(4, 4, 8)
masks = np.array([k * 0x9E3779B9 & 0xFFFFFFFF | 1 for k in range(1, 100)])
present = masks[:, None] >> np.arange(32) & 1


def bf16(values):
    """The upper half of float32, to the nearest, ties to even."""
    bits = values.astype(f).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


# kernel: (grid, block, arguments, dynamic shared memory, what the first arguments then are)
RIGHT = {
    "row_sums": ((3, 4), 64, [out(4), rows, i(500)], 0, [rows.sum(1)]),
    "persistent": (3, 64, [out(1003), long, out(1, dtype=i), i(1003)], 0, [np.sqrt(np.abs(long))]),
    "largest_of_four": (2, 64, [out(128), rows[0, :512 - 12].repeat(2)[:512].copy()], 0,
                        [rows[0].repeat(2)[:512].reshape(128, 4).max(1)]),
    "argmax": (4, 128, [out(4, dtype=i), rows, i(500)], 0, [rows.argmax(1)]),
    "producer_consumer": (1, 64, [out(32), matrix, i(8)], 0, [matrix[:8].sum(0)]),
    "gaussian": (2, 64, [out(128), x, i(128)], 0, [smooth]),
    "two_phases": (1, 64, [out(64), x[:64]], 0, [np.sort(x[:64])]),
    "narrow": (1, 64, [out(128, dtype=np.float16), out(128, dtype=np.uint16), half, narrow], 0,
               [2 * half.astype(f) + np.tile([1, -1], 64),
                bf16(np.stack([wide[:, 0] / 2, wide[:, 1] + 1], 1).ravel())]),
    "matmul": ((2, 2), (16, 16), [out(32, 32), matrix, square, i(32)], 0, [matrix @ square]),
    "histogram": (4, 96, [out(16, dtype=i), long, i(1003)], 0, [bins]),
    "inclusive_scan": (1, 256, [out(256), long[:256]], 0, [long[:256].cumsum()]),
    "bitonic": (1, 128, [out(256), long[:256]], 0, [np.sort(long[:256])]),
    "transpose": ((2, 2), (32, 8), [out(60, 40), image, i(40), i(60)], 0, [image.T]),
    "stencil": (16, 64, [out(1003), long, i(1003)], 280, [mean_of_7]),
    "sum_all": (5, 64, [out(1), out(5), out(1, dtype=np.uint32), long, i(1003)], 0, [long.sum()]),
    "largest": (2, 64, [np.full(1, -np.inf, f), x], 0, [x.max()]),
    "pipelined": (1, 32, [out(128), matrix, i(8)], 0, [matrix.reshape(8, 128).sum(0)]),
    "groups": (2, (32, 2), [out(4, 4), out(2, dtype=i), x], 0,
               [np.hstack([groups[:, :3].sum(2), groups[:, 3:].max(2)]),
                (x.reshape(2, 64) > 1).sum(1)]),
    "flip_z": ((2, 2, 2), (4, 4, 2), [out(8, 8, 8), cube, i(8), i(8), i(8)], 0,
               [cube.reshape(4, 2, 2, 4, 2, 4)[:, ::-1, :, ::-1, :, ::-1].reshape(8, 8, 8)]),
    "saxpy": (2, 32, [out(1003), long, np.int64(1003)], 0, [3 * long]),
    "per_warp": (1, 128, [out(4, 32), x], 0,
                 [np.where(np.arange(4)[:, None] % 2, warps * warps[:, :1],
                           warps.sum(1, keepdims=True))]),
    "locked": (4, 32, [out(2), out(1, dtype=i), x], 0, [[x.sum(), 4]]),
    "any_above": (1, 64, [out(64), x[:64], f(0.5)], 0, [x[:64] / f(0.5)]),
    "register_transpose": (1, 32, [out(32, 32), matrix], 0, [matrix]),
    "many_masks": (1, 32, [out(32, dtype=i)], 0, [np.arange(1, 100) @ present]),
    "fence_then_barrier": (3, 64, [out(64, dtype=i), out(1, dtype=i), out(192, dtype=i)], 0,
                           [3 + 30 * np.arange(63, -1, -1)]),
    "sum_of_a_half": (1, 32, [out(1), x], 0, [x[:16].sum()]),
    "fours": (1, 32, [out(32), x], 0, [sum(x[1 + k:33 + k] for k in range(4))]),
    "ways": (1, 32, [out(32, dtype=i)], 0,
             [10000 + np.array([11, 11, 10])[np.arange(32) % 3]
              + 500 * ((np.arange(32) % 3 == 2) & (np.arange(32) < 16))]),
}


def launch(name, **settings):
    need("cuda")
    grid, block, arguments, shared_mem, expected = RIGHT[name]
    arguments = tuple(a.copy() for a in arguments)
    with emulating(**settings):
        Launcher(FILE, name)(grid, block, arguments, shared_mem)
    for got, wanted in zip(arguments, expected, strict=False):
        np.testing.assert_allclose(got, np.reshape(wanted, got.shape).astype(got.dtype), rtol=2e-3
                                   if got.dtype == np.float16 else 1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_kernel_is_left_in_peace_and_computes_what_it_should(name, order):
    launch(name, mode="check", order=order, seed=1)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_kernel_computes_the_same_at_full_speed(name):
    launch(name, mode="fast")


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_lanes_that_count_themselves_before_they_write_keep_every_number(order):
    need("cuda")
    kept, count = out(192), out(1, dtype=i)
    with emulating(mode="check", order=order, seed=1):
        Launcher(FILE, "keep_positive")(2, 96, (kept, count, long, i(180)))
    assert sorted(kept[:count[0]]) == sorted(v for v in long[:180] if v > 0)


def test_a_random_order_is_the_same_for_the_same_seed_and_another_for_another():
    need("cuda")
    kept = []
    for seed in (1, 1, 2):
        kept.append(out(192))
        with emulating(order="random", seed=seed):
            Launcher(FILE, "keep_positive")(1, 96, (kept[-1], out(1, dtype=i), long, i(96)))
    assert np.array_equal(kept[0], kept[1])
    assert not np.array_equal(kept[0], kept[2])
