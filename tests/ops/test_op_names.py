"""Operations that share their code are still told apart in messages and in repr."""

import numpy as np
import pytest

from tinygrad_edu import Tensor
from tinygrad_edu.ops.matmul import linear


@pytest.mark.parametrize(("name", "call"), [
    ("gelu", lambda x: x.gelu()), ("gelu_erf", lambda x: x.gelu("erf")),
    ("silu", lambda x: x.silu()),
    ("softmax", lambda x: x.softmax()), ("log_softmax", lambda x: x.log_softmax()),
    ("matmul", lambda x: x @ x), ("max", lambda x: x.max(1)), ("min", lambda x: x.min(1)),
    ("linear", lambda x: linear(x, x)), ("cross_entropy", lambda x: x.cross_entropy([0, 1])),
    ("squared_error", lambda x: x.squared_error(x.data)),
])
def test_an_op_that_shares_its_code_with_others_is_named_in_messages_all_the_same(name, call):
    y = call(Tensor(np.ones((2, 2)), requires_grad=True))
    assert f"from {name} at test_op_names.py:" in repr(y)
