"""Gradients of 200 computations that nobody wrote: ops of all families, composed at random.

An op that is right alone can be wrong in company: a gradient that is a view of another, a tensor
used twice, a closure that keeps what somebody else overwrites. Each graph below is drawn by its
seed, step by step, on small float64 tensors. A step is kept if its values stay finite, small and
away from kinks; so finite differences can judge the whole, and then all bodies have to agree.
"""

import numpy as np
import pytest

from tinygrad_edu import Tensor
from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.kernel import backends, kernels, settings
from tinygrad_edu.ops.attention import attention
from tinygrad_edu.ops.cross_entropy import cross_entropy, linear_cross_entropy
from tinygrad_edu.ops.embedding import embedding
from tinygrad_edu.ops.matmul import linear
from tinygrad_edu.ops.norm import add_layernorm
from tinygrad_edu.ops.operators import where
from tinygrad_edu.ops.rope import rope_frequencies, rope_tables
from tinygrad_edu.ops.shape import concatenate, stack
from tinygrad_edu.ops.swiglu import swiglu

LARGEST, WIDEST = 3.0, 60                          # of the numbers, of their count in a tensor
NEAR = 0.05                                        # a kink that is nearer is avoided

# ---- steps: each takes a random generator and shapes, and returns a function of the tensors ------
#
# A step that does not fit the shapes returns None, or raises ValueError when it is tried.


def pointwise(random, x):
    kinds = (Tensor.tanh, Tensor.sigmoid, Tensor.exp, Tensor.sin, Tensor.cos, Tensor.square,
             Tensor.gelu, Tensor.silu, lambda x: x.gelu("erf"), lambda x: -x,
             lambda x: (x * x + 0.5).log(), lambda x: (x * x + 0.5).sqrt(), lambda x: 2 - x * 0.7,
             lambda x: 1 / (x * x + 1), lambda x: (x * x + 1) ** -0.5, lambda x: x.dropout(
                 0.3, (1, 2, 3)), lambda x: x.astype(np.float64) ** 3)
    return kinds[random.integers(len(kinds))]


def kinked(random, x):
    return (Tensor.relu, abs, lambda x: x.clip(-0.5, 0.8))[random.integers(3)]


def of_two(random, a, b):
    if np.prod(np.broadcast_shapes(a, b)) > WIDEST:
        return None
    kinds = (lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b,
             lambda a, b: a / (b * b + 1), lambda a, b: (a * a + 0.5) ** b)
    return kinds[random.integers(len(kinds))]


def choices(random, a, b):
    condition = random.integers(0, 2, np.broadcast_shapes(a, b)).astype(bool)
    kinds = (lambda a, b: where(condition, a, b), Tensor.maximum, Tensor.minimum)
    return kinds[random.integers(len(kinds))]


def reduction(random, x):
    axis = None if random.random() < 0.2 else int(random.integers(-len(x), len(x)))
    name = ("sum", "mean", "var", "logsumexp", "max", "min")[random.integers(6)]
    keepdims = random.random() < 0.5
    return lambda x: getattr(x, name)(axis, keepdims=keepdims)


def softmaxes(random, x):
    axis = int(random.integers(-len(x), len(x)))
    name = ("softmax", "log_softmax")[random.integers(2)]
    return lambda x: getattr(x, name)(axis)


def norms(random, x):
    """With weights that are made of x itself, and so are used twice."""
    axes = tuple(range(len(x) - 1))
    return (lambda x: x.layernorm(x.mean(axes), x.sum(axes).tanh(), eps=0.1),
            lambda x: x.rmsnorm(x.mean(axes) + 1, eps=0.1))[random.integers(2)]


def residual_norm(random, a, b):
    if a != b:
        return None
    axes = tuple(range(len(a) - 1))
    return lambda a, b: stack(add_layernorm(a, b, a.mean(axes), b.mean(axes), eps=0.1), axis=-1)


def product(random, a, b):
    return (lambda a, b: a @ b, lambda a, b: a @ b.swapaxes(-1, -2),
            lambda a, b: linear(a, b, activation="gelu"), linear)[random.integers(4)]


def with_itself(random, x):
    return (lambda x: x @ x.swapaxes(-1, -2), lambda x: linear_cross_entropy(
        x, x, [0] * len(x)) if x.ndim == 2 else x * x, lambda x: swiglu(x, x))[random.integers(3)]


def attending(random, x):
    if len(x) != 2:
        return None
    T, D = x
    causal = bool(random.integers(2))
    tables = rope_tables(T, rope_frequencies(max(2, D - D % 2)), np.float64)

    def f(x):
        heads = x.reshape(1, 1, T, D)
        q = heads.rope(*tables)
        return attention(q, heads, q * heads, causal=causal).reshape(T, D)
    return f


def looked_up(random, x):
    if len(x) != 2:
        return None
    ids = random.integers(0, x[0], (2, 3))
    targets = random.integers(-1, x[1], x[0])
    return (lambda x: embedding(ids, x), lambda x: cross_entropy(x, targets, reduction="none")
            )[random.integers(2)]


