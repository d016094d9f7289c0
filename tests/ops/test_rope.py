import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import rope as lesson
from tinygrad_edu.ops.rope import LAYOUTS, rope, rope_frequencies, rope_tables
from tinygrad_edu.tensor import Tensor

# B, H, T, D, rotary width; the last one is cut over threads.
SIZES = [
    (1, 1, 1, 2, 2),
    (1, 3, 5, 7, 4),
    (2, 1, 3, 6, 6),
    (3, 2, 7, 34, 22),
    (13, 4, 37, 70, 64),
]


def call(d, size, halves, direction):
    B, H, T, D, R = size
    cos, sin = rope_tables(50, rope_frequencies(R), d.real)
    return (
        *(d.out(B, H, T, D), d.array(B, H, T, D), d.integers(0, 50, B, T)),
        *(cos, sin, halves, direction),
    )


CASES = {
    lesson.rope_rotate: [
        lambda d, size=size, halves=halves, direction=direction: call(d, size, halves, direction)
        for size in SIZES
        for halves in (True, False)
        for direction in (1, -1)
    ]
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def tables(S=64, R=8, dtype=np.float64, **options):
    return rope_tables(S, rope_frequencies(R, **options), dtype)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("R", [2, 6])
def test_rope_gradient(body, layout, R):
    def f(x):
        return rope(x, *tables(R=R), start=np.array([3, 0]), layout=layout)

    check_gradient(f, (2, 2, 3, 6), body=body)


@pytest.mark.parametrize("body", bodies(CASES))
def test_the_gradient_of_a_transposed_array_arrives_at_its_place(body):
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 4)).swapaxes(1, 2)
    check_gradient(lambda x: rope(x, *tables(R=4)), x, body=body)


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_position_t_turns_a_pair_by_t_radians(body, layout):
    x = np.zeros((1, 1, 5, 2))
    x[..., 0] = 1
    with settings(forced=body):
        y = rope(Tensor(x), *tables(R=2), layout=layout).data
    t = np.arange(5)
    assert np.allclose(y[0, 0], np.stack([np.cos(t), np.sin(t)], axis=1))


def test_frequencies_fall_from_one_to_nearly_one_over_the_base():
    assert np.allclose(rope_frequencies(8, base=10.0**4), [1, 0.1, 0.01, 0.001])


def test_position_zero_changes_nothing_and_every_position_keeps_the_length():
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 7, 8)))
    y = rope(x, *tables())
    assert np.array_equal(y.data[:, :, 0], x.data[:, :, 0])
    assert np.allclose((y.data**2).sum(-1), (x.data**2).sum(-1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_depend_on_the_distance_alone(layout):
    random = np.random.default_rng(0)
    q, k = (Tensor(random.standard_normal((1, 1, 1, 8))) for _ in range(2))

    def score(m, n):
        turned = (rope(a, *tables(), start=at, layout=layout).data for a, at in ((q, m), (k, n)))
        return np.vdot(*turned)

    assert np.isclose(score(7, 3), score(51, 47))
    assert not np.isclose(score(7, 3), score(7, 4))
    assert not np.isclose(score(7, 3), score(3, 7))


def test_the_layouts_are_one_rotation_in_two_orders():
    x = np.random.default_rng(0).standard_normal((2, 2, 5, 8))
    order = np.arange(8).reshape(2, 4).T.ravel()  # 0 4 1 5 2 6 3 7: number i of a half to place 2i
    in_halves = rope(Tensor(x), *tables(), layout="halves").data
    as_neighbours = rope(Tensor(x[..., order]), *tables(), layout="neighbours").data
    assert np.allclose(in_halves[..., order], as_neighbours)


def test_a_chunk_that_starts_later_is_turned_as_in_the_whole():
    x = np.random.default_rng(0).standard_normal((2, 2, 9, 8))
    whole = rope(Tensor(x), *tables()).data
    for start in (4, np.array([4, 4]), Tensor(np.array([4, 4]))):
        chunk = rope(Tensor(x[:, :, 4:]), *tables(), start=start).data
        assert np.array_equal(chunk, whole[:, :, 4:])
    ragged = rope(Tensor(x[:, :, :1]), *tables(), start=np.array([0, 5])).data
    assert np.array_equal(ragged[0], whole[0, :, :1])
    assert not np.allclose(ragged[1], whole[1, :, :1])
    positions = np.tile(np.arange(9), (2, 1))
    assert np.array_equal(rope(Tensor(x), *tables(), positions=positions).data, whole)
    backwards = rope(Tensor(x[:, :, ::-1]), *tables(), positions=positions[:, ::-1]).data
    assert np.array_equal(backwards, whole[:, :, ::-1])


def test_numbers_beyond_the_rotary_width_pass_by():
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 8))
    y = rope(Tensor(x), *tables(R=6)).data
    assert np.array_equal(y[..., 6:], x[..., 6:])
    assert np.array_equal(y[..., :6], rope(Tensor(x[..., :6]), *tables(R=6)).data)


def test_float32_tables_keep_their_digits_far_out():
    cos, _ = tables(S=100_001, R=2, dtype=np.float32)
    assert abs(cos[-1, 0] - np.cos(100_000.0)) < 1e-7


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"layout": "pairs"}, ValueError, "neighbours, halves"),
        ({"start": 60}, ValueError, "positions 60 to 64 do not fit tables of 64 rows"),
        ({"start": -1}, ValueError, "positions -1 to 3"),
        ({"start": 0.5}, TypeError, "integers"),
        ({"start": np.arange(3)}, ValueError, r"not \(3,\)"),
        ({"positions": np.arange(5)}, ValueError, r"positions are \(2, 5\)"),
        ({"sin": tables()[1].astype(np.float32)}, TypeError, "float32"),
        ({"cos": tables(R=6)[0]}, ValueError, "two tables"),
        ({"cos": tables(R=10)[0], "sin": tables(R=10)[1]}, ValueError, "R at most D"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, said):
    cos, sin = tables()
    with pytest.raises(error, match=said):
        rope(Tensor(np.zeros((2, 1, 5, 8))), **({"cos": cos, "sin": sin} | change))


@pytest.mark.parametrize("width", [0, 3, -2])
def test_an_odd_width_is_refused(width):
    with pytest.raises(ValueError, match="even"):
        rope_frequencies(width)
