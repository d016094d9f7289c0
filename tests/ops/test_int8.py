"""Integers of eight bits: bodies, exact sums, rounding to half a step, rows without a scale."""

import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ops import int8
from tinygrad_edu.ops.int8 import from_rows, int8_product, int8_rows, int8_widen, multiply, to_rows


def small(draw, *shape):
    return draw.integers(-127, 128, *shape, dtype=np.int8)


def rows_case(draw, N, K):
    return draw.out(N), draw.out(N, K, dtype=np.int8), draw.array(N, K)


CASES = {
    int8_product: [lambda draw, N=N, F=F, K=K: (draw.out(N, F, dtype=np.int32), small(draw, N, K),
                                                small(draw, F, K))
                   for N, F, K in ((1, 1, 1), (3, 5, 67), (2, 4, 256))],
    int8_rows: [lambda draw, N=N, K=K: rows_case(draw, N, K) for N, K in ((1, 1), (5, 67))],
    int8_widen: [lambda draw: (draw.out(5, 67), small(draw, 5, 67), draw.positive(5))],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def test_the_longest_row_of_the_largest_numbers_does_not_overflow():
    a = np.full((1, int8.LONGEST), 127, np.int8)
    assert multiply(a, a)[0, 0] == int8.LONGEST * 127**2 and multiply(a, -a)[0, 0] < 0
    with pytest.raises(ValueError, match="cut the rows into parts"):
        multiply(np.zeros((1, int8.LONGEST + 1), np.int8), np.zeros((1, int8.LONGEST + 1), np.int8))
    with pytest.raises(ValueError, match="needs .rows, K. and .columns, K."):
        multiply(a, a[:, 1:])


@pytest.mark.parametrize("body", int8_rows.bodies)
def test_rounding_is_to_half_a_step_and_rows_without_a_scale_are_no_numbers(body):
    x = np.random.default_rng(0).standard_normal((6, 33)).astype(np.float32)
    x[1], x[2, 3], x[3, 0] = 0, np.inf, np.nan
    x[4, :4] = 127, 0.5, 1.5, -2.5                  # halves go to even numbers
    x[4, 4:] = 0
    x[5] = 1e-45                                    # the smallest there is has no 127th part
    q, scale = np.empty((6, 33), np.int8), np.empty(6, np.float32)
    int8_rows.bodies[body].run(scale, q, x)
    y = from_rows(q, scale)
    assert np.all(np.abs(y[0] - x[0]) <= scale[0] * 0.5000001) and np.abs(q[0]).max() == 127
    assert np.all(y[[1, 5]] == 0) and np.isnan(y[[2, 3]]).all()
    assert q[4, :4].tolist() == [127, 0, 2, -2]


def test_any_shape_has_a_scale_for_each_row():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 8))
    q, scale = to_rows(x[:, ::2])
    assert q.shape == (2, 2, 4, 8) and scale.shape == (2, 2, 4) and scale.dtype == np.float64
    assert np.all(np.abs(from_rows(q, scale) - x[:, ::2]) < scale[..., None])
