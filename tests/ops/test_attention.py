import math

import numpy as np
import pytest

from harness import bodies, body_cases, check_body, check_gradient, need
from tinygrad_edu.kernel import settings
from tinygrad_edu.ops import attention_kernels as lesson
from tinygrad_edu.ops import attention_weights as weights
from tinygrad_edu.ops.attention import attention, attention_qkv
from tinygrad_edu.tensor import Tensor

# ---- every body against the reference -----------------------------------------------------------

# B, H, G, T, S, D; several blocks of queries and, the last ones, cut over threads.
SIZES = [
    (1, 1, 1, 1, 1, 1),
    (2, 1, 1, 1, 7, 3),
    (2, 4, 2, 5, 5, 3),
    (1, 6, 1, 67, 67, 5),
    (3, 2, 2, 3, 131, 7),
    (1, 6, 3, 129, 129, 34),
    (5, 3, 3, 70, 193, 17),
]
MASKS = ["plain", "segments", "mask"]


def last_arguments(d, B, H, T, S, kind, leading):
    """seen, both segment ids, the mask and the scale of a call; some rows see nothing."""
    seen = d.integers(0, S + 1, *leading, T)
    seen.sort(axis=-1)
    seen[..., -1] = S
    ids = (d.integers(0, 3, *leading, T), d.integers(0, 3, *leading, S))
    mask = np.broadcast_to(d.array(1, T, S) * 3, (*leading, H, T, S)).copy()
    mask[..., 0] = -np.inf
    query, key = ids if kind == "segments" else (None, None)
    return seen, query, key, mask if kind == "mask" else None, 0.3


def weights_forward(d, size, kind):
    B, H, _, T, S, _ = size
    rest = last_arguments(d, B, H, T, S, kind, ())
    return d.out(H, T, S), d.out(H, T), d.array(H, T, S, scale=9), *rest


def weights_backward(d, size, kind):
    p, lse, s, *rest = weights_forward(d, size, kind)
    weights.attention_weights_forward.__wrapped__(p, lse, s, *rest)
    return d.out(*s.shape), d.out(*s.shape), s, d.array(*s.shape), lse, *rest


def forward(d, size, kind):
    B, H, G, T, S, D = size
    q, k, v = d.array(B, H, T, D), d.array(B, G, S, D), d.array(B, G, S, D)
    rest = last_arguments(d, B, H, T, S, kind, (B,))
    return d.out(B, H, T, D), d.out(B, H, T), q, k, v, *rest


def backward(d, size, kind):
    y, lse, q, k, v, *rest = forward(d, size, kind)
    lesson.attention_forward.__wrapped__(y, lse, q, k, v, *rest)
    outs = (d.out(*a.shape) for a in (q, k, v))
    return *outs, d.array(*y.shape), y, q, k, v, lse, *rest


def cases(make):
    return [
        lambda d, size=size, kind=kind: make(d, size, kind) for size in SIZES for kind in MASKS
    ]


