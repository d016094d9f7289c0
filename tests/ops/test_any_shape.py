"""Every op on shapes, strides and types that nobody chose: hypothesis draws them.

For every public function of floor 2 a strategy below says what a call of it may look like. Each
drawn call is judged twice: finite differences judge the gradients of the reference in float64, and
the reference judges every body, in both types, on arrays with other strides than its own, cut over
threads however small they are. What lies between the elements of an array with gaps is NaN, so that
a body that reads it shows it. A new op without a strategy fails the last test.

The draws are the same in every run; `pytest -m long` makes many more of them.
"""

import dis
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

from tinygrad_edu import Tensor, ops, threads
from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.kernel import backends, kernels, poison
from tinygrad_edu.kernel import settings as forcing
from tinygrad_edu.ops.attention import attention, attention_qkv
from tinygrad_edu.ops.cross_entropy import cross_entropy, linear_cross_entropy
from tinygrad_edu.ops.embedding import embedding
from tinygrad_edu.ops.matmul import linear
from tinygrad_edu.ops.norm import add_layernorm
from tinygrad_edu.ops.operators import where
from tinygrad_edu.ops.rmsnorm import add_rmsnorm
from tinygrad_edu.ops.rope import rope_frequencies, rope_tables
from tinygrad_edu.ops.shape import concatenate, stack
from tinygrad_edu.ops.swiglu import swiglu

pytest.importorskip("hypothesis", reason="hypothesis is missing: pip install -e '.[dev]'")
from hypothesis import HealthCheck, given, settings, strategies

FEW, MANY = 10, 300                                # draws for each op
SHARE_EMULATED = 0.4                               # of them by the emulator of a GPU, which is slow
SIZES = (1, 2, 3, 5, 7)
LARGEST = 150                                      # elements of a drawn array
DIGITS = {"f": 1e-4, "d": 1e-10, "l": 0}           # relative to the largest number of a result
NO_OPS = {"elementwise", "packed_linear"}          # makes ops; is in test_packed: bytes


# ---- what is drawn ------------------------------------------------------------------------------


def with_gaps(a):
    """A view of every second element along every axis; NaN in between, or large integers."""
    wide = np.empty([2 * n for n in a.shape], a.dtype)
    poison(wide)
    view = wide[(..., *(slice(None, None, 2),) * a.ndim)]
    view[...] = a
    return view


def backwards(a):
    """A view with negative strides."""
    turned = (..., *(slice(None, None, -1),) * a.ndim)
    return a[turned].copy()[turned]


LAYOUTS = {
    "in row order": lambda a: a.copy(),
    "transposed": lambda a: a.T.copy().T,
    "with gaps": with_gaps,
    "backwards": backwards,
    "repeated": lambda a: np.broadcast_to(a[:1], a.shape),  # of arrays whose rows are all equal
}


class Draw:
    """Sizes, numbers and layouts of one call; the layouts wait until the types are chosen."""

    def __init__(self, data):
        self.data = data
        self.layouts = []
        self.random = np.random.default_rng(data.draw(strategies.integers(0, 999)))

    def pick(self, *values):
        """One of these."""
        return self.data.draw(strategies.sampled_from(values))

    def integer(self, low, high):
        """A whole number, both ends included."""
        return self.data.draw(strategies.integers(low, high))

    def shape(self, low=0, high=4, empty=True):
        """The sizes of `low` to `high` axes."""
        sizes = (*SIZES, 0) if empty else SIZES
        shape = tuple(self.pick(*sizes) for _ in range(self.integer(low, high)))
        while np.prod(shape) > LARGEST:
            shape = shape[:-1] if len(shape) > low else (1, *shape[1:-1], 7)
        return shape

    def part_of(self, shape):
        """A shape that broadcasts to this one."""
        kept = shape[self.integer(0, len(shape)):]
        return tuple(self.pick(1, n) for n in kept)

    def axis(self, shape):
        """One axis, from either end."""
        return self.integer(-len(shape), len(shape) - 1)

    def laid_out(self, a, alone=False):
        """The array, whose layout is chosen here. alone: no two elements may be equal."""
        layout = self.pick(*list(LAYOUTS)[:4 if alone or not a.shape else 5])
        self.layouts.append(layout)
        a = np.asarray(a)                          # a drawn number is no array
        return np.repeat(a[:1], len(a), axis=0) if layout == "repeated" and len(a) else a

    def array(self, *shape):
        """Normal numbers."""
        return self.laid_out(self.random.standard_normal(shape))

    def positive(self, *shape):
        """Numbers in [0.5, 2)."""
        return self.laid_out(self.random.uniform(0.5, 2, shape))

    def steps(self, *shape, offset=0.03):
        """Tenths plus an offset: never near 0, nor near tenths with another offset."""
        return self.laid_out(self.random.integers(-20, 20, shape) / 10 + offset)

    def different(self, *shape):
        """Numbers of which no two are near each other."""
        count = int(np.prod(shape))
        return self.laid_out(self.random.permutation(count).reshape(shape) / 25, alone=True)


