"""Lesson 2.15 · Attention on a GPU: rows of scores that are nowhere complete

Needs attention_kernels, foreign, launch, memory. Used by attention.

Idea      The blocks of the last lesson held 64 complete rows of scores. On a GPU a block has some
          tens of kilobytes that are fast, so keys come in blocks, too. The maximum of a row is then
          not known until its last block; but a sum that was made with a smaller one is wrong by a
          factor only, e^(old − new), and can be put right at any time. So the scores of a tile live
          for a moment in registers, and the memory that attention needs grows with T, not with T².
          cuda/attention.cu has the kernels; here is how they are launched.
Math      over blocks j of keys    m' = max(m, max s_j)     l' = l·e^(m − m') + Σ e^(s_j − m')  (1)
                                   o' = o·e^(m − m') + e^(s_j − m')·v_j                         (2)
          at the end               y = o / l     lse = m + ln l                                (3)
          Σ p·dp over the keys = Σ dy·y over the width     for dp = dy·vᵀ and y = p·v          (4)
Shapes    as in the last lesson, D at most 256 · means (B, H, T): (4)
          tiles of 64 queries and 64 keys, 32 keys for wide heads; half of that in float64
Pitfalls  −∞ − (−∞) is NaN: a row that has seen nothing yet is shifted by 0.
          A head in a packed array is a view with gaps, and a GPU is told an address and strides.
          Keys and values share theirs: where these differ (keys that were turned, values that were
          not), inputs are copied into rows.
          The pointer that crosses stands for the memory from its first number to its last.
          Each width that is a multiple of 16 is a program of its own, compiled when first met.
          A new query or two behind a long text leave most of a tile empty.
Cost      2·B·H·T·S·D multiply-adds forward, 7 backward instead of 5: dq is computed by tiles of
          queries, dk and dv by tiles of keys, and both need p and ds. That replaces atomics, and a
          gradient has the same bits in every run. NVIDIA's compiler gives a thread 168 registers
          forward and up to 240 backward at D = 64, and nothing spills:
          python -m tinygrad_edu.gpu.nvrtc attention.cu
Try       build it    T = 1: a block for each part of the keys, then (1) to (3) over these parts.
          break it    leave e^(m − m') out of (2). How long must a text be until a test notices?
          measure it  python -m tinygrad_edu.ops.attention_cuda: milliseconds in the emulator
See       Milakov, Gimelshein 2018 ((1)) · Rabe, Staats 2021 · Dao 2023, algorithms 1 and 2
"""

import sys
from dataclasses import dataclass

import numpy as np

from ..foreign import REALS
from ..gpu.launch import G, blocks
from ..memory import contiguous, empty_like
from .attention_kernels import attention_backward, attention_forward

WIDEST = 256  # of a head: more does not fit into the shared memory of a block
THREADS = 128
NO_STRIDES = (0, 0, 0, 0)


@dataclass(frozen=True)
class Tiles:
    """The sizes that cuda/attention.cu derives from the width and type of a head, once more."""

    width: int
    itemsize: int

    @property
    def wide(self):
        """Numbers in 16 bytes."""
        return 16 // self.itemsize

    @property
    def tile(self):
        """Rows that a block stays with."""
        return 16 * self.wide

    @property
    def step(self):
        """Rows that come by together."""
        return self.tile if self.width <= 64 else self.tile // 2

    def shared_mem(self, tiles, steps):
        """Bytes for so many tiles and steps of rows, and a tile of scores."""
        tile, step = self.tile + self.wide, self.step + self.wide
        return (self.width * (tiles * tile + steps * step) + self.step * self.tile) * self.itemsize


def _tiles(q):
    return Tiles(16 * blocks(q.shape[3], 16), q.dtype.itemsize)


def _strides(array):
    """Numbers from one row of the batch, head and position to the next; 0 where there is only one.

    Of a mask also from one key to the next.
    """
    return tuple(0 if size == 1 else stride // array.itemsize
                 for size, stride in zip(array.shape, array.strides, strict=True))


def spread(array):
    """The memory from a view's first number to its last, as an array without gaps."""
    if array is None or array.flags.c_contiguous:
        return array
    numbers = 1 + sum((size - 1) * stride
                      for size, stride in zip(array.shape, _strides(array), strict=True))
    library = sys.modules[type(array).__module__.partition(".")[0]]  # NumPy's, or CuPy's
    return library.lib.stride_tricks.as_strided(array, (numbers,), (array.itemsize,))


def _in_rows(array, real):
    """Whether a GPU can read a view by an address and strides: (B, H, T, D), D without gaps."""
    forward = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    return array.dtype == real and forward


def _agree(*arrays):
    """Whether one set of strides leads through all of them."""
    return all(_strides(a)[:3] == _strides(arrays[0])[:3] for a in arrays)