CASES = {
    weights.attention_weights_forward: cases(weights_forward),
    weights.attention_weights_backward: cases(weights_backward),
    lesson.attention_forward: cases(forward),
    lesson.attention_backward: cases(backward),
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


# ---- gradients ----------------------------------------------------------------------------------

random = np.random.default_rng(7)
IDS = np.array([[0, 0, 1, 1, 1], [2, 0, 2, 0, 0]])
MASK = random.standard_normal((2, 1, 5, 5))
MASK[0, 0, 1] = -np.inf  # this query sees nothing
OPTIONS = {
    "causal": {},
    "full": {"causal": False},
    "start": {"start": np.array([0, -2])},
    "length": {"causal": False, "length": np.array([3, 5])},
    "nothing": {"length": np.array([0, 2])},
    "segments": {"segments": IDS},
    "mask": {"mask": MASK},
    "scale": {"scale": 2.0},
    "all": {"start": 1, "length": np.array([5, 3]), "segments": IDS, "mask": MASK, "scale": 0.1},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
every_body = pytest.mark.parametrize("body", bodies(CASES))


@every_body
@every_option
def test_attention_gradient(body, options):
    def f(q, k, v):
        return attention(q, k, v, **options)

    check_gradient(f, (2, 4, 5, 3), (2, 2, 5, 3), (2, 2, 5, 3), body=body)


@every_body
@every_option
@pytest.mark.parametrize("groups", [None, 1])
def test_attention_qkv_gradient(body, options, groups):
    def f(qkv):
        return attention_qkv(qkv, 2, groups=groups, **options)

    check_gradient(f, (2, 5, 2 * 3 + 2 * 3 * (groups or 2)), body=body)


@every_body
def test_gradient_across_blocks_of_queries(body):
    def f(q, k, v):
        return attention(q, k, v, start=np.array([0, 60]))

    check_gradient(f, (2, 2, 67, 2), (2, 1, 131, 2), (2, 1, 131, 2), body=body)


# ---- known values -------------------------------------------------------------------------------


def by_hand(q, k, v, causal=True, start=None, length=None, segments=None, mask=None, scale=None):
    """One number after the other, as the definition reads."""
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    start = np.broadcast_to(S - T if start is None else start, B)
    length = np.broadcast_to(S if length is None else length, B)
    asking, asked = segments if isinstance(segments, tuple) else (segments, segments)
    mask = np.zeros((B, H, T, S)) if mask is None else np.broadcast_to(mask, (B, H, T, S))
    y = np.zeros(q.shape)
    for b, h, t in np.ndindex(B, H, T):
        g = h // (H // G)
        shares = {}
        for s in range(S):
            visible = s < length[b] and not (causal and s > start[b] + t)
            if visible and (segments is None or asking[b, t] == asked[b, s]):
                z = (scale or 1 / math.sqrt(D)) * sum(q[b, h, t] * k[b, g, s]) + mask[b, h, t, s]
                shares[s] = math.exp(z)
        total = sum(shares.values())
        for s, share in shares.items():
            y[b, h, t] += share / total * v[b, g, s] if total else 0
    return y


def draw(B=2, H=4, G=2, T=5, S=5, D=3, dtype=np.float64):
    random = np.random.default_rng(1)
    shapes = (B, H, T, D), (B, G, S, D), (B, G, S, D)
    return [Tensor(random.standard_normal(shape).astype(dtype)) for shape in shapes]


@every_body
@every_option
def test_attention_is_what_its_definition_says(body, options):
    need(body)
    q, k, v = draw()
    with settings(forced=body):
        y = attention(q, k, v, **options).data
    assert np.allclose(y, by_hand(q.data, k.data, v.data, **options))


@every_body
@pytest.mark.parametrize("options", [{}, {"start": np.array([2, 0])}, {"causal": False}])
def test_fewer_queries_than_keys_stand_at_the_end_unless_told(body, options):
    need(body)
    q, k, v = draw(T=3, S=7)
    ids = np.array([[0, 1, 0], [1, 1, 1]]), np.array([[0, 0, 0, 1, 1, 0, 1]] * 2)
    for segments in (None, ids):
        with settings(forced=body):
            y = attention(q, k, v, segments=segments, **options).data
        assert np.allclose(y, by_hand(q.data, k.data, v.data, segments=segments, **options))


@every_body
def test_packed_attention_is_attention_on_the_parts(body):
    need(body)
    q, k, v = draw()
    side_by_side = [t.data.swapaxes(1, 2).reshape(2, 5, -1) for t in (q, k, v)]
    with settings(forced=body):
        y = attention_qkv(Tensor(np.concatenate(side_by_side, axis=2)), 4, groups=2)
        assert np.allclose(y.data, attention(q, k, v).data.swapaxes(1, 2).reshape(2, 5, -1))


def test_equal_scores_give_the_mean_of_the_values_seen_so_far():
    q, k, v = draw(H=1, G=1)
    y = attention(Tensor(q.data * 0), k, v).data
    assert np.allclose(y[0, 0], np.cumsum(v.data[0, 0], axis=0) / np.arange(1, 6)[:, None])


def test_a_much_larger_score_takes_all():
    q, k, v = draw(H=1, G=1)
    y = attention(Tensor(k.data * 1e4), k, v, causal=False).data
    best = (k.data[0, 0] @ k.data[0, 0].T).argmax(axis=1)
    assert np.allclose(y[0, 0], v.data[0, 0][best])


# ---- what must not make a difference ------------------------------------------------------------


@every_body
@pytest.mark.parametrize("chunks", [(1,) * 9, (4, 5), (2, 6, 1)])
def test_text_in_chunks_with_a_cache_gives_what_the_whole_text_gives(body, chunks):
    need(body)
    q, k, v = draw(T=9, S=9)
    with settings(forced=body):
        whole = attention(q, k, v).data
        end = 0
        cache_k, cache_v = np.full_like(k.data, np.nan), np.full_like(v.data, np.nan)
        for size in chunks:
            t, end = slice(end, end + size), end + size
            cache_k[:, :, t], cache_v[:, :, t] = k.data[:, :, t], v.data[:, :, t]
            at = np.array([t.start, t.start])
            cache = Tensor(cache_k), Tensor(cache_v)
            y = attention(Tensor(q.data[:, :, t]), *cache, start=at, length=at + size)
            assert np.allclose(y.data, whole[:, :, t], rtol=0, atol=1e-12)


@every_body
def test_rows_of_different_length_do_not_see_what_lies_behind_their_end(body):
    need(body)
    q, k, v = draw(T=7, S=7)
    length = np.array([3, 6])
    k.data[0, :, 3:], v.data[0, :, 3:], v.data[1, :, 6:] = np.nan, np.inf, np.nan
    tensors = [Tensor(t.data, requires_grad=True) for t in (q, k, v)]
    with settings(forced=body):
        y = attention(*tensors, causal=False, length=length)
        y.backward(np.ones_like(y.data))
    for b, n in enumerate(length):
        row = (Tensor(t.data[b : b + 1, :, :n]) for t in (k, v))
        alone = attention(Tensor(q.data[b : b + 1]), *row, causal=False)
        assert np.allclose(y.data[b], alone.data[0])
        assert np.isfinite(tensors[0].grad[b]).all()
        assert all((t.grad[b, :, n:] == 0).all() for t in tensors[1:])
        assert all(np.isfinite(t.grad[b, :, :n]).all() for t in tensors[1:])


@every_body
@pytest.mark.parametrize("causal", [True, False])
def test_nothing_leaks_from_one_segment_into_another(body, causal):
    need(body)
    ids = np.array([[4, 4, 4, 1, 1, 9, 9]])
    tensors = [Tensor(t.data, requires_grad=True) for t in draw(B=1, T=7, S=7)]
    dy = np.zeros((1, 4, 7, 3))
    dy[:, :, 3:5] = 1
    with settings(forced=body):
        y = attention(*tensors, causal=causal, segments=ids)
        y.backward(dy)
        alone = attention(*(Tensor(t.data[:, :, 3:5]) for t in tensors), causal=causal)
    assert np.allclose(y.data[:, :, 3:5], alone.data)
    for t in tensors:
        assert (t.grad[:, :, ids[0] != 1] == 0).all()
        assert (t.grad[:, :, ids[0] == 1] != 0).any()


@every_body
def test_a_causal_query_takes_nothing_from_the_future(body):
    need(body)
    tensors = [Tensor(t.data, requires_grad=True) for t in draw(T=70, S=70)]
    dy = np.zeros((2, 4, 70, 3))
    dy[:, :, 20] = 1
    with settings(forced=body):
        attention(*tensors).backward(dy)
    for t in tensors[1:]:
        assert (t.grad[:, :, 21:] == 0).all()
        assert (t.grad[:, :, :21] != 0).all()


@every_body
def test_grouped_heads_are_repeated_keys_whose_gradients_add_up(body):
    need(body)
    grouped = [Tensor(t.data, requires_grad=True) for t in draw(H=6, G=2)]
    q, k, v = (t.data for t in grouped)
    repeated = [Tensor(a, requires_grad=True) for a in (q, k.repeat(3, 1), v.repeat(3, 1))]
    dy = np.random.default_rng(2).standard_normal(q.shape)
    with settings(forced=body):
        results = [attention(*tensors) for tensors in (grouped, repeated)]
        for y in results:
            y.backward(dy)
    assert np.allclose(results[0].data, results[1].data)
    for few, many in zip(grouped[1:], repeated[1:], strict=True):
        assert np.allclose(few.grad, many.grad.reshape(2, 2, 3, 5, 3).sum(axis=2))


# ---- edges --------------------------------------------------------------------------------------


@every_body
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_query_that_sees_nothing_receives_zeros_and_sends_no_gradient(body, dtype):
    need(body)
    nothing = np.full((5, 5), -np.inf, dtype)
    for options in ({"start": -9}, {"length": 0}, {"mask": nothing}):
        tensors = [Tensor(t.data, requires_grad=True) for t in draw(dtype=dtype)]
        with settings(forced=body):
            y = attention(*tensors, **options)
            y.backward(np.ones_like(y.data))
        assert (y.data == 0).all()
        assert all((t.grad == 0).all() for t in tensors)


@every_body
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-20, 1e4, 1e12])
def test_scores_of_any_size_give_finite_weights(body, dtype, size):
    need(body)
    q, k, v = draw(T=66, S=66, dtype=dtype)
    tensors = [Tensor(a, requires_grad=True) for a in (q.data * dtype(size), k.data, v.data)]
    with settings(forced=body):
        y = attention(*tensors)
        y.backward(np.ones_like(y.data))
    assert np.abs(y.data).max() <= np.abs(v.data).max() * (1 + 1e-6)
    assert all(np.isfinite(t.grad).all() for t in tensors)