# ---- a strategy for every op: (function of tensors, its arrays) ---------------------------------

STRATEGIES = {}


def strategy(*names):
    """Decorates what draws a call of the op: draw -> f, array, … or draw, name -> the same."""
    def add(function):
        for name in names:
            STRATEGIES[name] = function
        return function
    return add


def call(name, *args, **options):
    """A function that calls the method of this name."""
    return lambda x: getattr(x, name)(*args, **options)


@strategy("neg", "square", "sin", "cos", "tanh", "sigmoid", "exp", "silu")
def smooth(draw, name):
    return call(name), draw.array(*draw.shape())


@strategy("gelu")
def gelu(draw, name):
    return call("gelu", draw.pick("tanh", "erf")), draw.array(*draw.shape())


@strategy("reciprocal", "sqrt", "log")
def positive(draw, name):
    return call(name), draw.positive(*draw.shape())


@strategy("relu", "absolute")
def kinked(draw, name):
    return call({"absolute": "abs"}.get(name, name)), draw.steps(*draw.shape())


@strategy("add", "sub", "mul", "div", "maximum", "minimum")
def of_two(draw, name):
    shape = draw.shape()
    shapes = [shape, draw.part_of(shape)]
    if draw.pick(False, True):                     # neither has the shape of the result
        shapes[0] = tuple(draw.pick(1, n) for n in shape)
    if draw.pick(False, True):
        shapes.reverse()
    a = draw.steps(*shapes[0])
    b = draw.positive(*shapes[1]) if name == "div" else draw.steps(*shapes[1], offset=0.08)
    return (lambda a, b: getattr(a, name)(b)), a, b


@strategy("affine")
def beside_a_number(draw, name):
    number = draw.pick(2, -0.5, 1, 0)
    return draw.pick(lambda x: x + number, lambda x: number - x, lambda x: x * number,
                     call("affine", number, 3)), draw.array(*draw.shape())


@strategy("power")
def power(draw, name):
    x = draw.positive(*draw.shape())
    if draw.pick(False, True):
        return (lambda x, y: x ** y), x, draw.array(*draw.part_of(x.shape))
    return call("power", draw.pick(-1, 0, 0.5, 2, 3)), x


@strategy("where")
def choice(draw, name):
    shape = draw.shape()
    condition = draw.random.integers(0, 2, draw.part_of(shape)).astype(bool)
    arrays = draw.array(*draw.part_of(shape)), draw.array(*shape)
    return (lambda a, b: where(condition, a, b)), *arrays


@strategy("clip")
def clip(draw, name):
    return call("clip", *draw.pick((-0.5, 0.75), (0, 0.5), (-9, 0))), draw.steps(*draw.shape())


def axes(draw, shape):
    """What `axis` of a reduction may be."""
    chosen = draw.data.draw(strategies.sets(strategies.integers(0, len(shape) - 1)))
    some = tuple(axis - draw.pick(0, len(shape)) for axis in chosen)
    return draw.pick(None, some, draw.axis(shape))


@strategy("sum")
def sums(draw, name):
    x = draw.array(*draw.shape(1))
    return call("sum", axes(draw, x.shape), keepdims=draw.pick(False, True)), x


