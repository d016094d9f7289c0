"""The table of native/pointwise.c: every row against NumPy, and every slope against differences."""

import warnings

import numpy as np
import pytest

from tinygrad_edu import foreign
from tinygrad_edu.foreign import C, out, ptr

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    HAS_C = foreign.available()
pytestmark = pytest.mark.skipif(not HAS_C, reason="the C kernels are not built here")

UNARY = {
    "neg": np.negative,
    "square": np.square,
    "reciprocal": lambda x: 1 / x,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "abs": np.abs,
}
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
SLOPES = [*UNARY, *(name for name in BINARY if name not in ("add", "sub"))]
POSITIVE = ("sqrt", "log")
REALS = (np.float32, np.float64)
TOLERANCE = {np.float32: 5e-7, np.float64: 1e-15}  # 4 units of the last place, as libmvec promises
# One vector and less, a prime beyond several, and more than a page.
SIZES = (1, 2, 7, 16, 31, 257, 5003)


def draw(name, size, real, seed=0):
    """Numbers in ±[0.1, 3): away from the kinks of relu and abs and the poles of log and 1/x."""
    random = np.random.default_rng(seed)
    sign = 1 if name in POSITIVE else random.choice([-1, 1], size)
    return (sign * random.uniform(0.1, 3, size)).astype(real)


def forward(name, *inputs):
    y = np.full_like(inputs[0], np.nan)
    getattr(C(y), f"{name}_forward")(out(y), *map(ptr, inputs), y.size)
    return y


def backward(name, dy, *inputs):
    y = forward(name, *inputs)
    grads = [np.full_like(x, np.nan) for x in inputs]
    function = getattr(C(y), f"{name}_backward")
    function(*map(out, grads), ptr(dy), *map(ptr, inputs), ptr(y), y.size)
    return grads


def test_every_row_of_the_table_is_tested_here():
    rows = {name.rpartition("_")[0] for name in dir(C(np.zeros(1))) if name.endswith("_forward")}
    assert rows >= UNARY.keys() | BINARY.keys()
    text = (foreign.sources_folder() / "pointwise.c").read_text(encoding="utf-8")
    for name in rows - UNARY.keys() - BINARY.keys():
        assert f"NARY({name}," not in text and f"void {name}_" not in text


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", UNARY)
def test_a_function_of_one_array_agrees_with_numpy(name, real):
    for size in SIZES:
        x = draw(name, size, real)
        expected = UNARY[name](x)
        np.testing.assert_allclose(forward(name, x), expected, rtol=TOLERANCE[real])


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", BINARY)
def test_a_function_of_two_arrays_agrees_with_numpy(name, real):
    for size in SIZES:
        a, b = draw(name, size, real), draw(name, size, real, seed=1)
        np.testing.assert_allclose(forward(name, a, b), BINARY[name](a, b), rtol=TOLERANCE[real])


@pytest.mark.parametrize("name", SLOPES)
def test_every_slope_in_the_double_build_is_the_limit_of_differences(name):
    f = UNARY.get(name) or BINARY[name]
    inputs = [draw(name, 101, np.float64, seed) for seed in range(1 if name in UNARY else 2)]
    dy = np.random.default_rng(9).standard_normal(101)
    step = 1e-6
    for i, got in enumerate(backward(name, dy, *inputs)):
        above, below = list(inputs), list(inputs)
        above[i], below[i] = inputs[i] + step, inputs[i] - step
        expected = dy * (f(*above) - f(*below)) / (2 * step)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", SLOPES)
def test_the_float_build_has_the_slopes_of_the_double_build(name):
    inputs = [draw(name, 101, np.float32, seed) for seed in range(1 if name in UNARY else 2)]
    dy = np.random.default_rng(9).standard_normal(101).astype(np.float32)
    double = backward(name, dy.astype(np.float64), *[x.astype(np.float64) for x in inputs])
    for got, expected in zip(backward(name, dy, *inputs), double, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", UNARY)
def test_special_numbers_become_what_numpy_makes_of_them(name, real):
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, 1e-40, 80, -80], real)
    x = np.concatenate([x, np.ones(6, real)])  # a whole vector, so that the fast path meets them
    with np.errstate(all="ignore"):
        expected = UNARY[name](x)
    got = forward(name, x)
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE[real], atol=np.finfo(real).tiny)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_of_two_numbers_one_of_them_nan_the_nan_wins(name):
    a = np.array([np.nan, 1, np.nan, 2], np.float32)
    b = np.array([1, np.nan, np.nan, 3], np.float32)
    np.testing.assert_array_equal(forward(name, a, b), BINARY[name](a, b))


def test_an_output_may_be_its_own_input():
    x = draw("exp", 1001, np.float32)
    expected = forward("exp", x)
    C(x).exp_forward(out(x), ptr(x), x.size)
    np.testing.assert_array_equal(x, expected)


def test_nothing_is_written_beyond_the_last_element():
    x, y = np.ones(64, np.float32), np.zeros(64, np.float32)
    C(y).neg_forward(out(y), ptr(x), 37)
    np.testing.assert_array_equal(y, [-1] * 37 + [0] * 27)
