import numpy as np
import pytest

from harness import body_cases, check_body, need
from tinygrad_edu import threads
from tinygrad_edu.files.blocks import READ, from_blocks, to_blocks
from tinygrad_edu.files.gguf import TYPES
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops.ladders import KINDS, NAMES
from tinygrad_edu.ops.packed import (
    PLAIN,
    Packed,
    packed_linear,
    packed_product,
    product_of,
    quantize_rows,
    unpack_rows,
)
from tinygrad_edu.tensor import Tensor

HEADS = {"F32": (), "F16": (), "BF16": (), "Q6_K": (208,), "Q8_0": (0,), "Q4_0": (0,), "Q5_0": (0,)}


def some_blocks(generator, kind, rows, numbers):
    """Random bytes, with scales and minima of a usual size; for PLAIN, normal numbers."""
    number, size, width, _ = KINDS[kind]
    if kind in PLAIN:
        x = generator.standard_normal((rows, numbers)).astype(np.float32)
        return to_blocks(x, kind) if kind != "BF16" else x.view(np.uint8).reshape(
            rows, numbers, 4)[..., 2:].reshape(rows, -1).copy()
    raw = generator.integers(0, 256, (rows * numbers // size, width)).astype(np.uint8)
    for place in HEADS.get(kind, (0, 2)):
        head = generator.uniform(-1e-2, 1e-2, (len(raw), 1)).astype("<f2")
        raw[:, place : place + 2] = head.view(np.uint8)
    return raw.reshape(rows, -1)


def product_case(kind, rows_of_x, rows, numbers):
    def case(draw):
        x = draw.array(rows_of_x, numbers)
        parts = numbers // 32 if kind not in PLAIN else 0
        q, sums = draw.out(rows_of_x, 32 * parts, dtype=np.int8), draw.out(
            rows_of_x, parts, dtype=np.int32)
        scale = draw.out(rows_of_x, parts)
        if parts:
            quantize_rows.bodies["numpy"].run(q, scale, sums, x)
        blocks = some_blocks(draw.generator, kind, rows, numbers)
        return draw.out(rows_of_x, rows), x, q, scale, sums, blocks, KINDS[kind].number
    return case


def unpack_case(kind):
    return lambda draw: (draw.out(3, 512), some_blocks(draw.generator, kind, 3, 512),
                         KINDS[kind].number)


def quantize_case(rows, numbers, **options):
    return lambda draw: (draw.out(rows, numbers, dtype=np.int8), draw.out(rows, numbers // 32),
                         draw.out(rows, numbers // 32, dtype=np.int32),
                         draw.array(rows, numbers, **options))


CASES = {
    packed_product: [product_case(kind, *sizes) for kind in KINDS
                     for sizes in ((1, 7, 512), (3, 18, 256), (5, 33, 256), (11, 16, 512))]
    + [product_case(kind, N, 5, 96) for kind in ("Q8_0", "Q4_1", "F16") for N in (1, 9)]
    + [product_case(kind, 2, 3, 37) for kind in PLAIN],
    unpack_rows: [unpack_case(kind) for kind in KINDS],
    quantize_rows: [quantize_case(1, 32), quantize_case(5, 96, scale=1e-20, offset=1e-20),
                    quantize_case(2, 64, scale=1e35), quantize_case(3, 64, scale=1e-33)],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", ["numba", "native"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_unpacked_to_the_bit_signs_of_zeros_and_odd_scales_included(kind, body):
    need(body)
    number, size, width, _ = KINDS[kind]
    raw = np.random.default_rng(5).integers(0, 256, (40, 512 // size * width), np.uint8)
    got, want = np.empty((2, 40, 512), np.float32)
    unpack_rows.bodies[body].run(got, raw, number)
    unpack_rows.__wrapped__(want, raw, number)
    odd = np.isnan(want)
    assert odd.any() and np.array_equal(np.isnan(got), odd)
    assert np.array_equal(got.view(np.uint32)[~odd], want.view(np.uint32)[~odd])


def test_kinds_and_their_numbers_are_those_of_the_files():
    assert {name: kind.number for name, kind in KINDS.items()} == {n: t for t, n in TYPES.items()}
    assert {name: (kind.size, kind.width) for name, kind in KINDS.items()} == {
        name: found[:2] for name, found in READ.items()}
    assert sorted(NAMES.values()) == sorted(KINDS)


@pytest.mark.parametrize("body", ["numpy", "numba", "native"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_product_is_as_near_to_the_exact_one_as_eight_bits_allow(kind, body):
    need(body)
    generator = np.random.default_rng(1)
    x = generator.standard_normal((9, 512), np.float32) ** 3
    w = Packed(some_blocks(generator, kind, 40, 512), kind)
    wide = np.float64(from_blocks(w.blocks, kind))
    exact = np.float64(x) @ wide.T
    step = np.abs(x).reshape(9, -1, 32).max(axis=2).repeat(32, axis=1) / 127
    coarse = 0 if kind in PLAIN else step / 2 @ np.abs(wide).T                  # (4) of the lesson
    rounding = 1e-5 * (np.abs(x) @ np.abs(wide).T)
    for rows in (slice(1), slice(3), slice(9)):
        with settings(forced=body):
            y = product_of(x[rows], w)
        error = np.abs(y - exact[rows])
        assert (error <= (coarse + rounding)[rows]).all()
        if kind not in PLAIN:
            assert (error > rounding[rows]).any()                   # the bound is not an empty one


def test_a_product_of_integers_is_exact():
    x = np.float32([[127, *range(-15, 16)]])
    w = to_blocks(np.float32([[127 * 2, *range(0, 62, 2)], [-127, *range(31)]]), "Q8_0")
    y = packed_linear(Tensor(x), Packed(w, "Q8_0"))
    squares = [k * (k + 15) for k in range(-15, 16)]
    assert y.numpy().tolist() == [[127 * 254 + 2 * sum(squares), -127 * 127 + sum(squares)]]


@pytest.mark.parametrize("rows_of_x", [1, 12])
def test_threads_do_not_change_a_bit(rows_of_x):
    generator = np.random.default_rng(2)
    x = generator.standard_normal((rows_of_x, 512), np.float32)
    w = Packed(some_blocks(generator, "Q4_1", 2001, 512), "Q4_1")
    results = []
    for count in (1, 2, 5):
        with threads.limit(count):
            results.append(product_of(x, w))
    assert all(np.array_equal(results[0], y) for y in results[1:])


@pytest.mark.parametrize("body", ["numpy", "numba", "native"])
@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows_of_x", [2, 6])
def test_what_is_no_finite_number_in_x_makes_its_row_nan_and_no_other(worst, rows_of_x, body):
    need(body)
    generator = np.random.default_rng(3)
    x = generator.standard_normal((rows_of_x, 256), np.float32)
    x[1, 100] = worst
    for kind in ("Q8_0", "Q4_1", "Q6_K"):
        with settings(forced=body):
            y = product_of(x, Packed(some_blocks(generator, kind, 5, 256), kind))
        assert np.isnan(y).tolist() == [[n == 1] * 5 for n in range(rows_of_x)]


def test_tiny_numbers_in_x_count_as_zeros():
    w = Packed(to_blocks(np.ones((2, 32), np.float32), "Q8_0"), "Q8_0")
    assert product_of(np.full((1, 32), 1e-38, np.float32), w).tolist() == [[0, 0]]


@pytest.mark.parametrize("kind", ["Q4_K", "BF16"])
def test_a_gradient_reaches_x_and_the_bias(kind):
    generator = np.random.default_rng(4)
    w = Packed(some_blocks(generator, kind, 700, 256), kind)
    x = Tensor(generator.standard_normal((2, 3, 256), np.float32), requires_grad=True)
    b = Tensor(generator.standard_normal(700, np.float32), requires_grad=True)
    y = packed_linear(x, w, b)
    plain = packed_linear(x.detach(), w)
    assert np.allclose(y.numpy(), plain.numpy() + b.numpy(), atol=1e-5)
    dy = generator.standard_normal(y.shape, np.float32)
    y.backward(dy)
    exact = dy.astype(np.float64) @ from_blocks(w.blocks, kind)
    assert np.allclose(x.grad, exact, atol=1e-4 * np.abs(exact).max())
    assert np.allclose(b.grad, dy.sum(axis=(0, 1)), atol=1e-4)


def test_rows_are_widened_where_they_are_asked_for():
    w = Packed(some_blocks(np.random.default_rng(5), "Q5_K", 9, 512), "Q5_K")
    wide = from_blocks(w.blocks, "Q5_K")
    ids = np.array([[3, 3], [8, 0]])
    assert np.array_equal(w.rows(ids), wide[ids])
    assert np.array_equal(w.rows(slice(2, 5)), wide[2:5])
    assert (len(w), w.shape, w.nbytes) == (9, (9, 512), 9 * 352)


@pytest.mark.parametrize("blocks, kind, words", [
    (np.zeros((2, 33), np.uint8), "Q8_0", "rows of 33 bytes do not divide into blocks of 34"),
    (np.zeros((2, 34), np.int8), "Q8_0", "rows of bytes"),
    (np.zeros((2, 68), np.uint8)[:, ::2], "Q8_0", "without gaps"),
    (np.zeros(34, np.uint8), "Q8_0", "rows of bytes"),
    (np.zeros((2, 34), np.uint8), "Q9_0", "Q9_0"),
])
def test_bytes_that_are_no_rows_of_blocks_are_refused(blocks, kind, words):
    with pytest.raises(ValueError, match=words):
        Packed(blocks, kind)


def test_what_does_not_fit_a_packed_weight_is_refused():
    w = Packed(np.zeros((2, 34), np.uint8), "Q8_0")
    with pytest.raises(ValueError, match=r"not \(1, 64\) and \(2, 32\)"):
        packed_linear(Tensor(np.zeros((1, 64), np.float32)), w)
    with pytest.raises(TypeError, match="float32, not float64"):
        packed_linear(Tensor(np.zeros((1, 32))), w)
    with pytest.raises(ValueError, match="one bias an output"):
        packed_linear(Tensor(np.zeros((1, 32), np.float32)), w, Tensor(np.zeros(3, np.float32)))
