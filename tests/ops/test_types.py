"""Types that an op is not made for are refused in one sentence; those it is made for all work."""

import numpy as np
import pytest

from tinygrad_edu import Tensor
from tinygrad_edu.ops.attention import attention, attention_qkv
from tinygrad_edu.ops.cross_entropy import cross_entropy, linear_cross_entropy
from tinygrad_edu.ops.swiglu import swiglu


def ones(x, *shape):
    return Tensor(np.ones(shape, x.dtype))


OPS = {
    "gelu": lambda x: x.gelu(),
    "silu": lambda x: x.silu(),
    "swiglu": lambda x: swiglu(x, x),
    "softmax": lambda x: x.softmax(),
    "log_softmax": lambda x: x.log_softmax(),
    "layernorm": lambda x: x.layernorm(ones(x, 6), ones(x, 6)),
    "rmsnorm": lambda x: x.rmsnorm(ones(x, 6)),
    "cross_entropy": lambda x: cross_entropy(x, np.arange(4)),
    "linear_cross_entropy": lambda x: linear_cross_entropy(x, ones(x, 5, 6), np.arange(4)),
    "attention": lambda x: attention(*[x.reshape(1, 2, 4, 3)] * 3),
    "attention_qkv": lambda x: attention_qkv(x.reshape(1, 4, 6), 1),
    "squared_error": lambda x: x.squared_error(ones(x, 4, 6)),
    "linear": lambda x: x @ ones(x, 6, 2),
    "sum": lambda x: x.sum(0),
    "exp": lambda x: x.exp(),
}
FLOATS_ONLY = [name for name in OPS if name not in ("linear", "sum")]
NUMBERS = np.random.default_rng(5).standard_normal((4, 6))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("name", FLOATS_ONLY)
def test_integers_are_refused_where_they_would_be_rounded(name, dtype):
    with pytest.raises(TypeError, match=f"does not take {dtype}: convert with astype first"):
        OPS[name](Tensor(np.ones((4, 6), dtype)))


@pytest.mark.parametrize("dtype", ["float16", "longdouble", ">f4", ">f8"])
@pytest.mark.parametrize("name", OPS)
def test_floats_that_compiled_loops_do_not_read_are_served_by_numpy(name, dtype):
    result = OPS[name](Tensor(NUMBERS.astype(dtype)))
    expected = OPS[name](Tensor(NUMBERS))
    assert np.allclose(result.numpy().astype(float), expected.numpy(), rtol=1e-2, atol=1e-2)


def test_attention_over_nothing_is_refused():
    for shape in ((1, 1, 0, 8), (1, 1, 8, 0), (0, 1, 8, 8)):
        with pytest.raises(ValueError, match="attention over nothing"):
            attention(*[Tensor(np.zeros(shape, np.float32))] * 3)
    with pytest.raises(ValueError, match="attention over nothing"):
        attention_qkv(Tensor(np.zeros((1, 0, 6), np.float32)), 2)
