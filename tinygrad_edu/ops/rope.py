"""Lesson 2.12 · Rotary position embedding

Needs foreign, kernel, launch, memory, tensor. Used by every test.

Idea      Attention, the subject of the next lessons, gives each token two vectors, a query and a
          key, and scores how well they go together by the dot product of one token's query with
          another's key. By itself it does not know where a token stands. RoPE turns each of them by
          an angle that grows with its position, pair of numbers by pair of numbers, like the hands
          of a clock: some pairs turn fast, others slowly. The dot product of two hands depends on
          the angle between them alone, so a score depends on how far apart two tokens are.
Math      frequency ωᵢ = base^(−2i/R)     angle θ = position·ωᵢ     i = 0 … R/2 − 1             (1)
          y_a = x_a·cos θ − x_b·sin θ     y_b = x_a·sin θ + x_b·cos θ                           (2)
          (a, b) = (2i, 2i + 1) in the layout "neighbours", (i, i + R/2) in "halves"            (3)
          The adjoint of a rotation is the rotation back: dx is (2) of dy with −sin       (4)
          rotated(q, m)·rotated(k, n) is a function of q, k and m − n                           (5)
Shapes    x, y (B, H, T, D): B texts, H heads (copies of attention side by side), T positions, D
          numbers · cos, sin (S, R/2), a row for each position · positions (B, T) integers below S
          R ≤ D is the rotary width; numbers R … D − 1 of each head stay as they are.
Pitfalls  The two layouts differ by an order of the numbers in a head, and published weights expect
          one of them. The wrong one raises no error; the model just talks nonsense.
          Angles belong in float64: at position 10⁵ a float32 angle is off in its third decimal.
          With a cache the new token is not at position 0: every row of a batch has its own start.
          Queries and keys are rotated, values are not.
Cost      Reads x, writes y; the table is small and stays in the cache: bandwidth-bound.
          Backward keeps nothing but the positions and the table. In C both layouts are vector
          loops; Numba's loop over "halves" is none: 14 µs against 37 (half a MB on one core:
          python scripts/bench_ops.py rope --sizes medium).
Try       build it    slow all frequencies down by 4: what do the scores do?
          break it    use +sin in backward. Which test notices?
          measure it  TG_TRACE=1 pytest -s tests/ops/test_rope.py: the GB/s of the largest call
See       Su et al. 2021 (RoFormer), eq. 15 and 34 · Chen et al. 2023 (interpolation)
"""

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, blocks, serves
from ..kernel import Kernel
from ..memory import beside, contiguous, empty, empty_like, kinds
from ..tensor import Tensor, method, record

LAYOUTS = ("neighbours", "halves")


def rope_frequencies(width, base=10000.0):
    """Radians per position of each pair, (width/2,) in float64: (1). Su et al. 2021, eq. 15."""
    if width < 2 or width % 2:
        raise ValueError(f"a rotary width is a positive even number, not {width}")
    return base ** (-np.arange(0, width, 2) / width)


def rope_tables(length, frequencies, dtype=np.float32):
    """cos and sin of every position below `length`, (length, R/2) each, computed in float64.

    frequencies: those of `rope_frequencies`, or any variant of them that stretches the context.
    """
    angles = np.arange(length)[:, None] * frequencies                                         # (1)
    cos, sin = empty(angles.shape, dtype), empty(angles.shape, dtype)
    cos[...] = np.cos(angles)
    sin[...] = np.sin(angles)
    return cos, sin