@every_body
def test_a_nan_in_a_visible_key_is_seen_in_the_result(body):
    need(body)
    q, k, v = draw()
    k.data[0, 0, 2, 1] = np.nan
    with settings(forced=body):
        y = attention(q, k, v).data
    assert np.isnan(y[0, :2, 2:]).all()
    assert np.isfinite(y[1]).all()


def test_the_result_does_not_depend_on_how_the_arrays_lie_in_memory():
    tensors = draw()
    strided = [Tensor(t.data.swapaxes(1, 3).copy().swapaxes(1, 3)) for t in tensors]
    assert np.array_equal(attention(*strided).data, attention(*tensors).data)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"k": (2, 3, 5, 3), "v": (2, 3, 5, 3)}, ValueError, "H a multiple of G"),
        ({"v": (2, 2, 4, 3)}, ValueError, "attention takes q"),
        ({"k": (1, 2, 5, 3), "v": (1, 2, 5, 3)}, ValueError, "attention takes q"),
        ({"q": (4, 5, 3)}, ValueError, "attention takes q"),
        ({"start": np.arange(3)}, ValueError, "start takes one number or one a row"),
        ({"length": np.array([1.0, 2.0])}, TypeError, "length takes integers"),
        ({"segments": np.zeros((2, 4), int)}, ValueError, "segment ids"),
        ({"segments": (IDS, IDS[:, :4])}, ValueError, r"and \(2, 4\); \(2, 5\) queries"),
        ({"mask": np.ones((5, 5), bool)}, TypeError, "added to the scores"),
        ({"mask": np.zeros((4, 5))}, ValueError, "mask"),
        ({"mask": Tensor(np.zeros((5, 5)), requires_grad=True)}, ValueError, "no gradient"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, said):
    arrays = dict(zip("qkv", (t.data for t in draw()), strict=True))
    options = {n: c for n, c in change.items() if n not in arrays}
    arrays |= {n: np.zeros(c) for n, c in change.items() if n in arrays}
    with pytest.raises(error, match=said):
        attention(*map(Tensor, arrays.values()), **options)


def test_mixed_types_are_refused():
    q, k, v = draw()
    with pytest.raises(TypeError, match="float32"):
        attention(q, Tensor(k.data.astype(np.float32)), v)


@pytest.mark.parametrize(
    ("shape", "groups"), [((2, 5, 10), None), ((5, 12), None), ((2, 5, 12), 3)]
)
def test_a_packed_array_that_does_not_divide_is_refused(shape, groups):
    with pytest.raises(ValueError, match=r"attention_qkv takes \(B, T"):
        attention_qkv(Tensor(np.zeros(shape)), 4, groups=groups)


@pytest.mark.parametrize("T, S", [(1, 1), (1, 6), (2, 5), (4, 4), (3, 12), (5, 2)])
def test_the_last_query_stands_at_the_last_key_and_each_one_before_sees_one_key_less(T, S):
    seen = weights.seen_keys(np.empty((2, 1, T, 1)), S)
    assert seen.tolist() == [[max(0, S - T + t + 1) for t in range(T)]] * 2
