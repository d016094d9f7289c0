"""Values and gradients of the ops against PyTorch's own, in float64 to ten digits.

Every op is asked twice: with the bodies that a user gets, and with the references alone.
"""

import numpy as np
import pytest

from tinygrad_edu.kernel import settings
from tinygrad_edu.ops.activation import gelu
from tinygrad_edu.ops.attention import attention, attention_qkv
from tinygrad_edu.ops.cross_entropy import cross_entropy, linear_cross_entropy
from tinygrad_edu.ops.embedding import embedding
from tinygrad_edu.ops.matmul import linear, matmul
from tinygrad_edu.ops.norm import add_layernorm, layernorm
from tinygrad_edu.ops.rmsnorm import add_rmsnorm, rmsnorm
from tinygrad_edu.ops.softmax import log_softmax, softmax
from tinygrad_edu.ops.swiglu import silu, swiglu
from tinygrad_edu.tensor import Tensor, record

torch = pytest.importorskip("torch")
F = torch.nn.functional

LIMIT = 1e-10


@pytest.fixture(autouse=True, params=["", "numpy"], ids=["fastest bodies", "references"])
def body(request):
    with settings(forced=request.param):
        yield


def normal(*shape, seed=0, scale=1.0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape) * scale


def alike(ours, theirs, what):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape, what
    assert np.all(np.isfinite(ours)), what
    assert np.abs(ours - theirs).max() <= LIMIT * max(1, np.abs(theirs).max()), what


def compare(ours, theirs, *arrays):
    """Outputs of both functions, and what they give back for random gradients of the outputs."""
    tensors = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    torch_tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    results, torch_results = ours(*tensors), theirs(*torch_tensors)
    if isinstance(results, Tensor):
        results, torch_results = (results,), (torch_results,)
    for i, (result, torch_result) in enumerate(zip(results, torch_results, strict=True)):
        alike(result.data, torch_result, f"output {i}")
    pulls = [normal(*result.shape, seed=i + 1) for i, result in enumerate(results)]
    record(np.zeros(()), tuple(results), lambda dy: tuple(dy * pull for pull in pulls)).backward()
    torch.autograd.backward(torch_results, [torch.tensor(pull) for pull in pulls])
    for i, (tensor, torch_tensor) in enumerate(zip(tensors, torch_tensors, strict=True)):
        alike(tensor.grad, torch_tensor.grad, f"gradient of argument {i}")