def renamed(random, x):
    order = random.permutation(len(x)).tolist()
    axis = int(random.integers(len(x) + 1))
    return (lambda x: x.transpose(order), lambda x: x.reshape(-1), lambda x: x.expand_dims(axis),
            lambda x: x.reshape(x.shape[::-1]), lambda x: x.squeeze(), lambda x: x.flatten(axis),
            lambda x: x.broadcast_to(2, *x.shape))[random.integers(7)]


def taken(random, x):
    rows = random.integers(-x[0], x[0], 3)
    mask = random.integers(0, 2, x).astype(bool)
    mask.flat[0] = True
    first = int(random.integers(x[0]))
    kinds = (lambda x: x[rows], lambda x: x[::-1], lambda x: x[first], lambda x: x[mask],
             lambda x: x[..., :1], lambda x: x[rows, ..., :2], lambda x: x[None, first:],
             lambda x: x.pad([(1, 0)] * x.ndim, 0.5))
    return kinds[random.integers(len(kinds))]


def joined(random, a, b):
    axis = int(random.integers(len(a)))
    return (lambda a, b: concatenate([a, b, a], axis), lambda a, b: stack([b, a], axis),
            lambda a, b: concatenate([a, *b.split(b.shape[0])][::-1], axis))[random.integers(3)]


OF_ONE = [pointwise, pointwise, kinked, reduction, softmaxes, norms, with_itself, attending,
          looked_up, renamed, taken]
OF_TWO = [of_two, of_two, choices, residual_norm, product, product, joined]


# ---- graphs --------------------------------------------------------------------------------------


def is_sane(make, tensors, result):
    """Is the result small, and no input of a step with kinks near one?"""
    values = result.data
    if not 0 < values.size <= WIDEST or not np.abs(values).max() <= LARGEST:
        return False
    arrays = [tensor.data for tensor in tensors]
    if make is kinked:
        return all(np.abs(arrays[0] - kink).min() > NEAR for kink in (-0.5, 0, 0.8))
    if make is choices:
        return np.abs(arrays[0] - arrays[1]).min() > NEAR
    if make is reduction:                          # the largest may be one of several
        gaps = np.diff(np.sort(arrays[0], axis=None))
        return gaps.size == 0 or gaps.min() > 2e-2
    return True


def draw_graph(seed):
    """(steps, arrays): a step is a function and the numbers of the earlier tensors it takes."""
    random = np.random.default_rng(seed)
    shapes = [(2, 3), (3,), (2, 2), (3, 2), (2, 1, 3), (1, 3)]
    arrays = [random.uniform(-1, 1, shapes[i]) for i in random.permutation(len(shapes))[:3]]
    tensors = [Tensor(array) for array in arrays]
    wanted, steps = int(random.integers(5, 31)), []
    while len(steps) < wanted:
        makers = OF_ONE if random.random() < 0.5 else OF_TWO
        make = makers[random.integers(len(makers))]
        # A young tensor twice as often as an old one, so that graphs grow deep.
        count = 1 if makers is OF_ONE else 2
        chosen = [int(max(random.integers(len(tensors), size=2))) for _ in range(count)]
        taking = [tensors[i] for i in chosen]
        try:
            f = make(random, *(tensor.shape for tensor in taking))
            result = f(*taking) if f else None
        except (ValueError, IndexError):           # the shapes do not fit
            continue
        if result is not None and is_sane(make, taking, result):
            steps.append((f, chosen))
            tensors.append(result)
    return steps, arrays


def replay(steps):
    """The graph as a function: all tensors that no step takes, one after the other."""
    def f(*tensors):
        tensors = list(tensors)
        for step, chosen in steps:
            tensors.append(step(*(tensors[i] for i in chosen)))
        used = {i for _, chosen in steps for i in chosen}
        ends = [tensor for i, tensor in enumerate(tensors) if i not in used]
        return concatenate([end.reshape(-1) for end in ends])
    return f


def judge(seed):
    """Finite differences judge the reference's gradients; the reference judges every body."""
    steps, arrays = draw_graph(seed)
    f = replay(steps)
    with settings(forced="numpy"):
        gradcheck(f, *arrays)
    results = {}
    for body in sorted({body for kernel in kernels.values() for body in kernel.bodies}):
        if backends[body].available():
            tensors = [Tensor(array, requires_grad=True) for array in arrays]
            with settings(forced=body):
                y = f(*tensors)
                y.backward(np.cos(np.arange(y.size)))
            results[body] = [y.data, *(tensor.grad for tensor in tensors)]
    for body, got in results.items():
        for a, b in zip(results["numpy"], got, strict=True):
            assert np.allclose(a, b, rtol=1e-9, atol=1e-9), f"seed {seed}: body {body} differs"


@pytest.mark.parametrize("seed", range(200))
def test_the_gradient_of_a_random_graph(seed):
    judge(seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(200, 5000, 100))
def test_the_gradients_of_many_more_random_graphs(first):
    for seed in range(first, first + 100):
        judge(seed)


def test_the_graphs_hold_every_kind_of_step_and_tensors_used_several_times():
    kinds, uses = set(), []
    for seed in range(200):
        steps, _ = draw_graph(seed)
        kinds |= {f.__qualname__.split(".")[0] for f, _ in steps}
        taken = [i for _, chosen in steps for i in chosen]
        uses.append(len(taken) - len(set(taken)))
    made = {make.__name__ for make in OF_ONE + OF_TWO}
    assert made <= kinds
    assert np.mean(uses) > 3
