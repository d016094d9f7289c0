import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.ops import gemv as lesson
from tinygrad_edu.ops.gemv import to_int4, to_int8, unpack_int4


def int4_case(d, F, K, group):
    return (d.out(F), d.array(K), d.integers(0, 256, F, K // 2, dtype=np.uint8),
            d.array(F, K // group))


CASES = {
    lesson.gemv_int8_forward: [
        lambda d, F=F, K=K: (d.out(F), d.array(K), d.integers(-127, 128, F, K, dtype=np.int8),
                             d.array(F))
        for F, K in ((1, 1), (3, 16), (7, 33), (9, 1040))],
    lesson.gemv_int4_forward: [
        lambda d, shape=shape: int4_case(d, *shape)
        for shape in ((1, 8, 8), (3, 32, 32), (7, 72, 24), (5, 544, 32), (2, 12, 6))],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_quantised_products_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


def test_the_lower_half_of_a_byte_is_the_even_number():
    assert unpack_int4(np.array([[0x0F, 0x90]], np.uint8)).tolist() == [[7, -8, -8, 1]]


def test_weights_that_are_integers_already_come_through_exactly():
    random = np.random.default_rng(0)
    w = random.integers(-7, 8, (6, 64)).astype(np.float64)
    w[:, ::32] = 7                                 # so that the scale is 1
    x, y = random.standard_normal(64), np.empty(6)
    q, scale = to_int4(w)
    lesson.gemv_int4_forward(y, x, q, scale)
    assert np.allclose(y, w @ x, rtol=1e-13)
    q, scale = to_int8(w * 127 / 7)
    lesson.gemv_int8_forward(y, x, q, scale)
    assert np.abs(y - w @ x * 127 / 7).max() <= 0.5 * np.abs(x).sum()


def test_no_weight_is_further_than_half_a_step():
    w = np.random.default_rng(0).standard_normal((5, 96))
    w[2] = 0
    q, scale = to_int8(w)
    assert np.all(np.abs(q * scale[:, None] - w) <= scale[:, None] * 0.5 + 1e-12)
    q, scale = to_int4(w, 24)
    steps = np.repeat(scale, 24, axis=1)
    assert np.all(np.abs(unpack_int4(q) * steps - w) <= steps * 0.5 + 1e-12)


@pytest.mark.parametrize("group", [7, 0, 64])
def test_a_group_that_does_not_fit_is_refused(group):
    with pytest.raises(ValueError, match="even divisor"):
        to_int4(np.ones((2, 96)), group)