ACTIVATIONS = {
    "gelu, tanh form": (gelu, lambda x: F.gelu(x, approximate="tanh")),
    "gelu, erf form": (lambda x: gelu(x, form="erf"), F.gelu),
    "silu": (silu, F.silu),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_slopes(name):
    compare(*ACTIVATIONS[name], normal(7, 33, scale=3.0))
    compare(*ACTIVATIONS[name], np.array([-40.0, -9.0, -1e-9, 0.0, 1e-9, 9.0, 40.0]))


def test_swiglu():
    compare(swiglu, lambda gate, up: F.silu(gate) * up, normal(5, 31), normal(5, 31, seed=1))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_layernorm_and_its_three_gradients(scale):
    def theirs(x, w, b):
        return F.layer_norm(x, x.shape[-1:], w, b, 1e-5)

    x = normal(3, 5, 17, scale=scale) + scale
    compare(layernorm, theirs, x, normal(17), normal(17, seed=1))


def test_the_sum_and_its_layernorm_in_one_pass():
    def theirs(x, r, w, b):
        return x + r, F.layer_norm(x + r, x.shape[-1:], w, b, 1e-5)

    rows, vectors = ([normal(*shape, seed=i) for i in (0, 1)] for shape in ((4, 6, 8), (8,)))
    compare(add_layernorm, theirs, *rows, *vectors)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_rmsnorm(scale):
    def theirs(x, w):
        return F.rms_norm(x, x.shape[-1:], w, 1e-5)

    compare(rmsnorm, theirs, normal(3, 5, 17, scale=scale), normal(17))


def test_the_sum_and_its_rmsnorm_in_one_pass():
    def theirs(x, r, w):
        return x + r, F.rms_norm(x + r, x.shape[-1:], w, 1e-5)

    compare(add_rmsnorm, theirs, normal(4, 6, 8), normal(4, 6, 8, seed=1), normal(8))


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_and_log_softmax_over_any_axis(axis):
    x = normal(4, 5, 9, scale=20.0)
    compare(lambda t: softmax(t, axis), lambda t: torch.softmax(t, axis), x)
    compare(lambda t: log_softmax(t, axis), lambda t: torch.log_softmax(t, axis), x)


def test_embedding_adds_up_the_gradients_of_a_token_that_comes_twice():
    ids = np.array([[0, 3, 3], [6, 3, 0]])
    compare(lambda w: embedding(ids, w), lambda w: F.embedding(torch.tensor(ids), w), normal(7, 5))


PRODUCTS = [
    ((4, 5), (5, 3)),
    ((2, 1, 4, 5), (3, 5, 6)),
    ((5,), (5,)),
    ((5,), (2, 5, 3)),
    ((2, 4, 5), (5,)),
]


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_matrix_products_that_broadcast(shapes):
    compare(matmul, torch.matmul, *(normal(*shape) for shape in shapes))


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_linear_with_and_without_its_activation(activation):
    def theirs(x, w, b):
        y = F.linear(x, w, b)
        return F.gelu(y, approximate="tanh") if activation else y

    def ours(x, w, b):
        return linear(x, w, b, activation=activation)

    compare(ours, theirs, normal(3, 7, 11), normal(13, 11), normal(13))


def test_embedding_with_the_rows_of_its_positions():
    def theirs(w, p):
        return F.embedding(torch.tensor(ids), w) + p

    ids = np.array([[0, 3, 3], [6, 3, 0]])
    compare(lambda w, p: embedding(ids, w, p), theirs, normal(7, 5), normal(3, 5))


# ---- cross entropy -------------------------------------------------------------------------------


def targets(rows, vocabulary, ignored):
    chosen = np.random.default_rng(rows).integers(0, vocabulary, rows)
    chosen[ignored] = -1
    return chosen


@pytest.mark.parametrize("ignored", [[], [0, 4, 5, 22]], ids=["all targets", "some ignored"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_with_ignored_targets_and_label_smoothing(ignored, smoothing, reduction):
    chosen = targets(23, 11, ignored)
    options = {"label_smoothing": smoothing, "reduction": reduction}

    def theirs(logits):
        return F.cross_entropy(logits, torch.tensor(chosen), ignore_index=-1, **options)

    compare(lambda z: cross_entropy(z, chosen, **options), theirs, normal(23, 11, scale=9.0))
    compare(
        lambda x, w: linear_cross_entropy(x, w, chosen, **options),
        lambda x, w: theirs(x @ w.T),
        normal(23, 6),
        normal(11, 6),
    )


def test_the_loss_and_the_head_in_several_chunks_of_rows():
    rows, vocabulary = 601, 9001  # 43 MB of logits: three chunks
    chosen = targets(rows, vocabulary, np.arange(200, 300))
    compare(
        lambda x, w: linear_cross_entropy(x, w, chosen),
        lambda x, w: F.cross_entropy(x @ w.T, torch.tensor(chosen), ignore_index=-1),
        normal(rows, 6),
        normal(vocabulary, 6),
    )


# ---- attention -----------------------------------------------------------------------------------


def heads(q, k, v, **options):
    """PyTorch's attention, with key and value heads that serve several query heads."""
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1], **options)


def visible(T, S, causal=True, start=None, length=None, segments=None):
    """The mask that our options stand for, (B or 1, 1, T, S), written out."""
    t, s = np.arange(T)[:, None], np.arange(S)[None, :]
    first = np.array([S - T] if start is None else start)[:, None, None]
    seen = s <= first + t if causal else np.ones((1, T, S), bool)
    if length is not None:
        seen = seen & (s < np.array(length)[:, None, None])
    if segments is not None:
        seen = seen & (segments[:, S - T :, None] == segments[:, None, :])
    return torch.tensor(seen[:, None])


def qkv(B, H, G, T, S, D):
    return normal(B, H, T, D, seed=1), normal(B, G, S, D, seed=2), normal(B, G, S, D, seed=3)


SIZES = [(2, 3, 3, 13, 13, 8), (2, 4, 2, 7, 19, 5), (1, 6, 1, 1, 33, 16), (3, 2, 2, 70, 70, 4)]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_attention_with_grouped_heads_and_more_keys_than_queries(sizes, causal):
    mask = visible(*sizes[3:5], causal)
    compare(
        lambda q, k, v: attention(q, k, v, causal=causal),
        lambda q, k, v: heads(q, k, v, attn_mask=mask),
        *qkv(*sizes),
    )


def test_attention_with_a_scale_of_its_own():
    compare(
        lambda q, k, v: attention(q, k, v, scale=0.3),
        lambda q, k, v: heads(q, k, v, is_causal=True, scale=0.3),
        *qkv(2, 3, 3, 9, 9, 4),
    )


def test_attention_of_rows_that_start_and_end_at_different_places():
    start, length = np.array([0, 5, 2]), np.array([9, 12, 3])
    mask = visible(4, 12, start=start, length=length)
    compare(
        lambda q, k, v: attention(q, k, v, start=start, length=length),
        lambda q, k, v: heads(q, k, v, attn_mask=mask),
        *qkv(3, 4, 2, 4, 12, 8),
    )


def test_attention_within_the_documents_of_a_packed_row():
    segments = np.array([[0] * 5 + [1] * 7, [3] * 1 + [4] * 11])
    compare(
        lambda q, k, v: attention(q, k, v, segments=segments),
        lambda q, k, v: heads(q, k, v, attn_mask=visible(12, 12, segments=segments)),
        *qkv(2, 4, 4, 12, 12, 8),
    )


@pytest.mark.parametrize("shape", [(2, 4, 6, 10), (1, 4, 1, 10), (6, 10)], ids=str)
def test_attention_with_a_mask_that_is_added_to_the_scores(shape):
    mask = normal(*shape)
    mask[..., 2] = -np.inf
    compare(
        lambda q, k, v: attention(q, k, v, causal=False, mask=mask),
        lambda q, k, v: heads(q, k, v, attn_mask=torch.tensor(mask)),
        *qkv(2, 4, 2, 6, 10, 8),
    )


def test_attention_on_one_packed_array():
    def theirs(packed):
        q, k, v = (a.unflatten(-1, (4, -1)).transpose(1, 2) for a in packed.chunk(3, dim=-1))
        return heads(q, k, v, is_causal=True).transpose(1, 2).flatten(2)

    compare(lambda packed: attention_qkv(packed, 4), theirs, normal(3, 21, 3 * 32))