def _pairs(a, R, halves):
    """Views of the first and the second numbers of all pairs, (B, H, T, R/2): (3)."""
    if halves:
        return a[..., : R // 2], a[..., R // 2 : R]
    return a[..., 0:R:2], a[..., 1:R:2]


@Kernel
def rope_rotate(y, x, positions, cos, sin, halves, direction):
    """Turn by +θ (direction 1) or by −θ (direction −1)."""
    R = 2 * cos.shape[1]
    c, s = cos[positions][:, None], sin[positions][:, None] * direction  # (B, 1, T, R/2)
    (x_a, x_b), (y_a, y_b) = _pairs(x, R, halves), _pairs(y, R, halves)
    y_a[...] = x_a * c - x_b * s                                                              # (2)
    y_b[...] = x_a * s + x_b * c                                                              # (2)
    y[..., R:] = x[..., R:]


@rope_rotate.body("numba", rows="y x positions")
def rope_rotate_numba(y, x, positions, cos, sin, halves, direction):
    B, H, T, D = x.shape
    W = cos.shape[1]
    turn = x.dtype.type(direction)
    for b in range(B):
        for h in range(H):
            for t in range(T):
                p = positions[b, t]
                if halves:
                    for i in range(W):
                        c = cos[p, i]
                        s = sin[p, i] * turn
                        y[b, h, t, i] = x[b, h, t, i] * c - x[b, h, t, i + W] * s             # (2)
                        y[b, h, t, i + W] = x[b, h, t, i] * s + x[b, h, t, i + W] * c         # (2)
                else:
                    for i in range(W):
                        c = cos[p, i]
                        s = sin[p, i] * turn
                        first = x[b, h, t, 2 * i]
                        second = x[b, h, t, 2 * i + 1]
                        y[b, h, t, 2 * i] = first * c - second * s                            # (2)
                        y[b, h, t, 2 * i + 1] = first * s + second * c                        # (2)
                for i in range(2 * W, D):
                    y[b, h, t, i] = x[b, h, t, i]


@rope_rotate.body("native", rows="y x positions", when=fits)
def rope_rotate_native(y, x, positions, cos, sin, halves, direction):
    C(y).rope_rotate(out(y), ptr(x), ptr(positions), ptr(cos), ptr(sin), halves, direction,
                     *x.shape, cos.shape[1])


@rope_rotate.body("cuda", when=serves)
def rope_rotate_cuda(y, x, positions, cos, sin, halves, direction):
    B, H, T, D = x.shape
    arguments = y, x, positions, cos, sin, halves, direction, B, H, T, D, cos.shape[1]
    G(y).rope_rotate(blocks(B * H * T, 8), (32, 8), arguments)


def _positions(x, start, positions, S):
    """(B, T) integers, all of them rows of the table."""
    B, _, T, _ = x.shape
    value = start if positions is None else positions
    value = value.data if isinstance(value, Tensor) else value
    value = value if isinstance(value, kinds()) else np.asarray(value)  # on the host: no wait there
    if value.dtype.kind not in "iu":
        raise TypeError(f"positions are integers, not {value.dtype}")
    if value.shape not in (((), (B,)) if positions is None else ((B, T),)):
        raise ValueError(
            f"start is one number or ({B},), positions are ({B}, {T}), not {value.shape}"
        )
    result = empty_like(value, (B, T), np.int64)
    rows = np.arange(T) if isinstance(value, np.ndarray) else np.arange(T, like=value)
    result[...] = value[..., None] + rows if positions is None else value
    if result.size and (result.min() < 0 or result.max() >= S):
        raise ValueError(
            f"positions {result.min()} to {result.max()} do not fit tables of {S} rows; "
            "make longer ones with rope_tables"
        )
    return beside(result, x)


@method
def rope(x, cos, sin, start=0, positions=None, layout="halves"):
    """Turn queries or keys by their positions, (2). Su et al. 2021, eq. 34.

    x (B, H, T, D), tables cos and sin (S, R/2) of x's type from `rope_tables` -> (B, H, T, D).
    start: the position of the first of T neighbours, one number or (B,). positions: (B, T) where
    they are not neighbours. layout: which numbers form a pair, (3). Raises ValueError where a
    position is not in the tables or shapes do not fit, TypeError for mixed types.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout is one of {', '.join(LAYOUTS)}, not {layout!r}")
    if x.ndim != 4 or cos.shape != sin.shape or 2 * cos.shape[-1] > x.shape[3]:
        raise ValueError(
            "rope takes x (B, H, T, D) and two tables (S, R/2) with R at most D, "
            f"not {x.shape}, {cos.shape}, {sin.shape}"
        )
    if not x.dtype == cos.dtype == sin.dtype:
        raise TypeError(f"x and tables must have one type, not {x.dtype}, {cos.dtype}, {sin.dtype}")
    at = _positions(x.data, start, positions, len(cos))
    halves = layout == "halves"
    X, y = contiguous(x.data), empty_like(x.data)
    rope_rotate(y, X, at, cos, sin, halves, 1)

    def vjp(dy):
        dx = empty_like(dy)
        rope_rotate(dx, contiguous(dy), at, cos, sin, halves, -1)                             # (4)
        return (dx,)

    return record(y, (x,), vjp)
