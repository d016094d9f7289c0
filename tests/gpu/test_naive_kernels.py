"""The sentences that fast kernels paraphrase are kernels too, and say what the references say."""

import numpy as np
import pytest

from harness import Draw, need
from tinygrad_edu.gpu import source
from tinygrad_edu.gpu.emulate import emulating
from tinygrad_edu.gpu.launch import G, blocks
from tinygrad_edu.kernel import kernels, mismatch, poison
from tinygrad_edu.nn.optim import sgd_update
from tinygrad_edu.ops.activation import gelu_forward
from tinygrad_edu.ops.cross_entropy import cross_entropy_forward
from tinygrad_edu.ops.dropout import dropout_forward
from tinygrad_edu.ops.embedding import embedding_forward
from tinygrad_edu.ops.extremes import max_forward
from tinygrad_edu.ops.gemv import gemv_int4_forward, gemv_int8_forward
from tinygrad_edu.ops.norm import layernorm_forward
from tinygrad_edu.ops.reduce import sum_forward
from tinygrad_edu.ops.rmsnorm import rmsnorm_forward
from tinygrad_edu.ops.rope import rope_rotate
from tinygrad_edu.ops.shape import index_backward
from tinygrad_edu.ops.softmax import softmax_forward
from tinygrad_edu.ops.swiglu import silu_forward
from tinygrad_edu.ops.transpose import transpose_forward

# A kernel, its arguments, and of these how many threads the naive one needs and what it is given.
NAIVE = [
    (kernels["exp_forward"], lambda d: (d.out(70), d.array(70)), lambda y, x: (70, (y, x, 70))),
    (gelu_forward, lambda d: (d.out(70), d.array(70)), lambda y, x: (70, (y, x, 70))),
    (silu_forward, lambda d: (d.out(70), d.array(70)), lambda y, x: (70, (y, x, 70))),
    (softmax_forward, lambda d: (d.out(35, 9), d.array(35, 9)),
     lambda y, x: (35, (y, x, *x.shape))),
    (layernorm_forward, lambda d: (d.out(35, 9), d.out(35), d.out(35), d.array(35, 9), d.array(9),
                                   d.array(9), 1e-5),
     lambda y, mean, rstd, x, w, b, eps: (35, (y, mean, rstd, x, w, b, x.dtype.type(eps), 35, 9))),
    (rmsnorm_forward, lambda d: (d.out(35, 9), d.out(35), d.array(35, 9), d.array(9), 1e-5),
     lambda y, rstd, x, w, eps: (35, (y, rstd, x, w, x.dtype.type(eps), 35, 9))),
    (cross_entropy_forward, lambda d: (d.out(35), d.out(35), d.array(35, 9),
                                       d.integers(-1, 9, 35), -1, 0.1),
     lambda loss, lse, z, targets, ignore, smoothing:
         (35, (loss, lse, z, targets, ignore, np.float64(smoothing), 35, 9))),
    (max_forward, lambda d: (d.out(35), d.out(35, dtype=np.int64), d.array(35, 9)),
     lambda y, position, x: (35, (y, position, x, 35, 9))),
    (sum_forward, lambda d: (d.out(5, 7), d.array(5, 9, 7)), lambda y, x: (35, (y, x, 5, 9, 7))),
    (embedding_forward, lambda d: (d.out(35, 9), d.integers(0, 6, 35), d.array(6, 9)),
     lambda y, ids, w: (35, (y, ids, w, 35, 9))),
    (index_backward, lambda d: (d.out(6, 9), d.array(35, 9), d.integers(0, 6, 35)),
     lambda dx, dy, positions: (9, (zeroed(dx), dy, positions, 35, 9))),
    (transpose_forward, lambda d: (d.out(2, 3, 7, 4), d.array(2, 7, 3, 4)),
     lambda y, x: (168, (y, x, 7, 3, 4, 168))),
    (rope_rotate, lambda d: (d.out(2, 2, 9, 7), d.array(2, 2, 9, 7), d.integers(0, 9, 2, 9),
                             d.array(9, 3), d.array(9, 3), 1, -1),
     lambda y, x, at, cos, sin, halves, direction:
         (36, (y, x, at, cos, sin, halves, direction, *x.shape, 3))),
    (dropout_forward, lambda d: (d.out(5, 7), d.array(5, 7), d.integers(0, 99, 5, dtype=np.uint64),
                                 np.uint64(3), np.uint64(4), np.uint64(2**31), 2.0),
     lambda y, x, start, stream, key, threshold, scale:
         (35, (y, x, start, stream, key, threshold, x.dtype.type(scale), 5, 7))),
    (gemv_int8_forward, lambda d: (d.out(35), d.array(9), d.integers(-9, 9, 35, 9, dtype=np.int8),
                                   d.array(35)),
     lambda y, x, q, scale: (35, (y, x, q, scale, *q.shape))),
    (gemv_int4_forward, lambda d: (d.out(35), d.array(24),
                                   d.integers(0, 99, 35, 12, dtype=np.uint8), d.array(35, 3)),
     lambda y, x, q, scale: (35, (y, x, q, scale, 35, 24, 8))),
    (sgd_update, lambda d: (d.array(70), d.array(70), d.array(70), 0.1, 0.9, True, 0.01, 0.5),
     lambda w, v, g, lr, momentum, nesterov, decay, scale:
         (70, (w, v, g, *map(np.float64, (lr, momentum)), nesterov,
               *map(np.float64, (decay, scale)), 70))),
]
ELSEWHERE = {"attention_forward", "attention_backward", "attention_weights_forward",
             "matmul_forward", "matmul_bf16", "packed_product",  # in other tests,
             "adam_step"}  # and this one below


def zeroed(array):
    array[...] = 0
    return array


def copied(args):
    return [a.copy() if isinstance(a, np.ndarray) else a for a in args]


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("kernel, draw, naive", NAIVE, ids=lambda value: getattr(value, "name", ""))
def test_the_naive_kernel_says_what_the_reference_says(kernel, draw, naive, real, order):
    need("cuda")
    args = draw(Draw(real))
    expected, got = copied(args), copied(args)
    for i in set(kernel.outputs) - set(kernel.inout):
        poison(expected[i])
        poison(got[i])
    kernel.bodies["numpy"].run(*expected)
    threads, arguments = naive(*got)
    with emulating(order=order):
        getattr(G(args[0]), f"{kernel.name}_naive")(blocks(threads, 32), 32, arguments)
    for i in kernel.outputs:
        error = mismatch(got[i], expected[i])
        assert not error, f"{kernel.parameters[i]}: {error}"


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_the_naive_step_of_adam_is_the_fast_one(real):
    need("cuda")
    draw = Draw(real)
    one = draw.array(300), draw.array(300), draw.positive(300), draw.array(300)
    numbers = (*map(real, (0.9, 0.1, 0.99, 0.01, 0.02, 1.5, 1e-8, 0.03, 0.98, 0.5)), 300)
    other = copied(one)
    G(one[0]).adam_step_naive(blocks(300, 64), 64, (*one, *numbers))
    G(one[0]).adam_step(blocks(300, 4 * 64), 64, (*other, *numbers))
    assert all(not mismatch(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[0], draw.array(300))


def test_no_naive_kernel_is_left_out():
    naive = {name for name in source.lesson_kernels() if name.endswith("_naive")}
    assert naive == {f"{name}_naive" for name in ELSEWHERE | {row[0].name for row in NAIVE}}