@strategy("mean", "amax", "amin", "argmax", "argmin", "logsumexp")
def reductions(draw, name):
    x = draw.different(*draw.shape(1, empty=False))
    method = name.removeprefix("a") if name in ("amax", "amin") else name
    return call(method, axes(draw, x.shape), keepdims=draw.pick(False, True)), x


@strategy("var", "std")
def spread(draw, name):
    x = draw.different(*draw.shape(0, 3, empty=False), draw.pick(2, 3, 7))
    axis = draw.pick(None, -1, x.ndim - 1)
    return call(name, axis, ddof=draw.pick(0, 1), keepdims=draw.pick(False, True)), x


@strategy("softmax", "log_softmax")
def along_an_axis(draw, name):
    shape = draw.shape(1)
    axis = draw.axis(shape)
    shape = tuple(n or int(i == axis % len(shape)) for i, n in enumerate(shape))
    return call(name, axis), draw.array(*shape)


@strategy("layernorm", "rmsnorm")
def norms(draw, name):
    shape = *draw.shape(0, 3), draw.pick(*SIZES)
    arrays = [draw.array(*shape), draw.array(shape[-1]), draw.array(shape[-1])]
    count = 2 if name == "rmsnorm" else 3          # of x and its weights
    return (lambda x, *w: getattr(x, name)(*w, eps=0.1)), *arrays[:count]


@strategy("add_layernorm", "add_rmsnorm")
def residual_norm(draw, name):
    shape = *draw.shape(0, 3), draw.pick(*SIZES)
    op, weights = {"add_layernorm": (add_layernorm, 2), "add_rmsnorm": (add_rmsnorm, 1)}[name]
    arrays = [draw.array(*shape), draw.array(*shape)]
    arrays += [draw.array(shape[-1]) for _ in range(weights)]
    used = draw.pick(slice(0, 2), slice(0, 1), slice(1, 2))
    return (lambda *tensors: stack(op(*tensors, eps=0.1)[used])), *arrays


@strategy("squared_error")
def distance(draw, name):
    shape = tuple(n or 1 for n in draw.shape(0, 3))
    return (lambda y, t: y.squared_error(t)), draw.array(*shape), draw.array(*shape)


@strategy("swiglu")
def gated(draw, name):
    shape = draw.shape()
    return swiglu, draw.array(*shape), draw.array(*shape)


@strategy("matmul")
def products(draw, name):
    n, k, m = (draw.pick(*SIZES, 0) for _ in range(3))
    batch = draw.shape(0, 2)
    left, right = draw.part_of(batch), draw.part_of(batch)
    a = (k,) if draw.pick(False, False, True) else (*left, n, k)
    b = (k,) if draw.pick(False, False, True) else (*right, k, m)
    return (lambda a, b: a @ b), draw.array(*a), draw.array(*b)


@strategy("linear")
def linear_layer(draw, name):
    C, F = draw.pick(*SIZES, 0), draw.pick(*SIZES, 0)
    x, w = draw.array(*draw.shape(0, 2), C), draw.array(F, C)
    activation = draw.pick(None, "gelu")
    if draw.pick(False, True):
        return (lambda x, w, b: linear(x, w, b, activation)), x, w, draw.array(F)
    return (lambda x, w: linear(x, w, None, activation)), x, w


def targets_and_options(draw, shape, V):
    """What both losses take after the logits."""
    options = {"reduction": draw.pick("mean", "sum", "none"),
               "label_smoothing": draw.pick(0.0, 0.1), "ignore": draw.pick(-1, 0)}
    ids = draw.random.integers(0, V, shape)
    if draw.pick(False, True):
        ids[draw.random.integers(0, 2, shape) == 0] = options["ignore"]
    return ids.astype(draw.pick(np.int64, np.int32)), options


@strategy("cross_entropy")
def surprise(draw, name):
    shape, V = draw.shape(0, 2), draw.pick(*SIZES)
    ids, options = targets_and_options(draw, shape, V)
    return (lambda z: cross_entropy(z, ids, **options)), draw.array(*shape, V)


