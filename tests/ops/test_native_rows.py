"""native/exponential.h and native/sums.h, asked through kernels that are little else."""

import warnings

import numpy as np
import pytest

from tinygrad_edu import foreign
from tinygrad_edu.foreign import C, out, ptr

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    HAS_C = foreign.available()
pytestmark = pytest.mark.skipif(not HAS_C, reason="the C kernels are not built here")

REALS = (np.float32, np.float64)


def exponential(x):
    """e to the x: the gradient of logsumexp with dy = 1 and y = 0 is nothing else."""
    dx, one, zero = np.full_like(x, np.nan), np.ones(1, x.dtype), np.zeros(1, x.dtype)
    C(x).logsumexp_backward(out(dx), ptr(one), ptr(x), ptr(zero), 1, x.size)
    return dx


@pytest.mark.parametrize("real, low, high", [(np.float32, -87.2, 88.7), (np.float64, -708, 709.7)])
def test_the_exponential_is_right_to_two_units_of_the_last_place(real, low, high):
    x = np.random.default_rng(0).uniform(low, high, 100_003).astype(real)
    exact = np.exp(x.astype(np.longdouble))
    wrong = np.abs(exponential(x) - exact) / exact
    # long double has more digits than double on x86 only: elsewhere NumPy's own error counts too
    assert wrong.max() < 2 * np.finfo(real).eps


@pytest.mark.parametrize("real", REALS)
def test_the_exponential_ends_in_zero_and_infinity_and_keeps_nan(real):
    x = np.array([-np.inf, -1e30, -800, 0, -0.0, 800, 1e30, np.inf, np.nan] * 5, real)
    got = exponential(x)
    assert np.array_equal(got, [0, 0, 0, 1, 1, np.inf, np.inf, np.inf, np.nan] * 5, equal_nan=True)


@pytest.mark.parametrize("real", REALS)
def test_a_row_sum_takes_every_number_once_whatever_the_length(real):
    for n in (*range(1, 140), 4095, 4096, 4097, 8192 + 65):
        x, y = np.arange(1, n + 1).astype(real), np.full(1, np.nan, real)
        C(x).sum_forward(out(y), ptr(x), 1, n, 1)
        assert y[0] == real(n * (n + 1) // 2)


@pytest.mark.parametrize("real", REALS)
def test_column_sums_take_every_number_once_whatever_the_shape(real):
    for n, b in [(1, 2), (3, 5), (4, 1023), (255, 7), (256, 1024), (257, 1025), (1030, 33)]:
        x, y = np.arange(n * b).reshape(n, b).astype(real) % 64, np.full(b, np.nan, real)
        C(x).sum_forward(out(y), ptr(x), 1, n, b)
        assert np.array_equal(y, x.sum(axis=0, dtype=np.float64).astype(real))


def test_a_sum_does_not_depend_on_where_its_array_begins():
    numbers = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    places, sums = np.empty(1016, np.float32), set()
    for start in range(16):
        x, y = places[start:start + 1000], np.empty(1, np.float32)
        x[:] = numbers
        C(x).sum_forward(out(y), ptr(x), 1, 1000, 1)
        sums.add(float(y[0]))
    assert len(sums) == 1
