"""Attention in CUDA, beyond what tests/ops/test_attention.py asks of every body."""

import numpy as np
import pytest

from harness import need
from tinygrad_edu.gpu.emulate import emulating
from tinygrad_edu.gpu.launch import G, blocks
from tinygrad_edu.ops import attention_cuda as lesson
from tinygrad_edu.ops.attention import split_heads
from tinygrad_edu.ops.attention_kernels import attention_backward, attention_forward
from tinygrad_edu.ops.attention_weights import attention_weights_forward, seen_keys


def packed(B=2, H=4, groups=2, T=70, D=5, real=np.float32, seed=0):
    """Arguments of both kernels as attention_qkv passes them: views of packed arrays."""
    random = np.random.default_rng(seed)
    qkv = random.standard_normal((B, T, (H + 2 * groups) * D)).astype(real)
    y, dy = np.full((B, T, H * D), np.nan, real), random.standard_normal((B, T, H * D)).astype(real)
    q, k, v = split_heads(qkv, H, groups, groups)
    gradients = split_heads(np.full_like(qkv, np.nan), H, groups, groups)
    y, dy = split_heads(y, H)[0], split_heads(dy, H)[0]
    mask = np.broadcast_to(random.standard_normal((T, T)).astype(real), (B, H, T, T))
    rest = seen_keys(q, T), *random.integers(0, 2, (2, B, T)), mask, D**-0.5
    lse = np.empty((B, H, T), real)
    return (y, lse, q, k, v, *rest), (*gradients, dy, y, q, k, v, lse, *rest)


def copied(arguments):
    return [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]


def agree(forward, backward):
    """Whether outputs are what the reference makes of the same inputs."""
    expected, pulled = copied(forward), copied(backward)
    attention_forward.__wrapped__(*expected)
    attention_backward.__wrapped__(*pulled)
    pairs = [*zip(forward[:2], expected, strict=False), *zip(backward[:3], pulled, strict=False)]
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_nothing_is_to_be_said_against_the_kernels_in_check_mode(order):
    need("cuda")
    forward, backward = packed(B=1, H=2, groups=1)
    with emulating(mode="check", order=order):
        lesson.attention_forward_cuda(*forward)
        lesson.attention_backward_cuda(*backward)
    assert agree(forward, backward)


@pytest.mark.parametrize("D", [100, 256])
def test_heads_may_be_wide(D):
    need("cuda")
    forward, backward = packed(B=1, H=1, groups=1, D=D)
    lesson.attention_forward_cuda(*forward)
    lesson.attention_backward_cuda(*backward)
    assert agree(forward, backward)


def test_gradients_have_the_same_bits_every_time():
    need("cuda")
    forward, backward = packed()
    lesson.attention_forward_cuda(*forward)
    runs = []
    for order in ("forward", "reverse"):
        with emulating(order=order):
            lesson.attention_backward_cuda(*backward)
        runs.append(copied(backward[:3]))
    for a, b in zip(*runs, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_the_naive_kernels_compute_the_same(real):
    need("cuda")
    B, H, groups, T, D = 2, 4, 2, 70, 5
    forward, backward = map(copied, packed(B, H, groups, T, D, real))  # without gaps now
    forward[6:9] = backward[10:13] = None, None, None  # neither segments nor a mask
    y, lse, q, k, v, seen, *_, scale = forward
    dq, dk, dv, dy = backward[:4]
    seen[0, :3], seen[1] = 0, T
    sizes = real(scale), B, H, groups, T, T, D
    kernels, grid = G(q), blocks(B * H * T, 32)
    kernels.attention_forward_naive(grid, 32, (y, lse, q, k, v, seen, *sizes))
    dk[...], dv[...] = 0, 0
    kernels.attention_backward_naive(
        grid, 32, (dq, dk, dv, dy, y, q, k, v, lse, seen, *sizes))
    backward[4:9], backward[9] = (y, q, k, v, lse), seen
    assert agree(forward, backward)


def test_the_naive_weights_are_the_same():
    need("cuda")
    H, T, S = 2, 35, 40
    s = np.random.default_rng(0).standard_normal((H, T, S))
    seen = np.arange(T)
    p, lse, q, top = np.empty_like(s), np.empty((H, T)), np.empty_like(s), np.empty((H, T))
    G(s).attention_weights_forward_naive(
        blocks(H * T, 32), 32, (p, lse, s, seen, np.float64(0.3), H, T, S))
    attention_weights_forward.__wrapped__(q, top, s, seen, None, None, None, 0.3)
    assert np.allclose(p, q)
    assert np.allclose(lse, top)


def test_a_view_crosses_as_the_memory_from_its_first_number_to_its_last():
    packed_rows = np.arange(2 * 3 * 8.0).reshape(2, 3, 8)
    head = split_heads(packed_rows, 4)[0][:, 1:]  # (2, 3, 3, 2), without the first head
    memory = lesson.spread(head)
    assert memory.flags.c_contiguous
    assert memory.tolist() == list(range(2, 48))
    assert lesson.spread(memory) is memory


def test_inputs_whose_strides_disagree_are_copied_into_rows():
    need("cuda")
    forward, backward = packed(B=1)
    y, lse, q, k, v, *rest = forward
    forward = y, lse, q, k, v.copy(), *rest        # as values beside keys that rope has turned
    dq, dk, dv, dy, _, q, k, v, *_ = backward
    gradients = [np.full(a.shape, np.nan, a.dtype) for a in (dq, dk, dv)]
    backward = *gradients, dy.copy(), y, q, k, v.copy(), lse, *rest
    assert lesson._serves(*forward) and lesson._serves(*backward)
    lesson.attention_forward_cuda(*forward)
    lesson.attention_backward_cuda(*backward)
    assert agree(forward, backward)


def test_what_strides_cannot_say_is_left_to_other_bodies():
    forward, backward = packed()
    assert lesson._serves(*forward)
    assert lesson._serves(*backward)
    y, lse, q, k, v, *rest = forward
    assert not lesson._serves(y, lse, q[:, :, ::-1], k, v, *rest)
    assert not lesson._serves(y, lse, q.astype(np.float64), k, v, *rest)
    assert not lesson._serves(y, lse, q, k, v, rest[0].astype(np.int32), *rest[1:])
    dq, dk, dv, *others = backward
    assert not lesson._serves(dq, dk, dv.copy(), *others)
    assert not lesson._serves(dq[..., ::-1].copy()[..., ::-1], dk, dv, *others)