def _alike(*arrays):
    """Arrays through which one set of strides leads: these where they agree, else in rows."""
    return arrays if _agree(*arrays) else tuple(map(contiguous, arrays))


def _serves(*args):
    """Whether the kernels can read a call: one type, int64 ids, and views in rows of D.

    What is written must agree with what is read by its strides, or have no gaps: inputs can be
    copied, outputs cannot.
    """
    *arrays, seen, query_segments, key_segments, mask, _ = args
    if len(arrays) == 5:
        y, lse, q, k, v = arrays
        views, written = (y, q, k, v), []
    else:
        dq, dk, dv, dy, y, q, k, v, lse = arrays
        views, written = (dq, dk, dv, dy, y, q, k, v), [((dq,), (q,)), ((dk, dv), (k, v))]
    real, ids = q.dtype, [a for a in (seen, query_segments, key_segments) if a is not None]
    rows = all(_in_rows(a, real) and _strides(a)[3] in (0, 1) for a in views)
    return (rows and real in REALS and q.shape[3] <= WIDEST and lse.flags.c_contiguous
            and (mask is None or _in_rows(mask, real))
            and all(a.flags.c_contiguous and a.dtype == np.int64 for a in ids)
            and all(_agree(*outputs, *inputs) or all(a.flags.c_contiguous for a in outputs)
                    for outputs, inputs in written))


def _common(y, q, k, mask, scale):
    """What all kernels take last: the scale, the strides and the sizes."""
    (_, H, T, D), (groups, S) = q.shape, k.shape[1:3]
    strides = [n for a in (y, q, k) for n in _strides(a)[:3]]
    masks = NO_STRIDES if mask is None else _strides(mask)
    return q.dtype.type(scale), *strides, *masks, H, groups, T, S, D


@attention_forward.body("cuda", when=_serves)
def attention_forward_cuda(
    y, lse, q, k, v,
    seen, query_segments, key_segments, mask, scale,
):
    (B, H, T, _), tiles = q.shape, _tiles(q)
    k, v = _alike(k, v)
    arguments = (
        spread(y), lse, spread(q), spread(k), spread(v),
        seen, query_segments, key_segments, spread(mask), *_common(y, q, k, mask, scale),
    )
    G(q, WIDTH=tiles.width).attention_forward(
        B * H * blocks(T, tiles.tile), THREADS, arguments, tiles.shared_mem(1, 2))


@attention_backward.body("cuda", when=_serves)
def attention_backward_cuda(
    dq, dk, dv, dy, y, q, k, v, lse,
    seen, query_segments, key_segments, mask, scale,
):
    (B, H, T, D), (groups, S), tiles = q.shape, k.shape[1:3], _tiles(q)
    (y, dy), (q, _), (k, v, _, _) = _alike(y, dy), _alike(q, dq), _alike(k, v, dk, dv)
    kernels = G(q, WIDTH=tiles.width)
    means = empty_like(lse)
    kernels.attention_backward_means(                                                          # (4)
        blocks(B * H * T, THREADS // 32), THREADS,
        (means, spread(dy), spread(y), *_strides(y)[:3], B, H, T, D))
    inputs = (
        *map(spread, (dy, q, k, v)), lse, means,
        seen, query_segments, key_segments, spread(mask), *_common(y, q, k, mask, scale),
    )
    shared_mem = tiles.shared_mem(2, 2)
    kernels.attention_backward_queries(
        B * H * blocks(T, tiles.tile), THREADS, (spread(dq), *inputs), shared_mem)
    kernels.attention_backward_keys(
        B * groups * blocks(S, tiles.tile), THREADS, (spread(dk), spread(dv), *inputs), shared_mem)


def _measure(B=1, H=4, T=256, D=64, rounds=5):
    """Milliseconds forward and backward, causal, on NumPy's arrays: in the emulator."""
    from time import perf_counter

    random = np.random.default_rng(0)
    q, k, v, dy = random.standard_normal((4, B, H, T, D), np.float32)
    y, lse = empty_like(q), empty_like(q, (B, H, T))
    gradients = [empty_like(q) for _ in range(3)]
    seen = np.arange(1, T + 1)[None].repeat(B, 0)
    rest = seen, None, None, None, D**-0.5
    times = []
    for _ in range(rounds + 1):
        start = perf_counter()
        attention_forward_cuda(y, lse, q, k, v, *rest)
        middle = perf_counter()
        attention_backward_cuda(*gradients, dy, y, q, k, v, lse, *rest)
        times.append((middle - start, perf_counter() - middle))
    forward, backward = np.median(times[1:], axis=0) * 1e3
    print(f"B={B} H={H} T={T} D={D} forward_ms={forward:.1f} backward_ms={backward:.1f}")


if __name__ == "__main__":
    _measure()