@strategy("linear_cross_entropy")
def surprise_of_a_head(draw, name):
    shape, V, C = draw.shape(0, 2, empty=False), draw.pick(*SIZES), draw.pick(*SIZES)
    ids, options = targets_and_options(draw, shape, V)
    arrays = draw.array(*shape, C), draw.array(V, C)
    return (lambda x, w: linear_cross_entropy(x, w, ids, **options)), *arrays


@strategy("dropout")
def dropped(draw, name):
    p, key = draw.pick(0.0, 0.3, 0.5, 1.0), (draw.integer(0, 2**32 - 1), draw.integer(0, 9), 1)
    return call("dropout", p, key), draw.array(*draw.shape())


@strategy("embedding")
def looked_up(draw, name):
    shape, V, C = draw.shape(0, 2), draw.pick(*SIZES), draw.pick(*SIZES)
    ids = draw.laid_out(draw.random.integers(0, V, shape).astype(draw.pick(np.int64, np.uint8)))
    ids = LAYOUTS[draw.layouts.pop()](ids)
    if draw.pick(False, True):
        positions = draw.array(*(shape[-1:] or (1,)), C)
        draw.layouts.reverse()
        return (lambda p, w: embedding(ids, w, p)), positions, draw.array(V, C)
    return (lambda w: embedding(ids, w)), draw.array(V, C)


def query_and_keys(draw):
    """(B, G, heads of a group, T, S, D), and options that both kinds of attention have."""
    B, G, more, T, S, D = (draw.pick(1, 2, 3) for _ in range(6))
    options = {"scale": draw.pick(None, 0.7), "causal": draw.pick(True, False)}
    if draw.pick(False, True):
        options["length"] = draw.random.integers(0, S + 1, B)
    return (B, G, more, T, S, D), options


@strategy("attention")
def attending(draw, name):
    (B, G, more, T, S, D), options = query_and_keys(draw)
    mask = draw.random.standard_normal(draw.part_of((B, G * more, T, S)))
    masked, start = draw.pick(False, True), draw.pick(None, 0, 1)
    if draw.pick(False, True):
        options["segments"] = [draw.random.integers(0, 2, (B, n)) for n in (T, S)]

    def f(q, k, v):
        added = mask.astype(q.dtype) if masked else None
        return attention(q, k, v, mask=added, start=start, **options)
    return f, draw.array(B, G * more, T, D), draw.array(B, G, S, D), draw.array(B, G, S, D)


@strategy("attention_qkv")
def attending_to_itself(draw, name):
    (B, G, more, T, _, D), options = query_and_keys(draw)
    if "length" in options:
        options["length"] = np.minimum(options["length"], T)
    heads = G * more
    x = draw.array(B, T, (heads + 2 * G) * D)
    return (lambda x: attention_qkv(x, heads, groups=G, **options)), x


@strategy("rope")
def rotated(draw, name):
    B, H, T = draw.shape(3, 3)
    pairs = draw.pick(1, 2, 3)
    x = draw.array(B, H, T, 2 * pairs + draw.pick(0, 1, 2))
    frequencies = rope_frequencies(2 * pairs)
    start = draw.pick(0, 3, draw.random.integers(0, 4, B))
    layout = draw.pick("halves", "neighbours")

    def f(x):
        return x.rope(*rope_tables(T + 4, frequencies, x.dtype), start=start, layout=layout)
    return f, x


@strategy("reshape", "flatten")
def renamed_axes(draw, name):
    shape = draw.shape()
    if name == "flatten":
        return call("flatten", draw.integer(0, len(shape))), draw.array(*shape)
    other = draw.pick(shape[::-1], (1, *shape), (*shape, 1), (-1,))
    return call("reshape", other), draw.array(*shape)


@strategy("transpose")
def permuted(draw, name):
    shape = draw.shape()
    order = [i - draw.pick(0, len(shape)) for i in draw.random.permutation(len(shape)).tolist()]
    return call("transpose", *draw.pick(order, [])), draw.array(*shape)


@strategy("swapaxes")
def swapped(draw, name):
    shape = draw.shape(1)
    return call("swapaxes", draw.axis(shape), draw.axis(shape)), draw.array(*shape)


@strategy("expand_dims")
def one_more_axis(draw, name):
    shape = draw.shape()
    return call("expand_dims", draw.axis((*shape, 1))), draw.array(*shape)


