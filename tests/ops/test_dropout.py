import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient
from tinygrad_edu import threads
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops.dropout import dropout, dropout_forward, philox
from tinygrad_edu.tensor import Tensor

SIZES = [(1, 1), (1, 2), (1, 7), (5, 3), (67, 33), (1030, 130)]        # the last: over threads
KEY = (1, 2, 3)
QUARTER = np.uint64(1 << 30)


def start(R, C):
    return np.arange(R, dtype=np.uint64) * np.uint64((C + 1) // 2)


CASES = {
    dropout_forward: [
        lambda d, R=R, C=C: (d.out(R, C), d.array(R, C), start(R, C), np.uint64(5), np.uint64(7),
                             QUARTER, 1.25) for R, C in SIZES],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("body", bodies(CASES))
def test_gradient(body):
    check_gradient(lambda x: dropout(x, 0.4, KEY), (3, 4, 7), body=body)


@pytest.mark.parametrize("counter, key, words", [
    ((0x00000000, 0x00000000), 0x00000000, (0xff1dae59, 0x6cd10df2)),
    ((0xffffffff, 0xffffffff), 0xffffffff, (0x2c3f628b, 0xab4fd7ad)),
    ((0x243f6a88, 0x85a308d3), 0x13198a2e, (0xdd7ce038, 0xf62a4c12)),
])
def test_philox_gives_the_words_that_its_authors_publish(counter, key, words):
    """Random123, tests/kat_vectors, the lines philox2x32 10."""
    assert philox(*map(np.uint64, counter), np.uint64(key)) == words


def mask(shape, p, key, body, real=np.float64):
    with settings(forced=body):
        return dropout(Tensor(np.ones(shape, real)), p, key).data != 0


@pytest.mark.parametrize("body", bodies(CASES))
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_the_mask_is_the_same_in_every_body_type_and_number_of_threads(body, real):
    expected = mask((1030, 131), 0.3, KEY, "numpy")
    for count in (1, 2, 3, 7):
        with threads.limit(count):
            assert np.array_equal(mask((1030, 131), 0.3, KEY, body, real), expected)


@pytest.mark.parametrize("body", bodies(CASES))
def test_a_known_mask_stays_what_it_is(body):
    """A run that is resumed years later draws the same: these bits must never change."""
    bits = mask((2, 8), 0.5, KEY, body).astype(int).reshape(-1)
    assert "".join(map(str, bits)) == "0001010011000110"


@pytest.mark.parametrize("body", bodies(CASES))
def test_what_is_dropped_forward_is_dropped_backward(body):
    x = Tensor(np.ones((64, 33)), requires_grad=True)
    with settings(forced=body):
        y = dropout(x, 0.5, KEY)
        y.backward(np.ones((64, 33)))
    assert np.array_equal(y.data, x.grad)
    assert set(np.unique(x.grad)) == {0, 2}


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_p_and_the_mean_stays(p):
    y = dropout(Tensor(np.ones((1000, 500))), p, (0, 7, 1)).data
    deviation = np.sqrt(p * (1 - p) / y.size)
    assert abs((y == 0).mean() - p) < 4 * deviation
    assert abs(y.mean() - 1) < 4 * deviation / (1 - p)


def test_rows_columns_and_neighbours_are_independent():
    kept = mask((1000, 500), 0.5, (0, 0, 0), "numpy").astype(float) - 0.5
    shifts = [(0, 1), (1, 0), (0, 250), (1, 1), (499, 0)]
    for shift in shifts:
        correlation = (kept * np.roll(kept, shift, (0, 1))).mean() * 4
        assert abs(correlation) < 4 / np.sqrt(kept.size)
    assert np.abs(kept.mean(0)).max() < 5 / np.sqrt(4 * 1000)
    assert np.abs(kept.mean(1)).max() < 5 / np.sqrt(4 * 500)


OTHER_KEYS = [(2, 2, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3), (3, 2, 1), (1, 3, 2)]


@pytest.mark.parametrize("other", OTHER_KEYS)
def test_another_seed_step_or_site_is_an_independent_mask(other):
    a, b = (mask((500, 400), 0.5, key, "numpy") for key in (KEY, other))
    assert abs((a == b).mean() - 0.5) < 4 * 0.5 / np.sqrt(a.size)


def test_without_dropping_the_tensor_itself_comes_back():
    x = Tensor(np.ones(3), requires_grad=True)
    assert dropout(x, 0, KEY) is x


@pytest.mark.parametrize("body", bodies(CASES))
def test_dropping_everything_gives_zeros_also_of_nan(body):
    x = Tensor(np.array([1.0, np.nan, np.inf, -2.0, 0.0]), requires_grad=True)
    with settings(forced=body), np.errstate(invalid="ignore"):
        y = dropout(x, 1, KEY)
        y.backward(np.ones(5))
    assert np.array_equal(y.data, np.zeros(5))
    assert np.array_equal(x.grad, np.zeros(5))


def test_any_shape_goes():
    for shape in ((), (1,), (0, 3), (3, 0), (2, 3, 4, 5)):
        assert dropout(Tensor(np.ones(shape)), 0.5, KEY).shape == shape
    x = Tensor(np.ones((3, 4)))
    assert np.array_equal(dropout(Tensor(x.data.T), 0.5, KEY).data,
                          dropout(Tensor(np.ones((4, 3))), 0.5, KEY).data)


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        dropout(Tensor(np.ones(3)), p, KEY)


@pytest.mark.parametrize("key", [(-1, 0, 0), (0, 1 << 32, 0)])
def test_a_key_out_of_range_is_refused(key):
    with pytest.raises(ValueError, match="key"):
        dropout(Tensor(np.ones(3)), 0.5, key)