@strategy("squeeze")
def one_less_axis(draw, name):
    shape = [*draw.shape(1)]
    axis = draw.axis(shape)
    shape[axis] = 1
    return call("squeeze", draw.pick(axis, None)), draw.array(*shape)


@strategy("broadcast_to")
def repeated(draw, name):
    shape = draw.shape()
    return call("broadcast_to", shape), draw.array(*draw.part_of(shape))


def slices(draw, n):
    """A slice of an axis of n elements: any ends, any step."""
    ends = [draw.pick(None, *range(-n - 1, n + 2)) for _ in range(2)]
    return slice(*ends, draw.pick(None, 1, 2, -1, -3))


@strategy("index")
def taken(draw, name):
    shape = draw.shape(1)
    parts = []
    for n in shape[:draw.integer(1, len(shape))]:
        kinds = ["slice", "slice"] + ["number", "array"] * (n > 0)
        kind = draw.pick(*kinds)
        parts.append({"slice": lambda n=n: slices(draw, n), "number": lambda n=n: draw.integer(
            -n, n - 1), "array": lambda n=n: draw.random.integers(-n, n, 4)}[kind]())
        if draw.pick(False, False, False, True):
            parts.append(None)
    where = tuple(parts) if len(parts) > 1 or draw.pick(False, True) else parts[0]
    if draw.pick(False, False, False, True):
        where = draw.random.integers(0, 2, shape).astype(bool)
    return (lambda x: x[where]), draw.array(*shape)


@strategy("concatenate")
def joined(draw, name):
    shape = draw.shape(1)
    axis = draw.axis(shape)
    shapes = [list(shape) for _ in range(draw.integer(1, 3))]
    for one in shapes:
        one[axis] = draw.pick(0, 1, 2)
    return (lambda *xs: concatenate(xs, axis)), *(draw.array(*one) for one in shapes)


@strategy("stack")
def stacked(draw, name):
    shape = draw.shape(0, 3)
    axis = draw.axis((*shape, 1))
    count = draw.integer(1, 3)
    return (lambda *xs: stack(xs, axis)), *(draw.array(*shape) for _ in range(count))


@strategy("split")
def parted(draw, name):
    shape = draw.shape(1)
    axis = draw.axis(shape)
    n = shape[axis]
    first = draw.integer(0, n)
    sizes = draw.pick([first, n - first], [n], n or 1)
    used = draw.pick(slice(None, None, -1), slice(1), slice(-1, None))
    return (lambda x: concatenate(x.split(sizes, axis)[used], axis)), draw.array(*shape)


@strategy("pad")
def padded(draw, name):
    shape = draw.shape(0, 3)
    widths = [(draw.integer(0, 2), draw.integer(0, 2)) for _ in shape]
    return call("pad", widths, draw.pick(0, 3)), draw.array(*shape)


@strategy("astype")
def converted(draw, name):
    def f(x):
        return x.astype(np.float64 if x.dtype == np.float32 else x.dtype)
    return f, draw.array(*draw.shape())


# ---- the judges ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def cut_however_small():
    """Calls of this file are cut over three threads where others would be too small for it."""
    bodies = [body for kernel in kernels.values() for body in kernel.bodies.values()]
    grains = [body.grain for body in bodies]

    def apply(values):
        for body, grain in zip(bodies, values, strict=True):
            body.grain = grain
            vars(body).pop("run", None)            # made again, with that grain
    apply([0] * len(bodies))
    with threads.limit(3):
        yield
    apply(grains)


def run(f, arrays, dy, body):
    """The result of f and the gradients of its arrays, through one body."""
    with forcing(forced=body):
        tensors = [Tensor(array, requires_grad=True) for array in arrays]
        y = f(*tensors)
        if y.requires_grad:
            y.backward(dy)
    return [y.data, *(tensor.grad for tensor in tensors)]


def judge(name, data):
    """Draw a call of an op; compare bodies, types and layouts, and the gradient with differences.

    Every layout of the inputs is also one of the gradient that arrives.
    """
    draw = Draw(data)
    f, *arrays = STRATEGIES[name](draw, name)
    layouts = [LAYOUTS[layout] for layout in draw.layouts]
    with forcing(forced="numpy"):
        y = f(*map(Tensor, arrays))
        if y.dtype == np.float64:
            gradcheck(f, *arrays)
    upstream = np.asarray(draw.random.standard_normal(y.shape))
    for real in (np.float32, np.float64):
        plain = [a.astype(real) for a in arrays]
        views = [layout(a) for layout, a in zip(layouts, plain, strict=False)]
        want = run(f, plain, upstream, "numpy")
        dy = LAYOUTS[draw.pick(*list(LAYOUTS)[:4])](upstream.astype(f(*map(Tensor, plain)).dtype))
        for body in sorted({body for kernel in kernels.values() for body in kernel.bodies}):
            if not backends[body].available():
                continue
            if body == "cuda" and draw.random.random() > SHARE_EMULATED:
                continue
            what = f"{name}, body {body}, {np.dtype(real)}, {draw.layouts}"
            compare(what, want, run(f, views, dy, body))
            for view, a in zip(views, plain, strict=True):
                assert np.array_equal(view, a), f"{what}: wrote into its input"


def compare(what, want, got):
    """Equal shapes and types, and numbers that differ by rounding at most."""
    for place, (a, b) in enumerate(zip(want, got, strict=True)):
        part = f"{what}: " + (f"the gradient of input {place - 1}" if place else "the result")
        assert (a is None) == (b is None), f"{part} is {a} in one, {b} in the other"
        if a is not None:
            assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{part}: {a.dtype}{a.shape} became " \
                f"{b.dtype}{b.shape}"
            # Inputs are of size 1, so a result that is 0 by nature is one to that many digits.
            limit = DIGITS[a.dtype.char] * max(1, np.abs(a).max(initial=0))
            assert np.allclose(b, a, rtol=0, atol=limit), f"{part}: {b} instead of {a}"


def draws(count):
    """Settings of hypothesis: so many draws, the same ones in every run."""
    return settings(max_examples=count, derandomize=True, deadline=None, database=None,
                    suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@draws(FEW)
@given(data=strategies.data())
def test_an_op_computes_the_same_in_every_body_whatever_the_shapes_and_strides(name, data):
    judge(name, data)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(STRATEGIES))
@draws(MANY)
@given(data=strategies.data())
def test_an_op_computes_the_same_in_many_more_draws(name, data):
    judge(name, data)


# ---- nothing is forgotten -----------------------------------------------------------------------


def reaches_the_tape(function, names, seen=()):
    """Does the function, or a function of its lesson that it calls, record on the tape?"""
    if function is None or function in seen:
        return False
    used = {step.argval for step in dis.get_instructions(function) if step.opname == "LOAD_GLOBAL"}
    if used & {"record", "record_all"}:
        return True
    return any(reaches_the_tape(names.get(name), names, (*seen, function)) for name in used)


def all_ops():
    """The public functions of floor 2 that record a tensor, by name."""
    found = set()
    for _, name, _ in pkgutil.iter_modules(ops.__path__, ops.__name__ + "."):
        module = importlib.import_module(name)
        own = {key: value for key, value in vars(module).items() if inspect.isfunction(value)}
        found |= {key for key, value in own.items()
                  if value.__module__ == name and not key.startswith("_")
                  and reaches_the_tape(value, own)}
    return found - NO_OPS


def test_every_kernel_of_an_op_has_a_fast_body_that_serves_rows_of_floats():
    """A body that is missing, or never chosen, would be slow and right: no other test sees it."""
    own = [kernel for kernel in kernels.values() if kernel.__module__.startswith(ops.__name__)]
    assert own and not [kernel.name for kernel in own if len(kernel.bodies) == 1]
    row = np.ones(5, np.float32)
    for kernel in own:
        if kernel.__module__.endswith("pointwise"):
            chosen = kernel.choose([row] * len(kernel.parameters)).backend
            assert chosen != "numpy" or not backends["numba"].available(), kernel.name


def test_every_op_has_a_strategy_and_every_strategy_an_op():
    assert all_ops() == set(STRATEGIES)
